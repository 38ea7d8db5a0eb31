//! One shard's log on several stores: what a copy does, what the owner may let out, and what the
//! map has to check. Decides, and writes and sends nothing itself.
//!
//! Primary and in-sync copies on top of an agreed map: Lin, Yang, Zhang and Zhang, "`PacificA`:
//! Replication in Log-Based Distributed Storage Systems" (2008). The letters C, T, O and M in the
//! comments are the rules, as they held in a model that was explored state by state.
//!
//! - **Map** ([`in_sync`]). Per shard: the epoch, the owner, and the stores that are *in sync*,
//!   with a version of that set. A store becomes the owner's only while it is one of these (M1).
//!   The set changes by compare-and-set on epoch and version (M2).
//! - **Copy** ([`copy`]). It takes an [`Append`] unless it has promised a later epoch (C1), looks
//!   whether its log fits (C2), overwrites what differs (C3), cuts what is older than the epoch and
//!   lies above the owner's start (C4), and confirms how far its log matches the owner's (C5), once
//!   all of that is synced (C6).
//! - **Owner** ([`owner`]). Its log is the truth. It fences its own store first (T1), sends to all
//!   required stores (T3), and lets nothing out before each of them has all that the log had at the
//!   start (T4). A record is durable once its own store has synced it and all required stores have
//!   confirmed it under this epoch (O2).
//!
//! - **Life** ([`Life`]). When all stores in sync are lost for good, an operator gives the log up,
//!   and another life of it begins, in the map. A store that has last taken part in an earlier life
//!   clears what it has, and promises the epoch in the same commit, before it does anything else
//!   under that epoch: L1 as the owner, where the life begins empty, L2 as a copy. So nothing comes
//!   back of what was given up. The one exception is the store in which a life begins with what
//!   that store has: it is the only one in sync, so it is the first owner, and only owners add
//!   copies.
//!
//! [`ShardCopy`] is one shard in one store, whether it is owner or copy at the moment.

mod copy;
mod epoch_runs;
mod held_log;
mod in_sync;
mod limits;
mod link;
mod owner;
mod shard_copy;
mod store;
#[cfg(test)]
mod tests;
mod tidying;
mod unneeded;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use self::in_sync::{IN_SYNC_MAX, InSync};
pub(crate) use self::{
    epoch_runs::EpochRuns,
    in_sync::{CopyPlaces, Life, SetChange, SetRefused, StoredHome, effective_min},
    limits::CopyLimits,
    owner::{AppendRefused, CopiesView},
    shard_copy::ShardCopy,
    store::{StoreId, StoreNo},
    tidying::{TidyEffect, TidyLimits, Tidying},
    unneeded::Unneeded,
};
use crate::id::Epoch;

/// A position of a log, and the epoch of the record there: together they name one record for ever.
/// Position 0 is before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LogPoint {
    pub(crate) position: u64,
    pub(crate) epoch: Epoch,
}

/// A record as it is copied. What it says is of no concern here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopiedRecord {
    /// The epoch it was written in first.
    pub(crate) epoch: Epoch,
    pub(crate) body: Bytes,
}

/// From the owner to a copy: this is what the log has after `prev`. Without records it asks
/// whether the copy's log has `prev`, and fences the copy all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Append {
    pub(crate) epoch: Epoch,
    /// The length of the owner's log when it took over. It never changes within an epoch.
    pub(crate) start: u64,
    /// The last epoch of the life before that of this log: see [`Life`].
    pub(crate) life: Epoch,
    pub(crate) prev: LogPoint,
    pub(crate) records: Vec<CopiedRecord>,
}

/// Why an [`Append`] cannot have come from an owner that keeps the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedAppend {
    #[error("an append of epoch {append} has a record of epoch {record} at position {position}")]
    Order {
        append: Epoch,
        record: Epoch,
        position: u64,
    },
    #[error("an append of epoch {append} is of a life that begins after epoch {life}")]
    Life { append: Epoch, life: Epoch },
    #[error("an append of epoch {append} has another record at position {position} of that epoch")]
    Named { append: Epoch, position: u64 },
}

impl Append {
    /// The position of the last record.
    pub(crate) fn end(&self) -> u64 {
        self.prev.position + self.records.len() as u64
    }

