//! A journal in a file of SQLite.

mod append;
mod connection;
mod file;
mod read;
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

use self::append::{Failed, Part};
use crate::{
    OpenError,
    kinds::{Kinds, not_opened},
    pool::{Dial, NoResult, Pool, Verdict},
    waves::waves,
};

/// How many connections read beside the one that writes.
const READERS: usize = 4;

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
    kinds: Kinds<i64>,
    writer: Arc<Pool<Writer>>,
    readers: Arc<Pool<Reader>>,
}

/// Makes the connection that writes.
struct Writer(PathBuf);

/// Makes connections that read.
struct Reader(PathBuf);

impl Dial for Writer {
    type Connection = SqliteConnection;

    fn dial(&self, suspect: bool) -> BoxFuture<'_, Result<SqliteConnection, Error>> {
        Box::pin(connection::reconnect(&self.0, suspect))
    }

    fn close(connection: SqliteConnection) -> BoxFuture<'static, ()> {
        // Only then is its transaction rolled back.
        Box::pin(async move { drop(connection.close().await) })
    }

    fn reason(error: &Error) -> String {
        connection::reason(error)
    }
}

impl Dial for Reader {
    type Connection = SqliteConnection;

    fn dial(&self, _: bool) -> BoxFuture<'_, Result<SqliteConnection, Error>> {
        Box::pin(async { connection::reader(&self.0).connect().await })
    }

    fn close(connection: SqliteConnection) -> BoxFuture<'static, ()> {
        Box::pin(async move { drop(connection.close().await) })
    }

    fn reason(error: &Error) -> String {
        connection::reason(error)
    }
}

