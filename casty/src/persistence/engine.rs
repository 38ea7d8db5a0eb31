//! What writes the log of a store.

use std::sync::Mutex;
#[cfg(feature = "sim")]
use std::time::Duration;

use casty_log::{Change, CommitError, Done};

use crate::infra::sync::lock;

/// What writes.
pub(super) enum Engine {
    /// Threads of the log's own.
    Threads(casty_log::Log),
    /// The task that commits: in memory there is nothing to wait for.
    InMemory {
        store: Box<Mutex<casty_log::Store>>,
        reader: casty_log::Reader,
    },
    /// The task that commits: a simulation has no other threads.
    #[cfg(feature = "sim")]
    Here {
        store: Box<tokio::sync::Mutex<casty_log::Store>>,
        reader: casty_log::Reader,
        /// How long a commit takes.
        pace: Pace,
    },
}

#[cfg(feature = "sim")]
pub(crate) type Pace = Box<dyn Fn() -> Duration + Send + Sync>;

impl Engine {
    pub(super) fn reader(&self) -> &casty_log::Reader {
        match self {
            Self::Threads(log) => log.reader(),
            Self::InMemory { reader, .. } => reader,
            #[cfg(feature = "sim")]
            Self::Here { reader, .. } => reader,
        }
    }

    /// Makes changes, all or none. Commits are made in the order in which they are polled first.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Done>, CommitError> {
        match self {
            Self::Threads(log) => log.commit(changes).await,
            Self::InMemory { store, .. } => lock(store).commit(&changes),
            #[cfg(feature = "sim")]
            Self::Here { store, pace, .. } => {
                let mut store = store.lock().await;
                tokio::time::sleep(pace()).await;
                if store.is_dead().is_some() {
                    store.reopen().map_err(|error| CommitError::NotWritten {
                        reason: error.to_string(),
                    })?;
                }
                store.commit(&changes)
            }
        }
    }

    /// Whether it writes nothing until it is opened again, which a commit tries.
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Self::Threads(log) => log.is_dead().is_some(),
            Self::InMemory { store, .. } => lock(store).is_dead().is_some(),
            #[cfg(feature = "sim")]
            Self::Here { store, .. } => store
                .try_lock()
                .is_ok_and(|store| store.is_dead().is_some()),
        }
    }

    pub(super) fn close(self) -> std::io::Result<()> {
        match self {
            Self::Threads(log) => log.close(),
            // It is gone with its last handle.
            Self::InMemory { .. } => Ok(()),
            #[cfg(feature = "sim")]
            Self::Here { store, .. } => store.into_inner().close(),
        }
    }
}
