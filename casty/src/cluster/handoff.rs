//! Planned moves: this node gives shards up that the map says are to move.

use std::sync::Arc;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    actor::tasks::throttle::Throttle,
    cluster::{
        node::Node,
        region::{AnyRegion, Parcel},
        wire::{Answer, Call, Proposal},
    },
    id::{Epoch, ShardId},
    protocol::{
        leader_client::LeaderError,
        map::{ClusterMap, Command, ShardHome, Slot},
    },
    transport::handshake::Lane,
};

/// States that travel in one piece.
const PART_BYTES_MAX: usize = 64 * 1024;

/// Resolves, with a shard and its epoch, when everything in it has stopped.
pub(crate) type Draining = BoxFuture<'static, (ShardId, Epoch)>;

impl Node {
    /// Begins to hand over what is to move and is not on its way yet.
    pub(super) fn hand_over(&self, map: &ClusterMap, me: Option<Slot>) {
        let (Some(me), Some(node)) = (me, self.upgrade()) else {
            return;
        };
        for region in self.regions() {
            let Some(table) = map.kinds.get(region.name()) else {
                continue;
            };
            let homes = (0..).map(ShardId).zip(table.iter());
            let moving: Vec<(ShardId, Epoch)> = homes
                .filter(|(_, home)| home.owner == Some(me) && home.moving.is_some())
                .map(|(shard, home)| (shard, home.epoch))
                .collect();
            if moving.is_empty() {
                continue;
            }
            let draining = region.drain(&moving);
            if !draining.is_empty() {
                let region = region.clone();
                self.spawn(node.clone().release(region, draining));
            }
        }
    }

    /// Tells of each shard that has stopped, as many at a time as there are.
    async fn release(self: Arc<Self>, region: Arc<dyn AnyRegion>, draining: Vec<Draining>) {
        let session = self.session();
        let mut draining: FuturesUnordered<Draining> = draining.into_iter().collect();
        loop {
            let first = tokio::select! {
                biased;
                () = session.cancelled() => return,
                first = draining.next() => first,
            };
            let Some(first) = first else { return };
            let mut shards = vec![first];
            while let Some(Some(next)) = futures_util::FutureExt::now_or_never(draining.next()) {
                shards.push(next);
            }
            // The order is that of hashes and wakers otherwise.
            shards.sort_unstable();
            let mut kept = Vec::new();
            if region.migrates() {
                for &(shard, epoch) in &shards {
                    let parcel = region.take_parcel(shard);
                    if !parcel.is_empty()
                        && !self.send_parcel(&*region, shard, epoch, &parcel).await
                    {
                        // It goes on here, under a new epoch, with what it has.
                        region.receive(shard, epoch, true, parcel);
                        kept.push((shard, epoch));
                    }
                }
                shards.retain(|shard| !kept.contains(shard));
            }
            let (member, kind) = (self.member(), region.name().to_owned());
            if !kept.is_empty() {
                tracing::info!(kind, shards = kept.len(), "shards could not be handed over");
                let (member, kind) = (member.clone(), kind.clone());
                self.propose_until_decided(
                    &session,
                    Command::Keep {
                        member,
                        kind,
                        shards: kept,
                    },
                )
                .await;
            }
            if !shards.is_empty() {
                self.propose_until_decided(
                    &session,
                    Command::Release {
                        member,
                        kind,
                        shards,
                    },
                )
                .await;
            }
        }
    }

    /// Has it decided, however long that takes: the shards have stopped and are of no use here, and
    /// nobody but the leader can do something about it.
    async fn propose_until_decided(&self, session: &CancellationToken, command: Command) {
        let proposal = Proposal::Apply(command);
        loop {
            let told = tokio::select! {
                biased;
                () = session.cancelled() => return,
                told = self.propose(proposal.clone()) => told,
            };
            match told {
                Ok(version) => return self.follower().handle_version(version),
                // Done before: the first answer was lost.
                Err(LeaderError::Refused(_)) => return,
                Err(LeaderError::Unreachable(reason)) => {
                    tracing::debug!(reason, "shards that have stopped cannot be given up yet");
                }
            }
        }
    }

