//! Decides whether a node joins a cluster or founds one.
//!
//! A node always tries to join first. It founds a cluster only if it was told to: either no seeds
//! were given, or the node is itself the first seed and every other seed has answered "no cluster
//! here". An unreachable seed may belong to a cluster, so the node waits and asks again: to found
//! while a seed is silent is how clusters split at birth. A node that has kept a seat in a cluster
//! never founds another one. It joins through itself, unless another seed knows the cluster.

use std::{collections::BTreeSet, time::Duration};

use crate::infra::mutants;

/// A seed's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SeedAnswer {
    /// The seed is this node itself.
    Myself,
    /// The seed is this node itself, and it has kept a seat in a cluster.
    Kept,
    /// The seed belongs to a cluster.
    Cluster,
    /// The seed belongs to no cluster yet.
    NoCluster,
    /// The seed could not be asked.
    Unreachable,
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
    seeds: usize,
    pauses: (Duration, Duration),
    may_found: bool,
    next_pause: Duration,
    /// Attempts to join so far. Each attempt takes the next seed that knows a cluster: a seed that
    /// was cut off for long may know no leader that could admit this node.
    tries: usize,
}

impl Bootstrap {
    /// `pauses`: the first pause between rounds, doubled up to the second. `anew`: the cluster
    /// exists, because this process was a member of it.
    pub(crate) fn new(seeds: usize, pauses: (Duration, Duration), anew: bool) -> Self {
        Self {
            seeds,
            pauses,
            may_found: !anew,
            next_pause: pauses.0,
            tries: 0,
        }
    }

    /// Takes one round of answers, in the order of the seeds. `jitter` is in 0..1.
    pub(crate) fn handle_round(&mut self, answers: &[SeedAnswer], jitter: f64) -> Decision {
        if self.seeds == 0 && self.may_found {
            return Decision::Found;
        }
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
        let first = answers.first() == Some(&SeedAnswer::Myself);
        let silent: BTreeSet<usize> = answers
            .iter()
            .enumerate()
            .filter(|(_, answer)| !matches!(answer, SeedAnswer::Myself | SeedAnswer::NoCluster))
            .map(|(seed, _)| seed)
            .collect();
        if mutants::on("founds_beside_the_silent") && self.may_found {
            return Decision::Found;
        }
        if self.may_found && first && silent.is_empty() && answers.len() == self.seeds {
            return Decision::Found;
        }
        let pause = self.next_pause;
        self.next_pause = (pause * 2).min(self.pauses.1);
        Decision::Retry {
            after: pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

    fn decide(answers: &[SeedAnswer]) -> Decision {
        Bootstrap::new(answers.len(), PAUSES, false).handle_round(answers, 1.0)
    }

    fn retry() -> Decision {
        Decision::Retry { after: PAUSES.0 }
    }

    #[test]
    fn without_seeds_a_node_founds() {
        assert_eq!(decide(&[]), Decision::Found);
    }

    #[test]
    fn the_first_seed_founds_once_all_others_have_no_cluster() {
        assert_eq!(decide(&[SeedAnswer::Myself]), Decision::Found);
        assert_eq!(
            decide(&[SeedAnswer::Myself, SeedAnswer::NoCluster]),
            Decision::Found
        );
    }

    #[test]
    fn an_unreachable_seed_means_wait_and_never_birth() {
        assert_eq!(
            decide(&[SeedAnswer::Myself, SeedAnswer::Unreachable]),
            retry()
        );
        assert_eq!(decide(&[SeedAnswer::Unreachable]), retry());
    }

    #[test]
    fn a_later_seed_does_not_found() {
        assert_eq!(
            decide(&[SeedAnswer::NoCluster, SeedAnswer::Myself]),
            retry()
        );
        assert_eq!(decide(&[SeedAnswer::NoCluster]), retry());
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
        let mut bootstrap = Bootstrap::new(answers.len(), PAUSES, true);
        let mut seed = || match bootstrap.handle_round(&answers, 1.0) {
            Decision::Join { seed } => seed,
            other => panic!("{other:?}"),
        };
        assert_eq!([seed(), seed(), seed()], [0, 2, 0]);
    }

    #[test]
    fn a_former_member_never_founds() {
        for answers in [vec![], vec![SeedAnswer::Myself]] {
            let mut bootstrap = Bootstrap::new(answers.len(), PAUSES, true);
            assert_eq!(bootstrap.handle_round(&answers, 1.0), retry());
        }
    }

    #[test]
    fn a_node_with_a_kept_seat_joins_through_itself_unless_a_seed_refuses() {
        let decide = |answers: &[SeedAnswer]| {
            Bootstrap::new(answers.len(), PAUSES, true).handle_round(answers, 1.0)
        };
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
        let mut bootstrap = Bootstrap::new(1, PAUSES, false);
        let mut pause = |jitter| match bootstrap.handle_round(&[SeedAnswer::Unreachable], jitter) {
            Decision::Retry { after } => after.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [pause(1.0), pause(1.0), pause(1.0), pause(0.0)],
            [100, 200, 300, 150]
        );
    }
}
