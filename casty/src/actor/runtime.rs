//! The state that all actors of a node share: events, the table of local actors, the routes to
//! entities.

use std::{
    any::{Any, TypeId},
    cell::RefCell,
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[cfg(feature = "metrics")]
use crate::{actor::ask::durations::AskDurations, infra::pulse::Pulse};
use crate::{
    actor::{
        ask::{
            chain::{self, Chain, Chains},
            deadlines::Deadlines,
        },
        cell::gate::Gate,
        context::watch::{WatchId, Watcher},
        failures::Failures,
        handle::{self, AnyCell},
        observer::Observers,
        resources::Resources,
        tasks::{lingering::LingeringRuns, pool::TaskPool, throttle::Throttle},
    },
    config::Settings,
    error::Failure,
    event::{ActorPath, DeadLetterReason, Event, EventBus},
    id::{MemberId, NodeId},
    infra::{concurrent::spawn_on, sync::lock, timer_thread::TimerThread},
    message::answer::WayBack,
    persistence::store::Store,
    recorder::rings::Recorder,
};

/// Where an actor of some node lives. It is never reused: the member's incarnation is part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ActorAddress {
    pub(crate) member: MemberId,
    pub(crate) address: SocketAddr,
    pub(crate) actor: u64,
    pub(crate) kind: String,
}

/// How messages reach actors on other nodes. `cluster` implements it.
pub(crate) trait Carrier: Send + Sync {
    /// Queues an encoded message. The asker is taken from `reply` once the message is certain to go
    /// out, and not before.
    fn try_carry(
        &self,
        to: &ActorAddress,
        chain: &[u8],
        payload: &[u8],
        reply: &mut dyn WayBack,
    ) -> Result<(), Failure>;

    /// Resolves when another try makes sense.
    fn room(&self, to: &ActorAddress) -> BoxFuture<'static, ()>;

    /// Tells `watcher` once: when the actor ends, or its node is gone.
    fn watch(&self, who: &Arc<ActorAddress>, watcher: Watcher);

    /// Takes a watch back.
    fn unwatch(&self, who: &Arc<ActorAddress>, watch: WatchId);
}

/// This process as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Myself {
    pub(crate) member: MemberId,
    pub(crate) address: SocketAddr,
}

/// The routes to entity types; each is an `Arc<dyn Route<E>>`.
pub(crate) type Routes = HashMap<TypeId, Arc<dyn Any + Send + Sync>, foldhash::fast::RandomState>;

