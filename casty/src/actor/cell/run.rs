//! The task of a cell that has something to do.

use std::{
    any::Any,
    collections::VecDeque,
    future::poll_fn,
    ops::ControlFlow,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use futures_util::FutureExt;
use tokio::{sync::Notify, time::Instant};

use super::{Activation, Cell, ChildEvent, Due, Phase, Signal, Wait, Waiter, counts_use};
use crate::{
    actor::{
        Actor, HookError, Message,
        ask::chain::{self, AsAsker},
        cell::{gate::Gate, policy::Children},
        context::Context,
        envelope::{Envelope, ReplyTo},
        handled::Handled,
        runtime::Runtime,
        spy::Observed,
        tasks::pool::{RunBox, Runs},
    },
    error::Failure,
    event::TerminatedReason,
    infra::{mutants, sync::lock},
};

/// Messages handled before a run lets other tasks have the thread.
const BATCH: usize = 64;

/// `stays`: it waits for the next message instead of ending.
pub(super) fn run<A: Actor>(
    cell: Arc<Cell<A>>,
    stays: bool,
) -> impl Future<Output = ()> + Send + 'static {
    AsAsker::new(cell.clone(), drive(cell, stays))
}

impl<A: Actor> Runs for Cell<A> {
    fn run(self: Arc<Self>) -> RunBox {
        RunBox::new(once(self))
    }

    fn run_in(self: Arc<Self>, place: &mut RunBox) {
        place.set(once(self));
    }
}

/// A run in memory that outlives it, where it leaves nothing of its cell.
async fn once<A: Actor>(cell: Arc<Cell<A>>) {
    run(cell, false).await;
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Run<A: Actor> {
    pub(super) cell: Arc<Cell<A>>,
    pub(super) ctx: Context<A>,
    pub(super) activation: Box<Activation<A>>,
    /// Taken from the mailbox.
    pub(super) batch: VecDeque<Envelope<A>>,
    gate: Option<Arc<Gate>>,
    stays: bool,
    /// Nobody waited for the last message.
    told: bool,
    /// It was told to sleep, and has handled nothing since.
    sleepy: bool,
    /// Whether there are spies, as of this batch.
    spied: bool,
    /// For others it waits already, while it handles the one message there was: who sends the next
    /// one wakes it, so it need not look whether there is one.
    waits: bool,
}

enum Step {
    /// Nothing more is handled; whoever waits is told.
    Sever,
    Signals(VecDeque<Signal>),
    Handle,
    Passivate,
    Close,
    /// Nothing is handled, and nothing ever will be.
    End,
    /// There is nothing to do, but there was, and nobody waited for it: who tells once, tells
    /// again, and finds a run that need not be woken.
    Linger,
    /// There is nothing to do.
    Rest,
}

async fn drive<A: Actor>(cell: Arc<Cell<A>>, stays: bool) {
    let mut run = Run::new(cell, stays);
    loop {
        let mut step = poll_fn(|cx| run.poll_next(cx)).await;
        while !run.may_act() && !matches!(step, Step::Sever | Step::End) {
            // Boxed, like all that is rare: it would make every run larger.
            Box::pin(run.await_lease()).await;
            if run.cell.is_severed() {
                step = Step::Sever;
            } else if run.cell.runtime().is_stopped() {
                step = Step::End;
            }
        }
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
                // What woke it meanwhile may have been a message.
                run.waits &= polls == 1;
                flow
            }
            Step::Signals(signals) => Box::pin(run.handle_signals(signals)).await,
            Step::Sever => {
                Box::pin(run.discard()).await;
                run.finish(TerminatedReason::Stopped)
            }
            Step::Passivate => {
                Box::pin(run.deactivate()).await;
                run.end_unless_needed()
            }
            Step::Close => {
                Box::pin(run.close()).await;
                run.finish(TerminatedReason::Stopped)
            }
            Step::Linger => {
                tokio::task::yield_now().await;
                ControlFlow::Continue(())
            }
            Step::End => run.finish(TerminatedReason::Stopped),
            Step::Rest => match run.rest() {
                Some(same) => {
                    run = same;
                    ControlFlow::Continue(())
                }
                None => return,
            },
        };
        if flow.is_break() {
            return;
        }
    }
}

