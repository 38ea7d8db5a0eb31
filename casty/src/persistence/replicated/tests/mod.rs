//! The store of some nodes in one process, on simulated disks.

#![expect(
    clippy::disallowed_methods,
    reason = "messages and clients are tasks of their own"
)]

mod elected;
mod storm;
mod world;

use std::{
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
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, replicated::Replicated, suite::Suite,
    },
    protocol::copies::StopOwning,
};

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
    check_suite(weather, 2).await;
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

#[tokio::test(start_paused = true)]
async fn a_copy_that_does_not_answer_is_dropped_and_added_again_when_it_has_all() {
    let world = World::new(3, ROUGH, 3, &kinds()).await;
    let (log, epoch) = (log(0), Epoch(7));
    assert!(world.assign(&log, epoch, 0));
    let owner = world.process(0).expect("it runs");
    assert_eq!(claim(&owner, &log, epoch).await, Ok(0));
    let in_sync = || lock(&world.state).homes[&log].in_sync.clone();
    append(&owner, &log, record(1, epoch, "ada", 1, "one")).await;

    world.crash(2);
    append(&owner, &log, record(2, epoch, "ada", 2, "two")).await;
    assert!(!in_sync().contains(&world.store(2)), "it was dropped");

    world.start(2).await;
    world.want_all(&log);
    until("the copy is in sync again", || in_sync().len() == 3).await;
    // Its log is the truth now.
    world.crash(0);
    world.crash(1);
    world.start(1).await;
    assert!(world.assign(&log, Epoch(8), 2));
    let next = world.process(2).expect("it runs");
    assert_eq!(claim(&next, &log, Epoch(8)).await, Ok(2));
    let read = next.read_log(&log, 0, Page::default()).await;
    let bodies = read.expect("readable").into_iter().map(|it| it.body);
    assert_eq!(bodies.collect::<Vec<_>>(), ["one", "two"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_is_copied_with_what_stands_for_it() {
    let world = World::new(3, ROUGH, 4, &kinds()).await;
    let (log, epoch) = (log(1), Epoch(7));
    assert!(world.assign(&log, epoch, 0));
    let owner = world.process(0).expect("it runs");
    assert_eq!(claim(&owner, &log, epoch).await, Ok(0));
    append(&owner, &log, record(1, epoch, "ada", 1, "one")).await;
    append(&owner, &log, record(2, epoch, "bob", 1, "gone")).await;
    world.crash(2);
    for seq in 2..=4 {
        append(&owner, &log, record(seq + 1, epoch, "ada", seq, "more")).await;
    }
    let (ada, bob) = (
        EntityId::from_text("ada".into()),
        EntityId::from_text("bob".into()),
    );
    let snapshot = Snapshot {
        seq: 4,
        at: 5,
        body: "a state".into(),
    };
    owner
        .save(&log, epoch, &ada, snapshot.clone())
        .await
        .expect("saved");
    owner
        .forget(&log, epoch, &ada, 3, false)
        .await
        .expect("forgotten");
    owner
        .forget(&log, epoch, &bob, 1, true)
        .await
        .expect("erased");

    // It comes back with the first two records, which it has whole, and copies the others.
    world.start(2).await;
    world.want_all(&log);
    let in_sync = || lock(&world.state).homes[&log].in_sync.clone();
    until("the copy is in sync again", || in_sync().len() == 3).await;
    assert!(world.assign(&log, Epoch(8), 2));
    let next = world.process(2).expect("it runs");
    assert_eq!(claim(&next, &log, Epoch(8)).await, Ok(5));
    assert_eq!(next.load(&log, &ada).await, Ok(Some(snapshot)));
    let read = next.read_entity(&log, &ada, 0, Page::default()).await;
    let bodies = read.expect("readable").into_iter().map(|it| it.body);
    // What stands for a record stands for those before it.
    assert_eq!(bodies.collect::<Vec<_>>(), ["", "", "", "more"]);
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_owner_has_a_full_disk_goes_on_elsewhere() {
    let world = World::new(3, ROUGH, 5, &kinds()).await;
    let (log, epoch) = (log(2), Epoch(7));
    assert!(world.assign(&log, epoch, 0));
    let owner = world.process(0).expect("it runs");
    assert_eq!(claim(&owner, &log, epoch).await, Ok(0));
    append(&owner, &log, record(1, epoch, "ada", 1, "one")).await;

    world.disk(0).set_room(0);
    let part = Append {
        log: log.clone(),
        epoch,
        records: vec![record(2, epoch, "ada", 2, &"two".repeat(100_000))],
    };
    let failed = owner.append(vec![part]).await;
    assert!(
        matches!(failed, Err(AppendError::Unknown { .. })),
        "{failed:?}"
    );
    let stopped = || {
        let state = lock(&world.state);
        let mut stops = state.stops.iter();
        stops.any(|stop| *stop == (log.clone(), epoch, StopOwning::StoreFailed))
    };
    until("it is given up", stopped).await;
    assert!(world.assign(&log, Epoch(8), 1));
    let next = world.process(1).expect("it runs");
    let head = claim(&next, &log, Epoch(8)).await.expect("claimed");
    assert!((1..=2).contains(&head), "{head}");
    append(
        &next,
        &log,
        record(head + 1, Epoch(8), "ada", head + 1, "three"),
    )
    .await;

    // With room again it is a copy as before, without a start.
    world.disk(0).set_room(u64::MAX);
    world.want_all(&log);
    let in_sync = || lock(&world.state).homes[&log].in_sync.len() == 3;
    until("it is a copy again", in_sync).await;
    assert!(world.assign(&log, Epoch(9), 0));
    let claimed = claim(&owner, &log, Epoch(9)).await;
    assert_eq!(claimed, Ok(head + 1));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_damaged_is_given_up_and_copied_anew() {
    let world = World::new(3, ROUGH, 6, &kinds()).await;
    let (log, epoch) = (log(3), Epoch(7));
    assert!(world.assign(&log, epoch, 0));
    let owner = world.process(0).expect("it runs");
    assert_eq!(claim(&owner, &log, epoch).await, Ok(0));
    for seq in 1..=5 {
        append(&owner, &log, record(seq, epoch, "ada", seq, "sound")).await;
    }
    let ada = EntityId::from_text("ada".into());
    let snapshot = Snapshot {
        seq: 3,
        at: 5,
        body: "a state".into(),
    };
    owner
        .save(&log, epoch, &ada, snapshot.clone())
        .await
        .expect("saved");
    let disk = world.disk(0);
    let file = disk.contents("0000000001.segment").expect("a segment");
    for text in [b"sound".as_slice(), b"a state"] {
        let at = file.windows(text.len()).position(|bytes| bytes == text);
        assert!(disk.flip("0000000001.segment", at.expect("stored"), 3));
    }

    let read = owner.read_log(&log, 0, Page::default()).await;
    assert!(
        matches!(read, Err(JournalError::Unavailable { .. })),
        "{read:?}"
    );
    let stopped = || !lock(&world.state).stops.is_empty();
    until("it is given up", stopped).await;
    assert!(world.assign(&log, Epoch(8), 1));
    let next = world.process(1).expect("it runs");
    assert_eq!(claim(&next, &log, Epoch(8)).await.ok(), Some(5));
    append(&next, &log, record(6, Epoch(8), "ada", 6, "sound")).await;

    // It was dropped, since it confirms nothing any more, and is copied anew.
    let in_sync = |stores| lock(&world.state).homes[&log].in_sync.len() == stores;
    until("it is dropped", || in_sync(2)).await;
    world.want_all(&log);
    until("it is a copy again", || in_sync(3)).await;
    assert!(world.assign(&log, Epoch(9), 0));
    assert_eq!(claim(&owner, &log, Epoch(9)).await, Ok(6));
    let read = owner.read_log(&log, 0, Page::default()).await;
    let bodies = read.expect("readable").into_iter().map(|it| it.body);
    assert_eq!(bodies.collect::<Vec<_>>(), ["sound"; 6]);
}
