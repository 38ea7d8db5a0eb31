//! The store of some nodes in one process, on simulated disks.

#![expect(
    clippy::disallowed_methods,
    reason = "messages and clients are tasks of their own"
)]

mod damaged;
mod elected;
mod room;
mod storm;
mod tidied;
mod unneeded;
mod world;

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use self::{
    elected::Elected,
    world::{FINE, ROUGH, Weather, World},
};
use crate::{
    id::{EntityId, Epoch, ShardId},
    infra::{mutants::breaking, sync::lock},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot,
        replicated::{HeldCopy, Replicated},
        suite::Suite,
    },
    protocol::copies::{LogPoint, StopOwning, StoreId},
};

/// Runs it where time passes without waiting.
fn paused<R>(scenario: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(scenario)
}

/// Checks that a scenario fails while a rule is broken.
fn finds(rule: &'static str, scenario: impl Future<Output = Result<(), String>>) {
    let broken = breaking(rule, || paused(scenario));
    let why = broken.expect_err(rule);
    println!("{rule}: {why}");
}

/// The suite, with three stores: each connection is to another node.
async fn check_suite(weather: Weather, seed: u64) {
    let world = World::new(3, weather, seed, &[]).await;
    let next = Arc::new(AtomicUsize::new(0));
    let suite = Suite::new(move || {
        let node = next.fetch_add(1, Ordering::Relaxed) % 3;
        let elected: Arc<dyn Journal> = Arc::new(Elected::new(world.clone(), node));
        async { elected }
    });
    suite.check().await;
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_suite() {
    check_suite(FINE, 1).await;
}

#[tokio::test(start_paused = true)]
async fn it_passes_the_suite_when_messages_are_lost_doubled_and_late() {
    let weather = Weather {
        drop_after: FINE.drop_after,
        tidies_arrive: true,
        ..ROUGH
    };
    check_suite(weather, 3).await;
}

fn kinds() -> [(Arc<str>, NonZeroU32); 1] {
    [("Jar".into(), NonZeroU32::new(4).expect("not zero"))]
}

fn log(shard: u32) -> Log {
    let kind = "Jar".into();
    Log { kind, shard }
}

fn record(position: u64, epoch: Epoch, entity: &str, seq: u64, body: &str) -> Record {
    Record {
        position,
        epoch,
        entity: EntityId::from_text(Arc::from(entity)),
        seq,
        at: 1_700_000_000_000,
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

async fn append(store: &Replicated, log: &Log, record: Record) {
    let epoch = record.epoch;
    let (log, records) = (log.clone(), vec![record]);
    let part = Append {
        log,
        epoch,
        records,
    };
    let written = store.append(vec![part]).await;
    assert_eq!(written, Ok(vec![Appended::Written]));
}

/// Claims a log. A claim that waits says what for after a while, and is made again.
async fn claim(store: &Replicated, log: &Log, epoch: Epoch) -> Result<u64, ClaimError> {
    let mut tries = 0;
    loop {
        let claimed = store.claim(log, epoch, "").await;
        tries += 1;
        if tries == 60 || !matches!(claimed, Err(ClaimError::Journal(_))) {
            return claimed;
        }
    }
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

/// A shard in three stores, whose owner is the first.
struct Owned {
    world: Arc<World>,
    log: Log,
    owner: Arc<Replicated>,
}

/// The epoch of the first owner.
const FIRST: Epoch = Epoch(7);

impl Owned {
    async fn new(seed: u64) -> Self {
        Self::under(ROUGH, seed).await
    }

    async fn under(weather: Weather, seed: u64) -> Self {
        let (world, log) = (World::new(3, weather, seed, &kinds()).await, log(0));
        assert!(world.assign(&log, FIRST, 0));
        let owner = world.process(0).expect("it runs");
        assert_eq!(claim(&owner, &log, FIRST).await, Ok(0));
        Self { world, log, owner }
    }

    /// The first owner appends a record.
    async fn append(&self, position: u64, entity: &str, seq: u64, body: &str) {
        let record = record(position, FIRST, entity, seq, body);
        append(&self.owner, &self.log, record).await;
    }

    fn in_sync(&self) -> BTreeSet<StoreId> {
        lock(&self.world.state).homes[&self.log].in_sync.clone()
    }

    /// Waits until so many stores are in sync.
    async fn until_in_sync(&self, stores: usize) {
        let what = format!("{stores} stores are in sync");
        until(&what, || self.in_sync().len() == stores).await;
    }

    /// Waits until the first owner gives the shard up.
    async fn until_given_up(&self) {
        let stop = (self.log.clone(), FIRST, StopOwning::StoreFailed);
        let is_told = || lock(&self.world.state).stops.contains(&stop);
        until("it is given up", is_told).await;
    }

    /// Another node owns the shard from now on.
    async fn moves_to(&self, node: usize, epoch: Epoch) -> (Arc<Replicated>, u64) {
        assert!(self.world.assign(&self.log, epoch, node));
        let next = self.world.process(node).expect("it runs");
        let head = claim(&next, &self.log, epoch).await.expect("claimed");
        (next, head)
    }
}

fn bodies(read: Result<Vec<Record>, JournalError>) -> Vec<Bytes> {
    let read = read.expect("readable").into_iter();
    read.map(|record| record.body).collect()
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_answer_is_dropped_and_added_again_when_it_has_all() {
    let shard = Owned::new(3).await;
    let (world, log) = (&shard.world, &shard.log);
    shard.append(1, "ada", 1, "one").await;

    world.crash(2);
    shard.append(2, "ada", 2, "two").await;
    assert!(!shard.in_sync().contains(&world.store(2)), "it was dropped");

    world.start(2).await;
    world.want_all(log);
    shard.until_in_sync(3).await;
    // Its log is the truth now.
    world.crash(0);
    world.crash(1);
    world.start(1).await;
    let (next, head) = shard.moves_to(2, Epoch(8)).await;
    assert_eq!(head, 2);
    let read = next.read_log(log, 0, Page::default()).await;
    assert_eq!(bodies(read), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn records_of_the_shard_itself_are_copied_and_found() {
    let shard = Owned::new(9).await;
    shard.append(1, "ada", 1, "one").await;
    shard.append(2, "", 1, "first").await;
    shard.append(3, "", 2, "second").await;
    shard.append(4, "bob", 1, "two").await;
    let own = EntityId::of_shard();
    let (owner, log) = (&shard.owner, &shard.log);
    owner.forget(log, FIRST, &own, 1, true).await.expect("gone");
    shard.until_in_sync(3).await;
    let (next, head) = shard.moves_to(1, Epoch(8)).await;
    assert_eq!(head, 4);
    let found = next.read_entity(log, &own, 0, Page::default()).await;
    assert_eq!(bodies(found), ["", "second"]);
    // It was there all the time, and is copied to a store that begins with nothing.
    shard.world.drop_copy(log, 2);
    append(&next, log, record(5, Epoch(8), "", 3, "third")).await;
    let gone = tidied::comes_to(&shard.world, 2, &[]).await;
    gone.expect("what is not needed is deleted");
    shard.world.want_all(log);
    shard.until_in_sync(3).await;
    let (next, _) = shard.moves_to(2, Epoch(9)).await;
    let found = next.read_entity(log, &own, 0, Page::default()).await;
    assert_eq!(bodies(found), ["", "second", "third"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_is_copied_with_what_stands_for_it() {
    let shard = Owned::new(4).await;
    let (world, log, owner) = (&shard.world, &shard.log, &shard.owner);
    shard.append(1, "ada", 1, "one").await;
    shard.append(2, "bob", 1, "gone").await;
    world.crash(2);
    for seq in 2..=4 {
        shard.append(seq + 1, "ada", seq, "more").await;
    }
    let [ada, bob] = ["ada", "bob"].map(|name| EntityId::from_text(name.into()));
    let snapshot = Snapshot {
        seq: 4,
        at: 5,
        body: "a state".into(),
    };
    let saved = owner.save(log, FIRST, &ada, snapshot.clone()).await;
    saved.expect("saved");
    let forgotten = owner.forget(log, FIRST, &ada, 3, false).await;
    forgotten.expect("forgotten");
    let erased = owner.forget(log, FIRST, &bob, 1, true).await;
    erased.expect("erased");

    // It comes back with the first two records, which it has whole, and copies the others.
    world.start(2).await;
    world.want_all(log);
    shard.until_in_sync(3).await;
    let (next, head) = shard.moves_to(2, Epoch(8)).await;
    assert_eq!(head, 5);
    assert_eq!(next.load(log, &ada).await, Ok(Some(snapshot)));
    let read = next.read_entity(log, &ada, 0, Page::default()).await;
    // What stands for a record stands for those before it.
    assert_eq!(bodies(read), ["", "", "", "more"]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_owner_has_a_full_disk_goes_on_elsewhere() {
    let shard = Owned::new(5).await;
    let (world, log) = (&shard.world, &shard.log);
    shard.append(1, "ada", 1, "one").await;

    world.disk(0).set_room(0);
    let large = "two".repeat(100_000);
    let part = Append {
        log: log.clone(),
        epoch: FIRST,
        records: vec![record(2, FIRST, "ada", 2, &large)],
    };
    let failed = shard.owner.append(vec![part]).await;
    assert!(
        matches!(failed, Err(AppendError::Unknown { .. })),
        "{failed:?}"
    );
    shard.until_given_up().await;
    let (next, head) = shard.moves_to(1, Epoch(8)).await;
    assert!((1..=2).contains(&head), "{head}");
    let third = record(head + 1, Epoch(8), "ada", head + 1, "three");
    append(&next, log, third).await;

    // With room again it is a copy as before, without a start.
    world.disk(0).set_room(u64::MAX);
    world.want_all(log);
    shard.until_in_sync(3).await;
    let (_, again) = shard.moves_to(0, Epoch(9)).await;
    assert_eq!(again, head + 1);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_damaged_is_given_up_and_copied_anew() {
    let shard = Owned::new(6).await;
    let (world, log, owner) = (&shard.world, &shard.log, &shard.owner);
    for seq in 1..=5 {
        shard.append(seq, "ada", seq, "sound").await;
    }
    let ada = EntityId::from_text("ada".into());
    let snapshot = Snapshot {
        seq: 3,
        at: 5,
        body: "a state".into(),
    };
    let saved = owner.save(log, FIRST, &ada, snapshot).await;
    saved.expect("saved");
    let disk = world.disk(0);
    let file = disk.contents("0000000001.segment").expect("a segment");
    for text in [b"sound".as_slice(), b"a state"] {
        let at = file.windows(text.len()).position(|bytes| bytes == text);
        assert!(disk.flip("0000000001.segment", at.expect("stored"), 3));
    }

    let read = owner.read_log(log, 0, Page::default()).await;
    assert!(
        matches!(read, Err(JournalError::Unavailable { .. })),
        "{read:?}"
    );
    shard.until_given_up().await;
    let (next, head) = shard.moves_to(1, Epoch(8)).await;
    assert_eq!(head, 5);
    append(&next, log, record(6, Epoch(8), "ada", 6, "sound")).await;

    // It was dropped, since it confirms nothing any more, and is copied anew.
    shard.until_in_sync(2).await;
    world.want_all(log);
    shard.until_in_sync(3).await;
    let (_, head) = shard.moves_to(0, Epoch(9)).await;
    assert_eq!(head, 6);
    let read = owner.read_log(log, 0, Page::default()).await;
    assert_eq!(bodies(read), ["sound"; 6]);
}

/// Two of three nodes have what the third lacks, and are lost. The third goes on with its old copy,
/// or with nothing. Then they are back.
async fn lost_and_back(begins_empty: bool) {
    let shard = Owned::new(7).await;
    let (world, log, owner) = (&shard.world, &shard.log, &shard.owner);
    shard.append(1, "ada", 1, "one").await;
    shard.until_in_sync(3).await;
    let ada = EntityId::from_text("ada".into());
    world.crash(2);
    shard.append(2, "ada", 2, "two").await;
    shard.append(3, "ada", 3, "three").await;
    let snapshot = Snapshot {
        seq: 3,
        at: 5,
        body: "what is given up".into(),
    };
    owner
        .save(log, FIRST, &ada, snapshot.clone())
        .await
        .expect("saved");
    owner
        .forget(log, FIRST, &ada, 2, false)
        .await
        .expect("forgotten");
    assert_eq!(owner.load(log, &ada).await, Ok(Some(snapshot)));
    world.crash(0);
    world.crash(1);
    world.start(2).await;
    assert!(!world.assign(log, Epoch(8), 2), "it is not in sync");
    let life = world.begin_anew(log, 2, begins_empty).expect("it is lost");
    assert_eq!(life.after, FIRST);

    // As many copies as are asked for are needed again before anything leaves.
    for node in [0, 1] {
        world.start(node).await;
    }
    world.want_all(log);
    let (next, head) = shard.moves_to(2, Epoch(8)).await;
    assert_eq!(head, u64::from(!begins_empty));
    let new = record(head + 1, Epoch(8), "ada", head + 1, "new");
    append(&next, log, new).await;
    world.want_all(log);
    shard.until_in_sync(3).await;
    for (node, epoch) in [(0, 9), (1, 10)] {
        let (next, found) = shard.moves_to(node, Epoch(epoch)).await;
        assert_eq!(found, head + 1);
        assert_eq!(next.load(log, &ada).await, Ok(None), "of an earlier life");
        let read = next.read_log(log, 0, Page::default()).await;
        let expected: &[&str] = if begins_empty {
            &["new"]
        } else {
            &["one", "new"]
        };
        assert_eq!(bodies(read), expected, "node {node}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_lost_store_alone_had_never_comes_back() {
    lost_and_back(false).await;
    lost_and_back(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_says_what_it_has_of_shards_in_sync_or_not() {
    let shard = Owned::new(8).await;
    for seq in 1..=3 {
        shard.append(seq, "ada", seq, "one").await;
    }
    let held = shard.owner.held("Jar", (0..4).map(ShardId).collect()).await;
    let last = LogPoint {
        position: 3,
        epoch: FIRST,
    };
    let expected = HeldCopy {
        shard: ShardId(0),
        last,
        at: Some(1_700_000_000_000),
    };
    assert_eq!(held, Ok(vec![expected]));
    let none = shard.owner.held("Cup", vec![ShardId(0)]).await;
    assert_eq!(none, Ok(vec![]));
}
