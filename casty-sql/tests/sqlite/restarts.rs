//! Sends and reminders are found in the file.

use casty_sql::Sqlite;

use crate::support::restarts;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_and_reminders_survive_restarts_and_need_no_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let open = async || Sqlite::open(&path).await.expect("opened");
    restarts::all_is_taken_once_after_restarts(open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_and_reminders_survive_a_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("casty.db");
    let open = async || Sqlite::open(&path).await.expect("opened");
    restarts::all_is_taken_once_after_a_node_died(open).await;
}
