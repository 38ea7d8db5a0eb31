//! Timers of actors.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Weak,
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    actor::{Actor, cell::Cell, handle::Signal},
    infra::panic::panic_text,
};

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// Something that was begun for an actor: a timer, or work. Dropped, it goes on.
#[derive(Clone, Debug)]
pub struct Cancellable(AbortHandle);

impl Cancellable {
    pub(crate) fn new(task: AbortHandle) -> Self {
        Self(task)
    }

    /// Ends it. A message that is in the mailbox already is handled all the same.
    pub fn cancel(&self) {
        self.0.abort();
    }

    /// Whether it has ended, one way or another.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// How often a repeated message comes. A plain [`Duration`] is a fixed delay.
///
/// Either way the next message is not sent before the last one was handled, so that they never pile
/// up. Periods below a millisecond are taken as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    period: Duration,
    rate: bool,
}

impl Every {
    /// So much time passes between the end of one message's handling and the next message.
    pub fn fixed_delay(delay: Duration) -> Self {
        Self {
            period: delay.max(PERIOD_MIN),
            rate: false,
        }
    }

    /// One message in each period, counted from the start. Periods that pass while a message is
    /// still handled are skipped: the period does not shift, and missed messages are not made up
    /// for.
    pub fn fixed_rate(period: Duration) -> Self {
        Self {
            period: period.max(PERIOD_MIN),
            rate: true,
        }
    }
}

impl From<Duration> for Every {
    fn from(delay: Duration) -> Self {
        Self::fixed_delay(delay)
    }
}

pub(crate) async fn once<A: Actor>(
    cell: Weak<Cell<A>>,
    activation: u32,
    after: Duration,
    message: A::Message,
) {
    sleep(after).await;
    if let Some(cell) = cell.upgrade() {
        cell.push_own(message, activation, false).await;
    }
}

pub(crate) async fn every<A: Actor>(
    cell: Weak<Cell<A>>,
    activation: u32,
    every: Every,
    mut make: impl FnMut() -> A::Message + Send,
) {
    let start = Instant::now();
    let mut next = start + every.period;
    loop {
        sleep_until(next).await;
        let Some(cell) = cell.upgrade() else { return };
        let message = match catch_unwind(AssertUnwindSafe(&mut make)) {
            Ok(message) => message,
            Err(panic) => {
                let reason = format!("its timer panicked: {}", panic_text(&*panic));
                return cell.signal(Signal::WorkFailed(activation, reason));
            }
        };
        cell.push_own(message, activation, false).await;
        next = next_beat(every, start, next, Instant::now());
    }
}

/// When the next message is due, if the message of `last` was handled at `now`.
fn next_beat(every: Every, start: Instant, last: Instant, now: Instant) -> Instant {
    if !every.rate {
        return now + every.period;
    }
    let next = last + every.period;
    if next > now {
        return next;
    }
    let late = now.duration_since(start).as_nanos() % every.period.as_nanos();
    let late = Duration::from_nanos(u64::try_from(late).unwrap_or(0));
    now + every.period.saturating_sub(late)
}

#[cfg(test)]
mod tests {
    use crate::actor::context::schedule::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fixed_delay_counts_from_the_end_of_the_last() {
        let start = Instant::now();
        let ended = start + SECOND * 5 / 2;
        let next = next_beat(Every::from(SECOND), start, start + SECOND, ended);
        assert_eq!(next, start + SECOND * 7 / 2);
    }

    #[test]
    fn a_fixed_rate_keeps_its_beat_and_skips_what_is_past() {
        let start = Instant::now();
        let every = Every::fixed_rate(SECOND);
        let quick = next_beat(every, start, start + SECOND, start + SECOND * 11 / 10);
        assert_eq!(quick, start + SECOND * 2);
        let slow = next_beat(every, start, start + SECOND, start + SECOND * 47 / 10);
        assert_eq!(slow, start + SECOND * 5);
        // To the moment: that beat is now past as well.
        let exact = next_beat(every, start, start + SECOND, start + SECOND * 4);
        assert_eq!(exact, start + SECOND * 5);
    }

    #[test]
    fn no_period_is_a_spin() {
        assert_eq!(Every::from(Duration::ZERO).period, PERIOD_MIN);
        assert_eq!(Every::fixed_rate(Duration::ZERO).period, PERIOD_MIN);
    }
}
