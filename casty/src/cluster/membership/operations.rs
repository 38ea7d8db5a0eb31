//! The operations of a membership that take time. Decides nothing: each operation has one outcome.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    cluster::{
        authority::Voter,
        node::Node,
        wire::{Call, Proposal},
    },
    config::Settings,
    error::TieError,
    id::{ClusterIdentity, MemberId},
    infra::observe::sighted,
    protocol::{
        bootstrap::SeedAnswer,
        lease::LeaseTimes,
        map::{ClusterMap, Command},
        membership::{Greeted, Introduction, MembershipInput, Operation, Outcome},
        tie::Report,
    },
    tie::{Claim, Verdict},
    transport::{
        dial::dial,
        handshake::{HandshakeError, HandshakeRefusal, Lane, Welcome},
        link::LinkOwner,
        net::Target,
    },
};

/// How long leases are.
pub(crate) fn lease_times(settings: &Settings) -> LeaseTimes {
    LeaseTimes::new(settings.lease, settings.clock_drift)
}

/// Does one operation.
pub(super) async fn run(node: Arc<Node>, operation: Operation) -> Outcome {
    match operation {
        Operation::SitAgain => {
            let sat = node.sit_again().await;
            let voters = || node.voters().into_iter().map(|voter| voter.address);
            Outcome::Sat(sat.map(|()| voters().collect()))
        }
        Operation::ForgetSeat => {
            node.forget_seat().await;
            Outcome::Forgotten
        }
        Operation::Greet(places) => {
            let greeted = places.iter().map(|place| greet(&node, place));
            Outcome::Greeted(join_all(greeted).await)
        }
        Operation::Found => Outcome::Founded(found(&node).await),
        Operation::FoundGeneration(identity, before) => {
            Outcome::Founded(found_generation(&node, identity, &before).await)
        }
        Operation::Join => propose(&node, join_command(&node)).await,
        Operation::Up => {
            let member = node.member();
            propose(&node, Some(Command::Up { member })).await
        }
        Operation::Renew => renew(&node).await,
        Operation::AskLeader => {
            let limit = node.settings().decide_timeout;
            let renewed = node.ask_leader(&renewal(&node), limit).await;
            Outcome::HasLeader(renewed.is_ok())
        }
        Operation::Claim(cluster, other) => {
            let verdict = node.claim(cluster, &node.member(), &other).await;
            tracing::warn!(%other, ?verdict, "the tie-breaker was asked who goes on");
            Outcome::Claimed(verdict)
        }
    }
}

// ---- Joining.

fn join_command(node: &Node) -> Option<Command> {
    Some(Command::Join {
        member: node.member(),
        address: node.address()?,
        catalog: node.hosted().to_vec(),
        lease: lease_times(node.settings()),
        tie_breaker: node.tie_breaker().is_some(),
        since: node.since(),
        seat: node.kept_seat(),
    })
}

async fn propose(node: &Node, command: Option<Command>) -> Outcome {
    let Some(command) = command else {
        // A client has nothing to propose.
        return Outcome::Decided(Ok(0));
    };
    let decided = node.propose(Proposal::Apply(command)).await;
    if let Err(error) = &decided {
        tracing::info!(%error, "not joined yet");
    }
    Outcome::Decided(decided)
}

fn renewal(node: &Node) -> Call {
    Call::Renew {
        member: node.member(),
        passed_on: false,
        report: None,
    }
}

async fn renew(node: &Node) -> Outcome {
    // Renew only while handlers make progress: a node that is stuck must lose its lease.
    node.runtime().turn().await;
    // Before it is sent: the lease counts from here.
    let sent = Instant::now();
    let limit = node.settings().lease / 2;
    let result = node.ask_leader(&renewal(node), limit).await;
    if let Err(error) = &result {
        tracing::debug!(%error, "no lease");
    }
    Outcome::Renewed { sent, result }
}

// ---- Asking the places.

/// The answer of this node itself.
fn own_answer(node: &Node) -> Greeted {
    let answer = match node.kept_seat() {
        Some(_) => SeedAnswer::Kept,
        None => SeedAnswer::Myself,
    };
    Greeted {
        answer,
        cluster: None,
    }
}

