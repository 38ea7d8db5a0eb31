//! How far the records of an activation are durable.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::{error::Failure, infra::sync::lock};

/// How many records of one activation may be in flight, and how many bytes of them. A run at this
/// bound waits.
const ACTIVATION_MAX: InFlight<usize> = InFlight {
    records: 1024,
    bytes: 8 * 1024 * 1024,
};

/// The same for all activations of a node.
pub(super) const NODE_MAX: InFlight<usize> = InFlight {
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
    pub(super) fn add(&self, bytes: usize) {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.records.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_below(&self, max: &InFlight<usize>) -> bool {
        self.records.load(Ordering::Relaxed) < max.records
            && self.bytes.load(Ordering::Relaxed) < max.bytes
    }
}

/// Why a record is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotStored {
    /// The error of the store.
    pub(crate) reason: String,
    /// The nodes that it waits for, if too few copies answer.
    pub(crate) missing: Vec<String>,
    /// It may have been stored all the same.
    pub(crate) possibly: bool,
}

impl NotStored {
    pub(crate) fn new(reason: impl Into<String>, possibly: bool) -> Self {
        Self {
            reason: reason.into(),
            missing: Vec::new(),
            possibly,
        }
    }

    /// The failure of what waits for the record. `possibly`: some record of its activation may be
    /// stored.
    pub(crate) fn failure(&self, possibly: bool) -> Failure {
        if self.missing.is_empty() {
            let reason = self.reason.clone();
            return Failure::NotStored { reason, possibly };
        }
        let missing = self.missing.clone();
        Failure::NotEnoughCopies { missing, possibly }
    }
}

/// How far the records of one activation are durable.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    durable: AtomicU64,
    /// The position in its log of the last durable record.
    position: AtomicU64,
    /// What waits for the position of a record: its number, and where it goes.
    marks: Mutex<Vec<(u64, Arc<AtomicU64>)>>,
    failed: OnceLock<NotStored>,
    /// Of some record that has failed it is not known whether it is stored.
    is_in_doubt: AtomicBool,
    changed: Notify,
    pub(super) in_flight: InFlight,
}

impl Progress {
    /// The records up to the number `durable` were read from the store.
    #[cfg(test)]
    pub(crate) fn new(durable: u64) -> Arc<Self> {
        Self::of(durable, 0)
    }

    /// The same, where the last one has this position in the log of its shard.
    pub(crate) fn of(durable: u64, position: u64) -> Arc<Self> {
        let progress = Self::default();
        progress.durable.store(durable, Ordering::Relaxed);
        progress.position.store(position, Ordering::Relaxed);
        Arc::new(progress)
    }

    /// The number of the last durable record.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The position of the last durable record in the log of its shard.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// The position of the record `seq`, the last one that was appended: from when it is durable
    /// on.
    pub(crate) fn mark(&self, seq: u64) -> Arc<AtomicU64> {
        let mut marks = lock(&self.marks);
        let is_durable = self.durable() >= seq;
        let mark = Arc::new(AtomicU64::new(if is_durable { self.position() } else { 0 }));
        if !is_durable {
            marks.push((seq, mark.clone()));
        }
        mark
    }

    /// Why a record was not stored. None after it will be.
    pub(crate) fn failed(&self) -> Option<&NotStored> {
        self.failed.get()
    }

    /// Whether a record that is not durable may be stored: an earlier one may be on its way while a
    /// later one has failed.
    pub(crate) fn may_be_stored(&self) -> bool {
        !self.is_settled() || self.is_in_doubt.load(Ordering::Acquire)
    }

    /// Notified when a record is durable, or has failed.
    pub(crate) fn changed(&self) -> &Notify {
        &self.changed
    }

    /// Whether each record that was appended is durable, or has failed or is about to.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Resolves once each record that was appended is durable or has failed. Until then the entity
    /// must not be read from the store for its next activation.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(crate) async fn settled(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.in_flight.is_empty() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.is_below(&ACTIVATION_MAX)
    }

    /// The caller [notifies](Self::changed) afterwards.
    pub(crate) fn confirm(&self, seq: u64, position: u64) {
        let mut marks = lock(&self.marks);
        self.position.store(position, Ordering::Release);
        for (_, mark) in marks.extract_if(.., |(marked, _)| *marked == seq) {
            mark.store(position, Ordering::Release);
        }
        self.durable.store(seq, Ordering::Release);
    }

    /// A record is about to fail of which it is not known whether it is stored, if `possibly`.
    pub(super) fn doubt(&self, possibly: bool) {
        self.is_in_doubt.fetch_or(possibly, Ordering::Release);
    }

    /// The caller [notifies](Self::changed) afterwards.
    pub(crate) fn fail(&self, why: NotStored) {
        let _ = self.failed.set(why);
    }
}
