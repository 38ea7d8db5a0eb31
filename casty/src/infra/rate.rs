//! A limit for what may happen in a second.

use std::time::Duration;

use tokio::time::Instant;

/// Lets so many through in a second, with as many at once: a token bucket.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: f64,
    left: f64,
    filled: Instant,
}

impl Rate {
    /// `per_second`: at least 1.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            left: per_second,
            filled: now,
        }
    }

    /// Lets one through.
    ///
    /// # Errors
    /// How long it takes until one may go through.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.left = self.left_at(now);
        self.filled = self.filled.max(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.left) / self.per_second))
    }

    /// Whether as many may go through at once as ever.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.left_at(now) >= self.per_second
    }

    fn left_at(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.filled);
        let filled = self.left + since.as_secs_f64() * self.per_second;
        filled.min(self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_at_once_as_in_a_second_and_then_one_by_one() {
        let begin = Instant::now();
        let mut rate = Rate::new(4, begin);
        for _ in 0..4 {
            assert_eq!(rate.take(begin), Ok(()));
        }
        let quarter = Duration::from_millis(250);
        assert_eq!(rate.take(begin), Err(quarter));
        assert!(!rate.is_full(begin + 3 * quarter));
        assert!(rate.is_full(begin + 4 * quarter));
        assert_eq!(rate.take(begin + quarter), Ok(()));
        assert!(rate.take(begin + quarter).is_err());
        // A clock that stands still, or an older reading of it, gives nothing.
        assert!(rate.take(begin).is_err());
        // And a long pause no more than a second.
        let late = begin + Duration::from_hours(1);
        let taken = (0..10).filter(|_| rate.take(late).is_ok()).count();
        assert_eq!(taken, 4);
    }
}
