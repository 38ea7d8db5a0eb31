//! Timers of actors, and work beside them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex, Weak},
    task::{self, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use pin_project_lite::pin_project;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use crate::{
    actor::{
        Actor, Message as _,
        ask::{
            chain::{Acts, WORKER},
            reply::Delivery,
        },
        cell::{
            Cell,
            gate::{Gate, Lapses},
        },
        context::{
            Context,
            activation_scope::ActivationScope,
            luggage::{Luggage, PackedMessage, PackedTimer, Travels},
        },
        handle::Signal,
        hold,
        runtime::Runtime,
    },
    infra::{
        panic::{self, panic_text},
        sync::lock,
    },
    trace::{self, TraceContext},
};

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// What stands for a time beyond all clocks.
const FAR: Duration = Duration::from_hours(24 * 365 * 30);

/// Something that was begun for an actor: a timer, or work. Dropped, it goes on.
///
/// The compiler warns of a timer whose handle is dropped at once: [`detach`](Self::detach) says
/// that this is meant.
#[derive(Clone, Debug)]
pub struct Cancellable {
    task: AbortHandle,
    delivery: Arc<Delivery>,
}

impl Cancellable {
    /// Ends it. Its message is not handled any more, even if it is in the mailbox already.
    pub fn cancel(&self) {
        self.delivery.cancel();
        self.task.abort();
    }

    /// Lets it go on until it ends by itself, or the activation ends. This handle cannot cancel it
    /// any more.
    pub fn detach(self) {
        drop(self);
    }

    /// Whether it has ended, one way or another.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
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
    /// If the type says `migrate`, the timer goes along when the actor's shard moves, with the time
    /// that is left. Timers that `#[init]` and `#[on_start]` begin do not: these run again after
    /// the move, and begin them anew. Neither does a timer whose message is internal and has
    /// arguments: such a message cannot travel. See
    /// [`ended_by_move`](Context::ended_by_move).
    ///
    /// It goes on in the next state of a state machine. A timer that ends with its state is an
    /// option of its message, `#[message(internal, after = "1s")]`.
    ///
    /// The time is tokio's: it stands still while tokio's clock is paused.
    #[must_use = "dropped, the timer goes on, in each later state as well: keep the handle to cancel it, or write `.detach()`. \
                  A timer that ends with its state is `#[message(internal, after = \"1s\")]`"]
    pub fn schedule_once(&mut self, after: Duration, message: A::Message) -> Cancellable {
        self.start_timer(Timer::new(after, Source::Once(Some(message))))
    }

    /// Sends this actor what `make` makes, again and again, until it is cancelled or the activation
    /// ends. If `make` panics, the actor has failed, as by a panic of a handler.
    ///
    /// If the type says `migrate`, the timer goes along when the actor's shard moves, as that of
    /// [`schedule_once`](Self::schedule_once) does. `make` cannot: it makes one more message then,
    /// and that message is repeated from there on.
    ///
    /// It goes on in the next state of a state machine. A timer that ends with its state is an
    /// option of its message, `#[message(internal, every = "1s")]`.
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
    ///         ctx.schedule_every(every, || ClockMsg::Tick {}).detach();
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
    #[must_use = "dropped, the timer goes on, in each later state as well: keep the handle to cancel it, or write `.detach()`. \
                  A timer that ends with its state is `#[message(internal, every = \"1s\")]`"]
    pub fn schedule_every(
        &mut self,
        every: impl Into<Every>,
        make: impl FnMut() -> A::Message + Send + 'static,
    ) -> Cancellable {
        let every = every.into();
        let mut make = make;
        let make: Make<A::Message> = Box::new(move |_| Some(make()));
        self.start_timer(Timer::new(every.period, Source::Every(every, make)))
    }

    /// Starts a timer that ends with the present state, unless it came along from another node.
    pub(crate) fn start_state_timer(
        &mut self,
        after: Duration,
        every: Option<Every>,
        make: fn() -> A::Message,
    ) {
        let first = make();
        let name = first.name();
        if self.core.attached().has_state_timer(name) {
            return;
        }
        let source = match every {
            None => Source::Once(Some(first)),
            Some(every) => Source::Every(every, Box::new(move |_| Some(make()))),
        };
        self.add_state_timer(name, Timer::of_a_state(after, source));
    }

    fn add_state_timer(&mut self, message: &'static str, timer: Arc<Timer<A>>) {
        let handle = self.start_timer(timer.clone());
        let scope = self.core.attached();
        scope.add_state_timer(message, timer, handle.task);
    }

    fn start_timer(&mut self, timer: Arc<Timer<A>>) -> Cancellable {
        let delivery = timer.delivery.clone();
        let handle = self.cell.runtime().handle().clone();
        // The hook that begins it now begins it anew after a move.
        let begins_anew = self.core.is_starting() && !timer.is_of_a_state;
        let stays = begins_anew || !self.cell.moves();
        let scope = self.core.attached();
        if !stays {
            scope.takes_along(timer.clone());
        }
        let cause = match lock(&timer.state).source {
            Source::Once(_) => trace::here(),
            Source::Every(..) => None,
        };
        let task = run(
            Arc::downgrade(&self.cell),
            self.core.activation,
            timer,
            cause,
        );
        let scope = self.core.attached();
        let task = ActivationScope::begin(&mut scope.timers, Box::pin(task), &handle);
        Cancellable { task, delivery }
    }

    /// Goes on with what came along from another node.
    pub(crate) fn unpack(&mut self, luggage: &[u8]) {
        let Luggage { timers, mut ended } = Luggage::decode(luggage);
        for packed in timers {
            if !self.resume_timer(packed) {
                ended += 1;
            }
        }
        self.core.ended_by_move = Some(ended);
    }

    /// Returns whether this node knows the timer's message.
    fn resume_timer(&mut self, packed: PackedTimer) -> bool {
        let PackedTimer {
            left,
            every,
            message,
            is_of_a_state,
        } = packed;
        let Some(first) = message.message::<A::Message>(self.cell.runtime()) else {
            return false;
        };
        let name = first.name();
        let source = match every {
            None => Source::Once(Some(first)),
            Some((period, rate)) => {
                let make = Box::new(move |runtime: &_| message.message(runtime));
                Source::Every(Every { period, rate }, make)
            }
        };
        let was_starting = self.core.set_starting(false);
        if is_of_a_state {
            self.add_state_timer(name, Timer::of_a_state(left, source));
        } else {
            self.start_timer(Timer::new(left, source));
        }
        self.core.set_starting(was_starting);
        true
    }

    /// Awaits `future` beside the actor, which handles other messages meanwhile; what it returns,
    /// `map` makes a message to this actor of. A [call](crate::call::Call) of another actor is such
    /// a future.
    ///
    /// Let the future return a `Result` where it can fail: that arrives like any other result. If
    /// it panics, the actor has failed, as by a panic of a handler. It is cancelled when the
    /// activation ends.
    ///
    /// In a handler of a stored entity the future is first polled once the record of that handler
    /// is durable.
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
        let (gate, since) = (self.cell.gate().cloned(), self.core.since);
        let worker: Arc<dyn Acts> = self.cell.clone();
        let delivery = Arc::<Delivery>::default();
        let sent = delivery.clone();
        let task = async move {
            let work = WORKER.scope(worker, async move { map(future.await) });
            let work = AssertUnwindSafe(work).catch_unwind();
            let done = LeasedWork { gate, since, work }.await;
            let Some(cell) = cell.upgrade() else { return };
            match done {
                Some(Ok(message)) => {
                    let cause = trace::here();
                    cell.push_own(message, activation, true, cause, &sent).await;
                }
                Some(Err(panic)) => {
                    let reason = format!("its work panicked: {}", panic_text(&*panic));
                    panic::forget(panic);
                    cell.signal(Signal::WorkFailed(activation, reason));
                }
                None => cell.signal(Signal::WorkCutShort(activation)),
            }
        };
        let handle = self.cell.runtime().handle().clone();
        let mut task: BoxFuture<'static, ()> = Box::pin(task);
        if trace::is_on()
            && let Some(span) = trace::works(&self.cell.path())
        {
            task = Box::pin(task.instrument(span));
        }
        if hold::is_on() {
            task = hold::begin_later(task);
        }
        let work = &mut self.core.attached().work;
        let task = ActivationScope::begin(work, task, &handle);
        Cancellable { task, delivery }
    }
}

