//! Handoff: this node gives up shards that the map moves elsewhere.

#[cfg(feature = "metrics")]
use std::sync::atomic::Ordering;
use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use crate::{
    actor::tasks::throttle::Throttle,
    cluster::{
        membership::Membership,
        node::Node,
        peers::wire::{Answer, Call, Proposal},
        process::Job,
        region::{AnyRegion, Drain, Draining, Parcel, Piece, parts},
    },
    id::{Epoch, ShardId},
    infra::cancel::unless,
    protocol::{
        leader_client::LeaderError,
        map::{ClusterMap, Command, ShardHome, Slot},
    },
    transport::handshake::Lane,
};

/// How many parcels of one type are sent at a time. More than one, so that a small shard need not
/// wait for a large one.
const PARCELS_MAX: usize = 2;

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
        let Drain { draining, entities } = region.drain(&moving);
        if entities > 0 && !region.migrates() && !region.is_stored() {
            tracing::info!(
                kind = region.name(),
                shards = draining.len(),
                entities,
                "entities begin afresh on other nodes: their type does not say `migrate`",
            );
        }
        if !draining.is_empty() {
            let releasing = release(
                node.clone(),
                node.current_membership(),
                region.clone(),
                draining,
            );
            node.process.spawn(Job::Moves, releasing);
        }
    }
}

/// How long a shard stays without an owner after its node could not store what it does. The node
/// may be the only one that can have it.
const GIVE_UP_PAUSE: Duration = Duration::from_secs(1);

/// Gives up a shard that this node cannot serve under its epoch, so that another node, or this one
/// under a later epoch, gets it.
pub(crate) fn give_up_one(node: &Arc<Node>, kind: &str, shard: ShardId, epoch: Epoch) {
    let Some(region) = node.regions.iter().find(|region| region.name() == kind) else {
        return;
    };
    let (me, region) = (node.clone(), region.clone());
    node.process.spawn(Job::Moves, async move {
        let membership = me.current_membership();
        let session = &membership.contact.tenure.session;
        let pause = tokio::time::sleep(GIVE_UP_PAUSE);
        if unless(session, pause).await.is_none() {
            return;
        }
        let Drain { draining, .. } = region.drain(&[(shard, epoch)]);
        if !draining.is_empty() {
            release(me, membership, region, draining).await;
        }
    });
}

/// What is to be done with a shard that has stopped.
enum Stopped {
    /// It can be given up at once.
    Goes,
    /// It can be given up when these states have been sent.
    Sends(Parcel),
    /// It cannot move.
    Stays,
}

/// Gives up each shard that has stopped, as many at a time as there are. A shard that cannot move,
/// or whose states could not be sent, goes on here, under a new epoch. The leader tries it again
/// later, see [`FailedMoves`](crate::protocol::failed_moves::FailedMoves).
async fn release(
    node: Arc<Node>,
    membership: Arc<Membership>,
    region: Arc<dyn AnyRegion>,
    draining: Vec<Draining>,
) {
    #[cfg(feature = "metrics")]
    let begun = Instant::now();
    let session = &membership.contact.tenure.session;
    let mut draining: FuturesUnordered<Draining> = draining.into_iter().collect();
    let (mut waiting, mut sending) = (VecDeque::new(), FuturesUnordered::new());
    while !draining.is_empty() || !sending.is_empty() {
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        tokio::select! {
            biased;
            () = session.cancelled() => return,
            Some(first) = draining.next() => {
                let mut shards = vec![first];
                while let Some(Some(next)) = draining.next().now_or_never() {
                    shards.push(next);
                }
                // Otherwise the order would be that of hashes and wakers.
                shards.sort_unstable();
                for (shard, epoch) in shards {
                    match look_at(&node, &*region, shard) {
                        Stopped::Goes => gone.push((shard, epoch)),
                        Stopped::Sends(parcel) => waiting.push_back((shard, epoch, parcel)),
                        Stopped::Stays => kept.push((shard, epoch)),
                    }
                }
            }
            Some((shard, is_sent)) = sending.next() => {
                if is_sent { &mut gone } else { &mut kept }.push(shard);
            }
        }
        while sending.len() < PARCELS_MAX
            && let Some((shard, epoch, parcel)) = waiting.pop_front()
        {
            sending.push(send(&node, &*region, (shard, epoch), parcel));
        }
        for (shard, _) in &gone {
            node.kept_shards.forget(region.name(), *shard);
        }
        #[cfg(feature = "metrics")]
        let count = gone.len();
        give_up(&membership, region.name(), gone, kept).await;
        #[cfg(feature = "metrics")]
        for _ in 0..count {
            region.meter().moves.add(begun.elapsed());
        }
    }
}

