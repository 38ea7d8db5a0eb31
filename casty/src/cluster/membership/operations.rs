//! The operations of a membership that take time. Decides nothing: each operation has one outcome.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    cluster::{
        contact::Contact,
        membership::Membership,
        node::Node,
        peers::wire::{Call, Proposal},
    },
    config::Settings,
    id::{ClusterIdentity, Epoch, Generation, MemberId, Voter, zones},
    infra::observe::sighted,
    protocol::{
        bootstrap::SeedAnswer,
        leader_client::LeaderError,
        lease::LeaseTimes,
        map::{ClusterMap, Command, Site},
        membership::{Greeted, Introduction, MembershipInput, Operation, Outcome, Sight},
    },
    tie::{Claim, TieError, Verdict},
    transport::handshake::{HandshakeError, HandshakeRefusal, Welcome},
};

/// The lengths of leases.
fn lease_times(settings: &Settings) -> LeaseTimes {
    LeaseTimes::new(settings.lease, settings.clock_drift)
}

/// Does one operation of a node.
pub(crate) async fn run(node: &Node, operation: Operation) -> Outcome {
    let membership = node.current_membership();
    let (contact, settings) = (&*membership.contact, &node.setup.settings);
    match operation {
        Operation::SitAgain => {
            let sat = membership.voter.sit_again().await;
            let voters = || contact.voters.all().into_iter().map(|voter| voter.address);
            Outcome::Sat(sat.map(|()| voters().collect()))
        }
        Operation::ForgetSeat => {
            forget_seat(node).await;
            Outcome::Forgotten
        }
        Operation::Greet(places) => {
            let own = Some(node.setup.address);
            let limit = settings.connect_timeout;
            Outcome::Greeted(greet_all(contact, limit, own, &places).await)
        }
        Operation::Found => Outcome::Founded(found(node, &membership).await),
        Operation::FoundGeneration(identity, before) => {
            Outcome::Founded(found_generation(node, &membership, identity, &before).await)
        }
        Operation::Join => propose(contact, join_command(node, &membership)).await,
        Operation::Up => {
            let member = contact.local.member.clone();
            propose(contact, Command::Up { member }).await
        }
        Operation::Renew => renew(contact, settings).await,
        Operation::AskOthers(why, places) => {
            // The lease that waits for the answers is to last for a while afterwards.
            let limit = settings.connect_timeout.min(settings.lease / 3);
            Outcome::OthersAsked(why, greet_all(contact, limit, None, &places).await)
        }
        // Only a client's cluster is ever replaced.
        Operation::LookAround(_) => Outcome::Seen(Vec::new()),
        Operation::AskLeader => {
            let limit = settings.decide_timeout;
            let renewed = contact.leader.ask(&renewal(contact), limit).await;
            Outcome::HasLeader(renewed.is_ok())
        }
        Operation::Claim(cluster, other) => {
            let verdict = claim(node, cluster, &contact.local.member, &other).await;
            tracing::warn!(%other, ?verdict, "the tie-breaker was asked which node goes on");
            Outcome::Claimed(verdict)
        }
    }
}

/// Removes the state on disk: no later process keeps this seat.
pub(crate) async fn forget_seat(node: &Node) {
    let own_thread = node.process.runtime.upkeep().is_own_thread();
    if let Some(disk) = &node.setup.disk
        && let Err(error) = disk.forget(own_thread).await
    {
        // The next process is told that the seat is gone.
        tracing::warn!(%error, "the stored state could not be removed");
    }
}

/// Where this node is, and the store that it brings along.
fn site(node: &Node) -> Site {
    let setup = &node.setup;
    Site {
        address: setup.address,
        zone: zones(&setup.roles).next().map(str::to_owned),
        store: setup.copies.as_ref().map(|copies| copies.store()),
    }
}

// ---- Joining.

fn join_command(node: &Node, membership: &Membership) -> Command {
    let setup = &node.setup;
    let Site {
        address,
        zone,
        store,
    } = site(node);
    Command::Join {
        member: membership.contact.local.member.clone(),
        address,
        catalog: node.hosted.clone(),
        lease: lease_times(&setup.settings),
        tie_breaker: setup.tie_breaker.is_some(),
        since: setup.member.incarnation,
        seat: membership.voter.kept_seat(),
        store,
        zone,
    }
}

async fn propose(contact: &Contact, command: Command) -> Outcome {
    let decided = contact.leader.propose(Proposal::Apply(command)).await;
    match &decided {
        // Each try comes after a longer pause.
        Err(LeaderError::Refused(error)) => tracing::warn!(%error, "this node may not join"),
        Err(error) => tracing::info!(%error, "this node has not joined yet"),
        Ok(_) => {}
    }
    Outcome::Decided(decided)
}

fn renewal(contact: &Contact) -> Call {
    Call::Renew {
        member: contact.local.member.clone(),
        passed_on: false,
        report: None,
    }
}

