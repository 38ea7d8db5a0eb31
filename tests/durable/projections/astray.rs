//! What must never happen: a projection that skips, one that was replaced and writes, a log that
//! has lost what a view has.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use casty::{
    id::{EntityId, Epoch},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Memory, Page,
        Record, Snapshot, StoredEntity,
    },
    projection::{
        EventStreamError, MemoryView, ProjectedShard, ProjectionStore as _, RunningProjection,
        Since,
    },
    testkit::{eventually, soon},
};
use futures_util::future::BoxFuture;

use super::{Sums, deposit, table};
use crate::accounts::{Account, alone};

/// A store that has lost a record of each log, or not made all records durable in all copies.
#[derive(Clone, Default)]
struct Odd {
    records: Memory,
    lost: Option<u64>,
    /// Only up to there; 0 is no bound.
    durable: Arc<AtomicU64>,
}

impl Journal for Odd {
    fn describe(&self) -> String {
        "an odd store".to_owned()
    }

    fn durable<'a>(&'a self, _: &'a Log) -> BoxFuture<'a, Result<Option<u64>, JournalError>> {
        let durable = self.durable.load(Ordering::SeqCst);
        Box::pin(std::future::ready(Ok((durable > 0).then_some(durable))))
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.records.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.records.latest_epoch()
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        self.records.claim(log, epoch, owner)
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        self.records.append(batch)
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        self.records.read_entity(log, entity, after, page)
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let mut records = self.records.read_log(log, after, page).await?;
            records.retain(|record| Some(record.position) != self.lost);
            Ok(records)
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        self.records.load(log, entity)
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.records.save(log, epoch, entity, snapshot)
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.records.forget(log, epoch, entity, through, snapshot)
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        self.records.entities(log, after, limit)
    }
}

/// What keeps a projection, once something does.
async fn trouble(sums: &RunningProjection) -> String {
    let look = || async { sums.lag().await.unwrap() };
    let lag = eventually("it stops", look, |lag| lag.troubles().count() > 0).await;
    lag.troubles().next().unwrap().1.to_owned()
}

#[tokio::test]
async fn a_projection_stops_at_a_hole_and_says_what_is_missing() {
    let (store, view) = (Odd::default(), MemoryView::default());
    let system = alone(Odd {
        lost: Some(2),
        ..store
    });
    for cents in 1..=3 {
        deposit(&system, "alice", cents).await;
    }
    let sums = system.project(Sums::new(&view)).await.unwrap();
    let trouble = trouble(&sums).await;
    assert_eq!(
        trouble,
        "the log has lost records: record 2 is missing: record 3 follows record 1"
    );
    // Nothing of the page with the hole is in the view.
    assert_eq!(table(&view).await.len(), 0);
    let mut events = system.events_of::<Account>(Since::Start).await.unwrap();
    let error = soon("an error", events.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, EventStreamError::Lost { .. }), "{error}");
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_runner_that_was_replaced_writes_nothing_and_stops() {
    let (system, view) = (alone(Memory::new()), MemoryView::default());
    let sums = system.project(Sums::new(&view)).await.unwrap();
    let position = deposit(&system, "alice", 1).await;
    sums.wait_for(position.clone()).await.unwrap();
    let shard = ProjectedShard {
        projection: "sums".to_owned(),
        version: 1,
        kind: position.kind,
        shard: position.shard,
    };
    // As its next owner does.
    assert_eq!(view.claim(&shard, Epoch(u64::MAX)).await, Ok(1));
    deposit(&system, "alice", 2).await;
    let trouble = trouble(&sums).await;
    assert!(
        trouble.starts_with("another node has taken the projection over"),
        "{trouble}"
    );
    assert_eq!(table(&view).await[&EntityId::new("alice")], (1, 1));
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_log_that_has_less_than_a_view_is_an_error() {
    let view = MemoryView::default();
    let system = alone(Memory::new());
    let sums = system.project(Sums::new(&view)).await.unwrap();
    deposit(&system, "alice", 1).await;
    let position = deposit(&system, "alice", 2).await;
    sums.wait_for(position).await.unwrap();
    system.shutdown().await.unwrap();
    let system = alone(Memory::new());
    let sums = system.project(Sums::new(&view)).await.unwrap();
    let trouble = trouble(&sums).await;
    assert_eq!(
        trouble,
        "the log has lost records: the log ends with record 0, and record 2 was handled already"
    );
    system.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_not_durable_in_all_copies_is_not_handled() {
    let (store, view) = (Odd::default(), MemoryView::default());
    store.durable.store(1, Ordering::SeqCst);
    let system = alone(store.clone());
    let sums = system.project(Sums::new(&view)).await.unwrap();
    let first = deposit(&system, "alice", 1).await;
    let second = deposit(&system, "alice", 2).await;
    sums.wait_for(first).await.unwrap();
    let mut events = system.events_of::<Account>(Since::Start).await.unwrap();
    for _ in 0..2 {
        let event = soon("an event", events.next()).await.unwrap().unwrap();
        assert_eq!(event.position.position, 1);
    }
    let within = Duration::from_millis(300);
    let early = sums.wait_for_within(second.clone(), within).await;
    early.expect_err("it is not durable yet");
    assert_eq!(table(&view).await[&EntityId::new("alice")], (1, 1));
    store.durable.store(2, Ordering::SeqCst);
    sums.wait_for(second).await.unwrap();
    let event = soon("an event", events.next()).await.unwrap().unwrap();
    assert_eq!(event.position.position, 2);
    system.shutdown().await.unwrap();
}
