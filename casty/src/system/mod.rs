//! A system: start, use, shutdown.

#[cfg(feature = "sim")]
mod glance;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Weak},
};

use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    actor::{
        Actor, Entity, Rejected, Route,
        envelope::{Envelope, ReplyTo},
        reference::{ActorRef, Found},
        runtime::{Carrier, Myself, Runtime},
        spy::{Scope, Spy},
    },
    cluster::{
        authority::raft::Disk,
        inbound, join,
        node::{Node, NodeSetup},
        region::{AnyRegion, Mesh},
        registry::Registry,
    },
    config::{Availability, OnDown, Settings},
    error::{Failure, JoinError, ShutdownError, StartError, TellError},
    event::{ActorPath, Events},
    id::{EntityId, Incarnation, MemberId, NODE_ID_BYTES_MAX, NodeId},
    protocol::map::{ClusterMap, Status},
    tie::{Breaker, TieBreaker},
    transport::net::{Net, Tcp},
};

/// A running system: a member of a cluster, or an island without a network.
///
/// Cheap to clone. When the last clone is dropped the system stops at once; [`shutdown`](Self::shutdown) stops it
/// gracefully.
#[derive(Clone, Debug)]
pub struct ActorSystem(Arc<Inner>);

struct Inner {
    runtime: Arc<Runtime>,
    regions: Vec<Arc<dyn AnyRegion>>,
    node: Option<Arc<Node>>,
    settings: Settings,
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
        if self.node.is_none() {
            self.regions.iter().for_each(|region| region.abandon());
            self.runtime.stop();
        }
    }
}

#[cfg(feature = "sim")]
pub(crate) use self::glance::Glance;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub use self::glance::View;

impl ActorSystem {
    /// A member of the cluster `cluster`, to be configured and started.
    pub fn builder(cluster: impl Into<String>) -> SystemBuilder {
        SystemBuilder::new(cluster.into())
    }

    /// A system without a network: everything it addresses lives in this process.
    ///
    /// # Panics
    /// Outside a tokio runtime; or if two linked entity types share a wire name.
    pub fn local(name: impl Into<String>) -> Self {
        let settings = Settings::default();
        match Self::start_local(name.into(), Registry::default(), settings) {
            Ok(system) => system,
            Err(error) => panic!("{error}"),
        }
    }

    fn start_local(
        name: String,
        registry: Registry,
        settings: Settings,
    ) -> Result<Self, StartError> {
        let runtime = Runtime::new(NodeId::new(name), &settings, fresh_seed());
        let (regions, routes) = registry.build(&runtime, &settings, None)?;
        runtime.set_routes(routes);
        let stop = CancellationToken::new().drop_guard();
        Ok(Self(Arc::new(Inner {
            runtime,
            regions,
            node: None,
            settings,
            _stop: stop,
        })))
    }

    /// A reference to an entity, wherever it lives. Cheap, no I/O, never stale: the owner is found at each send.
    ///
    /// The id is checked when something is sent: an empty or overlong one is a typed error then.
    pub fn entity<E: Entity>(&self, id: impl AsRef<str>) -> E::Ref {
        self.0.runtime.entity::<E>(id)
    }

    /// The shards of an entity type, one level below [`entity`](Self::entity): a message is a value.
    pub fn shards<E: Entity>(&self) -> Shards<E> {
        Shards {
            route: self.0.runtime.route::<E>(),
        }
    }

    /// Starts an actor on this node. It lives until it stops, or the system does; dropping its reference does not
    /// stop it.
    ///
    /// Started from a value, it cannot be made anew: a failure ends it, unless its type says
    /// `on_failure = resume`. See [`spawn_with`](Self::spawn_with).
    pub fn spawn<A: Actor<Address = ActorRef<A>>>(&self, actor: A) -> A::Ref {
        let cell = self.0.runtime.spawn_actor(Some(actor), None, None);
        A::proxy(ActorRef::local(cell))
    }

    /// The same, for an actor that survives its failures: `make` makes its first state, and a fresh one after each.
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
    pub fn spawn_with<A: Actor<Address = ActorRef<A>>>(
        &self,
        make: impl FnMut() -> A + Send + 'static,
    ) -> A::Ref {
        let make: Box<dyn FnMut() -> A + Send> = Box::new(make);
        let cell = self.0.runtime.spawn_actor(None, Some(make), None);
        A::proxy(ActorRef::local(cell))
    }

