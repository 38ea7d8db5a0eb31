//! What a read costs.

use std::sync::Arc;

use casty_log::{Change, Options, Page, Store, disk::SimDisk};

use crate::{
    faults::record,
    watched::Watched,
    workload::{claim, kind, log},
};

/// A store with records of these lengths in one log, each a commit of its own beside one of another
/// log, and the disk that counts its reads.
fn made(bodies: &[usize]) -> (Store, Watched) {
    let disk = Watched::new(SimDisk::new(1));
    let (mut store, _) = Store::open(Arc::new(disk.clone()), Options::default()).expect("opened");
    store
        .commit(&[kind(), claim(log(0), 1), claim(log(1), 1)])
        .expect("claimed");
    for (position, bytes) in (1..).zip(bodies) {
        let append = |shard| Change::Append {
            log: log(shard),
            epoch: 1,
            records: vec![record(position, *bytes)],
        };
        store.commit(&[append(0), append(1)]).expect("written");
    }
    (store, disk)
}

fn all() -> Page {
    Page {
        records: usize::MAX,
        bytes: usize::MAX,
    }
}

#[test]
fn records_that_lie_close_together_are_read_at_once() {
    let bodies = [100; 1000];
    let (store, disk) = made(&bodies);
    let reader = store.reader();
    for (after, most) in [(0, 5), (500, 3), (998, 1)] {
        let before = disk.counts.reads();
        let read = reader.read_log(log(0), after, all()).expect("readable");
        let expected: Vec<_> = (after + 1..=1000).map(|at| record(at, 100)).collect();
        assert_eq!(read, expected);
        let reads = disk.counts.reads() - before;
        assert!((1..=most).contains(&reads), "{reads} reads after {after}");
    }
    let before = disk.counts.reads();
    let read = reader.read_entity(log(0), "ada", 0, all());
    assert_eq!(read.expect("readable").len(), 1000);
    assert!(disk.counts.reads() - before <= 5);
}

#[test]
fn what_lies_between_records_is_not_read_if_it_is_long() {
    // The record of the other log, which is as long, is between two of them.
    let bodies = [10, 100_000, 20, 5000, 30, 30, 200_000, 40];
    let (store, disk) = made(&bodies);
    let before = disk.counts.reads();
    let read = store.reader().read_log(log(0), 0, all()).expect("readable");
    let expected = (1..).zip(bodies).map(|(at, bytes)| record(at, bytes));
    assert_eq!(read, expected.collect::<Vec<_>>());
    assert_eq!(disk.counts.reads() - before, 5);
}
