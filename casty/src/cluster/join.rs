//! The way into a cluster, and out of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use crate::{
    cluster::{
        authority::{Voter, leader_client::AuthorityError},
        gossip::Gossip,
        node::{Node, Said},
        wire::Proposal,
    },
    error::{JoinError, ShutdownError},
    id::{ClusterIdentity, Incarnation, MemberId},
    infra::observe::sighted,
    protocol::{
        bootstrap::{Bootstrap, Decision, SeedAnswer},
        map::{ClusterMap, Command, MapError, ShardHome, Status},
    },
    transport::{
        dial::dial,
        handshake::{HandshakeError, HandshakeRefusal, Lane, Welcome},
        link::LinkOwner,
        net::Target,
    },
};

/// Becomes a member, or a client: asks the seeds until one knows a cluster, or founds one where
/// that is allowed.
///
/// `anew`: it was a member before, so there is a cluster, and none is to be founded.
pub(crate) async fn enter(node: Arc<Node>, seeds: Vec<String>, anew: bool) {
    let session = node.session();
    if let Err(reason) = node.sit_again().await {
        return node.fail(JoinError::Engine { reason });
    }
    tokio::select! {
        biased;
        () = session.cancelled() => return,
        () = try_enter(&node, &seeds, anew) => {}
    }
    if node.failure().is_some() && node.kept_seat().is_some() {
        // It is never going to be a member: it does not decide for others either.
        node.cancel_session();
    }
    if node.address().is_some() && node.failure().is_none() {
        node.clone().keep_lease(session).await;
    }
}