impl<A: Actor> Run<A> {
    fn new(cell: Arc<Cell<A>>, stays: bool) -> Self {
        let activation = lock(&cell.inner).activation.take();
        let mut activation = activation.unwrap_or_else(|| Activation::boxed(None));
        let mut ctx = Context::new(cell.clone());
        ctx.attach(activation.number, activation.attached.take());
        let gate = cell.host.gate().cloned();
        Self {
            cell,
            ctx,
            activation,
            batch: VecDeque::new(),
            gate,
            stays,
            told: false,
            sleepy: false,
            spied: false,
            waits: false,
        }
    }

    /// Whether a message may be handled now, and an answer may leave.
    fn may_act(&self) -> bool {
        self.gate
            .as_ref()
            .is_none_or(|gate| gate.is_open() && !self.cell.is_severed())
    }

    /// What to do next.
    fn poll_next(&mut self, cx: &std::task::Context<'_>) -> Poll<Step> {
        let Self {
            cell,
            ctx,
            activation,
            batch,
            ..
        } = self;
        let mut admitted = Vec::new();
        let stopped = {
            let runtime = cell.runtime();
            self.spied = runtime.spies.any();
            runtime.is_stopped()
        };
        if std::mem::take(&mut self.waits)
            && !stopped
            && batch.is_empty()
            && activation.due == Due::Nothing
            && activation.state.is_some()
            && !activation.may_sleep(ctx, self.sleepy)
        {
            return Poll::Pending;
        }
        let step = {
            let mut inner = lock(&cell.inner);
            if inner.wait == Wait::Over {
                inner.wait = Wait::Short;
                self.stays = false;
            }
            let step = if stopped {
                Step::End
            } else if cell.is_severed() {
                Step::Sever
            } else if cell.signalled.load(Ordering::Relaxed)
                && cell.signalled.swap(false, Ordering::Relaxed)
                && let Some(rare) = &mut inner.rare
            {
                Step::Signals(std::mem::take(&mut rare.signals))
            } else {
                let budget = BATCH.saturating_sub(batch.len());
                inner.mailbox.take(budget, batch, &mut admitted);
                if !batch.is_empty() || activation.due != Due::Nothing {
                    Step::Handle
                } else if inner.closing {
                    Step::Close
                } else if activation.may_sleep(ctx, self.sleepy) {
                    Step::Passivate
                } else if std::mem::take(&mut self.told) && self.stays {
                    Step::Linger
                } else {
                    Step::Rest
                }
            };
            if self.stays && matches!(step, Step::Rest) {
                inner.wait_for_more(cx);
                return Poll::Pending;
            }
            // Who asks one thing at a time sends nothing more before it is answered. Where many
            // send, each would wake it.
            self.waits = self.stays
                && matches!(step, Step::Handle)
                && !inner.closing
                && inner.mailbox.is_empty()
                && activation.state.is_some()
                && matches!(batch.make_contiguous(), [only] if !only.reply.is_nobody());
            if self.waits {
                inner.wait_for_more(cx);
            } else {
                inner.phase = Phase::Running;
            }
            step
        };
        admitted.into_iter().for_each(Waiter::admit);
        Poll::Ready(step)
    }

