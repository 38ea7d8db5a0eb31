//! A cell: one actor's mailbox, state and run.
//!
//! An idle cell owns no task. The message that finds a cell idle spawns a [`run`]. The run handles
//! messages until there are none, puts the state back and ends. So at any time at most one task
//! touches the state.
//!
//! | file | what |
//! |---|---|
//! | [`admission`] | what senders do: queue a message, wait for room, be refused |
//! | [`run`] | the loop; the states of a cell are drawn there |
//! | [`turn`] | one message |
//! | [`settle`], [`permission`] | when what a turn let out may leave, and how a run waits for that |
//! | [`gate`], [`leased`] | whether the node holds a lease, and what becomes of a handler without |
//! | [`life`], [`hooks`] | how an activation begins and ends, and what becomes of one that fails |
//! | [`recorded`], [`rings`] | what the flight recorder keeps of a turn |
//! | [`keyed`] | asks that are handled once, and their answers |
//! | [`stored`] | what the handlers of a stored type have changed, and how it gets into the store |
//! | [`erasure`] | how an entity is erased that an operator wants to be gone |
//! | [`signals`] | what an actor is told besides messages |
//! | [`core`], [`activation`], [`host`] | what does not depend on the type of the actor |
//! | [`erased`] | how they reach what does |

mod activation;
mod admission;
mod core;
mod erased;
mod erasure;
pub(crate) mod gate;
pub(crate) mod hooks;
mod host;
mod keyed;
mod leased;
mod life;
#[cfg(feature = "testkit")]
pub(crate) mod look;
pub(crate) mod mailbox;
mod metered;
mod permission;
pub(crate) mod policy;
mod present;
pub(crate) mod recorded;
pub(crate) mod report;
mod rings;
mod run;
mod settle;
mod signals;
mod stored;
mod taken;
mod turn;

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::oneshot;

pub(crate) use crate::actor::cell::{
    admission::{Arrived, Refusal},
    core::RefusalReason,
    host::Host,
};
use crate::{
    actor::{
        Actor, Envelope, FirstState, Message as _,
        ask::chain,
        cell::{
            activation::{Due, Life},
            admission::{Waiter, admit_all},
            core::{Core, Phase, Status, Then},
            gate::{Gate, Lapses},
            mailbox::Mailbox,
            report::{CellReport, Glance},
        },
        context::{
            Context,
            core::ContextCore,
            watch::{WatchId, Watcher},
        },
        handle::{CellName, Signal},
        runtime::Runtime,
    },
    error::Failure,
    event::{ActorPath, TerminatedReason},
    id::Epoch,
    infra::concurrent::{Mutex, MutexGuard, lock},
    message::codec::EncodeError,
    trace::{self, Relation},
};

/// Where a cell lives.
pub(crate) trait CellHost<A: Actor>: Host {
    fn address(&self, cell: &Arc<Cell<A>>) -> A::Address;

    /// Makes a fresh state; `None` where only the code that spawned the actor could. It may panic,
    /// as users' code does.
    fn init<'a>(&'a self, ctx: &'a mut Context<A>) -> Option<FirstState<'a, A>>;

    /// The cell takes no more messages and can be forgotten.
    fn closed(&self, cell: &Cell<A>);

    /// Appends the state, to be stored. Returns its name, if there are several.
    fn freeze(&self, state: &A, out: &mut Vec<u8>) -> Result<&'static str, EncodeError> {
        let _ = (state, out);
        Err(EncodeError("it is not stored".to_owned()))
    }

    /// Whether the state could go on on another node, where that is to be checked after each
    /// message.
    fn can_move(&self, state: &A) -> Result<(), String> {
        let _ = state;
        Ok(())
    }

    /// The last activation has ended, in order, with this state, which may go on somewhere else.
    /// `luggage`: what goes along with it. Returns the state, unless it is still needed.
    fn ended(&self, cell: &Cell<A>, state: A, luggage: Vec<u8>) -> Option<A> {
        let _ = (cell, luggage);
        Some(state)
    }
}

pub(crate) struct Cell<A: Actor> {
    core: Core,
    host: Arc<dyn CellHost<A>>,
    inner: Mutex<Inner<A>>,
}