/// Asks one place, under every address that its name has now.
async fn greet(node: &Node, place: &str) -> Greeted {
    let only = |answer| Greeted {
        answer,
        cluster: None,
    };
    let addresses = match node.net().resolve(place).await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::debug!(place, %error, "a seed's name has no address");
            return only(SeedAnswer::Unreachable);
        }
    };
    if addresses
        .iter()
        .any(|address| Some(*address) == node.address())
    {
        return own_answer(node);
    }
    let mut last = SeedAnswer::Unreachable;
    for address in addresses {
        match dial_address(node, address).await {
            Ok(welcome) if node.is_me(&welcome.member) => return own_answer(node),
            Ok(welcome) if welcome.identity.is_none() => last = SeedAnswer::NoCluster,
            Ok(welcome) => {
                if let Some(cluster) = introduced(node, welcome, address) {
                    return Greeted {
                        answer: SeedAnswer::Cluster,
                        cluster: Some(cluster),
                    };
                }
            }
            Err(error) => last = refused(node, place, &error).unwrap_or(last),
        }
    }
    only(last)
}

async fn dial_address(node: &Node, address: SocketAddr) -> Result<Welcome, HandshakeError> {
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

/// The cluster that a member introduces; `None` if that member knows no more of it yet.
fn introduced(node: &Node, welcome: Welcome, address: SocketAddr) -> Option<Introduction> {
    if welcome.keeps_seat && welcome.identity == node.identity() {
        node.handle_successor(&welcome.member, address);
    }
    let identity = welcome.identity?;
    (!welcome.voters.is_empty()).then_some(Introduction {
        by: welcome.member,
        identity,
        voters: welcome.voters,
    })
}

/// The meaning of a refused join. `None`: nothing follows from it.
fn refused(node: &Node, place: &str, error: &HandshakeError) -> Option<SeedAnswer> {
    match error {
        HandshakeError::Refused(HandshakeRefusal::Down(member)) if node.is_me(member) => {
            node.membership()
                .tell(MembershipInput::Down(member.clone()));
            Some(SeedAnswer::Cluster)
        }
        // The cluster was reborn without this node.
        HandshakeError::Refused(HandshakeRefusal::Generation { ours, theirs })
            if ours < theirs && node.has_a_cluster() && !node.is_leaving() =>
        {
            node.membership().tell(MembershipInput::Generation(*theirs));
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
    let map = ClusterMap::found(
        identity,
        founder.member.clone(),
        founder.address,
        node.hosted(),
        lease_times(node.settings()),
        node.tie_breaker().is_some(),
    );
    found_with(node, founder, map).await
}

/// Founds a new generation of a cluster whose voters are lost.
async fn found_generation(
    node: &Arc<Node>,
    identity: ClusterIdentity,
    before: &ClusterMap,
) -> Result<(), String> {
    let founder = node.myself().ok_or("a client founds nothing")?;
    let (member, address) = (founder.member.clone(), founder.address);
    let map = before.reborn(identity, member, address, node.hosted());
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
    // Only now: a process that asks before is told that there is no cluster yet.
    node.set_identity(identity);
    tracing::info!(
        cluster = node.cluster(),
        uuid = %identity.uuid,
        generation = identity.generation,
        "founded a cluster"
    );
    Ok(())
}

// ---- The tie-breaker.

impl Node {
    /// Asks the tie-breaker whether `claimant` may go on without `other`.
    pub(crate) async fn claim(
        &self,
        cluster: ClusterIdentity,
        claimant: &MemberId,
        other: &MemberId,
    ) -> Result<Verdict, TieError> {
        let Some(breaker) = self.tie_breaker() else {
            let reason = "this node has none".to_owned();
            return Err(TieError::Unreachable { reason });
        };
        let claim = Claim::new(cluster, claimant.clone(), other.clone());
        breaker.claim(claim, self.settings().decide_timeout).await
    }

    /// A member's present report. `None` if this process is no longer that member.
    pub(crate) fn report(&self, member: &MemberId) -> Option<Report> {
        let renewing = self.renewing();
        // Under the lock: what is reported is not newer than the map that is looked at after the
        // end.
        let version = self.map().map_or(0, |map| map.version);
        renewing.report(version).filter(|_| self.is_me(member))
    }
}
