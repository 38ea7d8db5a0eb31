//! Directories that are copied and moved.

use std::{fs, path::Path, sync::Arc, time::Duration};

use casty_log::{OpenError, Opened, Store, disk::Folder};

use crate::workload::{claim, kind, log, small};

fn open(path: &Path) -> Result<(Store, Opened), OpenError> {
    let mut options = small();
    // A process that another test starts has the locks of this one until it is a program.
    options.lock_wait = Duration::from_secs(20);
    Store::open(Arc::new(Folder::new(path)), options)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("made");
    for file in fs::read_dir(from).expect("a directory").flatten() {
        fs::copy(file.path(), to.join(file.file_name())).expect("copied");
    }
}

#[test]
fn a_copy_is_refused_beside_its_original_and_noticed_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let [first, second, third] = ["first", "second", "third"].map(|name| folder.path().join(name));
    let (mut store, opened) = open(&first).expect("made");
    assert!(opened.is_new && !opened.copied);
    store.commit(&[kind(), claim(log(0), 1)]).expect("claimed");
    copy(&first, &second);
    let refused = open(&second).expect_err("the original is there, and open");
    assert!(matches!(&refused, OpenError::Copied { .. }), "{refused:?}");
    assert!(refused.to_string().contains("first"), "{refused}");
    store.close().expect("closed");
    let refused = open(&second).expect_err("the original is there");
    assert!(matches!(&refused, OpenError::Copied { .. }), "{refused:?}");
    let (store, opened) = open(&first).expect("it is the original");
    assert!(!opened.copied);
    drop(store);

    fs::rename(&first, &third).expect("renamed");
    let (store, opened) = open(&third).expect("opened");
    assert!(!opened.copied, "a directory may be moved");
    drop(store);
    fs::remove_dir_all(&third).expect("removed");

    // Twice, since nobody may have acted upon the first.
    for _ in 0..2 {
        let (store, opened) = open(&second).expect("it is the only one");
        assert!(opened.copied);
        assert_eq!(store.reader().head(log(0)).epoch, 1);
    }
    let (store, _) = open(&second).expect("opened");
    store.adopt().expect("noted");
    drop(store);
    let (_, opened) = open(&second).expect("opened");
    assert!(!opened.copied);
}

#[test]
fn a_backup_that_was_restored_in_place_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let [data, backup] = ["data", "backup"].map(|name| folder.path().join(name));
    let (store, _) = open(&data).expect("made");
    store.close().expect("closed");
    copy(&data, &backup);
    fs::remove_dir_all(&data).expect("removed");
    copy(&backup, &data);
    let (_, opened) = open(&data).expect("opened");
    assert!(opened.copied && !opened.unclean);
}
