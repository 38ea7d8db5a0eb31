//! Systems and clients: their start, their use, and their shutdown.

mod builder;
mod built;
mod checks;
mod client;
#[cfg(feature = "config")]
mod configured;
mod data;
mod entities;
mod exposed;
mod history;
mod journal;
mod looks;
mod map_dir;
#[cfg(feature = "metrics")]
mod metrics;
mod projections;
mod shards;
#[cfg(test)]
#[cfg(feature = "testkit")]
mod stored_entities;
mod termination;
mod tether;
#[cfg(feature = "sim")]
mod weak;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{
    builder::SystemBuilder,
    client::ClusterClient,
    entities::{Entities, LastRecord, ListedEntity},
    history::{
        History, HistoryEntry, Recorded, RecordedChanges, RecordedEvent, RecordedState, Unreadable,
    },
    shards::{ShardEnvelope, Shards},
};
pub(crate) use self::{
    builder::fresh_seed,
    history::{OpenedRecord, Said},
};
use crate::{
    actor::{
        Actor,
        reference::{ActorRef, Hosted, Spawned},
        resources::Resources,
        runtime::{Myself, Runtime},
        spy::{Scope, Spy},
    },
    cluster::{
        failure::Failed,
        limiter::Refusals,
        map_watch::MapWatch,
        membership::leave::leave,
        node::Node,
        peers::remote_actors::RemoteActors,
        reading::{
            nodes::{Alone, Nodes},
            reader::{self, EntityReader, HistoryReader},
        },
        region::AnyRegion,
        registry::Registry,
        start::logs_with_ledgers,
    },
    config::Settings,
    error::{Failure, JoinError, ShutdownError, StartError, StoredError},
    event::{ActorPath, Events},
    id::{Incarnation, IntoId, MemberId, NodeId, ShardId},
    infra::{
        boxed::{Boxed, boxed},
        concurrent::spawn_on,
    },
    projection::Projections,
    protocol::map::{ClusterMap, Status},
};

/// A running system: a member of a cluster, or a local system without a network.
///
/// A system is cheap to clone. When the last clone is dropped, the system stops at once;
/// [`shutdown`](Self::shutdown) stops it gracefully.
#[derive(Clone, Debug)]
pub struct ActorSystem(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    regions: Vec<Arc<dyn AnyRegion>>,
    node: Option<Arc<Node>>,
    settings: Settings,
    /// The runtime refers to it weakly.
    _remote_actors: Option<Arc<RemoteActors>>,
    /// Cancelled when the end of this system begins.
    ending: CancellationToken,
    projections: Projections,
    _stop: DropGuard,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorSystem")
            .field("node", &self.runtime.node)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ending.cancel();
        self.projections.cancel();
        if self.node.is_none() {
            self.regions
                .iter()
                .for_each(|region| region.abandon(&Failure::Stopped));
            self.runtime.stop();
        }
    }
}

#[cfg(feature = "sim")]
#[doc(hidden)]
pub use crate::system::weak::View;
#[cfg(feature = "sim")]
pub(crate) use crate::system::weak::WeakSystem;

impl ActorSystem {
    /// A builder that configures and starts a member of the cluster `cluster`.
    pub fn builder(cluster: impl Into<String>) -> SystemBuilder {
        SystemBuilder::new(cluster.into())
    }

    /// A system without a network: all its actors and entities live in this process.
    ///
    /// It has no [journal](SystemBuilder::journal). So it warns of linked entity types that are
    /// stored, and their messages fail as
    /// [`AskError::StoreUnavailable`](crate::AskError::StoreUnavailable). To use them, start the
    /// system by [`SystemBuilder::start_local`].
    ///
    /// # Panics
    /// Panics outside a tokio runtime, and if two linked entity types have the same wire name.
    pub fn local(name: impl Into<String>) -> Self {
        let settings = Settings::default();
        match Self::start_local(
            name.into(),
            Registry::default(),
            Resources::default(),
            settings,
            None,
            journal::Choice::MayLack,
        ) {
            Ok(system) => system,
            Err(error) => panic!("{error}"),
        }
    }