struct Inner<A: Actor> {
    mailbox: Mailbox<Envelope<A>, Waiter>,
    /// Here while the cell is idle, with the run otherwise.
    activation: Option<Box<Activation<A>>>,
    status: Status,
}

struct Activation<A: Actor> {
    state: Option<A>,
    /// Kept by the present state, in order. Boxed: most activations never keep anything.
    #[expect(clippy::box_collection, reason = "three words less in each idle cell")]
    stash: Option<Box<VecDeque<Envelope<A>>>>,
    life: Life,
    /// The state that has failed, if a part of it outlives that.
    failed: Option<Box<A>>,
}

impl<A: Actor> Activation<A> {
    fn boxed(state: Option<A>, due: Due) -> Box<Self> {
        Box::new(Self {
            state,
            stash: None,
            life: Life::new(due),
            failed: None,
        })
    }

    /// Whether messages wait for another state.
    fn keeps(&self) -> bool {
        A::IS_MACHINE && self.stash.as_ref().is_some_and(|stash| !stash.is_empty())
    }

    /// Whether the activation is idle, and was told to end for that. An activation that awaits the
    /// result of work, or keeps messages, is not idle.
    fn may_sleep(&self, context: &mut ContextCore) -> bool {
        let is_asked = context.passivates() || self.life.sleep_requested && !context.is_working();
        is_asked && self.state.is_some() && !self.keeps()
    }
}

impl<A: Actor> Cell<A> {
    pub(crate) fn new(
        name: CellName,
        host: Arc<dyn CellHost<A>>,
        capacity: usize,
        state: Option<A>,
    ) -> Arc<Self> {
        let activation = match (&name, state) {
            (CellName::Entity(_), None) => None,
            (_, state) => Some(Activation::boxed(state, Due::Start)),
        };
        let used = if host.counts_use() {
            used_at(host.runtime())
        } else {
            0
        };
        Arc::new(Self {
            core: Core::new(name, used),
            host,
            inner: Mutex::new(Inner {
                mailbox: Mailbox::new(capacity),
                activation,
                status: Status::new(),
            }),
        })
    }

    pub(crate) fn name(&self) -> &CellName {
        &self.core.name
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        self.host.runtime()
    }

    pub(crate) fn address(self: &Arc<Self>) -> A::Address {
        self.host.address(self)
    }

    pub(crate) fn path(&self) -> ActorPath {
        self.core.path(self.host.kind())
    }

    /// Equal for the same cell.
    pub(crate) fn key(self: &Arc<Self>) -> *const () {
        Arc::as_ptr(self).cast()
    }

    /// Lets the cell run its start hook without waiting for a message.
    pub(crate) fn wake(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        let is_idle = inner.status.phase == Phase::Idle && inner.activation.is_none();
        if is_idle && self.core.is_entity() {
            inner.activation = Some(Activation::boxed(None, Due::Start));
        }
        self.schedule(inner);
    }

    pub(crate) fn signal(self: &Arc<Self>, signal: Signal) {
        let mut inner = lock(&self.inner);
        if inner.status.signal(signal, &self.core) == Then::Schedule {
            self.schedule(inner);
        }
    }

    /// Takes no more messages. The cell is to be closed as well.
    pub(crate) fn seal(&self) {
        lock(&self.inner).status.closing = true;
    }

