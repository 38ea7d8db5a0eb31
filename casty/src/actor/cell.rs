//! A cell: one actor's mailbox, state and run.
//!
//! An idle cell owns no task. The message that finds it idle spawns a run; the run handles messages until there
//! are none, puts the state back and ends. So at any time at most one task touches the state.

use std::{
    any::Any,
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Actor, HookError, Message,
    context::Context,
    envelope::{Envelope, RemoteReply, ReplyTo},
    handled::Handled,
    mailbox::{Mailbox, Ticket},
    runtime::Runtime,
};
use crate::{
    error::Failure,
    event::{ActorPath, Event},
    id::EntityId,
    message::{answer::Credit, codec},
    sync::lock,
};

/// Messages handled before a run lets other tasks have the thread.
const BATCH: usize = 64;

/// How long a failing `#[init]` is left alone: doubled each time, up to the second value.
const INIT_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Which actor a cell is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CellName {
    Entity(EntityId),
    Actor(u64),
}

/// What a cell needs to know of where it lives.
pub(crate) trait CellHost<A: Actor>: Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// The wire name of the actor's type, as registered.
    fn kind(&self) -> &str;

    fn address(&self, cell: &Arc<Cell<A>>) -> A::Address;

    /// Makes a fresh state; `None` where only the one who spawned the actor could.
    fn init<'a>(&'a self, ctx: &'a mut Context<A>) -> Option<BoxFuture<'a, Result<A, HookError>>>;

    /// The cell takes no more messages and can be forgotten.
    fn closed(&self, cell: &Cell<A>);
}

/// Why a cell did not take an envelope.
pub(crate) enum Refusal<A: Actor> {
    Full(Envelope<A>),
    /// It has stopped, or is about to. A fresh cell may take its place.
    Closed(Envelope<A>),
    /// Its `#[init]` failed a moment ago.
    Failing(Envelope<A>, Failure),
}

/// Who waits for room in a mailbox.
pub(crate) enum Waiter {
    Teller(oneshot::Sender<()>),
    /// A message that came over a connection; dropped, it lets the sender send more.
    Credit(#[expect(dead_code, reason = "held for its drop")] Option<Credit>),
}

impl Waiter {
    fn admit(self) {
        if let Self::Teller(teller) = self {
            // An error means that the teller stopped waiting, in the moment its message was taken.
            let _ = teller.send(());
        }
    }
}

pub(crate) struct Cell<A: Actor> {
    name: CellName,
    host: Arc<dyn CellHost<A>>,
    inner: Mutex<Inner<A>>,
}

struct Inner<A: Actor> {
    mailbox: Mailbox<Envelope<A>, Waiter>,
    phase: Phase,
    /// Takes no more messages; closes once the mailbox is empty.
    closing: bool,
    /// Here while idle, with the run otherwise.
    activation: Option<Box<Activation<A>>>,
    on_closed: Vec<oneshot::Sender<()>>,
    failing: Option<Box<Failing>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Running,
    Closed,
}

struct Activation<A: Actor> {
    state: Option<A>,
    started: bool,
    batch: VecDeque<Envelope<A>>,
    /// Kept by the present state, in order.
    stash: VecDeque<Envelope<A>>,
}

struct Failing {
    until: Instant,
    backoff: Duration,
    reason: String,
}

impl<A: Actor> Cell<A> {
    pub(crate) fn new(
        name: CellName,
        host: Arc<dyn CellHost<A>>,
        capacity: usize,
        state: Option<A>,
    ) -> Arc<Self> {
        let activation = state.map(|state| {
            Box::new(Activation {
                state: Some(state),
                started: false,
                batch: VecDeque::new(),
                stash: VecDeque::new(),
            })
        });
        Arc::new(Self {
            name,
            host,
            inner: Mutex::new(Inner {
                mailbox: Mailbox::new(capacity),
                phase: Phase::Idle,
                closing: false,
                activation,
                on_closed: Vec::new(),
                failing: None,
            }),
        })
    }

    pub(crate) fn name(&self) -> &CellName {
        &self.name
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        self.host.runtime()
    }

