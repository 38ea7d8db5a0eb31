//! What each node says about itself: one record a node, written by that node alone.
//!
//! A node sends its record to each member it meets, and again when the record changes. So when N
//! members start, each receives each record once, and no member repeats the records of others to a
//! newcomer. From time to time a digest goes to one random peer, and the side that is behind
//! receives the records it lacks. Records inform people and load figures; no decision depends on
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Deserialize, Serialize};

use crate::id::{CatalogEntry, MemberId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Grows with each change.
    pub(crate) version: u64,
    pub(crate) address: SocketAddr,
    /// The entity types that the node knows. It hosts the types that name no role, and the types
    /// that name one of its roles.
    pub(crate) catalog: Vec<CatalogEntry>,
    pub(crate) roles: BTreeSet<String>,
    /// Entities alive on the node.
    pub(crate) load: u64,
}

/// Versions of the records that one node has.
pub(crate) type Digest = BTreeMap<MemberId, u64>;

/// The records that one node knows.
#[derive(Debug)]
pub(crate) struct FactsTable {
    me: MemberId,
    records: BTreeMap<MemberId, Facts>,
    /// Members that this node has met, and has not sent its record to since.
    met: BTreeSet<MemberId>,
}

impl FactsTable {
    pub(crate) fn new(me: MemberId, facts: Facts) -> Self {
        Self {
            records: BTreeMap::from([(me.clone(), facts)]),
            met: BTreeSet::new(),
            me,
        }
    }

    /// A member seems alive that was unknown or seemed dead before.
    pub(crate) fn handle_met(&mut self, member: &MemberId) {
        if *member != self.me {
            self.met.insert(member.clone());
        }
    }

    /// The members to send this node's own record to now: all members it has met for which
    /// `reachable` holds. Each meeting names a member once. A record lost on the way is found
    /// missing by the next digest.
    pub(crate) fn greet(&mut self, reachable: impl Fn(&MemberId) -> bool) -> Vec<MemberId> {
        self.met
            .extract_if(.., |member| reachable(member))
            .collect()
    }

    pub(crate) fn get(&self, member: &MemberId) -> Option<&Facts> {
        self.records.get(member)
    }

    pub(crate) fn mine(&self) -> (MemberId, Facts) {
        (self.me.clone(), self.records[&self.me].clone())
    }

    /// Changes this node's own record. Returns `false` if the load is the same.
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

    /// The records that the owner of `digest` lacks, and whether it has a record that this node
    /// lacks.
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

    /// Takes over newer records of other nodes. Returns the members whose records were new or
    /// newer.
    pub(crate) fn merge(&mut self, records: BTreeMap<MemberId, Facts>) -> Vec<MemberId> {
        let mut changed = Vec::new();
        for (member, facts) in records {
            let newer = self
                .records
                .get(&member)
                .is_none_or(|old| old.version < facts.version);
            // Only this node writes its own record.
            if newer && member != self.me {
                changed.push(member.clone());
                self.records.insert(member, facts);
            }
        }
        changed
    }

