//! The context of a handler: everything it may use besides its state and its message.

pub(crate) mod activation_scope;
pub(crate) mod core;
pub(crate) mod schedule;
pub(crate) mod watch;

use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    actor::{
        Actor, Entity,
        ask::chain::{Acts, WORKER},
        cell::Cell,
        context::{
            activation_scope::{ActivationScope, Child},
            core::ContextCore,
            schedule::{Cancellable, Every},
        },
        handle::{AnyCell, CellName, Signal},
        reference::{self, ActorRef},
    },
    event::{ActorPath, Emitted, Event},
    id::{EntityId, Epoch, NodeId},
    infra::panic::panic_text,
};

/// A handler's context: its own identity, other actors, timers, work, and stopping.
///
/// A handler asks for it by a parameter `ctx: &mut Context<Self>`, at any position.
///
/// Everything that a handler starts through it belongs to this activation of the actor: children,
/// timers, work and watches end when the actor stops, is passivated, or starts afresh after a
/// failure.
pub struct Context<A: Actor> {
    cell: Arc<Cell<A>>,
    core: ContextCore,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(cell: Arc<Cell<A>>) -> Self {
        Self {
            cell,
            core: ContextCore::default(),
        }
    }

    /// A reference to this very actor, to be sent to others.
    pub fn myself(&self) -> A::Ref {
        A::proxy(self.cell.address())
    }

