//! Growing pauses between the tries of one thing.

use std::time::Duration;

/// The pauses: the first, then twice as long each time, up to a longest. Jitter takes off up to
/// half of each, so that processes that failed for one reason do not try again together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            next: first,
        }
    }

    /// The next pause. `jitter` is random, from 0 to 1.
    pub(crate) fn pause(&mut self, jitter: f64) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.max);
        jittered(pause, jitter)
    }

    /// Begins with the first pause again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// The pause after `before` others of such a [`Backoff`].
pub(crate) fn pause_after(before: u32, first: Duration, max: Duration, jitter: f64) -> Duration {
    let factor = 2_u32.saturating_pow(before.min(31));
    jittered(first.saturating_mul(factor).min(max), jitter)
}

fn jittered(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(20), ms(100));
        let pauses = [(); 5].map(|()| backoff.pause(1.0));
        assert_eq!(pauses, [ms(20), ms(40), ms(80), ms(100), ms(100)]);
        let counted = [0, 1, 2, 3, u32::MAX].map(|n| pause_after(n, ms(20), ms(100), 1.0));
        assert_eq!(counted, pauses);
        backoff.reset();
        assert_eq!(backoff.pause(0.0), ms(10));
        assert_eq!(backoff.pause(7.0), ms(40), "jitter is never more than all");
    }
}
