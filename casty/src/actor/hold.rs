//! What a handler of a stored entity lets out, and when it leaves.
//!
//! A handler runs at once, on a state that contains what earlier handlers have changed. Their
//! records may not be durable yet, and its own record is written after it. So nothing that it lets
//! out leaves before the record whose effect it has seen is durable. What becomes of
//!
//! - its *reply*: the run holds it until the record of the turn is durable;
//! - *`try_tell`* of a call or of `Shards`, by a reference of any kind: queued until then;
//! - *`tell().await`*, *an ask*, `retry_for`, a call of a protocol, `Shards::tell`,
//!   `ActorRef::stop`: waits until all that the handler has seen is durable and what was queued
//!   before has left, and then sends;
//! - *`ctx.spawn`*, `spawn_with`, `ActorSystem::spawn`: the start is queued among the messages, and
//!   the actor runs nothing before;
//! - *`Promise::reply`*, and a promise that is dropped: held until the record of the turn is
//!   durable. Even a reply that no asker waits for yet: the answer of an earlier turn may take it
//!   along;
//! - *`ctx.emit`*: held until then;
//! - *`ctx.pipe`*: the work begins then, and is free from there on;
//! - timers, `ctx.raise`, `Cancellable`: they reach this activation alone, which holds what it lets
//!   out because of them;
//! - `ctx.watch`, `unwatch`: no actor sees its watchers;
//! - `ctx.stop`, `passivate`: the run ends the activation after what it holds has left;
//! - `ctx.entity`, `myself`, `resource`: nothing is sent.
//!
//! A task that the handler spawns by itself, and effects on the outside world that it has by
//! itself, are out of casty's reach. Work belongs into `ctx.pipe`, or into `Effect::then`.
//!
//! *Order.* Messages, and starts of actors, leave in the order in which they were sent, those of
//! one turn before those of the next. What waits before it sends first lets out all that was queued
//! before, of this turn too: that condition is its own condition. So no message overtakes one to
//! the same target, and what is sent because of an answer comes after what was sent before the
//! question. A queued message thus leaves before the record of its turn where its handler awaits a
//! tell or an ask after it. It has seen nothing that is in no record: what a handler has changed
//! and not finished is undone if it fails, although others may have been told.
//!
//! *Bounds.* An activation queues [`QUEUED_MAX`] messages; a further `try_tell` finds no room. A
//! message that finds its target without room when it leaves holds up the ones behind it, and a
//! task waits for that room.
//!
//! *Losses.* If the record is not stored, or the handler fails, what was queued is lost: messages
//! as dead letters, promises as failures of their asks. What waits gets an error, and was not sent.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, select};
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

use crate::{
    actor::ask::chain::{self, WORKER},
    error::Failure,
    infra::{concurrent::spawn_on, mutants, panic, sync::lock},
    persistence::shard_log::{NotStored, Progress},
};

/// Messages that an activation queues.
const QUEUED_MAX: usize = 1024;

/// Outputs of one turn besides messages that are held, where more can be refused.
const HELD_MAX: usize = 1024;

/// An output that may have to wait.
pub(crate) trait Leave: Send {
    fn leave(self: Box<Self>);

    /// Its conditions will not be met. `why`: for the askers.
    fn lose(self: Box<Self>, why: &Failure);
}

/// An output with a place in the order of messages: a message, or the start of an actor.
pub(crate) trait Outgoing: Send {
    /// Sends it. Without room it gives what resolves once it is sent.
    fn send(self: Box<Self>) -> Option<BoxFuture<'static, ()>>;

    fn lose(self: Box<Self>, why: &Failure);
}

thread_local! {
    /// Whether a handler of a stored entity is being polled on this thread. Apart from the outlet:
    /// to look at a flag costs the handlers of other entities two instructions.
    static HOLDS: Cell<bool> = const { Cell::new(false) };

    static OUTLET: RefCell<Option<Arc<Outlet>>> = const { RefCell::new(None) };
}

/// Whether what is let out here has to wait.
#[inline]
pub(crate) fn is_on() -> bool {
    HOLDS.get()
}

