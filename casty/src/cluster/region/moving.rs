//! Migration: the states that move with their shard from one node to another.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ShardRegion;
use crate::{
    actor::{Entity, HookError, tasks::throttle::Throttle},
    cluster::region::{
        local::StayedState,
        parcel::{Arriving, Frozen, Piece},
    },
    event::Event,
    id::{EntityId, Epoch, ShardId},
    infra::{panic, sync::lock},
    message::codec::{self, EncodeError},
    protocol::map::{self, Slot},
};

/// Parcels that have arrived before their shards, or are about to.
pub(super) type Arrived = BTreeMap<ShardId, Arriving>;

impl ShardRegion {
    /// Takes the state of an entity that has stopped, if it goes on elsewhere. An error says why it
    /// cannot.
    pub(super) fn freeze(
        &self,
        shard: ShardId,
        id: &EntityId,
        encode: &dyn Fn(&mut Vec<u8>) -> Result<&'static str, EncodeError>,
        luggage: &Bytes,
    ) -> Result<(), String> {
        if !self.entity_type.migrates || !self.local.is_handed_over(shard) {
            return Ok(());
        }
        // Without a lock, since this runs a user's code.
        let (name, bytes) =
            codec::by_user(&mut |out| encode(out)).map_err(|EncodeError(reason)| reason)?;
        let frozen = Frozen {
            name: name.to_owned(),
            state: Bytes::from(bytes),
            luggage: luggage.clone(),
        };
        self.local.freeze(shard, id, frozen);
        Ok(())
    }

    fn lost(&self, id: &EntityId, reason: String) {
        tracing::error!(entity = %self.path(id), reason, "a state is lost");
        self.runtime.publish(|| Event::ActorFailed {
            who: self.path(id),
            reason,
        });
    }

    /// Gives up the states of a shard that cannot be encoded: this node leaves.
    pub(super) fn give_up_stayed(&self, shard: ShardId) {
        for (id, stayed) in self.local.take_stayed(shard) {
            let reason = format!(
                "its state cannot be encoded, and its node leaves: {}",
                stayed.reason
            );
            self.lost(&id, reason);
            panic::contained("a state", || drop(stayed));
        }
    }

    /// The state of an entity that could not move, and what it took along.
    pub(super) fn stayed<E: Entity>(&self, shard: ShardId, id: &EntityId) -> Option<(E, Bytes)> {
        let StayedState { state, luggage, .. } = self.local.take_stayed_state(shard, id)?;
        // All states of a region are of its type.
        let state: Box<E> = state.downcast().ok()?;
        Some((*state, luggage))
    }

    /// The state with which an entity came here.
    pub(super) fn frozen(&self, shard: ShardId, id: &EntityId) -> Option<Frozen> {
        if !self.entity_type.migrates {
            return None;
        }
        self.local.frozen_state(shard, id)
    }

    /// The entity with that state.
    pub(super) async fn thaw<E: Entity>(
        &self,
        shard: ShardId,
        id: &EntityId,
        frozen: Frozen,
    ) -> Result<E, HookError> {
        let _turn = self.runtime.packing.turn().await;
        match self.runtime.enter(|| E::thaw(&frozen.name, &frozen.state)) {
            Ok(state) => {
                self.local.thawed(shard, id);
                Ok(state)
            }
            // The state is kept, since a version that can read it may come.
            Err(error) => Err(HookError(format!(
                "the state that it came with cannot be read: {}",
                error.0
            ))),
        }
    }

    /// The next part of a parcel for a shard that is about to come here. `false` if an earlier part
    /// is missing.
    pub(super) fn receive_part(
        &self,
        shard: ShardId,
        epoch: Epoch,
        first: bool,
        part: Vec<Piece>,
    ) -> bool {
        let mut arrived = lock(&self.arrived);
        arrived.entry(shard).or_default().add(epoch, first, part)
    }

    /// Drops parcels whose shards go to another node.
    pub(super) fn sort_parcels(&self, table: &[map::ShardHome], me: Option<Slot>) {
        lock(&self.arrived).retain(|shard, arriving| {
            let home = table.get(shard.index());
            home.is_some_and(|home| {
                let comes = home.moving == me && home.epoch == arriving.from;
                me.is_some() && (comes || home.owner == me)
            })
        });
    }

    /// Stores the states that came for a shard where its entities find them at their start.
    pub(super) fn unpack(&self, shard: ShardId, epoch: Epoch) {
        let arrived = lock(&self.arrived).remove(&shard);
        if let Some(arrived) = arrived
            && arrived.from < epoch
        {
            self.local.set_frozen(shard, arrived.into_parcel());
        }
    }

    /// Activates the entities that were active on the previous node, a few at a time.
    pub(super) fn wake_moved(&self, shards: &[(ShardId, Epoch)]) {
        if !self.entity_type.migrates {
            return;
        }
        let ids = |&(shard, _): &(ShardId, Epoch)| {
            let ids = self.local.waiting_ids(shard).into_iter();
            ids.map(move |id| (shard, id))
        };
        let moved: Vec<(ShardId, EntityId)> = shards.iter().flat_map(ids).collect();
        if moved.is_empty() {
            return;
        }
        let (me, runtime) = (self.me.clone(), self.runtime.clone());
        self.runtime.spawn(Box::pin(async move {
            in_turns(&runtime.packing, moved, |(shard, id)| {
                let Some(region) = me.upgrade() else { return };
                if let Some(cell) = region.local.moved_cell(&region, *shard, id) {
                    cell.wake();
                }
            })
            .await;
        }));
    }
}

/// How many runs a move begins in one turn.
const TURN: usize = 16;

/// Handles each item, a few in each turn: if a task makes thousands of tasks ready at once, all
/// others wait behind them.
pub(super) async fn in_turns<T, R>(
    pace: &Throttle,
    all: Vec<T>,
    mut begin: impl FnMut(&T) -> R,
) -> Vec<R> {
    let mut results = Vec::with_capacity(all.len());
    for few in all.chunks(TURN) {
        // The turn comes after the work that the previous few have started.
        let turn = pace.turn().await;
        results.extend(few.iter().map(&mut begin));
        turn.give_way().await;
    }
    results
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn others_have_their_turn_between_a_few_and_the_next() {
        let (count, pace) = (Arc::new(AtomicUsize::new(0)), Arc::new(Throttle::default()));
        // As many shards as move at a time, large and small.
        let sizes = || (0..32).map(|n| if n % 2 == 0 { 10 * TURN } else { 3 });
        let mut shards = tokio::task::JoinSet::new();
        for cells in sizes() {
            let (count, pace) = (count.clone(), pace.clone());
            shards.spawn(async move {
                let begin = |(): &()| count.fetch_add(1, Ordering::Relaxed);
                in_turns(&pace, vec![(); cells], begin).await.len()
            });
        }
        let (mut before, total) = (0, sizes().sum());
        while before < total {
            tokio::task::yield_now().await;
            let now = count.load(Ordering::Relaxed);
            assert!(now - before <= 2 * TURN, "{before} to {now} in one turn");
            before = now;
        }
        assert_eq!(shards.join_all().await.into_iter().sum::<usize>(), total);
    }
}