type Make<M> = Box<dyn FnMut(&Arc<Runtime>) -> Option<M> + Send>;

/// The source of a timer's messages.
enum Source<M> {
    Once(Option<M>),
    Every(Every, Make<M>),
}

struct Timer<A: Actor> {
    delivery: Arc<Delivery>,
    /// Whether leaving the state cancels it.
    is_of_a_state: bool,
    state: Mutex<TimerState<A>>,
}

struct TimerState<A: Actor> {
    /// From which periods are counted.
    start: Instant,
    /// When the last message was due.
    last: Instant,
    /// When the next message is due.
    due: Instant,
    source: Source<A::Message>,
}

impl<A: Actor> Timer<A> {
    fn new(after: Duration, source: Source<A::Message>) -> Arc<Self> {
        Self::begin(after, source, false)
    }

    fn of_a_state(after: Duration, source: Source<A::Message>) -> Arc<Self> {
        Self::begin(after, source, true)
    }

    fn begin(after: Duration, source: Source<A::Message>, is_of_a_state: bool) -> Arc<Self> {
        let now = Instant::now();
        let due = now.checked_add(after).unwrap_or(now + FAR);
        let start = match &source {
            Source::Every(every, _) => due.checked_sub(every.period).unwrap_or(now),
            Source::Once(_) => now,
        };
        Arc::new(Self {
            delivery: Arc::default(),
            is_of_a_state,
            state: Mutex::new(TimerState {
                start,
                last: due,
                due,
                source,
            }),
        })
    }

