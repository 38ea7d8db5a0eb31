//! States that move with their shard, from one node's entities to another's.

use std::{collections::BTreeMap, future::poll_fn, task::Poll};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::ShardRegion;
use crate::{
    actor::{Entity, HookError},
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
    pub(super) fn thaw(&self, shard: ShardId, id: &EntityId) -> Option<Result<E, HookError>> {
        if !E::MIGRATES {
            return None;
        }
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

    /// Activates what was active where it came from, a few at a time.
    pub(super) fn wake_moved(&self, shards: &[(ShardId, Epoch)]) {
        if !E::MIGRATES {
            return;
        }
        let ids = |&(shard, _): &(ShardId, Epoch)| {
            let ids = self.local.frozen_ids(shard).into_iter();
            ids.map(move |id| (shard, id))
        };
        let moved: Vec<(ShardId, EntityId)> = shards.iter().flat_map(ids).collect();
        if moved.is_empty() {
            return;
        }
        let me = self.me.clone();
        self.runtime.spawn(async move {
            in_turns(moved, |(shard, id)| {
                let Some(region) = me.upgrade() else { return };
                let make = |name, host: &mut _| region.make_cell(*shard, name, host);
                if let Some(cell) = region.local.cell_or(*shard, id, make) {
                    cell.wake();
                }
            })
            .await;
        });
    }
}

/// How many runs a move begins before those get their turn, and everybody else who waits for the thread.
const TURN: usize = 16;

/// Does something with each, and lets others have the thread after every few: who makes thousands of tasks ready at once
/// has everybody wait behind them.
pub(super) async fn in_turns<T, R>(all: Vec<T>, mut begin: impl FnMut(&T) -> R) -> Vec<R> {
    let mut results = Vec::with_capacity(all.len());
    for few in all.chunks(TURN) {
        results.extend(few.iter().map(&mut begin));
        // After the last as well: the next shard's are begun in the same task.
        give_way().await;
    }
    results
}

/// Resolves when its task has its next turn.
///
/// Not `yield_now`: that one wakes later, and a set of futures would poll its next one at once instead of giving way.
async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{StreamExt, stream::FuturesUnordered};

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn others_have_their_turn_between_a_few_and_the_next() {
        let begun = AtomicUsize::new(0);
        let shard = |cells| {
            let begun = &begun;
            async move {
                in_turns(vec![(); cells], |()| begun.fetch_add(1, Ordering::Relaxed)).await;
                // Until its cells have closed.
                std::future::pending::<()>().await;
            }
        };
        // As many shards as move at a time, large and small.
        let sizes = || (0..32).map(|n| if n % 2 == 0 { 10 * TURN } else { 3 });
        let mut shards: FuturesUnordered<_> = sizes().map(shard).collect();
        let (mut before, total) = (0, sizes().sum());
        poll_fn(|cx| {
            let polled = shards.poll_next_unpin(cx);
            assert!(polled.is_pending());
            let now = begun.load(Ordering::Relaxed);
            assert!(now - before <= 2 * TURN, "{} in one turn", now - before);
            before = now;
            if now == total {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
