//! What a cell tells of itself, to programs and people who ask why it does not answer.

use std::time::Duration;

use super::{
    core::{Phase, Status},
    present::Present,
};
use serde::{Deserialize, Serialize};

use crate::actor::ask::chain::PendingAsk;

/// A cell, as it is now.
#[derive(Clone, Debug)]
pub(crate) struct CellReport {
    pub(crate) activity: Activity,
    /// The name of the present state of a state machine; while a message is handled, that before
    /// it.
    pub(crate) state: Option<&'static str>,
    /// How many messages wait.
    pub(crate) queued: usize,
    /// The message whose handler runs, and for how long, to a few milliseconds.
    pub(crate) handling: Option<(&'static str, Duration)>,
    /// What the handler has asked, and has no answer to.
    pub(crate) asks: Vec<PendingAsk>,
}

/// What an active entity does, as `Admin::why` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activity {
    /// It waits for a message.
    AwaitsMessage,
    /// It handles messages, or starts, or ends.
    AtWork,
    /// It waits for a while after a failure, or for the lease of its node.
    InPause,
    /// It waits until the store has what it has changed.
    AwaitsStore,
    /// It has ended.
    HasEnded,
}

/// Puts a report together, without what depends on the actor's type and what its handlers have
/// asked.
pub(super) fn report(
    status: &Status,
    queued: usize,
    present: &Present,
    names: &'static [&'static str],
    now: u32,
) -> CellReport {
    let present = match status.phase {
        Phase::Idle | Phase::Closed => None,
        _ => present.read(now),
    };
    let handling = present.map(|(index, _, since)| {
        let name = names.get(index).copied().unwrap_or("?");
        (name, Duration::from_millis(now.wrapping_sub(since).into()))
    });
    CellReport {
        activity: match status.phase {
            Phase::Idle => Activity::AwaitsMessage,
            Phase::Waiting if handling.is_none() => Activity::AwaitsMessage,
            Phase::Running | Phase::Waiting => Activity::AtWork,
            Phase::Paused | Phase::Resting => Activity::InPause,
            Phase::Settling => Activity::AwaitsStore,
            Phase::Closed => Activity::HasEnded,
        },
        state: status.seen.as_ref().and_then(|seen| seen.state),
        queued: queued + present.map_or(0, |(_, behind, _)| behind),
        handling,
        asks: Vec::new(),
    }
}
