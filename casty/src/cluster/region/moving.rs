//! States that move with their shard, from one node's entities to another's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::ShardRegion;
use crate::{
    actor::{Entity, HookError, cell::Cell},
    event::Event,
    id::{EntityId, Epoch, ShardId},
    protocol::map::{self, Slot},
    sync::lock,
};

/// The state of an entity without an activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Frozen {
    /// Which of the type's states it is, if it has several.
    pub(crate) name: String,
    pub(crate) state: ByteBuf,
}

/// The states of a shard's entities.
pub(crate) type Parcel = BTreeMap<EntityId, Frozen>;

/// Parcels that have arrived before their shards, each with the epoch that it left at.
pub(super) type Arrived = BTreeMap<ShardId, (Epoch, Parcel)>;

impl<E: Entity> ShardRegion<E> {
    /// The state of an entity that has stopped, if it goes on elsewhere.
    pub(super) fn freeze(&self, shard: ShardId, id: &EntityId, state: &E) {
        if !E::MIGRATES {
            return;
        }
        self.local.freeze(shard, id, || {
            let mut out = Vec::new();
            match state.freeze(&mut out) {
                Ok(name) => Some(Frozen {
                    name: name.to_owned(),
                    state: ByteBuf::from(out),
                }),
                Err(error) => {
                    self.lost(id, format!("its state cannot move: {}", error.0));
                    None
                }
            }
        });
    }

    fn lost(&self, id: &EntityId, reason: String) {
        tracing::error!(entity = %self.path(id), reason, "a state is lost");
        self.runtime.publish(|| Event::ActorFailed {
            who: self.path(id),
            reason,
        });
    }

    /// The state that an entity came here with.
    pub(super) fn thaw(&self, id: &EntityId) -> Option<Result<E, HookError>> {
        if !E::MIGRATES {
            return None;
        }
        let shard = id.shard(self.shards);
        let frozen = self.local.frozen_state(shard, id)?;
        let thawed = self.runtime.enter(|| E::thaw(&frozen.name, &frozen.state));
        Some(match thawed {
            Ok(state) => {
                self.local.thawed(shard, id);
                Ok(state)
            }
            // It is kept: a version that can read it may come.
            Err(error) => Err(HookError(format!(
                "the state that it came with cannot be read: {}",
                error.0
            ))),
        })
    }

    /// A parcel, or the next part of one, for a shard that is about to come here.
    pub(super) fn receive_parcel(&self, shard: ShardId, epoch: Epoch, first: bool, parcel: Parcel) {
        let mut arrived = lock(&self.arrived);
        let (from, present) = arrived.entry(shard).or_default();
        if first || *from != epoch {
            present.clear();
        }
        *from = epoch;
        present.extend(parcel);
    }

    /// Throws parcels away whose shards go somewhere else.
    pub(super) fn sort_parcels(&self, table: &[map::Home], me: Option<Slot>) {
        lock(&self.arrived).retain(|shard, (from, _)| {
            let home = table.get(shard.index());
            home.is_some_and(|home| {
                let comes = home.moving == me && home.epoch == *from;
                me.is_some() && (comes || home.owner == me)
            })
        });
    }

    /// Puts the states that came for a shard where its entities find them.
    pub(super) fn unpack(&self, shard: ShardId, epoch: Epoch) {
        let parcel = lock(&self.arrived).remove(&shard);
        if let Some((from, parcel)) = parcel
            && from < epoch
        {
            self.local.set_frozen(shard, parcel);
        }
    }

    /// Activates what was active where it came from.
    pub(super) fn wake_moved(&self, shards: &[(ShardId, Epoch)]) {
        if !E::MIGRATES {
            return;
        }
        for &(shard, _) in shards {
            for id in self.local.frozen(shard).into_keys() {
                let make =
                    |name| Some(Cell::new(name, self.me.upgrade()?, E::POLICY.mailbox, None));
                if let Some(cell) = self.local.cell_or(shard, &id, make) {
                    cell.wake();
                }
            }
        }
    }
}
