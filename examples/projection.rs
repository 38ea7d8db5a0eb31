//! A page over a view: the balances of all accounts, from the events of the accounts.
//!
//! ```sh
//! cargo run --example projection                     # everything in a folder of its own
//! cargo run --example projection -- shop             # in the folder `shop`, which stays
//! cargo run --example projection -- postgres://..    # accounts and view in PostgreSQL
//!
//! curl -X POST localhost:8080/accounts/ann/deposit/500
//! curl -X POST localhost:8080/accounts/bob/withdraw/20
//! curl localhost:8080/balances
//! curl localhost:8080/lag
//! ```
//!
//! A deposit answers once the view has it, so the page that is read next shows it: the answer of an
//! account has a position, and the projection is waited for.

use std::fmt;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use casty::{id::EntityId, persistence::Position, prelude::*, projection::RunningProjection};
use casty_sql::{
    Postgres, Sqlite,
    projection::{PostgresTransaction, PostgresViews, SqliteTransaction, SqliteViews},
};
use sqlx::{PgPool, SqlitePool, sqlite::SqliteConnectOptions};
use tokio::net::TcpListener;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[message]
#[derive(Default)]
struct Account {
    cents: u64,
}

/// There is not enough.
#[message]
#[derive(Clone, Debug, PartialEq)]
struct Short {
    cents: u64,
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the account has {} cents only", self.cents)
    }
}

#[entity(event_sourced, shards = 20)]
impl Account {
    #[message]
    fn deposit(&self, cents: u64) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::Deposited { cents }).reply(|account| account.cents)
    }

    #[message]
    fn withdraw(&self, cents: u64) -> Result<Effect<Self, u64>, Short> {
        if self.cents < cents {
            return Err(Short { cents: self.cents });
        }
        Ok(Effect::persist(AccountEvent::Withdrawn { cents }).reply(|account| account.cents))
    }

    #[event]
    fn deposited(&mut self, cents: u64) {
        self.cents += cents;
    }

    #[event]
    fn withdrawn(&mut self, cents: u64) {
        self.cents -= cents;
    }
}

// The same statements for both databases.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS balance \
     (account TEXT PRIMARY KEY, cents BIGINT NOT NULL)";
const ADD: &str = "INSERT INTO balance (account, cents) VALUES ($1, $2) \
     ON CONFLICT (account) DO UPDATE SET cents = balance.cents + excluded.cents";
const ALL: &str = "SELECT account, cents FROM balance ORDER BY account";

/// The view in a file.
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

    #[on]
    async fn withdrawn(
        &mut self,
        of: &EntityId,
        cents: u64,
        tx: &mut SqliteTransaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let less = cents.cast_signed().saturating_neg();
        let add = sqlx::query(ADD).bind(of.as_str()).bind(less);
        add.execute(&mut **tx).await.map(drop)
    }
}

/// The view in PostgreSQL.
#[derive(Clone)]
struct SharedBalances {
    views: PostgresViews,
}

#[projection(of = Account, name = "balances")]
impl SharedBalances {
    #[store]
    fn views(&self) -> &PostgresViews {
        &self.views
    }

    #[on]
    async fn deposited(
        &mut self,
        of: &EntityId,
        cents: u64,
        tx: &mut PostgresTransaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let add = sqlx::query(ADD).bind(of.as_str()).bind(cents.cast_signed());
        add.execute(&mut **tx).await.map(drop)
    }

    #[on]
    async fn withdrawn(
        &mut self,
        of: &EntityId,
        cents: u64,
        tx: &mut PostgresTransaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let less = cents.cast_signed().saturating_neg();
        let add = sqlx::query(ADD).bind(of.as_str()).bind(less);
        add.execute(&mut **tx).await.map(drop)
    }
}

/// Where the page reads.
#[derive(Clone)]
enum Pool {
    File(SqlitePool),
    Server(PgPool),
}

impl Pool {
    async fn all(&self) -> Result<Vec<(String, i64)>, sqlx::Error> {
        match self {
            Self::File(pool) => sqlx::query_as(ALL).fetch_all(pool).await,
            Self::Server(pool) => sqlx::query_as(ALL).fetch_all(pool).await,
        }
    }
}

#[derive(Clone)]
struct App {
    node: ActorSystem,
    balances: RunningProjection,
    pool: Pool,
}

