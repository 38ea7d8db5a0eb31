//! Views of projections in SQLite and PostgreSQL, each in one transaction with its offset: a
//! handler runs *exactly once* for an event.
//!
//! The view's tables are the program's own. casty adds three, in the same database, when the
//! projection starts:
//!
//! | table | column | |
//! |---|---|---|
//! | `casty_view_schema` | `version`, `applied_at` | the versions that were applied, and when (seconds since 1970) |
//! | `casty_offset` | `projection`, `version`, `kind`, `shard` (key) | |
//! | | `epoch` | under which the offset is claimed; the upper bit is inverted |
//! | | `position` | the last record that was handled |
//! | `casty_parked` | `projection`, `version`, `kind`, `shard`, `position` (key) | an event that could not be handled |
//! | | `entity`, `at`, `body`, `reason` | its record as it was stored, and the error |
//!
//! The database need not be the one in which the entities are stored.
//!
//! ```standalone_crate
//! use casty::{id::EntityId, persistence::Memory, prelude::*, projection::projection};
//! use casty_sql::projection::{SqliteTransaction, SqliteViews};
//!
//! #[message]
//! #[derive(Default)]
//! struct Account {
//!     cents: u64,
//! }
//!
//! #[entity(event_sourced)]
//! impl Account {
//!     #[message]
//!     fn deposit(&self, cents: u64) -> Effect<Self, u64> {
//!         Effect::persist(AccountEvent::Deposited { cents }).reply(|account| account.cents)
//!     }
//!
//!     #[event]
//!     fn deposited(&mut self, cents: u64) {
//!         self.cents += cents;
//!     }
//! }
//!
//! #[derive(Clone)]
//! struct Balances {
//!     views: SqliteViews,
//! }
//!
//! #[projection(of = Account, name = "balances")]
//! impl Balances {
//!     #[store]
//!     fn views(&self) -> &SqliteViews {
//!         &self.views
//!     }
//!
//!     #[on]
//!     async fn deposited(
//!         &mut self,
//!         of: &EntityId,
//!         cents: u64,
//!         tx: &mut SqliteTransaction<'_>,
//!     ) -> Result<(), sqlx::Error> {
//!         let add = "INSERT INTO balance (account, cents) VALUES ($1, $2) \
//!                    ON CONFLICT (account) DO UPDATE SET cents = cents + excluded.cents";
//!         let add = sqlx::query(add).bind(of.as_str()).bind(cents.cast_signed());
//!         add.execute(&mut **tx).await.map(drop)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("views.db");
//! let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
//! let pool = sqlx::SqlitePool::connect_with(options).await?;
//! let table = "CREATE TABLE IF NOT EXISTS balance \
//!              (account TEXT PRIMARY KEY, cents INTEGER NOT NULL)";
//! sqlx::query(table).execute(&pool).await?;
//!
//! let bank = ActorSystem::builder("bank").journal(Memory::new()).start_local()?;
//! let views = SqliteViews::new(pool.clone());
//! let balances = bank.project(Balances { views }).await?;
//! let (_, position) = bank.entity::<Account>("ann").deposit(5).with_position().await?;
//! balances.wait_for(position).await?;
//! let cents: i64 = sqlx::query_scalar("SELECT cents FROM balance").fetch_one(&pool).await?;
//! assert_eq!(cents, 5);
//! # bank.shutdown().await?;
//! # Ok(())
//! # }
//! ```

use std::{fmt, future::Future, time::Duration};

use casty::{
    id::Epoch,
    projection::{ParkedEvent, ProjectedShard, ProjectionStore, ViewError},
};
use futures_util::future::BoxFuture;
use sqlx::{Error, PgPool, SqlitePool};
use tokio::time::timeout;

use crate::{
    schema::{Migrations, Newer},
    values::{epoch_from_sql, epoch_to_sql, number_from_sql, number_to_sql, text_to_sql},
};