    /// Leaves the cell idle, or closed if there is nothing to keep. Returns itself if there is
    /// something to do again.
    fn rest(self) -> Option<Self> {
        let cell = self.cell.clone();
        let mut inner = lock(&cell.inner);
        let rests = inner.mailbox.is_empty()
            && !inner.closing
            && !cell.is_severed()
            && !cell.signalled.load(Ordering::Relaxed);
        if !rests {
            return Some(self);
        }
        let Self {
            mut ctx,
            mut activation,
            ..
        } = self;
        if activation.state.is_none() && !activation.keeps() {
            cell.finish(inner, VecDeque::new(), TerminatedReason::Stopped);
            return None;
        }
        inner.mailbox.shrink();
        activation.attached = ctx.detach();
        inner.activation = Some(activation);
        inner.phase = Phase::Idle;
        None
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
        let full = self.batch.len() >= BATCH;
        if self.activation.state.is_none() || self.activation.due != Due::Nothing {
            self.start().await?;
        }
        let mut used = false;
        // Asked once between two messages: after the one, which is before the other.
        let mut may_act = self.may_act();
        while self.activation.state.is_some()
            && let Some(Envelope { message, reply }) = self.batch.pop_front()
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
                self.batch.push_front(envelope);
                break;
            }
            self.told = reply.is_nobody();
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
                    may_act = self.may_act();
                    match handled {
                        _ if !may_act => {
                            Box::pin(self.conclude_late(name, handled, reply)).await;
                        }
                        Handled::Reply(answer) => reply.answer(answer),
                        other => self.conclude(name, other, reply),
                    }
                    if self.ctx.has_wishes() {
                        Box::pin(self.after_handler()).await?;
                        may_act = self.may_act();
                    }
                }
                Err(panic) => {
                    let reason = panic_text(&*panic);
                    if let Some(since) = spied {
                        let (reason, took) = (reason.clone(), since.elapsed());
                        self.observe(name, &Observed::Failed { reason, took });
                    }
                    self.panicked(name, reply, &reason);
                    Box::pin(self.failed(reason)).await?;
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

    /// Waits until the actor may act, if it has to have a lease for that. What waits for too long
    /// is told so.
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
            self.waits = false;
        }
    }

    /// Nobody knows when there will be a lease again.
    fn give_up_waiting(&mut self) {
        let mut admitted = Vec::new();
        let mut told = std::mem::take(&mut self.batch);
        told.extend(lock(&self.cell.inner).mailbox.drain(&mut admitted));
        admitted.into_iter().for_each(Waiter::admit);
        for envelope in told {
            self.cell.undeliverable(envelope, Failure::NoQuorum);
        }
    }

    /// The lease was lost while a message was handled. What was done is done; but whether anybody
    /// may hear of it, is known only when there is a lease again, and the shard is still here.
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
                if !(silent && reply.is_nobody()) {
                    let cell = &self.cell;
                    reply.undelivered(cell.runtime(), &|| cell.path(), name, failure);
                }
            }
            Handled::Stash(message) => {
                let envelope = Envelope { message, reply };
                let stash = self.activation.stash.get_or_insert_default();
                if stash.len() < A::POLICY.stash {
                    stash.push_back(envelope);
                } else {
                    self.cell.undeliverable(envelope, Failure::MailboxFull);
                }
            }
        }
    }

    /// What a handler asked for besides its reply.
    async fn after_handler(&mut self) -> ControlFlow<()> {
        if self.ctx.take_transition() {
            self.unstash();
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
        let cell = &self.cell;
        reply.undelivered(cell.runtime(), &|| cell.path(), name, failure);
    }

    fn observe(&self, message: &'static str, what: &Observed) {
        let (who, parent) = (self.cell.path(), self.cell.host.parent());
        self.cell
            .runtime()
            .spies
            .observe(&who, parent, message, what);
    }

    /// After an activation ended by itself: an entity goes on with a fresh one if there is more to
    /// do, an actor is over.
    fn end_unless_needed(&mut self) -> ControlFlow<()> {
        self.unstash();
        let inner = lock(&self.cell.inner);
        let more = !self.batch.is_empty() || !inner.mailbox.is_empty();
        if self.cell.is_entity() && more {
            return ControlFlow::Continue(());
        }
        let left = std::mem::take(&mut self.batch);
        self.cell.finish(inner, left, TerminatedReason::Stopped);
        ControlFlow::Break(())
    }

    /// What was stashed came before everything that is still in the batch.
    pub(super) fn unstash(&mut self) {
        if let Some(mut stash) = self.activation.stash.take() {
            stash.append(&mut self.batch);
            self.batch = *stash;
        }
    }

    /// The end of the cell.
    pub(super) fn finish(&mut self, reason: TerminatedReason) -> ControlFlow<()> {
        self.unstash();
        let left = std::mem::take(&mut self.batch);
        self.cell.finish(lock(&self.cell.inner), left, reason);
        ControlFlow::Break(())
    }
}

impl<A: Actor> Activation<A> {
    /// Whether messages wait for another state.
    fn keeps(&self) -> bool {
        self.stash.as_ref().is_some_and(|stash| !stash.is_empty())
    }

    /// Whether it is idle, and told to end for that. Work whose result it awaits, and messages that
    /// it keeps, are not idleness.
    fn may_sleep(&self, ctx: &mut Context<A>, sleepy: bool) -> bool {
        self.state.is_some() && !self.keeps() && (ctx.passivates() || sleepy && !ctx.is_working())
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
    future: impl Future<Output = Result<T, HookError>>,
) -> Result<T, String> {
    outcome(hook, AssertUnwindSafe(future).catch_unwind().await)
}

/// The same of a hook that is done once it returns.
pub(super) fn guarded_now<T>(
    hook: &str,
    call: impl FnOnce() -> Result<T, HookError>,
) -> Result<T, String> {
    outcome(hook, std::panic::catch_unwind(AssertUnwindSafe(call)))
}

fn outcome<T>(hook: &str, outcome: std::thread::Result<Result<T, HookError>>) -> Result<T, String> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(HookError(reason))) => Err(reason),
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