    fn start_local(
        name: String,
        registry: Registry,
        resources: Resources,
        settings: Settings,
        strict_wire: Option<usize>,
        journal: journal::Choice<'_>,
    ) -> Result<Self, StartError> {
        let runtime = Runtime::new(NodeId::new(name), &settings, fresh_seed());
        runtime.set_resources(resources);
        let owner = MemberId {
            node: runtime.node.clone(),
            incarnation: Incarnation::now(),
        };
        let stored = registry.stored(None)?;
        if let Some(store) = journal::open_now(journal, stored, owner.to_string())? {
            runtime.set_store(store);
        }
        if let Some(bytes_max) = strict_wire {
            runtime.set_strict_wire(bytes_max);
            // References to its actors go through the codec too, and lead back here.
            runtime.set_myself(Myself {
                member: MemberId {
                    node: runtime.node.clone(),
                    incarnation: Incarnation(0),
                },
                address: nowhere(),
            });
        }
        let (regions, routes) = registry.build(&runtime, &settings, None)?;
        runtime.set_routes(routes);
        let (stop, ending) = (CancellationToken::new(), CancellationToken::new());
        tether::tie(&runtime, &regions, &ending, &stop);
        let stop = stop.drop_guard();
        if runtime.store().is_some() {
            // It ends once all logs are looked at, or with the system.
            let handle = tokio::runtime::Handle::current();
            let work = carry_on_sends(runtime.clone(), regions.clone());
            let ended = ending.clone();
            spawn_on(&handle, async move {
                ended.run_until_cancelled(work).await;
            });
        }
        Ok(Self(Arc::new(Inner {
            runtime,
            regions,
            node: None,
            settings,
            ending,
            projections: Projections::default(),
            _remote_actors: None,
            _stop: stop,
        })))
    }

    /// A reference to an entity, wherever it lives. To make a reference is cheap and does no I/O. A
    /// reference is never stale: each send looks the owner up.
    ///
    /// The id is checked by each send: an empty id, or one over 1 KiB, is a typed error there.
    pub fn entity<E: Hosted>(&self, id: impl IntoId<E::Key>) -> E::Proxy {
        self.0.runtime.entity::<E>(id)
    }

    /// All entities of a type, for sending messages as values: one level below
    /// [`entity`](Self::entity).
    pub fn shards<E: Hosted>(&self) -> Shards<E> {
        Shards {
            route: self.0.runtime.route::<E>(),
        }
    }