/// A transaction of a projection in SQLite. Statements run on `&mut **tx`.
pub type SqliteTransaction<'c> = sqlx::Transaction<'c, sqlx::Sqlite>;

/// A transaction of a projection in PostgreSQL. Statements run on `&mut **tx`.
pub type PostgresTransaction<'c> = sqlx::Transaction<'c, sqlx::Postgres>;

/// How long the database may take to begin or to end a transaction.
const WITHIN: Duration = Duration::from_secs(10);

/// How many shards of a node have a transaction in PostgreSQL at once, at most.
const LANES: u32 = 4;

/// Two nodes that start at once make the tables one after the other. The number is that of an
/// advisory lock, `casty` as bytes.
const MIGRATION_LOCK: i64 = 0x0063_6173_7479;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS casty_view_schema \
     (version bigint PRIMARY KEY, applied_at bigint NOT NULL)";
const FOUND: &str = "SELECT CAST(coalesce(max(version), 0) AS bigint) FROM casty_view_schema";
const APPLIED: &str = "INSERT INTO casty_view_schema (version, applied_at) VALUES ($1, $2)";

const SQLITE: Migrations = Migrations(&[&[
    "CREATE TABLE {}offset (projection TEXT NOT NULL, version INTEGER NOT NULL, \
     kind TEXT NOT NULL, shard INTEGER NOT NULL, epoch INTEGER NOT NULL, \
     position INTEGER NOT NULL, PRIMARY KEY (projection, version, kind, shard)) \
     STRICT, WITHOUT ROWID",
    "CREATE TABLE {}parked (projection TEXT NOT NULL, version INTEGER NOT NULL, \
     kind TEXT NOT NULL, shard INTEGER NOT NULL, position INTEGER NOT NULL, \
     entity TEXT NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL, \
     PRIMARY KEY (projection, version, kind, shard, position)) STRICT, WITHOUT ROWID",
]]);

const POSTGRES: Migrations = Migrations(&[&[
    "CREATE TABLE {}offset (projection text NOT NULL, version bigint NOT NULL, \
     kind text NOT NULL, shard bigint NOT NULL, epoch bigint NOT NULL, position bigint NOT NULL, \
     PRIMARY KEY (projection, version, kind, shard))",
    "CREATE TABLE {}parked (projection text NOT NULL, version bigint NOT NULL, \
     kind text NOT NULL, shard bigint NOT NULL, position bigint NOT NULL, \
     entity text COLLATE \"C\" NOT NULL, at bigint NOT NULL, body bytea NOT NULL, \
     reason text NOT NULL, PRIMARY KEY (projection, version, kind, shard, position))",
]]);

const CLAIM: &str = "INSERT INTO casty_offset AS o (projection, version, kind, shard, epoch, position) \
     VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (projection, version, kind, shard) \
     DO UPDATE SET epoch = excluded.epoch WHERE o.epoch <= excluded.epoch RETURNING position";
const LOOK: &str = "SELECT epoch, position FROM casty_offset \
     WHERE projection = $1 AND version = $2 AND kind = $3 AND shard = $4";
const MOVE: &str = "UPDATE casty_offset SET position = $5, epoch = $6 \
     WHERE projection = $1 AND version = $2 AND kind = $3 AND shard = $4 \
     AND position = $7 AND epoch <= $6";
const PARK: &str = "INSERT INTO casty_parked \
     (projection, version, kind, shard, position, entity, at, body, reason) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