    fn due(&self) -> Instant {
        lock(&self.state).due
    }

    /// The message that is due; `None` if there is none any more.
    fn message(&self, runtime: &Arc<Runtime>) -> std::thread::Result<Option<A::Message>> {
        let mut state = lock(&self.state);
        state.last = state.due;
        state.set_next(Instant::now());
        match &mut state.source {
            Source::Once(message) => Ok(message.take()),
            Source::Every(_, make) => catch_unwind(AssertUnwindSafe(|| make(runtime))),
        }
    }

    /// The last message was handled. Returns whether there is another one.
    fn goes_on(&self) -> bool {
        let mut state = lock(&self.state);
        state.set_next(Instant::now());
        matches!(state.source, Source::Every(..))
    }
}

impl<A: Actor> TimerState<A> {
    fn set_next(&mut self, now: Instant) {
        if let Source::Every(every, _) = self.source {
            self.due = next_beat(every, self.start, self.last, now);
        }
    }
}

impl<A: Actor> Travels for Timer<A> {
    fn is_over(&self) -> bool {
        self.delivery.is_cancelled() || matches!(lock(&self.state).source, Source::Once(None))
    }

    fn cancel(&self) {
        self.delivery.cancel();
    }

    #[cfg(feature = "testkit")]
    fn due(&self) -> Instant {
        Self::due(self)
    }

    fn pack(&self, now: Instant, runtime: &Arc<Runtime>) -> Option<PackedTimer> {
        let mut state = lock(&self.state);
        let left = state.due.saturating_duration_since(now);
        // Messages are encoded, and made, by a user's code, which may panic.
        let packed = catch_unwind(AssertUnwindSafe(|| match &mut state.source {
            Source::Once(message) => Some((None, PackedMessage::of(message.as_ref()?)?)),
            Source::Every(every, make) => {
                let message = PackedMessage::of(&make(runtime)?)?;
                Some((Some((every.period, every.rate)), message))
            }
        }));
        let (every, message) = packed.unwrap_or_else(|panic| {
            panic::forget(panic);
            None
        })?;
        Some(PackedTimer {
            left,
            every,
            message,
            is_of_a_state: self.is_of_a_state,
        })
    }
}

/// Sends the messages of a timer, each after the one before it was handled. `cause`: the span that
/// has begun it, if its message is to be linked to that.
async fn run<A: Actor>(
    cell: Weak<Cell<A>>,
    activation: u32,
    timer: Arc<Timer<A>>,
    cause: Option<TraceContext>,
) {
    loop {
        sleep_until(timer.due()).await;
        let Some(cell) = cell.upgrade() else { return };
        let message = match timer.message(cell.runtime()) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(panic) => {
                let reason = format!("its timer panicked: {}", panic_text(&*panic));
                panic::forget(panic);
                return cell.signal(Signal::WorkFailed(activation, reason));
            }
        };
        let delivery = &timer.delivery;
        cell.push_own(message, activation, false, cause, delivery)
            .await;
        if !timer.goes_on() {
            return;
        }
    }
}

pin_project! {
    /// Work, while the lease lasts under which it was begun: `None` once it has lapsed, since the
    /// entity may act somewhere else then.
    struct LeasedWork<F> {
        gate: Option<Arc<Gate>>,
        since: Lapses,
        #[pin]
        work: F,
    }
}

impl<F: Future> Future for LeasedWork<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<F::Output>> {
        let this = self.project();
        match this.gate {
            Some(gate) if !gate.is_open_since(*this.since) => Poll::Ready(None),
            _ => this.work.poll(cx).map(Some),
        }
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
