//! The conditions of a simulated network: latency, and links that break by themselves.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};

/// The mean latency, as a share of the range between the shortest and the longest.
const MEAN: f64 = 0.2;

/// The behavior of a simulated network apart from injected faults. A *message* is one write to a
/// connection.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Conditions {
    /// The shortest time that a message takes. Default: 1 ms.
    pub latency_min: Duration,
    /// The longest time that a message takes; most take far less. Default: 20 ms.
    pub latency_max: Duration,
    /// The probability, for each message, that its link breaks. Messages on a broken link are lost.
    /// From 0 to 1; default: 0.
    pub break_rate: f64,
    /// The probability, for each message, that its broken link works again. From 0 to 1; default:
    /// 1.
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
    /// Draws the latency of one message: exponentially distributed, cut off at the longest.
    pub(crate) fn latency(&self, rng: &mut StdRng) -> Duration {
        let range = self.latency_max.saturating_sub(self.latency_min);
        let uniform: f64 = rng.random_range(0.0..1.0);
        let share = -(1.0 - uniform).ln() * MEAN;
        self.latency_min + range.mul_f64(share.min(1.0))
    }

    /// Draws whether a link is broken after one more message, given whether it was before.
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
