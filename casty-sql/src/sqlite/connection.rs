//! Connections to a file, and what their errors mean.

use std::{path::Path, time::Duration};

use casty::persistence::JournalError;
use sqlx::{
    ConnectOptions, Connection, Error, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::time::Instant;

use super::{append::SMALL, file::read_only, run};
use crate::{OpenError, pool::Verdict, schema};

/// How long a statement waits for a lock that another process holds. casty gives up an append after
/// ten seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(8);

/// The pause before another attempt to connect to a locked file.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How many statements stay prepared: one for each size of a commit, and some.
const STATEMENTS_MAX: usize = 256;

/// Before this version two connections could damage a file when they reset its log.
const VERSION_MIN: &str = "3.51.3";

// Result codes: <https://www.sqlite.org/rescode.html>.
/// Of a ROLLBACK.
const NO_TRANSACTION: i32 = 1;
const BUSY: i32 = 5;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const CONSTRAINT: i32 = 19;
const NOTADB: i32 = 26;

/// The primary result code of SQLite, if the error is one of SQLite.
fn code(error: &Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xff)
}

/// What becomes of a connection after a job with this result. Its transaction is over
/// in any case.
///
/// An error of the disk is final for the connection. When the disk is full the connection stays,
/// since another one would first need room for its index of the log.
pub(super) async fn verdict(connection: &mut SqliteConnection, error: Option<&Error>) -> Verdict {
    match error.map(code) {
        None => Verdict::Keep,
        Some(Some(IOERR)) => Verdict::Suspect,
        Some(Some(FULL | BUSY)) if roll_back(connection).await.is_ok() => Verdict::Keep,
        Some(_) => Verdict::Close,
    }
}

/// Takes back what a transaction has done before this error of one of its statements. Whether the
/// connection can be used for another one.
pub(super) async fn take_back(connection: &mut SqliteConnection, error: &Error) -> bool {
    code(error) != Some(IOERR) && roll_back(connection).await.is_ok()
}

/// An error may have ended the transaction before.
pub(super) async fn roll_back(connection: &mut SqliteConnection) -> Result<(), Error> {
    match run::run(connection, sqlx::query("ROLLBACK"), 1).await {
        Err(failed) if code(&failed.error) != Some(NO_TRANSACTION) => Err(failed.error),
        _ => Ok(()),
    }
}

/// Whether a statement has waited for a lock in vain.
pub(super) fn is_busy(error: &Error) -> bool {
    code(error) == Some(BUSY)
}

/// Whether a statement has violated a constraint, or a trigger has raised the error.
pub(super) fn is_constraint(error: &Error) -> bool {
    code(error) == Some(CONSTRAINT)
}

/// The error with what to do about it.
pub(super) fn reason(error: &Error) -> String {
    let hint = match code(error) {
        Some(FULL) => "; the disk is full: make room",
        Some(IOERR) => "; the disk failed",
        Some(BUSY) => "; another process keeps the file locked",
        Some(READONLY) => "; the file or its disk is read-only: make it writable",
        Some(CANTOPEN) => "; the file, or a file beside it, cannot be opened",
        Some(CORRUPT | NOTADB) => "; the file is damaged: restore it from a backup",
        _ => "",
    };
    format!("{error}{hint}")
}

pub(super) fn journal_error(error: &Error) -> JournalError {
    let reason = reason(error);
    match code(error) {
        Some(CORRUPT | NOTADB) => JournalError::Unusable { reason },
        _ => JournalError::Unavailable { reason },
    }
}

fn open_error(path: &Path, error: &Error) -> OpenError {
    match code(error) {
        Some(NOTADB | CORRUPT) => OpenError::NotADatabase {
            path: path.into(),
            reason: error.to_string(),
        },
        Some(READONLY | CANTOPEN) => read_only(
            path,
            "the file, or the files -wal and -shm beside it, cannot be made or written to; make the \
             file and its directory writable",
        ),
        _ => OpenError::Unavailable {
            store: format!("SQLite at {}", path.display()),
            reason: reason(error),
        },
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "memory")
        .disable_statement_logging()
}

/// The connection that writes.
pub(super) fn writer(path: &Path) -> SqliteConnectOptions {
    options(path)
        .journal_mode(SqliteJournalMode::Wal)
        .statement_cache_capacity(STATEMENTS_MAX)
        // Negative: in KiB.
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "1000")
        // After a burst the log does not keep its size.
        .pragma("journal_size_limit", "67108864")
        // What is forgotten is overwritten where that costs no further write.
        .pragma("secure_delete", "fast")
        .thread_name(|_| "casty-sqlite-writer".to_owned())
        .create_if_missing(true)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> SqliteConnectOptions {
    options(path)
        .pragma("cache_size", "-8192")
        .pragma("query_only", "on")
        .thread_name(|number| format!("casty-sqlite-reader-{number}"))
}