    pub(crate) fn address(self: &Arc<Self>) -> A::Address {
        self.host.address(self)
    }

    pub(crate) fn path(&self) -> ActorPath {
        let id = match &self.name {
            CellName::Entity(id) => id.to_string(),
            CellName::Actor(number) => number.to_string(),
        };
        ActorPath {
            kind: self.host.kind().to_owned(),
            id,
        }
    }

    /// Queues an envelope, or says why not.
    pub(crate) fn push(self: &Arc<Self>, envelope: Envelope<A>) -> Result<(), Refusal<A>> {
        let mut inner = lock(&self.inner);
        let envelope = inner.admit(envelope)?;
        inner.mailbox.offer(envelope).map_err(Refusal::Full)?;
        self.schedule(inner);
        Ok(())
    }

    /// Queues an envelope that came over a connection. Where there is no room it waits its turn, and so does the
    /// credit that lets the other side send more.
    pub(crate) fn push_credited(
        self: &Arc<Self>,
        envelope: Envelope<A>,
        credit: impl FnOnce() -> Option<Credit>,
    ) -> Result<(), Refusal<A>> {
        let mut inner = lock(&self.inner);
        let envelope = inner.admit(envelope)?;
        inner.mailbox.park(envelope, || Waiter::Credit(credit()));
        self.schedule(inner);
        Ok(())
    }

    /// Queues an envelope as soon as there is room. Dropping the future withdraws it.
    pub(crate) async fn push_wait(
        self: &Arc<Self>,
        envelope: Envelope<A>,
    ) -> Result<(), Refusal<A>> {
        let (admitted, mut admission) = oneshot::channel();
        let parking = {
            let mut inner = lock(&self.inner);
            let envelope = inner.admit(envelope)?;
            let ticket = inner.mailbox.park(envelope, || Waiter::Teller(admitted));
            self.schedule(inner);
            match ticket {
                Some(ticket) => Parking { cell: self, ticket },
                None => return Ok(()),
            }
        };
        // An error would mean that the cell dropped the waiter unadmitted, which it never does.
        let _ = (&mut admission).await;
        std::mem::forget(parking);
        Ok(())
    }

    /// Lets the cell run its start hook without waiting for a message.
    pub(crate) fn wake(self: &Arc<Self>) {
        self.schedule(lock(&self.inner));
    }

    fn schedule(self: &Arc<Self>, mut inner: std::sync::MutexGuard<'_, Inner<A>>) {
        if inner.phase == Phase::Idle {
            inner.phase = Phase::Running;
            drop(inner);
            self.runtime().spawn(run(self.clone()));
        }
    }

    /// Takes no more messages, handles the ones it has, runs the stop hook. Resolves when that is done.
    pub(crate) fn close(self: &Arc<Self>) -> oneshot::Receiver<()> {
        let (closed, on_closed) = oneshot::channel();
        let mut inner = lock(&self.inner);
        if inner.phase != Phase::Closed {
            inner.closing = true;
            inner.on_closed.push(closed);
            self.schedule(inner);
        }
        on_closed
    }

    /// Says what became of an envelope that nobody will handle.
    pub(crate) fn undeliverable(&self, envelope: Envelope<A>, failure: Failure) {
        undeliverable(self.runtime(), || self.path(), envelope, failure);
    }

    /// The end: nothing may be queued from here on.
    fn finish(
        &self,
        mut inner: std::sync::MutexGuard<'_, Inner<A>>,
        mut batch: VecDeque<Envelope<A>>,
    ) {
        let mut admitted = Vec::new();
        batch.extend(inner.mailbox.drain(&mut admitted));
        inner.phase = Phase::Closed;
        let on_closed = std::mem::take(&mut inner.on_closed);
        drop(inner);
        self.host.closed(self);
        admitted.into_iter().for_each(Waiter::admit);
        for envelope in batch {
            self.undeliverable(envelope, Failure::Stopped);
        }
        for closed in on_closed {
            let _ = closed.send(());
        }
    }

