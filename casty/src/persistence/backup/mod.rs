//! A backup of what is stored in copies: one file, which is read from its beginning to its end.
//!
//! ```text
//! "castybak", format
//! Start   the cluster, and when it was begun
//! Kind    an entity type, before its shards
//! Page    snapshots and records of one shard, in the order of the positions
//! Shard   up to which position the shard goes: it is whole
//! End     how much that was. Without it the backup is not whole
//! ```
//!
//! Each of these has a length and a checksum, which begins with that of the one before: so nothing
//! is missing, doubled or in another order.

mod file;
mod restore;

use std::{path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub(crate) use self::{
    file::{BackupReader, BackupWriter},
    restore::restore,
};

/// A record, with what its place in the log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedRecord {
    pub(crate) position: u64,
    pub(crate) epoch: u64,
    pub(crate) entity: Arc<str>,
    pub(crate) seq: u64,
    pub(crate) at: u64,
    /// Empty once it is forgotten.
    pub(crate) body: ByteBuf,
}

/// A snapshot of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LoggedSnapshot {
    pub(crate) entity: Arc<str>,
    pub(crate) seq: u64,
    pub(crate) at: u64,
    pub(crate) body: ByteBuf,
}

/// A part of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BackupPart {
    Start {
        cluster: String,
        /// Milliseconds since the Unix epoch.
        at: u64,
    },
    Kind {
        name: String,
        shards: u32,
    },
    /// Of the last type.
    Page {
        shard: u32,
        /// Of a forgotten record, what stands for it is among them, unless it was erased.
        snapshots: Vec<LoggedSnapshot>,
        records: Vec<LoggedRecord>,
    },
    Shard {
        shard: u32,
        position: u64,
    },
    End {
        /// Milliseconds since the Unix epoch.
        at: u64,
        shards: u64,
        records: u64,
        snapshots: u64,
    },
}

/// What a backup contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The name of the cluster.
    pub cluster: String,
    /// When the backup was begun: milliseconds since the Unix epoch, by the clock of the process
    /// that made it.
    pub at: u64,
    /// The wire names of the entity types.
    pub kinds: Vec<String>,
    /// How many shards.
    pub shards: u64,
    /// How many records, forgotten ones included.
    pub records: u64,
    /// How many snapshots.
    pub snapshots: u64,
    /// The size of the file.
    pub bytes: u64,
}

/// Why a backup could not be made or restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The operating system refuses something.
    #[error("{what} `{}`: {reason}", path.display())]
    Io {
        /// What was tried: `creating`, for example.
        what: &'static str,
        /// The file or the directory.
        path: PathBuf,
        /// The error.
        reason: String,
    },
    /// There is something where the result is to be.
    #[error("`{}` is there already, and is not empty", path.display())]
    NotEmpty {
        /// The file or the directory.
        path: PathBuf,
    },
    /// The file is no backup.
    #[error("`{}` is no backup", path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
    },
    /// A later version of casty has written the backup.
    #[error("`{}` has format {found}, and this version reads {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// The backup was not finished: its process was ended, or a disk was full.
    #[error("the backup `{}` was not finished", path.display())]
    Unfinished {
        /// The file.
        path: PathBuf,
    },
    /// The backup is not as it was written.
    #[error("the backup `{}` is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first part begins that is not as it was written.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The store into which it is restored fails.
    #[error("the store in `{}` fails: {reason}", path.display())]
    Store {
        /// Its directory.
        path: PathBuf,
        /// The error.
        reason: String,
    },
}

impl BackupError {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io {
            what,
            path,
            reason: error.to_string(),
        }
    }
}
