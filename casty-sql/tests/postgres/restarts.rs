//! Sends and reminders are found in the database.

use casty_sql::Postgres;

use crate::support::{postgres::shared, restarts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_and_reminders_survive_restarts_and_need_no_message() {
    let Some(server) = shared().await else {
        return;
    };
    let connect = async || {
        let options = Postgres::options(server.url()).prefix("restarts_");
        options.connect().await.expect("connected")
    };
    restarts::all_is_taken_once_after_restarts(connect).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_and_reminders_survive_a_node() {
    let Some(server) = shared().await else {
        return;
    };
    let connect = async || {
        let options = Postgres::options(server.url()).prefix("death_");
        options.connect().await.expect("connected")
    };
    restarts::all_is_taken_once_after_a_node_died(connect).await;
}
