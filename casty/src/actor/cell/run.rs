//! The task of a cell that has something to do.
//!
//! A run begins when a message, or a signal, finds its cell idle. It handles what there is, and
//! then ends or waits for more. The cell's [`Phase`] says where it is:
//!
//! ```text
//!            a message, a signal
//!   Idle ───────────────────────────▶ Running ◀───────────────────────────────────┐
//!    ▲                                  │                                         │
//!    ├── nothing to do, WhenEmpty::End ─┤                                         │
//!                                       ├─ nothing to do, Wait ▶ Waiting ─────────┤ message, signal
//!                                       ├─ a failure, no lease ▶ Paused ──────────┤ time, lease
//!                                       ├─ messages refused ───▶ Resting ─────────┤ time, message
//!                                       ├─ outputs held ───────▶ Settling ────────┘ they may leave
//!   Closed ◀── the last activation ends ┘                                 or message, signal
//! ```
//!
//! One message is the business of [`turn`](super::turn), what it lets out that of
//! [`settle`](super::settle), beginnings, ends and failures that of [`life`](super::life).

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use futures_util::FutureExt;

use crate::{
    actor::{
        Actor, Envelope, FirstState, Handled, HookError,
        ask::{chain::AsAsker, reply::ReplyTo},
        cell::{
            Activation, Cell, Inner,
            activation::{AnyActivation, Due},
            admission::admit_all,
            core::{Phase, Wait},
            hooks::{guarded, guarded_now},
            leased::ActingLease,
            life::publish_started,
            metered, rings,
            settle::Settle,
            stored::stores,
            turn::Turn,
            used_at,
        },
        context::Context,
        handle::Signal,
        observer::Observing,
        tally::Tally,
        tasks::pool::{RunBox, Runs},
    },
    error::Failure,
    event::TerminatedReason,
    infra::{concurrent::lock, mutants, panic},
};

/// Messages handled before a run lets other tasks have the thread.
const BATCH: usize = 64;

/// The task of a run.
pub(super) fn run<A: Actor>(
    cell: Arc<Cell<A>>,
    when_empty: WhenEmpty,
) -> impl Future<Output = ()> + Send + 'static {
    AsAsker::new(cell.clone(), drive(cell, when_empty, None))
}

impl<A: Actor> Runs for Cell<A> {
    fn run(self: Arc<Self>) -> RunBox {
        RunBox::new(once(self))
    }

    fn run_in(self: Arc<Self>, place: &mut RunBox) {
        place.set(once(self));
    }
}

/// A run in memory that outlives it, and in which it leaves nothing of its cell.
async fn once<A: Actor>(cell: Arc<Cell<A>>) {
    run(cell, WhenEmpty::End).await;
}

/// The action of a run whose mailbox is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenEmpty {
    /// The run ends. The next message begins another.
    End,
    /// The run waits for the next message.
    Wait,
    /// The last message was a tell: the run yields once before it waits. Tells come in bursts, and
    /// the next one then finds a run that need not be woken.
    YieldFirst,
    /// The run handles the only message of an empty mailbox. Senders already see
    /// [`Phase::Waiting`] and will wake it, so the run need not lock the mailbox again to look.
    WaitsAlready,
}

impl WhenEmpty {
    /// A message is about to be handled. `told`: no sender waits for it.
    fn after(self, told: bool) -> Self {
        match self {
            Self::Wait if told => Self::YieldFirst,
            Self::YieldFirst if !told => Self::Wait,
            same => same,
        }
    }
}

pub(super) struct Run<A: Actor> {
    pub(super) cell: Arc<Cell<A>>,
    pub(super) ctx: Context<A>,
    pub(super) activation: Box<Activation<A>>,
    /// Taken from the mailbox.
    pub(super) batch: VecDeque<Envelope<A>>,
    pub(super) settle: Settle,
    when_empty: WhenEmpty,
    /// As of this batch.
    pub(super) observers: Option<Observing>,
    #[cfg(feature = "metrics")]
    pub(super) uncounted: metered::Uncounted,
}

enum Step {
    /// Nothing more is handled: the actor may be somewhere else.
    Sever,
    Signals(VecDeque<Signal>),
    Handle,
    /// Nothing is left to handle, but outputs are held.
    Settle,
    Passivate,
    Close,
    /// The system is gone.
    End,
    /// See [`WhenEmpty::YieldFirst`].
    Yield,
    /// There is nothing to do.
    Rest,
}

