//! Who else has what a single voter decided. Waits for nobody itself.
//!
//! Where one member decides alone, a decision is final while there is one copy of it. So whoever
//! proposed it is answered when another member has said that it has the map with it: then the death
//! of the one who decides leaves somebody whom an operator can have go on. It is a second copy
//! where there can be one, no quorum: a member that does not say so in time is not waited for again
//! before it says anything.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::MemberId;

/// What is known of a version of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// Another member has it.
    Yes,
    /// Somebody listens and has not said so yet.
    NotYet,
    /// There is nobody to wait for.
    Nobody,
}

/// What the other members have said that they have.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Newest versions.
    versions: BTreeMap<MemberId, u64>,
    /// Those that have not said it in time, and nothing since.
    late: BTreeSet<MemberId>,
}

impl Copies {
    /// A member has the map of this version.
    pub(crate) fn handle_has(&mut self, member: &MemberId, version: u64) {
        let known = self.versions.entry(member.clone()).or_default();
        *known = version.max(*known);
        self.late.remove(member);
    }

    /// Whether the map of this version is anywhere else. `listening`: the members that are sent
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

    /// The time is up for this version. Returns those of the listening who are not waited for any
    /// more.
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

    /// Forgets everybody but those for whom `keep` holds: who is Down, or has left, keeps nothing
    /// for anybody.
    pub(crate) fn retain(&mut self, keep: impl Fn(&MemberId) -> bool) {
        self.versions.retain(|member, _| keep(member));
        self.late.retain(|member| keep(member));
    }
}

#[cfg(test)]
mod tests {
    use crate::protocol::{map::tests::member, second_copy::*};

    #[test]
    fn one_that_has_it_is_enough() {
        let (b, c) = (member("b", 1), member("c", 1));
        let mut copies = Copies::default();
        let look = |copies: &Copies| copies.look(5, [&b, &c].into_iter());
        assert_eq!(look(&copies), Copied::NotYet);
        copies.handle_has(&b, 4);
        assert_eq!(look(&copies), Copied::NotYet);
        copies.handle_has(&c, 7);
        assert_eq!(look(&copies), Copied::Yes);
        // What was said before, on another connection, is no step back.
        copies.handle_has(&c, 3);
        assert_eq!(look(&copies), Copied::Yes);
        copies.retain(|member| *member == b);
        assert_eq!(look(&copies), Copied::NotYet);
    }

    #[test]
    fn where_nobody_listens_nobody_is_waited_for() {
        let copies = Copies::default();
        assert_eq!(copies.look(1, [].into_iter()), Copied::Nobody);
    }

    #[test]
    fn who_was_late_is_waited_for_again_once_it_speaks() {
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
        // Of this version it is not late.
        assert_eq!(copies.handle_late(5, [&b].into_iter()), []);
    }
}
