//! Tests of the committer over a store in memory.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{self, Attributes, Id},
};

use crate::{
    id::{EntityId, Epoch},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Memory, Page,
        Record, Snapshot, StoredEntity,
        faults::{Faults, Faulty, FaultyStore},
        inbox::{Inbox, Input, News, Waiting},
        record_body::RecordBody,
        shard_log::{Entry, NotStored, Progress, ShardLog},
        store::Store,
        suite::Suite,
        upkeep::{Keep, Upkeep},
    },
    protocol::commit::LogId,
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
        news: crate::persistence::sends::ShardNews::default(),
    }
}

async fn stored(journal: &impl Journal, shard: u32) -> Vec<Record> {
    let page = Page {
        records: usize::MAX,
        bytes: usize::MAX,
    };
    journal
        .read_log(&log(shard), 0, page)
        .await
        .expect("memory answers")
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
    assert!(
        !log.has_room(&one),
        "it is not known whether the log has sends"
    );
    log.room(&one).await;
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

/// A record has failed while an earlier one of its activation is on its way, which another thread
/// decides.
#[test]
fn what_is_on_its_way_is_not_taken_for_what_is_not_stored() {
    let inbox = Arc::new(Inbox::default());
    for round in 0..6_000 {
        let progress = Progress::new(0);
        let waiting = |seq| {
            Waiting::new(
                entry("x", seq),
                Epoch(1),
                progress.clone(),
                inbox.clone(),
                None,
                Arc::default(),
            )
        };
        let (first, second) = (waiting(1), waiting(2));
        let not_stored = |possibly| NotStored {
            reason: "of the test".to_owned(),
            missing: Vec::new(),
            possibly,
        };
        second.fail(not_stored(false));
        std::thread::scope(|scope| {
            let decides = scope.spawn(|| match round % 3 {
                0 => first.confirm(1, &mut News::default()),
                1 => first.fail(not_stored(true)),
                _ => drop(first),
            });
            while !decides.is_finished() {
                assert!(
                    progress.may_be_stored() || progress.durable() == 1,
                    "round {round}: the first record may be stored"
                );
            }
        });
        assert!(progress.is_settled());
        assert_eq!(progress.may_be_stored(), round % 3 > 0);
    }
}

/// A run that waits for room has to look again then.
#[tokio::test]
async fn what_is_refused_at_the_end_of_the_committer_frees_its_room() {
    let inbox = Arc::new(Inbox::default());
    let record = || {
        let (inbox, progress) = (inbox.clone(), Progress::new(0));
        Input::Record(
            LogId(1),
            Waiting::new(
                entry("x", 1),
                Epoch(1),
                progress,
                inbox,
                None,
                Arc::default(),
            ),
        )
    };
    inbox.put(record());
    let mut freed = std::pin::pin!(inbox.freed.notified());
    freed.as_mut().enable();
    inbox.end();
    assert!(futures_util::poll!(freed).is_ready(), "what was queued");
    let mut freed = std::pin::pin!(inbox.freed.notified());
    freed.as_mut().enable();
    inbox.put(record());
    assert!(futures_util::poll!(freed).is_ready(), "what comes later");
}

/// The store is not even asked.
#[tokio::test(start_paused = true)]
async fn a_snapshot_of_what_was_erased_meanwhile_is_not_saved() {
    let (memory, faulty, store) = faulty();
    let one = store.open_log(log(0), Epoch(1));
    let upkeep = Upkeep::new(one, EntityId::new("x"), 0);
    upkeep.clone().erase(2).await.unwrap();
    faulty.set(Faults {
        is_silent: true,
        ..Faults::default()
    });
    for (seq, is_saved) in [(1, false), (2, false), (3, true)] {
        upkeep.begin();
        let save = upkeep.clone().save(seq, RecordBody::default(), Keep::All);
        let ended = tokio::time::timeout(Duration::from_mins(1), save).await;
        assert_eq!(ended.is_err(), is_saved, "a snapshot as of record {seq}");
        assert_eq!(upkeep.is_saving(), is_saved);
    }
    drop(memory);
}

/// Recovery would not look at a record before the snapshot.
#[tokio::test(start_paused = true)]
async fn what_could_not_be_erased_is_erased_before_the_next_snapshot() {
    let (memory, faulty, store) = faulty();
    let (one, progress) = (held(&store, 0, 1).await, Progress::new(0));
    for seq in 1..=3 {
        one.append(entry("x", seq), &progress);
    }
    progress.settled().await;
    let upkeep = Upkeep::new(one, EntityId::new("x"), 0);
    faulty.set(Faults {
        is_away: true,
        ..Faults::default()
    });
    upkeep.clone().erase(2).await.unwrap_err();
    faulty.set(Faults::default());
    upkeep.begin();
    let save = upkeep.clone().save(3, RecordBody::default(), Keep::All);
    save.await;
    let sizes: Vec<_> = stored(&memory, 0)
        .await
        .iter()
        .map(|it| it.body.len())
        .collect();
    assert_eq!(sizes, [0, 0, b"body".len()]);
    let snapshot = memory.load(&log(0), &EntityId::new("x")).await.unwrap();
    assert_eq!(snapshot.map(|snapshot| snapshot.seq), Some(3));
}

#[test]
fn only_as_many_records_as_are_needed_wake_the_committer() {
    let inbox = Arc::new(Inbox::default());
    let record = || {
        let waiting = Waiting::new(
            entry("x", 1),
            Epoch(1),
            Progress::new(0),
            inbox.clone(),
            None,
            Arc::default(),
        );
        inbox.put(Input::Record(LogId(1), waiting));
    };
    let is_woken = || inbox.queued.notified().now_or_never().is_some();
    record();
    assert!(is_woken(), "at first by any");
    inbox.take(&mut Vec::new());
    inbox.wake_at(2);
    record();
    assert!(!is_woken());
    record();
    assert!(is_woken());
    record();
    assert!(!is_woken(), "it has been");
    inbox.wake_at(usize::MAX);
    record();
    assert!(!is_woken());
    inbox.put(Input::Gone(LogId(1)));
    assert!(is_woken(), "by anything but records");
    inbox.wake_at(4);
    assert!(is_woken(), "by what is there already");
    inbox.take(&mut Vec::new());
    inbox.wake_at(4);
    assert!(!is_woken());
}

/// Each notification wakes a task.
#[test]
fn an_activation_hears_once_of_records_that_become_durable_together() {
    let inbox = Arc::new(Inbox::default());
    let [one, other] = [Progress::new(0), Progress::new(0)];
    let records = [(&one, 1), (&one, 2), (&other, 1)];
    let [first, second, third] = records.map(|(of, seq)| {
        Waiting::new(
            entry("x", seq),
            Epoch(1),
            of.clone(),
            inbox.clone(),
            None,
            Arc::default(),
        )
    });
    let (mut one_hears, mut other_hears) = (
        pin!(one.changed().notified()),
        pin!(other.changed().notified()),
    );
    one_hears.as_mut().enable();
    other_hears.as_mut().enable();
    let mut news = News::default();
    first.confirm(1, &mut news);
    second.confirm(2, &mut news);
    assert_eq!(one_hears.as_mut().now_or_never(), None);
    third.confirm(3, &mut news);
    assert_eq!(one_hears.now_or_never(), Some(()));
    assert_eq!(other_hears.as_mut().now_or_never(), None);
    drop(news);
    assert_eq!(other_hears.now_or_never(), Some(()));
}

/// A node whose store is a memory, over a connection with faults.
fn faulty() -> (Memory, Faulty, Arc<Store>) {
    let memory = Memory::new();
    let connection = FaultyStore::new(Arc::new(memory.clone())).connection(1);
    let store = store(connection.clone(), "a");
    (memory, connection, store)
}

fn slow() -> Faults {
    Faults {
        delay_max: Duration::from_millis(10),
        ..Faults::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_commit_runs_is_committed_together() {
    let (_, connection, store) = faulty();
    let log = held(&store, 1, 1).await;
    connection.set(slow());
    let activations: Vec<_> = (0..1000).map(|_| Progress::new(0)).collect();
    let began = Instant::now();
    for (progress, entity) in activations.iter().zip(0..) {
        log.append(entry(&format!("{entity}"), 1), progress);
    }
    for progress in &activations {
        progress.settled().await;
        assert_eq!(progress.durable(), 1);
    }
    // Two commits, there and back.
    assert!(began.elapsed() <= Duration::from_millis(40));
}

#[tokio::test(start_paused = true)]
async fn unknown_outcomes_are_decided_before_anything_follows() {
    let (memory, connection, store) = faulty();
    let log = held(&store, 1, 1).await;
    connection.set(Faults {
        unknown: 1.0,
        ..slow()
    });
    let mut outcomes = [0, 0];
    for entity in 0..40 {
        let (id, progress) = (format!("{entity}"), Progress::new(0));
        let before = stored(&memory, 1).await.len();
        log.append(entry(&id, 1), &progress);
        log.append(entry(&id, 2), &progress);
        progress.settled().await;
        let written = stored(&memory, 1).await.len() - before;
        // One commit each, or both in one.
        assert_eq!(
            progress.durable(),
            written as u64,
            "what is confirmed is there"
        );
        let failed = progress.failed().map(|failed| failed.possibly);
        assert_eq!(failed, (written < 2).then_some(false));
        outcomes[usize::from(written > 0)] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_fails_what_is_appended_at_once_and_comes_back() {
    let (_, connection, store) = faulty();
    let away = Faults {
        is_away: true,
        ..Faults::default()
    };
    connection.set(away.clone());
    let unclaimed = store.open_log(log(2), Epoch(1));
    let claimed = tokio::time::timeout(Duration::from_secs(20), unclaimed.claimed());
    assert!(claimed.await.is_err());
    assert_eq!(unclaimed.pending().as_deref(), Some("the store is away"));
    connection.set(Faults::default());
    unclaimed.claimed().await.unwrap();
    let log = held(&store, 1, 1).await;
    connection.set(away);
    let progress = Progress::new(0);
    log.append(entry("x", 1), &progress);
    let began = Instant::now();
    progress.settled().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(!progress.failed().unwrap().possibly);
    connection.set(Faults::default());
    let progress = Progress::new(0);
    log.append(entry("x", 1), &progress);
    progress.settled().await;
    assert_eq!(progress.durable(), 1);
}

/// Counts what is logged with a message.
struct Logs(&'static str, AtomicUsize);

impl Visit for &Logs {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && format!("{value:?}") == self.0 {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Subscriber for Logs {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut &*self);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// As on a full disk: claims succeed, since they write little or nothing.
#[tokio::test(start_paused = true)]
async fn a_store_whose_commits_alone_fail_is_logged_once() {
    let (_, connection, store) = faulty();
    connection.set(Faults {
        not_written: 1.0,
        ..Faults::default()
    });
    let logs = Arc::new(Logs("the store of entities fails", AtomicUsize::new(0)));
    let _logging = tracing::subscriber::set_default(logs.clone());
    for shard in 1..=5 {
        let log = held(&store, shard, 1).await;
        let progress = Progress::new(0);
        log.append(entry("x", 1), &progress);
        progress.settled().await;
        assert!(!progress.failed().unwrap().possibly);
    }
    assert_eq!(logs.1.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_is_not_waited_for_without_end_and_what_it_did_is_found() {
    let (memory, connection, store) = faulty();
    let log = held(&store, 1, 1).await;
    connection.set(Faults {
        is_silent: true,
        ..Faults::default()
    });
    let (first, second) = (Progress::new(0), Progress::new(0));
    log.append(entry("x", 1), &first);
    tokio::time::sleep(Duration::from_millis(1)).await;
    log.append(entry("y", 1), &second);
    let began = Instant::now();
    second.settled().await;
    assert!(!second.failed().unwrap().possibly, "it was not sent");
    first.settled().await;
    assert!(first.failed().unwrap().possibly, "it may have arrived");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(log.pending().is_some(), "nothing is read before the claim");
    connection.set(Faults::default());
    log.claimed().await.unwrap();
    let now = stored(&memory, 1).await.len() as u64;
    let progress = Progress::new(0);
    log.append(entry("z", 1), &progress);
    progress.settled().await;
    assert_eq!((progress.durable(), progress.position()), (1, now + 1));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_a_silent_store_without_end() {
    let (_, connection, store) = faulty();
    let (log, progress) = (held(&store, 1, 1).await, Progress::new(0));
    connection.set(Faults {
        is_silent: true,
        ..Faults::default()
    });
    log.append(entry("x", 1), &progress);
    let closed = tokio::time::timeout(Duration::from_secs(20), store.close());
    closed.await.expect("it ends");
    assert!(progress.failed().unwrap().possibly);
}

/// A memory that was restored from an older copy.
#[tokio::test(start_paused = true)]
async fn a_store_that_was_rewound_is_not_served() {
    let (memory, connection, store) = faulty();
    let log = held(&store, 1, 1).await;
    for seq in 1..=2 {
        let progress = Progress::new(0);
        log.append(entry(&format!("{seq}"), 1), &progress);
        progress.settled().await;
    }
    drop(connection);
    memory.cut(log.log(), 1);
    let progress = Progress::new(0);
    log.append(entry("x", 1), &progress);
    progress.settled().await;
    assert!(!progress.failed().unwrap().possibly);
    let refused = log.claimed().await.unwrap_err();
    assert!(refused.contains("restored from an older copy"), "{refused}");
}

struct Panics(Memory);

/// All but appends are the memory's.
impl Journal for Panics {
    fn describe(&self) -> String {
        "panics".to_owned()
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, std::num::NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.0.latest_epoch()
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        self.0.claim(log, epoch, owner)
    }

    fn append(&self, _: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        panic!("on purpose")
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        self.0.read_entity(log, entity, after, page)
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        self.0.read_log(log, after, page)
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        self.0.load(log, entity)
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.save(log, epoch, entity, snapshot)
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.forget(log, epoch, entity, through, snapshot)
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        self.0.entities(log, after, limit)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_ends_no_committer() {
    let store = store(Panics(Memory::new()), "a");
    let log = held(&store, 1, 1).await;
    for _ in 0..2 {
        let progress = Progress::new(0);
        log.append(entry("x", 1), &progress);
        progress.settled().await;
        assert!(!progress.failed().unwrap().possibly, "its head tells");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_connections_pass_the_suite() {
    let store = FaultyStore::new(Arc::new(Memory::new()));
    let seeds = std::sync::atomic::AtomicU64::new(0);
    let suite = Suite::new(move || {
        let seed = seeds.fetch_add(1, Ordering::Relaxed);
        let connection = store.connection(seed);
        connection.set(slow());
        let connection: Arc<dyn Journal> = Arc::new(connection);
        async { connection }
    });
    suite.check().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_faults() {
    let outcomes = |seed| async move {
        let store = FaultyStore::new(Arc::new(Memory::new()));
        let connection = store.connection(seed);
        connection.set(Faults {
            unknown: 0.3,
            not_written: 0.3,
            ..slow()
        });
        let (log, mut outcomes) = (log(1), Vec::new());
        let mut head = connection.claim(&log, Epoch(1), "a").await.unwrap();
        for _ in 0..50 {
            let record = Record {
                position: head + 1,
                epoch: Epoch(1),
                entity: EntityId::new("x"),
                seq: head + 1,
                at: 1,
                body: Bytes::new(),
            };
            let append = Append {
                log: log.clone(),
                epoch: Epoch(1),
                records: vec![record],
            };
            outcomes.push(connection.append(vec![append]).await);
            head = connection.claim(&log, Epoch(1), "a").await.unwrap();
        }
        outcomes
    };
    let found = outcomes(1).await;
    assert_eq!(found, outcomes(1).await);
    assert_ne!(found, outcomes(2).await);
    let unknown = |outcome: &Result<_, _>| matches!(outcome, Err(AppendError::Unknown { .. }));
    let written = |outcome: &Result<Vec<_>, _>| {
        outcome
            .as_ref()
            .is_ok_and(|answers| answers == &[Appended::Written])
    };
    assert!(found.iter().any(unknown) && found.iter().any(written));
}