impl App {
    /// In the files of a folder, or in the database at a URL.
    async fn start(place: &str) -> Result<Self, AnyError> {
        let shop = ActorSystem::builder("shop");
        if place.starts_with("postgres://") {
            let pool = PgPool::connect(place).await?;
            sqlx::query(TABLE).execute(&pool).await?;
            let node = shop
                .journal(Postgres::connect(place).await?)
                .start()
                .await?;
            node.ready().await?;
            let views = PostgresViews::new(pool.clone());
            let balances = node.project(SharedBalances { views }).await?;
            let pool = Pool::Server(pool);
            return Ok(Self {
                node,
                balances,
                pool,
            });
        }
        let folder = std::path::Path::new(place);
        std::fs::create_dir_all(folder)?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join("views.db"))
            .create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await?;
        sqlx::query(TABLE).execute(&pool).await?;
        let journal = Sqlite::open(folder.join("accounts.db")).await?;
        let node = shop.journal(journal).start().await?;
        node.ready().await?;
        let views = SqliteViews::new(pool.clone());
        let balances = node.project(Balances { views }).await?;
        let pool = Pool::File(pool);
        Ok(Self {
            node,
            balances,
            pool,
        })
    }

    async fn seen(&self, position: Position) -> Result<(), Failed> {
        self.balances.wait_for(position).await.map_err(failed)
    }

    fn router(self) -> Router {
        Router::new()
            .route("/accounts/{id}/deposit/{cents}", post(deposit))
            .route("/accounts/{id}/withdraw/{cents}", post(withdraw))
            .route("/balances", get(balances))
            .route("/lag", get(lag))
            .with_state(self)
    }
}

type Failed = (StatusCode, String);

fn failed(error: impl fmt::Display) -> Failed {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

async fn deposit(
    State(app): State<App>,
    Path((id, cents)): Path<(String, u64)>,
) -> Result<Json<u64>, Failed> {
    let account = app.node.entity::<Account>(id);
    let deposited = account.deposit(cents).with_position().await;
    let (balance, position) = deposited.map_err(failed)?;
    app.seen(position).await?;
    Ok(Json(balance))
}

async fn withdraw(
    State(app): State<App>,
    Path((id, cents)): Path<(String, u64)>,
) -> Result<Json<u64>, Failed> {
    let account = app.node.entity::<Account>(id);
    let withdrawn = account.withdraw(cents).with_position().await;
    let (balance, position) = withdrawn.map_err(|error| match error {
        AskError::Entity(short) => (StatusCode::CONFLICT, short.to_string()),
        error => failed(error),
    })?;
    app.seen(position).await?;
    Ok(Json(balance))
}

/// What no account could answer by itself.
async fn balances(State(app): State<App>) -> Result<Json<Vec<(String, i64)>>, Failed> {
    app.pool.all().await.map(Json).map_err(failed)
}

async fn lag(State(app): State<App>) -> Result<String, Failed> {
    let lag = app.balances.lag().await.map_err(failed)?;
    let (records, age) = (lag.records(), lag.age());
    let mut lines = vec![format!("{records} records, {age:?}")];
    let troubles = lag.troubles();
    lines.extend(troubles.map(|(shard, trouble)| format!("shard {shard}: {trouble}")));
    Ok(lines.join("\n"))
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let folder = tempfile::tempdir()?;
    let own = folder.path().join("shop");
    let place = std::env::args().nth(1);
    let place = place.unwrap_or_else(|| own.to_string_lossy().into_owned());
    let app = App::start(&place).await?;
    let node = app.node.clone();
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("http://{}/balances", listener.local_addr()?);
    axum::serve(listener, app.router())
        .with_graceful_shutdown(node.terminated())
        .await?;
    node.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(app: &App, id: &str, cents: u64) -> Result<u64, Failed> {
        let path = Path((id.to_owned(), cents));
        deposit(State(app.clone()), path).await.map(|Json(it)| it)
    }

    #[tokio::test]
    async fn a_page_shows_what_its_reader_has_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().to_str().expect("text");
        for round in 1..=2 {
            let app = App::start(place).await.expect("started");
            assert_eq!(ask(&app, "ann", 500).await, Ok(500 * round));
            let short = withdraw(State(app.clone()), Path(("bob".to_owned(), 7))).await;
            assert_eq!(
                short.map(|_| ()).expect_err("short").0,
                StatusCode::CONFLICT
            );
            let Json(all) = balances(State(app.clone())).await.expect("the page");
            let cents = 500 * i64::try_from(round).expect("small");
            assert_eq!(all, [("ann".to_owned(), cents)]);
            let lag = lag(State(app.clone())).await.expect("the lag");
            assert_eq!(lag, "0 records, 0ns");
            app.node.shutdown().await.expect("ended");
        }
    }
}
