//! Where a projection keeps its view, and how far it is.

use std::fmt;

use futures_util::future::BoxFuture;

use crate::id::{EntityId, Epoch};

/// A projection and one shard of the type that it is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectedShard {
    /// The name of the projection.
    pub projection: String,
    /// Its version.
    pub version: u32,
    /// The wire name of the entity type.
    pub kind: String,
    /// The number of the shard.
    pub shard: u32,
}

impl fmt::Display for ProjectedShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            projection,
            version,
            kind,
            shard,
        } = self;
        write!(
            f,
            "shard {shard} of `{kind}` in projection `{projection}`, version {version}"
        )
    }
}

/// An event that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedEvent {
    /// The entity.
    pub entity: EntityId,
    /// The position of its record in the log of the shard.
    pub position: u64,
    /// When it was written: milliseconds since the Unix epoch.
    pub at: u64,
    /// The record as it is stored.
    pub body: bytes::Bytes,
    /// The error.
    pub reason: String,
}

/// Why a store of views could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The offset was claimed under a later epoch, or is not what this runner has left it at:
    /// another node has taken over. Nothing was written.
    #[error("another node has taken the projection over: {reason}")]
    Stale {
        /// What the store has.
        reason: String,
    },
    /// The store cannot be reached, or refuses to work for now. A commit may have been done.
    #[error("the store of the view is unavailable: {reason}")]
    Unavailable {
        /// The error of the store.
        reason: String,
    },
    /// No further try helps.
    #[error("{reason}")]
    Unusable {
        /// What does not fit, and what to do.
        reason: String,
    },
}

/// Where a projection keeps its view and its offsets: for each shard, the position of the last
/// record that it has handled.
///
/// A runner [claims](Self::claim) an offset under the epoch at which its node owns the shard. From
/// then on the store refuses a [commit](Self::commit) under an earlier epoch. So events are handled
/// *exactly once* if the view is written in the transaction that commit ends. A store without
/// transactions has `Transaction = ()` and saves the offset in `commit`: after a failure, events
/// after the offset come again, so they are handled *at least once*.
///
/// All nodes use the same store. Each function may be called for several shards at once.
pub trait ProjectionStore: Clone + Send + Sync + 'static {
    /// What handlers write in.
    type Transaction: Send;

    /// What it is and where, for logs.
    fn describe(&self) -> String;

    /// How many shards of one node have a transaction at once, at most.
    fn lanes(&self) -> usize {
        1
    }

    /// Makes what it needs, such as tables. Called once on each node.
    fn open(&self) -> BoxFuture<'_, Result<(), ViewError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Claims the offset of a shard, and returns it: 0 if there is none. Once it has returned,
    /// nothing is committed any more under an earlier epoch.
    ///
    /// # Errors
    /// [`ViewError::Stale`] if it is claimed under a later epoch.
    fn claim<'a>(
        &'a self,
        shard: &'a ProjectedShard,
        epoch: Epoch,
    ) -> BoxFuture<'a, Result<u64, ViewError>>;

    /// Begins a transaction. Dropped, it has done nothing.
    fn begin(&self) -> BoxFuture<'_, Result<Self::Transaction, ViewError>>;

    /// Moves the offset from `from` to `to`, and ends the transaction.
    ///
    /// # Errors
    /// [`ViewError::Stale`] if the offset is not at `from`, or is claimed under a later epoch.
    fn commit<'a>(
        &'a self,
        transaction: Self::Transaction,
        shard: &'a ProjectedShard,
        epoch: Epoch,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), ViewError>>;

    /// Takes a transaction back.
    fn roll_back(&self, transaction: Self::Transaction) -> BoxFuture<'_, ()> {
        drop(transaction);
        Box::pin(std::future::ready(()))
    }

    /// Keeps an event that could not be handled, for a projection that says
    /// `poisoned = "park"`.
    fn park<'a>(
        &'a self,
        transaction: &'a mut Self::Transaction,
        shard: &'a ProjectedShard,
        parked: &'a ParkedEvent,
    ) -> BoxFuture<'a, Result<(), ViewError>> {
        let _ = (transaction, shard, parked);
        let reason = format!(
            "{} has no place for parked events: implement `ProjectionStore::park`",
            self.describe()
        );
        Box::pin(std::future::ready(Err(ViewError::Unusable { reason })))
    }
}