    /// The entities of a type: those that are active on some node, and those that are stored. They
    /// are listed in pages: see [`Entities`].
    pub fn entities<E: Hosted>(&self) -> Entities<'static> {
        let route = self.0.runtime.route::<E>();
        let shards = Some(route.shards().get());
        let reader = EntityReader::new(route.name().to_owned(), shards);
        Entities::new(self.nodes(), self.node_id().clone(), reader)
    }

    /// What is stored of an entity, record by record, in pages: see [`History`].
    pub fn history<E: Hosted>(&self, id: impl IntoId<E::Key>) -> History<E> {
        let kind = self.0.runtime.route::<E>().name().to_owned();
        let reader = HistoryReader::new(kind, id.into_entity_id());
        History::new(self.nodes(), self.0.runtime.clone(), reader)
    }

    /// Erases what is stored of an entity, as [`Effect::erase`](crate::Effect::erase) does: its
    /// activation ends, its records are forgotten, and it begins anew with its next message. This
    /// also erases an entity that cannot be read any more. Returns whether there was anything.
    ///
    /// Where nodes keep copies ([`data_dir`](SystemBuilder::data_dir)), its records and its
    /// snapshot are gone from all copies in sync once this returns. A copy that is away does not
    /// count then: it erases the entity when it has come into sync again. The bytes stay on the
    /// disks until their part of the log is written again.
    ///
    /// # Errors
    /// [`StoredError`]. To erase twice is to erase once. [`StoredError::Unavailable`] also where a
    /// copy in sync has not done it within some seconds: the entity begins anew all the same, and
    /// the copy goes on being told.
    ///
    /// # Cancel safety
    /// If the future is dropped, the entity may be erased all the same.
    pub async fn erase<E: Hosted>(&self, id: impl IntoId<E::Key>) -> Result<bool, StoredError> {
        let kind = self.0.runtime.route::<E>().name().to_owned();
        let (nodes, id) = (self.nodes(), id.into_entity_id());
        boxed(async move { reader::erase(&*nodes, &kind, &id).await }).await
    }

    fn nodes(&self) -> Box<dyn Nodes> {
        match &self.0.node {
            Some(node) => Box::new(node.clone()),
            None => Box::new(Alone {
                runtime: self.0.runtime.clone(),
                regions: self.0.regions.clone(),
            }),
        }
    }

    /// Starts an actor on this node. The actor lives until it stops or the system does; dropping
    /// its reference does not stop it.
    ///
    /// casty cannot make the state of such an actor again, so a failure ends the actor, unless its
    /// type says `on_failure = resume`. See [`spawn_with`](Self::spawn_with).
    pub fn spawn<A: Actor<Address: Spawned<A>>>(&self, actor: A) -> A::Ref {
        let cell = self.0.runtime.spawn_actor(Some(actor), None, None);
        A::proxy(A::Address::of(ActorRef::local(cell)))
    }

    /// Starts an actor that survives its failures: `make` makes its first state, and a fresh state
    /// after each failure.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// #[derive(Default)]
    /// struct Divider;
    ///
    /// #[actor(max_restarts = 3, within = "10s")]
    /// impl Divider {
    ///     #[message]
    ///     fn divide(&self, a: i64, b: i64) -> i64 {
    ///         a / b
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let system = ActorSystem::local("app");
    /// let divider = system.spawn_with(Divider::default);
    /// assert!(matches!(divider.divide(1, 0).await, Err(AskError::Panicked { .. })));
    /// assert_eq!(divider.divide(6, 3).await, Ok(2));
    /// # }
    /// ```
    pub fn spawn_with<A: Actor<Address: Spawned<A>>>(
        &self,
        make: impl FnMut() -> A + Send + 'static,
    ) -> A::Ref {
        let make: Box<dyn FnMut() -> A + Send> = Box::new(make);
        let cell = self.0.runtime.spawn_actor(None, Some(make), None);
        A::proxy(A::Address::of(ActorRef::local(cell)))
    }

    /// Observes the messages of an actor, of an entity's activations on this node, or of an actor
    /// and all below it. It never slows them: see [`Spy`].
    ///
    /// [`ActorRef::path`] and [`EntityRef::path`](crate::EntityRef::path) give an actor's path:
    /// `system.spy(greeter.as_ref().path(), Scope::Actor)`.
    pub fn spy(&self, who: ActorPath, scope: Scope) -> Spy {
        Spy::new(&self.0.runtime.observers, who, scope)
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.0.runtime
    }

    #[cfg(all(test, feature = "sim"))]
    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.0.node.as_ref()
    }

    /// A way to look at this system that does not keep it alive.
    #[cfg(feature = "sim")]
    pub(crate) fn glance(&self) -> WeakSystem {
        WeakSystem(Arc::downgrade(&self.0))
    }

    /// Everything that happens in this system from now on. Slow readers are told how many events
    /// they missed.
    pub fn events(&self) -> Events {
        self.0.runtime.events.subscribe()
    }

    /// How many dead letters there were since the start.
    pub fn dead_letters(&self) -> u64 {
        self.0.runtime.events.dead_letters()
    }

    /// What this node counts and measures, as text in the format that Prometheus reads, for an
    /// HTTP server to answer `GET /metrics` with
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    ///
    /// No label is an entity's id: `entity` is the wire name of a type, `message` that of a
    /// message. Counts begin with zero when the system starts. One handler of 64 is timed. See
    /// [`publish_metrics`](Self::publish_metrics) for other exporters.
    ///
    /// `docs/metrics.md` has all names, and `docs/grafana.json` is a dashboard of them.
    ///
    /// ```standalone_crate
    /// use casty::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Counter { value: i64 }
    ///
    /// #[entity]
    /// impl Counter {
    ///     #[message]
    ///     fn add(&mut self, amount: i64) -> i64 {
    ///         self.value += amount;
    ///         self.value
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = ActorSystem::local("shop");
    /// system.entity::<Counter>("alice").add(1).await?;
    /// let text = system.metrics();
    /// assert!(text.contains(r#"casty_messages_handled_total{entity="Counter",message="add"}"#));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "metrics")]
    pub fn metrics(&self) -> String {
        let measured = metrics::Measured {
            runtime: &self.0.runtime,
            regions: &self.0.regions,
            node: self.0.node.as_deref(),
        };
        measured.text()
    }

    /// From now on tells the facade [`metrics`](https://docs.rs/metrics) every five seconds what
    /// [`metrics`](Self::metrics) gives as text, for as long as there is this system. Call it once,
    /// after an exporter of the facade is installed.
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        let Inner {
            runtime,
            regions,
            node,
            ..
        } = &*self.0;
        metrics::begin_publishing(runtime, regions, node.as_ref());
    }

    /// What this node has refused of other processes since its start, by the
    /// [limits](crate::access::Limits) and rights that it keeps them to.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = ActorSystem::builder("shop").start().await?;
    /// assert_eq!(node.refusals().connections, 0);
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn refusals(&self) -> Refusals {
        let node = self.0.node.as_ref();
        node.map_or_else(Refusals::default, |node| node.limiter.refused.read())
    }

    /// The name of this node.
    pub fn node_id(&self) -> &NodeId {
        &self.0.runtime.node
    }

    /// The address at which peers reach this node, with the port that was bound. A system without a
    /// network has the address `0.0.0.0:0`.
    pub fn address(&self) -> SocketAddr {
        let node = self.0.node.as_ref();
        node.map_or_else(nowhere, |node| node.setup.address)
    }

    /// The members of the cluster as this node sees them, including this node.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.0.node.as_deref().map_or_else(Vec::new, members)
    }

    /// Waits until at least `members` members are Up, as this node sees it, and this node is one of
    /// them. There is no timeout; wrap the call in [`tokio::time::timeout`] for one. A system
    /// without a network counts as one member.
    ///
    /// A probe asks [`is_ready`](Self::is_ready): to be Up is for the cluster to decide, and to
    /// serve needs a lease as well.
    ///
    /// # Errors
    /// [`JoinError`] as soon as this node can no longer join: it was refused, or declared Down.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_for(&self, members: usize) -> Result<(), JoinError> {
        match &self.0.node {
            Some(node) => wait_for(node, members).await,
            None if members <= 1 => Ok(()),
            None => std::future::pending().await,
        }
    }

    /// Waits until this node serves: see [`is_ready`](Self::is_ready). There is no timeout; wrap
    /// the call in [`tokio::time::timeout`] for one.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = ActorSystem::builder("shop").start().await?;
    /// tokio::time::timeout(Duration::from_secs(30), node.ready()).await??;
    /// assert!(node.is_ready());
    /// node.shutdown().await?;
    /// assert!(!node.is_ready());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`JoinError`] as soon as this node can no longer serve: it was refused, declared Down and
    /// told to stay out, or shut down.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ready(&self) -> Result<(), JoinError> {
        match &self.0.node {
            Some(node) => ready(node).await,
            None if self.is_ready() => Ok(()),
            None => Err(JoinError::ShutDown),
        }
    }

    /// Whether this node serves now: it is Up, it holds a lease, and it follows the map that the
    /// lease was granted by. So its entities handle messages, and it knows where the others live.
    ///
    /// For readiness probes. A node that is cut off stops to be ready when its lease ends, and is
    /// ready again when it holds one again; it need not be restarted for that, so this is no
    /// liveness probe. A node is not ready any more from the moment its end begins
    /// ([`terminated`](Self::terminated)). A system without a network is ready until then.
    pub fn is_ready(&self) -> bool {
        match &self.0.node {
            Some(node) => node.is_ready(),
            None => !self.0.ending.is_cancelled() && !self.0.runtime.is_stopped(),
        }
    }

    /// Resolves when the end of this system begins: `SIGTERM` or Ctrl-C asks the process to end,
    /// some caller [shuts the system down](Self::shutdown), its last clone is dropped, or the node
    /// will never be a member again ([`ready`](Self::ready) says why). From then on the system is
    /// not [ready](Self::is_ready), and it works until it is shut down.
    ///
    /// So an HTTP server and the node have one signal: the server stops to accept, and finishes its
    /// requests, which still reach the entities; afterwards the node leaves. The example `axum` is
    /// a whole service.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = ActorSystem::local("app");
    /// let ending = node.terminated();
    /// let server = tokio::spawn(async move {
    ///     // axum: `serve(listener, app).with_graceful_shutdown(node.terminated())`
    ///     ending.await;
    /// });
    /// # node.shutdown().await?;
    /// server.await?;
    /// node.shutdown().await?;
    /// assert!(!node.is_ready());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The future borrows nothing and does not keep the system alive. From its first poll on,
    /// `SIGTERM` and Ctrl-C do not end the process by themselves any more.
    ///
    /// # Cancel safety
    /// Safe. A later call resolves at once if the end has begun.
    pub fn terminated(&self) -> impl Future<Output = ()> + Send + use<> + 'static {
        termination::terminated(self.0.ending.clone())
    }

    /// Waits until the end of this system begins, as [`terminated`](Self::terminated), then
    /// [shuts down](Self::shutdown). It is the last call in the `main` of a service. Meanwhile a
    /// node with a certificate reads its files again at each `SIGHUP`.
    ///
    /// ```no_run
    /// # use casty::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = ActorSystem::builder("shop").listen("127.0.0.1:25520").start().await?;
    /// node.run_until_terminated().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ShutdownError`] as for [`shutdown`](Self::shutdown); if the node will never be a member
    /// again, which is then the reason to end; and if the operating system does not deliver
    /// signals.
    ///
    /// # Cancel safety
    /// If the future is dropped while it waits for a signal, nothing has happened. Afterwards it is
    /// as for [`shutdown`](Self::shutdown).
    pub async fn run_until_terminated(&self) -> Result<(), ShutdownError> {
        self.running_until_terminated().await
    }

    fn running_until_terminated(&self) -> Boxed<'_, Result<(), ShutdownError>> {
        boxed(self.0.run_until_terminated())
    }

    /// Stops gracefully. Entities and actors handle the messages in their mailboxes, the shards are
    /// handed over, the other members learn that this node leaves, and the connections are closed.
    /// A second call returns at once.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if a step was not finished after [`Settings::shutdown_timeout`].
    /// The system has stopped all the same.
    ///
    /// # Cancel safety
    /// If the future is dropped, the shutdown may be incomplete. Call it again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        self.0.shut_down().await
    }
}

