//! A journal in a file of SQLite.

mod append;
mod aside;
mod connection;
mod file;
mod read;
mod run;
mod write;

use std::{
    fmt,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use casty::{
    id::{EntityId, Epoch},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity,
    },
};
use futures_util::future::BoxFuture;
use sqlx::{ConnectOptions, Connection, Error, SqliteConnection};

use self::{
    append::{Failed, Part},
    aside::{Appending, AsideKind, AsideWork, Asides},
};
use crate::{
    OpenError,
    kinds::{Kinds, not_opened},
    pool::{Dial, Pool},
};

/// How many connections read, beside the writing one. The pages that SQLite keeps in memory are
/// behind one lock for all connections of a process: with four, each record takes more than half as
/// long again, and all together are no faster.
const READERS: usize = 2;

/// A journal in a file of SQLite.
///
/// Processes on one host may share the file. Nodes on several hosts cannot: they need a
/// [`Postgres`](crate::Postgres). A clone is another handle of the same store.
///
/// Each commit is synced to the disk before it counts (`synchronous=FULL`, write-ahead log). Beside
/// the file lie its log and an index of the log, with `-wal` and `-shm` after its name; they belong
/// to it, so move or copy all three, or better use `VACUUM INTO` of the program `sqlite3`, which
/// also works while nodes run.
#[derive(Clone)]
pub struct Sqlite(Arc<Shared>);

struct Shared {
    path: PathBuf,
    /// How the file stores texts: its creator may have chosen otherwise.
    is_utf8: bool,
    kinds: Kinds<i64>,
    writer: Arc<Pool<File>>,
    readers: Arc<Pool<File>>,
    asides: Asides,
}

/// A log in numbers.
#[derive(Clone, Copy)]
struct LogKey {
    kind: i64,
    shard: i64,
}

/// Makes connections to a file.
struct File {
    path: PathBuf,
    writes: bool,
}

impl Dial for File {
    type Connection = SqliteConnection;

    fn dial(&self, suspect: bool) -> BoxFuture<'_, Result<SqliteConnection, Error>> {
        Box::pin(async move {
            if self.writes {
                connection::reconnect(&self.path, suspect).await
            } else {
                connection::reader(&self.path).connect().await
            }
        })
    }

    fn close(connection: SqliteConnection) -> BoxFuture<'static, ()> {
        // Only then is its transaction rolled back.
        Box::pin(async move { drop(connection.close().await) })
    }

    fn reason(error: &Error) -> String {
        connection::reason(error)
    }
}

/// What a job does with its connection.
type Work<'c, T> = BoxFuture<'c, Result<T, Error>>;

impl Sqlite {
    /// Opens a file, or creates it, and brings its tables to the version of this build. The
    /// directory of the file must exist.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    ///
    /// # Panics
    /// Outside a tokio runtime. The store works as long as this runtime does.
    ///
    /// # Example
    /// ```
    /// use casty::persistence::Journal as _;
    /// use casty_sql::Sqlite;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("casty.db");
    /// let store = Sqlite::open(&path).await?;
    /// assert!(store.describe().starts_with("SQLite at "));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = file::check(path.as_ref())?;
        let (connection, is_utf8) = connection::open(&path).await?;
        let file = |writes| File {
            path: path.clone(),
            writes,
        };
        Ok(Self(Arc::new(Shared {
            kinds: Kinds::default(),
            writer: Pool::new(file(true), 1, vec![connection]),
            readers: Pool::new(file(false), READERS, Vec::new()),
            asides: Asides::default(),
            is_utf8,
            path,
        })))
    }

    async fn write<T, J>(&self, job: J) -> Result<T, JournalError>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        run_by(&self.0.writer, job).await
    }

    async fn read<T, J>(&self, job: J) -> Result<T, JournalError>
    where
        T: Send + 'static,
        J: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
    {
        run_by(&self.0.readers, job).await
    }

    /// A log in numbers, if anything is stored of its type.
    async fn key(&self, log: &Log) -> Result<Option<LogKey>, JournalError> {
        let shard = i64::from(log.shard);
        if let Some(kind) = self.0.kinds.get(&log.kind) {
            return Ok(Some(LogKey { kind, shard }));
        }
        let wanted = log.kind.clone();
        let found = self
            .read(|connection| Box::pin(async move { read::kind(connection, &wanted).await }))
            .await?;
        Ok(found.map(|kind| {
            self.0.kinds.insert(log.kind.clone(), kind);
            LogKey { kind, shard }
        }))
    }

    async fn key_to_write(&self, log: &Log) -> Result<LogKey, JournalError> {
        let key = self.key(log).await?;
        key.ok_or_else(|| not_opened(&log.kind))
    }

    async fn append_all(&self, batch: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let mut parts = Vec::with_capacity(batch.len());
        for Append {
            log,
            epoch,
            records,
        } in batch
        {
            let key = self.key_to_write(&log).await;
            let log = key.map_err(|error| AppendError::NotWritten {
                reason: error.to_string(),
            })?;
            parts.push(Part {
                log,
                epoch,
                records,
            });
        }
        let appending = Appending::new(&self.0);
        let appended = self.0.writer.run(move |connection| {
            Box::pin(async move {
                let asides = appending.asides();
                let result = append::append(connection, parts, asides).await;
                let error = result.as_ref().err().map(Failed::error);
                (connection::verdict(connection, error).await, result)
            })
        });
        appended.await?.map_err(|why| {
            let reason = connection::reason(why.error());
            match why {
                Failed::Before(_) => AppendError::NotWritten { reason },
                Failed::AtCommit(_) => AppendError::Unknown { reason },
            }
        })
    }
}