async fn renew(contact: &Contact, settings: &Settings) -> Outcome {
    // Renew only while handlers make progress: a node that is stuck must lose its lease.
    contact.process.runtime.turn().await;
    // The lease counts from before the renewal is sent.
    let sent = Instant::now();
    let limit = settings.lease / 2;
    let result = contact.leader.ask(&renewal(contact), limit).await;
    if let Err(error) = &result {
        tracing::debug!(%error, "no lease");
    }
    Outcome::Renewed { sent, result }
}

// ---- Asking the seeds.

/// Asks each of these seeds which cluster it is in. `limit`: how long a seed may be silent. `own`:
/// the address of this process.
pub(crate) async fn greet_all(
    contact: &Contact,
    limit: Duration,
    own: Option<SocketAddr>,
    places: &[String],
) -> Vec<Greeted> {
    let greeted = places.iter().map(|place| greet(contact, limit, own, place));
    join_all(greeted).await.into_iter().flatten().collect()
}

/// The most addresses of one name that are asked.
const ADDRESSES_MAX: usize = 64;

/// The answer of this process itself.
fn own_answer(contact: &Contact) -> SeedAnswer {
    if contact.local.keeps_seat() {
        SeedAnswer::Kept
    } else {
        SeedAnswer::Myself
    }
}

/// Asks one seed, under each address that its name has now: each may be another process.
async fn greet(
    contact: &Contact,
    limit: Duration,
    own: Option<SocketAddr>,
    place: &str,
) -> Vec<Greeted> {
    let answered = |at, (answer, cluster)| Greeted {
        place: place.to_owned(),
        at,
        answer,
        cluster,
    };
    let addresses = match contact.peers.resolve(place).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let unresolved = SeedAnswer::Unresolved(error.to_string());
            return vec![answered(None, (unresolved, None))];
        }
    };
    let addresses: BTreeSet<SocketAddr> = addresses.into_iter().collect();
    let is_name = addresses.len() > 1;
    let greeted = addresses
        .into_iter()
        .take(ADDRESSES_MAX)
        .map(async |address| {
            let answer = greet_at(contact, limit, own, place, address).await;
            answered(is_name.then_some(address), answer)
        });
    join_all(greeted).await
}

/// The answer at one address, and the cluster there.
async fn greet_at(
    contact: &Contact,
    limit: Duration,
    own: Option<SocketAddr>,
    place: &str,
    address: SocketAddr,
) -> (SeedAnswer, Option<Introduction>) {
    let welcome = match contact.peers.greet(address, limit).await {
        Ok(welcome) => welcome,
        // Not each network lets a process dial itself.
        Err(_) if Some(address) == own => return (own_answer(contact), None),
        Err(error) => {
            let refused = refused(contact, place, address, &error);
            return (refused.unwrap_or(SeedAnswer::Unreachable), None);
        }
    };
    if welcome.member == contact.local.member {
        return (own_answer(contact), None);
    }
    if welcome.identity.is_none() {
        let seeker = welcome.seeker.map(SeedAnswer::Seeker);
        return (seeker.unwrap_or(SeedAnswer::NoCluster), None);
    }
    match introduced(contact, welcome, address) {
        Some(cluster) => (SeedAnswer::Cluster, Some(cluster)),
        None => (SeedAnswer::Unreachable, None),
    }
}

/// Looks which cluster is at each of these places.
pub(crate) async fn look_around(
    contact: &Contact,
    limit: Duration,
    places: &[String],
) -> Vec<Sight> {
    join_all(places.iter().map(|place| look_at(contact, limit, place))).await
}

async fn look_at(contact: &Contact, limit: Duration, place: &str) -> Sight {
    let addresses = contact.peers.resolve(place).await.unwrap_or_default();
    let mut seen = Sight::Nothing;
    for address in addresses {
        match contact.peers.greet(address, limit).await {
            Ok(welcome) if welcome.identity.is_some() => {
                heed(contact, welcome, address);
                return Sight::Ours;
            }
            Err(HandshakeError::Refused(HandshakeRefusal::Generation { .. })) => {
                return Sight::Ours;
            }
            Err(HandshakeError::Refused(HandshakeRefusal::OtherCluster { .. })) => {
                seen = Sight::Other;
            }
            Ok(_) | Err(_) => {}
        }
    }
    seen
}

/// Notes which processes are there now: if all that this client knows have been replaced, no other
/// message would tell it.
fn heed(contact: &Contact, welcome: Welcome, address: SocketAddr) {
    if welcome.identity != contact.local.identity() {
        return;
    }
    contact.voters.handle_successor(&welcome.member, address);
    for (member, address) in welcome.voters {
        contact.voters.handle_successor(&member, address);
    }
}

