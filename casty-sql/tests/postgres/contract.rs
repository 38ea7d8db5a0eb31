//! What every store promises, and what this one adds.

use std::{sync::Arc, time::Duration};

use casty::{
    id::{EntityId, Epoch},
    persistence::{AppendError, Appended, Journal, Page, Snapshot, suite::Suite},
    testkit::eventually,
};
use casty_sql::{OpenError, Postgres};
use futures_util::future::{Either, join, select};
use sqlx::{Connection as _, PgConnection};

use crate::{
    faults::tell,
    support::{
        append, kinds, like_memory, log,
        postgres::{Server, shared},
        repeat_a_log,
    },
};

#[tokio::test]
async fn it_passes_the_suite() {
    let Some(server) = shared().await else { return };
    let url = server.url();
    let suite = Suite::new(move || {
        let options = Postgres::options(&url).prefix("suite_").connections(3);
        async { Arc::new(options.connect().await.expect("connected")) as Arc<dyn Journal> }
    });
    suite.check().await;
}

#[tokio::test]
async fn it_does_what_memory_does() {
    let Some(server) = shared().await else { return };
    for seed in 0..4 {
        let options = Postgres::options(server.url()).prefix(format!("memory{seed}_"));
        let store = options.connect().await.expect("connected");
        like_memory::compare(&store, seed, 400).await;
    }
}

#[tokio::test]
async fn applications_with_prefixes_of_their_own_share_a_database() {
    let Some(server) = shared().await else { return };
    let (orders, stock) = (
        Postgres::options(server.url())
            .prefix("orders_")
            .connect()
            .await,
        Postgres::options(server.url())
            .prefix("stock_")
            .connect()
            .await,
    );
    let (orders, stock) = (orders.expect("connected"), stock.expect("connected"));
    for store in [&orders, &stock] {
        store.open(&kinds()).await.expect("opened");
        assert_eq!(store.claim(&log(0), Epoch(1), "node").await, Ok(0));
    }
    let written = orders.append(vec![append(0, 1, Epoch(1), "a", 1)]).await;
    assert_eq!(written, Ok(vec![Appended::Written]));
    let of_stock = stock.read_log(&log(0), 0, Page::default()).await;
    assert_eq!(of_stock, Ok(Vec::new()));
    assert!(
        orders.describe().ends_with("/postgres, tables `orders_*`"),
        "{orders:?}"
    );
}