    /// Whether it has closed: a fresh cell may take its place.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.inner).status.phase == Phase::Closed
    }

    /// Takes no more messages, handles the ones it has, runs the stop hook. Resolves when that is
    /// done.
    pub(crate) fn close(self: &Arc<Self>) -> oneshot::Receiver<()> {
        let (closed, on_closed) = oneshot::channel();
        let mut inner = lock(&self.inner);
        if inner.status.close(closed) == Then::Schedule {
            self.schedule(inner);
        }
        on_closed
    }

    /// As [`close`](Self::close), and awaits the end; but not in a handler that the end has to wait
    /// for, of the actor itself or of one of its children.
    pub(crate) async fn stop(self: &Arc<Self>) {
        let closed = self.close();
        if chain::here().is_some_and(|chain| chain.holds_up(self.key())) {
            return;
        }
        // An error means that it had stopped before.
        let _ = closed.await;
    }

    /// Ends the cell without hooks or answers: the actor may be somewhere else by now. Senders are
    /// told that it stopped.
    pub(crate) fn sever(self: &Arc<Self>) {
        self.core.sever();
        // As any other close; the run finds that the cell is severed.
        drop(self.close());
        self.wake_handler();
    }

    /// The cell should have closed by now: whatever awaits something in it is dropped, and messages
    /// that wait are turned away. Returns whether something awaits.
    pub(crate) fn hurry(self: &Arc<Self>) -> bool {
        let awaits = self.core.is_awaiting();
        self.core.set_overdue();
        self.signal(Signal::Overdue);
        self.wake_handler();
        awaits
    }

    /// Has a handler that awaits something look whether it may go on.
    pub(crate) fn wake_handler(&self) {
        if let Some(waker) = &lock(&self.inner).status.waker {
            waker.wake_by_ref();
        }
    }

    /// Whether the actor may handle a message, answer one, and send something away from this node.
    pub(crate) fn may_act(&self) -> bool {
        self.host
            .gate()
            .is_none_or(|gate| gate.is_open() && !self.core.is_severed())
    }

    /// Decides whether the actor may act. `None` where no other node could have it.
    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.host.gate()
    }

    /// Whether the actor's state goes along when the actor moves to another node.
    pub(crate) fn moves(&self) -> bool {
        self.host.packing().is_some()
    }

    /// The epoch under which the actor is here; [`Epoch::ZERO`] once it may be somewhere else, or
    /// might have been `since`.
    pub(crate) fn epoch(&self, since: Lapses) -> Epoch {
        self.core.epoch(&*self.host, since)
    }

    /// A message that came with its sender's place in a trace is about to be handled.
    #[cold]
    fn enter_span(&self, message: &'static str, relation: Relation) {
        let (actor, node) = (self.path(), &self.runtime().node);
        if let Some(span) = trace::handles(&actor, message, node, relation) {
            chain::enter_span(span);
        }
    }

    /// What a look at all cells sees of this one. `now`: on the runtime's coarse clock.
    pub(crate) fn glance(&self, now: u32) -> Glance {
        let inner = lock(&self.inner);
        Glance::new(&self.core, inner.status.phase, inner.mailbox.len(), now)
    }

    /// What the cell does.
    pub(crate) fn report(&self) -> CellReport {
        let now = self.runtime().coarse_millis();
        let (mut report, asks) = {
            let inner = lock(&self.inner);
            let (status, names) = (&inner.status, A::Message::NAMES);
            let mut report = report::report(status, inner.mailbox.len(), &self.core, names, now);
            let idle = inner.activation.as_ref().and_then(|it| it.state.as_ref());
            if A::IS_MACHINE
                && let Some(state) = idle
            {
                report.state = Some(state.state_name());
            }
            (report, status.seen.as_ref().map(|seen| seen.asks()))
        };
        // Without the lock: the names of their targets are made here.
        let asks = asks.unwrap_or_default();
        report.asks = asks.iter().filter_map(|ask| ask.pending()).collect();
        report
    }

    /// Tells `watcher` of the end of this cell, at once if it has ended.
    pub(crate) fn watch(&self, watcher: Watcher) {
        let kept = lock(&self.inner).status.watch(watcher);
        if let Err((watcher, reason)) = kept {
            watcher.tell(self.path(), reason);
        }
    }

    pub(crate) fn unwatch(&self, watch: WatchId) {
        lock(&self.inner).status.unwatch(watch);
    }

    /// The end: nothing may be queued from here on.
    fn finish(
        &self,
        mut inner: MutexGuard<'_, Inner<A>>,
        mut batch: VecDeque<Envelope<A>>,
        reason: &TerminatedReason,
    ) {
        let mut admitted = Vec::new();
        batch.extend(inner.mailbox.drain(&mut admitted));
        let rare = inner.status.closed(reason);
        drop(inner);
        self.host.closed(self);
        admit_all(admitted);
        for envelope in batch {
            self.undeliverable(envelope, Failure::Stopped);
        }
        self.core.ended(&*self.host, rare, reason);
    }
}

/// The time at which a cell is used, for [`Core::used`](core::Core): never 0.
fn used_at(runtime: &Runtime) -> u32 {
    runtime.coarse_millis().max(1)
}
