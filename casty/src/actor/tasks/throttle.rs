//! Work that keeps a thread busy and is in no hurry: one at a time, and no more than half of the
//! time.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// After so much work there is a rest. Timers are not as fine, so that it lasts a little longer
/// than the work.
const BURST: Duration = Duration::from_micros(100);

/// Of what was waited for, and was no work, no more than this counts.
const TURN_MAX: Duration = Duration::from_millis(4);

/// Has those who do such work take turns, and rest for as long as they have worked.
///
/// All other threads are for everybody else then; and the one that works does so in short spells,
/// so that a system with no thread to spare lets others go first.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// For how long there was work since the last rest.
    worked: Mutex<Duration>,
}

/// What is done while it lives is work.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    worked: MutexGuard<'a, Duration>,
    since: Option<Instant>,
}

impl Throttle {
    /// Waits for a turn. First come, first served: whoever waits here has to be polled, or nobody
    /// gets a turn.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn turn(&self) -> Permit<'_> {
        let mut worked = self.worked.lock().await;
        if *worked >= BURST {
            // Nothing is waited for but time: the rest is what others are to have the thread, and
            // the CPU, for.
            tokio::time::sleep(*worked).await;
            *worked = Duration::ZERO;
        }
        Permit {
            worked,
            since: Some(Instant::now()),
        }
    }
}

impl Permit<'_> {
    /// The work is done; but all others have this thread once before somebody else has a turn.
    pub(crate) async fn give_way(mut self) {
        self.end();
        tokio::task::yield_now().await;
    }

    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            *self.worked += since.elapsed().min(TURN_MAX);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use crate::actor::tasks::throttle::*;

    /// How much later it is than it should be: timers have whole milliseconds.
    fn is_about(time: Duration, expected: Duration) -> bool {
        (expected..=expected + Duration::from_millis(2)).contains(&time)
    }

    /// How long the next turn is waited for, after work that takes so long each time.
    async fn rest_after(times: &[Duration]) -> Duration {
        let pace = Throttle::default();
        for &time in times {
            let turn = pace.turn().await;
            tokio::time::advance(time).await;
            drop(turn);
        }
        let begun = Instant::now();
        drop(pace.turn().await);
        let rest = begun.elapsed();
        drop(pace.turn().await);
        assert_eq!(begun.elapsed(), rest, "it has rested");
        rest
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_worked_rests_for_as_long() {
        for work in [BURST, 5 * BURST, TURN_MAX] {
            let rest = rest_after(&[work]).await;
            assert!(is_about(rest, work), "{work:?}: {rest:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn little_work_needs_no_rest_until_it_is_much() {
        let little = BURST / 4;
        assert_eq!(rest_after(&[little; 3]).await, Duration::ZERO);
        let rest = rest_after(&[little; 4]).await;
        assert!(is_about(rest, BURST), "{rest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_long_for_somebody_else_does_not_rest_that_long() {
        let rest = rest_after(&[TURN_MAX * 100]).await;
        assert!(is_about(rest, TURN_MAX), "{rest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_has_a_turn() {
        let pace = Throttle::default();
        let turn = pace.turn().await;
        let mut other = Box::pin(pace.turn());
        assert!(other.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(other.now_or_never().is_some());
    }
}
