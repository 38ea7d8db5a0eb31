//! How long a member may act as the owner of its shards, by its own clock; and how long the leader
//! has to assume that it does.
//!
//! A lease belongs to a node, not to a shard. The owner counts it from the moment it *sent* the
//! renewal. The leader grants a renewal only after it has confirmed its leadership by a quorum
//! round that began after the renewal arrived. So the next leader is elected after the renewal was
//! sent, and by waiting for a [`guard`](LeaseTimes::guard) from its election it outwaits every
//! earlier grant. Clocks are only compared with themselves; their rates may differ by
//! [`drift`](LeaseTimes::new).
//!
//! Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache
//! consistency" (1989).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{id::MemberId, infra::mutants};

/// How long leases last, for the owner and for the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseTimes {
    /// How long an owner may act after it sent a renewal, by the owner's clock.
    pub(crate) lease: Duration,
    /// How long the leader waits after it granted a renewal, by the leader's clock.
    pub(crate) guard: Duration,
}

impl LeaseTimes {
    /// `drift`: by what fraction each clock's rate may differ from true time, such as 0.05.
    pub(crate) fn new(lease: Duration, drift: f64) -> Self {
        // Worst case: the owner's clock is slow and the leader's fast. The owner acts for lease /
        // (1 - drift) of true time, which the leader's clock shows as (1 + drift) times that. The
        // millisecond covers timers that round down.
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
    /// A granted deadline, and the map version that the leader granted it by. It becomes usable
    /// once this node's map has that version: an owner must not act on an older map.
    granted: Option<(Instant, u64)>,
}

impl Lease {
    /// The leader granted a renewal that was sent at `sent`, by a map of this version.
    pub(crate) fn handle_granted(&mut self, sent: Instant, version: u64, times: LeaseTimes) {
        let mut deadline = sent + times.lease;
        if mutants::on("lease_is_longer_than_granted") {
            deadline += times.lease * 2;
        }
        if self.granted.is_none_or(|(granted, _)| granted < deadline) {
            self.granted = Some((deadline, version));
        }
    }

    /// Whether each lease that this node was granted was over when it sent a renewal: for a while
    /// before that it may have stood still, and others may have gone on without it.
    pub(crate) fn had_ended(&self, sent: Instant) -> bool {
        let granted = self.granted.map(|(deadline, _)| deadline);
        self.deadline.max(granted).is_none_or(|end| end <= sent)
    }

    /// The deadline until which this node may act, given the version of its map.
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

/// The grants of this leader, and the time at which the grants of earlier leaders are over.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    leading: Option<LeaderTerm>,
    until: BTreeMap<MemberId, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct LeaderTerm {
    term: u64,
    times: LeaseTimes,
    /// By this time every grant of an earlier leader has ended.
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
            self.leading = Some(LeaderTerm {
                term,
                times,
                settled,
            });
            self.until.clear();
        }
    }

    pub(crate) fn handle_following(&mut self) {
        self.leading = None;
    }

    /// Grants a renewal now. Returns `false` if, as far as this node knows, it does not lead in
    /// `term`.
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

    /// Whether a member that gets no more leases can no longer serve.
    pub(crate) fn is_over(&self, member: &MemberId, now: Instant) -> bool {
        let settled = self.leading.is_some_and(|term| term.settled <= now);
        settled && self.until.get(member).is_none_or(|until| *until <= now)
    }

    /// Whether a member has renewed within the last half of a lease. Each member tries three times
    /// in a lease, so a member that has not is likely to be gone.
    pub(crate) fn has_renewed_lately(&self, member: &MemberId, now: Instant) -> bool {
        let (Some(term), Some(until)) = (self.leading, self.until(member)) else {
            return false;
        };
        let left = until.saturating_duration_since(now);
        left + term.times.lease / 2 > term.times.guard
    }

    /// The end of the guard after a member's last renewal; `None` if it has not renewed under this
    /// leader.
    pub(crate) fn until(&self, member: &MemberId) -> Option<Instant> {
        self.until.get(member).copied()
    }

    /// When this leader knows every lease that can exist.
    pub(crate) fn settled(&self) -> Option<Instant> {
        self.leading.map(|term| term.settled)
    }

    /// Forgets all members for which `keep` does not hold.
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
        // An answer that arrives late does not shorten the lease.
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
        /// For all clock rates within the bound, the leader waits at least as long as the owner
        /// acts.
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
