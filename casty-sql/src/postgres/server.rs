//! Connections to a server, and what their errors mean.

use std::time::Duration;

use casty::persistence::JournalError;
use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, Connection, Error, PgConnection, Row,
    postgres::{PgConnectOptions, PgDatabaseError, PgSeverity},
};

use crate::{
    OpenError,
    pool::{Dial, Verdict},
    schema,
};

/// `WITH .. AS MATERIALIZED` came with it.
const VERSION_MIN: i64 = 120_000;

#[derive(Clone)]
pub(super) struct Server {
    pub(super) options: PgConnectOptions,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

/// What a server says of itself.
struct Facts {
    version: i64,
    encoding: String,
    is_standby: bool,
    syncs: bool,
}

impl Server {
    /// For logs, without the password.
    pub(super) fn describe(&self) -> String {
        let options = &self.options;
        let host = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or(options.get_username());
        format!("PostgreSQL at {host}/{database}")
    }

    /// How long to wait for an answer. The server gives up earlier, if it still works at all.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(1)
    }

    async fn connect(&self) -> Result<(PgConnection, Facts), Error> {
        let connect = async {
            let mut connection = self.options.connect().await?;
            let facts = self.set_up(&mut connection).await?;
            Ok((connection, facts))
        };
        within(self.connect_timeout, connect).await
    }

    /// What must hold whatever the defaults of the database or the role are. An append relies on
    /// READ COMMITTED: behind a claim it looks at the row anew. With `synchronous_commit=off` the
    /// server would answer before the records are on its disk.
    async fn set_up(&self, connection: &mut PgConnection) -> Result<Facts, Error> {
        let row = sqlx::query(
            "SELECT set_config('statement_timeout', $1, false),
                    set_config('lock_timeout', '0', false),
                    set_config('default_transaction_isolation', 'read committed', false),
                    set_config('synchronous_commit',
                               CASE current_setting('synchronous_commit')
                               WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END,
                               false),
                    current_setting('server_version_num')::int8,
                    current_setting('server_encoding'),
                    pg_is_in_recovery(),
                    current_setting('fsync')",
        )
        .persistent(false)
        .bind(self.statement_timeout.as_millis().to_string())
        .fetch_one(connection)
        .await?;
        Ok(Facts {
            version: row.try_get(4)?,
            encoding: row.try_get(5)?,
            is_standby: row.try_get(6)?,
            syncs: row.try_get::<String, _>(7)? == "on",
        })
    }

    /// Connects for the first time, and brings the tables to the latest version.
    pub(super) async fn open(&self, prefix: &str) -> Result<PgConnection, OpenError> {
        let fault = |error: Error| OpenError::Unavailable {
            store: self.describe(),
            reason: reason(&error),
        };
        let (mut connection, facts) = self.connect().await.map_err(fault)?;
        self.check(&facts)?;
        let migrate = self.migrate(&mut connection, prefix);
        match tokio::time::timeout(self.answer_timeout(), migrate).await {
            Ok(migrated) => migrated.map(|()| connection),
            Err(_) => Err(fault(timed_out())),
        }
    }

    fn check(&self, facts: &Facts) -> Result<(), OpenError> {
        if facts.version < VERSION_MIN {
            return Err(OpenError::TooOld {
                store: self.describe(),
                found: format!("{}", facts.version / 10_000),
                needed: "12",
            });
        }
        if facts.encoding != "UTF8" {
            let reason = format!(
                "{} has the encoding {}, in which not every id can be written; create the database \
                 with ENCODING 'UTF8'",
                self.describe(),
                facts.encoding
            );
            return Err(OpenError::Invalid { reason });
        }
        if facts.is_standby {
            return Err(OpenError::ReadOnly {
                store: self.describe(),
                reason: "the server is a standby; give the address of the primary server"
                    .to_owned(),
            });
        }
        if !facts.syncs {
            tracing::warn!(
                "{} runs with fsync=off: after a crash of its machine, records are lost that were \
                 acknowledged",
                self.describe()
            );
        }
        Ok(())
    }

