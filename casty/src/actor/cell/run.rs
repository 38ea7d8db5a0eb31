//! The task of a cell that has something to do.

use std::{
    any::Any,
    collections::VecDeque,
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use futures_util::FutureExt;
use tokio::{sync::Notify, time::Instant};

use super::{Activation, Cell, ChildEvent, Due, Phase, Signal, Waiter, counts_use};
use crate::{
    actor::{
        Actor, Message,
        chain::{self, ASKER, Asker},
        context::Context,
        envelope::{Envelope, ReplyTo},
        handled::Handled,
        policy::Children,
        runtime::Runtime,
        spy::Observed,
    },
    error::Failure,
    event::TerminatedReason,
    mutants,
    sync::lock,
};

/// Messages handled before a run lets other tasks have the thread.
const BATCH: usize = 64;

pub(super) async fn run<A: Actor>(cell: Arc<Cell<A>>) {
    let asker = Asker::new(cell.clone());
    ASKER.scope(asker, drive(cell)).await;
}

pub(super) struct Run<A: Actor> {
    pub(super) cell: Arc<Cell<A>>,
    pub(super) ctx: Context<A>,
    pub(super) activation: Box<Activation<A>>,
    /// Since it last found nothing to do.
    worked: bool,
    /// It was told to sleep, and has handled nothing since.
    sleepy: bool,
    /// Whether there are spies, as of this batch.
    spied: bool,
}

enum Step {
    /// Nothing more is handled; whoever waits is told.
    Sever,
    Signals(VecDeque<Signal>),
    Handle,
    /// Nothing to do, but there was: whoever was answered may send again in a moment, and finds a run that costs
    /// less than a new one.
    Linger,
    Passivate,
    Close,
}

async fn drive<A: Actor>(cell: Arc<Cell<A>>) {
    let activation = lock(&cell.inner).activation.take();
    let mut activation = activation.unwrap_or_else(|| Activation::boxed(None));
    let mut ctx = Context::new(cell.clone());
    ctx.attach(activation.number, activation.attached.take());
    let mut run = Run {
        cell,
        ctx,
        activation,
        worked: false,
        sleepy: false,
        spied: false,
    };
    loop {
        run.await_lease().await;
        let Some((same, step)) = run.next() else {
            return;
        };
        run = same;
        let flow = match step {
            Step::Signals(signals) => run.handle_signals(signals).await,
            Step::Sever => {
                run.discard().await;
                run.finish(TerminatedReason::Stopped)
            }
            Step::Handle => run.handle_batch().await,
            Step::Passivate => {
                run.deactivate().await;
                run.end_unless_needed()
            }
            Step::Close => {
                run.close().await;
                run.finish(TerminatedReason::Stopped)
            }
            Step::Linger => {
                linger().await;
                ControlFlow::Continue(())
            }
        };
        if flow.is_break() {
            return;
        }
    }
}

/// Goes once to the end of the queue of tasks. Unlike `tokio::task::yield_now` it does not wait for the driver.
async fn linger() {
    let mut lingered = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut lingered, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl<A: Actor> Run<A> {
    /// What to do next; `None` if there is nothing, and the cell is idle or closed.
    fn next(self) -> Option<(Self, Step)> {
        let Self {
            cell,
            mut ctx,
            mut activation,
            mut worked,
            sleepy,
            ..
        } = self;
        let mut admitted = Vec::new();
        let (spied, stopped) = {
            let runtime = cell.runtime();
            (runtime.spies.any(), runtime.is_stopped())
        };
        let step = {
            let mut inner = lock(&cell.inner);
            if stopped {
                // Nothing more is handled; whoever waits is told.
                let mut left = std::mem::take(&mut activation.stash);
                left.append(&mut activation.batch);
                cell.finish(inner, left, TerminatedReason::Stopped);
                return None;
            }
            if cell.is_severed() {
                Step::Sever
            } else if cell.signalled.swap(false, Ordering::Relaxed)
                && let Some(rare) = &mut inner.rare
            {
                Step::Signals(std::mem::take(&mut rare.signals))
            } else {
                let budget = BATCH.saturating_sub(activation.batch.len());
                inner
                    .mailbox
                    .take(budget, &mut activation.batch, &mut admitted);
                if !activation.batch.is_empty() || activation.due != Due::Nothing {
                    Step::Handle
                } else if inner.closing {
                    Step::Close
                } else if std::mem::take(&mut worked) {
                    Step::Linger
                } else if activation.may_sleep(&mut ctx, sleepy) {
                    Step::Passivate
                } else if activation.state.is_none() && activation.stash.is_empty() {
                    cell.finish(inner, VecDeque::new(), TerminatedReason::Stopped);
                    return None;
                } else {
                    if activation.batch.capacity() > BATCH {
                        activation.batch = VecDeque::new();
                    }
                    inner.mailbox.shrink();
                    activation.attached = ctx.detach();
                    inner.activation = Some(activation);
                    inner.phase = Phase::Idle;
                    return None;
                }
            }
        };
        admitted.into_iter().for_each(Waiter::admit);
        let run = Self {
            cell,
            ctx,
            activation,
            worked,
            sleepy,
            spied,
        };
        Some((run, step))
    }

    async fn handle_signals(&mut self, signals: VecDeque<Signal>) -> ControlFlow<()> {
        for signal in signals {
            match signal {
                Signal::Terminated(watch, who) => {
                    let watched = self.ctx.attached().take_watch(watch);
                    if watched && let Some(state) = self.activation.state.as_mut() {
                        let hook = state.on_terminated(who, &mut self.ctx);
                        if let Err(reason) = guarded("on_terminated", hook).await {
                            self.failed(reason).await?;
                        }
                        self.after_handler().await?;
                    }
                }
                Signal::Child(number, event) => {
                    let all = A::POLICY.children == Children::AllForOne;
                    self.ctx.attached().handle_child(number, &event, all);
                    if let ChildEvent::Escalates(reason) = event {
                        self.failed(format!("its child {number} failed: {reason}"))
                            .await?;
                    }
                }
                Signal::WorkFailed(activation, reason) => {
                    if activation == self.activation.number {
                        self.failed(reason).await?;
                    }
                }
                Signal::Restart => self.restart().await?,
                // Unless it was used since: by a message that took long, say.
                Signal::Passivate(used) => {
                    self.sleepy = self.cell.used.load(Ordering::Relaxed) == used;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Handles what the run holds, until there is a signal.
    async fn handle_batch(&mut self) -> ControlFlow<()> {
        let full = self.activation.batch.len() >= BATCH;
        self.worked = true;
        if self.activation.state.is_none() || self.activation.due != Due::Nothing {
            self.start().await?;
        }
        let mut used = false;
        // Asked once between two messages: after the one, which is before the other.
        let mut may_act = self.cell.may_act();
        while self.activation.state.is_some()
            && let Some(Envelope { message, reply }) = self.activation.batch.pop_front()
        {
            match &reply {
                // Of an activation that is over.
                ReplyTo::Own(own) if own.activation != self.activation.number => continue,
                ReplyTo::Own(own) => used |= own.is_work,
                _ => used = true,
            }
            if !may_act {
                // The run waits, before its next step.
                let envelope = Envelope { message, reply };
                self.activation.batch.push_front(envelope);
                break;
            }
            let chain = reply.chain().cloned();
            let caused = chain.is_some();
            if caused {
                chain::caused_by(chain);
            }
            let name = message.name();
            let spied = self.spied.then(Instant::now);
            if self.spied {
                self.observe(name, &Observed::Received);
            }
            let Some(state) = self.activation.state.as_mut() else {
                break;
            };
            let handled = AssertUnwindSafe(state.handle(message, &mut self.ctx))
                .catch_unwind()
                .await;
            if caused {
                // Hooks that run later wait for nobody.
                chain::caused_by(None);
            }
            match handled {
                Ok(handled) => {
                    if let Some(since) = spied {
                        let took = since.elapsed();
                        self.observe(name, &Observed::Handled { took });
                    }
                    may_act = self.cell.may_act();
                    match handled {
                        _ if !may_act => self.conclude_late(name, handled, reply).await,
                        Handled::Reply(answer) => reply.answer(answer),
                        other => self.conclude(name, other, reply),
                    }
                    if self.ctx.has_wishes() {
                        self.after_handler().await?;
                        may_act = self.cell.may_act();
                    }
                }
                Err(panic) => {
                    let reason = panic_text(&*panic);
                    if let Some(since) = spied {
                        let (reason, took) = (reason.clone(), since.elapsed());
                        self.observe(name, &Observed::Failed { reason, took });
                    }
                    self.panicked(name, reply, &reason);
                    self.failed(reason).await?;
                    return ControlFlow::Continue(());
                }
            }
            if self.cell.signalled.load(Ordering::Relaxed) {
                break;
            }
        }
        if used && counts_use::<A>() {
            self.sleepy = false;
            let now = self.cell.runtime().coarse_millis();
            self.cell.used.store(now, Ordering::Relaxed);
        }
        if full {
            tokio::task::yield_now().await;
        }
        ControlFlow::Continue(())
    }

    /// Waits until the actor may act, if it has to have a lease for that. What waits for too long is told so.
    async fn await_lease(&mut self) {
        let cell = self.cell.clone();
        let (Some(gate), runtime) = (cell.host.gate(), cell.runtime()) else {
            return;
        };
        let mut waits = false;
        while (!gate.is_open() || waits && mutants::on("whoever_waits_for_a_lease_waits_on"))
            && !cell.is_severed()
            && !runtime.is_stopped()
        {
            waits = true;
            let interrupt = Arc::new(Notify::new());
            {
                let mut inner = lock(&cell.inner);
                inner.phase = Phase::Paused;
                inner.rare().interrupt = Some(interrupt.clone());
            }
            // It may have been severed before it could be interrupted.
            if !cell.is_severed() {
                let patience = tokio::time::sleep(runtime.patience());
                tokio::select! {
                    biased;
                    () = gate.opened(), if !mutants::on("whoever_waits_for_a_lease_waits_on") => {}
                    () = interrupt.notified() => {}
                    () = patience => self.give_up_waiting(),
                }
            }
            let mut inner = lock(&cell.inner);
            inner.phase = Phase::Running;
            inner.rare().interrupt = None;
        }
    }

    /// Nobody knows when there will be a lease again.
    fn give_up_waiting(&mut self) {
        let mut admitted = Vec::new();
        let mut told = std::mem::take(&mut self.activation.batch);
        told.extend(lock(&self.cell.inner).mailbox.drain(&mut admitted));
        admitted.into_iter().for_each(Waiter::admit);
        for envelope in told {
            self.cell.undeliverable(envelope, Failure::NoQuorum);
        }
    }

    /// The lease was lost while a message was handled. What was done is done; but whether anybody may hear of it, is
    /// known only when there is a lease again, and the shard is still here.
    #[cold]
    async fn conclude_late(
        &mut self,
        name: &'static str,
        handled: Handled<A>,
        reply: ReplyTo<A::Reply>,
    ) {
        let cell = self.cell.clone();
        let patience = cell.runtime().patience();
        if let Some(gate) = cell.host.gate()
            && !cell.is_severed()
        {
            let _ = tokio::time::timeout(patience, gate.opened()).await;
        }
        if cell.may_act() {
            match handled {
                Handled::Reply(answer) => reply.answer(answer),
                other => self.conclude(name, other, reply),
            }
            return;
        }
        match handled {
            Handled::Reply(_) | Handled::Later(_) => reply.fail(lost_lease(cell.runtime())),
            other => self.conclude(name, other, reply),
        }
    }

    #[cold]
    fn conclude(&mut self, name: &'static str, handled: Handled<A>, reply: ReplyTo<A::Reply>) {
        match handled {
            Handled::Reply(answer) => reply.answer(answer),
            Handled::Later(settle) if self.cell.host.gate().is_some() => {
                (settle.0)(reply.guarded(self.cell.clone()));
            }
            Handled::Later(settle) => (settle.0)(reply),
            Handled::Unhandled { state, silent } => {
                let failure = Failure::Unhandled {
                    state: state.to_owned(),
                    message: name.to_owned(),
                };
                if !reply.is_nobody() {
                    reply.fail(failure);
                } else if !silent {
                    let runtime = self.cell.runtime();
                    runtime.dead_letter(self.cell.path(), name, failure.into());
                }
            }
            Handled::Stash(message) => {
                let envelope = Envelope { message, reply };
                if self.activation.stash.len() < A::POLICY.stash {
                    self.activation.stash.push_back(envelope);
                } else {
                    self.cell.undeliverable(envelope, Failure::MailboxFull);
                }
            }
        }
    }

    /// What a handler asked for besides its reply.
    async fn after_handler(&mut self) -> ControlFlow<()> {
        if self.ctx.take_transition() && !self.activation.stash.is_empty() {
            self.activation.unstash();
        }
        if self.ctx.take_stop() {
            self.deactivate().await;
            return self.end_unless_needed();
        }
        ControlFlow::Continue(())
    }

    fn panicked(&self, name: &'static str, reply: ReplyTo<A::Reply>, reason: &str) {
        let failure = Failure::Panicked {
            message: reason.to_owned(),
        };
        if reply.is_nobody() {
            let runtime = self.cell.runtime();
            runtime.dead_letter(self.cell.path(), name, failure.into());
        } else {
            reply.fail(failure);
        }
    }

    fn observe(&self, message: &'static str, what: &Observed) {
        let (who, parent) = (self.cell.path(), self.cell.host.parent());
        self.cell
            .runtime()
            .spies
            .observe(&who, parent, message, what);
    }

    /// After an activation ended by itself: an entity goes on with a fresh one if there is more to do, an actor is
    /// over.
    fn end_unless_needed(&mut self) -> ControlFlow<()> {
        self.activation.unstash();
        let inner = lock(&self.cell.inner);
        let more = !self.activation.batch.is_empty() || !inner.mailbox.is_empty();
        if self.cell.is_entity() && more {
            return ControlFlow::Continue(());
        }
        let left = std::mem::take(&mut self.activation.batch);
        self.cell.finish(inner, left, TerminatedReason::Stopped);
        ControlFlow::Break(())
    }

    /// The end of the cell.
    pub(super) fn finish(&mut self, reason: TerminatedReason) -> ControlFlow<()> {
        self.activation.unstash();
        let left = std::mem::take(&mut self.activation.batch);
        self.cell.finish(lock(&self.cell.inner), left, reason);
        ControlFlow::Break(())
    }
}

impl<A: Actor> Activation<A> {
    /// What was stashed came before everything that is still in the batch.
    pub(super) fn unstash(&mut self) {
        self.stash.append(&mut self.batch);
        std::mem::swap(&mut self.stash, &mut self.batch);
    }

    /// Whether it is idle, and told to end for that. Work whose result it awaits, and messages that it keeps, are not
    /// idleness.
    fn may_sleep(&self, ctx: &mut Context<A>, sleepy: bool) -> bool {
        self.state.is_some()
            && self.stash.is_empty()
            && (ctx.passivates() || sleepy && !ctx.is_working())
    }
}

/// What is said instead of an answer that may not leave.
pub(crate) fn lost_lease(runtime: &Runtime) -> Failure {
    Failure::Unreachable {
        node: runtime.node.to_string(),
        reason: "it lost its lease while it handled the message".to_owned(),
        maybe_handled: true,
    }
}

/// Awaits a hook; its failure as text.
pub(super) async fn guarded<T>(
    hook: &str,
    future: impl Future<Output = Result<T, crate::actor::HookError>>,
) -> Result<T, String> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(crate::actor::HookError(reason))) => Err(reason),
        Err(panic) => Err(format!("`#[{hook}]` panicked: {}", panic_text(&*panic))),
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}
