//! Why a store cannot be opened.

use std::path::PathBuf;

/// Why [`Sqlite::open`](crate::Sqlite::open) or [`Postgres::connect`](crate::Postgres::connect) has
/// failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The path names a directory.
    #[error("{} is a directory; give the path of a file in it, such as {}", path.display(), path.join("casty.db").display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The directory of the file does not exist.
    #[error("the directory of {} does not exist; create it", path.display())]
    MissingParent {
        /// The path of the file.
        path: PathBuf,
    },
    /// The path is none that SQLite opens as a file: `:memory:`, a URI, an empty one, or one that
    /// is not UTF-8.
    #[error("`{}` is not the path of a file; for a store in memory use `casty::persistence::Memory`", path.display())]
    NotAPath {
        /// The path.
        path: PathBuf,
    },
    /// The file or the database cannot be written to.
    #[error("{store} is read-only: {reason}")]
    ReadOnly {
        /// The store.
        store: String,
        /// What makes it so, and what to do.
        reason: String,
    },
    /// The file is none of SQLite's, or damaged.
    #[error("{} is not a database of SQLite, or damaged: {reason}; give another path, or restore the file from a backup", path.display())]
    NotADatabase {
        /// The path.
        path: PathBuf,
        /// The error of SQLite.
        reason: String,
    },
    /// A later version of casty has written the tables.
    #[error(
        "the tables in {store} have version {found}, and this version of casty-sql knows {known} at most; use the version of casty-sql that wrote them, or a later one"
    )]
    NewerSchema {
        /// The store.
        store: String,
        /// The version of the tables.
        found: i64,
        /// The latest version that this build can use.
        known: i64,
    },
    /// The file lies on a file system of another machine, on which SQLite's locks do not hold.
    #[error("{} lies on a network file system ({kind}), on which SQLite damages files; use a local disk, or PostgreSQL", path.display())]
    NetworkFileSystem {
        /// The path.
        path: PathBuf,
        /// The type of the file system.
        kind: String,
    },
    /// The file system does not support the journal mode WAL.
    #[error("SQLite cannot use a write-ahead log for {} (its journal mode stays `{mode}`); use a local disk, or PostgreSQL", path.display())]
    NoWriteAheadLog {
        /// The path.
        path: PathBuf,
        /// The journal mode that SQLite uses instead.
        mode: String,
    },
    /// The program or server is too old.
    #[error("{store} has version {found}, and {needed} or later is needed")]
    TooOld {
        /// The store.
        store: String,
        /// Its version.
        found: String,
        /// The least version that works.
        needed: &'static str,
    },
    /// The URL, or a setting, is not valid.
    #[error("{reason}")]
    Invalid {
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// The store cannot be reached, or refuses to work for now. Another try may succeed.
    #[error("{store} is unavailable: {reason}")]
    Unavailable {
        /// The store.
        store: String,
        /// The error.
        reason: String,
    },
}