/// The address of a system without a network.
fn nowhere() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)
}

impl Inner {
    async fn run_until_terminated(&self) -> Result<(), ShutdownError> {
        let begins = tokio::select! {
            biased;
            begins = termination::asked_to_end(&self.ending) => begins,
            () = self.read_again_at_hang_ups() => Ok(()),
        };
        begins.map_err(|error| ShutdownError::Signal {
            reason: error.to_string(),
        })?;
        let failed = self.node.as_ref().and_then(|node| node.failed.get());
        let shut_down = self.shut_down().await;
        failed.map_or(shut_down, |reason| Err(ShutdownError::NoMember { reason }))
    }

    /// Reads certificates again at each SIGHUP. Without certificates, SIGHUP does what it does to
    /// any process.
    async fn read_again_at_hang_ups(&self) {
        let node = self.node.as_ref();
        let peers = node.map(|node| &node.peers);
        match peers.filter(|peers| peers.certificate_until().is_some()) {
            Some(peers) => termination::hang_ups(|| peers.read_certificates_again()).await,
            None => std::future::pending().await,
        }
    }

    fn shut_down(&self) -> Boxed<'_, Result<(), ShutdownError>> {
        boxed(async {
            let stopped = self.stop().await;
            if let Some(store) = self.runtime.store() {
                store.close().await;
            }
            stopped
        })
    }

    async fn stop(&self) -> Result<(), ShutdownError> {
        self.ending.cancel();
        self.projections.end().await;
        if let Some(node) = &self.node {
            return leave(node).await;
        }
        let after = self.settings.shutdown_timeout;
        let stopping = async {
            for region in &self.regions {
                region.leave().await;
            }
            self.runtime.close_all().await;
        };
        let stopped = tokio::time::timeout(after, stopping).await;
        self.regions
            .iter()
            .for_each(|region| region.abandon(&Failure::Stopped));
        if stopped.is_err() {
            self.runtime.sever_all();
        }
        self.runtime.stop();
        stopped.map_err(|_| ShutdownError::Timeout {
            after,
            waiting_for: "handlers",
        })
    }
}

