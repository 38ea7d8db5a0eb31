//! The graceful leave of a node.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    cluster::{
        contact::Contact,
        gossip::Input,
        membership::{Membership, operations::forget_seat},
        node::Node,
        peers::{Peers, wire::Proposal},
    },
    config::Settings,
    error::ShutdownError,
    id::{MemberId, Voter},
    protocol::{
        leader_client::LeaderError,
        map::{ClusterMap, Command, MapError, Status},
        membership::leaving::{
            Departing, Leaving, LeavingStep, StepDone, can_decide, has_handed_over, may_end,
        },
    },
    transport::{connection::closing_limit, handshake::HandshakeError},
};

/// Leaves the cluster: shards are given up in order, then the membership, then the connections.
pub(crate) async fn leave(node: &Node) -> Result<(), ShutdownError> {
    let after = node.setup.settings.shutdown_timeout;
    let deadline = Instant::now() + after;
    node.process.set_leaving();
    let membership = node.current_membership();
    membership.contact.tenure.inputs.tell_of_leave().await;
    let me = membership.contact.local.member.clone();
    let is_present = node.map.get().is_some_and(|map| map.is_present(&me));
    let (mut leaving, mut step) = Leaving::new(Departing {
        me,
        is_member: is_present && node.failed.get().is_none(),
        regions: node.regions.len(),
    });
    loop {
        if let LeavingStep::End { late } = step {
            return match late {
                None => Ok(()),
                Some(waiting_for) => Err(ShutdownError::Timeout { after, waiting_for }),
            };
        }
        let done = take(node, &membership, step, deadline).await;
        let gate = node.process.runtime.gate();
        let serves = gate.is_none_or(|gate| gate.is_open());
        step = leaving.handle_done(done, node.map.get().as_deref(), serves);
    }
}

async fn take(
    node: &Node,
    membership: &Membership,
    step: LeavingStep,
    deadline: Instant,
) -> StepDone {
    let in_time = |result: Result<(), _>| match result {
        Ok(()) => StepDone::Done,
        Err(tokio::time::error::Elapsed { .. }) => StepDone::Failed,
    };
    let me = &membership.contact.local.member;
    match step {
        LeavingStep::Record(command) => record(node, membership, command, deadline).await,
        LeavingStep::HandOver => in_time(until(node, me, deadline, has_handed_over).await),
        LeavingStep::Sever => {
            node.regions.iter().for_each(|region| region.sever());
            StepDone::Done
        }
        LeavingStep::StopRegion(number) => {
            let Some(region) = node.regions.get(number) else {
                return StepDone::Failed;
            };
            let kind = region.name().to_owned();
            if let Ok(shards) = tokio::time::timeout_at(deadline, region.leave()).await {
                StepDone::Stopped { kind, shards }
            } else {
                // Askers that still wait are told that there will be no answer.
                region.sever();
                StepDone::Failed
            }
        }
        LeavingStep::StopActors => {
            let runtime = &node.process.runtime;
            let closed = tokio::time::timeout_at(deadline, runtime.close_all()).await;
            if closed.is_err() {
                runtime.sever_all();
            }
            in_time(closed)
        }
        LeavingStep::Outlast => in_time(until(node, me, share_of(deadline), may_end).await),
        LeavingStep::SayGoodbye => {
            node.gossip.send(Input::Leave).await;
            StepDone::Done
        }
        LeavingStep::Disconnect => {
            let until = deadline + last_words(&node.peers);
            match node.process.end_tasks(until).await {
                Ok(()) => StepDone::Done,
                Err(job) => StepDone::GoesOn(job),
            }
        }
        LeavingStep::ForgetSeat => {
            membership.voter.stop();
            forget_seat(node).await;
            StepDone::Done
        }
        LeavingStep::End { .. } => StepDone::Done,
    }
}

/// How long the tasks of a process may take to end when the time of its shutdown is up.
pub(crate) fn last_words(peers: &Peers) -> Duration {
    closing_limit(peers.keepalive()) + Duration::from_secs(1)
}

/// Waits until the map says this of a member, or there is none.
async fn until(
    node: &Node,
    me: &MemberId,
    deadline: Instant,
    says: fn(&ClusterMap, &MemberId) -> bool,
) -> Result<(), tokio::time::error::Elapsed> {
    let said = node
        .map
        .wait(|map| map.is_none_or(|map| says(map, me)).then_some(()));
    tokio::time::timeout_at(deadline, said).await
}

/// What follows a step has its share of the time too.
fn share_of(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// Proposes the command. Without a leader it cannot be recorded, and the others will notice by
/// themselves.
async fn record(
    node: &Node,
    membership: &Membership,
    command: Command,
    deadline: Instant,
) -> StepDone {
    let (contact, settings) = (&*membership.contact, &node.setup.settings);
    let until = share_of(deadline);
    let is_begin = matches!(command, Command::Leave { .. });
    let told = contact.leader.propose(Proposal::Apply(command));
    let hopeless = majority_is_gone(contact, settings, is_begin);
    let told = tokio::select! {
        biased;
        told = tokio::time::timeout_at(until, told) => told,
        () = hopeless => {
            tracing::info!("most of the voters have ended: the leave is not recorded");
            return StepDone::Failed;
        }
    };
    match told {
        // A wrong status means that an operator's command was recorded before.
        Ok(Ok(_) | Err(LeaderError::Refused(MapError::WrongStatus(_)))) => {
            return StepDone::Recorded;
        }
        Ok(Err(error)) => tracing::info!(%error, "the leave was not recorded"),
        Err(_) => tracing::info!("the leave was not recorded in time"),
    }
    StepDone::Failed
}

/// Waits until so few voters answer that nothing can be decided: nodes that end at the same time
/// would otherwise wait for each other. A decision usually comes before the voters are asked.
/// `is_begin`: voters that do not answer may come back.
async fn majority_is_gone(contact: &Contact, settings: &Settings, is_begin: bool) {
    loop {
        // A voter that has ended says nothing, so it is asked again and again: no event could be
        // awaited in place of the time.
        tokio::time::sleep(settings.election_timeout).await;
        let voters = contact.voters.all();
        let asked = voters.iter();
        let asked = asked.map(|voter| answers(contact, voter, settings.connect_timeout));
        let answers = join_all(asked).await;
        let map = contact.map.get();
        let leaves = |voter: &Voter| {
            let status = map.as_ref().and_then(|map| map.status(&voter.member));
            !matches!(status, Some(Status::Up | Status::Joining))
        };
        let each = voters.iter().zip(answers);
        if !can_decide(each.map(|(voter, answers)| answers || (is_begin && !leaves(voter)))) {
            return;
        }
    }
}

/// Whether a process answers at the address of a voter.
async fn answers(contact: &Contact, voter: &Voter, limit: Duration) -> bool {
    contact.peers.is_me(&voter.member)
        || match contact.peers.greet(voter.address, limit).await {
            Ok(_) | Err(HandshakeError::Refused(_)) => true,
            Err(_) => false,
        }
}
