//! Decides whether a node joins a cluster or founds one.
//!
//! A node always tries to join first. It founds a cluster only if no other node can do the same:
//!
//! - A *seeker* is a process that is in no cluster, and never was. It tells whoever asks the
//!   addresses of all seekers that it *knows*: itself, those that have answered at its seeds, and
//!   those that they know. It tells them only after all its seeds have answered in one round.
//! - The least of the known addresses founds, once all the others have told, in one round, that
//!   they know exactly the same. A node without seeds, or with itself as the only seed, knows
//!   itself alone.
//! - A process that founds is no seeker any more from before it begins.
//!
//! Two nodes that know of each other never both found. Known addresses are never forgotten. If `x`
//! founds, each other node that it knows has told that it knows `x` as well, which is less than
//! that node, so that node is the least of what it knows at no later time. And it did not found
//! before it told, since it was a seeker. So of two founders neither knows the other, and no third
//! node is known to both: it has told both the same as they know, and all its seeds are part of
//! that. Their seeds lead to separate sets of nodes, and would in any order.
//!
//! A seed that does not answer may belong to a cluster, so the node waits and asks again: to found
//! while a seed is silent is how clusters split at birth. For the same reason a process that was a
//! member before is no seeker, although it may be in no cluster for a moment: where it was, there
//! is a cluster. A node that has kept a seat in a cluster never founds another one. It joins
//! through itself, unless another seed knows the cluster.
//!
//! The order of the seeds, and the names under which they are given, mean nothing.
//!
//! With the setting `bootstrap_expect` a vote decides instead, and not all seeds have to answer:
//! see [`founder_vote`](super::founder_vote).

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::founder_vote::Ballot;
use crate::{
    id::{Seeker, SeekerState},
    infra::{backoff::Backoff, mutants},
};

/// The most seekers that one may know. What a seeker with more says is ignored.
const KNOWN_MAX: usize = 1024;

/// A seed's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SeedAnswer {
    /// The seed is this node itself.
    Myself,
    /// The seed is this node itself, and it has kept a seat in a cluster.
    Kept,
    /// The seed belongs to a cluster.
    Cluster,
    /// The seed belongs to no cluster, and may found one.
    Seeker(Seeker),
    /// The seed belongs to no cluster yet.
    NoCluster,
    /// The seed could not be asked.
    Unreachable,
    /// The seed's name has no address.
    Unresolved(String),
    /// The seed will never let this node in.
    Refused(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Join through this seed.
    Join {
        seed: usize,
    },
    Found,
    /// Ask all seeds again after a pause.
    Retry {
        after: Duration,
    },
    Give {
        seed: usize,
        reason: String,
    },
}

/// How one node enters a cluster.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    /// `None` for a process that cannot found: a client, or a member of before.
    own: Option<SocketAddr>,
    /// The pauses between rounds.
    pauses: Backoff,
    /// The seekers that this process knows. It only grows.
    known: BTreeSet<SocketAddr>,
    /// What this process tells.
    told: SeekerState,
    /// The vote for a founder, where not all seeds have to answer.
    ballot: Option<Ballot>,
    /// Attempts to join so far. Each attempt takes the next seed that knows a cluster: a seed that
    /// was cut off for long may know no leader that could admit this node.
    tries: usize,
}

impl Bootstrap {
    /// `own`: the address of this process, if it may found. `pauses`: those between rounds.
    ///
    /// `expect`: found with so many seekers, whether all seeds answer or not.
    pub(crate) fn new(own: Option<SocketAddr>, expect: Option<u32>, pauses: Backoff) -> Self {
        Self {
            own,
            pauses,
            known: own.into_iter().collect(),
            told: SeekerState::default(),
            ballot: own
                .zip(expect)
                .map(|(own, expect)| Ballot::new(own, expect)),
            tries: 0,
        }
    }

    /// The known seekers, which have to be asked as the seeds have.
    pub(crate) fn known(&self) -> &BTreeSet<SocketAddr> {
        &self.known
    }

