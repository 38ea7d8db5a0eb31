//! A journal in a database of PostgreSQL.

mod options;
mod server;
mod statements;
mod work;

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use casty::{
    id::{EntityId, Epoch},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity,
    },
};
use futures_util::future::BoxFuture;
use sqlx::{Error, PgConnection};

pub use self::options::PostgresOptions;
use self::{
    server::{Server, journal_error, reason, verdict, within},
    statements::Statements,
    work::{Claimed, LogKey, Part},
};
use crate::{
    OpenError,
    kinds::{Kinds, not_opened, other_shards},
    pool::Pool,
    sync::lock,
};

/// How many appends run at once. A second one helps above some hundred records in flight, and a
/// third one costs more than it gives.
const LANES: usize = 2;

/// A journal in a database of PostgreSQL, of version 12 or later.
///
/// All nodes of a cluster use the same database. A clone is another handle of the same store.
///
/// Each commit is on the disk of the server before it counts. A server that is replaced by a
/// standby which is *behind*, as may happen without synchronous replication, has lost acknowledged
/// records. casty notices when it claims a log again, since the log ends before what this node has
/// written; it cannot bring the records back. So use synchronous replication where a standby takes
/// over.
///
/// Connect to the server itself, or through a proxy that keeps a session for each connection:
/// claims and statements rely on settings of their session.
#[derive(Clone)]
pub struct Postgres(Arc<Shared>);

struct Shared {
    describes: String,
    answer_timeout: Duration,
    statements: Statements,
    kinds: Kinds<i32>,
    own: Mutex<HashMap<Log, Arc<OwnClaim>>>,
    appends: Arc<Pool<Server>>,
    others: Arc<Pool<Server>>,
}

/// What this process knows of a log that it has claimed or appended to.
#[derive(Default)]
struct OwnClaim {
    /// Claims to one log are made one after the other, so the number below is the last one.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The number of the claim; 0 before this process has claimed the log.
    number: AtomicI64,
    /// Appends that have not ended.
    running: AtomicU32,
    /// It is not known whether an append was written.
    is_in_doubt: AtomicBool,
}

/// An append to some logs, until its outcome is known, or it is certain that it never begins.
struct Running {
    logs: Vec<Arc<OwnClaim>>,
    has_begun: bool,
}

impl Running {
    fn new(logs: Vec<Arc<OwnClaim>>) -> Self {
        for log in &logs {
            log.running.fetch_add(1, Ordering::AcqRel);
        }
        Self {
            logs,
            has_begun: false,
        }
    }

