//! The log of a shard as its owner sees it, and how far the records of an activation are durable.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::{
    id::{EntityId, Epoch},
    persistence::{Log, store::Store},
};

/// Why a record is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotStored {
    /// The error of the store.
    pub(crate) reason: String,
    /// It may have been stored all the same.
    pub(crate) possibly: bool,
}

/// Whether a log is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The store has not answered yet. The last error, if there was one.
    Pending(Option<String>),
    Held,
    /// It cannot be claimed: another owner has it.
    Refused(String),
}

/// A record that is to be appended.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) entity: EntityId,
    pub(crate) seq: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) body: Bytes,
}

/// How far the records of one activation are durable.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    durable: AtomicU64,
    /// The position in its log of the last durable record.
    position: AtomicU64,
    failed: OnceLock<NotStored>,
    changed: Notify,
}

impl Progress {
    /// The records up to the number `durable` were read from the store.
    pub(crate) fn new(durable: u64) -> Arc<Self> {
        let progress = Self::default();
        progress.durable.store(durable, Ordering::Relaxed);
        Arc::new(progress)
    }

    /// The number of the last durable record.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Why a record was not stored. None after it will be.
    pub(crate) fn failed(&self) -> Option<&NotStored> {
        self.failed.get()
    }

    /// Notified when a record is durable, or has failed.
    pub(crate) fn changed(&self) -> &Notify {
        &self.changed
    }

    pub(super) fn confirm(&self, seq: u64, position: u64) {
        self.position.store(position, Ordering::Release);
        self.durable.store(seq, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(super) fn fail(&self, why: NotStored) {
        let _ = self.failed.set(why);
        self.changed.notify_waiters();
    }
}

/// The log of a shard that this node owns.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(super) store: Arc<Store>,
    pub(super) log: Log,
    pub(super) epoch: Epoch,
    pub(super) claim: watch::Sender<Claim>,
    /// The position of the last record that was written.
    pub(super) head: AtomicU64,
}

impl ShardLog {
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Resolves once the log is claimed, or cannot be. The caller bounds the wait.
    pub(crate) async fn claimed(&self) -> Result<(), String> {
        let mut claim = self.claim.subscribe();
        let settled = claim
            .wait_for(|claim| !matches!(claim, Claim::Pending(_)))
            .await;
        match settled.as_deref() {
            Ok(Claim::Refused(reason)) => Err(reason.clone()),
            Ok(_) => Ok(()),
            Err(_) => Err("the store is closed".to_owned()),
        }
    }

    /// Why the log is not claimed yet.
    pub(crate) fn pending(&self) -> Option<String> {
        match &*self.claim.borrow() {
            Claim::Pending(Some(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Appends a record. `progress` tells when it is durable; once it has failed, no later record of
    /// its activation is written.
    pub(crate) fn append(self: &Arc<Self>, entry: Entry, progress: &Arc<Progress>) {
        self.store.append(self.clone(), entry, progress.clone());
    }
}
