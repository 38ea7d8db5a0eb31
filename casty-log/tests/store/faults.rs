//! Disks that fail, are full, or may not be written.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use casty_log::{
    Change, CommitError, Log, OpenError, Options, Page, Record, Snapshot, Store,
    disk::{Disk, Fault, Folder, SimDisk},
};

use crate::{
    watched::Watched,
    workload::{claim, kind, log, small},
};

pub(crate) fn record(position: u64, bytes: usize) -> Record {
    Record {
        position,
        epoch: 1,
        entity: "ada".into(),
        seq: position,
        at: position,
        body: vec![7; bytes].into(),
    }
}

pub(crate) fn append(position: u64, bytes: usize) -> Change {
    Change::Append {
        log: log(0),
        epoch: 1,
        records: vec![record(position, bytes)],
    }
}

fn started(disk: &SimDisk) -> Store {
    let (mut store, _) = Store::open(Arc::new(disk.clone()), small()).expect("opened");
    store.commit(&[kind(), claim(log(0), 1)]).expect("a claim");
    store
}

#[test]
fn a_store_is_dead_after_an_error_and_reads_go_on() {
    for is_sync in [false, true] {
        let disk = SimDisk::new(3);
        let mut store = started(&disk);
        store.commit(&[append(1, 100)]).expect("written");
        let fail = |fault| {
            if is_sync {
                disk.fail_syncs(fault);
            } else {
                disk.fail_writes(fault);
            }
        };
        fail(Some(Fault::Io));
        let failed = store.commit(&[append(2, 100)]);
        assert!(
            matches!(failed, Err(CommitError::Unknown { .. })),
            "{failed:?}"
        );
        fail(None);
        let again = store.commit(&[append(2, 100)]).expect_err("it is dead");
        let CommitError::NotWritten { reason } = &again else {
            panic!("{again:?}");
        };
        assert!(reason.contains("opened again: the disk failed"), "{reason}");
        let read = store.reader().read_log(log(0), 0, Page::default());
        assert_eq!(read, Ok(vec![record(1, 100)]));
        store.reopen().expect("opened again");
        let head = store.reader().head(log(0)).position;
        assert!((1..=2).contains(&head));
        store.commit(&[append(head + 1, 100)]).expect("it works");
    }
}

#[test]
fn a_full_disk_refuses_what_adds_and_takes_what_makes_room() {
    let disk = SimDisk::new(5);
    let mut store = started(&disk);
    while store.make_spare().expect("room") {}
    disk.set_room(0);
    let mut head = 0;
    let refused = loop {
        // The thread that makes spares would meet the full disk as well.
        let _ = store.make_spare();
        match store.commit(&[append(head + 1, 1000)]) {
            Ok(_) => head += 1,
            Err(error) => break error,
        }
    };
    let CommitError::NotWritten { reason } = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.contains("the disk is full: make room, and it is used again"),
        "{reason}"
    );
    assert_eq!(store.is_dead(), None);
    assert!(head >= 14, "{head} records in two segments");
    // What is trimmed makes room without another byte of the disk.
    let trim = Change::Trim {
        log: log(0),
        epoch: 1,
        through: head - 2,
    };
    store.commit(&[trim]).expect("there is a reserve");
    while store.maintain().expect("maintained") {}
    for position in head + 1..head + 8 {
        store
            .commit(&[append(position, 1000)])
            .expect("an old segment");
    }
    let read = store.reader().read_log(log(0), 0, Page::default());
    let positions: Vec<_> = read
        .expect("readable")
        .iter()
        .map(|it| it.position)
        .collect();
    assert_eq!(positions, (head - 1..head + 8).collect::<Vec<_>>());
}

