//! Views in a file.

use std::path::Path;

use casty::{
    persistence::Memory,
    prelude::*,
    projection::projection,
    testkit::{self, eventually, shutdown, soon},
};
use casty_sql::{
    Sqlite,
    projection::{SqliteTransaction, SqliteViews},
};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use crate::{
    ADD, ALL, TABLE, check, contract, note,
    support::{
        Random,
        child::{ATTEMPTED, Child, STORED, say, work},
        kills,
        ledger::Ledger,
    },
    wait_for,
};

#[derive(Clone)]
struct Tally {
    views: SqliteViews,
    /// It says each number to a parent, in its transaction.
    says: bool,
}

#[projection(of = Ledger, name = "tally")]
impl Tally {
    #[store]
    fn views(&self) -> &SqliteViews {
        &self.views
    }

    #[on]
    async fn noted(
        &mut self,
        number: u64,
        tx: &mut SqliteTransaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let add = sqlx::query(ADD).bind(number.cast_signed());
        add.execute(&mut **tx).await?;
        if self.says {
            say(&[ATTEMPTED, number]);
        }
        Ok(())
    }
}

async fn pool(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await.expect("a pool");
    sqlx::query(TABLE).execute(&pool).await.expect("a table");
    pool
}

fn tally(pool: &SqlitePool, says: bool) -> Tally {
    let views = SqliteViews::new(pool.clone());
    Tally { views, says }
}

async fn all(pool: &SqlitePool) -> Vec<i64> {
    let all = sqlx::query_scalar(ALL).fetch_all(pool).await;
    all.expect("the view")
}

#[tokio::test]
async fn the_contract_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(&folder.path().join("views.db")).await;
    let parked = async || {
        let parked = sqlx::query_as("SELECT entity, reason FROM casty_parked");
        parked.fetch_all(&pool).await.expect("the parked events")
    };
    contract::check(&SqliteViews::new(pool.clone()), parked).await;
}

#[tokio::test]
async fn tables_of_a_later_version_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let pool = pool(&folder.path().join("views.db")).await;
    let node = ActorSystem::builder("tally").journal(Memory::new());
    let node = node.start_local().expect("started");
    node.project(tally(&pool, false))
        .await
        .expect("it starts")
        .stop()
        .await;
    let later = sqlx::query("INSERT INTO casty_view_schema VALUES (99, 0)");
    later.execute(&pool).await.expect("a version");
    let refused = node
        .project(tally(&pool, false))
        .await
        .expect_err("refused");
    assert!(refused.to_string().contains("have version 99"), "{refused}");
    node.shutdown().await.expect("ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_come_and_go_put_each_event_into_the_view_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("views.db");
    let (store, looks) = (Memory::new(), pool(&path).await);
    let mut nodes = testkit::cluster_of(3, |i| {
        let builder = ActorSystem::builder("tally").node_id(format!("node-{i}"));
        builder.journal(store.clone())
    })
    .await;
    let mut handles = Vec::new();
    for node in &nodes {
        handles.push(
            node.project(tally(&pool(&path).await, false))
                .await
                .expect("it starts"),
        );
    }
    wait_for(&handles[0], note(&nodes[1], 0..200).await).await;
    check(all(&looks).await, 200);
    drop(nodes.remove(2));
    handles.pop();
    let again = || async { note_one(&nodes[0], 200).await };
    eventually("the others take over", again, |noted| *noted).await;
    let mut positions = Vec::new();
    for number in 201..300 {
        let again = || async { note_one(&nodes[0], number).await };
        eventually("its owner answers", again, |noted| *noted).await;
        positions.extend(note(&nodes[0], number..number + 1).await);
    }
    wait_for(&handles[1], positions).await;
    soon("all of it", handles[0].caught_up())
        .await
        .expect("all of it");
    check(all(&looks).await, 300);
    shutdown(nodes).await;
}

async fn note_one(node: &ActorSystem, number: u64) -> bool {
    let ledger = node.entity::<Ledger>(format!("ledger {}", number % 12).as_str());
    ledger
        .note(number)
        .key(format!("number {number}"))
        .await
        .is_ok()
}

#[tokio::test]
async fn child() {
    let Some(work) = work() else { return };
    let folder = Path::new(&work[0]);
    let store = Sqlite::open(folder.join("journal.db"))
        .await
        .expect("opened");
    let node = ActorSystem::builder("tally").journal(store);
    let node = node.start_local().expect("started");
    let pool = pool(&folder.join("views.db")).await;
    let _tally = node.project(tally(&pool, true)).await.expect("it starts");
    for number in work[1].parse().expect("a number").. {
        note(&node, number..number + 1).await;
        say(&[STORED, number]);
    }
}

#[tokio::test]
async fn processes_that_are_killed_in_a_transaction_put_each_event_into_the_view_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().to_str().expect("text");
    let (mut random, mut next) = (Random::new(3), 0);
    for _ in 0..kills(6) {
        let mut node = Child::start("sqlite::child", &[text, &next.to_string()]);
        let mut hear = |words: Vec<u64>| {
            if words[0] == STORED {
                next = words[1] + 1;
            }
            words[0] == ATTEMPTED
        };
        // The last word before the end is said in a transaction.
        let mut left = 20 + random.below(60);
        while left > 0 || !hear(node.hear().await.expect("a node that works")) {
            if left > 0 {
                hear(node.hear().await.expect("a node that works"));
                left -= 1;
            }
        }
        for words in node.kill().await {
            hear(words);
        }
    }
    let store = Sqlite::open(folder.path().join("journal.db"))
        .await
        .expect("opened");
    let node = ActorSystem::builder("tally").journal(store);
    let node = node.start_local().expect("started");
    let pool = pool(&folder.path().join("views.db")).await;
    let tally = node.project(tally(&pool, false)).await.expect("it starts");
    // A number that was stored and not said is stored again under its key, which changes nothing.
    wait_for(&tally, note(&node, next..next + 1).await).await;
    soon("all of it", tally.caught_up())
        .await
        .expect("all of it");
    check(all(&pool).await, next + 1);
    node.shutdown().await.expect("ended");
}