/// The outlet of the handler that is being polled here.
#[cold]
pub(crate) fn here() -> Option<Arc<Outlet>> {
    OUTLET.with_borrow(Clone::clone)
}

/// Holds an output until the record of the turn is durable. Outside of such handlers it leaves now.
#[cold]
pub(crate) fn hold(output: Box<dyn Leave>) {
    match here() {
        Some(outlet) if outlet.swallows() => panic::contained("an output", || drop(output)),
        Some(outlet) => lock(&outlet.state).outputs.push(output),
        None => output.leave(),
    }
}

/// As [`hold`], for what may be lost if there is too much of it.
#[cold]
pub(crate) fn hold_if_room(what: &str, output: Box<dyn Leave>) {
    let has_room = |outlet: Arc<Outlet>| lock(&outlet.state).outputs.len() < HELD_MAX;
    if here().is_none_or(has_room) {
        hold(output);
    } else {
        tracing::warn!("a handler has let out more than {HELD_MAX} outputs; {what} is lost");
    }
}

/// Work that begins once the record of the turn is durable, and not at all if that is not stored.
#[cold]
pub(crate) fn begin_later(work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
    let (begin, begins) = oneshot::channel();
    hold(Box::new(Once(move || {
        // An error means that the work was cancelled.
        let _ = begin.send(());
    })));
    Box::pin(async move {
        if begins.await.is_ok() {
            work.await;
        }
    })
}

/// A function that is called when it may leave, and dropped when it is lost.
pub(crate) struct Once<F>(pub(crate) F);

impl<F: FnOnce() + Send> Leave for Once<F> {
    fn leave(self: Box<Self>) {
        (self.0)();
    }

    fn lose(self: Box<Self>, _: &Failure) {}
}

/// What a message that is sent now has to wait for. `None` outside of handlers of stored entities.
#[cold]
pub(crate) fn passage() -> Option<Passage> {
    let outlet = here()?;
    let (needs, after) = {
        let state = lock(&outlet.state);
        (state.needs, state.last)
    };
    Some(Passage {
        outlet,
        needs,
        after,
    })
}

/// Whether a message may be sent now.
#[cold]
pub(crate) fn may_send() -> bool {
    passage().is_none_or(|passage| passage.is_open())
}

/// Why a message that has waited too long was not sent. `None` if it did not wait for the store.
#[cold]
pub(crate) fn not_confirmed() -> Option<Failure> {
    let passage = passage()?;
    let waits = passage.outlet.progress.durable() < passage.needs;
    waits.then(|| {
        let reason = "the store has not confirmed in time what the handler has seen";
        not_stored(&NotStored::new(reason, true))
    })
}

/// The failure of an ask whose message was not sent.
#[cold]
pub(crate) fn unsent(failure: Failure) -> Failure {
    match failure {
        // What may be stored is not of this message.
        Failure::NotStored { reason, .. } => Failure::NotStored {
            reason,
            possibly: false,
        },
        Failure::NotEnoughCopies { missing, .. } => Failure::NotEnoughCopies {
            missing,
            possibly: false,
        },
        other => other,
    }
}

/// The failure of a message that was not sent for this reason.
fn not_stored(why: &NotStored) -> Failure {
    why.failure(why.possibly)
}

/// The condition of one message that a handler sends now.
pub(crate) struct Passage {
    outlet: Arc<Outlet>,
    /// The record that has to be durable.
    needs: u64,
    /// The queued message that has to leave before.
    after: u64,
}

impl Passage {
    /// Whether the message may be sent. Lets out what was queued before it, if so.
    fn is_open(&self) -> bool {
        if self.swallows() {
            return false;
        }
        let progress = &self.outlet.progress;
        let is_durable = progress.durable() >= self.needs && progress.failed().is_none();
        if !is_durable && !mutants::on("a_handler_sends_before_what_it_saw_is_durable") {
            return false;
        }
        self.outlet.let_out(self.after);
        lock(&self.outlet.state).has_left(self.after)
    }

    /// Whether the message is not to be sent, and to seem to be.
    pub(crate) fn swallows(&self) -> bool {
        self.outlet.swallows()
    }