async fn run_by<T, J>(pool: &Arc<Pool<File>>, job: J) -> Result<T, JournalError>
where
    T: Send + 'static,
    J: for<'c> FnOnce(&'c mut SqliteConnection) -> Work<'c, T> + Send + 'static,
{
    let result = pool.run(|connection| {
        Box::pin(async move {
            let result = job(connection).await;
            let error = result.as_ref().err();
            (connection::verdict(connection, error).await, result)
        })
    });
    result
        .await?
        .map_err(|error| connection::journal_error(&error))
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sqlite").field(&self.0.path).finish()
    }
}

impl Journal for Sqlite {
    fn describe(&self) -> String {
        format!("SQLite at {}", self.0.path.display())
    }

    fn only_one_host(&self) -> Option<&'static str> {
        Some(
            "a file of SQLite is on one host, and nodes on other hosts do not see it; use \
             PostgreSQL (`casty_sql::Postgres::connect`), which all nodes can reach",
        )
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let wanted = kinds.to_vec();
            let numbers = self
                .write(move |connection| {
                    Box::pin(async move { write::open_kinds(connection, &wanted).await })
                })
                .await??;
            for ((name, _), number) in kinds.iter().zip(numbers) {
                self.0.kinds.insert(name.clone(), number);
            }
            Ok(())
        })
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(self.read(|connection| Box::pin(read::latest_epoch(connection))))
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            let (key, owner) = (self.key_to_write(log).await?, owner.to_owned());
            let claimed = self
                .write(move |connection| {
                    Box::pin(async move { write::claim(connection, key, epoch, &owner).await })
                })
                .await?;
            claimed.map_err(|stands| ClaimError::Fenced {
                epoch: stands.epoch,
                owner: stands.owner,
            })
        })
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
            let (entity, page) = (entity.clone(), (page, self.0.is_utf8));
            self.read(move |connection| {
                Box::pin(async move { read::entity(connection, key, &entity, after, page).await })
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
            self.read(move |connection| Box::pin(read::log(connection, key, after, page)))
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
            self.read(move |connection| {
                Box::pin(async move { read::snapshot(connection, key, &entity).await })
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
            let work = AsideWork {
                log: self.key_to_write(log).await?,
                epoch,
                entity: entity.clone(),
                what: AsideKind::Save(snapshot),
            };
            aside::write(&self.0, work).await
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
            let work = AsideWork {
                log: self.key_to_write(log).await?,
                epoch,
                entity: entity.clone(),
                what: AsideKind::Forget { through, snapshot },
            };
            aside::write(&self.0, work).await
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
            self.read(move |connection| {
                Box::pin(
                    async move { read::entities(connection, key, after.as_ref(), limit).await },
                )
            })
            .await
        })
    }
}
