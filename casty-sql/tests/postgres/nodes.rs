//! Nodes are killed while their entities are stored.

use casty_sql::Postgres;

use crate::support::{
    child::work,
    ledger::{kill_nodes, note_until_killed},
    postgres::shared,
};

#[tokio::test]
async fn child() {
    let Some(work) = work() else { return };
    let options = Postgres::options(&work[0]).prefix("nodes_");
    let store = options.connect().await.expect("connected");
    note_until_killed(store, work[1].parse().expect("a number")).await;
}

#[tokio::test]
async fn what_nodes_confirmed_is_stored_once_after_they_were_killed() {
    let Some(server) = shared().await else {
        return;
    };
    let connect = || async {
        let options = Postgres::options(server.url()).prefix("nodes_");
        options.connect().await.expect("connected")
    };
    kill_nodes("nodes::child", &server.url(), connect).await;
}