fn unavailable(error: &Error) -> ViewError {
    ViewError::Unavailable {
        reason: error.to_string(),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, ViewError> {
    match timeout(WITHIN, work).await {
        Ok(done) => done.map_err(|error| unavailable(&error)),
        Err(_) => Err(ViewError::Unavailable {
            reason: format!("the database has not answered within {WITHIN:?}"),
        }),
    }
}

fn newer(Newer { found, known }: &Newer) -> ViewError {
    ViewError::Unusable {
        reason: format!(
            "the tables of views have version {found}, and this version of casty-sql knows {known} \
             at most; use the version of casty-sql that wrote them, or a later one"
        ),
    }
}

fn stale(shard: &ProjectedShard, found: Option<(i64, i64)>) -> ViewError {
    let reason = match found {
        Some((epoch, position)) => format!(
            "{shard} is at {position}, claimed under epoch {}",
            epoch_from_sql(epoch)
        ),
        None => format!("{shard} has no offset any more"),
    };
    ViewError::Stale { reason }
}

/// Seconds since 1970.
const NOW_SQLITE: &str = "SELECT unixepoch()";
const NOW_POSTGRES: &str = "SELECT CAST(extract(epoch FROM now()) AS bigint)";

/// The store of views in one database: the statements are the same, and their types are not.
macro_rules! views {
    ($views:ident, $transaction:ident, $database:ident, $migrations:ident, $now:ident, $entity:expr) => {
        impl fmt::Debug for $views {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($views)).finish_non_exhaustive()
            }
        }

        impl $views {
            async fn migrate(&self) -> Result<(), ViewError> {
                let mut tx = in_time(self.first()).await?;
                let found = in_time(async {
                    sqlx::query(VERSIONS).execute(&mut *tx).await?;
                    sqlx::query_scalar::<_, i64>(FOUND)
                        .fetch_one(&mut *tx)
                        .await
                });
                let found = found.await?;
                let missing = $migrations
                    .after(found, "casty_")
                    .map_err(|it| newer(&it))?;
                for (version, statements) in missing {
                    for statement in statements {
                        let made = sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx);
                        in_time(made).await?;
                    }
                    let now = sqlx::query_scalar::<_, i64>($now).fetch_one(&mut *tx);
                    let now = in_time(now).await?;
                    let applied = sqlx::query(APPLIED).bind(version).bind(now);
                    in_time(applied.execute(&mut *tx)).await?;
                }
                in_time(tx.commit()).await
            }

            async fn claim_offset(
                &self,
                shard: &ProjectedShard,
                epoch: Epoch,
            ) -> Result<u64, ViewError> {
                let claim = sqlx::query_scalar::<_, i64>(CLAIM)
                    .bind(&shard.projection)
                    .bind(i64::from(shard.version))
                    .bind(&shard.kind)
                    .bind(i64::from(shard.shard))
                    .bind(epoch_to_sql(epoch))
                    .fetch_optional(&self.pool);
                match in_time(claim).await? {
                    Some(position) => Ok(number_from_sql(position)),
                    None => Err(self.stale(shard).await),
                }
            }

            async fn stale(&self, shard: &ProjectedShard) -> ViewError {
                let look = sqlx::query_as::<_, (i64, i64)>(LOOK)
                    .bind(&shard.projection)
                    .bind(i64::from(shard.version))
                    .bind(&shard.kind)
                    .bind(i64::from(shard.shard))
                    .fetch_optional(&self.pool);
                match in_time(look).await {
                    Ok(found) => stale(shard, found),
                    Err(error) => error,
                }
            }

            async fn move_offset(
                &self,
                mut tx: $transaction<'static>,
                shard: &ProjectedShard,
                epoch: Epoch,
                (from, to): (u64, u64),
            ) -> Result<(), ViewError> {
                let moved = sqlx::query(MOVE)
                    .bind(&shard.projection)
                    .bind(i64::from(shard.version))
                    .bind(&shard.kind)
                    .bind(i64::from(shard.shard))
                    .bind(number_to_sql(to))
                    .bind(epoch_to_sql(epoch))
                    .bind(number_to_sql(from))
                    .execute(&mut *tx);
                if in_time(moved).await?.rows_affected() != 1 {
                    // What it holds would keep the look from its answer in a pool of one.
                    in_time(tx.rollback()).await?;
                    return Err(self.stale(shard).await);
                }
                in_time(tx.commit()).await
            }
        }

        impl ProjectionStore for $views {
            type Transaction = $transaction<'static>;

            fn describe(&self) -> String {
                concat!("views in ", stringify!($database)).to_owned()
            }

            fn lanes(&self) -> usize {
                self.lanes
            }

            fn open(&self) -> BoxFuture<'_, Result<(), ViewError>> {
                Box::pin(self.migrate())
            }

            fn claim<'a>(
                &'a self,
                shard: &'a ProjectedShard,
                epoch: Epoch,
            ) -> BoxFuture<'a, Result<u64, ViewError>> {
                Box::pin(self.claim_offset(shard, epoch))
            }

            fn begin(&self) -> BoxFuture<'_, Result<$transaction<'static>, ViewError>> {
                Box::pin(in_time(self.transaction()))
            }

            fn commit<'a>(
                &'a self,
                tx: $transaction<'static>,
                shard: &'a ProjectedShard,
                epoch: Epoch,
                from: u64,
                to: u64,
            ) -> BoxFuture<'a, Result<(), ViewError>> {
                Box::pin(self.move_offset(tx, shard, epoch, (from, to)))
            }

            fn roll_back(&self, tx: $transaction<'static>) -> BoxFuture<'_, ()> {
                // An error has ended the transaction, or its connection.
                Box::pin(async move { drop(in_time(tx.rollback()).await) })
            }

            fn park<'a>(
                &'a self,
                tx: &'a mut $transaction<'static>,
                shard: &'a ProjectedShard,
                parked: &'a ParkedEvent,
            ) -> BoxFuture<'a, Result<(), ViewError>> {
                Box::pin(async move {
                    let entity: fn(&str) -> std::borrow::Cow<'_, str> = $entity;
                    let park = sqlx::query(PARK)
                        .bind(&shard.projection)
                        .bind(i64::from(shard.version))
                        .bind(&shard.kind)
                        .bind(i64::from(shard.shard))
                        .bind(number_to_sql(parked.position))
                        .bind(entity(parked.entity.as_str()).into_owned())
                        .bind(number_to_sql(parked.at))
                        .bind(parked.body.to_vec())
                        .bind(parked.reason.replace('\0', " "))
                        .execute(&mut **tx);
                    in_time(park).await.map(drop)
                })
            }
        }
    };
}