#[test]
fn a_commit_that_is_longer_than_a_segment_is_refused_by_a_full_disk_and_harms_nothing() {
    let disk = SimDisk::new(5);
    let mut store = started(&disk);
    while store.make_spare().expect("room") {}
    // For a part of it.
    disk.set_room(300_000);
    let used = disk.used();
    let refused = store.commit(&[append(1, 600_000)]).expect_err("refused");
    let CommitError::NotWritten { reason } = &refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("the disk is full"), "{reason}");
    assert_eq!(store.is_dead(), None);
    assert_eq!(disk.used(), used, "what it began with is given back");
    store.commit(&[append(1, 1000)]).expect("it fits");
    store
        .commit(&[append(2, 5000)])
        .expect("in the next segment");
    disk.set_room(u64::MAX);
    store.commit(&[append(3, 600_000)]).expect("there is room");
    store.commit(&[append(4, 10)]).expect("it goes on");
    let expected: Vec<_> = (1..)
        .zip([1000, 5000, 600_000, 10])
        .map(|(position, bytes)| record(position, bytes))
        .collect();
    let all = Page {
        records: 9,
        bytes: usize::MAX,
    };
    let read = store.reader().read_log(log(0), 0, all);
    assert_eq!(read.as_ref(), Ok(&expected));
    drop(store);
    disk.crash();
    let (store, _) = Store::open(Arc::new(disk), small()).expect("no damage");
    assert_eq!(store.reader().read_log(log(0), 0, all), Ok(expected));
}

