//! Nodes are killed while their entities are stored.

use casty_sql::Sqlite;

use crate::support::{
    child::work,
    ledger::{kill_nodes, note_until_killed},
};

#[tokio::test]
async fn child() {
    let Some(work) = work() else { return };
    let store = Sqlite::open(&work[0]).await.expect("opened");
    note_until_killed(store, work[1].parse().expect("a number")).await;
}

#[tokio::test]
async fn what_nodes_confirmed_is_stored_once_after_they_were_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let text = path.to_str().expect("text");
    let open = || async { Sqlite::open(&path).await.expect("opened") };
    kill_nodes("nodes::child", text, open).await;
}
