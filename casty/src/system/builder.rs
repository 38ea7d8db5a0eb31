//! The configuration and the start of a member.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc};

#[cfg(feature = "sim")]
use casty_log::disk::SimDisk;

#[cfg(feature = "tls")]
use crate::transport::{
    identity::PeerRole,
    tls::{Below, Tls, TlsNet},
};

use super::{
    ActorSystem, Inner,
    built::{Built, carrier, make_runtime, resolve_one},
    checks,
    journal::{self, Chosen},
    map_dir::map_dir,
    tether,
};
#[cfg(feature = "config")]
use crate::config::file::ConfigSource;
use crate::{
    actor::{Entity, resources::Resources, runtime::Myself},
    cluster::{
        authority::raft::{Disk, StoredState},
        copies::NodeCopies,
        node::{Node, NodeSetup},
        peers::LocalMember,
        peers::access::Access,
        registry::Registry,
        start::start,
    },
    config::{Availability, LISTEN, OnDown, Settings},
    error::StartError,
    id::{CopySettings, Incarnation, MemberId, NodeId, SeekerState},
    infra::boxed::{Boxed, boxed},
    persistence::{Journal, store::Store},
    projection::Projections,
    tie::{Breaker, TieBreaker},
    transport::{
        frame::FRAME_BYTES_MAX,
        net::{Listener, Net, Tcp},
    },
};

/// Configures a member of a cluster. See [`ActorSystem::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct SystemBuilder {
    pub(super) cluster: String,
    pub(super) node_id: Option<String>,
    pub(super) listen: String,
    pub(super) advertise: Option<String>,
    pub(super) seeds: Vec<String>,
    pub(super) bootstrap_expect: Option<u32>,
    pub(super) roles: BTreeSet<String>,
    pub(super) settings: Settings,
    on_down: OnDown,
    availability: Availability,
    tie_breaker: Option<Breaker>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) in_memory: bool,
    pub(super) recordings: Option<PathBuf>,
    pub(super) journal: Option<Chosen>,
    /// Of a system of `testkit` that is given none, and has types that are stored.
    journal_for_tests: Option<Chosen>,
    /// In place of `data_dir`, as far as entities are concerned.
    #[cfg(feature = "sim")]
    simulated_disk: Option<SimDisk>,
    pub(super) resources: Resources,
    pub(super) registry: Registry,
    pub(super) net: Arc<dyn Net>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls>,
    pub(super) insecure: bool,
    pub(super) access: Access,
    #[cfg(feature = "config")]
    pub(super) config: Option<(ConfigSource, Configure)>,
    incarnation: Option<Incarnation>,
    seed: Option<u64>,
    /// The end of its tokio runtime is that of a process, which does nothing more.
    is_simulated: bool,
    strict_wire: Option<bool>,
}

/// Takes over what a configuration says and the program does not.
#[cfg(feature = "config")]
type Configure = fn(&mut SystemBuilder, ConfigSource) -> Result<(), StartError>;

impl SystemBuilder {
    pub(super) fn new(cluster: String) -> Self {
        Self {
            cluster,
            node_id: None,
            listen: LISTEN.to_owned(),
            advertise: None,
            seeds: Vec::new(),
            bootstrap_expect: None,
            roles: BTreeSet::new(),
            settings: Settings::default(),
            on_down: OnDown::default(),
            availability: Availability::default(),
            tie_breaker: None,
            state_dir: None,
            data_dir: None,
            in_memory: false,
            recordings: None,
            journal: None,
            journal_for_tests: None,
            #[cfg(feature = "sim")]
            simulated_disk: None,
            resources: Resources::default(),
            registry: Registry::default(),
            net: Arc::new(Tcp),
            #[cfg(feature = "tls")]
            tls: None,
            insecure: false,
            access: Access::new(),
            #[cfg(feature = "config")]
            config: None,
            incarnation: None,
            seed: None,
            is_simulated: false,
            strict_wire: None,
        }
    }