/// A run that a panic outside of handlers and hooks must not end: users' values may panic when they
/// are dropped. Whatever the run holds goes on in another task, as an activation that has failed.
struct Rescued<A: Actor>(Option<Run<A>>);

impl<A: Actor> Drop for Rescued<A> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(run) = self.0.take()
        {
            run.rescue();
        }
    }
}

/// `rescued`: what a run held that has panicked.
async fn drive<A: Actor>(cell: Arc<Cell<A>>, when_empty: WhenEmpty, rescued: Option<Box<Run<A>>>) {
    let has_panicked = rescued.is_some();
    let run = rescued.map_or_else(|| Run::new(cell, when_empty), |run| *run);
    let mut driven = Rescued(Some(run));
    if has_panicked && let Some(run) = &mut driven.0 {
        let reason = "a value panicked when it was dropped, outside of a handler";
        if run.any().failed(reason.to_owned()).await.is_break() {
            return;
        }
    }
    while let Some(run) = &mut driven.0 {
        if const { stores::<A>() } && run.is_asked() {
            if run.any().heed_requests().await.is_break() {
                return;
            }
            run.looks_again();
        }
        let mut step = poll_fn(|cx| run.poll_next(cx)).await;
        let may_handle = run
            .settle
            .may_handle(&run.cell.core, const { stores::<A>() });
        if !may_handle && !matches!(step, Step::Sever | Step::End) {
            run.any().await_permission().await;
            run.looks_again();
            if run.cell.core.is_severed() {
                step = Step::Sever;
            } else if run.cell.runtime().is_stopped() {
                step = Step::End;
            } else if const { stores::<A>() } && run.is_asked() && matches!(step, Step::Handle) {
                continue;
            }
        }
        if const { stores::<A>() } && matches!(step, Step::Handle) && run.is_too_late() {
            run.any().turn_away_late();
            step = Step::Close;
        }
        run.any().renew();
        let flow = match step {
            Step::Handle => {
                let mut polls = 0u32;
                let flow = {
                    let mut handling = pin!(run.handle_batch());
                    poll_fn(|cx| {
                        polls += 1;
                        handling.as_mut().poll(cx)
                    })
                    .await
                };
                // A message may have woken the run meanwhile.
                if (polls > 1 && !mutants::on("a_wake_up_during_a_handler_is_forgotten"))
                    && run.when_empty == WhenEmpty::WaitsAlready
                {
                    run.when_empty = WhenEmpty::Wait;
                }
                flow
            }
            Step::Signals(signals) => {
                if let Some(observers) = &run.observers {
                    observers.state_changes();
                }
                run.any().handle_signals(signals).await
            }
            Step::Settle => {
                run.any().await_outputs().await;
                ControlFlow::Continue(())
            }
            Step::Sever => run.any().abandon().await,
            Step::Passivate => {
                metered::tally(&*run.cell.host, Tally::Passivated);
                run.any().passivate().await
            }
            Step::Close => run.any().close().await,
            Step::Yield => {
                tokio::task::yield_now().await;
                ControlFlow::Continue(())
            }
            Step::End => run.finish(TerminatedReason::Stopped),
            Step::Rest => {
                driven.0 = driven.0.take().and_then(Run::rest);
                ControlFlow::Continue(())
            }
        };
        if flow.is_break() {
            return;
        }
    }
}

impl<A: Actor> Run<A> {
    fn new(cell: Arc<Cell<A>>, when_empty: WhenEmpty) -> Self {
        let activation = lock(&cell.inner).activation.take();
        let mut activation = activation.unwrap_or_else(|| Activation::boxed(None, Due::Nothing));
        let life = &mut activation.life;
        life.sleep_requested = false;
        let mut ctx = Context::new(cell.clone());
        ctx.core().attach(life.number, life.attached.take());
        let gate = cell.host.gate().cloned();
        let mut settle = Settle::new(gate);
        if const { stores::<A>() } {
            settle.set_storing(ctx.core().take_storing());
        }
        #[cfg(feature = "metrics")]
        let uncounted = metered::Uncounted::new(&*cell.host);
        Self {
            cell,
            ctx,
            activation,
            batch: VecDeque::new(),
            settle,
            when_empty,
            observers: None,
            #[cfg(feature = "metrics")]
            uncounted,
        }
    }

