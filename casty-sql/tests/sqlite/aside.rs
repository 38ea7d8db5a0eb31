//! Snapshots beside records: in whose transaction they are.

use std::{fs, path::Path};

use casty::{
    id::{EntityId, Epoch},
    persistence::{Append, Appended, Journal, JournalError, Page, Snapshot},
};
use casty_sql::Sqlite;

use crate::support::{append, kinds, log, record};

const EPOCH: Epoch = Epoch(1);

async fn start(path: &Path) -> Sqlite {
    let store = Sqlite::open(path).await.expect("opened");
    store.open(&kinds()).await.expect("opened");
    store.claim(&log(0), EPOCH, "node").await.expect("claimed");
    store
}

fn snapshot(seq: u64) -> Snapshot {
    Snapshot {
        seq,
        at: seq,
        body: vec![7; 100].into(),
    }
}

/// A batch of so many records after this one.
fn batch(head: u64, records: u64) -> Vec<Append> {
    let records = (head + 1..=head + records).map(|number| record(number, EPOCH, "a", number));
    let mut batch = vec![append(0, head + 1, EPOCH, "a", head + 1)];
    batch[0].records = records.collect();
    batch
}

/// How many commits are in the log of a file that was not copied into the file yet. The last page
/// of each says how many pages the file has.
fn commits(path: &Path) -> usize {
    let log = fs::read(path.with_extension("db-wal")).expect("readable");
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
    let page = number(&log[8..12]) as usize;
    let salt = &log[16..24];
    let pages = log[32..].chunks_exact(24 + page);
    let pages = pages.filter(|frame| &frame[8..16] == salt);
    pages.filter(|frame| number(&frame[4..8]) > 0).count()
}

#[tokio::test]
async fn a_snapshot_needs_no_commit_of_its_own_while_records_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let store = start(&path).await;
    assert_eq!(store.append(batch(0, 2)).await, Ok(vec![Appended::Written]));
    let (log, id, before) = (log(0), EntityId::new("a"), commits(&path));
    for (head, records) in [(2, 1), (3, 40)] {
        let (saved, appended) = tokio::join!(
            store.save(&log, EPOCH, &id, snapshot(head)),
            store.append(batch(head, records))
        );
        assert_eq!(saved, Ok(()));
        assert_eq!(appended, Ok(vec![Appended::Written]));
        let stored = store.load(&log, &id).await;
        assert_eq!(stored, Ok(Some(snapshot(head))));
    }
    assert_eq!(commits(&path), before + 2);
    assert_eq!(store.forget(&log, EPOCH, &id, 3, true).await, Ok(()));
    assert_eq!(commits(&path), before + 3, "alone");
    assert_eq!(store.load(&log, &id).await, Ok(None));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_keeps_no_record_from_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let store = start(&path).await;
    assert_eq!(store.append(batch(0, 1)).await, Ok(vec![Appended::Written]));
    let file = rusqlite::Connection::open(&path).expect("opened");
    file.execute_batch(
        "CREATE TRIGGER refuses BEFORE INSERT ON casty_state WHEN NEW.seq = 1
         BEGIN SELECT RAISE(ABORT, 'no room for it'); END",
    )
    .expect("made");
    let (log, a, b) = (log(0), EntityId::new("a"), EntityId::new("b"));
    let mut records = batch(1, 1);
    records[0].records.push(record(3, EPOCH, "b", 1));
    let (refused, none, appended) = tokio::join!(
        store.save(&log, EPOCH, &a, snapshot(1)),
        store.save(&log, EPOCH, &b, snapshot(9)),
        store.append(records)
    );
    assert_eq!(appended, Ok(vec![Appended::Written]));
    let Err(JournalError::Unavailable { reason }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("no room for it"), "{reason}");
    // There is no record of it, so it changes nothing, but it is none of its errors.
    assert_eq!(none, Ok(()));
    assert_eq!(store.load(&log, &b).await, Ok(None));
    // Nor does it when the part is refused.
    let (saved, appended) = tokio::join!(
        store.save(&log, EPOCH, &a, snapshot(2)),
        store.append(batch(1, 1))
    );
    assert_eq!((saved, appended), (Ok(()), Ok(vec![Appended::Refused])));
    assert_eq!(store.load(&log, &a).await, Ok(Some(snapshot(2))));
}

#[tokio::test]
async fn a_snapshot_whose_future_is_dropped_while_it_waits_has_no_effect() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = start(&folder.path().join("casty.db")).await;
    assert_eq!(store.append(batch(0, 1)).await, Ok(vec![Appended::Written]));
    let (log, id) = (log(0), EntityId::new("a"));
    let mut save = store.save(&log, EPOCH, &id, snapshot(1));
    assert!(futures_util::poll!(&mut save).is_pending());
    drop(save);
    assert_eq!(store.append(batch(1, 1)).await, Ok(vec![Appended::Written]));
    assert_eq!(store.load(&log, &id).await, Ok(None));
}

/// Bodies of all sizes, with all bytes. A file may store texts otherwise.
#[tokio::test]
async fn a_page_has_the_bodies_as_they_were_written() {
    for encoding in ["UTF-8", "UTF-16le"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("casty.db");
        let file = rusqlite::Connection::open(&path).expect("opened");
        let made = format!("PRAGMA encoding = '{encoding}'; CREATE TABLE other (it)");
        file.execute_batch(&made).expect("made");
        let store = start(&path).await;
        let mut batch = batch(0, 60);
        for (number, record) in batch[0].records.iter_mut().enumerate() {
            // At 40 each page begins with a large one.
            let length = if number < 20 { number * 5 } else { number * 40 };
            let bytes = (0..length).map(|byte| ((byte * 7 + number) % 256).to_le_bytes()[0]);
            record.body = bytes.collect::<Vec<_>>().into();
        }
        // As a text in UTF-16, half a letter and a letter: it becomes as many bytes, but others.
        for record in &mut batch[0].records[7..14] {
            record.body = [0, 0xd8, 0x41, 0].repeat(5).into();
        }
        let expected = batch[0].records.clone();
        let written = store.append(batch).await;
        assert_eq!(written, Ok(vec![Appended::Written]));
        let (log, id) = (log(0), EntityId::new("a"));
        for (records, bytes) in [
            (60, 1 << 20),
            (30, 30_000),
            (7, 700),
            (3, 2),
            (9_000, 1 << 20),
        ] {
            let (page, mut read) = (Page { records, bytes }, Vec::new());
            while read.len() < expected.len() {
                let after = read.len() as u64;
                let some = store.read_entity(&log, &id, after, page).await;
                let some = some.expect("readable");
                let size: usize = some.iter().map(|record| record.body.len()).sum();
                assert!(some.len() == 1 || size <= bytes, "{size} in {page:?}");
                assert!((1..=records).contains(&some.len()), "{page:?}");
                read.extend(some);
            }
            assert_eq!(read, expected, "{encoding}, {page:?}");
            let none = store.read_entity(&log, &id, 60, page).await;
            assert_eq!(none, Ok(vec![]));
        }
    }
}