    /// Observes the messages of an actor, of an entity's activations on this node, or of an actor and all below it.
    /// It never slows them: see [`Spy`].
    ///
    /// Who it is, [`ActorRef::path`] and [`EntityRef::path`](crate::EntityRef::path) tell:
    /// `system.spy(greeter.as_ref().path(), Scope::Actor)`.
    pub fn spy(&self, who: ActorPath, scope: Scope) -> Spy {
        self.0.runtime.spies.add(who, scope)
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
    pub(crate) fn glance(&self) -> Glance {
        Glance(Arc::downgrade(&self.0))
    }

    /// Everything that happens in this system from now on. Slow readers are told how many events they missed.
    pub fn events(&self) -> Events {
        self.0.runtime.events.subscribe()
    }

    /// How many dead letters there were since the start.
    pub fn dead_letters(&self) -> u64 {
        self.0.runtime.events.dead_letters()
    }

    /// This node's name.
    pub fn node_id(&self) -> &NodeId {
        &self.0.runtime.node
    }

    /// Where peers reach this node, with the port that was bound. A system without a network has `0.0.0.0:0`.
    pub fn address(&self) -> SocketAddr {
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        self.0
            .node
            .as_ref()
            .and_then(|node| node.address())
            .unwrap_or(nowhere)
    }

    /// The members of the cluster as this node sees them, this one among them.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.0.node.as_deref().map_or_else(Vec::new, members)
    }

    /// Waits until at least `members` members are Up, as this node sees it. There is no timeout: wrap it in
    /// [`tokio::time::timeout`] where one is wanted. A system without a network is one member.
    ///
    /// # Errors
    /// [`JoinError`] once it is certain that this node will not get there: it was refused, or declared down.
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

    /// Waits until the process is asked to end, by `SIGTERM` or Ctrl-C, and [shuts down](Self::shutdown) then: what the
    /// `main` of a service does last.
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
    /// [`ShutdownError`] as [`shutdown`](Self::shutdown), or if the operating system does not tell of signals.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing has happened; for the rest see [`shutdown`](Self::shutdown).
    pub async fn run_until_terminated(&self) -> Result<(), ShutdownError> {
        let refused = |error: std::io::Error| ShutdownError::Signal {
            reason: error.to_string(),
        };
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
            tokio::select! {
                biased;
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.map_err(refused)?;
        self.shutdown().await
    }

    /// Stops gracefully: entities and actors finish what is in their mailboxes, shards are given up, the members
    /// are told, connections are closed. A second call has nothing to do.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if something was still under way after
    /// [`Settings::shutdown_timeout`]. The system has stopped all the same.
    ///
    /// # Cancel safety
    /// Dropped half way, the shutdown may be incomplete; call it again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        if let Some(node) = &self.0.node {
            return join::leave(node).await;
        }
        let after = self.0.settings.shutdown_timeout;
        let stopping = async {
            for region in &self.0.regions {
                region.leave().await;
            }
            self.0.runtime.close_all().await;
        };
        let stopped = tokio::time::timeout(after, stopping).await;
        self.0.regions.iter().for_each(|region| region.abandon());
        self.0.runtime.stop();
        stopped.map_err(|_| ShutdownError::Timeout {
            after,
            waiting_for: "handlers",
        })
    }
}

async fn wait_for(node: &Node, members: usize) -> Result<(), JoinError> {
    let cancelled = node.cancel().cancelled();
    let enough = node.watch().wait(|map| match node.failure() {
        Some(error) => Some(Err(error)),
        None => map
            .filter(|map| !is_old_news(node, map))
            .is_some_and(|map| map.up().count() >= members)
            .then_some(Ok(())),
    });
    tokio::select! {
        biased;
        result = enough => result,
        () = cancelled => Err(JoinError::ShutDown),
    }
}

/// Whether a map is what was kept: of its members some may be gone, and this node is none yet.
fn is_old_news(node: &Node, map: &ClusterMap) -> bool {
    node.kept_seat().is_some() && map.status(&node.member()) != Some(Status::Up)
}

fn members(node: &Node) -> Vec<MemberInfo> {
    join::members(node)
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
    /// Its name and incarnation.
    pub id: MemberId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it is in its life.
    pub status: MemberStatus,
    /// How many entities are alive on it, as it said last; `None` if it has said nothing yet.
    pub entities: Option<u64>,
    /// The roles it was started with; empty also if it has said nothing yet.
    pub roles: BTreeSet<String>,
}

