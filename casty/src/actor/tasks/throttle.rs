//! A throttle for CPU-bound work that is not urgent: one worker at a time, for at most half of the
//! time.

use std::time::Duration;

use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

/// After so much work the worker rests. Timers are coarser than this, so a rest lasts a little
/// longer than the work before it.
const BURST: Duration = Duration::from_micros(100);

/// Upper bound of what one turn counts as work. Time beyond it was preemption, and earns no rest.
const TURN_MAX: Duration = Duration::from_millis(4);

/// Lets workers take turns, and rests between turns for as long as they have worked.
///
/// So at most one thread does such work, and in short bursts: even a runtime of one thread runs
/// other tasks in between.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// The time of work since the last rest.
    worked: Mutex<Duration>,
}

/// The turn of a worker. The time until it is dropped counts as work.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    worked: MutexGuard<'a, Duration>,
    since: Option<Instant>,
}

impl Throttle {
    /// Waits for a turn. Turns are given in the order of the calls, so a future of this function
    /// must be polled, or no later caller gets a turn.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn turn(&self) -> Permit<'_> {
        let mut worked = self.worked.lock().await;
        if *worked >= BURST {
            // The lock stays held: during the rest, other tasks are to have the thread and the CPU.
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
    /// Ends the turn, and lets all other tasks of this thread go on before the next worker.
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

    /// Whether a time is the expected one. Timers have whole milliseconds.
    fn is_about(time: Duration, expected: Duration) -> bool {
        (expected..=expected + Duration::from_millis(2)).contains(&time)
    }

    /// The wait for the next turn after work of these durations.
    async fn rest_after(times: &[Duration]) -> Duration {
        let throttle = Throttle::default();
        for &time in times {
            let turn = throttle.turn().await;
            tokio::time::advance(time).await;
            drop(turn);
        }
        let begun = Instant::now();
        drop(throttle.turn().await);
        let rest = begun.elapsed();
        drop(throttle.turn().await);
        assert_eq!(begun.elapsed(), rest, "the throttle has rested");
        rest
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_as_long_as_the_work() {
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
    async fn preemption_earns_no_rest() {
        let rest = rest_after(&[TURN_MAX * 100]).await;
        assert!(is_about(rest, TURN_MAX), "{rest:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_worker_at_a_time_has_a_turn() {
        let throttle = Throttle::default();
        let turn = throttle.turn().await;
        let mut other = Box::pin(throttle.turn());
        assert!(other.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(other.now_or_never().is_some());
    }
}
