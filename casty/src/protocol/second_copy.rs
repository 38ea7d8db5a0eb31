//! Which members hold a copy of what a sole voter decided. Waits for nothing itself.
//!
//! When one member decides alone, a decision is final with a single copy of it. So the proposer
//! gets its answer only when another member has acknowledged the map with the decision: if the sole
//! voter then dies, an operator can let the other member go on. This is a best-effort second copy,
//! not a quorum. A member that misses the deadline is skipped until it reports again.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::MemberId;

/// Whether a version of the map has a second copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// Another member has it.
    Yes,
    /// A member receives the changes and has not acknowledged this version yet.
    NotYet,
    /// There is no member to wait for.
    Nobody,
}

/// The versions that other members have acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// The newest version of each member.
    versions: BTreeMap<MemberId, u64>,
    /// Members that missed a deadline and have not reported since.
    late: BTreeSet<MemberId>,
}

impl Copies {
    /// A member has the map of this version.
    pub(crate) fn handle_has(&mut self, member: &MemberId, version: u64) {
        let known = self.versions.entry(member.clone()).or_default();
        *known = version.max(*known);
        self.late.remove(member);
    }

    /// Whether another member has the map of this version. `listening`: the members that receive
    /// each change.
    pub(crate) fn look<'a>(
        &self,
        version: u64,
        mut listening: impl Iterator<Item = &'a MemberId>,
    ) -> Copied {
        if self.versions.values().any(|known| *known >= version) {
            Copied::Yes
        } else if listening.any(|member| !self.late.contains(member)) {
            Copied::NotYet
        } else {
            Copied::Nobody
        }
    }

    /// The deadline for this version has passed. Returns the listening members that are skipped
    /// from now on.
    pub(crate) fn handle_late<'a>(
        &mut self,
        version: u64,
        listening: impl Iterator<Item = &'a MemberId>,
    ) -> Vec<MemberId> {
        let behind = |member: &&MemberId| {
            let known = self.versions.get(*member);
            known.is_none_or(|known| *known < version)
        };
        let late: Vec<_> = listening.filter(behind).cloned().collect();
        let newly = |member: &MemberId| self.late.insert(member.clone());
        late.into_iter().filter(newly).collect()
    }

    /// Forgets all members for which `keep` does not hold: a member that is Down or has left keeps
    /// no copy.
    pub(crate) fn retain(&mut self, keep: impl Fn(&MemberId) -> bool) {
        self.versions.retain(|member, _| keep(member));
        self.late.retain(|member| keep(member));
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{map::tests::member, second_copy::*};

    #[test]
    fn one_copy_is_enough() {
        let (b, c) = (member("b", 1), member("c", 1));
        let mut copies = Copies::default();
        let look = |copies: &Copies| copies.look(5, [&b, &c].into_iter());
        assert_eq!(look(&copies), Copied::NotYet);
        copies.handle_has(&b, 4);
        assert_eq!(look(&copies), Copied::NotYet);
        copies.handle_has(&c, 7);
        assert_eq!(look(&copies), Copied::Yes);
        // An older report from an earlier connection does not set the member back.
        copies.handle_has(&c, 3);
        assert_eq!(look(&copies), Copied::Yes);
        copies.retain(|member| *member == b);
        assert_eq!(look(&copies), Copied::NotYet);
    }

    #[test]
    fn without_listening_members_there_is_no_wait() {
        let copies = Copies::default();
        assert_eq!(copies.look(1, [].into_iter()), Copied::Nobody);
    }

    #[test]
    fn a_late_member_counts_again_once_it_reports() {
        let (b, c) = (member("b", 1), member("c", 1));
        let both = || [&b, &c].into_iter();
        let mut copies = Copies::default();
        copies.handle_has(&c, 4);
        assert_eq!(copies.handle_late(5, both()), [b.clone(), c.clone()]);
        assert_eq!(copies.handle_late(5, both()), [], "it is said once");
        assert_eq!(copies.look(6, both()), Copied::Nobody);
        copies.handle_has(&b, 5);
        assert_eq!(copies.look(6, both()), Copied::NotYet);
        assert_eq!(copies.look(6, [&c].into_iter()), Copied::Nobody);
        // `b` has this version, so it is not late.
        assert_eq!(copies.handle_late(5, [&b].into_iter()), []);
    }
}
