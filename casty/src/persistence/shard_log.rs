//! The log of a shard as its owner sees it, and how far the records of an activation are durable.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::{
    id::{EntityId, Epoch},
    persistence::{Log, store::Store},
};

/// How many records of one activation may be in flight, and how many bytes of them. A run at this
/// bound waits, see [`ShardLog::has_room`].
const ACTIVATION_MAX: InFlight<usize> = InFlight {
    records: 1024,
    bytes: 8 * 1024 * 1024,
};

/// The same for all activations of a node.
const NODE_MAX: InFlight<usize> = InFlight {
    records: 16 * 1024,
    bytes: 64 * 1024 * 1024,
};

/// Records that were queued, and are neither durable nor have failed.
#[derive(Debug, Default)]
pub(super) struct InFlight<N = AtomicUsize> {
    records: N,
    bytes: N,
}

impl InFlight {
    fn add(&self, bytes: usize) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.records.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.load(Ordering::Relaxed) == 0
    }

    fn is_below(&self, max: &InFlight<usize>) -> bool {
        self.records.load(Ordering::Relaxed) < max.records
            && self.bytes.load(Ordering::Relaxed) < max.bytes
    }
}

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
    pub(super) in_flight: InFlight,
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

    pub(crate) fn confirm(&self, seq: u64, position: u64) {
        self.position.store(position, Ordering::Release);
        self.durable.store(seq, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub(crate) fn fail(&self, why: NotStored) {
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
    ///
    /// The caller has seen that there is [room](Self::has_room).
    pub(crate) fn append(self: &Arc<Self>, entry: Entry, progress: &Arc<Progress>) {
        let bytes = entry.body.len();
        self.store.in_flight.add(bytes);
        progress.in_flight.add(bytes);
        self.store.append(self.clone(), entry, progress.clone());
    }

    /// Whether a further record may be appended: those in flight, of the activation and of the
    /// node, are bounded.
    pub(crate) fn has_room(&self, progress: &Progress) -> bool {
        progress.in_flight.is_below(&ACTIVATION_MAX) && self.store.in_flight.is_below(&NODE_MAX)
    }

    /// Resolves once there is room, or a record of the activation has failed.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(crate) async fn room(&self, progress: &Progress) {
        loop {
            let freed = self.store.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.has_room(progress) || progress.failed().is_some() {
                return;
            }
            freed.await;
        }
    }
}