    /// The name of this node, unique in the cluster. Keep it over restarts: a node that starts
    /// under a name takes the place of the process that had this name before. Default: the address
    /// that the node listens on.
    pub fn node_id(mut self, name: impl ToString) -> Self {
        self.node_id = Some(name.to_string());
        self
    }

    /// The address to listen on, as `host:port`; port 0 takes a free one. Default: `127.0.0.1:0`.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen = address.to_string();
        self
    }

    /// The address that peers dial. Set it if peers cannot dial the address that this node listens
    /// on (`0.0.0.0`, NAT, containers). Default: the address of [`listen`](Self::listen). The
    /// cluster lets a node in only once the leader reaches it at this address; until then the node
    /// goes on trying, and both log a warning with the address.
    pub fn advertise(mut self, address: impl ToString) -> Self {
        self.advertise = Some(address.to_string());
        self
    }

    /// Nodes to join the cluster through, as `host:port`. Their order means nothing, and it makes
    /// no difference whether a node is among its own seeds: give every node the same list, or the
    /// addresses of the others.
    ///
    /// A node joins the cluster of any seed that is in one. While none is, all seeds have to
    /// answer, and theirs too; then the node with the least address founds a cluster. A node that
    /// is in no cluster yet names the seeds that it waits for in a warning. A node without seeds,
    /// or with itself as the only one, founds a cluster at once. See
    /// [`bootstrap_expect`](Self::bootstrap_expect) for other rules.
    ///
    /// A seed that is not of the form `host:port` is an error of [`start`](Self::start). A name
    /// that cannot be resolved may mean something later; until then it is in the warnings.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
    /// # let (here, there) = (free()?, free()?);
    /// let start = |own| ActorSystem::builder("shop").listen(own).seeds([there, here]).start();
    /// let (a, b) = tokio::try_join!(start(here), start(there))?;
    /// a.wait_for(2).await?;
    /// b.wait_for(2).await?;
    /// # b.shutdown().await?;
    /// # a.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn seeds<S: ToString>(mut self, seeds: impl IntoIterator<Item = S>) -> Self {
        self.seeds = seeds.into_iter().map(|seed| seed.to_string()).collect();
        self
    }

    /// Founds the cluster as soon as `nodes` nodes, this one included, reach each other and agree
    /// who founds it. Then not all seeds have to answer, and a node whose seeds name no other node
    /// yet does not found a cluster of its own: seeds may be one DNS name that resolves to more and
    /// more addresses while nodes start.
    ///
    /// It must be more than half of all nodes that can start before there is a cluster, and the
    /// same on all of them: 2 of 3, or 3 of 5. With less, two halves that do not reach each other
    /// found a cluster each. It means nothing once there is a cluster: a node joins the cluster of
    /// any seed that is in one.
    ///
    /// The nodes vote, in memory: a node that is restarted has forgotten its vote. So restart no
    /// node while the first nodes form the cluster, unless it warns that it waits for a founder
    /// that is gone for good.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
    /// # let seeds = [free()?, free()?, free()?];
    /// let start = |own| {
    ///     ActorSystem::builder("shop").listen(own).seeds(seeds).bootstrap_expect(2).start()
    /// };
    /// // The third is not there.
    /// let (a, b) = tokio::try_join!(start(seeds[0]), start(seeds[1]))?;
    /// a.wait_for(2).await?;
    /// b.wait_for(2).await?;
    /// # b.shutdown().await?;
    /// # a.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`start`](Self::start) refuses 0.
    pub fn bootstrap_expect(mut self, nodes: u32) -> Self {
        self.bootstrap_expect = Some(nodes);
        self
    }

    /// Gives this node a role; call it again for another role. A type with `#[entity(role =
    /// "storage")]` lives only on nodes with the role `storage`. Every node can send to it.
    ///
    /// A role is a name of at most 255 bytes; a node has at most 16 roles. A local system hosts all
    /// types, whatever its roles.
    ///
    /// A role that begins with `zone:`, such as `zone:eu-1`, also names the zone that the node is
    /// in: a data center, a rack, whatever may fail as a whole. A node has at most one such role.
    /// Where nodes keep copies of each other's shards ([`data_dir`](Self::data_dir)), the copies of
    /// a shard are spread over as many zones as possible, and within a zone over as many hosts.
    /// Nodes that name no zone count as one zone of their own.
    pub fn role(mut self, name: impl ToString) -> Self {
        self.roles.insert(name.to_string());
        self
    }

    /// Gives the actors of this node a value: a connection pool, a client, a clock. They read it
    /// by [`Context::resource`], by its type. A second value of the same type replaces the first;
    /// to have two of one type, wrap each in a type of its own.
    ///
    /// The value is shared by all actors of the node, and dropped after the system.
    ///
    /// ```standalone_crate
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use casty::prelude::*;
    ///
    /// /// Numbers of bills, unique on this node.
    /// #[derive(Default)]
    /// struct Numbers(AtomicU64);
    ///
    /// #[derive(Default)]
    /// struct Bill {
    ///     number: Option<u64>,
    /// }
    ///
    /// #[entity]
    /// impl Bill {
    ///     #[message]
    ///     fn issue(&mut self, ctx: &mut Context<Self>) -> u64 {
    ///         let numbers = ctx.resource::<Numbers>();
    ///         *self.number.get_or_insert_with(|| numbers.0.fetch_add(1, Ordering::Relaxed))
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let system = ActorSystem::builder("billing")
    ///     .resource(Numbers::default())
    ///     .start_local()?;
    /// assert_eq!(system.entity::<Bill>("a").issue().await?, 0);
    /// assert_eq!(system.entity::<Bill>("b").issue().await?, 1);
    /// assert_eq!(system.entity::<Bill>("a").issue().await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Context::resource`]: crate::Context::resource
    pub fn resource<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.resources.set(value);
        self
    }

    /// Timeouts and bounds. Default: [`Settings::default`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// What this node does if the cluster declares it Down while it runs, because it was cut off or
    /// suspended for too long. Default: it joins again, as a new member.
    pub fn on_down(mut self, on_down: OnDown) -> Self {
        self.on_down = on_down;
        self
    }

    /// What this node does in a cluster of two nodes if it cannot reach the other one, and there is
    /// no [tie-breaker](Self::tie_breaker). Default: it waits.
    pub fn availability(mut self, availability: Availability) -> Self {
        self.availability = availability;
        self
    }

    /// A service outside of the cluster that decides which of two nodes goes on if they cannot
    /// reach each other. All nodes of a cluster need the same tie-breaker; a node with another one
    /// is refused. Default: none.
    pub fn tie_breaker(mut self, tie_breaker: impl TieBreaker) -> Self {
        self.tie_breaker = Some(Breaker::new(tie_breaker));
        self
    }

    /// A directory in which this node stores its part of the decisions about the cluster. The
    /// directory is created if it does not exist; each node needs one of its own. Default: none.
    ///
    /// Up to five nodes are voters, which decide about the cluster. Without directories their
    /// knowledge ends with their processes. With directories, a majority of the voters, or all of
    /// them, may be killed at once: started again under their names, they go on with the same
    /// cluster, without an operator. Nodes that survived stay members, and fencing tokens keep
    /// growing. The state of entities is not stored, and a process that starts again is a new
    /// member, as always.
    ///
    /// The price is a write to the disk (`fsync`) before each change of the map: when nodes come
    /// and go, and when shards move. Messages cost nothing more. A node that is declared Down, or
    /// leaves by [`shutdown`](ActorSystem::shutdown), gives its vote up, and the contents of its
    /// directory have no more meaning. Never copy a directory, and never restore one from a backup:
    /// a voter that votes twice may split the cluster. For the same reason, if an operator has
    /// recovered the cluster without some nodes, remove their directories before these nodes start
    /// again.
    ///
    /// All nodes that may become voters should have a directory. A directory cannot be combined
    /// with a [tie-breaker](Self::tie_breaker).
    ///
    /// ```no_run
    /// # use casty::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), casty::error::StartError> {
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

    /// Where the entities of stored types are stored: those of `#[entity(event_sourced)]` and
    /// `#[entity(durable)]`. Default: the [directory](Self::data_dir) of the node, if it has one. A
    /// node that hosts such a type needs one. All nodes of a cluster have to use the same store;
    /// the crate `casty-sql` has `Sqlite` for one host and `Postgres` for several.
    ///
    /// [`start`](Self::start) opens the journal, and waits for that. A local system, whose start
    /// does not wait, opens a store that does not answer at once when its first entity is read.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// use casty::persistence::Memory;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), casty::error::StartError> {
    /// let store = Memory::new();
    /// let system = ActorSystem::builder("bank").journal(store.clone()).start_local()?;
    /// # drop(system);
    /// // As a second process would do with a database: its entities go on where they were.
    /// let system = ActorSystem::builder("bank").journal(store).start_local()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn journal(mut self, journal: impl Journal) -> Self {
        self.journal = Some(Chosen::new(journal));
        self
    }

    /// Registers an entity type that does not register itself, because the linker dropped its
    /// crate.
    pub fn entity<E: Entity>(mut self) -> Self {
        self.registry.add::<E>(E::NAME);
        self
    }

    /// Registers an entity type under another wire name. Each instance of a generic entity needs a
    /// name of its own.
    pub fn entity_as<E: Entity>(mut self, name: impl Into<String>) -> Self {
        self.registry.add::<E>(name);
        self
    }

    /// The incarnation, instead of the present time in milliseconds. It must grow with each start
    /// of the node.
    #[doc(hidden)]
    pub fn incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = Some(Incarnation(incarnation));
        self
    }

    /// Sends every message and reply on this node through the codec, as if it left the node, and
    /// checks after each message that the state of a type that migrates could move. So a test with
    /// one node sees what a cluster does. Default: on for the systems of `testkit`, off for all
    /// others.
    ///
    /// What does not survive fails as it does between two nodes: a message as
    /// [`AskError::Unencodable`](crate::AskError::Unencodable) or
    /// [`TellError::Unencodable`](crate::TellError::Unencodable) where it cannot be written, as
    /// [`AskError::Undecodable`](crate::AskError::Undecodable) or a dead letter where it cannot be
    /// read; a reply as [`AskError::Reply`](crate::AskError::Reply). A handler that leaves a state
    /// that could not move has [failed](crate::AskError::Panicked). What survives with a loss
    /// arrives with that loss.
    ///
    /// Such a system is slower, as each message is written and read.
    ///
    /// ```
    /// # use casty::prelude::*;
    /// # use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
    /// #[derive(Default)]
    /// struct Phonebook;
    ///
    /// #[actor]
    /// impl Phonebook {
    ///     /// Serde does not write the scope of an IPv6 address.
    ///     #[message]
    ///     fn scope(&self, of: SocketAddrV6) -> u32 {
    ///         of.scope_id()
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), casty::error::StartError> {
    /// let address = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 3);
    /// for (strict, scope) in [(false, 3), (true, 0)] {
    ///     let system = ActorSystem::builder("app").strict_wire(strict).start_local()?;
    ///     assert_eq!(system.spawn(Phonebook).scope(address).await, Ok(scope));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn strict_wire(mut self, strict: bool) -> Self {
        self.strict_wire = Some(strict);
        self
    }

    /// A system of `testkit`, as far as the builder does not say otherwise.
    #[cfg(feature = "testkit")]
    pub(crate) fn for_tests(mut self, journal: impl Journal) -> Self {
        self.strict_wire.get_or_insert(true);
        self.journal_for_tests = Some(Chosen::new(journal));
        self
    }

    /// The disk of a node in a simulation.
    #[cfg(feature = "sim")]
    pub(crate) fn simulated_disk(mut self, disk: SimDisk) -> Self {
        self.simulated_disk = Some(disk);
        self
    }

    /// The bytes of the largest message, if the codec is to see what is sent on this node.
    pub(super) fn strict_bytes_max(&self) -> Option<usize> {
        let is_strict = self.strict_wire.unwrap_or(false);
        is_strict.then_some(FRAME_BYTES_MAX)
    }

    /// The seed of this node's random numbers, instead of one from the operating system.
    #[doc(hidden)]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    #[cfg(feature = "sim")]
    pub(crate) fn net(mut self, net: Arc<dyn Net>) -> Self {
        self.net = net;
        self.is_simulated = true;
        self
    }

    /// Starts a system without a network, with these settings and entity types.
    ///
    /// # Errors
    /// [`StartError`] for settings out of range, two entity types with one name, stored entity
    /// types without a [journal](Self::journal) or a [directory](Self::data_dir), or one that
    /// cannot be used.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    #[cfg_attr(
        not(feature = "config"),
        expect(unused_mut, reason = "a configuration changes it")
    )]
    pub fn start_local(mut self) -> Result<ActorSystem, StartError> {
        #[cfg(feature = "config")]
        if let Some((source, configure)) = self.config.take() {
            configure(&mut self, source)?;
        }
        checks::name("name", &self.cluster)?;
        checks::roles(&self.roles)?;
        self.settings.check()?;
        let (has_data_dir, has_journal) = (self.data_dir.is_some(), self.journal.is_some());
        checks::memory(self.in_memory, has_data_dir, has_journal)?;
        let (strict_wire, memory_id) = (self.strict_bytes_max(), self.memory_id());
        let (registry, resources) = (self.registry, self.resources);
        let stores = !registry.stored(None)?.is_empty();
        let journal = match (self.journal, &self.data_dir) {
            (None, Some(path)) if stores => Some(journal::open_directory(path)?),
            (None, None) if stores && self.in_memory => Some(journal::open_memory(memory_id)?),
            (None, _) if stores => self.journal_for_tests,
            (journal, _) => journal,
        };
        let journal = journal::Choice::Of(journal.as_ref());
        let system = ActorSystem::start_local(
            self.cluster,
            registry,
            resources,
            self.settings,
            strict_wire,
            journal,
        )?;
        if let Some(folder) = self.recordings {
            system.0.runtime.recorder.set_folder(folder);
        }
        Ok(system)
    }

    /// Binds the address, then joins or founds the cluster in the background.
    /// [`wait_for`](ActorSystem::wait_for) waits until the node has joined.
    ///
    /// # Errors
    /// [`StartError`] for an address that cannot be bound or resolved, a malformed seed, settings
    /// out of range, two entity types with one name, a [directory](Self::state_dir) that cannot be
    /// used, stored entity types without a [journal](Self::journal) or a
    /// [directory](Self::data_dir), or one that cannot be used, two zones, or an entity type whose
    /// `copies` or `copies_min` contradict the settings.
    ///
    /// # Panics
    /// Panics outside a tokio runtime.
    pub async fn start(self) -> Result<ActorSystem, StartError> {
        self.starting().await
    }

    fn starting(self) -> Boxed<'static, Result<ActorSystem, StartError>> {
        boxed(self.listen_and_join())
    }

    #[cfg_attr(
        not(any(feature = "tls", feature = "config")),
        expect(unused_mut, reason = "TLS and a configuration change it")
    )]
    async fn listen_and_join(mut self) -> Result<ActorSystem, StartError> {
        #[cfg(feature = "config")]
        if let Some((source, configure)) = self.config.take() {
            configure(&mut self, source)?;
        }
        checks::name("cluster", &self.cluster)?;
        checks::roles(&self.roles)?;
        checks::seeds(&self.seeds, self.bootstrap_expect)?;
        self.settings.check()?;
        if self.tie_breaker.is_some() && self.availability == Availability::Prefer {
            let reason =
                "lets one of two nodes go on, and `Availability::Prefer` both; choose one of them";
            return Err(StartError::Setting {
                setting: "tie_breaker",
                reason: reason.to_owned(),
            });
        }
        let (has_data_dir, has_journal) = (self.data_dir.is_some(), self.journal.is_some());
        checks::memory(self.in_memory, has_data_dir, has_journal)?;
        let dirs = (self.state_dir.as_deref(), self.data_dir.as_deref());
        let has_tie_breaker = self.tie_breaker.is_some();
        let map_dir = map_dir(dirs, has_tie_breaker)?;
        #[cfg(feature = "tls")]
        let is_encrypted = self.secure(PeerRole::Member)?;
        #[cfg(not(feature = "tls"))]
        let is_encrypted = false;
        let listener = {
            let refused = |source| StartError::Listen {
                address: self.listen.clone(),
                source,
            };
            let address = resolve_one(&*self.net, &self.listen)
                .await
                .map_err(refused)?;
            if !is_encrypted && !self.is_simulated {
                checks::exposure(address, self.insecure)?;
            }
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
        if address.port() == 0 {
            return Err(StartError::Setting {
                setting: "advertise",
                reason: format!(
                    "`{address}` has no port; say at which port others reach this node"
                ),
            });
        }
        let name = self.node_id.clone().unwrap_or_else(|| address.to_string());
        checks::name("node_id", &name)?;
        let incarnation = self.incarnation.unwrap_or_else(Incarnation::now);
        let member = MemberId {
            node: NodeId::new(name),
            incarnation,
        };
        let (own_log, copies) = self.own_log().await?.unzip();
        let opened = match &map_dir {
            Some(path) => Some(Disk::open(path, &self.cluster, &member.node).await?),
            None => None,
        };
        let store = self.open_store(&member, address, own_log).await?;
        self.assemble(member, address, opened, (store, copies), listener)
    }

    /// Uses TLS, if there is a certificate. Returns whether there is.
    #[cfg(feature = "tls")]
    pub(super) fn secure(&mut self, role: PeerRole) -> Result<bool, StartError> {
        let Some(tls) = self.tls.take() else {
            return Ok(false);
        };
        let below = Below {
            net: self.net.clone(),
            is_simulated: self.is_simulated,
        };
        let net = TlsNet::new(below, tls, &self.cluster, role)?;
        if role == PeerRole::Member {
            net.check_name(self.node_id.get_or_insert_with(|| net.name()))?;
        }
        self.net = Arc::new(net);
        Ok(true)
    }

    /// The id of this process's store in memory, if it has one: the next process has another.
    fn memory_id(&self) -> [u8; 16] {
        let high = self.seed.unwrap_or_else(fresh_seed);
        let low = self.incarnation.map_or_else(fresh_seed, |it| it.0);
        (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
    }

    /// The log in the directory of this node, if its entities are stored there.
    async fn own_log(&self) -> Result<Option<(Chosen, Arc<NodeCopies>)>, StartError> {
        if self.journal.is_some() || self.registry.stored(Some(&self.roles))?.is_empty() {
            return Ok(None);
        }
        let settings = CopySettings {
            copies: self.settings.copies,
            copies_min: self.settings.copies_min,
        };
        let is_kept = self.data_dir.is_some() || self.in_memory;
        #[cfg(feature = "sim")]
        let is_kept = is_kept || self.simulated_disk.is_some();
        if !is_kept {
            return Ok(None);
        }
        self.registry.check_copies(&self.roles, settings)?;
        checks::availability(self.availability)?;
        #[cfg(feature = "sim")]
        if let Some(disk) = &self.simulated_disk {
            let seed = self.seed.unwrap_or_default();
            let opened = journal::open_simulated(disk.clone(), seed, settings);
            return opened.await.map(Some);
        }
        if self.in_memory {
            let opened = journal::open_memory_copies(self.memory_id(), settings);
            return opened.await.map(Some);
        }
        let Some(path) = &self.data_dir else {
            return Ok(None);
        };
        journal::open_copies(path, settings).await.map(Some)
    }

    /// The store of this node's entities.
    async fn open_store(
        &self,
        member: &MemberId,
        address: SocketAddr,
        own_log: Option<Chosen>,
    ) -> Result<Option<Arc<Store>>, StartError> {
        let kinds = self.registry.stored(Some(&self.roles))?;
        let for_tests = self.journal_for_tests.as_ref();
        let for_tests = for_tests.filter(|_| !kinds.is_empty());
        let journal = self.journal.as_ref().or(own_log.as_ref()).or(for_tests);
        if let Some(journal) = journal {
            journal
                .check_hosts(&*self.net, address, &self.seeds)
                .await?;
        }
        journal::open(journal, kinds, member.to_string()).await
    }

    /// `opened`: the directory of this node's state, and what is in it.
    fn assemble(
        self,
        member: MemberId,
        address: SocketAddr,
        opened: Option<(Arc<Disk>, Option<StoredState>)>,
        (store, copies): (Option<Arc<Store>>, Option<Arc<NodeCopies>>),
        listener: Arc<dyn Listener>,
    ) -> Result<ActorSystem, StartError> {
        let (disk, kept) = opened.unzip();
        let kept = kept.flatten();
        let local = LocalMember::new(member.clone(), Some(address));
        if let Some(kept) = &kept {
            // The identity is set before a peer is let in: the peer must not be told that there is
            // no cluster.
            local.set_identity(kept.identity);
            local.set_keeps_seat();
        } else {
            local.set_seeking(Some(SeekerState::default()));
        }
        let local = Arc::new(local);
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let settings = self.settings.clone();
        let strict_wire = self.strict_bytes_max();
        let runtime = make_runtime(&member, &settings, self.resources, strict_wire, seed);
        if let Some(folder) = self.recordings {
            runtime.recorder.set_folder(folder);
        }
        if let Some(store) = store {
            runtime.set_store(store);
        }
        let Built {
            parts,
            remote_actors,
        } = Built::new(
            self.cluster,
            &self.registry,
            &settings,
            self.net,
            local.clone(),
            runtime.clone(),
            seed,
        )?;
        let myself = Myself {
            member: member.clone(),
            address,
        };
        runtime.set_network(Some(myself), carrier(&remote_actors));
        let setup = NodeSetup {
            member,
            address,
            settings: self.settings,
            seeds: self.seeds,
            bootstrap_expect: self.bootstrap_expect,
            roles: self.roles,
            given_incarnation: self.incarnation.is_some(),
            on_down: self.on_down,
            availability: self.availability,
            tie_breaker: self.tie_breaker,
            disk,
            copies,
            access: self.access,
        };
        let (regions, process) = (parts.regions.to_vec(), parts.process.clone());
        let (node, inputs) = Node::new(setup, parts, local, kept);
        start(&node, inputs, listener);
        if !self.is_simulated {
            tether::tie(&runtime, &regions, &process.ending, &process.cancel);
        }
        Ok(ActorSystem(Arc::new(Inner {
            runtime,
            regions,
            node: Some(node),
            settings,
            ending: process.ending.clone(),
            projections: Projections::default(),
            _remote_actors: Some(remote_actors),
            _stop: process.cancel.clone().drop_guard(),
        })))
    }
}

/// The seed of a node's random numbers, unless the builder has one.
#[expect(clippy::disallowed_methods, reason = "the seed of everything else")]
pub(crate) fn fresh_seed() -> u64 {
    rand::random()
}