/// Where a member is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MemberStatus {
    /// Known, not yet ready.
    Joining,
    /// May own shards.
    Up,
    /// Hands its shards over.
    Leaving,
    /// Declared dead; final for this incarnation.
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

/// The shards of one entity type.
pub struct Shards<E: Entity> {
    route: Arc<dyn Route<E>>,
}

impl<E: Entity> Shards<E> {
    /// Sends a message to the entity it names; waits for room, not for the handler.
    ///
    /// # Errors
    /// [`TellError`] gives the message back: it was certainly not sent.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, the message is not sent.
    pub async fn tell(&self, to: ShardEnvelope<E>) -> Result<(), TellError<E::Message>> {
        match self.queue(to) {
            Err((
                id,
                Rejected {
                    envelope,
                    failure: Failure::Full,
                },
            )) => {
                let shard = id.shard(self.route.shards());
                self.route
                    .clone()
                    .send(id, shard, envelope)
                    .await
                    .map_err(told)
            }
            Err((_, rejected)) => Err(told(rejected)),
            Ok(()) => Ok(()),
        }
    }

    /// Sends a message if there is room for it now. Never waits.
    ///
    /// # Errors
    /// [`TellError`] gives the message back, [`TellError::Full`] among others.
    pub fn try_tell(&self, to: ShardEnvelope<E>) -> Result<(), TellError<E::Message>> {
        self.queue(to).map_err(|(_, rejected)| told(rejected))
    }

    fn queue(&self, to: ShardEnvelope<E>) -> Result<(), (EntityId, Rejected<E>)> {
        let ShardEnvelope { entity_id, message } = to;
        let envelope = Envelope {
            message,
            reply: ReplyTo::Nobody,
        };
        if let Err(invalid) = entity_id.check() {
            return Err((
                entity_id,
                Rejected::new(envelope, Failure::InvalidId(invalid)),
            ));
        }
        let shard = entity_id.shard(self.route.shards());
        let sent = self
            .route
            .try_send(&entity_id, shard, envelope, &Found::new());
        sent.map_err(|rejected| (entity_id, rejected))
    }
}

fn told<E: Entity>(rejected: Rejected<E>) -> TellError<E::Message> {
    TellError::new(rejected.envelope.message, rejected.failure)
}

impl<E: Entity> fmt::Debug for Shards<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shards({})", self.route.name())
    }
}

/// A message and the id of the entity it is for.
pub struct ShardEnvelope<E: Entity> {
    /// Which entity of its type.
    pub entity_id: EntityId,
    /// What it is told.
    pub message: E::Message,
}

impl<E: Entity> ShardEnvelope<E> {
    /// Addresses a message.
    pub fn new(entity_id: impl AsRef<str>, message: E::Message) -> Self {
        Self {
            entity_id: EntityId::new(entity_id),
            message,
        }
    }
}

impl<E: Entity> fmt::Debug for ShardEnvelope<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::actor::Message as _;
        write!(
            f,
            "ShardEnvelope({}, {})",
            self.entity_id,
            self.message.name()
        )
    }
}

/// Roles of one node. They travel in its facts.
const ROLES_MAX: usize = 16;

/// Configures a member of a cluster. See [`ActorSystem::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct SystemBuilder {
    cluster: String,
    node_id: Option<String>,
    listen: String,
    advertise: Option<String>,
    seeds: Vec<String>,
    roles: BTreeSet<String>,
    settings: Settings,
    on_down: OnDown,
    availability: Availability,
    tie_breaker: Option<Breaker>,
    state_dir: Option<PathBuf>,
    registry: Registry,
    net: Arc<dyn Net>,
    incarnation: Option<Incarnation>,
    seed: Option<u64>,
}

impl SystemBuilder {
    fn new(cluster: String) -> Self {
        Self {
            cluster,
            node_id: None,
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            seeds: Vec::new(),
            roles: BTreeSet::new(),
            settings: Settings::default(),
            on_down: OnDown::default(),
            availability: Availability::default(),
            tie_breaker: None,
            state_dir: None,
            registry: Registry::default(),
            net: Arc::new(Tcp),
            incarnation: None,
            seed: None,
        }
    }

    /// This node's name, unique in the cluster. It stays the same over restarts: a node that starts under a name
    /// takes the place of the process that had it before. Default: the address it listens on.
    pub fn node_id(mut self, name: impl ToString) -> Self {
        self.node_id = Some(name.to_string());
        self
    }

