//! What a cell tells of itself, to programs and people who ask why it does not answer.

use std::{sync::atomic::Ordering, time::Duration};

use serde::{Deserialize, Serialize};

use super::core::{Core, Phase, Status};

use crate::{actor::ask::chain::PendingAsk, infra::coarse::millis_since};

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
    /// Whether the handler awaits something. Else it keeps a thread for itself.
    pub(crate) awaits: bool,
    /// What the handler has asked, and has no answer to.
    pub(crate) asks: Vec<PendingAsk>,
}

/// What is seen of a cell at a glance: of a million of them in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    /// When the last message from outside was handled, on the runtime's coarse clock; `None` where
    /// there is no activation.
    pub(crate) last_used: Option<u32>,
    /// How many messages wait.
    pub(crate) queued: usize,
    /// For how many milliseconds a handler runs, if one does.
    pub(crate) handling_for: Option<u32>,
}

impl Glance {
    /// `now`: on the runtime's coarse clock.
    pub(super) fn new(core: &Core, phase: Phase, queued: usize, now: u32) -> Self {
        let is_active = !matches!(phase, Phase::Paused | Phase::Resting | Phase::Closed);
        let runs = !matches!(phase, Phase::Idle | Phase::Closed);
        let handled = runs.then(|| core.present.read(now).0).flatten();
        Self {
            last_used: is_active.then(|| core.used.load(Ordering::Relaxed)),
            queued,
            handling_for: handled.map(|(_, since)| millis_since(now, since)),
        }
    }
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
    core: &Core,
    names: &'static [&'static str],
    now: u32,
) -> CellReport {
    let (handled, behind) = match status.phase {
        Phase::Idle | Phase::Closed => (None, 0),
        _ => core.present.read(now),
    };
    let handling = handled.map(|(index, since)| {
        let name = names.get(index).copied().unwrap_or("?");
        (name, Duration::from_millis(millis_since(now, since).into()))
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
        queued: queued + behind,
        handling,
        awaits: core.is_awaiting(),
        asks: Vec::new(),
    }
}
