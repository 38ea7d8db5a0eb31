//! Tests of the committer over a store in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    id::{EntityId, Epoch},
    persistence::{
        Journal, Log, Memory, Page, Record,
        shard_log::{Entry, Progress, ShardLog},
        store::Store,
    },
};

fn log(shard: u32) -> Log {
    Log {
        kind: "test/Stored".into(),
        shard,
    }
}

/// A node with a store.
fn store(journal: impl Journal, node: &str) -> Arc<Store> {
    Store::new(Arc::new(journal), node.to_owned())
}

async fn held(store: &Arc<Store>, shard: u32, epoch: u64) -> Arc<ShardLog> {
    let log = store.open_log(log(shard), Epoch(epoch));
    log.claimed().await.expect("it can be claimed");
    log
}

fn entry(entity: &str, seq: u64) -> Entry {
    Entry {
        entity: EntityId::new(entity),
        seq,
        at: 1,
        body: Bytes::from_static(b"body"),
    }
}

async fn stored(journal: &impl Journal, shard: u32) -> Vec<Record> {
    let page = Page {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    journal.read_log(&log(shard), 0, page).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn records_are_durable_in_order_each_at_its_position() {
    let memory = Memory::new();
    let store = store(memory.clone(), "a");
    let log = held(&store, 1, 1).await;
    let (one, other) = (Progress::new(0), Progress::new(4));
    for seq in 1..=3 {
        log.append(entry("one", seq), &one);
        log.append(entry("other", seq + 4), &other);
    }
    one.settled().await;
    other.settled().await;
    assert_eq!((one.durable(), one.position()), (3, 5));
    assert_eq!((other.durable(), other.position()), (7, 6));
    let stored = stored(&memory, 1).await;
    let found: Vec<_> = stored.iter().map(|r| (r.position, r.seq)).collect();
    assert_eq!(found, [(1, 1), (2, 5), (3, 2), (4, 6), (5, 3), (6, 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_later_owner_fences_an_earlier_one() {
    let memory = Memory::new();
    let (a, b) = (store(memory.clone(), "a"), store(memory.clone(), "b"));
    let (log, progress) = (held(&a, 1, 1).await, Progress::new(0));
    log.append(entry("x", 1), &progress);
    progress.settled().await;
    let later = held(&b, 1, 2).await;
    log.append(entry("x", 2), &progress);
    progress.settled().await;
    assert!(!progress.failed().unwrap().possibly);
    assert_eq!(progress.durable(), 1);
    let refused = log.claimed().await.unwrap_err();
    assert!(refused.contains("`b`"), "{refused}");
    // And it never tries again.
    let progress = Progress::new(1);
    log.append(entry("x", 2), &progress);
    progress.settled().await;
    assert_eq!(progress.failed().unwrap().reason, refused);
    later.append(entry("x", 2), &Progress::new(1));
    b.close().await;
    assert_eq!(stored(&memory, 1).await.len(), 2);
    let earlier = b.open_log(Log::clone(later.log()), Epoch(1));
    assert!(earlier.claimed().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_at_the_end_is_written_and_nothing_after_it() {
    let memory = Memory::new();
    let store = store(memory.clone(), "a");
    let (log, progress) = (held(&store, 1, 1).await, Progress::new(0));
    for seq in 1..=1000 {
        log.append(entry("x", seq), &progress);
    }
    store.close().await;
    assert_eq!(progress.durable(), 1000);
    log.append(entry("x", 1001), &progress);
    assert!(progress.failed().is_some());
    progress.settled().await;
    assert_eq!(stored(&memory, 1).await.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn the_committer_ends_with_the_last_log_of_a_store() {
    let store = store(Memory::new(), "a");
    let (log, inbox) = (held(&store, 1, 1).await, store.inbox.clone());
    drop(store);
    let progress = Progress::new(0);
    log.append(entry("x", 1), &progress);
    progress.settled().await;
    assert_eq!(progress.durable(), 1);
    drop(log);
    inbox.ended.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_where_too_much_is_in_flight() {
    let store = store(Memory::new(), "a");
    let log = store.open_log(log(1), Epoch(1));
    let (one, other) = (Progress::new(0), Progress::new(0));
    let mut seq = 0;
    while log.has_room(&one) {
        seq += 1;
        log.append(entry("one", seq), &one);
    }
    assert!(log.has_room(&other), "it is full for one activation");
    tokio::time::timeout(Duration::from_secs(3), log.room(&one))
        .await
        .expect("the log is claimed meanwhile");
    assert!(one.durable() > 0);
    one.settled().await;
    assert_eq!(one.durable(), seq);
}
