//! How long a member may act as the owner of what it owns, by its own clock; and how long the
//! leader has to take for granted that it does.
//!
//! A lease is a node's, not a shard's. The owner counts from the moment it *sent* its renewal; the
//! leader answers only after it has made sure, by a round of a quorum that began later, that it
//! still leads. So whoever leads next was elected after the renewal was sent, and by waiting for a
//! [`guard`](LeaseTimes::guard) from then on it waits for everything that was granted before.
//! Clocks are only ever compared with themselves; their rates may differ by
//! [`drift`](LeaseTimes::new).
//!
//! Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache
//! consistency" (1989).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{id::MemberId, infra::mutants};

/// How long leases are, on either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseTimes {
    /// How long an owner may act after it sent a renewal, by its own clock.
    pub(crate) lease: Duration,
    /// How long the leader waits after it granted one, by its own.
    pub(crate) guard: Duration,
}

impl LeaseTimes {
    /// `drift`: by how much of itself each clock's rate may differ from true time, such as 0.05.
    pub(crate) fn new(lease: Duration, drift: f64) -> Self {
        // The owner's clock is slow and the leader's fast: the owner acts for lease / (1 - drift)
        // of true time, and of that the leader's clock sees 1 + drift. A millisecond is for timers
        // that round down.
        let guard = lease.mul_f64((1.0 + drift) / (1.0 - drift)) + Duration::from_millis(1);
        if mutants::on("guard_shorter_than_lease") {
            let guard = lease / 4;
            return Self { lease, guard };
        }
        Self { lease, guard }
    }
}

/// An owner's lease.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    deadline: Option<Instant>,
    /// Granted, and usable once this node's map has this version: it may not act on a map older
    /// than the one that the leader granted by.
    granted: Option<(Instant, u64)>,
}

impl Lease {
    /// A renewal that was sent at `sent` has been granted by a map of this version.
    pub(crate) fn handle_granted(&mut self, sent: Instant, version: u64, times: LeaseTimes) {
        let mut deadline = sent + times.lease;
        if mutants::on("lease_is_longer_than_granted") {
            deadline += times.lease * 2;
        }
        if self.granted.is_none_or(|(granted, _)| granted < deadline) {
            self.granted = Some((deadline, version));
        }
    }

    /// Until when this node may act, if its map has this version.
    pub(crate) fn handle_map(&mut self, version: u64) -> Option<Instant> {
        if let Some((deadline, needed)) = self.granted
            && needed <= version
        {
            self.deadline = self.deadline.max(Some(deadline));
            self.granted = None;
        }
        self.deadline
    }
}

/// What a leader has granted, and what others may have granted before it.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    leading: Option<LeaderTerm>,
    until: BTreeMap<MemberId, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct LeaderTerm {
    term: u64,
    /// Whatever an earlier leader granted is over by then.
    settled: Instant,
}

impl Grants {
    /// This node leads in `term`.
    pub(crate) fn handle_leading(&mut self, term: u64, now: Instant, times: LeaseTimes) {
        if self.leading.is_none_or(|known| known.term != term) {
            let mut settled = now + times.guard;
            if mutants::on("new_leader_does_not_wait") {
                settled = now;
            }
            self.leading = Some(LeaderTerm { term, settled });
            self.until.clear();
        }
    }

    pub(crate) fn handle_following(&mut self) {
        self.leading = None;
    }

    /// A renewal is granted now. `false` if this node does not lead in `term` as far as it knows.
    pub(crate) fn grant(
        &mut self,
        member: &MemberId,
        term: u64,
        now: Instant,
        times: LeaseTimes,
    ) -> bool {
        let leads = self.leading.is_some_and(|known| known.term == term);
        if leads {
            self.until.insert(member.clone(), now + times.guard);
        }
        leads
    }

    /// Whether a member that gets no more leases can serve no more.
    pub(crate) fn is_over(&self, member: &MemberId, now: Instant) -> bool {
        let settled = self.leading.is_some_and(|term| term.settled <= now);
        settled && self.until.get(member).is_none_or(|until| *until <= now)
    }

    /// When a member last renewed, by how long it may still act; `None` if it never did under this
    /// leader.
    pub(crate) fn until(&self, member: &MemberId) -> Option<Instant> {
        self.until.get(member).copied()
    }

    /// From when on this leader knows of every lease there can be.
    pub(crate) fn settled(&self) -> Option<Instant> {
        self.leading.map(|term| term.settled)
    }

    /// Forgets who is no member any more.
    pub(crate) fn retain(&mut self, keep: impl Fn(&MemberId) -> bool) {
        self.until.retain(|member, _| keep(member));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::map::tests::member;

    const MS: Duration = Duration::from_millis(1);

    fn times() -> LeaseTimes {
        LeaseTimes::new(1000 * MS, 0.05)
    }

    #[test]
    fn a_lease_counts_from_when_its_renewal_was_sent() {
        let (mut lease, sent) = (Lease::default(), Instant::now());
        assert_eq!(lease.handle_map(9), None);
        lease.handle_granted(sent, 9, times());
        assert_eq!(lease.handle_map(9), Some(sent + 1000 * MS));
        // An answer that comes late shortens nothing.
        lease.handle_granted(sent - 500 * MS, 9, times());
        assert_eq!(lease.handle_map(9), Some(sent + 1000 * MS));
    }

    #[test]
    fn a_lease_is_of_no_use_until_the_map_is_as_new_as_the_leaders() {
        let (mut lease, sent) = (Lease::default(), Instant::now());
        lease.handle_granted(sent, 9, times());
        assert_eq!(lease.handle_map(8), None);
        assert_eq!(lease.handle_map(10), Some(sent + 1000 * MS));
    }

    #[test]
    fn a_new_leader_waits_for_what_its_predecessor_may_have_granted() {
        let (mut grants, now, b) = (Grants::default(), Instant::now(), member("b", 1));
        assert!(!grants.is_over(&b, now), "it does not lead");
        grants.handle_leading(3, now, times());
        assert!(!grants.is_over(&b, now + 1000 * MS));
        let settled = now + times().guard;
        assert!(grants.is_over(&b, settled));
        // Still the same term.
        grants.handle_leading(3, settled, times());
        assert!(grants.is_over(&b, settled));
        grants.handle_leading(4, settled, times());
        assert!(!grants.is_over(&b, settled));
    }

    #[test]
    fn what_was_granted_is_waited_for() {
        let (mut grants, now, b) = (Grants::default(), Instant::now(), member("b", 1));
        grants.handle_leading(3, now, times());
        let later = now + times().guard;
        assert!(grants.grant(&b, 3, later, times()));
        assert!(!grants.grant(&b, 2, later + 500 * MS, times()), "deposed");
        assert!(!grants.is_over(&b, later + 1000 * MS));
        assert!(grants.is_over(&b, later + times().guard));
        grants.handle_following();
        assert!(!grants.grant(&b, 3, later, times()));
        assert!(!grants.is_over(&b, later + times().guard));
    }

    proptest! {
        /// Whatever the rates of the two clocks within the bound, the leader waits at least as long
        /// as the owner acts.
        #[test]
        fn the_guard_outlasts_the_lease(
            lease in 10_u64..60_000,
            drift in 0.0..0.3_f64,
            owner in -1.0..1.0_f64,
            leader in -1.0..1.0_f64,
        ) {
            let times = LeaseTimes::new(Duration::from_millis(lease), drift);
            let true_lease = times.lease.as_secs_f64() / (1.0 + drift * owner);
            let true_guard = times.guard.as_secs_f64() / (1.0 + drift * leader);
            prop_assert!(true_guard >= true_lease);
        }
    }
}