    /// Resolves once the message may be sent.
    ///
    /// # Errors
    /// What the handler has seen is not stored: the message is not to be sent.
    pub(crate) async fn open(self) -> Result<(), Failure> {
        let outlet = &self.outlet;
        if self.swallows() {
            return Err(Failure::Stopped);
        }
        loop {
            let mut stored = pin!(outlet.progress.changed().notified());
            let mut left = pin!(outlet.left.notified());
            stored.as_mut().enable();
            left.as_mut().enable();
            if let Some(why) = outlet.progress.failed() {
                return Err(not_stored(why));
            }
            if self.is_open() {
                return Ok(());
            }
            select(stored, left).await;
        }
    }
}

/// What the handlers of one activation let out, as far as it has not left.
pub(crate) struct Outlet {
    progress: Arc<Progress>,
    handle: Handle,
    state: Mutex<State>,
    /// Notified when messages have left, or are lost.
    left: Notify,
    /// Nothing leaves, and it seems to: in a replay.
    #[cfg(feature = "testkit")]
    swallows: bool,
}

#[derive(Default)]
struct State {
    /// The last record that the present handler has seen.
    needs: u64,
    /// Those of the present handler.
    outputs: Vec<Box<dyn Leave>>,
    /// Of all turns, with their numbers.
    queue: VecDeque<(u64, Box<dyn Outgoing>)>,
    /// The number of the last one that was queued.
    last: u64,
    /// The number of the last one that may leave.
    may_leave: u64,
    /// The number of the one that is being sent, which may wait for room.
    sending: Option<u64>,
}

impl State {
    /// Takes the next message that may leave.
    fn next(&mut self) -> Option<Box<dyn Outgoing>> {
        let may_leave = self.may_leave;
        let first = self.queue.front().map(|(number, _)| *number);
        let may = first.is_some_and(|number| number <= may_leave);
        let (number, message) = may.then(|| self.queue.pop_front()).flatten().unzip();
        self.sending = number;
        message
    }

    /// Whether all messages up to this number have left.
    fn has_left(&self, through: u64) -> bool {
        let first = self.sending.or(self.queue.front().map(|(first, _)| *first));
        first.is_none_or(|first| first > through)
    }
}

