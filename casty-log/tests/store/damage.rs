//! Disks that rot.

use std::sync::Arc;

use casty_log::{OpenError, ReadError, Store, disk::SimDisk};

use crate::{
    model::Model,
    workload::{Random, claim, commit, kind, log, small},
};

/// A store that was closed, or killed, and what is in it.
fn made(seed: u64, is_closed: bool) -> (SimDisk, Model) {
    let disk = SimDisk::new(seed);
    let (mut store, _) = Store::open(Arc::new(disk.clone()), small()).expect("opened");
    let (mut random, mut model) = (Random::new(seed), Model::default());
    let claims = vec![kind(), claim(log(0), 1), claim(log(1), 1), claim(log(2), 1)];
    store.commit(&claims).expect("claimed");
    model.commit(&claims);
    for _ in 0..60 {
        let changes = commit(&mut random, &model);
        store.commit(&changes).expect("written");
        model.commit(&changes);
    }
    if is_closed {
        store.close().expect("closed");
    }
    disk.kill();
    (disk, model)
}

fn segments(disk: &SimDisk) -> Vec<(String, usize)> {
    let names = casty_log::disk::Disk::names(disk).expect("names");
    let segments = names.into_iter().filter(|name| name.ends_with(".segment"));
    segments
        .map(|name| {
            let bytes = disk.contents(&name).expect("there").len();
            (name, bytes)
        })
        .collect()
}

/// The store has all that it had, or an error says where it is damaged.
fn check(disk: &SimDisk, model: &Model, context: &str) -> bool {
    match Store::open(Arc::new(disk.clone()), small()) {
        Err(OpenError::Damaged { damage, .. }) => {
            assert!(!damage.file.is_empty(), "{context}");
            true
        }
        Err(other) => panic!("{context}: {other}"),
        Ok((store, _)) => {
            if let Err(why) = model.compare(&store.reader()) {
                assert!(why.starts_with("damage in "), "{context}: {why}");
                return true;
            }
            false
        }
    }
}

#[test]
fn a_flipped_bit_is_named_or_harmless() {
    let mut noticed = 0;
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let (disk, model) = made(seed % 7, true);
        let segments = segments(&disk);
        let (name, bytes) =
            &segments[usize::try_from(random.below(segments.len() as u64)).expect("few")];
        let offset = usize::try_from(random.below(*bytes as u64)).expect("small");
        assert!(disk.flip(name, offset, u8::try_from(random.below(8)).expect("a bit")));
        let context = format!("seed {seed}, {name} at {offset}");
        noticed += u32::from(check(&disk, &model, &context));
    }
    // Most others hit spares, or what no segment needs.
    assert!(noticed > 60, "{noticed}");
}

#[test]
fn a_zeroed_page_is_named_or_harmless() {
    let mut noticed = 0;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (disk, model) = made(seed % 7, true);
        let segments = segments(&disk);
        let (name, bytes) =
            &segments[usize::try_from(random.below(segments.len() as u64)).expect("few")];
        let page = usize::try_from(random.below((*bytes / 4096) as u64)).expect("small");
        assert!(disk.zero(name, page * 4096, 4096));
        let context = format!("seed {seed}, {name}, page {page}");
        noticed += u32::from(check(&disk, &model, &context));
    }
    assert!(noticed > 60, "{noticed}");
}

/// After a crash only the last commit may be unfinished. Damage before it is none of the crash's.
#[test]
fn damage_before_the_last_commit_is_named_after_a_crash_too() {
    let mut named = 0;
    for seed in 0..7 {
        let mut random = Random::new(seed);
        for _ in 0..10 {
            let (disk, model) = made(seed, false);
            let mut segments = segments(&disk);
            segments.pop();
            let at = random.below(segments.len() as u64);
            let (name, _) = &segments[usize::try_from(at).expect("few")];
            let offset = 4096 + usize::try_from(random.below(2000)).expect("small");
            assert!(disk.flip(name, offset, 3));
            match Store::open(Arc::new(disk.clone()), small()) {
                Err(OpenError::Damaged { damage, .. }) => {
                    assert_eq!(damage.file, *name);
                    named += 1;
                }
                Err(other) => panic!("seed {seed}: {other}"),
                // The segment was not needed any more.
                Ok((store, _)) => model.compare(&store.reader()).expect("as the model"),
            }
        }
    }
    assert!(named > 30, "{named}");
}

#[test]
fn a_missing_file_is_named() {
    let (mut named, mut not_needed, mut last) = (0, 0, 0);
    for seed in 0..7 {
        let (disk, model) = made(seed, false);
        for (name, _) in segments(&disk) {
            let (disk, _) = made(seed, false);
            casty_log::disk::Disk::remove(&disk, &name).expect("removed");
            match Store::open(Arc::new(disk.clone()), small()) {
                Err(OpenError::Damaged { .. }) => named += 1,
                // Whole commits that are missing at the very end cannot be noticed.
                Ok((store, opened)) => {
                    let is_last = segments(&disk).iter().all(|(other, _)| *other < name);
                    assert!(opened.unclean);
                    // Another one was not needed any more.
                    if is_last {
                        last += 1;
                    } else {
                        not_needed += 1;
                        model.compare(&store.reader()).expect("as the model");
                    }
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(
        named > 20,
        "{named} named, {not_needed} not needed, {last} last ones"
    );
    assert!(last <= 7, "one in each store");
}

#[test]
fn commits_that_are_missing_at_the_end_are_noticed_after_a_clean_stop() {
    let (disk, _) = made(3, true);
    let mut segments = segments(&disk);
    segments.retain(|(name, bytes)| {
        let contents = disk.contents(name).expect("there");
        contents[4096..*bytes].iter().any(|byte| *byte != 0)
    });
    let (name, bytes) = segments.last().expect("one");
    assert!(disk.zero(name, 4096, bytes - 4096));
    let refused = Store::open(Arc::new(disk), small()).expect_err("refused");
    let OpenError::Damaged { damage, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        damage.what.contains("is the last that is there"),
        "{refused}"
    );
}

#[test]
fn a_record_that_rots_while_the_store_is_open_is_named_when_it_is_read() {
    let disk = SimDisk::new(1);
    let (mut store, _) = Store::open(Arc::new(disk.clone()), small()).expect("opened");
    store.commit(&[kind(), claim(log(0), 1)]).expect("claimed");
    store
        .commit(&[crate::faults::append(1, 500)])
        .expect("written");
    let (name, _) = segments(&disk).remove(0);
    let contents = disk.contents(&name).expect("there");
    let at = contents.windows(8).position(|bytes| bytes == [7; 8]);
    assert!(disk.flip(&name, at.expect("the body") + 100, 0));
    let read = store
        .reader()
        .read_log(log(0), 0, casty_log::Page::default());
    let Err(ReadError::Damaged(damage)) = read else {
        panic!("{read:?}");
    };
    assert_eq!(damage.file, name);
    assert!(damage.what.contains("has changed"), "{damage}");
}

#[test]
fn a_store_of_a_later_version_is_refused_by_its_number() {
    let (disk, _) = made(1, true);
    let mut file = b"castylog".to_vec();
    file.extend_from_slice(&9_u32.to_le_bytes());
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&crc32c::crc32c(&file).to_le_bytes());
    let store = casty_log::disk::Disk::create(&disk, "store").expect("made");
    store.write_at(&file, 0).expect("written");
    let refused = Store::open(Arc::new(disk), small()).expect_err("refused");
    assert!(
        matches!(
            refused,
            OpenError::Newer {
                found: 9,
                known: 1,
                ..
            }
        ),
        "{refused:?}"
    );
}
