//! How much room a store takes.

use std::sync::Arc;

use casty_log::{Change, Snapshot, Store, disk::SimDisk};

use crate::{
    faults::{append, record},
    model::Model,
    workload::{Random, claim, kind, log},
};

fn options() -> casty_log::Options {
    let mut options = casty_log::Options::default();
    options.segment_bytes = 64 * 1024;
    options
}

/// Twice what is needed, four segments, and what is appended while segments are copied.
fn bound(live: u64) -> u64 {
    2 * live + live / 2 + 6 * options().segment_bytes
}

#[test]
fn the_disk_has_a_small_multiple_of_what_is_needed() {
    let disk = SimDisk::new(1);
    let (mut store, _) = Store::open(Arc::new(disk.clone()), options()).expect("opened");
    let mut model = Model::default();
    let mut random = Random::new(1);
    let mut commit = |store: &mut Store, changes: Vec<Change>| {
        store.commit(&changes).expect("written");
        model.commit(&changes);
        let usage = store.usage();
        assert!(usage.disk_bytes <= bound(usage.live_bytes), "{usage:?}");
        assert!(disk.used() <= usage.disk_bytes + 1024, "{usage:?}");
    };
    commit(&mut store, vec![kind(), claim(log(0), 1), claim(log(1), 1)]);
    // A log that is never touched again holds nothing back.
    let cold = Change::Append {
        log: log(1),
        epoch: 1,
        records: (1..=200).map(|position| record(position, 500)).collect(),
    };
    commit(&mut store, vec![cold]);
    for position in 1..=4000 {
        let mut changes = vec![append(position, 200)];
        if position % 10 == 0 {
            changes.push(Change::Save {
                log: log(0),
                epoch: 1,
                entity: "ada".into(),
                snapshot: Snapshot {
                    seq: position,
                    at: 0,
                    body: vec![9; 1000].into(),
                },
            });
        }
        // The newest hundred stay, and of the older ones only that they were there.
        if position % 50 == 0 {
            changes.push(Change::Forget {
                log: log(0),
                epoch: 1,
                entity: "ada".into(),
                through: position.saturating_sub(100),
                snapshot: false,
            });
        }
        if random.below(1000) == 0 {
            changes.push(Change::Trim {
                log: log(0),
                epoch: 1,
                through: position / 2,
            });
        }
        commit(&mut store, changes);
        let _ = store.make_spare();
    }
    while store.maintain().expect("maintained") {}
    model.compare(&store.reader()).expect("as the model");
    store.close().expect("closed");
    let (store, _) = Store::open(Arc::new(disk.clone()), options()).expect("opened again");
    model.compare(&store.reader()).expect("as the model");
    let usage = store.usage();
    assert!(disk.used() <= usage.disk_bytes + 1024);
    assert!(usage.disk_bytes <= bound(usage.live_bytes), "{usage:?}");
}

#[test]
fn nothing_is_copied_again_and_again_while_nothing_changes() {
    let disk = SimDisk::new(1);
    let (mut store, _) = Store::open(Arc::new(disk.clone()), options()).expect("opened");
    store.commit(&[kind(), claim(log(0), 1)]).expect("claimed");
    for position in 1..=2000 {
        store.commit(&[append(position, 200)]).expect("written");
    }
    let forget = Change::Forget {
        log: log(0),
        epoch: 1,
        entity: "ada".into(),
        through: 1800,
        snapshot: false,
    };
    store.commit(&[forget]).expect("forgotten");
    let mut steps = 0;
    while store.maintain().expect("maintained") {
        steps += 1;
        assert!(steps < 100, "it does not end");
    }
    let before = disk.operations();
    assert!(!store.maintain().expect("maintained"));
    assert_eq!(disk.operations(), before);
}
