//! How a node's clock goes, while true time passes.

use std::{cell::Cell, time::Duration};

/// Timers of tokio know no smaller step.
const MILLISECOND: Duration = Duration::from_millis(1);

thread_local! {
    /// The true time of the step that this thread computes.
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Simulated true time, as [`Sim::elapsed`](super::Sim::elapsed) says it; `None` outside of a
/// simulation.
///
/// Code that runs on a simulated node sees its node's clock, which may be slow, fast, or have stood
/// still. This is the time that all nodes have in common: a test's entity can note with it when its
/// handler ran, to be compared with what ran elsewhere. It is exact to a millisecond.
pub fn true_time() -> Option<Duration> {
    NOW.get()
}

/// While this lives, its thread is at that true time.
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
    /// What the clock is behind of where it should be: less than a millisecond, unless its process
    /// is paused.
    owed: Duration,
    /// The part of `owed` that nobody sees pass.
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

/// How a clock moves on, in whole milliseconds: first in one jump, then bit by bit.
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

    /// So much true time passes while the node's process is stopped.
    pub(super) fn pass_paused(&mut self, true_time: Duration) {
        self.jump(self.scaled(true_time));
    }

    /// So much true time passes, and the node's process runs.
    pub(super) fn pass(&mut self, true_time: Duration) -> Moves {
        self.owed += self.scaled(true_time);
        let due = whole(self.owed);
        self.owed -= due;
        // A process notices a jump only when it runs, so that there is always something left to
        // run. What is left of the jump itself is below a millisecond, and passes with the rest.
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