#[test]
fn a_nearly_full_disk_is_not_tried_by_each_commit_that_it_refuses() {
    let disk = SimDisk::new(5);
    let mut store = started(&disk);
    while store.make_spare().expect("room") {}
    disk.set_room(1000);
    let mut head = 0;
    while store.commit(&[append(head + 1, 1000)]).is_ok() {
        head += 1;
    }
    let before = disk.operations();
    for _ in 0..500 {
        let refused = store
            .commit(&[append(head + 1, 1000)])
            .expect_err("refused");
        assert!(
            refused.to_string().contains("the disk is full"),
            "{refused}"
        );
    }
    // Once a second, on a machine however slow.
    let tried = disk.operations() - before;
    assert!(tried < 250, "{tried} operations");
    // Room that others make is found.
    disk.set_room(u64::MAX);
    while let Err(refused) = store.commit(&[append(head + 1, 1000)]) {
        assert!(
            refused.to_string().contains("the disk is full"),
            "{refused}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn a_read_only_disk_is_named() {
    let disk = SimDisk::new(5);
    drop(started(&disk));
    disk.fail_writes(Some(Fault::ReadOnly));
    let refused = Store::open(Arc::new(disk), small()).expect_err("refused");
    assert!(refused.to_string().contains("read-only"), "{refused}");
}

#[test]
fn two_stores_on_one_directory_are_refused() {
    let disk = SimDisk::new(5);
    let store = started(&disk);
    let refused = Store::open(Arc::new(disk.clone()), small()).expect_err("refused");
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused:?}");
    drop(store);
    assert!(Store::open(Arc::new(disk), small()).is_ok());

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data/of/node");
    let (store, _) = Store::open(Arc::new(Folder::new(&path)), small()).expect("opened");
    let refused = Store::open(Arc::new(Folder::new(&path)), small()).expect_err("refused");
    assert!(
        refused.to_string().contains("in use by another process"),
        "{refused}"
    );
    store.close().expect("closed");
    assert!(Store::open(Arc::new(Folder::new(&path)), small()).is_ok());
}

#[test]
fn what_is_too_long_is_refused_and_harms_nothing() {
    let mut store = started(&SimDisk::new(5));
    let save = Change::Save {
        log: log(0),
        epoch: 1,
        entity: "x".repeat(70_000).into(),
        snapshot: Snapshot {
            seq: 1,
            at: 0,
            body: bytes::Bytes::new(),
        },
    };
    let refused = store.commit(&[append(1, 10), save]).expect_err("refused");
    assert!(matches!(refused, CommitError::NotWritten { .. }));
    assert_eq!(store.reader().head(log(0)).position, 0);
    store.commit(&[append(1, 10)]).expect("written");
}

#[tokio::test]
async fn a_log_whose_disk_failed_goes_on_by_itself() {
    let disk = SimDisk::new(9);
    let (opened, _) = Log::open(Arc::new(disk.clone()), Options::default()).expect("opened");
    let log_id = log(0);
    opened
        .commit(vec![kind(), claim(log_id, 1)])
        .await
        .expect("claimed");
    disk.fail_syncs(Some(Fault::Io));
    let failed = opened.commit(vec![append(1, 10)]).await;
    assert!(
        matches!(failed, Err(CommitError::Unknown { .. })),
        "{failed:?}"
    );
    let reason = opened.is_dead().expect("a reason");
    assert!(reason.contains("the disk failed"), "{reason}");
    disk.fail_syncs(None);
    while opened.commit(vec![claim(log_id, 1)]).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(opened.is_dead(), None);
    let head = opened.reader().head(log_id).position;
    opened
        .commit(vec![append(head + 1, 10)])
        .await
        .expect("it works");
    let read = opened.reader().read_log(log_id, head, Page::default());
    assert_eq!(read, Ok(vec![record(head + 1, 10)]));
    opened.close().expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_callers_gets_its_own_answer_and_can_read_what_it_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk: Arc<dyn Disk> = Arc::new(Folder::new(folder.path()));
    let (opened, found) = Log::open(disk.clone(), Options::default()).expect("opened");
    assert!(found.is_new && !found.unclean);
    let opened = Arc::new(opened);
    opened.commit(vec![kind()]).await.expect("made");
    let callers = (0..3).map(|shard| {
        let opened = opened.clone();
        tokio::spawn(async move {
            let log = log(shard);
            opened.commit(vec![claim(log, 1)]).await.expect("claimed");
            for position in 1..=200 {
                let mut record = record(position, 20);
                record.entity = format!("entity-{shard}").into();
                let records = vec![record.clone()];
                let (epoch, after) = (1, 0);
                let append = Change::Append {
                    log,
                    epoch,
                    records,
                };
                let epoch = 9;
                let late = Change::Cut { log, epoch, after };
                let done = opened.commit(vec![append, late]).await.expect("written");
                assert_eq!(done, [casty_log::Done::Written, casty_log::Done::Refused]);
                let read = opened.reader().read_log(log, position - 1, Page::default());
                assert_eq!(read, Ok(vec![record]));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("a caller");
    }
    let closed = Arc::into_inner(opened).expect("alone").close();
    closed.expect("closed");
    let (opened, found) = Log::open(disk, Options::default()).expect("opened again");
    assert!(!found.unclean && !found.is_new);
    for shard in 0..3 {
        assert_eq!(opened.reader().head(log(shard)).position, 200);
    }
}

#[tokio::test]
async fn what_waits_while_a_commit_is_synced_is_served_by_one_sync() {
    let disk = Watched::new(SimDisk::new(3));
    let mut options = Options::default();
    // The thread that makes them would sync as well.
    options.spares = 0;
    let (opened, _) = Log::open(Arc::new(disk.clone()), options).expect("opened");
    let claims = vec![kind(), claim(log(0), 1), claim(log(1), 1), claim(log(2), 1)];
    opened.commit(claims).await.expect("claimed");
    let before = disk.counts.syncs();
    let held = disk.counts.hold_syncs();
    let append = |shard: u64, position| {
        let (log, epoch, records) = (log(shard), 1, vec![record(position, 10)]);
        opened.commit(vec![Change::Append {
            log,
            epoch,
            records,
        }])
    };
    let mut first = Box::pin(append(0, 1));
    while disk.counts.syncs() == before {
        assert!(now_or_never(first.as_mut()).is_none(), "it is not synced");
        std::thread::yield_now();
    }
    let mut waiting: Vec<_> = (1..=20)
        .flat_map(|position| [(1, position), (2, position)])
        .map(|(shard, position)| Box::pin(append(shard, position)))
        .collect();
    for caller in &mut waiting {
        assert!(now_or_never(caller.as_mut()).is_none(), "it waits");
    }
    drop(held);
    first.await.expect("written");
    for caller in waiting {
        assert_eq!(caller.await, Ok(vec![casty_log::Done::Written]));
    }
    assert_eq!(disk.counts.syncs(), before + 2);
    opened.close().expect("closed");
}

/// Polls a future once.
fn now_or_never<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn values_beyond_what_there_is_do_no_harm() {
    let mut options = small();
    options.factor = u64::MAX;
    let (mut store, _) = Store::open(Arc::new(SimDisk::new(3)), options).expect("opened");
    store.commit(&[kind(), claim(log(0), 1)]).expect("made");
    for position in 1..=20 {
        store.commit(&[append(position, 1000)]).expect("appended");
    }
    while store.maintain().expect("maintained") {}
    let read = |after| store.reader().read_log(log(0), after, Page::default());
    assert_eq!(read(19).expect("readable").len(), 1);
    for after in [20, 21, u64::MAX - 1, u64::MAX] {
        assert_eq!(read(after).expect("readable"), [], "after {after}");
    }
}
