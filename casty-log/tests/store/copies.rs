//! What a store that copies the log of another one needs.

use std::sync::Arc;

use bytes::Bytes;
use casty_log::{Change, Done, Page, Run, Snapshot, Store, StoredEntity, disk::SimDisk};

use crate::{
    faults::{append, record},
    workload::{claim, kind, log, small},
};

fn snapshot(seq: u64) -> Snapshot {
    let (at, body) = (seq, Bytes::from_static(b"state"));
    Snapshot { seq, at, body }
}

fn copy(epoch: u64, entity: &str, seq: u64) -> Change {
    Change::Copy {
        log: log(0),
        epoch,
        entity: entity.into(),
        snapshot: snapshot(seq),
    }
}

fn save(seq: u64) -> Change {
    Change::Save {
        log: log(0),
        epoch: 1,
        entity: "ada".into(),
        snapshot: snapshot(seq),
    }
}

fn started() -> (Store, SimDisk) {
    let disk = SimDisk::new(5);
    let (mut store, _) = Store::open(Arc::new(disk.clone()), small()).expect("opened");
    store.commit(&[kind(), claim(log(0), 1)]).expect("claimed");
    (store, disk)
}

#[test]
fn a_snapshot_is_copied_before_the_records_that_it_contains() {
    let (mut store, disk) = started();
    let stored = |store: &Store| store.reader().snapshot(log(0), "ada").expect("readable");
    let done = store.commit(&[save(3)]).expect("answered");
    assert_eq!(done, [Done::Refused], "the records are not there");
    let cut = Change::Cut {
        log: log(0),
        epoch: 1,
        after: 0,
    };
    let changes = [append(1, 10), cut, copy(1, "ada", 3), append(1, 10)];
    let done = store.commit(&changes).expect("written");
    assert_eq!(done, vec![Done::Written; 4]);
    assert_eq!(stored(&store), Some(snapshot(3)));
    let (entity, seq, at) = ("ada".into(), 3, 3);
    let entities = store.reader().entities(log(0), None, 9);
    assert_eq!(entities, Ok(vec![StoredEntity { entity, seq, at }]));
    for (change, expected) in [
        (copy(2, "ada", 4), Done::Refused),
        (copy(1, "ada", 3), Done::Refused),
        (copy(1, "ada", 2), Done::Refused),
        (copy(1, "ada", 4), Done::Written),
    ] {
        let done = store.commit(std::slice::from_ref(&change));
        assert_eq!(done, Ok(vec![expected]), "{change:?}");
    }
    drop(store);
    disk.crash();
    let (store, _) = Store::open(Arc::new(disk), small()).expect("opened again");
    assert_eq!(stored(&store), Some(snapshot(4)));
}

#[test]
fn a_snapshot_is_copied_and_forgotten_in_one_commit() {
    let (mut store, _) = started();
    let forget = Change::Forget {
        log: log(0),
        epoch: 1,
        entity: "bob".into(),
        through: 3,
        snapshot: true,
    };
    let done = store.commit(&[copy(1, "bob", 3), forget]).expect("written");
    assert_eq!(done, [Done::Written, Done::Written]);
    assert_eq!(store.reader().snapshot(log(0), "bob"), Ok(None));
}

#[test]
fn a_log_that_is_cleared_has_no_record_and_no_snapshot_and_begins_anew() {
    let (mut store, disk) = started();
    let records = vec![append(1, 10), copy(1, "ada", 3)];
    let done = store.commit(&records).expect("written");
    assert_eq!(done, [Done::Written, Done::Written]);
    let clear = |epoch| Change::Clear { log: log(0), epoch };
    // What is of the same commit is cleared as well, and what comes after it stays.
    let changes = [
        clear(2),
        copy(1, "bob", 9),
        clear(1),
        append(1, 10),
        copy(1, "ada", 2),
    ];
    let done = store.commit(&changes).expect("written");
    let mut expected = vec![Done::Written; 5];
    expected[0] = Done::Refused;
    assert_eq!(done, expected);
    let look = |store: &Store| {
        let reader = store.reader();
        let snapshot = |entity| reader.snapshot(log(0), entity).expect("readable");
        let position = reader.head(log(0)).position;
        (position, snapshot("ada"), snapshot("bob"))
    };
    let left = (1, Some(snapshot(2)), None);
    assert_eq!(look(&store), left);
    drop(store);
    disk.crash();
    let (mut store, _) = Store::open(Arc::new(disk), small()).expect("opened again");
    assert_eq!(look(&store), left);
    let (epoch, through) = (1, 1);
    let trim = Change::Trim {
        log: log(0),
        epoch,
        through,
    };
    let done = store.commit(&[trim]).expect("trimmed");
    assert_eq!(done, [Done::Written]);
    let done = store.commit(&[clear(1)]).expect("answered");
    assert_eq!(done, [Done::Refused]);
}

