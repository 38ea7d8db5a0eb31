//! Decides whether a node joins a cluster or founds one.
//!
//! It always tries to join first. It founds only if it was told to: no seeds were given, or it is
//! itself the first seed and every other seed has answered "no cluster here". A seed that does not
//! answer is never taken for one without a cluster: that is how clusters split at birth.
//! Unreachable seeds mean wait and try again. One that has kept a seat in a cluster never founds
//! another: it joins through itself, if nobody else knows better.

use std::{collections::BTreeSet, time::Duration};

use crate::infra::mutants;

/// What a seed said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SeedAnswer {
    /// It is this very node.
    Myself,
    /// It is this very node, which has kept a seat in a cluster.
    Kept,
    /// It belongs to a cluster.
    Cluster,
    /// It belongs to none yet.
    NoCluster,
    /// It could not be asked.
    Unreachable,
    /// It will never let this node in.
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

/// One node's way into a cluster.
#[derive(Debug)]
pub(crate) struct Bootstrap {
    seeds: usize,
    pauses: (Duration, Duration),
    may_found: bool,
    next_pause: Duration,
    /// How often it was to join. It goes round: somebody who was cut off for long knows nobody any
    /// more who could take this node in.
    tries: usize,
}

impl Bootstrap {
    /// `pauses`: the first one, doubled up to the last. `anew`: there is a cluster, that this
    /// process was a member of.
    pub(crate) fn new(seeds: usize, pauses: (Duration, Duration), anew: bool) -> Self {
        Self {
            seeds,
            pauses,
            may_found: !anew,
            next_pause: pauses.0,
            tries: 0,
        }
    }

    /// Takes one round of answers, in the seeds' order. `jitter` is in 0..1.
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
    fn an_existing_cluster_is_joined_whoever_else_is_silent_or_refuses() {
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
    fn whoever_knows_a_cluster_is_tried_in_turn() {
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
    fn who_was_a_member_never_founds() {
        for answers in [vec![], vec![SeedAnswer::Myself]] {
            let mut bootstrap = Bootstrap::new(answers.len(), PAUSES, true);
            assert_eq!(bootstrap.handle_round(&answers, 1.0), retry());
        }
    }

    #[test]
    fn who_has_kept_a_seat_joins_from_there_unless_a_seed_refuses() {
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