    /// The address to listen on, as `host:port`; port 0 takes a free one. Default: `127.0.0.1:0`.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen = address.to_string();
        self
    }

    /// The address that peers dial, where it is not the one this node listens on (`0.0.0.0`, NAT, containers).
    pub fn advertise(mut self, address: impl ToString) -> Self {
        self.advertise = Some(address.to_string());
        self
    }

    /// Nodes to join through, as `host:port`, in any order but the first: a node that is itself the first seed
    /// founds the cluster once all other seeds have said that they know none. Without seeds a node founds one.
    pub fn seeds<S: ToString>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds = seeds.into_iter().map(|seed| seed.to_string()).collect();
        self
    }

    /// Gives this node a role; call it again for another. A type with `#[entity(role = "storage")]` lives on nodes with
    /// the role `storage` only. Every node sends to it, as to any other type.
    ///
    /// A role is any name of at most 255 bytes; a node has at most 16. Without a network nothing is lacking: a local
    /// system hosts all types.
    pub fn role(mut self, name: impl ToString) -> Self {
        self.roles.insert(name.to_string());
        self
    }

    /// Times and bounds.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What becomes of this node if the cluster declares it Down while it lives: it was cut off, or stopped, for too
    /// long. Default: it joins anew.
    pub fn on_down(mut self, on_down: OnDown) -> Self {
        self.on_down = on_down;
        self
    }

    /// What this node does if it is one of two and cannot reach the other, and there is no
    /// [tie-breaker](Self::tie_breaker). Default: it waits.
    pub fn availability(mut self, availability: Availability) -> Self {
        self.availability = availability;
        self
    }

    /// What decides, outside of the cluster, which of two nodes goes on if they cannot reach each other. All nodes of a
    /// cluster need the same one; a node whose setting differs is refused. Default: none.
    pub fn tie_breaker(mut self, tie_breaker: impl TieBreaker) -> Self {
        self.tie_breaker = Some(Breaker::new(tie_breaker));
        self
    }

    /// A directory in which this node keeps what it decides about the cluster, made if there is none; each node needs one of
    /// its own. Default: none.
    ///
    /// Up to five of the nodes decide, and what they know ends with their processes. With a directory it does not: if a
    /// majority of them is killed at once, or all are, and started again under their names, the cluster is the same one,
    /// without an operator. Whoever lived on stays a member, and fencing tokens go on growing. State of entities is not
    /// kept; a process that starts again is a new member, as ever.
    ///
    /// The price is a write to the disk (`fsync`) before each change of the map is decided: when nodes come and go, or shards
    /// get a home, and not for messages. A node that is declared Down, or leaves by [`shutdown`](ActorSystem::shutdown),
    /// gives its place up, and its directory is as good as empty. A directory must not be copied, or put back from a backup:
    /// whoever votes twice may split the cluster. For the same reason those of nodes that were given up for lost have to be
    /// removed before they start again, once the cluster was recovered without them.
    ///
    /// All nodes that may come to decide should have one. It cannot be combined with a
    /// [tie-breaker](Self::tie_breaker).
    ///
    /// ```no_run
    /// # use casty::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), casty::StartError> {
    /// let node = ActorSystem::builder("shop")
    ///     .node_id("node-1")
    ///     .listen("10.0.0.1:25520")
    ///     .seeds(["10.0.0.2:25520", "10.0.0.3:25520"])
    ///     .state_dir("/var/lib/shop/casty")
    ///     .start()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(path.into());
        self
    }

    /// Registers an entity type that `inventory` cannot see: one in a crate the linker dropped.
    pub fn entity<E: Entity>(mut self) -> Self {
        self.registry.add::<E>(E::NAME);
        self
    }

    /// Registers an entity type under another wire name: each type that a generic entity stands for needs one.
    pub fn entity_as<E: Entity>(mut self, name: impl Into<String>) -> Self {
        self.registry.add::<E>(name);
        self
    }

    /// The incarnation, instead of the present time in milliseconds. Must grow with each start of the node.
    #[doc(hidden)]
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(Incarnation(incarnation));
        self
    }

    /// Where this node's randomness starts, instead of the operating system's.
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    #[cfg(feature = "sim")]
    pub(crate) fn net(mut self, net: Arc<dyn Net>) -> Self {
        self.net = net;
        self
    }

    fn check_name(setting: &'static str, name: &str) -> Result<(), StartError> {
        let reason = match name.len() {
            0 => "must not be empty".to_owned(),
            bytes if bytes > NODE_ID_BYTES_MAX => {
                format!("has {bytes} bytes, at most {NODE_ID_BYTES_MAX} are possible")
            }
            _ => return Ok(()),
        };
        Err(StartError::Setting { setting, reason })
    }

    fn check_roles(&self) -> Result<(), StartError> {
        for role in &self.roles {
            Self::check_name("role", role)?;
        }
        let roles = self.roles.len();
        if roles > ROLES_MAX {
            let reason = format!("there are {roles} of them, at most {ROLES_MAX} are possible");
            return Err(StartError::Setting {
                setting: "role",
                reason,
            });
        }
        Ok(())
    }

    /// Starts a system without a network, with these settings and entity types.
    ///
    /// # Errors
    /// [`StartError`] for settings out of range, or two entity types of one name.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_local(self) -> Result<ActorSystem, StartError> {
        Self::check_name("name", &self.cluster)?;
        self.check_roles()?;
        self.settings.check()?;
        ActorSystem::start_local(self.cluster, self.registry, self.settings)
    }

    /// Binds the address, then joins or founds the cluster in the background. Use
    /// [`wait_for`](ActorSystem::wait_for) to wait for that.
    ///
    /// # Errors
    /// [`StartError`] for an address that cannot be had, settings out of range, two entity types of one name, or a
    /// [directory](Self::state_dir) that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(self) -> Result<ActorSystem, StartError> {
        Self::check_name("cluster", &self.cluster)?;
        self.check_roles()?;
        self.settings.check()?;
        if self.tie_breaker.is_some() && self.availability == Availability::Prefer {
            let reason =
                "lets one of two nodes go on, and `Availability::Prefer` both; choose one of them";
            return Err(StartError::Setting {
                setting: "tie_breaker",
                reason: reason.to_owned(),
            });
        }
        if self.state_dir.is_some() && self.tie_breaker.is_some() {
            // What a tie-breaker has decided holds for ever; what was kept from before would have to know of it.
            let reason = "cannot be combined with a tie-breaker; choose one of them";
            return Err(StartError::Setting {
                setting: "state_dir",
                reason: reason.to_owned(),
            });
        }
        let listener = {
            let refused = |source| StartError::Listen {
                address: self.listen.clone(),
                source,
            };
            let address = resolve_one(&*self.net, &self.listen)
                .await
                .map_err(refused)?;
            self.net.bind(address).await.map_err(refused)?
        };
        let address =
            match &self.advertise {
                None => listener.address(),
                Some(advertise) => resolve_one(&*self.net, advertise).await.map_err(|error| {
                    StartError::Setting {
                        setting: "advertise",
                        reason: format!("`{advertise}`: {error}"),
                    }
                })?,
            };
        if address.ip().is_unspecified() {
            return Err(StartError::Setting {
                setting: "advertise",
                reason: format!("`{address}` cannot be dialed by others; say which address can"),
            });
        }
        let name = self.node_id.clone().unwrap_or_else(|| address.to_string());
        Self::check_name("node_id", &name)?;
        let incarnation = self.incarnation.unwrap_or_else(Incarnation::now);
        let member = MemberId {
            node: NodeId::new(name),
            incarnation,
        };
        let opened = match &self.state_dir {
            Some(path) => Some(Disk::open(path, &self.cluster, &member.node)?),
            None => None,
        };
        let (disk, kept) = opened.unzip();
        let (inner, node, inputs) = self.assemble(member, Some(address), disk)?;
        if let Some(kept) = kept.flatten() {
            // Before anybody is let in: who asks is not to be told that there is no cluster.
            node.set_kept(kept);
        }
        node.spawn_connection(inbound::accept(node.clone(), listener));
        join::start(&node, inputs);
        Ok(ActorSystem(inner))
    }

    fn assemble(
        self,
        member: MemberId,
        address: Option<SocketAddr>,
        disk: Option<Arc<Disk>>,
    ) -> Result<(Arc<Inner>, Arc<Node>, crate::cluster::gossip::Inputs), StartError> {
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let runtime = Runtime::new(member.node.clone(), &self.settings, seed);
        let cancel = CancellationToken::new();
        let setup = NodeSetup {
            cluster: self.cluster,
            member: member.clone(),
            address,
            settings: self.settings.clone(),
            seeds: self.seeds,
            roles: self.roles,
            given_incarnation: self.incarnation.is_some(),
            on_down: self.on_down,
            availability: self.availability,
            tie_breaker: self.tie_breaker,
            disk,
            net: self.net,
            seed,
        };
        let (node, inputs) = Node::new(setup, runtime.clone(), cancel.clone());
        let mesh: Arc<dyn Mesh> = node.clone();
        let (regions, routes) =
            self.registry
                .build(&runtime, &self.settings, Some(&Arc::downgrade(&mesh)))?;
        let carrier: Arc<dyn Carrier> = node.clone();
        let carrier: Weak<dyn Carrier> = Arc::downgrade(&carrier);
        runtime.set_network(address.map(|address| Myself { member, address }), carrier);
        runtime.set_routes(routes);
        node.set_regions(regions.clone());
        let inner = Inner {
            runtime,
            regions,
            node: Some(node.clone()),
            settings: self.settings,
            _stop: cancel.drop_guard(),
        };
        Ok((Arc::new(inner), node, inputs))
    }
}