/// Connects for writing, and brings the tables to the latest version. Whether the file stores texts
/// in UTF-8.
///
/// Of connections that turn a new file to a write-ahead log together, SQLite refuses all but one at
/// once, [without waiting](https://www.sqlite.org/c3ref/busy_handler.html): each holds a lock that
/// another waits for. So a refusal counts only after the time for which a statement waits.
pub(super) async fn open(path: &Path) -> Result<(SqliteConnection, bool), OpenError> {
    let until = Instant::now() + BUSY_TIMEOUT;
    let mut connection = loop {
        match writer(path).connect().await {
            Ok(connection) => break connection,
            Err(error) if code(&error) == Some(BUSY) && Instant::now() < until => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(error) => return Err(open_error(path, &error)),
        }
    };
    let fault = |error: Error| open_error(path, &error);
    let found: String = text(&mut connection, "SELECT sqlite_version()")
        .await
        .map_err(fault)?;
    if version(&found) < version(VERSION_MIN) {
        return Err(OpenError::TooOld {
            store: "SQLite".to_owned(),
            found,
            needed: VERSION_MIN,
        });
    }
    let mode = text(&mut connection, "PRAGMA journal_mode").await;
    let mode = mode.map_err(fault)?;
    if mode != "wal" {
        let path = path.to_owned();
        return Err(OpenError::NoWriteAheadLog { path, mode });
    }
    migrate(&mut connection, path).await?;
    prepare(&mut connection).await.map_err(fault)?;
    let encoding = text(&mut connection, "PRAGMA encoding").await;
    Ok((connection, encoding.map_err(fault)? == "UTF-8"))
}

fn version(text: &str) -> Vec<u32> {
    text.split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

async fn text(connection: &mut SqliteConnection, sql: &'static str) -> Result<String, Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let fault = |error: Error| open_error(path, &error);
    // Not deferred: of two processes that start at once, one waits for the other.
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(fault)?;
    run(&mut transaction, schema::VERSIONS.replace("{}", PREFIX))
        .await
        .map_err(fault)?;
    let found = sqlx::query("SELECT coalesce(max(version), 0) FROM casty_schema")
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get::<i64, _>(0))
        .map_err(fault)?;
    let missing = schema::SQLITE
        .after(found, PREFIX)
        .map_err(|newer| OpenError::NewerSchema {
            store: format!("SQLite at {}", path.display()),
            found: newer.found,
            known: newer.known,
        })?;
    for (version, statements) in missing {
        for statement in statements {
            run(&mut transaction, statement).await.map_err(fault)?;
        }
        sqlx::query("INSERT INTO casty_schema (version, applied_at) VALUES (?1, unixepoch())")
            .bind(version)
            .execute(&mut *transaction)
            .await
            .map_err(fault)?;
    }
    transaction.commit().await.map_err(fault)
}

/// Makes what this connection alone sees.
async fn prepare(connection: &mut SqliteConnection) -> Result<(), Error> {
    for statement in SMALL {
        run(connection, statement.to_owned()).await?;
    }
    Ok(())
}

/// One file serves one application.
const PREFIX: &str = "casty_";

async fn run(connection: &mut SqliteConnection, statement: String) -> Result<(), Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(drop)
}

/// Connects again after an error.
///
/// After a disk has failed to sync, the system may show pages that the disk does not have, and no
/// later sync writes them. So the log is copied into the file, which writes and syncs all of it
/// anew, before anything in it counts as stored.
pub(super) async fn reconnect(path: &Path, rewrite: bool) -> Result<SqliteConnection, Error> {
    let mut connection = writer(path).create_if_missing(false).connect().await?;
    if rewrite {
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&mut connection)
            .await?;
        if row.try_get::<i64, _>(0)? != 0 {
            let reason = "the log cannot be copied into the file while others read it";
            return Err(Error::Io(std::io::Error::other(reason)));
        }
    }
    prepare(&mut connection).await?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(version("3.51.3") < version("3.51.10"));
        assert!(version("3.51.3") < version("4.0"));
        assert!(version("3.51.2") < version("3.51.3"));
    }
}
