//! A projection beside a bare loop: `cargo bench -p casty-sql --bench projection`.
//!
//! Accounts in a SQLite file have paid in and out, some hundred thousand times. A projection keeps
//! their balances in a table of another SQLite file, in one transaction with its offset. The *bare
//! loop* reads the same records in the same pages, of all shards at once, and runs the same
//! statements, one transaction a page: without runners, claims, and checks, and without reading the
//! events. The two take turns, with an empty table each time.
//!
//! **Lag.** Then events come at a steady rate while the projection runs, and some askers wait until
//! it has handled theirs: that is how long a read of one's own write waits.
//!
//! Sizes are `--events`, `--rounds`, `--rate` of events a second and `--seconds` of them, each with
//! a number after it. The files are in `TMPDIR`, which must be on a disk.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use casty::{
    id::EntityId,
    persistence::{Journal, Log, Page},
    prelude::*,
    projection::projection,
};
use casty_sql::{
    Sqlite,
    projection::{SqliteTransaction, SqliteViews},
};
use futures_util::{StreamExt, stream};
use sqlx::{SqlitePool, sqlite::SqliteConnectOptions};
use tokio::{sync::Mutex, task::JoinSet};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const SHARDS: u32 = 16;
const ACCOUNTS: u64 = 1000;
const IN_FLIGHT: usize = 256;

/// As the runners of a projection read.
const PAGE: Page = Page {
    records: 256,
    bytes: 1024 * 1024,
};

const TABLE: &str = "CREATE TABLE balance (account TEXT PRIMARY KEY, cents INTEGER NOT NULL)";
const ADD: &str = "INSERT INTO balance (account, cents) VALUES ($1, $2) \
     ON CONFLICT (account) DO UPDATE SET cents = balance.cents + excluded.cents";

/// An account.
#[message]
#[derive(Default)]
pub struct Account {
    cents: u64,
}

#[entity(event_sourced, shards = 16, name = "account")]
impl Account {
    /// Pays in.
    #[message]
    pub fn deposit(&self, cents: u64) -> Effect<Self> {
        Effect::persist(AccountEvent::Deposited { cents })
    }

    #[event]
    fn deposited(&mut self, cents: u64) {
        self.cents += cents;
    }
}

#[derive(Clone)]
struct Balances {
    views: SqliteViews,
}

#[projection(of = Account, name = "balances")]
impl Balances {
    #[store]
    fn views(&self) -> &SqliteViews {
        &self.views
    }

    #[on]
    async fn deposited(
        &mut self,
        of: &EntityId,
        cents: u64,
        tx: &mut SqliteTransaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let add = sqlx::query(ADD).bind(of.as_str()).bind(cents.cast_signed());
        add.execute(&mut **tx).await.map(drop)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures wall-clock time"
)]
fn started() -> Instant {
    Instant::now()
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |flag: &str, default: u64| {
        let mut after = arguments.iter().skip_while(|argument| *argument != flag);
        let number = after.nth(1).map(|number| number.parse::<u64>());
        number.unwrap_or(Ok(default))
    };
    let (events, rounds) = (number("--events", 300_000)?, number("--rounds", 5)?);
    let (rate, seconds) = (number("--rate", 10_000)?, number("--seconds", 10)?);
    let folder = tempfile::tempdir()?;
    let stored = folder.path().join("accounts.db");
    let node = node(&stored).await?;
    fill(&node, events).await?;
    let sum = i64::try_from(events)?;
    let mut ratios = Vec::new();
    println!("| events a second | of the bare loop | of it |\n|---|---|---|");
    for _ in 0..rounds {
        let projected = projected(&node, sum).await?;
        let copied = copied(&stored, sum).await?;
        let (projected, copied) = (per_second(events, projected), per_second(events, copied));
        println!(
            "| {projected:.0} | {copied:.0} | {:.2} |",
            projected / copied
        );
        ratios.push(projected / copied);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:.2} of the bare loop", ratios[ratios.len() / 2]);
    lag(&node, sum, rate, Duration::from_secs(seconds)).await?;
    node.shutdown().await?;
    Ok(())
}

async fn node(stored: &Path) -> Result<ActorSystem, AnyError> {
    let journal = Sqlite::open(stored).await?;
    let node = ActorSystem::builder("bank")
        .journal(journal)
        .start()
        .await?;
    node.ready().await?;
    Ok(node)
}

async fn fill(node: &ActorSystem, events: u64) -> Result<(), AnyError> {
    let paying = stream::iter(0..events).map(|n| {
        let account = node.entity::<Account>((n % ACCOUNTS).to_string());
        async move { account.deposit(1).await }
    });
    let mut paying = paying.buffer_unordered(4 * IN_FLIGHT);
    while let Some(paid) = paying.next().await {
        paid?;
    }
    Ok(())
}

