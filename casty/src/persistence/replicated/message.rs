//! What stores say to each other.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    id::Epoch,
    persistence::Log,
    protocol::copies::{CopyMessage, StoreId},
};

/// A message of one store to another, about one shard. It may be lost, doubled, reordered and late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopyEnvelope {
    /// The entity type, and the number of the shard.
    pub(crate) kind: Arc<str>,
    pub(crate) shard: u32,
    pub(crate) from: StoreId,
    /// The process that gets it may have another store by then.
    pub(crate) to: StoreId,
    pub(crate) message: StoreMessage,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoreMessage {
    /// Of the protocol.
    Copy(CopyMessage),
    /// What the owner does with what is durable. A copy that has matched the owner's log up to
    /// `matched` does the same; another one goes without, and keeps more than it would have to.
    Tidy {
        epoch: Epoch,
        matched: u64,
        tidy: Tidy,
    },
}

/// What is done to what is stored of an entity, besides new records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tidy {
    Save {
        entity: Arc<str>,
        seq: u64,
        at: u64,
        body: Bytes,
    },
    /// Records that the snapshot contains are forgotten.
    Forget { entity: Arc<str>, through: u64 },
    /// Records are forgotten, and the snapshot that contains no later ones is deleted.
    Erase { entity: Arc<str>, through: u64 },
}

impl CopyEnvelope {
    pub(crate) fn log(&self) -> Log {
        let (kind, shard) = (self.kind.clone(), self.shard);
        Log { kind, shard }
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        const EACH: usize = 128;
        let body = match &self.message {
            StoreMessage::Copy(CopyMessage::Append(append)) => {
                append.records.iter().map(|it| it.body.len() + 32).sum()
            }
            StoreMessage::Tidy {
                tidy: Tidy::Save { body, .. },
                ..
            } => body.len(),
            _ => 0,
        };
        EACH + body
    }
}
