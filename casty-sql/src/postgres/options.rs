//! Which database, and how to use it.

use std::{fmt, str::FromStr, time::Duration};

use sqlx::{ConnectOptions, postgres::PgConnectOptions};

use super::{Postgres, server::Server};
use crate::OpenError;

/// Names of tables have 63 bytes at most, and the longest one after the prefix is `record_entity`.
const PREFIX_BYTES_MAX: usize = 40;

/// The most that `max_connections` of a server may be.
const CONNECTIONS_MAX: usize = 262_143;

/// A server takes milliseconds in 31 bits.
const STATEMENT_TIMEOUT_MAX: Duration = Duration::from_hours(24 * 24);

/// How a [`Postgres`] uses its database. Made by [`Postgres::options`].
#[derive(Clone)]
#[must_use = "call `connect`"]
pub struct PostgresOptions {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) connections: usize,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
}

impl fmt::Debug for PostgresOptions {
    /// Without the URL, which holds a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("prefix", &self.prefix)
            .field("connections", &self.connections)
            .field("connect_timeout", &self.connect_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .finish_non_exhaustive()
    }
}

impl PostgresOptions {
    pub(super) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "casty_".to_owned(),
            connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(8),
        }
    }

    /// What the names of the tables begin with: `casty_` unless set. Applications that share a
    /// database need prefixes of their own. Lowercase letters, digits and underscores, with a
    /// letter first, and 40 bytes at most.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many connections read, claim, and save snapshots: 8 unless set, at least 1 and at most
    /// 262,143, as many as a server has. Two more append. A node uses at most this many plus two,
    /// so `max_connections` of the server has to be greater than that times the number of nodes.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, CONNECTIONS_MAX);
        self
    }

    /// How long an attempt to connect takes at most: 5 seconds unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the server works on a statement at most, waits for locks included: 8 seconds unless
    /// set, at least one, and at most 24 days, the most that a server takes. When it has not
    /// answered a second later, the connection is given up. casty gives up an append after 10
    /// seconds.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout.clamp(Duration::from_secs(1), STATEMENT_TIMEOUT_MAX);
        self
    }

    /// Connects, and brings the tables to the version of this build. Of several processes that
    /// start at once one does so, and the others wait.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    ///
    /// # Panics
    /// Outside a tokio runtime. The store works as long as this runtime does.
    pub async fn connect(self) -> Result<Postgres, OpenError> {
        let server = self.server()?;
        Postgres::open(server, self).await
    }

    fn server(&self) -> Result<Server, OpenError> {
        let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let is_valid = self.prefix.bytes().all(is_name)
            && self
                .prefix
                .starts_with(|first: char| first.is_ascii_lowercase())
            && self.prefix.len() <= PREFIX_BYTES_MAX;
        if !is_valid {
            let reason = format!(
                "`{}` cannot begin the names of tables; use lowercase letters, digits and \
                 underscores, with a letter first, and {PREFIX_BYTES_MAX} bytes at most",
                self.prefix.escape_debug()
            );
            return Err(OpenError::Invalid { reason });
        }
        // The URL holds a password, so the error does not repeat it.
        let options =
            PgConnectOptions::from_str(&self.url).map_err(|error| OpenError::Invalid {
                reason: format!(
                    "the URL of the database is not valid: {error}; its form is \
                 postgres://user:password@host:5432/database"
                ),
            })?;
        Ok(Server {
            options: options
                .application_name("casty")
                .disable_statement_logging(),
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
        })
    }
}
