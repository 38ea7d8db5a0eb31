//! What each node says about itself: one record a node, written by that node alone.
//!
//! Pushed on change; once in a while a digest goes to one random peer, and whoever is behind is sent the rest. A
//! record is a hint for people and for load; nothing is decided by it.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::id::{CatalogEntry, MemberId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Grows with each change.
    pub(crate) version: u64,
    pub(crate) address: SocketAddr,
    pub(crate) catalog: Vec<CatalogEntry>,
    /// Entities alive on the node.
    pub(crate) load: u64,
}

/// Versions of the records that somebody has.
pub(crate) type Digest = BTreeMap<MemberId, u64>;

/// The records that one node knows.
#[derive(Debug)]
pub(crate) struct FactsTable {
    me: MemberId,
    records: BTreeMap<MemberId, Facts>,
}

impl FactsTable {
    pub(crate) fn new(me: MemberId, facts: Facts) -> Self {
        Self {
            records: BTreeMap::from([(me.clone(), facts)]),
            me,
        }
    }

    pub(crate) fn get(&self, member: &MemberId) -> Option<&Facts> {
        self.records.get(member)
    }

    pub(crate) fn mine(&self) -> (MemberId, Facts) {
        (self.me.clone(), self.records[&self.me].clone())
    }

    /// Changes this node's own record; `false` if it says the same already.
    pub(crate) fn set_load(&mut self, load: u64) -> bool {
        match self.records.get_mut(&self.me) {
            Some(mine) if mine.load != load => {
                mine.load = load;
                mine.version += 1;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        self.records
            .iter()
            .map(|(member, facts)| (member.clone(), facts.version))
            .collect()
    }

    /// What the owner of `digest` lacks, and whether it has something this node lacks.
    pub(crate) fn compare(&self, digest: &Digest) -> (BTreeMap<MemberId, Facts>, bool) {
        let newer = self
            .records
            .iter()
            .filter(|(member, facts)| digest.get(member).is_none_or(|v| *v < facts.version))
            .map(|(member, facts)| (member.clone(), facts.clone()))
            .collect();
        let behind = digest.iter().any(|(member, version)| {
            *member != self.me
                && self
                    .records
                    .get(member)
                    .is_none_or(|r| r.version < *version)
        });
        (newer, behind)
    }

    /// Takes over newer records of others. Returns those that were new or newer.
    pub(crate) fn merge(&mut self, records: BTreeMap<MemberId, Facts>) -> Vec<MemberId> {
        let mut changed = Vec::new();
        for (member, facts) in records {
            let newer = self
                .records
                .get(&member)
                .is_none_or(|old| old.version < facts.version);
            // Nobody else writes this node's record.
            if newer && member != self.me {
                changed.push(member.clone());
                self.records.insert(member, facts);
            }
        }
        changed
    }

    /// Forgets everybody but this node and those for whom `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl Fn(&MemberId) -> bool) {
        let me = self.me.clone();
        self.records
            .retain(|member, _| *member == me || keep(member));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::map::tests::{address, member};

    fn facts(version: u64, load: u64) -> Facts {
        Facts {
            version,
            address: address(1),
            catalog: vec![],
            load,
        }
    }

    fn table(name: &str) -> FactsTable {
        FactsTable::new(member(name, 1), facts(1, 0))
    }

    #[test]
    fn two_tables_are_equal_after_one_exchange() {
        let (mut a, mut b) = (table("a"), table("b"));
        a.set_load(5);
        let (for_b, a_behind) = a.compare(&b.digest());
        assert!(a_behind);
        assert_eq!(b.merge(for_b), [member("a", 1)]);
        let (for_a, _) = b.compare(&a.digest());
        assert_eq!(a.merge(for_a), [member("b", 1)]);
        assert_eq!(a.digest(), b.digest());
        assert_eq!(b.get(&member("a", 1)).unwrap().load, 5);
        assert_eq!(a.compare(&b.digest()), (BTreeMap::new(), false));
    }

    #[test]
    fn nobody_else_writes_my_record() {
        let mut a = table("a");
        assert_eq!(
            a.merge(BTreeMap::from([(member("a", 1), facts(99, 7))])),
            []
        );
        assert_eq!(a.mine().1.load, 0);
    }

    #[test]
    fn an_older_record_does_not_replace_a_newer_one() {
        let mut a = table("a");
        let b = member("b", 1);
        a.merge(BTreeMap::from([(b.clone(), facts(3, 30))]));
        assert_eq!(a.merge(BTreeMap::from([(b.clone(), facts(2, 20))])), []);
        assert_eq!(a.get(&b).unwrap().load, 30);
    }

    #[test]
    fn an_unchanged_load_is_not_news() {
        let mut a = table("a");
        assert!(a.set_load(1));
        assert!(!a.set_load(1));
        assert_eq!(a.mine().1.version, 2);
    }

    #[test]
    fn the_forgotten_are_gone_and_i_stay() {
        let mut a = table("a");
        a.merge(BTreeMap::from([(member("b", 1), facts(1, 0))]));
        a.retain(|_| false);
        assert_eq!(a.digest().len(), 1);
    }
}
