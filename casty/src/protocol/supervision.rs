//! Whether, and how soon, a failed actor starts again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::infra::backoff::pause_after;

/// The limits that a type declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The most restarts within `within`. The next failure makes the supervisor give up.
    pub(crate) restarts: u32,
    pub(crate) within: Duration,
    /// The pause before the second restart in a row.
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
}

/// The decision about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directive {
    /// Start again after this pause. It is zero for a first failure.
    Restart { after: Duration },
    /// The actor fails too often: do not start it for this long.
    GiveUp { pause: Duration },
}

/// The recent failures of one actor.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    failures: VecDeque<Instant>,
    /// How often in a row the actor could not be read from its store.
    unread: u32,
}

/// The pauses between tries to read an actor from its store.
const UNREAD: Limits = Limits {
    restarts: u32::MAX,
    within: Duration::ZERO,
    backoff: Duration::from_millis(50),
    backoff_max: Duration::from_secs(2),
};

impl Supervisor {
    /// The store of the actor did not answer, which is no failure of the actor. Returns the pause
    /// before the next try.
    pub(crate) fn handle_unread(&mut self, jitter: f64) -> Duration {
        self.unread = self.unread.saturating_add(1);
        pause(UNREAD, self.unread, jitter)
    }

    /// The actor was read from its store.
    pub(crate) fn handle_read(&mut self) {
        self.unread = 0;
    }

    /// `jitter` is random, from 0 to 1: it spreads the restarts of actors that failed for the same
    /// reason.
    pub(crate) fn handle_failure(
        &mut self,
        limits: Limits,
        now: Instant,
        jitter: f64,
    ) -> Directive {
        while self
            .failures
            .front()
            .is_some_and(|&failure| now.duration_since(failure) >= limits.within)
        {
            self.failures.pop_front();
        }
        let before = u32::try_from(self.failures.len()).unwrap_or(u32::MAX);
        if before >= limits.restarts {
            self.failures.clear();
            return Directive::GiveUp {
                pause: limits.backoff_max,
            };
        }
        self.failures.push_back(now);
        Directive::Restart {
            after: pause(limits, before, jitter),
        }
    }
}

/// No pause, then `backoff`, then the double each time, up to `backoff_max`. Jitter takes off up to
/// half of it.
fn pause(limits: Limits, before: u32, jitter: f64) -> Duration {
    let Some(doublings) = before.checked_sub(1) else {
        return Duration::ZERO;
    };
    pause_after(doublings, limits.backoff, limits.backoff_max, jitter)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        restarts: 4,
        within: Duration::from_mins(1),
        backoff: Duration::from_millis(100),
        backoff_max: Duration::from_millis(300),
    };

    fn millis(verdict: Directive) -> Option<u128> {
        match verdict {
            Directive::Restart { after } => Some(after.as_millis()),
            Directive::GiveUp { .. } => None,
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_then_it_is_given_up() {
        let (mut supervisor, now) = (Supervisor::default(), Instant::now());
        let verdicts: Vec<_> = (0..5)
            .map(|_| millis(supervisor.handle_failure(LIMITS, now, 1.0)))
            .collect();
        assert_eq!(verdicts, [Some(0), Some(100), Some(200), Some(300), None]);
        // After the pause the actor starts with a clean record.
        assert_eq!(
            supervisor.handle_failure(LIMITS, now, 0.0),
            Directive::Restart {
                after: Duration::ZERO
            }
        );
    }

    #[test]
    fn failures_outside_the_window_are_forgotten() {
        let (mut supervisor, start) = (Supervisor::default(), Instant::now());
        for n in 0..100 {
            let verdict = supervisor.handle_failure(LIMITS, start + LIMITS.within * n, 0.5);
            assert_eq!(millis(verdict), Some(0));
        }
    }

    #[test]
    fn no_restarts_allowed_means_given_up_at_once() {
        let limits = Limits {
            restarts: 0,
            ..LIMITS
        };
        let verdict = Supervisor::default().handle_failure(limits, Instant::now(), 0.0);
        assert_eq!(
            verdict,
            Directive::GiveUp {
                pause: LIMITS.backoff_max
            }
        );
    }

    proptest! {
        /// For any gaps between failures: at most `restarts` restarts in any window, and no pause
        /// beyond the longest.
        #[test]
        fn the_limits_hold(gaps in proptest::collection::vec(0u64..40_000, 1..200), jitter in 0.0..1.0) {
            let (mut supervisor, mut now) = (Supervisor::default(), Instant::now());
            let mut restarts = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                match supervisor.handle_failure(LIMITS, now, jitter) {
                    Directive::Restart { after } => {
                        prop_assert!(after <= LIMITS.backoff_max);
                        restarts.push(now);
                        let recent = restarts.iter().filter(|&&at| now - at < LIMITS.within).count();
                        prop_assert!(recent <= LIMITS.restarts as usize);
                    }
                    Directive::GiveUp { .. } => restarts.clear(),
                }
            }
        }
    }
}