/// As [`ActorSystem::wait_for`], for a node with a network.
fn wait_for(node: &Node, members: usize) -> Boxed<'_, Result<(), JoinError>> {
    // A map that does not have this process Up counts for nothing: it may be from the state
    // directory, or have the previous process of this node in the place of this one.
    let has_joined = |map: &ClusterMap| map.status(&node.peers.local().member) == Some(Status::Up);
    let (map, failed, cancel) = (&node.map, &node.failed, &node.process.cancel);
    boxed(wait(map, failed, cancel, members, has_joined))
}

/// As [`ActorSystem::ready`], for a node with a network.
fn ready(node: &Node) -> Boxed<'_, Result<(), JoinError>> {
    boxed(async {
        loop {
            wait_for(node, 1).await?;
            if node.process.ending.is_cancelled() {
                return Err(JoinError::ShutDown);
            }
            if node.is_ready() {
                return Ok(());
            }
            // It holds no lease. If it gets none, because it is no member any more, a map or a
            // failure tells.
            let seen = node.map.get();
            let news = node.map.wait(|map| {
                let same = map.map(Arc::as_ptr) == seen.as_ref().map(Arc::as_ptr);
                (!same || node.failed.get().is_some()).then_some(())
            });
            let opened = async {
                match node.process.runtime.gate() {
                    Some(gate) => gate.opened().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = news => {}
                () = opened => {}
                () = node.process.ending.cancelled() => {}
                () = node.process.cancel.cancelled() => {}
            }
        }
    })
}