    async fn activate(
        &self,
        ctx: &mut Context<A>,
        activation: &mut Activation<A>,
    ) -> Result<(), Failure> {
        if activation.state.is_none() {
            let Some(init) = self.host.init(ctx) else {
                return Err(Failure::Stopped);
            };
            let made = AssertUnwindSafe(init).catch_unwind().await;
            let reason = match made {
                Ok(Ok(state)) => {
                    activation.state = Some(state);
                    None
                }
                Ok(Err(HookError(reason))) => Some(reason),
                Err(panic) => Some(format!("`#[init]` panicked: {}", panic_text(&*panic))),
            };
            if let Some(reason) = reason {
                return Err(Failure::Init { reason });
            }
            activation.started = false;
        }
        if !activation.started
            && let Some(state) = &mut activation.state
        {
            let hook = AssertUnwindSafe(state.on_start(ctx)).catch_unwind().await;
            let reason = match hook {
                Ok(Ok(())) => None,
                Ok(Err(HookError(reason))) => Some(reason),
                Err(panic) => Some(format!("`#[on_start]` panicked: {}", panic_text(&*panic))),
            };
            if let Some(reason) = reason {
                activation.state = None;
                return Err(Failure::Init { reason });
            }
            activation.started = true;
            self.runtime().publish(|| Event::ActorStarted(self.path()));
        }
        lock(&self.inner).failing = None;
        Ok(())
    }

    async fn deactivate(&self, ctx: &mut Context<A>, activation: &mut Activation<A>) {
        if let Some(mut state) = activation.state.take() {
            if activation.started {
                let hook = AssertUnwindSafe(state.on_stop(ctx)).catch_unwind().await;
                let reason = match hook {
                    Ok(Ok(())) => None,
                    Ok(Err(HookError(reason))) => Some(reason),
                    Err(panic) => Some(panic_text(&*panic)),
                };
                if let Some(reason) = reason {
                    tracing::error!(actor = %self.path(), reason, "#[on_stop] failed");
                }
                self.runtime().publish(|| Event::ActorStopped(self.path()));
            }
            activation.started = false;
        }
    }
}

impl<A: Actor> Inner<A> {
    /// Gives the envelope back if a fresh cell, or nobody, should have it.
    fn admit(&self, envelope: Envelope<A>) -> Result<Envelope<A>, Refusal<A>> {
        if self.phase == Phase::Closed || self.closing {
            return Err(Refusal::Closed(envelope));
        }
        match self.failure() {
            Some(failure) => Err(Refusal::Failing(envelope, failure)),
            None => Ok(envelope),
        }
    }

    fn failure(&self) -> Option<Failure> {
        let failing = self.failing.as_ref()?;
        (Instant::now() < failing.until).then(|| Failure::Init {
            reason: failing.reason.clone(),
        })
    }
}

/// A parked envelope; dropped before it is admitted, it leaves the mailbox.
struct Parking<'a, A: Actor> {
    cell: &'a Arc<Cell<A>>,
    ticket: Ticket,
}

impl<A: Actor> Drop for Parking<'_, A> {
    fn drop(&mut self) {
        let withdrawn = lock(&self.cell.inner).mailbox.withdraw(self.ticket);
        drop(withdrawn);
    }
}

