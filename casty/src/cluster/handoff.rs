//! Handoff: this node gives up shards that the map moves elsewhere.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use crate::{
    actor::tasks::throttle::Throttle,
    cluster::{
        membership::Membership,
        node::Node,
        peers::wire::{Answer, Call, Proposal},
        region::{AnyRegion, Draining, Parcel},
    },
    id::{Epoch, ShardId},
    infra::cancel::unless,
    protocol::{
        leader_client::LeaderError,
        map::{ClusterMap, Command, ShardHome, Slot},
    },
    transport::handshake::Lane,
};

/// The size of one part of a parcel.
const PART_BYTES_MAX: usize = 64 * 1024;

/// Starts the handoff of the shards that are to move and do not move yet. `me`: this node's slot.
pub(crate) fn hand_over(node: &Arc<Node>, map: &ClusterMap, me: Slot) {
    for region in node.regions.iter() {
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
            let releasing = release(
                node.clone(),
                node.current_membership(),
                region.clone(),
                draining,
            );
            node.process.spawn(releasing);
        }
    }
}

/// Gives up each shard that has stopped, as many at a time as there are.
async fn release(
    node: Arc<Node>,
    membership: Arc<Membership>,
    region: Arc<dyn AnyRegion>,
    draining: Vec<Draining>,
) {
    let session = &membership.contact.tenure.session;
    let member = &membership.contact.local.member;
    let mut draining: FuturesUnordered<Draining> = draining.into_iter().collect();
    while let Some(Some(first)) = unless(session, draining.next()).await {
        let mut shards = vec![first];
        while let Some(Some(next)) = draining.next().now_or_never() {
            shards.push(next);
        }
        // Otherwise the order would be that of hashes and wakers.
        shards.sort_unstable();
        let kept = send_parcels(&node, &*region, &mut shards).await;
        let kind = region.name().to_owned();
        if !kept.is_empty() {
            tracing::info!(kind, shards = kept.len(), "shards could not be handed over");
            let keep = Command::Keep {
                member: member.clone(),
                kind: kind.clone(),
                shards: kept,
            };
            propose_until_decided(&membership, keep).await;
        }
        if !shards.is_empty() {
            let release = Command::Release {
                member: member.clone(),
                kind,
                shards,
            };
            propose_until_decided(&membership, release).await;
        }
    }
}

/// Sends the states of shards to their next owners. Shards whose states could not be sent are taken
/// out of `shards` and returned: they go on here, under a new epoch.
async fn send_parcels(
    node: &Node,
    region: &dyn AnyRegion,
    shards: &mut Vec<(ShardId, Epoch)>,
) -> Vec<(ShardId, Epoch)> {
    let mut kept = Vec::new();
    if !region.migrates() {
        return kept;
    }
    for &(shard, epoch) in &*shards {
        let parcel = region.take_parcel(shard);
        if !parcel.is_empty() && !send_parcel(node, region, shard, epoch, &parcel).await {
            region.receive(shard, epoch, true, parcel);
            kept.push((shard, epoch));
        }
    }
    shards.retain(|shard| !kept.contains(shard));
    kept
}

/// Proposes a command until it is decided, however long that takes: the shards have stopped and are
/// of no use here, and only the leader can change that.
async fn propose_until_decided(membership: &Membership, command: Command) {
    let contact = &membership.contact;
    let proposal = Proposal::Apply(command);
    loop {
        let proposing = contact.leader.propose(proposal.clone());
        match unless(&contact.tenure.session, proposing).await {
            Some(Ok(version)) => return contact.source.handle_version(version),
            // The session has ended; or this was done before, and the first answer was lost.
            None | Some(Err(LeaderError::Refused(_))) => return,
            Some(Err(LeaderError::Unreachable(reason))) => {
                tracing::debug!(reason, "shards that have stopped cannot be given up yet");
            }
        }
    }
}

/// Sends the states of a shard to its next owner. `false` if that is not possible.
async fn send_parcel(
    node: &Node,
    region: &dyn AnyRegion,
    shard: ShardId,
    epoch: Epoch,
    parcel: &Parcel,
) -> bool {
    let settings = &node.setup.settings;
    let until = Instant::now() + settings.decide_timeout;
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
            let home = home_of(node, region.name(), shard);
            let target = home.filter(|home| home.epoch == epoch);
            let peer = target.and_then(|home| node.homes.peer_at(home.moving?));
            let left = until.saturating_duration_since(Instant::now());
            let (Some(peer), false) = (peer, left.is_zero()) else {
                return false;
            };
            let calling = node.peers.call_on(Lane::Bulk, &peer, call.clone(), left);
            match calling.await {
                Ok(Answer::Received(true)) => break,
                // The map of the peer may be behind.
                _ => tokio::time::sleep(settings.backoff).await,
            }
        }
    }
    true
}

fn home_of(node: &Node, kind: &str, shard: ShardId) -> Option<ShardHome> {
    let map = node.map.get()?;
    map.kinds.get(kind)?.get(shard.index()).copied()
}

/// Receives the states of a shard that is about to come here. `false` if this node does not expect
/// it.
pub(crate) fn receive_parcel(
    node: &Node,
    kind: &str,
    shard: ShardId,
    epoch: Epoch,
    first: bool,
    parcel: Parcel,
) -> bool {
    let me = node.peers.local();
    let map = node.map.get();
    let slot = map.and_then(|map| Some(map.member(&me.member)?.slot));
    let is_here = |home: ShardHome| home.moving == slot && home.epoch == epoch;
    let expected = slot.is_some() && home_of(node, kind, shard).is_some_and(is_here);
    let region = node.regions.iter().find(|region| region.name() == kind);
    match region {
        Some(region) if expected => {
            region.receive(shard, epoch, first, parcel);
            true
        }
        _ => false,
    }
}

/// A parcel in pieces of bounded size, though at least one entity each. A piece is copied when its
/// turn comes: a shard may be large, and copying all of it at once would hold up every other task
/// of the thread.
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
        // The names count as well. An entity that is too large goes alone.
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