    /// Forgets all members except this node and the members for which `keep` holds.
    pub(crate) fn retain(&mut self, keep: impl Fn(&MemberId) -> bool) {
        let me = self.me.clone();
        self.records
            .retain(|member, _| *member == me || keep(member));
        self.met.retain(|member| keep(member));
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
            roles: BTreeSet::new(),
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

    /// Tables of several nodes, and a count of what they send each other.
    struct Crowd {
        tables: BTreeMap<MemberId, FactsTable>,
        /// Records sent, and digest entries sent.
        sent: (usize, usize),
    }

    impl Crowd {
        fn of(nodes: u64) -> Self {
            let names = (0..nodes).map(|n| member(&format!("n{n}"), 1));
            Self {
                tables: names
                    .map(|name| (name.clone(), FactsTable::new(name, facts(1, 0))))
                    .collect(),
                sent: (0, 0),
            }
        }

        fn names(&self) -> Vec<MemberId> {
            self.tables.keys().cloned().collect()
        }

        /// All nodes meet each other at once. `arrives` says which records arrive.
        fn meet(&mut self, arrives: impl Fn(usize, usize) -> bool) {
            let names = self.names();
            for (from, name) in names.iter().enumerate() {
                let table = self.tables.get_mut(name).unwrap();
                for other in &names {
                    table.handle_met(other);
                }
                let greeted = table.greet(|_| true);
                assert_eq!(greeted.len(), names.len() - 1, "everybody but oneself");
                let (me, mine) = table.mine();
                for to in greeted {
                    self.sent.0 += 1;
                    let nth = names.binary_search(&to).unwrap();
                    if arrives(from, nth) {
                        let news = BTreeMap::from([(me.clone(), mine.clone())]);
                        self.tables.get_mut(&to).unwrap().merge(news);
                    }
                }
            }
        }

        /// Does what `Gossip` does with a digest that one node sends another.
        fn compare(&mut self, from: &MemberId, to: &MemberId) {
            let digest = self.tables[from].digest();
            self.sent.1 += digest.len();
            let (newer, behind) = self.tables[to].compare(&digest);
            self.sent.0 += newer.len();
            self.tables.get_mut(from).unwrap().merge(newer);
            if behind {
                let digest = self.tables[to].digest();
                self.sent.1 += digest.len();
                let (newer, _) = self.tables[from].compare(&digest);
                self.sent.0 += newer.len();
                self.tables.get_mut(to).unwrap().merge(newer);
            }
        }

        /// Each node sends a digest to one other node, a different one each round.
        fn round(&mut self, round: usize) {
            let names = self.names();
            for (n, name) in names.iter().enumerate() {
                let step = 1 + round * 7 % (names.len() - 1);
                self.compare(name, &names[(n + step) % names.len()]);
            }
        }

        fn agree(&self) -> bool {
            let all = self.tables.len();
            self.tables.values().all(|table| table.records.len() == all)
        }
    }

    #[test]
    fn a_start_costs_one_record_for_each_pair() {
        for nodes in [5, 50] {
            let mut crowd = Crowd::of(nodes);
            crowd.meet(|_, _| true);
            assert!(crowd.agree());
            // All nodes have all records, so digests find nothing to send.
            crowd.round(0);
            let nodes = crowd.tables.len();
            assert_eq!(crowd.sent, (nodes * (nodes - 1), nodes * nodes));
        }
    }

    #[test]
    fn digests_bring_what_was_lost() {
        // One link loses everything; one member receives nothing; no record arrives at all.
        let losses: [fn(usize, usize) -> bool; 3] = [
            |from, to| (from, to) != (3, 9),
            |_, to| to != 3,
            |_, _| false,
        ];
        for arrives in losses {
            let mut crowd = Crowd::of(50);
            crowd.meet(arrives);
            assert!(!crowd.agree());
            let rounds = (0..10).take_while(|round| {
                crowd.round(*round);
                !crowd.agree()
            });
            let rounds = rounds.count() + 1;
            assert!(crowd.agree(), "after {rounds} rounds");
            // No node is sent a record that it has.
            let nodes = crowd.tables.len();
            assert!(crowd.sent.0 <= 2 * nodes * nodes, "{:?}", crowd.sent);
        }
    }

    #[test]
    fn an_unreachable_member_is_greeted_later_and_once() {
        let mut a = table("a");
        let b = member("b", 1);
        a.handle_met(&b);
        assert_eq!(a.greet(|_| false), []);
        assert_eq!(a.greet(|_| true), std::slice::from_ref(&b));
        assert_eq!(a.greet(|_| true), []);
        a.handle_met(&b);
        a.retain(|_| false);
        assert_eq!(a.greet(|_| true), [], "no member any more");
    }

    #[test]
    fn other_nodes_do_not_write_my_record() {
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
    fn forgotten_members_are_gone_and_the_node_itself_stays() {
        let mut a = table("a");
        a.merge(BTreeMap::from([(member("b", 1), facts(1, 0))]));
        a.retain(|_| false);
        assert_eq!(a.digest().len(), 1);
    }
}
