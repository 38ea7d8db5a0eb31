//! What goes in and out of a store.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;

/// The log of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The number of the entity type in this store: what [`Change::Kind`] answers.
    pub kind: u32,
    /// The number of the shard.
    pub shard: u32,
}

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log. The first is 1, and there are no gaps.
    pub position: u64,
    /// The epoch under which it was first written.
    pub epoch: u64,
    /// The entity that wrote it: at most 65,535 bytes.
    pub entity: Arc<str>,
    /// Its place among the records of the entity. These numbers grow.
    pub seq: u64,
    /// When it was written: milliseconds since the Unix epoch.
    pub at: u64,
    /// What it says. Empty once it is forgotten.
    pub body: Bytes,
}

/// The state of an entity as of one of its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of the last record that it contains.
    pub seq: u64,
    /// When it was written: milliseconds since the Unix epoch.
    pub at: u64,
    /// The state.
    pub body: Bytes,
}

/// An entity that has a record with a body, or a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntity {
    /// Its id.
    pub entity: Arc<str>,
    /// The number of its last record.
    pub seq: u64,
    /// When its last record was written: milliseconds since the Unix epoch.
    pub at: u64,
}

/// What is not kept of an entity, and what stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tidied {
    /// The entity.
    pub entity: Arc<str>,
    /// The number of the last record that is forgotten, as all before it are; 0 if none is.
    pub forgotten: u64,
    /// The number of the last record that the snapshot contains, if there is a snapshot.
    pub snapshot: Option<u64>,
}

/// What is known of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The epoch under which it is claimed. Nothing is written under another one.
    pub epoch: u64,
    /// The owner that the claim names.
    pub owner: Arc<str>,
    /// The position of the last record, 0 before the first.
    pub position: u64,
    /// Records up to this position were trimmed.
    pub trimmed: u64,
    /// The epoch of the record at that position.
    pub trimmed_epoch: u64,
}

/// Records that follow each other in a log and have one epoch. Where the epochs of a log never
/// decrease, there is one run for each epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The position of the last record.
    pub last: u64,
    /// Their epoch.
    pub epoch: u64,
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

/// A change of a store. Those of one commit are made in their order, all or none of them.
///
/// Except for a claim, a change is [refused](Done::Refused) unless the log is claimed under the
/// epoch that the change names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes an entity type known, and answers with its number.
    Kind {
        /// Its name: at most 65,535 bytes.
        name: Arc<str>,
        /// How many shards it has.
        shards: NonZeroU32,
    },
    /// Claims a log: from then on nothing is written to it under an earlier epoch. It is refused if
    /// the claim that stands is later, or of the same epoch and another owner.
    Claim {
        /// The log.
        log: LogId,
        /// The epoch, at least 1. A store that copies the log of another one promises the epoch of
        /// the owner.
        epoch: u64,
        /// The name of the owner: at most 65,535 bytes.
        owner: Arc<str>,
    },
    /// Appends records. It is refused unless the first one follows the head of the log, and the
    /// others follow each other.
    Append {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The records. Their own epochs may be earlier ones.
        records: Vec<Record>,
    },
    /// Removes the records after a position. It is refused if records up to that position were
    /// trimmed.
    Cut {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The position of the last record that stays.
        after: u64,
    },
    /// Removes all records of a log, and all its snapshots. It is refused if records were trimmed.
    Clear {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
    },
    /// Removes the records up to a position. It is refused if the log ended before it when the
    /// commit began, or was cut in the same commit.
    Trim {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The position of the last record that is removed.
        through: u64,
    },
    /// Stores a snapshot in place of the last one of its entity. It is refused if the entity has a
    /// snapshot that is as late, if the last record that it contains is forgotten or not there, or
    /// if the log was cut or trimmed in the same commit.
    Save {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The entity.
        entity: Arc<str>,
        /// The snapshot.
        snapshot: Snapshot,
    },
    /// Stores a snapshot that the owner of the log has stored. It is refused if the entity has a
    /// snapshot that is as late, or if the last record that it contains is there and forgotten. The
    /// records that it contains may be missing, or come later.
    Copy {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The entity.
        entity: Arc<str>,
        /// The snapshot.
        snapshot: Snapshot,
    },
    /// Empties the bodies of the records of an entity. The records stay.
    Forget {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The entity.
        entity: Arc<str>,
        /// The number of the last record that is forgotten.
        through: u64,
        /// The snapshot is deleted too, unless it contains later records.
        snapshot: bool,
    },
    /// Empties the bodies of the records of an entity that its snapshot contains. It is refused if
    /// there is no snapshot.
    ForgetContained {
        /// The log.
        log: LogId,
        /// The epoch of the claim.
        epoch: u64,
        /// The entity.
        entity: Arc<str>,
        /// The number of the last record that is forgotten, if the snapshot contains it.
        through: u64,
    },
}

/// What became of a [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is durable.
    Written,
    /// It changed nothing.
    Refused,
    /// The entity type has this number.
    Kind(u32),
    /// The entity type is stored with another number of shards, and nothing has changed.
    OtherShards(NonZeroU32),
    /// The log is claimed, and this is the position of its last record.
    Claimed {
        /// 0 before the first.
        head: u64,
    },
    /// Another claim stands.
    Fenced {
        /// Its epoch.
        epoch: u64,
        /// Its owner.
        owner: Arc<str>,
    },
}
