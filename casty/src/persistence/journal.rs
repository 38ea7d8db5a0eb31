//! The trait of a store, and what goes in and out of it.

use std::{fmt, num::NonZeroU32, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    error::StoredError,
    id::{EntityId, Epoch},
};

/// The most bytes that the body of a record, or of a snapshot, has: 7 MiB. A copy of it has to fit
/// into one frame between two nodes. It is the same for each store, so that an entity that is
/// stored in one can be stored in another.
///
/// A command whose record would be longer fails as
/// [`AskError::RecordTooLarge`](crate::AskError::RecordTooLarge). A longer snapshot is not saved,
/// which a warning says: the entity goes on, and its records stay.
pub const BODY_BYTES_MAX: usize = 7 * 1024 * 1024;

/// The log of one shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log {
    /// The wire name of the entity type.
    pub kind: Arc<str>,
    /// The number of the shard.
    pub shard: u32,
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} of `{}`", self.shard, self.kind)
    }
}

/// What one handled message has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log of its shard. The first is 1, and there are no gaps.
    pub position: u64,
    /// The epoch under which it was written.
    pub epoch: Epoch,
    /// The entity that wrote it. Empty: the shard itself, which notes how far its sends are taken.
    /// It is not [listed](Journal::entities).
    pub entity: EntityId,
    /// Its place among the records of the entity. The first is 1, and there are no gaps; of the
    /// shard itself some may be missing.
    pub seq: u64,
    /// When it was written: milliseconds since the Unix epoch, by the clock of the node.
    pub at: u64,
    /// What it says, at most [`BODY_BYTES_MAX`] bytes. A store does not look into it. Empty once it
    /// was [forgotten](Journal::forget).
    pub body: Bytes,
}

/// Records that are to be appended to one log. If they do not have the form that is asked for here,
/// nothing of the part is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The log.
    pub log: Log,
    /// The epoch under which the log was claimed. All records have it.
    pub epoch: Epoch,
    /// At least one record. Their positions follow each other, and the first follows the head of
    /// the log.
    pub records: Vec<Record>,
}

/// What became of one [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Its records are durable.
    Written,
    /// Nothing was written: the log is claimed under another epoch, or its head is not the position
    /// before the first record. A [claim](Journal::claim) tells which.
    Refused,
}

/// The state of an entity as of one of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the last record that it contains.
    pub seq: u64,
    /// When it was written: milliseconds since the Unix epoch.
    pub at: u64,
    /// The state, at most [`BODY_BYTES_MAX`] bytes. A store does not look into it.
    pub body: Bytes,
}

/// An entity of which there are records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntity {
    /// Its id.
    pub entity: EntityId,
    /// The number of its last record.
    pub seq: u64,
    /// When its last record was written: milliseconds since the Unix epoch.
    pub at: u64,
}

/// How much a read returns at most. It returns at least one record, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// How many records.
    pub records: usize,
    /// How many bytes of bodies, about.
    pub bytes: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            records: 512,
            bytes: 1024 * 1024,
        }
    }
}

/// Why a store could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The store cannot be reached, or refuses to work for now. Another try may succeed.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// The error of the store.
        reason: String,
    },
    /// What is stored does not fit: a number of shards that has changed, a format of a later
    /// version, damage. No further try helps.
    #[error("{reason}")]
    Unusable {
        /// What does not fit, and what to do.
        reason: String,
    },
}

impl From<JournalError> for StoredError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Unavailable { reason } => Self::Unavailable { reason },
            JournalError::Unusable { reason } => Self::Unusable { reason },
        }
    }
}

/// Why an append failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written.
    #[error("nothing was written: {reason}")]
    NotWritten {
        /// The error of the store.
        reason: String,
    },
    /// All of it was written, or nothing. A [claim](Journal::claim) under the same epoch waits for
    /// the end of the unfinished append, and its head tells which.
    #[error("it is not known whether it was written: {reason}")]
    Unknown {
        /// The error of the store.
        reason: String,
    },
    /// The same, of a store with copies: fewer nodes than must have a copy answer. It is written
    /// once they do.
    #[error("too few nodes with copies answer; these do not: {}", missing.join(", "))]
    NotEnoughCopies {
        /// The nodes that do not answer.
        missing: Vec<String>,
    },
}

