//! Decides which members seem dead. The leader declares such members Down; every other node only
//! reports them to its users as unreachable.
//!
//! A member seems dead in two cases: gossip declared it down, after its own probes and suspicion;
//! or it has been in the map for longer than `meet_within` and gossip has never met it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::id::MemberId;

#[derive(Debug)]
pub(crate) struct FailureDetector {
    meet_within: Duration,
    declared: BTreeSet<MemberId>,
    unmet_since: BTreeMap<MemberId, Instant>,
}

impl FailureDetector {
    pub(crate) fn new(meet_within: Duration) -> Self {
        Self {
            meet_within,
            declared: BTreeSet::new(),
            unmet_since: BTreeMap::new(),
        }
    }

    /// Gossip gave up on a member.
    pub(crate) fn handle_down(&mut self, member: MemberId) {
        self.declared.insert(member);
    }

    /// Gossip heard from a member.
    pub(crate) fn handle_alive(&mut self, member: &MemberId) {
        self.declared.remove(member);
        self.unmet_since.remove(member);
    }

    /// The dead among `members`. `alive`: the members that gossip reaches now.
    pub(crate) fn handle_tick(
        &mut self,
        members: &BTreeSet<MemberId>,
        alive: &BTreeSet<MemberId>,
        now: Instant,
    ) -> Vec<MemberId> {
        self.declared.retain(|member| members.contains(member));
        self.unmet_since
            .retain(|member, _| members.contains(member) && !alive.contains(member));
        let mut dead = Vec::new();
        for member in members.difference(alive) {
            let since = *self.unmet_since.entry(member.clone()).or_insert(now);
            let unmet = now.saturating_duration_since(since) >= self.meet_within;
            if self.declared.contains(member) || unmet {
                dead.push(member.clone());
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::map::tests::member;

    const MEET: Duration = Duration::from_secs(3);

    fn set(names: &[&str]) -> BTreeSet<MemberId> {
        names.iter().map(|name| member(name, 1)).collect()
    }

    #[test]
    fn a_live_member_is_not_dead_whatever_gossip_declared_before() {
        let (mut liveness, now) = (FailureDetector::new(MEET), Instant::now());
        liveness.handle_down(member("a", 1));
        assert_eq!(liveness.handle_tick(&set(&["a"]), &set(&["a"]), now), []);
    }

    #[test]
    fn a_member_declared_down_is_dead_at_once() {
        let (mut liveness, now) = (FailureDetector::new(MEET), Instant::now());
        liveness.handle_down(member("a", 1));
        assert_eq!(
            liveness.handle_tick(&set(&["a", "b"]), &set(&["b"]), now),
            [member("a", 1)]
        );
        liveness.handle_alive(&member("a", 1));
        assert_eq!(liveness.handle_tick(&set(&["a"]), &set(&[]), now), []);
    }

    #[test]
    fn a_member_never_met_is_dead_after_a_while() {
        let (mut liveness, now) = (FailureDetector::new(MEET), Instant::now());
        assert_eq!(liveness.handle_tick(&set(&["a"]), &set(&[]), now), []);
        assert_eq!(
            liveness.handle_tick(&set(&["a"]), &set(&[]), now + MEET / 2),
            []
        );
        assert_eq!(
            liveness.handle_tick(&set(&["a"]), &set(&[]), now + MEET),
            [member("a", 1)]
        );
    }

    #[test]
    fn a_meeting_starts_the_clock_anew() {
        let (mut liveness, now) = (FailureDetector::new(MEET), Instant::now());
        liveness.handle_tick(&set(&["a"]), &set(&[]), now);
        liveness.handle_tick(&set(&["a"]), &set(&["a"]), now + MEET / 2);
        assert_eq!(
            liveness.handle_tick(&set(&["a"]), &set(&[]), now + MEET),
            []
        );
    }
}
