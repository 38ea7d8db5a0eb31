//! What stores say to each other.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    id::Epoch,
    persistence::Log,
    protocol::copies::{CopyMessage, LogPoint, StoreId},
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
    /// What the owner does with what is durable. A copy that has the last durable record does the
    /// same, and says so.
    Tidy {
        epoch: Epoch,
        durable: LogPoint,
        number: u64,
        tidy: Tidy,
    },
    /// It is done, and that is durable.
    Tidied { epoch: Epoch, number: u64 },
    /// A copy is to say what is tidied after this entity, unless all is that makes up this sum.
    List {
        epoch: Epoch,
        durable: LogPoint,
        sum: u64,
        after: Option<Arc<str>>,
    },
    /// The same is tidied in the copy.
    Same { epoch: Epoch },
    /// What is tidied in the copy after this entity, in the order of the ids.
    Listed {
        epoch: Epoch,
        after: Option<Arc<str>>,
        entities: Vec<TidiedEntity>,
        is_last: bool,
    },
    /// The owner has not done what the copy has done with these entities.
    Fetch {
        epoch: Epoch,
        durable: LogPoint,
        entities: Vec<Arc<str>>,
    },
    /// What the owner is to do therefore.
    Fetched { epoch: Epoch, tidies: Vec<Tidy> },
    /// A store that is no copy any more asks whether it may give up what it has. It may have
    /// confirmed so much under this epoch.
    Unneeded {
        epoch: Epoch,
        confirmed: Option<u64>,
        asked: u64,
    },
    /// A store in sync does without it.
    Spared {
        epoch: Epoch,
        by_owner: bool,
        confirmed: Option<u64>,
        asked: u64,
    },
    /// A store that is no copy any more cannot read what it may have confirmed under this epoch. It
    /// begins anew under a later one.
    Damaged { epoch: Epoch },
}

/// What is not kept of an entity, and what stands for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TidiedEntity {
    pub(crate) entity: Arc<str>,
    /// The number of the last record that is forgotten, 0 if none is.
    pub(crate) forgotten: u64,
    /// The number of the last record that the snapshot contains.
    pub(crate) snapshot: Option<u64>,
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
            StoreMessage::Tidy { tidy, .. } => tidy.weight(),
            StoreMessage::Fetched { tidies, .. } => tidies.iter().map(Tidy::weight).sum(),
            StoreMessage::Listed { entities, .. } => {
                entities.iter().map(|it| it.entity.len() + 64).sum()
            }
            StoreMessage::Fetch { entities, .. } => entities.iter().map(|it| it.len() + 32).sum(),
            _ => 0,
        };
        EACH + body
    }
}

impl Tidy {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        const EACH: usize = 64;
        EACH + match self {
            Self::Save { entity, body, .. } => entity.len() + body.len(),
            Self::Forget { entity, .. } | Self::Erase { entity, .. } => entity.len(),
        }
    }
}

impl TidiedEntity {
    /// Whether another store has done something with the entity that is not done where this is
    /// told of. `None`: nothing is.
    pub(crate) fn lacks(this: Option<&Self>, other: &Self) -> bool {
        let forgotten = this.map_or(0, |this| this.forgotten);
        let snapshot = this.and_then(|this| this.snapshot);
        // A snapshot that contains no later record than those that are forgotten without one was
        // erased.
        let is_erased = |seq| match (snapshot, other.snapshot) {
            (None, Some(_)) => forgotten >= seq,
            _ => false,
        };
        let has_later = other
            .snapshot
            .is_some_and(|seq| snapshot.is_none_or(|own| own < seq) && !is_erased(seq));
        let has_erased =
            other.snapshot.is_none() && snapshot.is_some_and(|own| own <= other.forgotten);
        other.forgotten > forgotten || has_later || has_erased
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(forgotten: u64, snapshot: u64) -> TidiedEntity {
        TidiedEntity {
            entity: "ada".into(),
            forgotten,
            snapshot: (snapshot > 0).then_some(snapshot),
        }
    }

    /// Each does what the other has done.
    fn merged(one: &TidiedEntity, other: &TidiedEntity) -> TidiedEntity {
        let forgotten = one.forgotten.max(other.forgotten);
        let kept = |it: &TidiedEntity, beside: &TidiedEntity| {
            it.snapshot
                .filter(|seq| beside.snapshot.is_some() || beside.forgotten < *seq)
        };
        let snapshot = kept(one, other).max(kept(other, one));
        TidiedEntity {
            forgotten,
            snapshot,
            entity: one.entity.clone(),
        }
    }

    #[test]
    fn a_store_lacks_something_until_it_has_done_what_the_other_one_has() {
        let all: Vec<_> = (0..6)
            .flat_map(|forgotten| (0..6).map(move |snapshot| tidied(forgotten, snapshot)))
            // No entity has a snapshot that contains less than what is forgotten.
            .filter(|it| it.snapshot.is_none_or(|seq| seq >= it.forgotten))
            .collect();
        for (one, other) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            let both = merged(one, other);
            assert_eq!(
                TidiedEntity::lacks(Some(one), other),
                both != *one,
                "{one:?} {other:?}"
            );
            assert!(!TidiedEntity::lacks(Some(&both), one), "{one:?} {other:?}");
        }
        assert!(TidiedEntity::lacks(None, &tidied(1, 0)));
        assert!(!TidiedEntity::lacks(None, &tidied(0, 0)));
    }
}