    fn ended<T>(mut self, result: &Result<T, Error>) {
        let is_known = result.as_ref().err().is_none_or(server::is_taken_back);
        self.has_begun = !is_known;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for log in &self.logs {
            if self.has_begun {
                log.is_in_doubt.store(true, Ordering::Release);
            }
            log.running.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What a job does with its connection.
type Work<'c, T> = BoxFuture<'c, Result<T, Error>>;

impl Postgres {
    /// Connects to a database, and makes its tables, or brings them to the version of this build.
    /// The form of the URL is `postgres://user:password@host:5432/database`.
    /// [`options`](Self::options) has what else can be set.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    ///
    /// # Panics
    /// Outside a tokio runtime. The store works as long as this runtime does.
    ///
    /// # Example
    /// ```no_run
    /// use casty_sql::Postgres;
    ///
    /// # async fn connect() -> Result<(), casty_sql::OpenError> {
    /// let store = Postgres::connect("postgres://shop:secret@db.example/shop").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(url: impl Into<String>) -> Result<Self, OpenError> {
        Self::options(url).connect().await
    }

    /// How to use a database: the prefix of the tables' names, the number of connections, timeouts.
    ///
    /// # Example
    /// ```no_run
    /// use casty_sql::Postgres;
    ///
    /// # async fn connect() -> Result<(), casty_sql::OpenError> {
    /// let url = "postgres://shop:secret@db.example/shop";
    /// let store = Postgres::options(url).prefix("orders_").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn options(url: impl Into<String>) -> PostgresOptions {
        PostgresOptions::new(url)
    }

    async fn open(server: Server, options: PostgresOptions) -> Result<Self, OpenError> {
        let connection = server.open(&options.prefix).await?;
        let mut describes = server.describe();
        if options.prefix != "casty_" {
            describes = format!("{describes}, tables `{}*`", options.prefix);
        }
        Ok(Self(Arc::new(Shared {
            describes,
            answer_timeout: server.answer_timeout(),
            statements: Statements::new(&options.prefix),
            kinds: Kinds::default(),
            own: Mutex::default(),
            appends: Pool::new(server.clone(), LANES, Vec::new()),
            others: Pool::new(server, options.connections, vec![connection]),
        })))
    }

    /// Runs a job that may be repeated, with a connection that is not for appends. When the
    /// connection is lost, as it is when the server was restarted, the job is repeated once.
    async fn run<T, J>(&self, job: J) -> Result<T, JournalError>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut PgConnection, &'c Statements) -> Work<'c, T>
            + Clone
            + Send
            + 'static,
    {
        let mut is_repeated = false;
        loop {
            let (job, shared) = (job.clone(), self.0.clone());
            let result = self.0.others.run(move |connection| {
                Box::pin(async move {
                    let work = job(connection, &shared.statements);
                    let result = within(shared.answer_timeout, work).await;
                    (verdict(&result), result)
                })
            });
            match result.await? {
                Ok(value) => return Ok(value),
                Err(error) if is_repeated || server::is_taken_back(&error) => {
                    return Err(journal_error(&error));
                }
                Err(_) => is_repeated = true,
            }
        }
    }

    /// A log in numbers, if anything is stored of its type.
    async fn key(&self, log: &Log) -> Result<Option<LogKey>, JournalError> {
        let shard = log.shard.cast_signed();
        if let Some(kind) = self.0.kinds.get(&log.kind) {
            return Ok(Some(LogKey { kind, shard }));
        }
        let wanted = log.kind.clone();
        let found = self.run(move |connection, sql| {
            Box::pin(async move { work::kind(connection, sql, &wanted).await })
        });
        Ok(found.await?.map(|(kind, _)| {
            self.0.kinds.insert(log.kind.clone(), kind);
            LogKey { kind, shard }
        }))
    }

    async fn key_to_write(&self, log: &Log) -> Result<LogKey, JournalError> {
        let key = self.key(log).await?;
        key.ok_or_else(|| not_opened(&log.kind))
    }

    async fn open_kind(&self, name: Arc<str>, shards: NonZeroU32) -> Result<(), JournalError> {
        let wanted = name.clone();
        let open = self.run(move |connection, sql| {
            Box::pin(async move { work::open_kind(connection, sql, &wanted, shards).await })
        });
        let (number, stored) = open.await?;
        if stored != i64::from(shards.get()) {
            return Err(other_shards(&name, stored, shards));
        }
        self.0.kinds.insert(name, number);
        Ok(())
    }

    async fn append_all(&self, batch: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let (mut parts, mut own) = (Vec::with_capacity(batch.len()), Vec::new());
        for append in batch {
            let key = self.key_to_write(&append.log).await;
            let log = key.map_err(|error| AppendError::NotWritten {
                reason: error.to_string(),
            })?;
            let of_log = self.own(&append.log);
            let number = of_log.number.load(Ordering::Acquire);
            own.push(of_log);
            let claim = Some(number).filter(|number| *number > 0);
            parts.push(Part { log, claim, append });
        }
        let (count, shared) = (parts.len(), self.0.clone());
        // From now on, since a caller that is dropped does not stop the job.
        let mut running = Running::new(own);
        let result = self.0.appends.run(move |connection| {
            Box::pin(async move {
                running.has_begun = true;
                let work = work::append(connection, &shared.statements, parts);
                let result = within(shared.answer_timeout, work).await;
                running.ended(&result);
                (verdict(&result), result)
            })
        });
        let written = result.await?.map_err(|error| {
            let reason = reason(&error);
            if server::is_taken_back(&error) {
                AppendError::NotWritten { reason }
            } else {
                AppendError::Unknown { reason }
            }
        })?;
        let answer = |number| {
            if written.contains(&number) {
                Appended::Written
            } else {
                Appended::Refused
            }
        };
        Ok((0..count).map(answer).collect())
    }

    async fn claim_log(&self, log: &Log, epoch: Epoch, owner: &str) -> Result<u64, ClaimError> {
        let (key, owner) = (self.key_to_write(log).await?, Arc::<str>::from(owner));
        let own = self.own(log);
        let turn = Arc::new(own.turn.clone().lock_owned().await);
        let claimed = self.run(move |connection, sql| {
            Box::pin(async move {
                // Also when the caller is gone.
                let _turn = turn;
                // In this order: an append that ends meanwhile is seen as one or the other.
                let is_running = own.running.load(Ordering::Acquire) > 0;
                let anew = is_running || own.is_in_doubt.load(Ordering::Acquire);
                let claimed = work::claim(connection, sql, (key, epoch, &*owner, anew)).await;
                if let Ok(Claimed::Held { number, .. }) = &claimed {
                    own.number.store(*number, Ordering::Release);
                    own.is_in_doubt.store(false, Ordering::Release);
                }
                claimed
            })
        });
        match claimed.await? {
            Claimed::Held { head, .. } => Ok(head),
            Claimed::Fenced { epoch, owner } => Err(ClaimError::Fenced { epoch, owner }),
        }
    }

    fn own(&self, log: &Log) -> Arc<OwnClaim> {
        let mut own = lock(&self.0.own);
        match own.get(log) {
            Some(own) => own.clone(),
            None => own.entry(log.clone()).or_default().clone(),
        }
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.0.describes).finish()
    }
}