#[test]
fn what_no_snapshot_contains_is_not_forgotten_for_it() {
    let (mut store, _) = started();
    let records = (1..=4).map(|at| record(at, 10)).collect::<Vec<_>>();
    let entity = records[0].entity.clone();
    let forget = Change::ForgetContained {
        log: log(0),
        epoch: 1,
        entity: entity.clone(),
        through: 4,
    };
    let append = Change::Append {
        log: log(0),
        epoch: 1,
        records,
    };
    let done = store.commit(&[append, forget.clone()]).expect("written");
    assert_eq!(done, [Done::Written, Done::Refused]);
    let done = store.commit(&[copy(1, &entity, 2), forget]);
    assert_eq!(done, Ok(vec![Done::Written, Done::Written]));
    let read = store.reader().read_log(log(0), 0, Page::default());
    let of_entity = read.expect("readable").into_iter();
    let of_entity = of_entity.filter(|record| record.entity == entity);
    for record in of_entity {
        assert_eq!(record.body.is_empty(), record.seq <= 2, "{record:?}");
    }
}

#[test]
fn the_epochs_of_a_log_are_known_without_its_records() {
    let (mut store, disk) = started();
    let mut records: Vec<_> = (1..=6).map(|at| record(at, 10)).collect();
    for (record, epoch) in records.iter_mut().zip([1, 1, 1, 4, 4, 9]) {
        record.epoch = epoch;
    }
    let append = Change::Append {
        log: log(0),
        epoch: 1,
        records,
    };
    store.commit(&[append]).expect("written");
    let run = |last, epoch| Run { last, epoch };
    assert_eq!(
        store.reader().runs(log(0)),
        [run(3, 1), run(5, 4), run(6, 9)]
    );
    let (epoch, log) = (1, log(0));
    let (through, after) = (2, 4);
    store
        .commit(&[Change::Trim {
            log,
            epoch,
            through,
        }])
        .expect("trimmed");
    store
        .commit(&[Change::Cut { log, epoch, after }])
        .expect("cut");
    let left = [run(2, 1), run(3, 1), run(4, 4)];
    assert_eq!(store.reader().runs(log), left);
    let epochs = (1..=5).map(|position| store.reader().epoch_at(log, position));
    let expected = [None, Some(1), Some(1), Some(4), None];
    assert_eq!(epochs.collect::<Vec<_>>(), expected);
    drop(store);
    disk.crash();
    let (store, _) = Store::open(Arc::new(disk), small()).expect("opened again");
    assert_eq!(store.reader().runs(log), left);
}

/// Two stores with the same records: whatever was done to them in between, the sums are equal if
/// and only if the same is forgotten and the same snapshots are there.
#[test]
fn stores_in_which_the_same_is_tidied_have_the_same_sum() {
    let forget = |through, snapshot| Change::Forget {
        log: log(0),
        epoch: 1,
        entity: "ada".into(),
        through,
        snapshot,
    };
    let (mut one, disk) = started();
    let (mut other, _) = started();
    let sum = |store: &Store| store.reader().tidied(log(0));
    let steps = [
        (append(1, 10), append(1, 10)),
        (append(2, 10), append(2, 10)),
        (append(3, 10), append(3, 10)),
        // Both come to the same by different ways.
        (save(2), forget(1, false)),
        (forget(2, false), save(2)),
        (save(3), forget(2, false)),
        (forget(3, true), save(3)),
        (append(4, 10), append(4, 10)),
    ];
    let (mut sums, mut differed) = (Vec::new(), 0);
    for (here, there) in steps {
        one.commit(&[here]).expect("written");
        other.commit(&[there]).expect("written");
        let tidied = [&one, &other].map(|store| store.reader().tidied_after(log(0), None, 9));
        assert_eq!(
            sum(&one) == sum(&other),
            tidied[0] == tidied[1],
            "{tidied:?}"
        );
        differed += u32::from(tidied[0] != tidied[1]);
        sums.push(sum(&one));
    }
    assert!(differed >= 3, "{differed}");
    other.commit(&[forget(3, true)]).expect("written");
    assert_eq!(sum(&one), sum(&other));
    assert_ne!(sum(&one), 0);
    // Read from the disk it is the same, and what is cut is nothing any more.
    drop(one);
    disk.crash();
    let (mut one, _) = Store::open(Arc::new(disk), small()).expect("opened again");
    assert_eq!(sum(&one), sum(&other));
    let (log, epoch, after) = (log(0), 1, 0);
    one.commit(&[Change::Cut { log, epoch, after }])
        .expect("cut");
    assert_eq!(sum(&one), 0);
}

#[test]
fn a_snapshot_that_comes_late_does_not_bring_back_what_was_erased() {
    let (mut store, _) = started();
    store
        .commit(&[append(1, 10), append(2, 10)])
        .expect("written");
    let erase = Change::Forget {
        log: log(0),
        epoch: 1,
        entity: "ada".into(),
        through: 2,
        snapshot: true,
    };
    let done = store.commit(&[copy(1, "ada", 1), erase, copy(1, "ada", 2)]);
    let expected = [Done::Written, Done::Written, Done::Refused];
    assert_eq!(done, Ok(expected.to_vec()));
    let late = store.commit(&[copy(1, "ada", 1)]);
    assert_eq!(late, Ok(vec![Done::Refused]));
    assert_eq!(store.reader().snapshot(log(0), "ada"), Ok(None));
}