    async fn migrate(&self, connection: &mut PgConnection, prefix: &str) -> Result<(), OpenError> {
        let fault = |error: Error| OpenError::Unavailable {
            store: self.describe(),
            reason: format!("its tables cannot be made: {}", reason(&error)),
        };
        let table = format!("{prefix}schema");
        let mut transaction = connection.begin().await.map_err(fault)?;
        let row = sqlx::query(
            "SELECT pg_advisory_xact_lock(hashtextextended('casty ' || $1, 0)), \
             to_regclass(quote_ident($1)) IS NOT NULL",
        )
        .bind(&table)
        .fetch_one(&mut *transaction)
        .await;
        let exists = row.and_then(|row| row.try_get(1)).map_err(fault)?;
        let mut found = 0_i64;
        // A role that may not create tables can use those that there are.
        if exists {
            let version = format!("SELECT coalesce(max(version), 0) FROM {table}");
            let row = sqlx::query(sqlx::AssertSqlSafe(version))
                .fetch_one(&mut *transaction)
                .await;
            found = row.and_then(|row| row.try_get(0)).map_err(fault)?;
        } else {
            let versions = schema::VERSIONS.replace("{}", prefix);
            run(&mut transaction, versions).await.map_err(fault)?;
        }
        let missing =
            schema::POSTGRES
                .after(found, prefix)
                .map_err(|newer| OpenError::NewerSchema {
                    store: self.describe(),
                    found: newer.found,
                    known: newer.known,
                })?;
        for (version, statements) in missing {
            for statement in statements {
                run(&mut transaction, statement).await.map_err(fault)?;
            }
            let note = format!("INSERT INTO {table} VALUES ({version}, extract(epoch FROM now()))");
            run(&mut transaction, note).await.map_err(fault)?;
        }
        transaction.commit().await.map_err(fault)
    }
}

impl Dial for Server {
    type Connection = PgConnection;

    fn dial(&self, _: bool) -> BoxFuture<'_, Result<PgConnection, Error>> {
        Box::pin(async {
            let (connection, facts) = self.connect().await?;
            if facts.is_standby {
                let reason = "the server has become a standby";
                return Err(Error::Io(std::io::Error::other(reason)));
            }
            Ok(connection)
        })
    }

    fn close(connection: PgConnection) -> BoxFuture<'static, ()> {
        // Without a goodbye: the server may not answer any more.
        drop(connection);
        Box::pin(std::future::ready(()))
    }

    fn reason(error: &Error) -> String {
        reason(error)
    }
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(drop)
}

fn timed_out() -> Error {
    let reason = "the server did not answer in time";
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
}

/// Gives up after a while. The connection must not be used again then.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(timed_out()))
}

fn database_error(error: &Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

fn code(error: &Error) -> Option<&str> {
    database_error(error).map(PgDatabaseError::code)
}

/// The server has taken the statement back, and says so. After all other errors it is not known
/// whether the statement took effect: when the server ends a connection (FATAL), it may have
/// committed just before.
pub(super) fn is_taken_back(error: &Error) -> bool {
    match error {
        Error::Encode(_) => true,
        _ => database_error(error).is_some_and(|error| {
            !matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
        }),
    }
}

/// What becomes of a connection after a job with this result.
pub(super) fn verdict<T>(result: &Result<T, Error>) -> Verdict {
    match result {
        Ok(_) => Verdict::Keep,
        // The server has become a standby, or its transactions are read-only unless told otherwise:
        // another connection may lead to one that writes.
        Err(error) if code(error) == Some("25006") => Verdict::Suspect,
        Err(error) if is_taken_back(error) => Verdict::Keep,
        Err(_) => Verdict::Suspect,
    }
}

pub(super) fn reason(error: &Error) -> String {
    let Some(error) = database_error(error) else {
        return error.to_string();
    };
    let hint = match error.code() {
        "28000" | "28P01" => "; check user and password",
        "3D000" => "; create the database",
        "42501" => "; grant the role what is missing",
        "53100" => "; make room on the disk of the server",
        "53300" => "; raise max_connections, or use fewer connections for each node",
        "25006" => "; give the address of the primary server",
        _ => "",
    };
    let detail = error
        .detail()
        .map_or_else(String::new, |detail| format!(" ({detail})"));
    format!("{}{detail} [{}]{hint}", error.message(), error.code())
}

pub(super) fn journal_error(error: &Error) -> JournalError {
    let reason = reason(error);
    match code(error) {
        // No such table, or column; damaged data or index.
        Some("42P01" | "42703" | "XX001" | "XX002") => JournalError::Unusable { reason },
        _ => JournalError::Unavailable { reason },
    }
}
