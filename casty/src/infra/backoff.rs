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
        pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Begins with the first pause again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
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
        backoff.reset();
        assert_eq!(backoff.pause(0.0), ms(10));
        assert_eq!(backoff.pause(7.0), ms(40), "jitter is never more than all");
    }
}
