//! Timers of actors, and work beside them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    actor::{
        Actor,
        ask::chain::{Acts, WORKER},
        cell::Cell,
        context::{Context, activation_scope::ActivationScope},
        handle::Signal,
    },
    infra::panic::panic_text,
};

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// Something that was begun for an actor: a timer, or work. Dropped, it goes on.
#[derive(Clone, Debug)]
pub struct Cancellable(AbortHandle);

impl Cancellable {
    fn new(task: AbortHandle) -> Self {
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

impl<A: Actor> Context<A> {
    /// Sends `message` to this actor after a while, unless it is cancelled or the activation ends
    /// before.
    ///
    /// The time is tokio's: it stands still while tokio's clock is paused.
    pub fn schedule_once(&mut self, after: Duration, message: A::Message) -> Cancellable {
        let task = once(
            Arc::downgrade(&self.cell),
            self.core.activation,
            after,
            message,
        );
        self.start_timer(Box::pin(task))
    }

    /// Sends this actor what `make` makes, again and again, until it is cancelled or the activation
    /// ends. If `make` panics, the actor has failed, as by a panic of a handler.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// use casty::schedule::Every;
    ///
    /// #[derive(Default)]
    /// struct Clock {
    ///     ticks: u64,
    /// }
    ///
    /// #[actor]
    /// impl Clock {
    ///     #[on_start]
    ///     fn started(&mut self, ctx: &mut Context<Self>) {
    ///         let every = Every::fixed_rate(Duration::from_secs(1));
    ///         ctx.schedule_every(every, || ClockMsg::Tick {});
    ///     }
    ///
    ///     #[message(internal)]
    ///     fn tick(&mut self) {
    ///         self.ticks += 1;
    ///     }
    ///
    ///     #[message]
    ///     fn ticks(&self) -> u64 {
    ///         self.ticks
    ///     }
    /// }
    /// ```
    pub fn schedule_every(
        &mut self,
        every: impl Into<Every>,
        make: impl FnMut() -> A::Message + Send + 'static,
    ) -> Cancellable {
        let cell = Arc::downgrade(&self.cell);
        let task = self::every(cell, self.core.activation, every.into(), make);
        self.start_timer(Box::pin(task))
    }

    fn start_timer(&mut self, task: BoxFuture<'static, ()>) -> Cancellable {
        let handle = self.cell.runtime().handle().clone();
        let timers = &mut self.core.attached().timers;
        Cancellable::new(ActivationScope::begin(timers, task, &handle))
    }

    /// Awaits `future` beside the actor, which handles other messages meanwhile; what it returns,
    /// `map` makes a message to this actor of. A [call](crate::call::Call) of another actor is such a
    /// future.
    ///
    /// Let the future return a `Result` where it can fail: that arrives like any other result. If
    /// it panics, the actor has failed, as by a panic of a handler. It is cancelled when the
    /// activation ends.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # async fn fetch(url: String) -> Result<String, std::io::Error> { Ok(url) }
    /// #[derive(Default)]
    /// struct Page {
    ///     text: Option<String>,
    /// }
    ///
    /// #[actor]
    /// impl Page {
    ///     #[message]
    ///     fn load(&mut self, url: String, ctx: &mut Context<Self>) {
    ///         ctx.pipe(fetch(url), |fetched| PageMsg::Loaded { fetched });
    ///     }
    ///
    ///     #[message(internal)]
    ///     fn loaded(&mut self, fetched: Result<String, std::io::Error>) {
    ///         self.text = fetched.ok();
    ///     }
    /// }
    /// ```
    pub fn pipe<F>(
        &mut self,
        future: F,
        map: impl FnOnce(F::Output) -> A::Message + Send + 'static,
    ) -> Cancellable
    where
        F: IntoFuture<IntoFuture: Send + 'static>,
        F::Output: Send,
    {
        let future = future.into_future();
        let (cell, activation) = (Arc::downgrade(&self.cell), self.core.activation);
        let worker: Arc<dyn Acts> = self.cell.clone();
        let task = async move {
            let work = WORKER.scope(worker, async move { map(future.await) });
            let done = AssertUnwindSafe(work).catch_unwind().await;
            let Some(cell) = cell.upgrade() else { return };
            match done {
                Ok(message) => cell.push_own(message, activation, true).await,
                Err(panic) => {
                    let reason = format!("its work panicked: {}", panic_text(&*panic));
                    cell.signal(Signal::WorkFailed(activation, reason));
                }
            }
        };
        let handle = self.cell.runtime().handle().clone();
        let work = &mut self.core.attached().work;
        Cancellable::new(ActivationScope::begin(work, Box::pin(task), &handle))
    }
}

async fn once<A: Actor>(
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

async fn every<A: Actor>(
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