    /// Sends the states of a shard to where it is to move. `false` if that is not possible.
    async fn send_parcel(
        &self,
        region: &dyn AnyRegion,
        shard: ShardId,
        epoch: Epoch,
        parcel: &Parcel,
    ) -> bool {
        let until = Instant::now() + self.settings().decide_timeout;
        let (mut first, pace) = (true, Throttle::default());
        for part in parts(parcel) {
            let _turn = pace.turn().await;
            let call = Call::Receive {
                kind: region.name().to_owned(),
                shard,
                epoch,
                first,
                parcel: part,
            };
            first = false;
            loop {
                let home = self.home_of(region.name(), shard);
                let target = home.filter(|home| home.epoch == epoch);
                let peer = target.and_then(|home| self.peer_at(home.moving?));
                let left = until.saturating_duration_since(Instant::now());
                let (Some(peer), false) = (peer, left.is_zero()) else {
                    return false;
                };
                match self.call_on(Lane::Bulk, &peer, call.clone(), left).await {
                    Ok(Answer::Received(true)) => break,
                    // Its map may be behind.
                    _ => tokio::time::sleep(self.settings().backoff).await,
                }
            }
        }
        true
    }

    fn home_of(&self, kind: &str, shard: ShardId) -> Option<ShardHome> {
        let map = self.map()?;
        map.kinds.get(kind)?.get(shard.index()).copied()
    }

    /// States for a shard that is about to come here. `false` if this node does not expect it.
    pub(super) fn receive_parcel(
        &self,
        kind: &str,
        shard: ShardId,
        epoch: Epoch,
        first: bool,
        parcel: Parcel,
    ) -> bool {
        let me = self
            .map()
            .and_then(|map| Some(map.member(&self.member())?.slot));
        let expected = me.is_some()
            && self
                .home_of(kind, shard)
                .is_some_and(|home| home.moving == me && home.epoch == epoch);
        let region = self.regions().iter().find(|region| region.name() == kind);
        match region {
            Some(region) if expected => {
                region.receive(shard, epoch, first, parcel);
                true
            }
            _ => false,
        }
    }
}

/// A parcel in pieces of bounded size, though at least one entity each. A piece is copied when its
/// turn comes: a shard may be large, and whoever copies all of it at once keeps its thread from
/// everybody else.
fn parts(parcel: &Parcel) -> impl Iterator<Item = Parcel> {
    let mut rest = parcel.iter().peekable();
    std::iter::from_fn(move || {
        let (mut part, mut bytes) = (Parcel::new(), 0);
        while let Some((id, frozen)) = rest.next_if(|(id, frozen)| {
            let size = id.as_str().len() + frozen.name.len() + frozen.state.len();
            bytes += size;
            bytes <= PART_BYTES_MAX || bytes == size
        }) {
            part.insert(id.clone(), frozen.clone());
        }
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::region::Frozen, id::EntityId};

    fn parcel(sizes: &[usize]) -> Parcel {
        let frozen = |&bytes: &usize| Frozen {
            name: String::new(),
            state: vec![0; bytes].into(),
        };
        let names = (0..).map(|n| EntityId::new(format!("{n:04}")));
        names.zip(sizes.iter().map(frozen)).collect()
    }

    #[test]
    fn a_parcel_goes_in_pieces_of_bounded_size_and_none_is_lost() {
        let quarter = PART_BYTES_MAX / 4;
        let parcel = parcel(&[quarter, quarter, quarter, quarter, 3 * PART_BYTES_MAX, 1, 1]);
        let parts: Vec<Parcel> = parts(&parcel).collect();
        let sizes: Vec<usize> = parts.iter().map(Parcel::len).collect();
        // The names count as well; what is too large goes alone.
        assert_eq!(sizes, [3, 1, 1, 2]);
        assert_eq!(parts.into_iter().flatten().collect::<Parcel>(), parcel);
    }

    #[test]
    fn a_piece_is_made_when_its_turn_comes() {
        let parcel = parcel(&[PART_BYTES_MAX; 3]);
        let mut parts = parts(&parcel);
        assert_eq!(parts.next().map(|part| part.len()), Some(1));
        assert_eq!(parts.count(), 2);
    }
}