    /// The same for functions that do not depend on the type.
    pub(super) fn any(&mut self) -> &mut dyn AnyActivation {
        self
    }

    /// Goes on in another task, unless the cell has closed. Called while a panic unwinds, so that
    /// nothing of a user's may be dropped here.
    #[cold]
    fn rescue(mut self) {
        let cell = self.cell.clone();
        {
            let mut inner = lock(&cell.inner);
            if inner.status.phase == Phase::Closed {
                drop(inner);
                return panic::contained("what a closed actor held", || drop(self));
            }
            inner.status.resume();
        }
        self.when_empty = WhenEmpty::End;
        let rescued = drive(cell.clone(), WhenEmpty::End, Some(Box::new(self)));
        let task = AsAsker::new(cell.clone(), rescued);
        cell.runtime().spawn(Box::pin(task));
    }

    /// Whether what was done once its record was durable asks for something, to be heeded before
    /// the next message.
    fn is_asked(&mut self) -> bool {
        self.ctx.core().has_requests()
            && !self.cell.core.is_severed()
            && !self.cell.runtime().is_stopped()
    }

    /// Senders see that the run is at work again.
    fn looks_again(&mut self) {
        if self.when_empty == WhenEmpty::WaitsAlready {
            self.when_empty = WhenEmpty::Wait;
        }
    }

    /// Whether there is no time for another activation. Records of the last one, which were given
    /// up, may still be in flight: nothing must be read before they are decided.
    fn is_too_late(&self) -> bool {
        self.activation.state.is_none() && self.cell.core.ends_calls()
    }

    /// The next step of a run.
    fn poll_next(&mut self, cx: &std::task::Context<'_>) -> Poll<Step> {
        #[cfg(feature = "metrics")]
        self.uncounted.flush(&*self.cell.host);
        let Self {
            cell,
            ctx,
            activation,
            batch,
            settle,
            when_empty,
            ..
        } = self;
        let stopped = {
            let runtime = cell.runtime();
            self.observers = runtime.observers.present(const { A::POLICY.record > 0 });
            if let Some(observing) = &mut self.observers {
                observing.ring = rings::of(&*cell.host, cell.name(), A::POLICY.record);
            }
            runtime.is_stopped()
        };
        if *when_empty == WhenEmpty::WaitsAlready {
            *when_empty = WhenEmpty::Wait;
            let is_idle = !stopped
                && batch.is_empty()
                && activation.life.due == Due::Nothing
                && activation.state.is_some()
                && !settle.holds()
                && !(const { stores::<A>() } && settle.is_writing())
                && !activation.may_sleep(ctx.core());
            if is_idle {
                return Poll::Pending;
            }
        }
        let mut admitted = Vec::new();
        let step = {
            let mut inner = lock(&cell.inner);
            let Inner {
                mailbox, status, ..
            } = &mut *inner;
            if status.wait == Wait::Over {
                status.wait = Wait::Short;
                *when_empty = WhenEmpty::End;
            }
            if A::IS_MACHINE
                && let Some(state) = &activation.state
            {
                status.seen.get_or_insert_default().state = Some(state.state_name());
            }
            let step = if stopped {
                Step::End
            } else if cell.core.is_severed() {
                Step::Sever
            } else if cell.core.signalled.load(Ordering::Relaxed) {
                cell.core.signalled.store(false, Ordering::Relaxed);
                Step::Signals(status.take_signals())
            } else {
                let budget = BATCH.saturating_sub(batch.len());
                mailbox.take(budget, batch, &mut admitted);
                if !batch.is_empty() || activation.life.due != Due::Nothing {
                    Step::Handle
                } else if settle.holds() || const { stores::<A>() } && settle.is_writing() {
                    Step::Settle
                } else if status.closing {
                    Step::Close
                } else if activation.may_sleep(ctx.core()) {
                    Step::Passivate
                } else if *when_empty == WhenEmpty::YieldFirst {
                    *when_empty = WhenEmpty::Wait;
                    Step::Yield
                } else {
                    Step::Rest
                }
            };
            let stays = *when_empty != WhenEmpty::End;
            if stays && matches!(step, Step::Rest) {
                status.wait_for_more(cx.waker());
                return Poll::Pending;
            }
            // An actor that asks one thing at a time sends nothing more before it is answered. With
            // many senders, each would wake the run.
            let waits_already = stays
                && matches!(step, Step::Handle)
                && !status.closing
                && mailbox.is_empty()
                && activation.state.is_some()
                && matches!(batch.make_contiguous(), [only] if !only.reply.is_nobody());
            if waits_already {
                *when_empty = WhenEmpty::WaitsAlready;
                status.wait_for_more(cx.waker());
            } else {
                status.phase = Phase::Running;
            }
            step
        };
        admit_all(admitted);
        Poll::Ready(step)
    }