/// An empty table in a file of its own.
async fn view(folder: &Path) -> Result<SqlitePool, AnyError> {
    let options = SqliteConnectOptions::new()
        .filename(folder.join("view.db"))
        .create_if_missing(true)
        .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
    let pool = SqlitePool::connect_with(options).await?;
    sqlx::query(TABLE).execute(&pool).await?;
    Ok(pool)
}

/// Whether the view has all.
async fn check(pool: &SqlitePool, expected: i64) -> Result<(), AnyError> {
    let sum = sqlx::query_scalar::<_, i64>("SELECT sum(cents) FROM balance");
    let sum = sum.fetch_one(pool).await?;
    if sum != expected {
        return Err(format!("the view has {sum}, not {expected}").into());
    }
    Ok(())
}

/// How long a projection takes to handle all events.
async fn projected(node: &ActorSystem, sum: i64) -> Result<Duration, AnyError> {
    let folder = tempfile::tempdir()?;
    let pool = view(folder.path()).await?;
    let since = started();
    let views = SqliteViews::new(pool.clone());
    let balances = node.project(Balances { views }).await?;
    balances.caught_up().await?;
    let took = since.elapsed();
    balances.stop().await;
    check(&pool, sum).await?;
    Ok(took)
}

/// How long the bare loop takes.
async fn copied(stored: &Path, sum: i64) -> Result<Duration, AnyError> {
    let folder = tempfile::tempdir()?;
    let pool = view(folder.path()).await?;
    let offsets = "CREATE TABLE place (shard INTEGER PRIMARY KEY, position INTEGER NOT NULL)";
    sqlx::query(offsets).execute(&pool).await?;
    let journal = Arc::new(Sqlite::open(stored).await?);
    // SQLite has one writer. Meanwhile others read.
    let writer = Arc::new(Mutex::new(()));
    let since = started();
    let mut shards = JoinSet::new();
    for shard in 0..SHARDS {
        let (journal, pool, writer) = (journal.clone(), pool.clone(), writer.clone());
        shards.spawn(async move { copy(&*journal, &pool, &writer, shard).await });
    }
    while let Some(copied) = shards.join_next().await {
        copied??;
    }
    let took = since.elapsed();
    check(&pool, sum).await?;
    Ok(took)
}

async fn copy(
    journal: &dyn Journal,
    pool: &SqlitePool,
    writer: &Mutex<()>,
    shard: u32,
) -> Result<(), AnyError> {
    let kind = "account".into();
    let log = Log { kind, shard };
    let mut position = 0;
    loop {
        let records = journal.read_log(&log, position, PAGE).await?;
        let Some(last) = records.last() else {
            return Ok(());
        };
        position = last.position;
        let _writes = writer.lock().await;
        let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
        for record in &records {
            let add = sqlx::query(ADD).bind(record.entity.as_str()).bind(1_i64);
            add.execute(&mut *tx).await?;
        }
        let place = "INSERT OR REPLACE INTO place (shard, position) VALUES ($1, $2)";
        let place = sqlx::query(place)
            .bind(i64::from(shard))
            .bind(position.cast_signed());
        place.execute(&mut *tx).await?;
        tx.commit().await?;
    }
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Pays in at a steady rate, and waits for one of a hundred.
async fn lag(node: &ActorSystem, sum: i64, rate: u64, time: Duration) -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let pool = view(folder.path()).await?;
    let views = SqliteViews::new(pool.clone());
    let balances = node.project(Balances { views }).await?;
    balances.caught_up().await?;
    let count = rate * time.as_secs();
    let mut waits = JoinSet::new();
    let mut paying = JoinSet::new();
    let since = started();
    for n in 0..count {
        let due = Duration::from_nanos(n * 1_000_000_000 / rate);
        if let Some(early) = due.checked_sub(since.elapsed()) {
            tokio::time::sleep(early).await;
        }
        let account = node.entity::<Account>((n % ACCOUNTS).to_string());
        if n % 100 > 0 {
            paying.spawn(async move { account.deposit(1).await });
            while paying.len() > 4 * IN_FLIGHT {
                paying.join_next().await.ok_or("there are some")???;
            }
            continue;
        }
        let balances = balances.clone();
        waits.spawn(async move {
            let ((), position) = account.deposit(1).with_position().await?;
            let since = started();
            balances.wait_for(position).await?;
            Ok::<_, AnyError>(since.elapsed())
        });
    }
    let took = since.elapsed();
    let behind = balances.lag().await?.records();
    while let Some(paid) = paying.join_next().await {
        paid??;
    }
    let mut waited = Vec::new();
    while let Some(wait) = waits.join_next().await {
        waited.push(wait??);
    }
    balances.caught_up().await?;
    balances.stop().await;
    check(&pool, sum + i64::try_from(count)?).await?;
    waited.sort();
    let quantile = |percent: usize| waited[(waited.len() - 1) * percent / 100];
    println!(
        "{:.0} events a second: the view has one after {:.1?} (median), {:.1?} (99 %); {behind} \
         were not handled at the end",
        per_second(count, took),
        quantile(50),
        quantile(99),
    );
    Ok(())
}