impl Outlet {
    /// That of an activation whose records `progress` follows. `handle`: of the runtime of
    /// handlers.
    pub(crate) fn new(progress: Arc<Progress>, handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            progress,
            handle,
            state: Mutex::default(),
            left: Notify::new(),
            #[cfg(feature = "testkit")]
            swallows: false,
        })
    }

    /// One that nothing ever leaves, although it seems to.
    #[cfg(feature = "testkit")]
    pub(crate) fn sink(handle: Handle) -> Arc<Self> {
        Arc::new(Self {
            progress: Arc::default(),
            handle,
            state: Mutex::default(),
            left: Notify::new(),
            swallows: true,
        })
    }

    #[cfg(feature = "testkit")]
    const fn swallows(&self) -> bool {
        self.swallows
    }

    #[cfg(not(feature = "testkit"))]
    #[expect(clippy::unused_self, reason = "it is a field in tests")]
    const fn swallows(&self) -> bool {
        false
    }

    pub(crate) fn has_room(&self) -> bool {
        lock(&self.state).queue.len() < QUEUED_MAX
    }

    /// Queues a message. It leaves when the record of the present turn is durable, or right before
    /// what the handler sends later and awaits.
    pub(crate) fn queue(&self, message: Box<dyn Outgoing>) {
        if self.swallows() {
            return panic::contained("a message", || drop(message));
        }
        let mut state = lock(&self.state);
        state.last += 1;
        let number = state.last;
        state.queue.push_back((number, message));
    }

    /// Sends the messages up to this number, in order.
    fn let_out(self: &Arc<Self>, through: u64) {
        {
            let mut state = lock(&self.state);
            state.may_leave = state.may_leave.max(through);
            if state.sending.is_some() {
                return;
            }
        }
        let Some(waits) = self.send_some() else {
            return;
        };
        let rest = self.clone().send_all(waits);
        match chain::acting() {
            // What may act only under a lease may send only under it.
            Some(cell) => spawn_on(&self.handle, WORKER.scope(cell, rest)),
            None => spawn_on(&self.handle, rest),
        }
    }

    /// Sends messages until one finds no room: that one resolves once it is sent.
    fn send_some(&self) -> Option<BoxFuture<'static, ()>> {
        loop {
            let next = lock(&self.state).next();
            let Some(message) = next else {
                self.left.notify_waiters();
                return None;
            };
            let mut waits = None;
            panic::contained("a message", || waits = message.send());
            if waits.is_some() {
                return waits;
            }
        }
    }

    /// The same, and waits for room.
    async fn send_all(self: Arc<Self>, waits: BoxFuture<'static, ()>) {
        let mut next = Some(waits);
        while let Some(waits) = next {
            waits.await;
            next = self.send_some();
        }
    }

    /// Gives up the messages after the number `after`, up to `through`, that have not left.
    fn lose(&self, after: u64, through: u64, why: &Failure) {
        let lost = {
            let mut state = lock(&self.state);
            let is_lost = |number: u64| number > after && number <= through;
            let (lost, kept) = std::mem::take(&mut state.queue)
                .into_iter()
                .partition::<VecDeque<_>, _>(|(number, _)| is_lost(*number));
            state.queue = kept;
            lost
        };
        for (_, message) in lost {
            panic::contained("a message", || message.lose(why));
        }
        self.left.notify_waiters();
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// The messages of one turn that were queued.
struct Messages {
    outlet: Arc<Outlet>,
    after: u64,
    through: u64,
}

impl Leave for Messages {
    fn leave(self: Box<Self>) {
        self.outlet.let_out(self.through);
    }

    fn lose(self: Box<Self>, why: &Failure) {
        self.outlet.lose(self.after, self.through, why);
    }
}

/// Holds what one handler, or hook, of a stored entity lets out.
pub(crate) struct Holding {
    outlet: Arc<Outlet>,
    /// The number of the last message that was queued before.
    after: u64,
    is_taken: bool,
}

impl Holding {
    /// `applied`: the number of the last record whose effect is in the state.
    pub(crate) fn new(outlet: &Arc<Outlet>, applied: u64) -> Self {
        let after = {
            let mut state = lock(&outlet.state);
            state.needs = applied;
            state.last
        };
        Self {
            outlet: outlet.clone(),
            after,
            is_taken: false,
        }
    }

    /// The handler, which lets nothing out while it is polled.
    pub(crate) fn lets<F>(&self, handler: F) -> WhileHeld<'_, F> {
        WhileHeld {
            outlet: &self.outlet,
            handler,
        }
    }

    /// What was held. It leaves before the answer, once the record of the turn is durable; it is
    /// lost where the handler has failed.
    pub(crate) fn take(mut self) -> Vec<Box<dyn Leave>> {
        self.end()
    }

    fn end(&mut self) -> Vec<Box<dyn Leave>> {
        self.is_taken = true;
        let (mut outputs, through) = {
            let mut state = lock(&self.outlet.state);
            (std::mem::take(&mut state.outputs), state.last)
        };
        if through > self.after {
            let messages = Messages {
                outlet: self.outlet.clone(),
                after: self.after,
                through,
            };
            outputs.insert(0, Box::new(messages));
        }
        outputs
    }
}

impl Drop for Holding {
    /// The run was dropped while the handler awaited something.
    fn drop(&mut self) {
        if !self.is_taken {
            for output in self.end() {
                output.lose(&Failure::Stopped);
            }
        }
    }
}

pin_project! {
    pub(crate) struct WhileHeld<'a, F> {
        outlet: &'a Arc<Outlet>,
        #[pin]
        handler: F,
    }
}

impl<F: Future> Future for WhileHeld<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        struct Restore(Option<Arc<Outlet>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                HOLDS.set(self.0.is_some());
                OUTLET.set(self.0.take());
            }
        }
        let this = self.project();
        let _restore = Restore(OUTLET.replace(Some((*this.outlet).clone())));
        HOLDS.set(true);
        this.handler.poll(cx)
    }
}

#[cfg(test)]
mod tests;