/// Where a node's randomness starts, unless it was told.
#[expect(clippy::disallowed_methods, reason = "the seed of everything else")]
pub(crate) fn fresh_seed() -> u64 {
    rand::random()
}

async fn resolve_one(net: &dyn Net, name: &str) -> std::io::Result<SocketAddr> {
    let none = || std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    net.resolve(name).await?.into_iter().next().ok_or_else(none)
}

/// A client of a cluster: routes and asks, hosts nothing, is no member.
#[derive(Clone, Debug)]
pub struct ClusterClient(Arc<Inner>);

impl ClusterClient {
    /// Connects to the cluster `cluster` through any of its members, and waits until it knows where things are.
    ///
    /// Seeds that cannot be reached are tried again; there is no timeout: wrap it in [`tokio::time::timeout`] where
    /// one is wanted.
    ///
    /// # Errors
    /// [`ConnectError`] if a seed refuses this client for good, or the types of this process clash.
    pub async fn connect<S: ToString>(
        cluster: impl Into<String>,
        seeds: impl IntoIterator<Item = S>,
    ) -> Result<Self, ConnectError> {
        let builder = SystemBuilder::new(cluster.into()).seeds(seeds);
        SystemBuilder::check_name("cluster", &builder.cluster)?;
        if builder.seeds.is_empty() {
            let reason = "a client needs at least one seed".to_owned();
            return Err(StartError::Setting {
                setting: "seeds",
                reason,
            }
            .into());
        }
        let incarnation = Incarnation::now();
        let name = format!("client-{:016x}", fresh_seed());
        let member = MemberId {
            node: NodeId::new(name),
            incarnation,
        };
        let (inner, node, inputs) = builder.assemble(member, None, None)?;
        join::start(&node, inputs);
        wait_for(&node, 1).await?;
        Ok(Self(inner))
    }