    /// Leaves the cell idle, or closed if there is nothing to keep. Returns itself if there is
    /// something to do again.
    fn rest(self) -> Option<Self> {
        let cell = self.cell.clone();
        let mut inner = lock(&cell.inner);
        let rests = (inner.mailbox.is_empty() || mutants::on("a_run_rests_without_a_last_look"))
            && !inner.status.closing
            && !cell.core.is_severed()
            && !cell.core.signalled.load(Ordering::Relaxed);
        if !rests {
            return Some(self);
        }
        #[cfg(feature = "metrics")]
        self.uncounted.rest(&*cell.host);
        let Self {
            mut ctx,
            mut activation,
            mut settle,
            ..
        } = self;
        if activation.state.is_none() && !activation.keeps() {
            cell.finish(inner, VecDeque::new(), &TerminatedReason::Stopped);
            return None;
        }
        inner.mailbox.shrink();
        // The task goes on without this cell.
        inner.status.waker = None;
        inner.status.seen = None;
        if const { stores::<A>() } {
            ctx.core().set_storing(settle.take_storing());
        }
        activation.life.attached = ctx.core().detach();
        inner.activation = Some(activation);
        inner.status.phase = Phase::Idle;
        None
    }

    /// Handles what the run holds, until there is a signal.
    async fn handle_batch(&mut self) -> ControlFlow<()> {
        let is_full = self.batch.len() >= BATCH;
        if self.activation.state.is_none() || self.activation.life.due != Due::Nothing {
            self.start().await?;
        }
        let mut used = false;
        // Checked once between two messages.
        let mut may_handle = self
            .settle
            .may_handle(&self.cell.core, const { stores::<A>() });
        while may_handle
            && self.activation.state.is_some()
            && let Some(envelope) = self.batch.pop_front()
        {
            match &envelope.reply {
                // Of an activation that is over, or cancelled.
                ReplyTo::Own(own)
                    if own.activation != self.activation.life.number || own.is_cancelled() =>
                {
                    continue;
                }
                ReplyTo::Own(own) => used |= own.is_work,
                _ => used = true,
            }
            self.when_empty = self.when_empty.after(envelope.reply.is_nobody());
            let Some(envelope) = self.recall(envelope) else {
                if self.ctx.core().has_requests() {
                    break;
                }
                may_handle = self.settle.may_handle(&self.cell.core, true);
                continue;
            };
            let Envelope { message, mut reply } = envelope;
            let begun = self.begin_turn(&message, &reply);
            let Some(state) = self.activation.state.as_mut() else {
                break;
            };
            let handled = if const { stores::<A>() } {
                self.stored_turn(&begun, message, &mut reply).await
            } else {
                let lease = ActingLease::new(&*self.cell, &self.settle);
                let handling =
                    AssertUnwindSafe(state.handle(message, &mut self.ctx)).catch_unwind();
                let mut handled = lease.lets(handling).await;
                self.end_turn(&begun, &mut handled);
                handled
            };
            may_handle = match handled {
                Ok(Handled::Reply(answer)) => self.settle_answer(begun.name, answer, reply),
                other => match self.conclude(begun.name, other, reply) {
                    Turn::Done(output) => self.settle(output),
                    Turn::Silent => self
                        .settle
                        .may_handle(&self.cell.core, const { stores::<A>() }),
                    Turn::Panicked(output, reason) => {
                        self.settle(output);
                        self.any().failed(reason).await?;
                        return ControlFlow::Continue(());
                    }
                    Turn::CutShort(output) => {
                        self.settle(output);
                        self.any().cut_short(begun.name).await;
                        return ControlFlow::Continue(());
                    }
                    Turn::NoRoom(output) => {
                        self.settle(output);
                        self.any().begin_anew().await;
                        return ControlFlow::Continue(());
                    }
                },
            };
            if self.ctx.core().has_requests() {
                self.any().heed_requests().await?;
                may_handle = self
                    .settle
                    .may_handle(&self.cell.core, const { stores::<A>() });
            }
            if self.cell.core.signalled.load(Ordering::Relaxed) {
                break;
            }
        }
        self.cell.core.present.end();
        if used && self.cell.core.used.load(Ordering::Relaxed) != 0 {
            self.activation.life.sleep_requested = false;
            let now = used_at(self.cell.runtime());
            self.cell.core.used.store(now, Ordering::Relaxed);
        }
        if is_full {
            tokio::task::yield_now().await;
        }
        ControlFlow::Continue(())
    }

