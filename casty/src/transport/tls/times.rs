//! When certificates are spoken of, and when connections are renewed.

use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// The ages that are left at which the end of a certificate is logged, the shortest first.
const WARNINGS: [Duration; 3] = [
    DAY,
    Duration::from_hours(7 * 24),
    Duration::from_hours(30 * 24),
];

/// Remembers which warning was the last.
#[derive(Debug, Default)]
pub(super) struct Warned(Option<Duration>);

impl Warned {
    /// Whether the end of a certificate is worth a line now that so much time is left: once for
    /// each of the times before it.
    pub(super) fn is_due(&mut self, left: Duration) -> bool {
        let reached = WARNINGS.into_iter().find(|warning| left <= *warning);
        let is_new = reached.is_some_and(|reached| self.0.is_none_or(|last| reached < last));
        if is_new || reached.is_none() {
            self.0 = reached;
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_thirty_and_seven_days_and_a_day_ahead_once_each() {
        let mut warned = Warned::default();
        let told: Vec<u32> = (0..40)
            .rev()
            .filter(|days| warned.is_due(DAY * *days))
            .collect();
        assert_eq!(told, [30, 7, 1]);
        // A certificate that is renewed begins anew.
        assert!(!warned.is_due(DAY * 90));
        assert!(warned.is_due(DAY * 29));
        // A process may start with one that is about to end.
        assert!(Warned::default().is_due(Duration::ZERO));
    }
}