    /// What this process tells those who ask.
    pub(crate) fn told(&self) -> &SeekerState {
        &self.told
    }

    /// Learns from a round of answers, and says whether this process founds.
    fn may_found(&mut self, answers: &[SeedAnswer]) -> bool {
        let Some(own) = self.own else { return false };
        if mutants::on("founds_beside_the_silent") {
            return true;
        }
        let seekers = || {
            answers.iter().filter_map(|answer| match answer {
                SeedAnswer::Seeker(seeker) => {
                    let is_other = seeker.address != own && seeker.known.len() <= KNOWN_MAX;
                    is_other.then_some(seeker)
                }
                _ => None,
            })
        };
        if let Some(ballot) = &mut self.ballot {
            let seekers: Vec<&Seeker> = seekers().collect();
            let known = seekers.iter().map(|seeker| seeker.address);
            self.known.extend(known);
            // It may be founding right now, or has been a member.
            if answers.contains(&SeedAnswer::NoCluster) {
                return false;
            }
            let founds = ballot.handle_round(&seekers);
            self.told.vote = ballot.vote();
            return founds;
        }
        let myself = |answer: &&SeedAnswer| **answer == SeedAnswer::Myself;
        let all_seek = seekers().count() + answers.iter().filter(myself).count() == answers.len();
        let asked: BTreeSet<SocketAddr> = seekers().map(|seeker| seeker.address).collect();
        self.known.extend(&asked);
        self.known
            .extend(seekers().flat_map(|seeker| &seeker.known));
        if !all_seek
            || self
                .known
                .iter()
                .any(|known| *known != own && !asked.contains(known))
        {
            return false;
        }
        self.told.known.clone_from(&self.known);
        let agreed = seekers().all(|seeker| seeker.known == self.known);
        agreed && self.known.first() == Some(&own)
    }

