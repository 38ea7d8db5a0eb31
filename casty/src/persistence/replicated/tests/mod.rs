//! The store of some nodes in one process, on simulated disks.

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
        Append, Appended, Journal, Log, Page, Record, Snapshot, replicated::Replicated,
        suite::Suite,
    },
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
    assert_eq!(owner.claim(&log, epoch, "").await, Ok(0));
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
    assert_eq!(next.claim(&log, Epoch(8), "").await, Ok(2));
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
    assert_eq!(owner.claim(&log, epoch, "").await, Ok(0));
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
    assert_eq!(next.claim(&log, Epoch(8), "").await, Ok(5));
    assert_eq!(next.load(&log, &ada).await, Ok(Some(snapshot)));
    let read = next.read_entity(&log, &ada, 0, Page::default()).await;
    let bodies = read.expect("readable").into_iter().map(|it| it.body);
    // What stands for a record stands for those before it.
    assert_eq!(bodies.collect::<Vec<_>>(), ["", "", "", "more"]);
}