    /// This actor's name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        self.cell.path()
    }

    /// The name of the node this runs on.
    pub fn node_id(&self) -> &NodeId {
        &self.cell.runtime().node
    }

    /// The resource of type `T` that the program gave this system by
    /// [`SystemBuilder::resource`](crate::SystemBuilder::resource): a connection pool, a client, a
    /// clock. Available in `#[init]`, hooks and message functions, to entities and local actors.
    ///
    /// Each node has resources of its own; nothing of them is sent to other nodes. Reading one
    /// takes no lock.
    ///
    /// # Panics
    /// If no resource of type `T` is set. In a handler or a hook this is a failure of the actor
    /// like any other panic. See [`try_resource`](Self::try_resource).
    ///
    /// ```
    /// use std::collections::HashMap;
    ///
    /// use casty::{prelude::*, testkit};
    ///
    /// /// Opening balances by owner. A real program would have a connection pool here.
    /// struct Balances(HashMap<String, i64>);
    ///
    /// struct Purse {
    ///     balance: i64,
    /// }
    ///
    /// #[entity]
    /// impl Purse {
    ///     #[init]
    ///     fn open(ctx: &mut Context<Self>) -> Self {
    ///         let balances = ctx.resource::<Balances>();
    ///         let balance = balances.0.get(ctx.entity_id().as_str());
    ///         Self { balance: balance.copied().unwrap_or_default() }
    ///     }
    ///
    ///     #[message]
    ///     fn balance(&self) -> i64 {
    ///         self.balance
    ///     }
    /// }
    ///
    /// let balances = Balances(HashMap::from([("alice".to_owned(), 15)]));
    /// testkit::paused_with(
    ///     |builder| builder.resource(balances),
    ///     |system| async move {
    ///         assert_eq!(system.entity::<Purse>("alice").balance().await, Ok(15));
    ///         assert_eq!(system.entity::<Purse>("bob").balance().await, Ok(0));
    ///     },
    /// );
    /// ```
    pub fn resource<T: Send + Sync + 'static>(&self) -> &T {
        self.try_resource()
            .unwrap_or_else(|| panic!("{}", self.cell.runtime().resources().missing::<T>()))
    }

    /// The resource of type `T`, or `None` if this system has none of that type.
    pub fn try_resource<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.cell.runtime().resources().get()
    }

    /// A reference to an entity of any type, wherever it lives.
    pub fn entity<E: Entity>(&self, id: impl AsRef<str>) -> E::Ref {
        self.cell.runtime().entity::<E>(id)
    }

    /// Starts an actor on this node, as a child of this one: it stops when this activation ends,
    /// after it has handled what is in its mailbox.
    ///
    /// Started from a value, it cannot be made anew: a failure ends it, unless its type says
    /// `on_failure = resume`. See [`spawn_with`](Self::spawn_with).
    pub fn spawn<B: Actor<Address = ActorRef<B>>>(&mut self, actor: B) -> B::Ref {
        let parent = self.weak();
        let cell = self
            .cell
            .runtime()
            .spawn_actor(Some(actor), None, Some(parent));
        self.adopt(cell)
    }

    /// The same, for an actor that survives its failures: `make` makes its first state, and a fresh
    /// one after each.
    pub fn spawn_with<B: Actor<Address = ActorRef<B>>>(
        &mut self,
        make: impl FnMut() -> B + Send + 'static,
    ) -> B::Ref {
        let parent = self.weak();
        let make = Some(Box::new(make) as Box<dyn FnMut() -> B + Send>);
        let cell = self.cell.runtime().spawn_actor(None, make, Some(parent));
        self.adopt(cell)
    }

    fn adopt<B: Actor<Address = ActorRef<B>>>(&mut self, cell: Arc<Cell<B>>) -> B::Ref {
        self.core.attached().children.push(Child {
            number: cell.name().number(),
            cell: cell.clone(),
        });
        B::proxy(ActorRef::local(cell))
    }

    fn weak(&self) -> std::sync::Weak<dyn AnyCell> {
        let cell: Arc<dyn AnyCell> = self.cell.clone();
        Arc::downgrade(&cell)
    }

    /// Asks to be told when an actor ends, on this node or another: by the function marked
    /// `#[on_terminated]`, once.
    ///
    /// It is told as well if the actor has ended already, and when its node is declared down or
    /// leaves. To watch it twice is to watch it once. What this actor sends it afterwards arrives
    /// after the watch.
    ///
    /// ```
    /// use casty::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Worker;
    ///
    /// #[actor]
    /// impl Worker {
    ///     #[message]
    ///     fn finish(&mut self, ctx: &mut Context<Self>) {
    ///         ctx.stop();
    ///     }
    /// }
    ///
    /// #[derive(Default)]
    /// struct Boss {
    ///     finished: u32,
    /// }
    ///
    /// #[actor]
    /// impl Boss {
    ///     #[message]
    ///     fn hire(&mut self, ctx: &mut Context<Self>) -> WorkerRef {
    ///         let worker = ctx.spawn(Worker);
    ///         ctx.watch(&worker);
    ///         worker
    ///     }
    ///
    ///     #[on_terminated]
    ///     fn worker_ended(&mut self, who: Terminated) {
    ///         println!("{} ended: {}", who.who, who.reason);
    ///         self.finished += 1;
    ///     }
    /// }
    /// ```
    pub fn watch<B: Actor>(&mut self, who: &impl AsRef<ActorRef<B>>) {
        let who = who.as_ref();
        let key = who.key();
        let weak = self.weak();
        let id = self.cell.runtime().next_watch();
        let watches = &mut self.core.attached().watches;
        if watches.iter().all(|watch| watch.key != key) {
            // The watch is known here before the answer can come.
            watches.push(reference::watch(id, who, weak));
        }
    }

    /// Takes a [`watch`](Self::watch) back.
    pub fn unwatch<B: Actor>(&mut self, who: &impl AsRef<ActorRef<B>>) {
        let key = who.as_ref().key();
        let watches = &mut self.core.attached().watches;
        if let Some(at) = watches.iter().position(|watch| watch.key == key) {
            watches.swap_remove(at).cancel();
        }
    }

    /// Sends `message` to this actor after a while, unless it is cancelled or the activation ends
    /// before.
    ///
    /// The time is tokio's: it stands still while tokio's clock is paused.
    pub fn schedule_once(
        &mut self,
        after: std::time::Duration,
        message: A::Message,
    ) -> Cancellable {
        let task = schedule::once(
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
    /// use casty::Every;
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
        let task = schedule::every(cell, self.core.activation, every.into(), make);
        self.start_timer(Box::pin(task))
    }

    fn start_timer(&mut self, task: BoxFuture<'static, ()>) -> Cancellable {
        let handle = self.cell.runtime().handle().clone();
        let timers = &mut self.core.attached().timers;
        Cancellable::new(ActivationScope::begin(timers, task, &handle))
    }

    /// Awaits `future` beside the actor, which handles other messages meanwhile; what it returns,
    /// `map` makes a message to this actor of.
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
        F: Future + Send + 'static,
        F::Output: Send,
    {
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

    /// Publishes an event of the application's own: [`Event::Emitted`] to all subscribers of
    /// [`events`](crate::ActorSystem::events) on this node.
    pub fn emit(&self, event: impl Any + Send + Sync) {
        self.cell
            .runtime()
            .publish(|| Event::Emitted(Emitted::new(self.cell.path(), event)));
    }

    /// Ends this activation when the handler returns, after `#[on_stop]`.
    ///
    /// An actor is gone then; messages still in its mailbox fail as `Stopped`. An entity starts
    /// afresh with its next message, and messages in its mailbox wait for that.
    pub fn stop(&mut self) {
        self.core.stop = true;
    }
}

impl<E: Entity> Context<E> {
    /// The number of the ownership under which this activation acts: a fencing token for effects on
    /// the outside world.
    ///
    /// It only grows, for each entity, wherever it lives. A store, a lock or a service that
    /// remembers the greatest token it has seen and refuses smaller ones is safe even from a
    /// process that was stopped for an hour and goes on without knowing it. Ask for it right before
    /// the effect: once the entity may live somewhere else it is
    /// [`Epoch::ZERO`].
    ///
    /// ```
    /// # use casty::prelude::*;
    /// #[derive(Default)]
    /// struct Invoice;
    ///
    /// #[entity]
    /// impl Invoice {
    ///     #[message]
    ///     fn token(&self, ctx: &mut Context<Self>) -> u64 {
    ///         ctx.fencing_token().0
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let system = ActorSystem::local("app");
    /// assert!(system.entity::<Invoice>("i-1").token().await.unwrap() > 0);
    /// # }
    /// ```
    pub fn fencing_token(&self) -> Epoch {
        self.cell.epoch()
    }

    /// This entity's id.
    pub fn entity_id(&self) -> &EntityId {
        match self.cell.name() {
            CellName::Entity(id) => id,
            CellName::Actor(_) => unreachable!("`Entity` types are addressed by `EntityRef` only"),
        }
    }

    /// Puts this entity to sleep as soon as it has handled what is in its mailbox: `#[on_stop]`
    /// runs, its memory is given back, and the next message starts a fresh activation. No message
    /// is lost by it.
    ///
    /// An entity that keeps messages for a later state does not sleep.
    pub fn passivate(&mut self) {
        self.core.passivate = true;
    }
}

/// For the run.
impl<A: Actor> Context<A> {
    #[inline]
    pub(crate) fn core(&mut self) -> &mut ContextCore {
        &mut self.core
    }

    pub(crate) fn transition(&mut self) {
        self.core.transition = true;
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("actor", &self.cell.path())
            .finish_non_exhaustive()
    }
}
