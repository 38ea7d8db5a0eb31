//! How long messages are under way, and when links break by themselves.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

/// How much of the range between the shortest and the longest time a message takes on average.
const MEAN: f64 = 0.2;

/// How a simulated network behaves while nothing is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Conditions {
    /// The shortest time a message is under way.
    pub latency_min: Duration,
    /// The longest time a message is under way; most take far less.
    pub latency_max: Duration,
    /// How probable it is, for each message, that the link it is on breaks. What is on a broken
    /// link is lost.
    pub break_rate: f64,
    /// How probable it is, for each message, that a broken link works again.
    pub repair_rate: f64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(20),
            break_rate: 0.0,
            repair_rate: 1.0,
        }
    }
}

impl Conditions {
    /// The time that one message takes: exponentially distributed, cut off at the longest.
    pub(crate) fn latency(&self, rng: &mut StdRng) -> Duration {
        let range = self.latency_max.saturating_sub(self.latency_min);
        let uniform: f64 = rng.random_range(0.0..1.0);
        let share = -(1.0 - uniform).ln() * MEAN;
        self.latency_min + range.mul_f64(share.min(1.0))
    }

    /// Whether a link is broken after one more message, given whether it was.
    pub(crate) fn broken(&self, before: bool, rng: &mut StdRng) -> bool {
        if before {
            self.repair_rate <= 0.0 || !rng.random_bool(self.repair_rate)
        } else {
            self.break_rate > 0.0 && rng.random_bool(self.break_rate)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use crate::testkit::sim::network::conditions::*;

    #[test]
    fn messages_keep_within_the_range_and_most_are_quick() {
        let (conditions, mut rng) = (Conditions::default(), StdRng::seed_from_u64(1));
        let range = conditions.latency_min..=conditions.latency_max;
        let mut quick = 0;
        for _ in 0..1000 {
            let latency = conditions.latency(&mut rng);
            assert!(range.contains(&latency), "{latency:?}");
            quick += u32::from(latency < Duration::from_millis(10));
        }
        assert!((850..1000).contains(&quick), "{quick}");
    }

    #[test]
    fn links_break_and_are_repaired_as_often_as_asked() {
        let conditions = Conditions {
            break_rate: 0.1,
            repair_rate: 0.5,
            ..Conditions::default()
        };
        let (mut rng, mut broken, mut count) = (StdRng::seed_from_u64(2), false, 0);
        for _ in 0..10_000 {
            broken = conditions.broken(broken, &mut rng);
            count += u32::from(broken);
        }
        // A tenth of the time it breaks, half of the time it comes back: a sixth of the time it is
        // broken.
        assert!((1500..1850).contains(&count), "{count}");
        assert!(!Conditions::default().broken(false, &mut rng));
        assert!(!Conditions::default().broken(true, &mut rng));
    }
}
