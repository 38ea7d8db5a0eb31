//! Views in a database of PostgreSQL, which the tests start themselves.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use casty::{persistence::Memory, prelude::*, projection::projection, testkit::soon};
use casty_sql::projection::{PostgresTransaction, PostgresViews};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{
    ADD, ALL, TABLE, check, contract, note,
    support::{
        ledger::Ledger,
        postgres::{Server, shared},
    },
    wait_for,
};

#[derive(Clone)]
struct Tally {
    views: PostgresViews,
    /// So many handlers end their own connection, in their transaction.
    breaks: Arc<AtomicU64>,
}

#[projection(of = Ledger, name = "tally")]
impl Tally {
    #[store]
    fn views(&self) -> &PostgresViews {
        &self.views
    }

    #[on]
    async fn noted(
        &mut self,
        number: u64,
        tx: &mut PostgresTransaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let add = sqlx::query(ADD).bind(number.cast_signed());
        add.execute(&mut **tx).await?;
        let less = |left: u64| left.checked_sub(1);
        let breaks = self
            .breaks
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if breaks.is_ok() {
            let end = "SELECT pg_terminate_backend(pg_backend_pid())";
            sqlx::query(end).execute(&mut **tx).await?;
        }
        Ok(())
    }
}

async fn pool(server: &Server, database: &str) -> PgPool {
    let admin = PgPool::connect(&server.url()).await.expect("connected");
    let make = sqlx::AssertSqlSafe(format!("CREATE DATABASE {database}"));
    sqlx::query(make).execute(&admin).await.expect("a database");
    admin.close().await;
    let url = server.url().replace("/postgres?", &format!("/{database}?"));
    let options = PgPoolOptions::new().acquire_timeout(Duration::from_secs(2));
    let pool = options.connect(&url).await.expect("connected");
    sqlx::query(TABLE).execute(&pool).await.expect("a table");
    pool
}

async fn all(pool: &PgPool) -> Vec<i64> {
    let all = sqlx::query_scalar(ALL).fetch_all(pool).await;
    all.expect("the view")
}

#[tokio::test]
async fn the_contract_is_kept() {
    let Some(server) = shared().await else { return };
    let pool = pool(&server, "contract").await;
    let parked = async || {
        let parked = sqlx::query_as("SELECT entity, reason FROM casty_parked");
        parked.fetch_all(&pool).await.expect("the parked events")
    };
    contract::check(&PostgresViews::new(pool.clone()), parked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_dies_in_a_transaction_has_each_event_once() {
    let Some(server) = Server::start().await else {
        return;
    };
    let pool = pool(&server, "tally").await;
    let node = ActorSystem::builder("tally").journal(Memory::new());
    let node = node.start_local().expect("started");
    let breaks = Arc::new(AtomicU64::new(10));
    let tally = Tally {
        views: PostgresViews::new(pool.clone()),
        breaks: breaks.clone(),
    };
    let tally = node.project(tally).await.expect("it starts");
    wait_for(&tally, note(&node, 0..200).await).await;
    assert_eq!(breaks.load(Ordering::SeqCst), 0, "connections have ended");
    check(all(&pool).await, 200);
    let noted = note(&node, 200..300).await;
    server.kill();
    // The journal is another store, so entities go on.
    let later = note(&node, 300..400).await;
    server.launch().await;
    wait_for(&tally, noted).await;
    wait_for(&tally, later).await;
    soon("all of it", tally.caught_up())
        .await
        .expect("all of it");
    check(all(&pool).await, 400);
    node.shutdown().await.expect("ended");
}