impl Journal for Postgres {
    fn describe(&self) -> String {
        self.0.describes.clone()
    }

    fn lanes(&self) -> usize {
        LANES
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            for (name, shards) in kinds {
                self.open_kind(name.clone(), *shards).await?;
            }
            Ok(())
        })
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(self.run(|connection, sql| Box::pin(work::latest_epoch(connection, sql))))
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(self.claim_log(log, epoch, owner))
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        Box::pin(self.append_all(batch))
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let Some(key) = self.key(log).await? else {
                return Ok(Vec::new());
            };
            let entity = entity.clone();
            self.run(move |connection, sql| {
                Box::pin(
                    async move { work::entity(connection, sql, key, &entity, after, page).await },
                )
            })
            .await
        })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let Some(key) = self.key(log).await? else {
                return Ok(Vec::new());
            };
            self.run(move |connection, sql| {
                Box::pin(async move { work::log(connection, sql, key, after, page).await })
            })
            .await
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            let Some(key) = self.key(log).await? else {
                return Ok(None);
            };
            let entity = entity.clone();
            self.run(move |connection, sql| {
                Box::pin(async move { work::snapshot(connection, sql, key, &entity).await })
            })
            .await
        })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let (key, entity) = (self.key_to_write(log).await?, entity.clone());
            self.run(move |connection, sql| {
                Box::pin(
                    async move { work::save(connection, sql, key, epoch, &entity, snapshot).await },
                )
            })
            .await
        })
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let (key, entity) = (self.key_to_write(log).await?, entity.clone());
            let what = (through, snapshot);
            self.run(move |connection, sql| {
                Box::pin(
                    async move { work::forget(connection, sql, key, epoch, &entity, what).await },
                )
            })
            .await
        })
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move {
            let Some(key) = self.key(log).await? else {
                return Ok(Vec::new());
            };
            let after = after.cloned();
            self.run(move |connection, sql| {
                Box::pin(async move {
                    work::entities(connection, sql, key, after.as_ref(), limit).await
                })
            })
            .await
        })
    }
}