    /// Messages for an active entity alone start none: those before any other are answered so.
    /// Returns whether there is no other.
    #[cold]
    fn starts_for_none(&mut self) -> bool {
        // What has come with its shard was active there.
        if self.cell.host.has_state_of(&self.cell.core.name) {
            return false;
        }
        while self
            .batch
            .front()
            .is_some_and(|envelope| envelope.reply.is_for_active())
        {
            if let Some(envelope) = self.batch.pop_front() {
                self.cell.undeliverable(envelope, Failure::NotActive);
            }
        }
        self.batch.is_empty()
    }

    /// Makes the state if there is none, and runs the hooks that are due.
    async fn start(&mut self) -> ControlFlow<()> {
        if self.activation.life.due == Due::Nothing && self.starts_for_none() {
            return ControlFlow::Continue(());
        }
        if let Some(observers) = &self.observers {
            observers.state_changes();
        }
        self.ctx.core().set_starting(true);
        let started = self.try_start().await;
        self.ctx.core().has_started();
        if let Err(reason) = started {
            return self.any().start_failed(reason).await;
        }
        self.activation.life.due = Due::Nothing;
        if self.ctx.core().take_raised() {
            self.any().take_raised();
        }
        if self.activation.life.has_failed() {
            self.any().forgive();
        }
        ControlFlow::Continue(())
    }

    async fn try_start(&mut self) -> Result<(), String> {
        let Self {
            cell,
            ctx,
            activation,
            settle,
            ..
        } = self;
        let lease = ActingLease::since(&**cell, settle.since());
        if activation.state.is_none() {
            let made = guarded_now("init", || Ok(cell.host.init(ctx)))?;
            activation.state = Some(match made {
                Some(FirstState::Now(made)) => made.map_err(|HookError(reason)| reason)?,
                Some(FirstState::Later(made)) => guarded("init", lease, made).await?,
                None => {
                    return Err("it was spawned from a value, and cannot be made anew".to_owned());
                }
            });
            activation.life.started = false;
            if A::SURVIVES
                && !const { stores::<A>() }
                && let Some(state) = &mut activation.state
                && let Some(failed) = activation.failed.take()
            {
                state.inherit(*failed);
            }
        }
        if const { stores::<A>() }
            && let Some(storing) = ctx.core().take_storing()
        {
            settle.set_storing(Some(storing));
        }
        let Some(state) = activation.state.as_mut() else {
            return Ok(());
        };
        if !activation.life.started {
            if const { stores::<A>() } {
                self.stored_hook(None).await?;
            } else {
                guarded("on_start", lease, state.on_start(ctx)).await?;
            }
            self.activation.life.started = true;
            publish_started(&*self.cell);
        }
        self.ctx.core().has_started();
        if self.activation.life.due == Due::Restart {
            self.any().restarted().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::actor::cell::run::*;

    #[test]
    fn a_run_that_ends_never_yields_first() {
        assert_eq!(WhenEmpty::End.after(true), WhenEmpty::End);
        assert_eq!(WhenEmpty::Wait.after(true), WhenEmpty::YieldFirst);
        assert_eq!(WhenEmpty::YieldFirst.after(false), WhenEmpty::Wait);
        let handles_the_only_ask = WhenEmpty::WaitsAlready.after(false);
        assert_eq!(handles_the_only_ask, WhenEmpty::WaitsAlready);
    }
}