enum Step {
    Handle,
    Close,
    /// Nothing to do, but there was: whoever was answered may send again in a moment, and finds a run that costs
    /// less than a new one.
    Linger,
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

async fn run<A: Actor>(cell: Arc<Cell<A>>) {
    let mut ctx = Context::new(cell.clone());
    let mut activation = lock(&cell.inner).activation.take().unwrap_or_else(|| {
        Box::new(Activation {
            state: None,
            started: false,
            batch: VecDeque::new(),
            stash: VecDeque::new(),
        })
    });
    let mut worked = false;
    loop {
        let mut admitted = Vec::new();
        let step = {
            let mut inner = lock(&cell.inner);
            inner
                .mailbox
                .take(BATCH, &mut activation.batch, &mut admitted);
            if cell.runtime().is_stopped() {
                // Nothing more is handled; whoever waits is told.
                let batch = std::mem::take(&mut activation.batch);
                cell.finish(inner, batch);
                admitted.into_iter().for_each(Waiter::admit);
                return;
            }
            let starting = activation.state.is_some() && !activation.started;
            if !activation.batch.is_empty() || starting {
                Step::Handle
            } else if inner.closing {
                Step::Close
            } else if worked {
                worked = false;
                Step::Linger
            } else {
                if activation.batch.capacity() > BATCH {
                    activation.batch = VecDeque::new();
                }
                inner.mailbox.shrink();
                inner.activation = Some(activation);
                inner.phase = Phase::Idle;
                return;
            }
        };
        admitted.into_iter().for_each(Waiter::admit);

        match step {
            Step::Close => {
                cell.deactivate(&mut ctx, &mut activation).await;
                let inner = lock(&cell.inner);
                cell.finish(inner, VecDeque::new());
                return;
            }
            Step::Linger => linger().await,
            Step::Handle => {
                worked = true;
                let full = activation.batch.len() >= BATCH;
                if !handle_batch(&cell, &mut ctx, &mut activation).await {
                    return;
                }
                if full {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}

/// Handles what the run holds. `false`: the cell has closed.
async fn handle_batch<A: Actor>(
    cell: &Arc<Cell<A>>,
    ctx: &mut Context<A>,
    activation: &mut Activation<A>,
) -> bool {
    if (activation.state.is_none() || !activation.started)
        && let Err(failure) = cell.activate(ctx, activation).await
    {
        return activation_failed(cell, activation, failure);
    }
    while let Some(Envelope { message, reply }) = activation.batch.pop_front() {
        let Some(state) = activation.state.as_mut() else {
            return true;
        };
        let name = message.name();
        let handled = AssertUnwindSafe(state.handle(message, ctx))
            .catch_unwind()
            .await;
        match handled {
            Ok(Handled::Reply(answer)) => reply.answer(answer),
            Ok(Handled::Later(settle)) => (settle.0)(reply),
            Ok(Handled::Unhandled { state, silent }) => {
                unhandled(cell, state, silent, name, reply);
            }
            Ok(Handled::Stash(message)) => stash(cell, activation, Envelope { message, reply }),
            Err(panic) => {
                let message = panic_text(&*panic);
                panicked(cell, activation, name, reply, message);
                return resume(cell, activation);
            }
        }
        if ctx.take_transition() && !activation.stash.is_empty() {
            // What was kept came before everything that is still in the batch.
            activation.stash.append(&mut activation.batch);
            std::mem::swap(&mut activation.stash, &mut activation.batch);
        }
        if ctx.take_stop() {
            cell.deactivate(ctx, activation).await;
            return resume(cell, activation);
        }
    }
    true
}

fn unhandled<A: Actor>(
    cell: &Cell<A>,
    state: &str,
    silent: bool,
    message: &str,
    reply: ReplyTo<A::Reply>,
) {
    let failure = Failure::Unhandled {
        state: state.to_owned(),
        message: message.to_owned(),
    };
    if !reply.is_nobody() {
        reply.fail(failure);
    } else if !silent {
        cell.runtime()
            .dead_letter(cell.path(), message, failure.into());
    }
}

fn stash<A: Actor>(cell: &Cell<A>, activation: &mut Activation<A>, envelope: Envelope<A>) {
    if activation.stash.len() < A::POLICY.stash {
        activation.stash.push_back(envelope);
    } else {
        cell.undeliverable(envelope, Failure::Full);
    }
}

/// After an activation ended by itself: an entity goes on with a fresh one if there is more to do, an actor is over.
fn resume<A: Actor>(cell: &Arc<Cell<A>>, activation: &mut Activation<A>) -> bool {
    let inner = lock(&cell.inner);
    let entity = matches!(cell.name, CellName::Entity(_));
    let more = !activation.batch.is_empty() || !inner.mailbox.is_empty();
    if entity && more {
        return true;
    }
    cell.finish(inner, std::mem::take(&mut activation.batch));
    false
}

fn panicked<A: Actor>(
    cell: &Cell<A>,
    activation: &mut Activation<A>,
    name: &'static str,
    reply: ReplyTo<A::Reply>,
    message: String,
) {
    tracing::error!(actor = %cell.path(), message = name, panic = message, "a handler panicked");
    let failure = Failure::Panicked { message };
    if reply.is_nobody() {
        cell.runtime()
            .dead_letter(cell.path(), name, failure.into());
    } else {
        reply.fail(failure);
    }
    // A state that a panic left half changed is not trusted; dropping it may panic as well.
    let state = activation.state.take();
    activation.started = false;
    if std::panic::catch_unwind(AssertUnwindSafe(|| drop(state))).is_err() {
        tracing::error!(actor = %cell.path(), "dropping the state panicked");
    }
    cell.runtime().publish(|| Event::ActorStopped(cell.path()));
}

/// Tells everybody who waits, and leaves the entity alone for a while.
fn activation_failed<A: Actor>(
    cell: &Arc<Cell<A>>,
    activation: &mut Activation<A>,
    failure: Failure,
) -> bool {
    tracing::warn!(actor = %cell.path(), %failure, "not started");
    let batch = std::mem::take(&mut activation.batch);
    let mut inner = lock(&cell.inner);
    if matches!(cell.name, CellName::Actor(_)) {
        cell.finish(inner, batch);
        return false;
    }
    let reason = match &failure {
        Failure::Init { reason } => reason.clone(),
        other => other.to_string(),
    };
    let backoff = inner.failing.as_ref().map_or(INIT_BACKOFF.0, |failing| {
        (failing.backoff * 2).min(INIT_BACKOFF.1)
    });
    inner.failing = Some(Box::new(Failing {
        until: Instant::now() + backoff,
        backoff,
        reason,
    }));
    drop(inner);
    for envelope in batch {
        cell.undeliverable(envelope, failure.clone());
    }
    true
}

/// Says what became of an envelope that nobody will handle: to its asker, or else as a dead letter.
pub(crate) fn undeliverable<A: Actor>(
    runtime: &Runtime,
    to: impl FnOnce() -> ActorPath,
    envelope: Envelope<A>,
    failure: Failure,
) {
    if envelope.reply.is_nobody() {
        runtime.dead_letter(to(), envelope.message.name(), failure.into());
    } else {
        envelope.reply.fail(failure);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}

/// A cell of any type, for messages that come over a connection.
pub(crate) trait AnyCell: Send + Sync {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        reply: Option<RemoteReply>,
        credit: &mut dyn FnMut() -> Option<Credit>,
    );

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()>;

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<A: Actor> AnyCell for Cell<A> {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        reply: Option<RemoteReply>,
        credit: &mut dyn FnMut() -> Option<Credit>,
    ) {
        let decoded = self
            .runtime()
            .enter(|| codec::decode::<A::Message>(payload));
        let reply = reply.map_or(ReplyTo::Nobody, ReplyTo::Remote);
        let refusal = match decoded {
            Ok(message) => self.push_credited(Envelope { message, reply }, credit),
            Err(codec::DecodeError(reason)) => {
                let name = codec::variant_name(payload).unwrap_or("?");
                undecodable(self.runtime(), || self.path(), name, reply, reason);
                Ok(())
            }
        };
        match refusal {
            Ok(()) => {}
            Err(Refusal::Failing(envelope, failure)) => self.undeliverable(envelope, failure),
            Err(Refusal::Full(envelope) | Refusal::Closed(envelope)) => {
                self.undeliverable(envelope, Failure::Stopped);
            }
        }
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        let closed = Self::close(&self);
        Box::pin(async move { drop(closed.await) })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Says that a message from another node could not be read.
pub(crate) fn undecodable<R: super::Reply>(
    runtime: &Runtime,
    to: impl FnOnce() -> ActorPath,
    message: &str,
    reply: ReplyTo<R>,
    reason: String,
) {
    let failure = Failure::Undecodable {
        message: message.to_owned(),
        reason,
    };
    if reply.is_nobody() {
        runtime.dead_letter(to(), message, failure.into());
    } else {
        reply.fail(failure);
    }
}