/// Has decided who owns these shards from now on.
async fn give_up(
    membership: &Membership,
    kind: &str,
    gone: Vec<(ShardId, Epoch)>,
    kept: Vec<(ShardId, Epoch)>,
) {
    let (member, kind) = (&membership.contact.local.member, kind.to_owned());
    if !kept.is_empty() {
        let keep = Command::Keep {
            member: member.clone(),
            kind: kind.clone(),
            shards: kept,
        };
        propose_until_decided(membership, keep).await;
    }
    if !gone.is_empty() {
        let release = Command::Release {
            member: member.clone(),
            kind,
            shards: gone,
        };
        propose_until_decided(membership, release).await;
    }
}

fn look_at(node: &Node, region: &dyn AnyRegion, shard: ShardId) -> Stopped {
    if !region.migrates() {
        return Stopped::Goes;
    }
    if let Some((count, entity, reason)) = region.cannot_move(shard) {
        if !node.process.is_leaving() {
            tracing::warn!(
                kind = region.name(),
                %shard,
                %entity,
                others = count - 1,
                reason,
                "a shard stays here: the state of an entity of it cannot be encoded",
            );
            let reason = format!("the state of `{entity}` cannot be encoded: {reason}");
            node.kept_shards.note(region.name(), shard, reason);
            return Stopped::Stays;
        }
        region.give_up_stayed(shard);
    }
    let parcel = region.take_parcel(shard);
    if parcel.is_empty() {
        Stopped::Goes
    } else {
        Stopped::Sends(parcel)
    }
}

/// Sends the states of a shard to its next owner. `false` if that was not possible; the states stay
/// here then.
async fn send(
    node: &Node,
    region: &dyn AnyRegion,
    (shard, epoch): (ShardId, Epoch),
    parcel: Parcel,
) -> ((ShardId, Epoch), bool) {
    let sent = send_parcel(node, region, shard, epoch, &parcel).await;
    if let Err(reason) = &sent {
        let kind = region.name();
        tracing::warn!(kind, %shard, reason, "a shard stays here: its states were not sent");
        let reason = format!("its states were not sent: {reason}");
        node.kept_shards.note(kind, shard, reason);
        region.keep_parcel(shard, parcel);
    }
    ((shard, epoch), sent.is_ok())
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

/// Sends the states of a shard to its next owner. An error says why that was not possible.
async fn send_parcel(
    node: &Node,
    region: &dyn AnyRegion,
    shard: ShardId,
    epoch: Epoch,
    parcel: &Parcel,
) -> Result<(), String> {
    let (mut first, pace) = (true, Throttle::default());
    for part in parts(parcel) {
        let _turn = pace.turn().await;
        #[cfg(feature = "metrics")]
        let bytes: usize = part.iter().map(Piece::len).sum();
        let call = Call::Receive {
            kind: region.name().to_owned(),
            shard,
            epoch,
            first,
            part,
        };
        first = false;
        #[cfg(feature = "metrics")]
        region
            .meter()
            .moved_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        send_part(node, region.name(), (shard, epoch), call).await?;
    }
    Ok(())
}

async fn send_part(
    node: &Node,
    kind: &str,
    (shard, epoch): (ShardId, Epoch),
    call: Call,
) -> Result<(), String> {
    let settings = &node.setup.settings;
    // For each part: a large state takes as long as it takes.
    let until = Instant::now() + settings.decide_timeout;
    let mut reason = "it does not expect the shard".to_owned();
    loop {
        let target = home_of(node, kind, shard).filter(|home| home.epoch == epoch);
        let Some(peer) = target.and_then(|home| node.homes.peer_at(home.moving?)) else {
            return Err("the shard is not to move any more".to_owned());
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("the node at {}: {reason}", peer.address));
        }
        match node
            .peers
            .call_on(Lane::Bulk, &peer, call.clone(), left)
            .await
        {
            Ok(Answer::Received(true)) => return Ok(()),
            Err(error) => reason = error.to_string(),
            // The map of the peer may be behind.
            Ok(_) => {}
        }
        tokio::time::sleep(settings.backoff).await;
    }
}

fn home_of(node: &Node, kind: &str, shard: ShardId) -> Option<ShardHome> {
    let map = node.map.get()?;
    map.kinds.get(kind)?.get(shard.index()).copied()
}

/// Receives a part of the states of a shard that is about to come here. `false` if this node does
/// not expect it.
pub(crate) fn receive_part(
    node: &Node,
    kind: &str,
    shard: ShardId,
    epoch: Epoch,
    first: bool,
    part: Vec<Piece>,
) -> bool {
    let me = node.peers.local();
    let map = node.map.get();
    let slot = map.and_then(|map| Some(map.member(&me.member)?.slot));
    let is_here = |home: ShardHome| home.moving == slot && home.epoch == epoch;
    let expected = slot.is_some() && home_of(node, kind, shard).is_some_and(is_here);
    let region = node.regions.iter().find(|region| region.name() == kind);
    match region {
        Some(region) if expected => region.receive(shard, epoch, first, part),
        _ => false,
    }
}