/// The cluster that a member introduces; `None` if that member knows no more of it yet.
fn introduced(contact: &Contact, welcome: Welcome, address: SocketAddr) -> Option<Introduction> {
    if welcome.keeps_seat && welcome.identity == contact.local.identity() {
        contact.voters.handle_successor(&welcome.member, address);
    }
    let identity = welcome.identity?;
    (!welcome.voters.is_empty()).then_some(Introduction {
        by: welcome.member,
        identity,
        voters: welcome.voters,
    })
}

/// The meaning of a refused join. `None`: nothing follows from it.
fn refused(
    contact: &Contact,
    place: &str,
    address: SocketAddr,
    error: &HandshakeError,
) -> Option<SeedAnswer> {
    let inputs = &contact.tenure.inputs;
    match error {
        HandshakeError::Refused(HandshakeRefusal::Down(member))
            if *member == contact.local.member =>
        {
            inputs.tell(MembershipInput::Down(member.clone()));
            Some(SeedAnswer::Cluster)
        }
        // The cluster was reborn without this node.
        HandshakeError::Refused(HandshakeRefusal::Generation { ours, theirs })
            if ours < theirs && !contact.process.is_leaving() =>
        {
            inputs.tell(MembershipInput::Generation(*theirs, address));
            Some(SeedAnswer::Cluster)
        }
        error if error.is_final() => Some(SeedAnswer::Refused(error.to_string())),
        error => {
            tracing::debug!(place, %error, "a seed cannot be asked");
            None
        }
    }
}

// ---- Founding.

fn founder(node: &Node, membership: &Membership) -> Voter {
    Voter {
        member: membership.contact.local.member.clone(),
        address: node.setup.address,
    }
}

/// Founds a cluster of one.
async fn found(node: &Node, membership: &Membership) -> Result<(), String> {
    let (setup, process) = (&node.setup, &node.process);
    let founder = founder(node, membership);
    // The identity is time-ordered, so that of two clusters the earlier is known. The rest is the
    // node's own randomness.
    let mut random = [0; 10];
    random[..8].copy_from_slice(&process.random().to_le_bytes());
    random[8..].copy_from_slice(&process.random().to_le_bytes()[..2]);
    let millis = founder.member.incarnation.0;
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    // The generation is greater than that of any cluster this node founded before, as long as its
    // clock goes forward. Where there is a store, it is greater in any case than that of all which
    // have written there: the store would refuse an earlier epoch.
    let seconds = u32::try_from(millis / 1000).unwrap_or(u32::MAX).max(1);
    let stored = match process.runtime.store() {
        Some(store) => store.journal().latest_epoch().await,
        None => Ok(Epoch::ZERO),
    };
    let stored = stored.map_err(|error| format!("the journal does not answer: {error}"))?;
    let number = seconds.max(stored.generation().saturating_add(1));
    let generation = Generation::new(number, 0);
    let identity = ClusterIdentity { uuid, generation };
    let map = ClusterMap::found(
        identity,
        founder.member.clone(),
        &site(node),
        &node.hosted,
        lease_times(&setup.settings),
        setup.tie_breaker.is_some(),
    );
    found_with(membership, founder, map).await
}

/// Founds a new generation of a cluster whose voters are lost.
async fn found_generation(
    node: &Node,
    membership: &Membership,
    identity: ClusterIdentity,
    before: &ClusterMap,
) -> Result<(), String> {
    let founder = founder(node, membership);
    let member = founder.member.clone();
    let map = before.reborn(identity, member, &site(node), &node.hosted);
    found_with(membership, founder, map).await
}

async fn found_with(
    membership: &Membership,
    founder: Voter,
    map: ClusterMap,
) -> Result<(), String> {
    let identity = map.identity;
    let seat = map.member(&founder.member).map(|member| member.seat);
    let seat = seat.ok_or("it is not in its map")?;
    let engine = membership.voter.found(identity, seat).await?;
    sighted!(Founded {
        by: founder.member.clone(),
        uuid: identity.uuid.as_u128(),
        generation: identity.generation.number(),
        founder: identity.generation.founder(),
    });
    engine.found(founder, map).await?;
    // The identity is set only now: a process that asks before is told that there is no cluster
    // yet.
    let contact = &membership.contact;
    contact.local.set_identity(identity);
    tracing::info!(
        cluster = contact.peers.setup.cluster,
        uuid = %identity.uuid,
        generation = %identity.generation,
        "this node has founded the cluster"
    );
    Ok(())
}

// ---- The tie-breaker.

/// Asks the tie-breaker whether `claimant` may go on without `other`.
async fn claim(
    node: &Node,
    cluster: ClusterIdentity,
    claimant: &MemberId,
    other: &MemberId,
) -> Result<Verdict, TieError> {
    let Some(breaker) = &node.setup.tie_breaker else {
        let reason = "this node has none".to_owned();
        return Err(TieError::Unreachable { reason });
    };
    let claim = Claim::new(cluster, claimant.clone(), other.clone());
    breaker
        .claim(claim, node.setup.settings.decide_timeout)
        .await
}
