//! The time in which one incarnation is a member: its session, and its right to act.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    actor::runtime::Runtime,
    cluster::{locks::Rank, membership_inputs::MembershipInputs, process::Process},
    id::Generation,
    infra::sync::Ranked,
    protocol::tie::{Renewing, Report, Stamp},
};

/// The time in which one incarnation is a member, or a client is one client.
///
/// What runs for the incarnation ends with [`session`](Self::session).
pub(crate) struct Tenure {
    runtime: Arc<Runtime>,
    pub(crate) session: CancellationToken,
    /// The inputs of the membership's machine.
    pub(crate) inputs: Arc<MembershipInputs>,
    /// Held while the session ends, or the gate is opened: neither must come between the other.
    opening: Ranked<()>,
    renewing: Ranked<Renewing>,
    /// Generation and version of the map that the regions go by.
    followed: Ranked<Option<(Generation, u64)>>,
}

impl Tenure {
    pub(crate) fn new(process: &Process, inputs: Arc<MembershipInputs>) -> Self {
        Self {
            runtime: process.runtime.clone(),
            session: process.cancel.child_token(),
            inputs,
            opening: Rank::Gate.mutex(()),
            renewing: Rank::Renewing.mutex(Renewing::default()),
            followed: Rank::Followed.mutex(None),
        }
    }

    /// Ends the tenure at once: entities act no more, no renewal is reported, and the tasks of the
    /// incarnation are cancelled. The next incarnation begins when the machine decides it.
    pub(crate) fn end(&self) {
        self.renewing.lock().handle_end();
        let _opening = self.opening.lock();
        self.session.cancel();
        self.runtime.close_gate();
    }

    /// Lets entities act until `deadline`, unless the tenure has ended.
    pub(crate) fn open_gate_until(&self, deadline: Instant) {
        // The gate opens under the lock: a membership that has ended must not open it again.
        let _opening = self.opening.lock();
        let gate = self.runtime.gate();
        if let Some(gate) = gate.filter(|_| !self.session.is_cancelled()) {
            gate.open_until(deadline);
        }
    }

    /// Whether entities may act now.
    pub(crate) fn may_act(&self) -> bool {
        self.runtime.gate().is_some_and(|gate| gate.is_open())
    }

    /// The regions go by a map of this generation and version.
    pub(crate) fn set_followed(&self, age: (Generation, u64)) {
        *self.followed.lock() = Some(age);
    }

    /// The version of the map that the regions go by, in this generation of the cluster.
    pub(crate) fn followed_in(&self, generation: Option<Generation>) -> u64 {
        let followed = *self.followed.lock();
        followed
            .filter(|(followed, _)| generation == Some(*followed))
            .map_or(0, |(_, version)| version)
    }

    /// A leader with a tie-breaker wants to get this stamp back.
    pub(crate) fn handle_stamp(&self, stamp: Stamp) {
        self.renewing.lock().handle_stamp(stamp);
    }

    /// The report of a renewal; `None` after the end. `version` gives the version of the map.
    pub(crate) fn report(&self, version: impl FnOnce() -> u64) -> Option<Report> {
        let renewing = self.renewing.lock();
        // The version is read under the lock, so that no report is newer than the map that is read
        // after the end.
        renewing.report(version())
    }
}