#[doc(hidden)]
pub struct Runtime {
    pub(crate) node: NodeId,
    pub(crate) events: EventBus,
    pub(crate) observers: Arc<Observers>,
    pub(crate) failures: Failures,
    pub(crate) recorder: Recorder,
    /// Asks of actors here, under way on other nodes.
    chains: Arc<Chains>,
    pub(crate) ask_timeout: Duration,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) warm: Arc<LingeringRuns>,
    pub(crate) runners: Arc<TaskPool>,
    /// For whatever is done for each entity of a shard that moves: there may be many, and their
    /// states large.
    pub(crate) packing: Throttle,
    /// The origin of the coarse clock.
    born: Instant,
    /// Where the next jitter comes from.
    random: AtomicU64,
    handle: tokio::runtime::Handle,
    upkeep: TimerThread,
    #[cfg(feature = "metrics")]
    pub(crate) pulse: Arc<Pulse>,
    #[cfg(feature = "metrics")]
    pub(crate) asks: AskDurations,
    stopped: AtomicBool,
    /// The tokio runtime has ended, and with it all that this system does.
    lost_tokio: AtomicBool,
    actors: Mutex<HashMap<u64, Arc<dyn AnyCell>, foldhash::fast::RandomState>>,
    next_actor: AtomicU64,
    next_watch: AtomicU64,
    routes: ArcSwap<Routes>,
    /// Set once, before the first actor runs.
    resources: OnceLock<Resources>,
    /// Where entities are stored. Set at start, before there are regions.
    store: OnceLock<Arc<Store>>,
    network: OnceLock<Weak<dyn Carrier>>,
    myself: ArcSwapOption<Myself>,
    /// Whether entities may act. `None` if no other node could own them.
    gate: OnceLock<Arc<Gate>>,
    /// How long a message waits for the gate.
    patience: Duration,
    /// Set before the first actor starts, in a system where everything that is sent goes through
    /// the codec: the bytes of the largest message that could travel.
    strict_wire: OnceLock<usize>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(node: NodeId, settings: &Settings, seed: u64) -> Arc<Self> {
        let (ask_timeout, patience) = (settings.ask_timeout, settings.resolve_timeout);
        let handle = tokio::runtime::Handle::current();
        let upkeep = TimerThread::start(&handle);
        #[cfg(feature = "metrics")]
        let pulse = Pulse::start(&upkeep, &handle);
        Arc::new(Self {
            node,
            events: EventBus::new(),
            observers: Arc::default(),
            failures: Failures::default(),
            recorder: Recorder::default(),
            chains: Arc::default(),
            ask_timeout,
            deadlines: Deadlines::new(upkeep.handle().clone()),
            warm: LingeringRuns::new(upkeep.handle().clone()),
            packing: Throttle::default(),
            runners: TaskPool::new(handle.clone(), upkeep.handle().clone()),
            born: Instant::now(),
            random: AtomicU64::new(seed),
            handle,
            upkeep,
            #[cfg(feature = "metrics")]
            pulse,
            #[cfg(feature = "metrics")]
            asks: AskDurations::default(),
            stopped: AtomicBool::new(false),
            lost_tokio: AtomicBool::new(false),
            actors: Mutex::default(),
            next_actor: AtomicU64::new(1),
            next_watch: AtomicU64::new(1),
            routes: ArcSwap::default(),
            resources: OnceLock::new(),
            store: OnceLock::new(),
            network: OnceLock::new(),
            myself: ArcSwapOption::empty(),
            gate: OnceLock::new(),
            patience,
            strict_wire: OnceLock::new(),
        })
    }

    /// Runs something for an actor or a region, where handlers run.
    ///
    /// Boxed, so that tokio's code for a task is compiled once, in casty, and not again for each
    /// type of actor.
    pub(crate) fn spawn(&self, run: BoxFuture<'static, ()>) {
        // A run ends with its cell, a region's task with its work or its region.
        spawn_on(&self.handle, run);
    }

    /// Runs what waits for a disk, where that holds nothing else up.
    pub(crate) fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        drop(self.handle.spawn_blocking(work));
    }

    pub(crate) fn set_routes(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// Replaces the route of one type, for references that are made from now on.
    #[cfg(feature = "testkit")]
    pub(crate) fn set_route(&self, entity: TypeId, route: Arc<dyn Any + Send + Sync>) {
        self.routes.rcu(|routes| {
            let mut routes = Routes::clone(routes);
            routes.insert(entity, route.clone());
            routes
        });
    }

    /// `myself`: this process as others see it, if it hosts entities; they act only while its gate
    /// is open.
    pub(crate) fn set_network(&self, myself: Option<Myself>, carrier: Weak<dyn Carrier>) {
        let fresh = self.network.set(carrier).is_ok();
        assert!(fresh, "the network is set once, at start");
        if let Some(myself) = myself {
            let fresh = self.gate.set(Arc::new(Gate::new())).is_ok();
            assert!(fresh, "the gate is set once, at start");
            self.set_myself(myself);
        }
    }

    /// This process is another member from now on.
    pub(crate) fn set_myself(&self, myself: Myself) {
        self.myself.store(Some(Arc::new(myself)));
    }

    /// From here on what is sent on this node goes through the codec, as if it left the node.
    pub(crate) fn set_strict_wire(&self, bytes_max: usize) {
        let fresh = self.strict_wire.set(bytes_max).is_ok();
        assert!(fresh, "strict wire is set once, at start");
        self.observers.observe_always();
    }

    /// The bytes of the largest message, where everything that is sent goes through the codec.
    pub(crate) fn strict_wire(&self) -> Option<usize> {
        self.strict_wire.get().copied()
    }

    /// Gives this system its resources, once, at its start.
    pub(crate) fn set_resources(&self, resources: Resources) {
        let fresh = self.resources.set(resources).is_ok();
        assert!(fresh, "resources are set once, at start");
    }

    /// Gives this system the store of its entities, once, at its start.
    pub(crate) fn set_store(&self, store: Arc<Store>) {
        let fresh = self.store.set(store).is_ok();
        assert!(fresh, "the store is set once, at start");
    }

    pub(crate) fn store(&self) -> Option<&Arc<Store>> {
        self.store.get()
    }

    pub(crate) fn resources(&self) -> &Resources {
        self.resources.get_or_init(Resources::default)
    }

    pub(crate) fn myself(&self) -> Option<Arc<Myself>> {
        self.myself.load_full()
    }

    /// A chain as it travels to another node; empty if there is none.
    pub(crate) fn encode_chain(&self, chain: Option<&Arc<Chain>>) -> Vec<u8> {
        // Most messages carry no chain, and should not pay for a look at this node's name.
        let Some(chain) = chain else {
            return Vec::new();
        };
        match self.myself() {
            Some(myself) => chain::encoded(chain, &self.chains, &myself.member),
            None => Vec::new(),
        }
    }

    /// A chain that came from another node; `None` for no bytes.
    pub(crate) fn decode_chain(&self, bytes: &[u8]) -> Option<Arc<Chain>> {
        if bytes.is_empty() {
            return None;
        }
        let myself = self.myself();
        let myself = myself.as_ref().map(|myself| &myself.member);
        chain::decoded(bytes, &self.chains, myself)
    }

    pub(crate) fn carrier(&self) -> Option<Arc<dyn Carrier>> {
        self.network.get()?.upgrade()
    }

    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.get()
    }

    /// This process is no member any more: its entities do nothing from here on.
    pub(crate) fn close_gate(&self) {
        if let Some(gate) = self.gate.get() {
            gate.close();
        }
    }

    /// How long a message waits for this node to hold a lease again.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether the system is gone and no further message should be handled.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// No message is handled any more, and no actor can be addressed. This also takes the runtime
    /// apart, whose parts refer to each other.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.warm.end();
        self.runners.end();
        self.routes.store(Arc::default());
    }

    /// The tokio runtime has ended: no message is handled, and no time passes any more.
    pub(crate) fn handle_lost_tokio(&self) {
        self.lost_tokio.store(true, Ordering::Relaxed);
        self.sever_all();
        self.stop();
        self.deadlines.end();
    }

    pub(crate) fn has_lost_tokio(&self) -> bool {
        self.lost_tokio.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// The number of an actor that is about to start on this node. It is never used again.
    pub(crate) fn next_actor(&self) -> u64 {
        self.next_actor.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes an actor known by its number, until it is forgotten.
    pub(crate) fn register(&self, number: u64, actor: Arc<dyn AnyCell>) {
        lock(&self.actors).insert(number, actor);
    }

    /// The identity by which actors of other nodes know an actor of this node; `None` without a
    /// network.
    pub(crate) fn address_of(&self, actor: u64, kind: &str) -> Option<ActorAddress> {
        let myself = self.myself()?;
        Some(ActorAddress {
            member: myself.member.clone(),
            address: myself.address,
            actor,
            kind: kind.to_owned(),
        })
    }

    pub(crate) fn next_watch(&self) -> WatchId {
        WatchId(self.next_watch.fetch_add(1, Ordering::Relaxed))
    }

    /// Resolves when it is the turn of a handler that would begin now.
    pub(crate) async fn turn(&self) {
        if self.upkeep.is_own_thread() {
            #[expect(clippy::disallowed_methods, reason = "it ends at once")]
            let turn = self.handle.spawn(async {});
            // The error says that the runtime is gone, and upkeep will be.
            let _ = turn.await;
        }
    }

    /// Where what has to be done by the clock is done.
    pub(crate) fn upkeep(&self) -> &TimerThread {
        &self.upkeep
    }

    /// Where handlers run.
    pub(crate) fn handle(&self) -> &tokio::runtime::Handle {
        &self.handle
    }

    /// Since the system was built.
    pub(crate) fn uptime(&self) -> Duration {
        self.born.elapsed()
    }

    /// Milliseconds since some moment; they start over after 49 days.
    pub(crate) fn coarse_millis(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it wraps, and is only subtracted"
        )]
        let millis = self.born.elapsed().as_millis() as u32;
        millis
    }

    /// A random number from 0 to 1, drawn from the node's seed.
    pub(crate) fn jitter(&self) -> f64 {
        let bits = self.random_number() >> 32;
        #[expect(clippy::cast_precision_loss, reason = "32 bits fit")]
        let jitter = bits as f64 / f64::from(u32::MAX);
        jitter
    }

    pub(crate) fn random_number(&self) -> u64 {
        let draw = self.random.fetch_add(1, Ordering::Relaxed);
        xxhash_rust::xxh3::xxh3_64(&draw.to_le_bytes())
    }

    pub(crate) fn actor(&self, number: u64) -> Option<Arc<dyn AnyCell>> {
        lock(&self.actors).get(&number).cloned()
    }

    pub(crate) fn forget(&self, number: u64) {
        lock(&self.actors).remove(&number);
    }

    /// Stops all local actors: each finishes what is in its mailbox. Children are their parents' to
    /// stop, so that a parent that goes does not hear of their ends.
    pub(crate) async fn close_all(&self) {
        let cells = self.all_actors().into_iter();
        let (children, roots): (Vec<_>, Vec<_>) = cells.partition(|cell| cell.parent().is_some());
        for cells in [roots, children] {
            handle::all_closed(cells.into_iter().map(AnyCell::close)).await;
        }
    }

    /// Ends all local actors at once. Askers that wait for an answer of theirs are told.
    pub(crate) fn sever_all(&self) {
        self.all_actors().into_iter().for_each(AnyCell::sever);
    }

    fn all_actors(&self) -> Vec<Arc<dyn AnyCell>> {
        let mut cells: Vec<_> = {
            let actors = lock(&self.actors);
            actors.iter().map(|(&n, cell)| (n, cell.clone())).collect()
        };
        cells.sort_unstable_by_key(|(number, _)| *number);
        cells.into_iter().map(|(_, cell)| cell).collect()
    }

    pub(crate) fn dead_letter(&self, to: ActorPath, message: &str, reason: DeadLetterReason) {
        self.events.dead_letter(to, message, reason);
    }

    pub(crate) fn publish(&self, event: impl FnOnce() -> Event) {
        self.events.publish(event);
    }

    /// Runs `decode` so that references inside the decoded value become usable in this system.
    pub(crate) fn enter<R>(self: &Arc<Self>, decode: impl FnOnce() -> R) -> R {
        struct Leave(Option<Weak<Runtime>>);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| {
                    current.depth -= 1;
                    if let Some(before) = self.0.take() {
                        current.runtime = before;
                    }
                });
            }
        }
        let _leave = CURRENT.with_borrow_mut(|current| {
            current.depth += 1;
            // Most threads decode for one system only, which then stays in place: nothing is
            // counted for a message.
            let same = std::ptr::eq(current.runtime.as_ptr(), Arc::as_ptr(self));
            Leave((!same).then(|| std::mem::replace(&mut current.runtime, Arc::downgrade(self))))
        });
        decode()
    }

    /// The system that decodes on this thread right now.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(|current| match current.depth {
            0 => None,
            _ => current.runtime.upgrade(),
        })
    }
}

struct Current {
    runtime: Weak<Runtime>,
    /// Decodings under way on this thread, one inside the other.
    depth: usize,
}

thread_local! {
    static CURRENT: RefCell<Current> = const {
        RefCell::new(Current { runtime: Weak::new(), depth: 0 })
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn while_no_handler_can_run_it_is_nobodys_turn() {
        let runtime = Runtime::new(NodeId::new("a"), &Settings::default(), 1);
        let (begun, begins) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        runtime.spawn(Box::pin(async move {
            let _ = begun.send(());
            let _ = released.recv();
        }));
        begins.await.unwrap();
        let me = runtime.clone();
        let turn = runtime.upkeep.spawn(async move { me.turn().await });
        // It has been looked at once this is done.
        runtime.upkeep.spawn(async {}).await.unwrap();
        assert!(!turn.is_finished());
        release.send(()).unwrap();
        turn.await.unwrap();
    }
}