/// Waits until a map that `counts` has enough members that are Up.
async fn wait(
    map: &MapWatch,
    failed: &Failed,
    cancel: &CancellationToken,
    members: usize,
    counts: impl Fn(&ClusterMap) -> bool,
) -> Result<(), JoinError> {
    let enough = map.wait(|map| match failed.get() {
        Some(error) => Some(Err(error)),
        None => map
            .is_some_and(|map| counts(map) && map.up().count() >= members)
            .then_some(Ok(())),
    });
    tokio::select! {
        biased;
        result = enough => result,
        () = cancel.cancelled() => Err(JoinError::ShutDown),
    }
}

fn members(node: &Node) -> Vec<MemberInfo> {
    node.members()
        .into_iter()
        .map(|(id, address, status, said)| MemberInfo {
            id,
            address,
            status: MemberStatus::of(status),
            entities: said.as_ref().map(|said| said.load),
            roles: said.map(|said| said.roles).unwrap_or_default(),
        })
        .collect()
}

/// A member of the cluster, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The name and the incarnation of the member.
    pub id: MemberId,
    /// The address that the member listens on.
    pub address: SocketAddr,
    /// The status of the member.
    pub status: MemberStatus,
    /// The number of active entities on the member, by its last report; `None` before the first
    /// one.
    pub entities: Option<u64>,
    /// The roles that the member was started with; empty before its first report.
    pub roles: BTreeSet<String>,
}

/// The status of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MemberStatus {
    /// The member is known, but not ready yet.
    Joining,
    /// The member may own shards.
    Up,
    /// The member hands its shards over, and then leaves.
    Leaving,
    /// The member was declared dead. This is final for its incarnation.
    Down,
}

impl MemberStatus {
    pub(crate) fn of(status: Status) -> Self {
        match status {
            Status::Joining => Self::Joining,
            Status::Up => Self::Up,
            Status::Leaving => Self::Leaving,
            Status::Down => Self::Down,
        }
    }
}

/// What the last process of a local system was to send goes on, also without a message to the
/// shards of the senders.
async fn carry_on_sends(runtime: Arc<Runtime>, regions: Vec<Arc<dyn AnyRegion>>) {
    for log in logs_with_ledgers(&runtime, &regions).await {
        if let Some(region) = regions.iter().find(|region| region.name() == &*log.kind) {
            // The region keeps it. Why there is none is said to the next message.
            drop(region.log(ShardId(log.shard)));
        }
    }
}
