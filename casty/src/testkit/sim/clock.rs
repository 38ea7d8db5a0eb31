//! The clock of a simulated node, which may be slow, fast, or paused.

use std::{cell::Cell, time::Duration};

/// The resolution of tokio's timers.
const MILLISECOND: Duration = Duration::from_millis(1);

thread_local! {
    /// The true time of the step that this thread computes.
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// The simulated true time, as [`Sim::elapsed`](super::Sim::elapsed) returns it. `None` outside of
/// a simulation.
///
/// Code on a simulated node sees the clock of its node, which may be slow, fast, or have been
/// paused. True time is common to all nodes: with it, an entity of a test can record when its
/// handler ran, for comparison with handlers on other nodes. It is exact to a millisecond.
pub fn true_time() -> Option<Duration> {
    NOW.get()
}

/// Sets the true time of this thread, until this is dropped.
pub(super) struct At {
    before: Option<Duration>,
}

impl At {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            before: NOW.replace(Some(time)),
        }
    }
}

impl Drop for At {
    fn drop(&mut self) {
        NOW.set(self.before);
    }
}

/// The clock of one node.
#[derive(Debug)]
pub(super) struct Clock {
    rate: f64,
    /// The time that the clock still has to advance: less than a millisecond, unless the process is
    /// paused.
    owed: Duration,
    /// The part of `owed` that passes in one jump.
    jump: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            rate: 1.0,
            owed: Duration::ZERO,
            jump: Duration::ZERO,
        }
    }
}

/// The wall clock of one node, by which it names incarnations and generations.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    /// It shows `shows` at the true time `at`.
    shows: Duration,
    at: Duration,
}

impl Default for WallClock {
    /// A clock that is right: simulated time begins in November 2023.
    fn default() -> Self {
        Self::new(Duration::from_secs(1_700_000_000), Duration::ZERO)
    }
}

impl WallClock {
    pub(super) fn new(shows: Duration, at: Duration) -> Self {
        Self { shows, at }
    }

    /// What it shows at a true time, after the one that it was set at.
    pub(super) fn at(self, now: Duration) -> Duration {
        self.shows + now.saturating_sub(self.at)
    }
}

/// How far a clock advances, in whole milliseconds: first in one jump, then from timer to timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) jump: Duration,
    pub(super) run: Duration,
}

impl Clock {
    pub(super) fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    pub(super) fn jump(&mut self, by: Duration) {
        self.owed += by;
        self.jump += by;
    }

    /// True time passes while the node's process is paused.
    pub(super) fn pass_paused(&mut self, true_time: Duration) {
        self.jump(self.scaled(true_time));
    }

    /// True time passes while the node's process runs.
    pub(super) fn pass(&mut self, true_time: Duration) -> Moves {
        self.owed += self.scaled(true_time);
        let due = whole(self.owed);
        self.owed -= due;
        // A process notices a jump only when it runs, so at least one millisecond is left to run.
        // The rest of the jump is below a millisecond and passes with `run`.
        let jump = whole(std::mem::take(&mut self.jump)).min(due.saturating_sub(MILLISECOND));
        Moves {
            jump,
            run: due.saturating_sub(jump),
        }
    }

    fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.rate)
    }
}

fn whole(time: Duration) -> Duration {
    let rest = time.subsec_nanos() % MILLISECOND.subsec_nanos();
    time.saturating_sub(Duration::from_nanos(rest.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn total(clock: &mut Clock, ticks: u64) -> Duration {
        (0..ticks).map(|_| clock.pass(TICK).run).sum()
    }

    #[test]
    fn a_right_clock_moves_with_true_time() {
        let mut clock = Clock::default();
        let moves = clock.pass(TICK);
        assert_eq!(
            moves,
            Moves {
                jump: ms(0),
                run: ms(1)
            }
        );
    }

    #[test]
    fn fractions_of_a_slow_or_fast_clock_add_up() {
        for (rate, passed) in [(0.5, 500), (0.7, 700), (1.25, 1250), (2.0, 2000)] {
            let mut clock = Clock::default();
            clock.set_rate(rate);
            assert_eq!(total(&mut clock, 1000), ms(passed), "{rate}");
        }
    }

    #[test]
    fn a_pause_is_one_jump() {
        let mut clock = Clock::default();
        clock.set_rate(0.5);
        for _ in 0..1000 {
            clock.pass_paused(TICK);
        }
        let moves = clock.pass(ms(2));
        assert_eq!(
            moves,
            Moves {
                jump: ms(500),
                run: ms(1)
            }
        );
        assert_eq!(
            clock.pass(ms(2)),
            Moves {
                jump: ms(0),
                run: ms(1)
            }
        );
    }

    #[test]
    fn a_part_of_a_millisecond_is_not_lost_in_a_jump() {
        let mut clock = Clock::default();
        clock.jump(Duration::from_micros(2500));
        assert_eq!(
            clock.pass(TICK),
            Moves {
                jump: ms(2),
                run: ms(1)
            }
        );
        clock.jump(Duration::from_micros(500));
        assert_eq!(
            clock.pass(TICK),
            Moves {
                jump: ms(0),
                run: ms(2)
            }
        );
    }

    #[test]
    fn true_time_is_that_of_the_innermost_step() {
        assert_eq!(true_time(), None);
        let outer = At::new(ms(1));
        drop(At::new(ms(2)));
        assert_eq!(true_time(), Some(ms(1)));
        drop(outer);
        assert_eq!(true_time(), None);
    }
}
