//! Crashes at each write.

use std::sync::Arc;

use casty_log::{Change, CommitError, OpenError, Opened, Store, disk::SimDisk};
use proptest::prelude::*;

use crate::{
    model::Model,
    workload::{Random, claim, commit, kind, log, small},
};

/// A store that is used until the disk goes down, and what it must know afterwards.
struct Life {
    disk: SimDisk,
    /// What was acknowledged.
    model: Model,
    /// Commits that may be there or not, as a whole.
    doubtful: Option<Vec<Change>>,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed),
            model: Model::default(),
            doubtful: None,
        }
    }

    fn open(&self) -> Result<(Store, Opened), OpenError> {
        Store::open(Arc::new(self.disk.clone()), small())
    }

    /// Opens the store, and compares it with the model.
    fn check(&mut self) -> (Store, Opened) {
        let (store, opened) = self.open().expect("a crash is no damage");
        let reader = store.reader();
        let compared = self.model.compare(&reader);
        match (compared, self.doubtful.take()) {
            (Ok(()), _) => {}
            (Err(why), None) => panic!("{why}"),
            (Err(without), Some(changes)) => {
                self.model.commit(&changes);
                if let Err(with) = self.model.compare(&reader) {
                    panic!("neither without the last commit: {without}\nnor with it: {with}");
                }
            }
        }
        (store, opened)
    }

    /// Commits until the disk goes down, or so often. Whether it went down.
    fn work(&mut self, store: &mut Store, random: &mut Random, commits: u64) -> bool {
        for _ in 0..commits {
            let changes = match random.below(100) {
                0..3 => vec![kind(), claim(log(0), 1), claim(log(1), 1), claim(log(2), 1)],
                _ => commit(random, &self.model),
            };
            match store.commit(&changes) {
                Ok(done) => {
                    let expected = self.model.commit(&changes);
                    for ((done, expected), change) in done.iter().zip(expected).zip(&changes) {
                        // To forget nothing may be said to be refused.
                        if !matches!(change, Change::Forget { .. }) {
                            assert_eq!(*done, expected, "{change:?}");
                        }
                    }
                }
                Err(CommitError::NotWritten { .. }) => return true,
                Err(_) => {
                    self.doubtful = Some(changes);
                    return true;
                }
            }
            let went_on = match random.below(8) {
                0 => store.make_spare().is_ok(),
                1 => store.maintain().is_ok(),
                2 => match self.model.compare(&store.reader()) {
                    // It went down when a file was removed that is not needed.
                    Err(why) if why.contains("the disk is down") => false,
                    compared => {
                        compared.expect("as the model");
                        true
                    }
                },
                _ => true,
            };
            if !went_on {
                return true;
            }
        }
        false
    }
}

/// Crashes at this operation, counted from the start; then several times more, in a new life each.
fn run(seed: u64, first: u64, lives: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut life = Life::new(seed);
    life.disk.crash_at(first);
    if let Ok((mut store, _)) = life.open() {
        life.work(&mut store, &mut random, 150);
    }
    let operations = life.disk.operations();
    for _ in 0..lives {
        if random.below(3) == 0 {
            life.disk.kill();
        } else {
            life.disk.crash();
        }
        let (mut store, opened) = life.check();
        assert!(opened.is_new || opened.unclean);
        life.disk
            .crash_at(life.disk.operations() + 1 + random.below(120));
        let is_down = life.work(&mut store, &mut random, 60);
        if !is_down && store.close().is_ok() {
            // The mark has been synced.
            life.disk.kill();
            let (store, opened) = life.check();
            assert!(!opened.unclean);
            drop(store);
        }
    }
    operations
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash_at_each_write() {
    let all = run(0, u64::MAX, 0);
    assert!(all > 300, "{all} operations");
    for operation in 1..=all {
        run(0, operation, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_was_acknowledged_is_there_after_many_crashes(seed: u64, first in 1_u64..400) {
        run(seed, first, 6);
    }
}

/// The disk confirms nothing while a sync fails. What is read back after that must be written
/// again, or the next crash takes it away.
#[test]
fn what_was_read_after_a_failed_sync_outlives_a_crash() {
    use casty_log::disk::Fault;

    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut life = Life::new(seed);
        let (mut store, _) = life.open().expect("opened");
        let claims = [kind(), claim(log(0), 1), claim(log(1), 1), claim(log(2), 1)];
        store.commit(&claims).expect("claimed");
        life.model.commit(&claims);
        life.work(&mut store, &mut random, 5);
        life.disk.fail_syncs(Some(Fault::Io));
        // Or no segment can be made.
        while !life.work(&mut store, &mut random, 5) {}
        life.disk.fail_syncs(None);
        drop(store);
        let (store, _) = life.check();
        drop(store);
        life.disk.crash();
        let (store, _) = life.check();
        drop(store);
    }
}
