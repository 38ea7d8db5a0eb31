//! A cell: one actor's mailbox, state and run.
//!
//! An idle cell owns no task. The message that finds it idle spawns a [`run`]; the run handles
//! messages until there are none, puts the state back and ends. So at any time at most one task
//! touches the state. What becomes of an activation that fails is [`life`]'s business.

mod erased;
pub(crate) mod gate;
mod life;
pub(crate) mod mailbox;
pub(crate) mod policy;
mod run;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Waker,
};

use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

pub(crate) use crate::actor::cell::{
    erased::{AnyCell, undecodable},
    run::panic_text,
};
use crate::{
    actor::{
        Actor, FirstState,
        ask::chain::Chain,
        cell::{
            gate::Gate,
            mailbox::{Mailbox, Ticket},
            policy::Overflow,
        },
        context::{
            Context,
            activation_scope::ActivationScope,
            watch::{WatchId, Watcher},
        },
        envelope::{Envelope, Own, ReplyTo},
        runtime::Runtime,
        tasks::{lingering::RecentRuns, throttle::Throttle},
    },
    error::Failure,
    event::{ActorPath, Terminated, TerminatedReason},
    id::{EntityId, Epoch},
    infra::sync::lock,
    message::answer::Credit,
    protocol::supervision::Supervisor,
};

/// Which actor a cell is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// Makes a fresh state; `None` where only the one who spawned the actor could. It may panic, as
    /// users' code does.
    fn init<'a>(&'a self, ctx: &'a mut Context<A>) -> Option<FirstState<'a, A>>;

    /// Whether [`init`](Self::init) makes a state.
    fn can_init(&self) -> bool;

    /// The actor that spawned this one, if it still lives.
    fn parent(&self) -> Option<Arc<dyn AnyCell>>;

    /// The cell takes no more messages and can be forgotten.
    fn closed(&self, cell: &Cell<A>);

    /// What decides whether the actor may act, if anything does.
    fn gate(&self) -> Option<&Arc<Gate>> {
        None
    }

    /// Whose turn it is to pack a state that goes on somewhere else, if that is worth a turn.
    fn packing(&self) -> Option<&Throttle> {
        None
    }

    /// The last activation has ended, in order, with this state, which may go on somewhere else.
    fn ended(&self, cell: &Cell<A>, state: &A) {
        let _ = (cell, state);
    }

    /// The epoch under which the actor is here.
    fn epoch(&self, cell: &Cell<A>) -> Epoch {
        let _ = cell;
        Epoch::ZERO
    }
}

/// Why a cell did not take an envelope.
pub(crate) enum Refusal<A: Actor> {
    Full(Envelope<A>),
    /// It has stopped, or is about to. A fresh cell may take its place.
    Closed(Envelope<A>),
    /// It takes no messages just now, or not this one.
    Failing(Envelope<A>, Failure),
}

/// An envelope that came over a connection.
pub(crate) struct Arrived<A: Actor> {
    pub(crate) envelope: Envelope<A>,
    /// That it takes of the sender's window.
    pub(crate) bytes: usize,
    /// Where its frame is, in what was read with it.
    pub(crate) at: usize,
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

/// What an actor is told besides messages. Handled before them.
///
/// Their number is bounded by what the actor itself did: one for each watch, a few for each child.
pub(crate) enum Signal {
    /// Someone it watches has ended.
    Terminated(WatchId, Terminated),
    Child(u64, ChildEvent),
    /// Work, or a timer, of the activation with this number panicked.
    WorkFailed(u32, String),
    /// It is to start afresh, since another child of its parent failed.
    Restart,
    /// It was last used so long ago, by [`Cell::last_used`], that it may sleep.
    Passivate(u32),
}

/// What a child tells its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChildEvent {
    /// It failed, and goes on.
    Restarts,
    /// It failed, and that ends it.
    Fails,
    /// It failed, it ends, and its parent shall fail of it.
    Escalates(String),
    /// It has ended.
    Ended,
}