#[tokio::test]
async fn processes_that_start_at_once_make_the_tables_once() {
    let Some(server) = shared().await else { return };
    let start = || Postgres::options(server.url()).prefix("atonce_").connect();
    let started = futures_util::future::join_all((0..8).map(|_| start())).await;
    for store in started {
        store
            .expect("connected")
            .open(&kinds())
            .await
            .expect("opened");
    }
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_what_to_do() {
    let Some(server) = shared().await else { return };
    let url = server.url();
    let error = |result: Result<Postgres, OpenError>| result.expect_err("refused").to_string();
    let prefix = Postgres::options(&url).prefix("Orders-").connect().await;
    assert!(error(prefix).starts_with("`Orders-` cannot begin the names of tables; use lowercase"));
    let not_a_url = error(Postgres::connect("mysql//nowhere:secret@x").await);
    assert!(
        not_a_url.contains("its form is postgres://user:password@host"),
        "{not_a_url}"
    );
    assert!(!not_a_url.contains("secret"), "{not_a_url}");
    let missing = Postgres::connect(url.replace("/postgres?", "/missing?")).await;
    assert!(error(missing).contains("\"missing\" does not exist [3D000]; create the database"));
    let nobody = Postgres::connect(url.replace("casty@", "nobody@")).await;
    assert!(error(nobody).contains("check user and password"));
    let nowhere = Postgres::connect("postgres://casty@localhost/postgres?host=/nowhere").await;
    assert!(matches!(nowhere, Err(OpenError::Unavailable { .. })));
}

const WAITING: &str = "SELECT pid::int8 FROM pg_stat_activity \
     WHERE wait_event_type = 'Lock' AND query LIKE '%late\\_%'";

/// Resolves once so many statements of the store wait for a lock.
async fn waiting(server: &Server, count: usize) {
    let ask = || tell(server, WAITING);
    eventually("a lock is waited for", ask, |pids| pids.len() >= count).await;
}

/// A transaction of the test's own.
async fn begin(server: &Server, sql: &'static str) -> PgConnection {
    let mut holder = PgConnection::connect(&server.url())
        .await
        .expect("connected");
    end(&mut holder, "BEGIN").await;
    end(&mut holder, sql).await;
    holder
}

async fn end(holder: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(holder).await.expect("done");
}

#[tokio::test]
async fn a_snapshot_that_is_on_its_way_does_not_outlive_what_it_contains() {
    let Some(server) = shared().await else { return };
    let options = Postgres::options(server.url()).prefix("late_");
    let store = options.connect().await.expect("connected");
    store.open(&kinds()).await.expect("opened");
    let (log, one, id) = (log(0), Epoch(1), EntityId::new("a"));
    assert_eq!(store.claim(&log, one, "node").await, Ok(0));
    for seq in 1..=4 {
        let written = store.append(vec![append(0, seq, one, "a", seq)]).await;
        assert_eq!(written, Ok(vec![Appended::Written]));
    }
    let save = |seq| {
        let body = b"state".as_slice().into();
        store.save(&log, one, &id, Snapshot { seq, at: 1, body })
    };

    // Another snapshot is being saved, so this one waits in the middle.
    let sql = "INSERT INTO late_state SELECT kind, shard, 'a', 0, 0, '' FROM late_shard";
    let mut holder = begin(&server, sql).await;
    let erased = async {
        waiting(&server, 1).await;
        let forget = store.forget(&log, one, &id, 2, true);
        match select(forget, Box::pin(waiting(&server, 2))).await {
            Either::Left((forgotten, _)) => {
                end(&mut holder, "ROLLBACK").await;
                forgotten
            }
            Either::Right(((), forget)) => {
                end(&mut holder, "ROLLBACK").await;
                forget.await
            }
        }
    };
    assert_eq!(join(save(2), erased).await, (Ok(()), Ok(())));
    assert_eq!(store.load(&log, &id).await, Ok(None), "saved before");

    // The records are being forgotten.
    let mut holder = begin(&server, "UPDATE late_record SET body = '' WHERE seq <= 4").await;
    let forgotten = async {
        waiting(&server, 1).await;
        end(&mut holder, "COMMIT").await;
    };
    assert_eq!(join(save(4), forgotten).await.0, Ok(()));
    assert_eq!(store.load(&log, &id).await, Ok(None), "saved after");
}

#[tokio::test]
async fn a_log_that_occurs_twice_in_a_batch_stays_whole() {
    let Some(server) = shared().await else { return };
    let store = Postgres::options(server.url()).prefix("twice_").connect();
    repeat_a_log(&store.await.expect("connected")).await;
}

#[tokio::test]
async fn settings_beyond_what_a_server_takes_are_cut_to_that() {
    let Some(server) = shared().await else { return };
    let options = Postgres::options(server.url()).prefix("most_");
    let options = options
        .connections(usize::MAX)
        .connect_timeout(Duration::MAX)
        .statement_timeout(Duration::MAX);
    let store = options.connect().await.expect("connected");
    store.open(&kinds()).await.expect("opened");
}

/// As after the server has become a standby, and another one has taken its address.
#[tokio::test]
async fn a_connection_that_may_only_read_is_not_kept() {
    let Some(server) = shared().await else { return };
    tell(&server, "CREATE DATABASE turns").await;
    let url = server.url().replace("/postgres?", "/turns?");
    let store = Postgres::connect(url).await.expect("connected");
    store.open(&kinds()).await.expect("opened");
    assert_eq!(store.claim(&log(0), Epoch(1), "node").await, Ok(0));
    let batch = || vec![append(0, 1, Epoch(1), "a", 1)];
    // Appends have a connection of their own, which is made with the first one.
    let on = "ALTER DATABASE turns SET default_transaction_read_only = on";
    tell(&server, on).await;
    let refused = store.append(batch()).await;
    let Err(AppendError::NotWritten { reason }) = refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("[25006]"), "{reason}");
    let off = "ALTER DATABASE turns RESET default_transaction_read_only";
    tell(&server, off).await;
    assert_eq!(store.append(batch()).await, Ok(vec![Appended::Written]));
}