    /// A reference to an entity. See [`ActorSystem::entity`].
    pub fn entity<E: Entity>(&self, id: impl AsRef<str>) -> E::Ref {
        self.0.runtime.entity::<E>(id)
    }

    /// The shards of an entity type. See [`ActorSystem::shards`].
    pub fn shards<E: Entity>(&self) -> Shards<E> {
        Shards {
            route: self.0.runtime.route::<E>(),
        }
    }

    /// Everything that happens to this client from now on.
    pub fn events(&self) -> Events {
        self.0.runtime.events.subscribe()
    }

    /// The members of the cluster as this client sees them.
    pub fn members(&self) -> Vec<MemberInfo> {
        self.0.node.as_deref().map_or_else(Vec::new, members)
    }

    /// Waits until at least `members` members are Up. See [`ActorSystem::wait_for`].
    ///
    /// # Errors
    /// [`JoinError`] once it is certain that this will not be.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait_for(&self, members: usize) -> Result<(), JoinError> {
        match &self.0.node {
            Some(node) => wait_for(node, members).await,
            None => Err(JoinError::ShutDown),
        }
    }

    /// Closes the connections.
    ///
    /// # Errors
    /// [`ShutdownError::Timeout`] if they did not close in time. They are cut all the same.
    ///
    /// # Cancel safety
    /// Dropped half way, the shutdown may be incomplete; call it again.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        match &self.0.node {
            Some(node) => join::leave(node).await,
            None => Ok(()),
        }
    }
}

/// Why a client is not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The client could not be set up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The cluster does not take it.
    #[error(transparent)]
    Join(#[from] JoinError),
}