pub(crate) struct Cell<A: Actor> {
    name: CellName,
    /// There may be signals: looked at between two messages, without the lock.
    signalled: AtomicBool,
    /// It may be somewhere else by now, so it does nothing any more.
    severed: AtomicBool,
    /// When the last message from outside, or result of work, was handled, on the runtime's coarse
    /// clock.
    used: AtomicU32,
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
    /// Of a run that waits.
    waker: Option<Waker>,
    warmth: RecentRuns,
    /// How long the run has waited, where it waits.
    wait: Wait,
    // Boxed: most cells never need it.
    rare: Option<Box<Rare>>,
}

/// What few cells have.
#[derive(Default)]
struct Rare {
    signals: VecDeque<Signal>,
    watchers: Vec<Watcher>,
    on_closed: Vec<oneshot::Sender<()>>,
    /// Until when it takes no messages, and what is said to their senders.
    failing: Option<(Instant, Failure)>,
    /// Ends the pause of a run.
    interrupt: Option<Arc<Notify>>,
    ended: Option<TerminatedReason>,
}

impl Rare {
    /// What a sender is told while the cell takes no messages.
    fn refusal(&self) -> Option<Failure> {
        let (until, failure) = self.failing.as_ref()?;
        let left = until.checked_duration_since(Instant::now())?;
        if left.is_zero() {
            return None;
        }
        let mut failure = failure.clone();
        if let Failure::Quarantined { retry_after, .. } = &mut failure {
            *retry_after = left;
        }
        Some(failure)
    }
}

/// Why an envelope is not admitted.
pub(crate) enum No {
    Closed,
    Failing(Failure),
}

impl No {
    fn refuse<A: Actor>(self, envelope: Envelope<A>) -> Refusal<A> {
        match self {
            Self::Closed => Refusal::Closed(envelope),
            Self::Failing(failure) => Refusal::Failing(envelope, failure),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no run.
    Idle,
    Running,
    /// The run waits for the next message, or signal.
    Waiting,
    /// The run waits for a time to pass, whatever comes.
    Paused,
    /// The run waits for a time to pass, or a message.
    Resting,
    Closed,
}

/// How long a run has waited, seen by
/// [`LingeringRuns`](crate::actor::tasks::lingering::LingeringRuns).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Short,
    /// Since the last look.
    Long,
    /// It is to end as soon as it has nothing to do: nobody looks after it any more.
    Over,
}

struct Activation<A: Actor> {
    state: Option<A>,
    started: bool,
    due: Due,
    /// Which activation of the cell this is: what an earlier one scheduled does not concern it.
    number: u32,
    /// Kept by the present state, in order. Boxed: most activations never keep anything.
    #[expect(clippy::box_collection, reason = "three words less in each idle cell")]
    stash: Option<Box<VecDeque<Envelope<A>>>>,
    attached: Option<Box<ActivationScope>>,
    /// Once there was a failure.
    supervisor: Option<Box<Supervisor>>,
}

/// What happens to the state without waiting for a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// It is made, and started.
    Start,
    /// The same, after a failure.
    Restart,
}