    /// The records with their positions.
    fn placed(&self) -> impl Iterator<Item = (u64, &CopiedRecord)> {
        (self.prev.position + 1..).zip(&self.records)
    }

    /// Epochs never decrease along a log, and none is above the owner's. The owner's is one of its
    /// life.
    fn check(&self) -> Result<(), MalformedAppend> {
        if self.life >= self.epoch {
            let (append, life) = (self.epoch, self.life);
            return Err(MalformedAppend::Life { append, life });
        }
        let mut before = self.prev.epoch;
        let points = self.placed().map(|(at, record)| (at, record.epoch));
        for (position, record) in [(self.prev.position, before)].into_iter().chain(points) {
            if record < before || record > self.epoch {
                let append = self.epoch;
                return Err(MalformedAppend::Order {
                    append,
                    record,
                    position,
                });
            }
            before = record;
        }
        Ok(())
    }
}

/// What one store says to another about a shard. Each message may be lost, doubled, reordered and
/// late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CopyMessage {
    Append(Append),
    /// The copy's log is the owner's up to this position, and that is synced.
    Confirm {
        epoch: Epoch,
        position: u64,
    },
    /// The copy has promised a later epoch.
    Refused {
        promised: Epoch,
    },
    /// The copy's log does not have `prev`. The rest is a hint where the logs may part: safety
    /// never rests on it.
    Differs {
        epoch: Epoch,
        /// The position that was asked for.
        prev: u64,
        /// The last position of each epoch in the copy's log up to `prev`, the newest of them, in
        /// order.
        runs: Vec<LogPoint>,
    },
}

/// The number of a write. A store keeps the order of the writes, so one that is synced says the
/// same of all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteMark(pub(crate) u64);

/// What a store writes, in this order. After a crash any beginning of what was not synced may be
/// left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyWrite {
    pub(crate) mark: WriteMark,
    /// All that the store has of the shard is removed, and the promise is made in the same commit.
    pub(crate) clear: bool,
    /// Appends of lower epochs are refused from now on.
    pub(crate) promise: Option<Epoch>,
    /// A snapshot takes the place of the whole log, which goes on after it.
    pub(crate) install: Option<LogPoint>,
    /// Records after this position are cut off.
    pub(crate) cut: Option<u64>,
    /// The position before the first record.
    pub(crate) after: u64,
    pub(crate) records: Vec<CopiedRecord>,
}

/// What is proposed to the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CopyProposal {
    Drop(SetChange),
    Add(SetChange),
}

/// Why a store owns a shard no more, or does not begin to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StopOwning {
    /// The map has another owner, or none, or a new epoch.
    #[error("the map has moved on")]
    Map,
    /// A store has promised a later epoch.
    #[error("epoch {0} has begun")]
    Superseded(Epoch),
    /// The own store has promised this epoch, or a later one, before the shard was taken over. It
    /// can be owned under a later epoch only.
    #[error("this store has promised epoch {0}")]
    Promised(Epoch),
    /// The own store failed to write.
    #[error("the store failed")]
    StoreFailed,
    /// A store may have confirmed records under this epoch that are damaged there.
    #[error("what another store has confirmed is damaged there")]
    CopyDamaged,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CopyEffect {
    /// Write it and sync it, together with what other shards write. Then
    /// [`handle_synced`](ShardCopy::handle_synced).
    Write(CopyWrite),
    Send {
        to: StoreId,
        message: CopyMessage,
    },
    /// Read records after this position, about so many bytes and at least one. Then
    /// [`handle_read`](ShardCopy::handle_read).
    Read {
        to: StoreId,
        epoch: Epoch,
        after: u64,
        bytes: usize,
    },
    /// The copy needs records that are trimmed. Send it a snapshot as of one position in this
    /// range, both ends included; then [`handle_shipped`](ShardCopy::handle_shipped).
    Ship {
        to: StoreId,
        epoch: Epoch,
        at_least: u64,
        at_most: u64,
    },
    Propose(CopyProposal),
    /// What has seen records up to this position, and no later one, may leave.
    MayLeave(u64),
    /// Nothing leaves any more under this epoch, and what waits has failed, possibly written.
    Stop(Epoch, StopOwning),
    /// The sender does not keep the protocol. The append was ignored.
    Malformed(StoreId, MalformedAppend),
}
