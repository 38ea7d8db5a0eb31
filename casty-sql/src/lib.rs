//! Stores the durable entities of [casty] in SQLite or PostgreSQL.
//!
//! ```standalone_crate
//! use casty::prelude::*;
//! use casty_sql::Sqlite;
//!
//! /// It keeps its balance when the process ends.
//! #[message]
//! #[derive(Default)]
//! struct Piggy {
//!     pence: u64,
//! }
//!
//! #[entity(event_sourced)]
//! impl Piggy {
//!     #[event]
//!     fn saved(&mut self, pence: u64) {
//!         self.pence += pence;
//!     }
//!
//!     #[message]
//!     fn save(&self, pence: u64) -> Effect<Self, u64> {
//!         Effect::persist(PiggyEvent::Saved { pence }).reply(|piggy| piggy.pence)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("savings.db");
//! let store = Sqlite::open(&path).await?; // or Postgres::connect("postgres://..")
//! let node = ActorSystem::builder("savings").journal(store).start_local()?;
//! assert_eq!(node.entity::<Piggy>("ada").save(5).await?, 5);
//! node.shutdown().await?;
//!
//! let store = Sqlite::open(&path).await?;
//! let node = ActorSystem::builder("savings").journal(store).start_local()?;
//! assert_eq!(node.entity::<Piggy>("ada").save(2).await?, 7);
//! # node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Views that are made of events, exactly once: [`projection`].
//!
//! # Which one
//!
//! | | [`Sqlite`] | [`Postgres`] |
//! |---|---|---|
//! | for | one host; its processes may share the file | a cluster |
//! | a commit is durable when | the file's log is synced (`synchronous=FULL`) | the server has synced its log, and its synchronous standbys have, if there are any |
//! | commits at once | one | two |
//! | connections of a node | one for writing, up to two for reading | two for appends, up to eight for the rest |
//! | when it is down | what is written fails at once, and works again when the disk does | the same; it connects again by itself, after pauses of up to five seconds |
//!
//! # What is stored when
//!
//! | what | when | where |
//! |---|---|---|
//! | the number of shards of an entity type | when a node that hosts the type starts | `casty_kind` |
//! | the claim of a shard: its epoch and its owner | when a node gets the shard | `casty_shard` |
//! | a record for each handled message that changed something: its events, or the new state | before anything that the handler lets out leaves the node | `casty_record` |
//! | a snapshot of an entity, as of one of its records | in the background, every so many records (`snapshot_every`); in SQLite with the next records, if some are written within milliseconds | `casty_state` |
//!
//! # The tables
//!
//! They are the same in both databases. The bodies are `MessagePack`, whose content is casty's own.
//!
//! | table | column | |
//! |---|---|---|
//! | `casty_schema` | `version`, `applied_at` | the versions that were applied, and when (seconds since 1970) |
//! | `casty_kind` | `kind` (key), `name`, `shards` | the entity types |
//! | `casty_shard` | `kind`, `shard` (key) | |
//! | | `epoch`, `owner` | the claim that stands. The upper bit of the epoch is inverted, since SQL has no unsigned numbers |
//! | | `head` | the position of the last record |
//! | | `claim` (PostgreSQL) | the number of the claim among those of one epoch |
//! | `casty_record` | `kind`, `shard`, `position` (key) | positions are dense: 1, 2, 3, .. |
//! | | `epoch` | under which it was written |
//! | | `entity`, `seq` | dense for each entity. `kind`, `shard`, `entity` and `seq` are unique |
//! | | `at`, `body` | milliseconds since 1970; empty once the record is forgotten |
//! | `casty_state` | `kind`, `shard`, `entity` (key), `seq`, `at`, `body` | the latest snapshot of each entity |
//!
//! A new version of this crate may add tables and columns. It does so when it opens the store, in
//! one transaction, and an earlier version then refuses the store by its version. Nothing ever goes
//! back, so make a backup before an upgrade.
//!
//! An entity's id is stored as it is. A zero byte in it is stored as the bytes 1 1, and a byte 1 as
//! 1 2, in PostgreSQL, which has no zero bytes in texts.
//!
//! # Settings that matter
//!
//! - PostgreSQL: `synchronous_commit=off` of a role or database is overridden, since an answer
//!   would come before the records are on a disk; `fsync=off` is not, and is logged as a warning.
//!   Long transactions of others (reports, backups with `pg_dump`) make updates of `casty_shard`
//!   slower while they last.
//! - PostgreSQL: [`prefix`](PostgresOptions::prefix) for several applications in one database;
//!   timeouts and the number of connections in [`PostgresOptions`]. TLS: `?sslmode=verify-full` and
//!   `&sslrootcert=ca.pem` in the URL, with the feature `tls`, which is on unless switched off.
//! - SQLite: none. A long reader, such as a shell with an open transaction, keeps the log beside
//!   the file from being shortened.
//!
//! # Backups
//!
//! - SQLite: `sqlite3 shop.db "VACUUM INTO 'backup.db'"` works while nodes run. A copy of the file
//!   alone lacks what is in its log.
//! - PostgreSQL: `pg_dump`, or the archive of the server for any point in time.
//! - Stop all nodes before a backup is restored. A node that ran meanwhile notices that records are
//!   missing that were durable, and does not serve those shards.
//! - Erased entities stay in earlier backups. `VACUUM` also removes them from free pages of a file.

mod error;
mod kinds;
mod pool;
mod postgres;
pub mod projection;
mod schema;
mod sqlite;
mod sync;
mod values;

pub use self::{
    error::OpenError,
    postgres::{Postgres, PostgresOptions},
    sqlite::Sqlite,
};