impl<A: Actor> Activation<A> {
    fn boxed(state: Option<A>) -> Box<Self> {
        Box::new(Self {
            state,
            started: false,
            due: Due::Nothing,
            number: 0,
            stash: None,
            attached: None,
            supervisor: None,
        })
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
            (_, state) => {
                let mut activation = Activation::boxed(state);
                activation.due = Due::Start;
                Some(activation)
            }
        };
        let used = if counts_use::<A>() {
            host.runtime().coarse_millis()
        } else {
            0
        };
        Arc::new(Self {
            name,
            signalled: AtomicBool::new(false),
            severed: AtomicBool::new(false),
            used: AtomicU32::new(used),
            host,
            inner: Mutex::new(Inner {
                mailbox: Mailbox::new(capacity),
                phase: Phase::Idle,
                closing: false,
                activation,
                waker: None,
                warmth: RecentRuns::default(),
                wait: Wait::Short,
                rare: None,
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

    fn is_entity(&self) -> bool {
        matches!(self.name, CellName::Entity(_))
    }

    /// Where two cells are the same, so are their keys.
    fn key(self: &Arc<Self>) -> *const () {
        Arc::as_ptr(self).cast()
    }

    /// Queues an envelope, or says why not. Where the type's policy for a full mailbox loses a
    /// message, this one or an older one, it becomes a dead letter.
    pub(crate) fn push(self: &Arc<Self>, envelope: Envelope<A>) -> Result<(), Refusal<A>> {
        let mut inner = match self.admit(&envelope) {
            Ok(inner) => inner,
            Err(no) => return Err(no.refuse(envelope)),
        };
        let lost = match inner.mailbox.offer(envelope) {
            Ok(()) => None,
            Err(envelope) => Some(inner.overflow(envelope)?),
        };
        self.schedule(inner);
        if let Some(lost) = lost {
            self.undeliverable(lost, Failure::MailboxFull);
        }
        Ok(())
    }

    /// Queues an envelope that came over a connection. Where there is no room it waits its turn,
    /// and so does the credit that lets the other side send more; unless the type's policy is
    /// another.
    pub(crate) fn push_credited(
        self: &Arc<Self>,
        envelope: Envelope<A>,
        credit: impl FnOnce() -> Option<Credit>,
    ) -> Result<(), Refusal<A>> {
        if A::POLICY.overflow != Overflow::Wait {
            return self.push(envelope);
        }
        let mut inner = match self.admit(&envelope) {
            Ok(inner) => inner,
            Err(no) => return Err(no.refuse(envelope)),
        };
        inner.mailbox.park(envelope, || Waiter::Credit(credit()));
        self.schedule(inner);
        Ok(())
    }

    /// Queues several envelopes that came over a connection, in order, as
    /// [`push_credited`](Self::push_credited) does one; where it does not take them, it takes none.
    /// They are part of no chain.
    ///
    /// Returns how many bytes of them have found room. Those that have not share a credit, which
    /// the last one has.
    pub(crate) fn push_arrived(
        self: &Arc<Self>,
        arrived: &mut Vec<Arrived<A>>,
        credit: impl FnOnce(usize) -> Credit,
    ) -> Result<usize, No> {
        let mut inner = self.open()?;
        let (mut placed, mut waiting) = (0, 0);
        let mut credit = Some(credit);
        let mut left = arrived.len();
        for Arrived {
            envelope, bytes, ..
        } in arrived.drain(..)
        {
            left -= 1;
            placed += bytes;
            inner.mailbox.park(envelope, || {
                (placed, waiting) = (placed - bytes, waiting + bytes);
                let credit = credit.take_if(|_| left == 0);
                Waiter::Credit(credit.map(|credit| credit(waiting)))
            });
        }
        self.schedule(inner);
        Ok(placed)
    }

    /// Queues an envelope as soon as there is room. Dropping the future withdraws it.
    pub(crate) async fn push_wait(
        self: &Arc<Self>,
        envelope: Envelope<A>,
    ) -> Result<(), Refusal<A>> {
        let (admitted, mut admission) = oneshot::channel();
        let parking = {
            let mut inner = match self.admit(&envelope) {
                Ok(inner) => inner,
                Err(no) => return Err(no.refuse(envelope)),
            };
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

    /// Queues what an activation sends itself, as soon as there is room; resolves when it was
    /// handled, or will never be.
    pub(crate) async fn push_own(
        self: &Arc<Self>,
        message: A::Message,
        activation: u32,
        is_work: bool,
    ) {
        let (done, handled) = oneshot::channel();
        let reply = ReplyTo::Own(Own {
            activation,
            is_work,
            _done: done,
        });
        if self.push_wait(Envelope { message, reply }).await.is_ok() {
            // The envelope's end closes the channel.
            let _ = handled.await;
        }
    }

    /// Whether the cell takes this envelope, room aside. By reference: envelopes may be large.
    #[inline]
    fn admit(self: &Arc<Self>, envelope: &Envelope<A>) -> Result<MutexGuard<'_, Inner<A>>, No> {
        if let Some(chain) = envelope.reply.chain() {
            self.closes_no_circle(chain)?;
        }
        self.open()
    }

    /// Whether the cell takes envelopes at all.
    #[inline]
    fn open(&self) -> Result<MutexGuard<'_, Inner<A>>, No> {
        let inner = lock(&self.inner);
        if inner.phase == Phase::Closed || inner.closing {
            return Err(No::Closed);
        }
        if let Some(failure) = inner.rare.as_ref().and_then(|rare| rare.refusal()) {
            return Err(No::Failing(failure));
        }
        Ok(inner)
    }

    #[cold]
    fn closes_no_circle(self: &Arc<Self>, chain: &Chain) -> Result<(), No> {
        match chain.closed_by(self.key(), || self.path()) {
            Some(chain) => Err(No::Failing(Failure::Deadlock { chain })),
            None => Ok(()),
        }
    }

    /// Lets the cell run its start hook without waiting for a message.
    pub(crate) fn wake(self: &Arc<Self>) {
        let mut inner = lock(&self.inner);
        if self.is_entity() && inner.phase == Phase::Idle && inner.activation.is_none() {
            let mut activation = Activation::boxed(None);
            activation.due = Due::Start;
            inner.activation = Some(activation);
        }
        self.schedule(inner);
    }

    fn schedule(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<A>>) {
        match inner.phase {
            Phase::Waiting => {
                inner.phase = Phase::Running;
                // By reference, under the lock: the run wants it back, and to clone it costs more
                // than to queue a task.
                if let Some(waker) = &inner.waker {
                    waker.wake_by_ref();
                }
            }
            Phase::Idle => {
                inner.phase = Phase::Running;
                let warm = &self.runtime().warm;
                let stays = inner.warmth.record(warm.round());
                drop(inner);
                if stays {
                    // It has its task for long, which is a little quicker if it need not fit
                    // others.
                    let cell: Weak<Self> = Arc::downgrade(self);
                    warm.add(cell);
                    self.runtime().spawn(Box::pin(run::run(self.clone(), true)));
                } else {
                    self.runtime().runners.run(self.clone());
                }
            }
            Phase::Resting => inner.interrupt(),
            Phase::Running | Phase::Paused | Phase::Closed => {}
        }
    }

    pub(crate) fn signal(self: &Arc<Self>, signal: Signal) {
        let mut inner = lock(&self.inner);
        if inner.phase != Phase::Closed {
            inner.rare().signals.push_back(signal);
            self.signalled.store(true, Ordering::Relaxed);
            // What rests has no activation to tell.
            if inner.phase != Phase::Resting {
                self.schedule(inner);
            }
        }
    }

    /// Takes no more messages. It is to be closed as well.
    pub(crate) fn seal(&self) {
        lock(&self.inner).closing = true;
    }

    /// Takes no more messages, handles the ones it has, runs the stop hook. Resolves when that is
    /// done.
    pub(crate) fn close(self: &Arc<Self>) -> oneshot::Receiver<()> {
        let (closed, on_closed) = oneshot::channel();
        let mut inner = lock(&self.inner);
        if inner.phase != Phase::Closed {
            inner.closing = true;
            inner.rare().on_closed.push(closed);
            if inner.phase == Phase::Paused {
                inner.interrupt();
            } else {
                self.schedule(inner);
            }
        }
        on_closed
    }

    /// Ends it without another word: what it is may be somewhere else by now. Whoever waits is told
    /// that it stopped.
    pub(crate) fn sever(self: &Arc<Self>) {
        self.severed.store(true, Ordering::Release);
        // As for anybody else who closes it; the run finds that it is severed.
        drop(self.close());
    }

    fn is_severed(&self) -> bool {
        self.severed.load(Ordering::Acquire)
    }

    /// Whether it may handle a message, answer one, and send something away from this node.
    pub(crate) fn may_act(&self) -> bool {
        self.host
            .gate()
            .is_none_or(|gate| gate.is_open() && !self.is_severed())
    }

    /// The epoch under which it is here; of no worth once it may be somewhere else.
    pub(crate) fn epoch(&self) -> Epoch {
        if self.is_severed() {
            Epoch::ZERO
        } else {
            self.host.epoch(self)
        }
    }

    /// When the last message from outside was handled, on the runtime's coarse clock; `None` where
    /// nothing is active.
    pub(crate) fn last_used(&self) -> Option<u32> {
        let inner = lock(&self.inner);
        matches!(inner.phase, Phase::Idle | Phase::Running | Phase::Waiting)
            .then(|| self.used.load(Ordering::Relaxed))
    }

    /// Has the run end if it has waited since the last call, or if it waits `at_all`. Returns
    /// whether there is one yet.
    fn end_wait(&self, at_all: bool) -> bool {
        let mut inner = lock(&self.inner);
        match inner.phase {
            Phase::Idle | Phase::Closed => return false,
            Phase::Running | Phase::Paused | Phase::Resting => return true,
            Phase::Waiting => {}
        }
        if inner.wait == Wait::Short && !at_all {
            inner.wait = Wait::Long;
            return true;
        }
        inner.wait = Wait::Over;
        inner.warmth.reset();
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        false
    }

    /// Tells `watcher` of the end of this cell, at once if it has ended.
    pub(crate) fn watch(&self, watcher: Watcher) {
        let mut inner = lock(&self.inner);
        if inner.phase == Phase::Closed {
            let ended = inner.rare.as_ref().and_then(|rare| rare.ended.clone());
            drop(inner);
            watcher.tell(self.path(), ended.unwrap_or(TerminatedReason::Stopped));
        } else {
            let watchers = &mut inner.rare().watchers;
            watchers.retain(Watcher::is_wanted);
            watchers.push(watcher);
        }
    }

    pub(crate) fn unwatch(&self, watch: WatchId) {
        if let Some(rare) = &mut lock(&self.inner).rare {
            rare.watchers.retain(|watcher| watcher.id != watch);
        }
    }

    /// Says what became of an envelope that nobody will handle.
    pub(crate) fn undeliverable(&self, envelope: Envelope<A>, failure: Failure) {
        envelope.undelivered(self.runtime(), &|| self.path(), failure);
    }

    /// The end: nothing may be queued from here on.
    fn finish(
        &self,
        mut inner: MutexGuard<'_, Inner<A>>,
        mut batch: VecDeque<Envelope<A>>,
        reason: TerminatedReason,
    ) {
        let mut admitted = Vec::new();
        batch.extend(inner.mailbox.drain(&mut admitted));
        inner.phase = Phase::Closed;
        let rare = inner.rare.take();
        if reason != TerminatedReason::Stopped {
            inner.rare().ended = Some(reason.clone());
        }
        drop(inner);
        self.host.closed(self);
        admitted.into_iter().for_each(Waiter::admit);
        for envelope in batch {
            self.undeliverable(envelope, Failure::Stopped);
        }
        if let CellName::Actor(number) = self.name
            && let Some(parent) = self.host.parent()
        {
            parent.child(number, ChildEvent::Ended);
        }
        let Some(rare) = rare else { return };
        for watcher in rare.watchers {
            watcher.tell(self.path(), reason.clone());
        }
        for closed in rare.on_closed {
            let _ = closed.send(());
        }
    }
}

/// Whether anybody asks when a cell of this type was last used.
const fn counts_use<A: Actor>() -> bool {
    A::POLICY.passivate_after.is_some() || A::POLICY.max_active.is_some()
}

impl<A: Actor> Inner<A> {
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// From here on, whoever sends something wakes the run.
    fn wait_for_more(&mut self, cx: &std::task::Context<'_>) {
        self.phase = Phase::Waiting;
        self.wait = Wait::Short;
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    fn interrupt(&mut self) {
        self.phase = Phase::Running;
        if let Some(interrupt) = self.rare.as_ref().and_then(|rare| rare.interrupt.as_ref()) {
            interrupt.notify_one();
        }
    }

    /// Makes the best of a full mailbox: the message that is lost, if the policy is to lose one.
    fn overflow(&mut self, envelope: Envelope<A>) -> Result<Envelope<A>, Refusal<A>> {
        match A::POLICY.overflow {
            Overflow::Wait => Err(Refusal::Full(envelope)),
            Overflow::Reject => Err(Refusal::Failing(envelope, Failure::MailboxFull)),
            Overflow::DropNewest => Ok(envelope),
            Overflow::DropOldest => Ok(self.mailbox.replace_oldest(envelope)),
        }
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
