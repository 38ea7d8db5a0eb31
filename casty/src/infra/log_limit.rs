//! A limit for lines of a log that a peer can cause as often as it likes.

use std::time::Duration;

use tokio::time::Instant;

/// Lets one line of a kind through in each period, and counts the others.
#[derive(Debug)]
pub(crate) struct LogLimit {
    period: Duration,
    last: Option<Instant>,
    left_out: u64,
}

impl LogLimit {
    pub(crate) const fn new(period: Duration) -> Self {
        Self {
            period,
            last: None,
            left_out: 0,
        }
    }

    /// Whether a line may be written now: then with the number of lines that were left out since
    /// the last one.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        let is_early = |last: Instant| now.saturating_duration_since(last) < self.period;
        if self.last.is_some_and(is_early) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_period_is_written_and_the_next_one_counts_the_others() {
        let (second, begin) = (Duration::from_secs(1), Instant::now());
        let mut limit = LogLimit::new(second);
        assert_eq!(limit.admit(begin), Some(0));
        assert_eq!(limit.admit(begin + second / 2), None);
        assert_eq!(limit.admit(begin + second / 2), None);
        assert_eq!(limit.admit(begin + second), Some(2));
        assert_eq!(limit.admit(begin + second), None);
        assert_eq!(limit.admit(begin + second * 2), Some(1));
    }
}