    /// Takes one round of answers: of all seeds, and of all [known](Self::known) seekers. `jitter`
    /// is in 0..1.
    pub(crate) fn handle_round(&mut self, answers: &[SeedAnswer], jitter: f64) -> Decision {
        let clusters = answers.iter().enumerate();
        let clusters = clusters.filter(|(_, answer)| **answer == SeedAnswer::Cluster);
        let clusters: Vec<usize> = clusters.map(|(seed, _)| seed).collect();
        if !clusters.is_empty() {
            let seed = clusters[self.tries % clusters.len()];
            self.tries += 1;
            return Decision::Join { seed };
        }
        let refused = answers
            .iter()
            .enumerate()
            .find_map(|(seed, answer)| match answer {
                SeedAnswer::Refused(reason) => Some((seed, reason.clone())),
                _ => None,
            });
        if let Some((seed, reason)) = refused {
            return Decision::Give { seed, reason };
        }
        if let Some(seed) = answers
            .iter()
            .position(|answer| *answer == SeedAnswer::Kept)
        {
            return Decision::Join { seed };
        }
        if self.may_found(answers) {
            return Decision::Found;
        }
        Decision::Retry {
            after: self.pauses.pause(jitter),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

    fn pauses() -> Backoff {
        Backoff::new(PAUSES.0, PAUSES.1)
    }

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 100 + n))
    }

    fn addresses(numbers: &[u16]) -> BTreeSet<SocketAddr> {
        numbers.iter().map(|n| address(*n)).collect()
    }

    fn seeker(n: u16, known: &[u16]) -> SeedAnswer {
        SeedAnswer::Seeker(Seeker {
            address: address(n),
            known: addresses(known),
            vote: None,
        })
    }

    fn node(n: u16) -> Bootstrap {
        Bootstrap::new(Some(address(n)), None, pauses())
    }

    fn former_member() -> Bootstrap {
        Bootstrap::new(None, None, pauses())
    }

    /// The decision of node 1 in its first round.
    fn decide(answers: &[SeedAnswer]) -> Decision {
        node(1).handle_round(answers, 1.0)
    }

    fn retry() -> Decision {
        Decision::Retry { after: PAUSES.0 }
    }

    #[test]
    fn a_node_that_knows_only_itself_founds() {
        assert_eq!(decide(&[]), Decision::Found);
        assert_eq!(decide(&[SeedAnswer::Myself]), Decision::Found);
    }

    #[test]
    fn the_least_founds_once_all_know_the_same_and_the_order_means_nothing() {
        let (two, three) = (seeker(2, &[1, 2, 3]), seeker(3, &[1, 2, 3]));
        for answers in [
            vec![SeedAnswer::Myself, two.clone(), three.clone()],
            vec![three.clone(), SeedAnswer::Myself, two.clone()],
            vec![three.clone(), two.clone()],
        ] {
            assert_eq!(decide(&answers), Decision::Found, "{answers:?}");
        }
        let one = seeker(1, &[1, 2, 3]);
        assert_eq!(node(2).handle_round(&[one, three], 1.0), retry());
    }

    #[test]
    fn nobody_founds_while_another_knows_less_or_more() {
        for known in [&[] as &[u16], &[2], &[1, 2, 3], &[0, 1, 2]] {
            assert_eq!(decide(&[seeker(2, known)]), retry(), "{known:?}");
        }
        let mut bootstrap = node(1);
        bootstrap.handle_round(&[seeker(2, &[1, 2, 3])], 1.0);
        assert_eq!(bootstrap.known(), &addresses(&[1, 2, 3]));
        assert!(bootstrap.told().known.is_empty(), "3 has not been asked");
    }

    #[test]
    fn a_silent_seed_means_wait_and_never_birth() {
        let silent = [
            SeedAnswer::Unreachable,
            SeedAnswer::NoCluster,
            SeedAnswer::Unresolved("no address".into()),
            // Another process that says it were this one.
            seeker(1, &[1]),
        ];
        for silent in silent {
            let mut bootstrap = node(1);
            let answers = [SeedAnswer::Myself, silent, seeker(2, &[1, 2])];
            assert_eq!(bootstrap.handle_round(&answers, 1.0), retry());
            assert!(bootstrap.told().known.is_empty());
        }
    }

    #[test]
    fn an_existing_cluster_is_joined_even_if_other_seeds_are_silent_or_refuse() {
        let answers = [
            SeedAnswer::Unreachable,
            SeedAnswer::Refused("x".into()),
            SeedAnswer::Cluster,
        ];
        assert_eq!(decide(&answers), Decision::Join { seed: 2 });
        assert_eq!(
            decide(&[SeedAnswer::Myself, SeedAnswer::Cluster]),
            Decision::Join { seed: 1 }
        );
    }

    #[test]
    fn seeds_that_know_a_cluster_are_tried_in_turn() {
        let answers = [
            SeedAnswer::Cluster,
            SeedAnswer::NoCluster,
            SeedAnswer::Cluster,
        ];
        let mut bootstrap = former_member();
        let mut seed = || match bootstrap.handle_round(&answers, 1.0) {
            Decision::Join { seed } => seed,
            other => panic!("{other:?}"),
        };
        assert_eq!([seed(), seed(), seed()], [0, 2, 0]);
    }

    #[test]
    fn a_former_member_never_founds() {
        for answers in [vec![], vec![SeedAnswer::Myself]] {
            assert_eq!(former_member().handle_round(&answers, 1.0), retry());
        }
    }

    #[test]
    fn a_node_with_a_kept_seat_joins_through_itself_unless_a_seed_refuses() {
        let decide = |answers: &[SeedAnswer]| former_member().handle_round(answers, 1.0);
        let from_itself = Decision::Join { seed: 1 };
        assert_eq!(
            decide(&[SeedAnswer::Unreachable, SeedAnswer::Kept]),
            from_itself.clone()
        );
        assert_eq!(
            decide(&[SeedAnswer::NoCluster, SeedAnswer::Kept]),
            from_itself
        );
        assert_eq!(
            decide(&[SeedAnswer::Kept, SeedAnswer::Cluster]),
            Decision::Join { seed: 1 }
        );
        let reason = || "another cluster".to_owned();
        assert_eq!(
            decide(&[SeedAnswer::Refused(reason()), SeedAnswer::Kept]),
            Decision::Give {
                seed: 0,
                reason: reason()
            }
        );
    }

    #[test]
    fn a_refusal_is_told() {
        let answers = [SeedAnswer::Unreachable, SeedAnswer::Refused("no".into())];
        assert_eq!(
            decide(&answers),
            Decision::Give {
                seed: 1,
                reason: "no".into()
            }
        );
    }

    #[test]
    fn pauses_grow_to_their_bound_and_jitter_shortens_them() {
        let mut bootstrap = node(1);
        let mut pause = |jitter| match bootstrap.handle_round(&[SeedAnswer::Unreachable], jitter) {
            Decision::Retry { after } => after.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [pause(1.0), pause(1.0), pause(1.0), pause(0.0)],
            [100, 200, 300, 150]
        );
    }

    // ---- Whole sets of nodes, in any order of events.

    const NODES: usize = 4;

    enum Stage {
        Off,
        Seeking,
        /// It has decided, and nobody can see the cluster yet.
        Founding,
        /// The founder of its cluster.
        In(usize),
    }

    /// Nodes that start at any time, and ask one place at a time.
    struct World {
        seeds: Vec<BTreeSet<usize>>,
        nodes: Vec<(Stage, Bootstrap)>,
        /// The answers of the round under way, and what is still to be asked in it.
        rounds: Vec<(Vec<SeedAnswer>, Vec<usize>)>,
    }

    impl World {
        /// All know each other, and so many have to vote for a founder.
        fn voting(expect: u32) -> Self {
            let mut world = Self::new(vec![(0..NODES).collect(); NODES]);
            for (n, (_, bootstrap)) in (0..).zip(&mut world.nodes) {
                *bootstrap = Bootstrap::new(Some(address(n)), Some(expect), pauses());
            }
            world
        }

        fn new(seeds: Vec<BTreeSet<usize>>) -> Self {
            let fresh = |n| (Stage::Off, node(n));
            let mut world = Self {
                nodes: (0..4).map(fresh).collect(),
                rounds: vec![(Vec::new(), Vec::new()); NODES],
                seeds,
            };
            (0..NODES).for_each(|n| world.begin_round(n));
            world
        }

        fn begin_round(&mut self, n: usize) {
            let known = self.nodes[n].1.known().iter();
            let mut places = self.seeds[n].clone();
            places.extend(known.map(|known| usize::from(known.port() - 100)));
            self.rounds[n] = (Vec::new(), places.into_iter().collect());
        }

        fn answer(&self, to: usize, asked: usize) -> SeedAnswer {
            let (stage, bootstrap) = &self.nodes[asked];
            match stage {
                _ if to == asked => SeedAnswer::Myself,
                Stage::Off => SeedAnswer::Unreachable,
                Stage::Founding => SeedAnswer::NoCluster,
                Stage::In(_) => SeedAnswer::Cluster,
                Stage::Seeking => SeedAnswer::Seeker(Seeker {
                    address: address(u16::try_from(asked).expect("a few nodes")),
                    known: bootstrap.told().known.clone(),
                    vote: bootstrap.told().vote,
                }),
            }
        }

        /// The next thing that a node does.
        fn step(&mut self, n: usize) {
            self.step_if(n, true);
        }

        /// The same; if the node asks another, that one answers or not.
        fn step_if(&mut self, n: usize, answers: bool) {
            match self.nodes[n].0 {
                Stage::Off => self.nodes[n].0 = Stage::Seeking,
                Stage::Founding => self.nodes[n].0 = Stage::In(n),
                Stage::In(_) => {}
                Stage::Seeking => self.seek(n, answers),
            }
        }

        /// Asks the next place, or ends the round.
        fn seek(&mut self, n: usize, answers: bool) {
            if let Some(place) = self.rounds[n].1.pop() {
                if !answers && place != n {
                    return self.rounds[n].0.push(SeedAnswer::Unreachable);
                }
                let answer = self.answer(n, place);
                if let Stage::In(founder) = self.nodes[place].0 {
                    self.nodes[n].0 = Stage::In(founder);
                }
                self.rounds[n].0.push(answer);
                return;
            }
            let answers = std::mem::take(&mut self.rounds[n].0);
            if self.nodes[n].1.handle_round(&answers, 1.0) == Decision::Found {
                self.nodes[n].0 = Stage::Founding;
            }
            self.begin_round(n);
        }

        fn founders(&self) -> BTreeSet<usize> {
            let founds = |n: &usize| match self.nodes[*n].0 {
                Stage::Founding => true,
                Stage::In(founder) => founder == *n,
                Stage::Off | Stage::Seeking => false,
            };
            (0..NODES).filter(founds).collect()
        }

        /// The nodes to which the seeds of one lead.
        fn reach(&self, from: usize) -> BTreeSet<usize> {
            let mut reached = BTreeSet::from([from]);
            for _ in 0..NODES {
                let further: Vec<usize> = reached
                    .iter()
                    .flat_map(|n| self.seeds[*n].clone())
                    .collect();
                reached.extend(further);
            }
            reached
        }
    }

    fn seeds() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
        let each = proptest::collection::btree_set(0..NODES, 0..=NODES);
        proptest::collection::vec(each, NODES)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Whatever the seeds are, and in whatever order nodes start and ask each other.
        #[test]
        fn two_founders_have_seeds_that_lead_to_separate_nodes(
            seeds in seeds(),
            steps in proptest::collection::vec(0..NODES, 0..200),
        ) {
            let mut world = World::new(seeds);
            for n in steps {
                world.step(n);
            }
            let founders = world.founders();
            for x in &founders {
                for y in founders.iter().filter(|y| x < *y) {
                    prop_assert!(world.reach(*x).is_disjoint(&world.reach(*y)));
                }
            }
        }

        /// Whichever node reaches which other at which time.
        #[test]
        fn at_most_one_founds_by_the_votes_of_more_than_half(
            steps in proptest::collection::vec((0..NODES, proptest::bool::weighted(0.6)), 0..200),
        ) {
            let mut world = World::voting(3);
            for (n, answers) in steps {
                world.step_if(n, answers);
            }
            prop_assert!(world.founders().len() <= 1, "{:?}", world.founders());
        }

        /// One of the four never starts, and the others reach each other in the end.
        #[test]
        fn more_than_half_found_without_the_rest(
            absent in 0..NODES,
            steps in proptest::collection::vec((0..NODES, proptest::bool::ANY), 0..100),
        ) {
            let mut world = World::voting(3);
            let rest = (0..NODES * 100).map(|n| (n % NODES, true));
            for (n, answers) in steps.into_iter().chain(rest) {
                if n != absent {
                    world.step_if(n, answers);
                }
            }
            prop_assert_eq!(world.founders().len(), 1);
            let is_in = |(stage, _): &(Stage, Bootstrap)| matches!(stage, Stage::In(_));
            prop_assert_eq!(world.nodes.iter().filter(|node| is_in(node)).count(), 3);
        }

        /// Each node has one node among its seeds, or is that node; the rest is free.
        #[test]
        fn nodes_with_a_seed_in_common_are_one_cluster_in_the_end(
            seeds in seeds(),
            common in 0..NODES,
            steps in proptest::collection::vec(0..NODES, 0..100),
        ) {
            let mut world = World::new(seeds);
            for (n, seeds) in world.seeds.iter_mut().enumerate() {
                seeds.extend((n != common).then_some(common));
            }
            (0..NODES).for_each(|n| world.begin_round(n));
            let rest = (0..NODES * 100).map(|n| n % NODES);
            steps.into_iter().chain(rest).for_each(|n| world.step(n));
            prop_assert_eq!(world.founders().len(), 1);
            let is_in = |(stage, _): &(Stage, Bootstrap)| matches!(stage, Stage::In(_));
            prop_assert!(world.nodes.iter().all(is_in));
        }
    }
}