fn unavailable(why: NoResult) -> JournalError {
    JournalError::Unavailable {
        reason: why.reason(),
    }
}

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
        let connection = connection::open(&path).await?;
        Ok(Self(Arc::new(Shared {
            kinds: Kinds::default(),
            writer: Pool::new(Writer(path.clone()), 1, vec![connection]),
            readers: Pool::new(Reader(path.clone()), READERS, Vec::new()),
            path,
        })))
    }

    /// Runs a job that writes. It gives the connection back.
    async fn write<T, J, F>(&self, job: J) -> Result<T, JournalError>
    where
        T: Send + 'static,
        J: FnOnce(SqliteConnection) -> F + Send + 'static,
        F: Future<Output = (SqliteConnection, Result<T, Error>)> + Send + 'static,
    {
        let job = |connection| async {
            let (mut connection, result) = job(connection).await;
            let verdict = connection::verdict(&mut connection, result.as_ref().err()).await;
            (connection, verdict, result)
        };
        let result = self.0.writer.run(job).await.map_err(unavailable)?;
        result.map_err(|error| connection::journal_error(&error))
    }

    /// Runs a job that reads. It gives the connection back.
    async fn read<T, J, F>(&self, job: J) -> Result<T, JournalError>
    where
        T: Send + 'static,
        J: FnOnce(SqliteConnection) -> F + Send + 'static,
        F: Future<Output = (SqliteConnection, Result<T, Error>)> + Send + 'static,
    {
        let job = |connection| async {
            let (connection, result) = job(connection).await;
            let verdict = if result.is_ok() {
                Verdict::Keep
            } else {
                Verdict::Close
            };
            (connection, verdict, result)
        };
        let result = self.0.readers.run(job).await.map_err(unavailable)?;
        result.map_err(|error| connection::journal_error(&error))
    }

    /// The number of a kind, if anything is stored of it.
    async fn kind(&self, name: &Arc<str>) -> Result<Option<i64>, JournalError> {
        if let Some(known) = self.0.kinds.get(name) {
            return Ok(Some(known));
        }
        let wanted = name.clone();
        let find = move |mut connection: SqliteConnection| async move {
            let result = read::kind(&mut connection, &wanted).await;
            (connection, result)
        };
        let found = self.read(find).await?;
        if let Some(found) = found {
            self.0.kinds.insert(name.clone(), found);
        }
        Ok(found)
    }

    async fn kind_to_write(&self, name: &Arc<str>) -> Result<i64, JournalError> {
        self.kind(name).await?.ok_or_else(|| not_opened(name))
    }

    async fn append_wave(&self, parts: Vec<Part>) -> Result<Vec<Appended>, AppendError> {
        let job = move |mut connection: SqliteConnection| async move {
            let result = append::append(&mut connection, parts).await;
            let error = result.as_ref().err().map(Failed::error);
            let verdict = connection::verdict(&mut connection, error).await;
            (connection, verdict, result)
        };
        let why = match self.0.writer.run(job).await {
            Ok(Ok(appended)) => return Ok(appended),
            Ok(Err(why)) => why,
            Err(NoResult::NotConnected(reason)) => {
                return Err(AppendError::NotWritten { reason });
            }
            Err(why @ NoResult::Lost) => {
                let reason = why.reason();
                return Err(AppendError::Unknown { reason });
            }
        };
        Err(match why {
            Failed::Before(error) => AppendError::NotWritten {
                reason: connection::reason(&error),
            },
            Failed::AtCommit(error) => AppendError::Unknown {
                reason: connection::reason(&error),
            },
        })
    }

    async fn append_all(&self, batch: Vec<Append>) -> Result<Vec<Appended>, AppendError> {
        let mut appended = vec![Appended::Refused; batch.len()];
        let mut parts = Vec::with_capacity(batch.len());
        for append in batch {
            let kind = self.kind_to_write(&append.log.kind).await;
            let kind = kind.map_err(|error| AppendError::NotWritten {
                reason: error.to_string(),
            })?;
            parts.push(Part { kind, append });
        }
        for (wave, parts) in waves(parts, |part| (part.kind, part.append.log.shard))
            .into_iter()
            .enumerate()
        {
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
            let open = move |mut connection: SqliteConnection| async move {
                let result = write::open_kinds(&mut connection, &wanted).await;
                (connection, result)
            };
            let numbers = self.write(open).await??;
            for ((name, _), number) in kinds.iter().zip(numbers) {
                self.0.kinds.insert(name.clone(), number);
            }
            Ok(())
        })
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(
            self.read(move |mut connection: SqliteConnection| async move {
                let result = read::latest_epoch(&mut connection).await;
                (connection, result)
            }),
        )
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            let (kind, shard) = (self.kind_to_write(&log.kind).await?, log.shard);
            let owner = owner.to_owned();
            let claim = move |mut connection: SqliteConnection| async move {
                let result = write::claim(&mut connection, kind, shard, epoch, &owner).await;
                (connection, result)
            };
            let claimed = self.write(claim).await?;
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
            let Some(kind) = self.kind(&log.kind).await? else {
                return Ok(Vec::new());
            };
            let (log, entity) = ((kind, log.shard), entity.clone());
            let job = move |mut connection: SqliteConnection| async move {
                let result = read::entity(&mut connection, log, entity, after, page).await;
                (connection, result)
            };
            self.read(job).await
        })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let Some(kind) = self.kind(&log.kind).await? else {
                return Ok(Vec::new());
            };
            let log = (kind, log.shard);
            let job = move |mut connection: SqliteConnection| async move {
                let result = read::log(&mut connection, log, after, page).await;
                (connection, result)
            };
            self.read(job).await
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            let Some(kind) = self.kind(&log.kind).await? else {
                return Ok(None);
            };
            let (log, entity) = ((kind, log.shard), entity.clone());
            let load = move |mut connection: SqliteConnection| async move {
                let result = read::snapshot(&mut connection, log, &entity).await;
                (connection, result)
            };
            self.read(load).await
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
            let (kind, shard) = (self.kind_to_write(&log.kind).await?, log.shard);
            let entity = entity.as_str().to_owned();
            let job = move |mut connection: SqliteConnection| async move {
                let result =
                    write::save(&mut connection, kind, shard, epoch, entity, snapshot).await;
                (connection, result)
            };
            self.write(job).await
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
            let (kind, shard) = (self.kind_to_write(&log.kind).await?, log.shard);
            let entity = entity.as_str().to_owned();
            let job = move |mut connection: SqliteConnection| async move {
                let result = write::forget(
                    &mut connection,
                    kind,
                    shard,
                    epoch,
                    entity,
                    through,
                    snapshot,
                )
                .await;
                (connection, result)
            };
            self.write(job).await
        })
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move {
            let Some(kind) = self.kind(&log.kind).await? else {
                return Ok(Vec::new());
            };
            let (log, after) = ((kind, log.shard), after.cloned());
            let job = move |mut connection: SqliteConnection| async move {
                let result = read::entities(&mut connection, log, after, limit).await;
                (connection, result)
            };
            self.read(job).await
        })
    }
}
