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
        Arc, Mutex, PoisonError,
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
    pool::{NoResult, Pool},
    waves::waves,
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
    fn new(logs: impl Iterator<Item = Arc<OwnClaim>>) -> Self {
        let logs: Vec<_> = logs.collect();
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

fn unavailable(why: NoResult) -> JournalError {
    JournalError::Unavailable {
        reason: why.reason(),
    }
}

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
    async fn run<T, J, F>(&self, job: J) -> Result<T, JournalError>
    where
        T: Send + 'static,
        J: FnOnce(PgConnection, Arc<Shared>) -> F + Clone + Send + 'static,
        F: Future<Output = (PgConnection, Result<T, Error>)> + Send + 'static,
    {
        let mut is_repeated = false;
        loop {
            let (job, shared) = (job.clone(), self.0.clone());
            let job = |connection| async {
                let (connection, result) = job(connection, shared).await;
                (connection, verdict(&result), result)
            };
            match self.0.others.run(job).await.map_err(unavailable)? {
                Ok(value) => return Ok(value),
                Err(error) if is_repeated || server::is_taken_back(&error) => {
                    return Err(journal_error(&error));
                }
                Err(_) => is_repeated = true,
            }
        }
    }

    /// The number of a kind, if anything is stored of it.
    async fn kind(&self, name: &Arc<str>) -> Result<Option<i32>, JournalError> {
        if let Some(known) = self.0.kinds.get(name) {
            return Ok(Some(known));
        }
        let wanted = name.clone();
        let find = |mut connection: PgConnection, shared: Arc<Shared>| async move {
            let work = work::kind(&mut connection, &shared.statements, &wanted);
            let result = within(shared.answer_timeout, work).await;
            (connection, result)
        };
        let found = self.run(find).await?.map(|(number, _)| number);
        if let Some(found) = found {
            self.0.kinds.insert(name.clone(), found);
        }
        Ok(found)
    }

    async fn key(&self, log: &Log) -> Result<Option<LogKey>, JournalError> {
        let shard = log.shard.cast_signed();
        let kind = self.kind(&log.kind).await?;
        Ok(kind.map(|kind| LogKey { kind, shard }))
    }

    async fn key_to_write(&self, log: &Log) -> Result<LogKey, JournalError> {
        let key = self.key(log).await?;
        key.ok_or_else(|| not_opened(&log.kind))
    }

    async fn open_kind(&self, name: Arc<str>, shards: NonZeroU32) -> Result<(), JournalError> {
        let wanted = name.clone();
        let open = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
            let work = work::open_kind(&mut connection, &shared.statements, &wanted, shards);
            let result = within(shared.answer_timeout, work).await;
            (connection, result)
        };
        let (number, stored) = self.run(open).await?;
        if stored != i64::from(shards.get()) {
            return Err(other_shards(&name, stored, shards));
        }
        self.0.kinds.insert(name, number);
        Ok(())
    }

    async fn append_wave(
        &self,
        parts: Vec<(Part, Arc<OwnClaim>)>,
    ) -> Result<Vec<Appended>, AppendError> {
        let count = parts.len();
        let shared = self.0.clone();
        // From now on, since a caller that is dropped does not stop the job.
        let mut running = Running::new(parts.iter().map(|(_, own)| own.clone()));
        let job = move |mut connection: PgConnection| async move {
            running.has_begun = true;
            let parts = parts.into_iter().map(|(part, _)| part).collect();
            let work = work::append(&mut connection, &shared.statements, parts);
            let result = within(shared.answer_timeout, work).await;
            running.ended(&result);
            (connection, verdict(&result), result)
        };
        match self.0.appends.run(job).await {
            Ok(Ok(written)) => {
                let answer = |number| {
                    if written.contains(&number) {
                        Appended::Written
                    } else {
                        Appended::Refused
                    }
                };
                Ok((0..count).map(answer).collect())
            }
            Ok(Err(error)) if server::is_taken_back(&error) => Err(AppendError::NotWritten {
                reason: reason(&error),
            }),
            Ok(Err(error)) => Err(AppendError::Unknown {
                reason: reason(&error),
            }),
            Err(NoResult::NotConnected(reason)) => Err(AppendError::NotWritten { reason }),
            Err(why @ NoResult::Lost) => Err(AppendError::Unknown {
                reason: why.reason(),
            }),
        }
    }

    async fn append_all(&self, batch: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let mut appended = vec![Appended::Refused; batch.len()];
        let mut parts = Vec::with_capacity(batch.len());
        for append in batch {
            let key = self.key_to_write(&append.log).await;
            let log = key.map_err(|error| AppendError::NotWritten {
                reason: error.to_string(),
            })?;
            let own = self.own(&append.log);
            let number = own.number.load(Ordering::Acquire);
            let claim = Some(number).filter(|number| *number > 0);
            let part = Part { log, claim, append };
            parts.push((part, own));
        }
        let key = |(part, _): &(Part, _)| (part.log.kind, part.log.shard);
        for (wave, parts) in waves(parts, key).into_iter().enumerate() {
            let (indices, parts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            let results = self.append_wave(parts).await.map_err(|error| match error {
                // An earlier wave has been written.
                AppendError::NotWritten { reason } if wave > 0 => AppendError::Unknown { reason },
                error => error,
            })?;
            for (index, result) in indices.into_iter().zip(results) {
                appended[index] = result;
            }
        }
        Ok(appended)
    }

    async fn claim_log(&self, log: &Log, epoch: Epoch, owner: &str) -> Result<u64, ClaimError> {
        let (key, owner) = (self.key_to_write(log).await?, Arc::<str>::from(owner));
        let own = self.own(log);
        let turn = Arc::new(own.turn.clone().lock_owned().await);
        let claim = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
            // Also when the caller is gone.
            let _turn = turn;
            // In this order: an append that ends meanwhile is seen as one or the other.
            let is_running = own.running.load(Ordering::Acquire) > 0;
            let anew = is_running || own.is_in_doubt.load(Ordering::Acquire);
            let claim = (key, epoch, &*owner, anew);
            let work = work::claim(&mut connection, &shared.statements, claim);
            let result = within(shared.answer_timeout, work).await;
            if let Ok(Claimed::Held { number, .. }) = &result {
                own.number.store(*number, Ordering::Release);
                own.is_in_doubt.store(false, Ordering::Release);
            }
            (connection, result)
        };
        match self.run(claim).await? {
            Claimed::Held { head, .. } => Ok(head),
            Claimed::Fenced { epoch, owner } => Err(ClaimError::Fenced { epoch, owner }),
        }
    }

    fn own(&self, log: &Log) -> Arc<OwnClaim> {
        let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
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
        let read = |mut connection: PgConnection, shared: Arc<Shared>| async move {
            let work = work::latest_epoch(&mut connection, &shared.statements);
            let result = within(shared.answer_timeout, work).await;
            (connection, result)
        };
        Box::pin(self.run(read))
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
            let read = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
                let sql = &shared.statements;
                let work = work::entity(&mut connection, sql, key, &entity, after, page);
                let result = within(shared.answer_timeout, work).await;
                (connection, result)
            };
            self.run(read).await
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
            let read = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
                let work = work::log(&mut connection, &shared.statements, key, after, page);
                let result = within(shared.answer_timeout, work).await;
                (connection, result)
            };
            self.run(read).await
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
            let load = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
                let work = work::snapshot(&mut connection, &shared.statements, key, &entity);
                let result = within(shared.answer_timeout, work).await;
                (connection, result)
            };
            self.run(load).await
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
            let save = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
                let sql = &shared.statements;
                let work = work::save(&mut connection, sql, key, epoch, &entity, snapshot);
                let result = within(shared.answer_timeout, work).await;
                (connection, result)
            };
            self.run(save).await
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
            let forget = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
                let sql = &shared.statements;
                let work = work::forget(&mut connection, sql, key, epoch, &entity, what);
                let result = within(shared.answer_timeout, work).await;
                (connection, result)
            };
            self.run(forget).await
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
            let read = move |mut connection: PgConnection, shared: Arc<Shared>| async move {
                let sql = &shared.statements;
                let work = work::entities(&mut connection, sql, key, after.as_ref(), limit);
                let result = within(shared.answer_timeout, work).await;
                (connection, result)
            };
            self.run(read).await
        })
    }
}