async fn try_enter(node: &Arc<Node>, seeds: &[String], anew: bool) {
    let settings = node.settings();
    let pauses = (settings.backoff, settings.backoff_max);
    let keeps_seat = node.kept_seat().is_some();
    let seeds = &if keeps_seat {
        kept_places(node, seeds)
    } else {
        seeds.to_vec()
    };
    let mut bootstrap = Bootstrap::new(seeds.len(), pauses, anew || keeps_seat);
    let mut rng = StdRng::seed_from_u64(node.random());
    loop {
        let round = join_all(seeds.iter().map(|seed| ask(node, seed))).await;
        let (answers, welcomes): (Vec<_>, Vec<_>) = round.into_iter().unzip();
        let pause = match bootstrap.handle_round(&answers, rng.random_range(0.0..1.0)) {
            Decision::Found => match found(node).await {
                Ok(()) => return,
                Err(reason) => return node.fail(JoinError::Engine { reason }),
            },
            Decision::Join { seed } => {
                let welcome = welcomes.into_iter().nth(seed).flatten();
                match join(node, welcome).await {
                    Ok(()) => return,
                    Err(JoinFailure::Final(reason)) => {
                        let seed = seeds.get(seed).cloned().unwrap_or_default();
                        return node.fail(JoinError::Refused { seed, reason });
                    }
                    Err(JoinFailure::Passing(reason)) => {
                        tracing::info!(reason, "not joined yet");
                        settings.backoff
                    }
                }
            }
            Decision::Give { seed, reason } => {
                let seed = seeds.get(seed).cloned().unwrap_or_default();
                return node.fail(JoinError::Refused { seed, reason });
            }
            Decision::Retry { after } => {
                tracing::debug!(?answers, "no cluster found yet");
                after
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Where a cluster may be that a seat was kept in: at the seeds, where its voters were, and here.
fn kept_places(node: &Node, seeds: &[String]) -> Vec<String> {
    let mut places = seeds.to_vec();
    let voters = node.voters().into_iter().map(|voter| voter.address);
    for place in node.address().into_iter().chain(voters) {
        let place = place.to_string();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// What this node answers itself.
fn own_answer(node: &Node) -> SeedAnswer {
    match node.kept_seat() {
        Some(_) => SeedAnswer::Kept,
        None => SeedAnswer::Myself,
    }
}

/// Asks one seed, under every address its name has now.
pub(super) async fn ask(node: &Node, seed: &str) -> (SeedAnswer, Option<Welcome>) {
    let addresses = match node.net().resolve(seed).await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::debug!(seed, %error, "a seed's name has no address");
            return (SeedAnswer::Unreachable, None);
        }
    };
    if addresses
        .iter()
        .any(|address| Some(*address) == node.address())
    {
        return (own_answer(node), None);
    }
    let mut last = SeedAnswer::Unreachable;
    for address in addresses {
        match greet(node, address).await {
            Ok(welcome) if node.is_me(&welcome.member) => return (own_answer(node), None),
            Ok(welcome) if welcome.identity.is_some() => {
                if welcome.keeps_seat && welcome.identity == node.identity() {
                    node.handle_successor(&welcome.member, address);
                }
                if !welcome.voters.is_empty() {
                    return (SeedAnswer::Cluster, Some(welcome));
                }
                // It is in a cluster, and knows no more of it yet.
            }
            Ok(_) => last = SeedAnswer::NoCluster,
            Err(HandshakeError::Refused(HandshakeRefusal::Down(who))) if node.is_me(&who) => {
                node.handle_down();
                last = SeedAnswer::Cluster;
            }
            // The cluster was reborn without this node.
            Err(HandshakeError::Refused(HandshakeRefusal::Generation { ours, theirs }))
                if ours < theirs && node.has_a_cluster() && !node.is_leaving() =>
            {
                node.handle_left_behind();
                last = SeedAnswer::Cluster;
            }
            Err(error) if error.is_final() => last = SeedAnswer::Refused(error.to_string()),
            Err(error) => tracing::debug!(seed, %address, %error, "a seed cannot be asked"),
        }
    }
    (last, None)
}

async fn greet(node: &Node, address: SocketAddr) -> Result<Welcome, HandshakeError> {
    let hello = || node.hello(Lane::Control, None);
    let limit = node.settings().connect_timeout;
    let target = Target {
        address,
        // Whichever node listens at a seed's address.
        expected: None,
    };
    let dialed = dial(&**node.net(), &target, hello, limit).await?;
    Ok(dialed.welcome)
}

/// Asks until the one who decided answers, or anybody who knows that this node is Down, or of a
/// later generation.
pub(super) async fn until_reached(
    node: &Node,
    places: &[String],
    voter: &MemberId,
    cluster: ClusterIdentity,
) {
    let reached = |(answer, welcome): (SeedAnswer, Option<Welcome>)| match welcome {
        Some(welcome) => welcome.identity.is_some_and(|identity| {
            identity.uuid == cluster.uuid
                && (identity.generation > cluster.generation || welcome.member == *voter)
        }),
        // It has refused this node for what has become of the cluster.
        None => answer == SeedAnswer::Cluster,
    };
    loop {
        let round = join_all(places.iter().map(|place| ask(node, place))).await;
        if round.into_iter().any(reached) {
            return;
        }
        tokio::time::sleep(node.settings().backoff).await;
    }
}

/// Greets those who were members of the last generation until they are members of this one, or seem
/// to be gone for good: if they live, they hear of it by that.
pub(super) async fn tell_of_generation(node: &Arc<Node>, mut known: Vec<String>) {
    let pauses = node.settings().backoff_max;
    // As long as an operator may take to bring a node back.
    for _ in 0..3600 {
        let members: Vec<String> = node
            .map()
            .iter()
            .flat_map(|map| map.members.values())
            .map(|member| member.address.to_string())
            .collect();
        known.retain(|address| !members.contains(address));
        if known.is_empty() {
            return;
        }
        join_all(known.iter().map(|address| ask(node, address))).await;
        tokio::time::sleep(pauses).await;
    }
}

/// Begins a new generation of a cluster whose deciders are lost.
pub(super) async fn refound(node: &Arc<Node>, before: &ClusterMap) -> Result<(), String> {
    let now = Incarnation::now().0 / 1000;
    let generation = u32::try_from(now).unwrap_or(u32::MAX);
    let identity = ClusterIdentity {
        generation: generation.max(before.identity.generation.saturating_add(1)),
        ..before.identity
    };
    let founder = node.myself().ok_or("a client founds nothing")?;
    let (member, address) = (founder.member.clone(), founder.address);
    let map = before.reborn(identity, member, address, node.hosted());
    found_with(node, founder, map).await
}

/// Founds a cluster of one.
async fn found(node: &Arc<Node>) -> Result<(), String> {
    // Time-ordered, so that of two clusters one can say which was first; the rest is the node's own
    // randomness.
    let mut random = [0; 10];
    random[..8].copy_from_slice(&node.random().to_le_bytes());
    random[8..].copy_from_slice(&node.random().to_le_bytes()[..2]);
    let millis = node.member().incarnation.0;
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    // Greater than that of any cluster this node founded before, as long as its clock goes forward.
    let generation = u32::try_from(millis / 1000).unwrap_or(u32::MAX).max(1);
    let identity = ClusterIdentity { uuid, generation };
    let founder = node.myself().ok_or("a client founds nothing")?;
    let (member, address) = (founder.member.clone(), founder.address);
    let lease = super::lease::times(node.settings());
    let map = ClusterMap::found(
        identity,
        member,
        address,
        node.hosted(),
        lease,
        node.tie_breaker().is_some(),
    );
    found_with(node, founder, map).await
}

async fn found_with(node: &Arc<Node>, founder: Voter, map: ClusterMap) -> Result<(), String> {
    let identity = map.identity;
    let seat = map.member(&founder.member).map(|member| member.seat);
    let seat = seat.ok_or("it is not in its map")?;
    let engine = node.found_engine(identity, seat).await?;
    sighted!(Founded {
        by: founder.member.clone(),
        uuid: identity.uuid.as_u128(),
        generation: identity.generation,
    });
    engine.found(founder, map).await?;
    // Only now: whoever asks before is told that there is no cluster yet.
    node.set_identity(identity);
    tracing::info!(
        cluster = node.cluster(),
        uuid = %identity.uuid,
        generation = identity.generation,
        "founded a cluster"
    );
    Ok(())
}

enum JoinFailure {
    /// Asking again is useless.
    Final(String),
    Passing(String),
}

/// What a seed says of its cluster.
fn meet(node: &Node, welcome: &Welcome) -> Result<(), JoinFailure> {
    let passing = |reason: &str| JoinFailure::Passing(reason.to_owned());
    let identity = welcome
        .identity
        .ok_or_else(|| passing("the seed knows no cluster"))?;
    if let Some(former) = node.former()
        && (former.uuid != identity.uuid || former.generation > identity.generation)
    {
        return Err(passing(
            "it is not the cluster that this node was a member of",
        ));
    }
    node.set_identity(identity);
    node.set_introduced(
        welcome
            .voters
            .iter()
            .map(|(member, address)| Voter {
                member: member.clone(),
                address: *address,
            })
            .collect(),
    );
    Ok(())
}

async fn join(node: &Arc<Node>, welcome: Option<Welcome>) -> Result<(), JoinFailure> {
    let passing = |reason: &str| JoinFailure::Passing(reason.to_owned());
    match welcome {
        Some(welcome) => meet(node, &welcome)?,
        // It knows whom to ask: itself, or who else votes.
        None if node.kept_seat().is_some() => {}
        None => return Err(passing("the seed has gone")),
    }
    let Some(address) = node.address() else {
        // A client only looks on.
        return await_map(node, |_| true).await;
    };
    let member = node.member();
    let command = Command::Join {
        member: member.clone(),
        address,
        catalog: node.hosted().to_vec(),
        lease: super::lease::times(node.settings()),
        tie_breaker: node.tie_breaker().is_some(),
        since: node.since(),
        seat: node.kept_seat(),
    };
    decided(node, node.propose(Proposal::Apply(command)).await)?;
    let me = member.clone();
    await_map(node, move |map| map.member(&me).is_some()).await?;
    let up = Command::Up {
        member: member.clone(),
    };
    decided(node, node.propose(Proposal::Apply(up)).await)?;
    // One that leaves at once may be seen neither Up nor, in the end, at all.
    await_map(node, move |map| {
        map.status(&member) != Some(Status::Joining)
    })
    .await
}

fn decided(node: &Node, result: Result<u64, AuthorityError>) -> Result<(), JoinFailure> {
    match result {
        Ok(version) => {
            node.follower().handle_version(version);
            Ok(())
        }
        // In the wrong status: the first answer was lost, and this is the second try.
        Err(AuthorityError::Refused(MapError::WrongStatus(_))) => Ok(()),
        // Declared Down before it was Up: another incarnation may have more luck.
        Err(AuthorityError::Refused(MapError::Superseded(who) | MapError::UnknownMember(who)))
            if node.is_me(&who) =>
        {
            node.handle_down();
            Err(JoinFailure::Passing(
                "it was declared down meanwhile".to_owned(),
            ))
        }
        Err(AuthorityError::Refused(MapError::Seat(who))) if node.is_me(&who) => {
            node.handle_seat_gone();
            Err(JoinFailure::Passing("its seat is gone".to_owned()))
        }
        Err(AuthorityError::Refused(refused)) => Err(JoinFailure::Final(refused.to_string())),
        Err(AuthorityError::Unreachable(reason)) => Err(JoinFailure::Passing(reason)),
    }
}

async fn await_map(
    node: &Node,
    mut look: impl FnMut(&ClusterMap) -> bool,
) -> Result<(), JoinFailure> {
    let seen = node
        .watch()
        .wait(|map| map.is_some_and(|map| look(map)).then_some(()));
    tokio::time::timeout(node.settings().connect_timeout, seen)
        .await
        .map_err(|_| JoinFailure::Passing("the cluster map did not come".to_owned()))
}

/// Starts what runs for as long as the node does.
pub(crate) fn start(node: &Arc<Node>, inputs: super::gossip::Inputs) {
    node.spawn(node.clone().follow_map());
    node.spawn(node.clone().resolve_shards());
    node.spawn(node.clone().tick());
    node.spawn(enter(node.clone(), node.seeds().to_vec(), false));
    if let Some(address) = node.address() {
        node.spawn(Gossip::new(node.clone(), address, node.random()).run(inputs));
    }
    let reaper = node.clone();
    node.spawn(async move {
        reaper.cancel().cancelled().await;
        // Whoever still waits is told.
        for region in reaper.regions() {
            region.abandon();
        }
        reaper.runtime().stop();
    });
}

/// Leaves the cluster: shards are given up in order, then the membership, then the connections.
pub(crate) async fn leave(node: &Arc<Node>) -> Result<(), ShutdownError> {
    let limit = node.settings().shutdown_timeout;
    let deadline = Instant::now() + limit;
    let late = |waiting_for| ShutdownError::Timeout {
        after: limit,
        waiting_for,
    };
    node.set_leaving();
    let member = node.member();
    let (me, mut removed) = (member.clone(), false);
    // One that has failed hears no more what is decided, and has given up all it had: to the others
    // it is dead.
    let joined = node.address().is_some() && node.is_member(&member) && node.failure().is_none();
    let mut result = Ok(());
    if joined {
        let leave = Command::Leave {
            member: member.clone(),
        };
        // Where nobody decides, nobody takes the shards either.
        if give_notice(node, leave, deadline).await
            && tokio::time::timeout_at(deadline, handed_over(node))
                .await
                .is_err()
        {
            result = Err(late("handlers of entities"));
        }
    }
    if joined && node.runtime().gate().is_some_and(|gate| !gate.is_open()) {
        // Without a lease nothing may be handled any more: whoever waits is told.
        node.regions().iter().for_each(|region| region.sever());
    }
    // What nobody can take.
    for region in node.regions() {
        match tokio::time::timeout_at(deadline, region.leave()).await {
            Ok(shards) if !shards.is_empty() => {
                let kind = region.name().to_owned();
                let release = Command::Release {
                    member: member.clone(),
                    kind,
                    shards,
                };
                give_notice(node, release, deadline).await;
            }
            Ok(_) => {}
            Err(_) => result = Err(late("handlers of entities")),
        }
    }
    if tokio::time::timeout_at(deadline, node.runtime().close_all())
        .await
        .is_err()
    {
        result = Err(late("handlers of actors"));
    }
    if joined {
        // Whose handlers still run cannot be forgotten: others wait until its lease is over.
        let end = match result {
            Ok(()) => Command::Remove { member },
            Err(_) => Command::Down { member },
        };
        removed = give_notice(node, end, deadline).await;
        node.gossip_leave().await;
    }
    // One with nobody left to take its vote ends the cluster, but others may wait for one whose
    // vote they did not take.
    let gives_up = joined
        && result.is_ok()
        && node
            .map()
            .is_some_and(|map| !map.voters.contains_key(&me) || (removed && map.voters.len() == 1));
    node.tasks().close();
    node.cancel().cancel();
    let ended = tokio::time::timeout_at(deadline + Duration::from_secs(1), node.tasks().wait());
    if ended.await.is_err() {
        result = result.and(Err(late("connections")));
    }
    if gives_up {
        node.drop_engine();
        node.forget_seat().await;
    }
    result
}

/// Waits until this node has no shard that another could have, and no vote.
async fn handed_over(node: &Node) {
    let me = node.member();
    let rid = |map: &ClusterMap| {
        let others = || map.up().filter(|id| **id != me);
        let slot = map.member(&me).map(|member| member.slot);
        let keeps = |(kind, table): (&String, &Arc<Vec<ShardHome>>)| {
            table.iter().any(|home| home.owner == slot) && others().any(|id| map.hosts(id, kind))
        };
        slot.is_none()
            || !map.kinds.iter().any(keeps)
                && (!map.voters.contains_key(&me) || others().next().is_none())
    };
    let done = node
        .watch()
        .wait(|map| map.is_none_or(|map| rid(map)).then_some(()));
    done.await;
}

/// Has it recorded. When nobody decides, there is nobody to tell: the others will notice.
async fn give_notice(node: &Node, command: Command, deadline: Instant) -> bool {
    let told = node.propose(Proposal::Apply(command));
    match tokio::time::timeout_at(deadline, told).await {
        // In the wrong status: it was done before, by whoever operates the node.
        Ok(Ok(_) | Err(AuthorityError::Refused(MapError::WrongStatus(_)))) => return true,
        Ok(Err(error)) => tracing::info!(%error, "the leave was not recorded"),
        Err(_) => tracing::info!("the leave was not recorded in time"),
    }
    false
}

/// The members as this node sees them.
pub(crate) fn members(node: &Node) -> Vec<(MemberId, SocketAddr, Status, Option<Said>)> {
    let Some(map) = node.map() else {
        return Vec::new();
    };
    map.members
        .iter()
        .map(|(id, m)| (id.clone(), m.address, m.status, node.said_by(id)))
        .collect()
}
