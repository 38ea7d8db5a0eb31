//! The graceful leave of a node.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cluster::{
        gossip::Input,
        membership::{Membership, operations::forget_seat},
        node::Node,
        peers::wire::Proposal,
    },
    error::ShutdownError,
    protocol::{
        leader_client::LeaderError,
        map::{Command, MapError},
        membership::leaving::{Departing, Leaving, LeavingStep, StepDone, has_handed_over},
    },
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
    match step {
        LeavingStep::Record(command) => record(membership, command, deadline).await,
        LeavingStep::HandOver => {
            let me = &membership.contact.local.member;
            let handed_over = node
                .map
                .wait(|map| map.is_none_or(|map| has_handed_over(map, me)).then_some(()));
            in_time(tokio::time::timeout_at(deadline, handed_over).await)
        }
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
        LeavingStep::SayGoodbye => {
            node.gossip.send(Input::Leave).await;
            StepDone::Done
        }
        LeavingStep::Disconnect => {
            node.process.tasks.close();
            node.process.cancel.cancel();
            let until = deadline + Duration::from_secs(1);
            in_time(tokio::time::timeout_at(until, node.process.tasks.wait()).await)
        }
        LeavingStep::ForgetSeat => {
            membership.voter.stop();
            forget_seat(node).await;
            StepDone::Done
        }
        LeavingStep::End { .. } => StepDone::Done,
    }
}

/// Proposes the command. Without a leader it cannot be recorded, and the others will notice by
/// themselves.
async fn record(membership: &Membership, command: Command, deadline: Instant) -> StepDone {
    let told = membership.contact.leader.propose(Proposal::Apply(command));
    match tokio::time::timeout_at(deadline, told).await {
        // A wrong status means that an operator's command was recorded before.
        Ok(Ok(_) | Err(LeaderError::Refused(MapError::WrongStatus(_)))) => {
            return StepDone::Recorded;
        }
        Ok(Err(error)) => tracing::info!(%error, "the leave was not recorded"),
        Err(_) => tracing::info!("the leave was not recorded in time"),
    }
    StepDone::Failed
}
