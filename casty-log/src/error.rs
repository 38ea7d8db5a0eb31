//! What goes wrong, and what to do.

use std::{fmt, io};

/// A place in a file that does not say what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The name of the file in the directory of the store.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file, self.offset, self.what)
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store of this one, has the directory open.
    #[error("{directory} is in use by another process; give each node a directory of its own")]
    Locked {
        /// The directory.
        directory: String,
    },
    /// The directory is a copy of one that is still there. Two stores of one identity would each
    /// confirm what the other one has.
    #[error(
        "{directory} is a copy of the store in {original}, which is still there; use that one, or \
         remove it"
    )]
    Copied {
        /// The directory.
        directory: String,
        /// The directory that it is a copy of.
        original: String,
    },
    /// The store was made by a later version.
    #[error(
        "{directory} has format {found}, and this version of casty-log knows {known} at most; use \
         the version that wrote it, or a later one"
    )]
    Newer {
        /// The directory.
        directory: String,
        /// The format of the store.
        found: u32,
        /// The latest format that is known.
        known: u32,
    },
    /// Something that was acknowledged is missing or changed. Nothing was changed by the attempt.
    #[error(
        "{directory} is damaged, in {damage}; a store with copies elsewhere is begun anew in an empty directory, another is restored from a backup"
    )]
    Damaged {
        /// The directory.
        directory: String,
        /// Where.
        damage: Damage,
    },
    /// The disk failed.
    #[error("{directory}: {what} failed: {}", explain(source))]
    Io {
        /// The directory.
        directory: String,
        /// What was tried.
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Why a commit failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// Nothing was written.
    #[error("nothing was written: {reason}")]
    NotWritten {
        /// Why, and what to do.
        reason: String,
    },
    /// All of it was written, or nothing. The store takes no more until it is opened again, and
    /// then its heads tell which.
    #[error("it is not known whether it was written: {reason}")]
    Unknown {
        /// Why, and what to do.
        reason: String,
    },
}

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not those that were written.
    #[error("damage in {0}")]
    Damaged(Damage),
    /// The disk failed.
    #[error("{0}")]
    Io(String),
}

/// An error of the disk, and what to do about it.
pub(crate) fn explain(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: make room, and it is used again"
        }
        io::ErrorKind::ReadOnlyFilesystem => "the disk is read-only",
        io::ErrorKind::PermissionDenied => "this process may not write there",
        _ => return format!("the disk failed ({error})"),
    };
    format!("{advice} ({error})")
}
