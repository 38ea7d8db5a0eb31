//! Takes the steps by which a node leaves.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::{node::Node, wire::Proposal},
    error::ShutdownError,
    protocol::{
        leader_client::LeaderError,
        map::{Command, MapError},
        membership::leaving::{Departing, Leaving, LeavingStep, StepDone, has_handed_over},
    },
};

/// Leaves the cluster: shards are given up in order, then the membership, then the connections.
pub(crate) async fn leave(node: &Arc<Node>) -> Result<(), ShutdownError> {
    let after = node.settings().shutdown_timeout;
    let deadline = Instant::now() + after;
    node.set_leaving();
    node.membership().tell_of_leave().await;
    let me = node.member();
    let is_member = node.address().is_some() && node.is_member(&me) && node.failure().is_none();
    let regions = node.regions().len();
    let (mut leaving, mut step) = Leaving::new(Departing {
        me,
        is_member,
        regions,
    });
    loop {
        if let LeavingStep::End { late } = step {
            return match late {
                None => Ok(()),
                Some(waiting_for) => Err(ShutdownError::Timeout { after, waiting_for }),
            };
        }
        let done = take(node, step, deadline).await;
        let serves = node.runtime().gate().is_none_or(|gate| gate.is_open());
        step = leaving.handle_done(done, node.map().as_deref(), serves);
    }
}

async fn take(node: &Arc<Node>, step: LeavingStep, deadline: Instant) -> StepDone {
    let in_time = |result: Result<(), _>| match result {
        Ok(()) => StepDone::Done,
        Err(tokio::time::error::Elapsed { .. }) => StepDone::Failed,
    };
    match step {
        LeavingStep::Record(command) => record(node, command, deadline).await,
        LeavingStep::HandOver => {
            let me = node.member();
            let handed_over = node.watch().wait(|map| {
                map.is_none_or(|map| has_handed_over(map, &me))
                    .then_some(())
            });
            in_time(tokio::time::timeout_at(deadline, handed_over).await)
        }
        LeavingStep::Sever => {
            node.regions().iter().for_each(|region| region.sever());
            StepDone::Done
        }
        LeavingStep::StopRegion(number) => {
            let Some(region) = node.regions().get(number) else {
                return StepDone::Failed;
            };
            let kind = region.name().to_owned();
            match tokio::time::timeout_at(deadline, region.leave()).await {
                Ok(shards) => StepDone::Stopped { kind, shards },
                Err(_) => StepDone::Failed,
            }
        }
        LeavingStep::StopActors => {
            in_time(tokio::time::timeout_at(deadline, node.runtime().close_all()).await)
        }
        LeavingStep::SayGoodbye => {
            node.gossip_leave().await;
            StepDone::Done
        }
        LeavingStep::Disconnect => {
            node.tasks().close();
            node.cancel().cancel();
            let until = deadline + Duration::from_secs(1);
            in_time(tokio::time::timeout_at(until, node.tasks().wait()).await)
        }
        LeavingStep::ForgetSeat => {
            node.drop_engine();
            node.forget_seat().await;
            StepDone::Done
        }
        LeavingStep::End { .. } => StepDone::Done,
    }
}

/// Has it recorded. Without a leader nothing can be told: the others will notice.
async fn record(node: &Node, command: Command, deadline: Instant) -> StepDone {
    let told = node.propose(Proposal::Apply(command));
    match tokio::time::timeout_at(deadline, told).await {
        // In the wrong status: an operator had it recorded before.
        Ok(Ok(_) | Err(LeaderError::Refused(MapError::WrongStatus(_)))) => {
            return StepDone::Recorded;
        }
        Ok(Err(error)) => tracing::info!(%error, "the leave was not recorded"),
        Err(_) => tracing::info!("the leave was not recorded in time"),
    }
    StepDone::Failed
}