/// Views in a file of SQLite, which all nodes on a host may share.
///
/// One node writes at a time, so keep handlers short. In the file of a journal
/// ([`Sqlite`](crate::Sqlite)) commits of entities wait for them: a file of its own is better.
#[derive(Clone)]
pub struct SqliteViews {
    pool: SqlitePool,
    lanes: usize,
}

impl SqliteViews {
    /// Views behind this pool.
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool, lanes: 1 }
    }

    async fn transaction(&self) -> Result<SqliteTransaction<'static>, Error> {
        // A transaction that begins by reading fails at once if it cannot write later.
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    async fn first(&self) -> Result<SqliteTransaction<'static>, Error> {
        self.transaction().await
    }
}

/// Views in a database of PostgreSQL.
#[derive(Clone)]
pub struct PostgresViews {
    pool: PgPool,
    lanes: usize,
}

impl PostgresViews {
    /// Views behind this pool. A projection uses up to half of its connections, and four at most.
    pub fn new(pool: PgPool) -> Self {
        let lanes = (pool.options().get_max_connections() / 2).clamp(1, LANES);
        Self {
            pool,
            lanes: usize::try_from(lanes).unwrap_or(1),
        }
    }

    async fn transaction(&self) -> Result<PostgresTransaction<'static>, Error> {
        self.pool.begin().await
    }

    async fn first(&self) -> Result<PostgresTransaction<'static>, Error> {
        let mut tx = self.transaction().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(MIGRATION_LOCK)
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    }
}

views!(
    SqliteViews,
    SqliteTransaction,
    SQLite,
    SQLITE,
    NOW_SQLITE,
    |entity| entity.into()
);
views!(
    PostgresViews,
    PostgresTransaction,
    PostgreSQL,
    POSTGRES,
    NOW_POSTGRES,
    |entity| text_to_sql(entity)
);