/// Why a log could not be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The log is claimed under a later epoch, or under the same one by another owner.
    #[error("it is claimed under epoch {epoch} by `{owner}`")]
    Fenced {
        /// The epoch of the claim that stands.
        epoch: Epoch,
        /// The owner that the claim names.
        owner: String,
    },
    /// The store failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A store of logs.
///
/// Each function may be called from several tasks at once. A future that is returned may be dropped
/// at any time; what it has begun must then either end by itself or have no effect.
///
/// With the feature `testkit`, `casty::persistence::suite` tests an implementation.
pub trait Journal: Send + Sync + 'static {
    /// What it is and where, for logs: `SQLite at /var/lib/shop/casty.db`.
    fn describe(&self) -> String;

    /// Why the store must not be used by nodes on several hosts, and what to use instead. `None`
    /// if it may be.
    fn only_one_host(&self) -> Option<&'static str> {
        None
    }

    /// How many [appends](Self::append) may run at once, at most. A log is part of one of them at a
    /// time.
    fn lanes(&self) -> usize {
        1
    }

    /// How many records have to wait before an append begins beside another one. With few of them
    /// it is faster to write them together, once the other one has ended.
    fn lane_records(&self) -> usize {
        256
    }

    /// Prepares for entity types, each with its number of shards.
    ///
    /// # Errors
    /// [`JournalError::Unusable`] if a type is stored with another number of shards.
    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>>;

    /// The latest epoch under which any log is claimed; [`Epoch::ZERO`] if none is.
    ///
    /// A cluster that is founded anew, by nodes that have forgotten the last one, begins after it.
    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>>;

    /// Claims a log, and returns its head: the position of its last record, 0 if it has none.
    ///
    /// Once it has returned, nothing is written any more under an earlier epoch. It waits for an
    /// append under such an epoch, or an unfinished one under the same epoch, to end. A claim under
    /// the same epoch by the same owner may be repeated.
    ///
    /// # Errors
    /// [`ClaimError::Fenced`] if the claim that stands is later, or of the same epoch and another
    /// owner.
    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>>;

    /// Appends to several logs in one commit; no log occurs in two of the parts. It returns once
    /// what was written is durable, with one answer for each part, in order. A part that is refused
    /// does not keep the others from being written.
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>>;

    /// The records of an entity after `after`, in order: a page of them. Fewer than the page allows
    /// do not mean that these were the last ones; none does.
    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>>;

    /// The records of a log after the position `after`, in order: a page of them.
    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>>;

    /// The position of the last record of a log that is durable in all copies which must have it.
    /// `None`, the default: the store has no copies on other nodes, and all that is read is
    /// durable.
    ///
    /// # Errors
    /// [`JournalError::Unavailable`] if this node does not own the shard, or is still taking it
    /// over.
    fn durable<'a>(&'a self, log: &'a Log) -> BoxFuture<'a, Result<Option<u64>, JournalError>> {
        let _ = log;
        Box::pin(std::future::ready(Ok(None)))
    }

    /// The latest snapshot of an entity.
    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>>;

    /// Stores a snapshot in place of the last one. A snapshot changes nothing if it is not later
    /// than the one that is stored, if it comes under an epoch other than that of the claim, or if
    /// the last record that it contains is forgotten. So a snapshot that comes late does not bring
    /// back an entity that was erased.
    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>>;

    /// Empties the bodies of the records of an entity up to the number `through`. The records stay,
    /// with their positions. With `snapshot`, the snapshot is deleted too, unless it contains later
    /// records. Under an epoch other than that of the claim it changes nothing.
    ///
    /// A store with copies on other nodes returns, with `snapshot`, once all copies that count have
    /// done it: otherwise what was erased would still be somewhere.
    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>>;

    /// The entities of a log after `after`, in the order of their ids as bytes, at most `limit`. An
    /// entity all of whose records are forgotten, and that has no snapshot, is not among them.
    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>>;

    /// The node that was given the store has ended and does not use it any more. A store that is
    /// for this node alone gives its resources back before it returns; one that others use as well
    /// does nothing, which is the default.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
