//! What every store promises, and what this one adds.

use std::sync::Arc;

use casty::{
    id::Epoch,
    persistence::{Appended, ClaimError, Journal, JournalError, Page, suite::Suite},
};
use casty_sql::Sqlite;

use crate::support::{all, append, kinds, like_memory, log, repeat_a_log};

#[tokio::test]
async fn it_passes_the_suite() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let suite = Suite::new(move || {
        let path = path.clone();
        async { Arc::new(Sqlite::open(path).await.expect("opened")) as Arc<dyn Journal> }
    });
    suite.check().await;
}

#[tokio::test]
async fn it_does_what_memory_does() {
    for seed in 0..4 {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(folder.path().join("casty.db"))
            .await
            .expect("opened");
        like_memory::compare(&store, seed, 400).await;
    }
}

#[tokio::test]
async fn processes_share_a_file_and_fence_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let (first, second) = (Sqlite::open(&path).await, Sqlite::open(&path).await);
    let (first, second) = (first.expect("opened"), second.expect("opened"));
    first.open(&kinds()).await.expect("opened");
    second.open(&kinds()).await.expect("opened");
    let (old, new) = (Epoch(7), Epoch(8));
    assert_eq!(first.claim(&log(1), old, "first").await, Ok(0));
    let written = first.append(vec![append(1, 1, old, "a", 1)]).await;
    assert_eq!(written, Ok(vec![Appended::Written]));
    assert_eq!(second.claim(&log(1), new, "second").await, Ok(1));
    let refused = first.append(vec![append(1, 2, old, "a", 2)]).await;
    assert_eq!(refused, Ok(vec![Appended::Refused]));
    let fenced = first.claim(&log(1), old, "first").await;
    let owner = "second".to_owned();
    assert_eq!(fenced, Err(ClaimError::Fenced { epoch: new, owner }));
    let stored = second.read_log(&log(1), 0, Page::default()).await;
    assert_eq!(stored.expect("readable").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_at_once_make_the_file_once() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("casty.db");
        let opened = futures_util::future::join_all((0..8).map(|_| Sqlite::open(&path))).await;
        for store in opened {
            store.expect("opened").open(&kinds()).await.expect("opened");
        }
    }
}

#[tokio::test]
async fn another_number_of_shards_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path().join("casty.db"))
        .await
        .expect("opened");
    store.open(&kinds()).await.expect("opened");
    let mut changed = kinds();
    changed[0].1 = changed[0].1.saturating_add(1);
    let Err(JournalError::Unusable { reason }) = store.open(&changed).await else {
        panic!("it was opened");
    };
    assert!(
        reason.contains("`Account` is stored in 16 shards and has 17 now"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_append_whose_future_is_dropped_is_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path().join("casty.db"))
        .await
        .expect("opened");
    store.open(&kinds()).await.expect("opened");
    let epoch = Epoch(3);
    let mut head = store.claim(&log(0), epoch, "node").await.expect("claimed");
    for polls in 0..40 {
        let mut unfinished = store.append(vec![append(0, head + 1, epoch, "a", head + 1)]);
        for _ in 0..polls {
            let poll = futures_util::poll!(&mut unfinished);
            if poll.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(unfinished);
        // A claim waits for what was begun, and the next append follows it.
        head = store.claim(&log(0), epoch, "node").await.expect("claimed");
        let written = store
            .append(vec![append(0, head + 1, epoch, "a", head + 1)])
            .await;
        assert_eq!(written, Ok(vec![Appended::Written]), "after {polls} polls");
        head += 1;
    }
    assert_eq!(all(&store, &log(0)).await.len() as u64, head);
}

#[tokio::test]
async fn a_log_that_occurs_twice_in_a_batch_stays_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path().join("casty.db")).await;
    repeat_a_log(&store.expect("opened")).await;
}
