//! Clusters in one process, simulated from one seed.
//!
//! Time passes in steps. In each step the network delivers the segments that have arrived. Then
//! each node's process runs until all of its tasks wait, and its clock advances by its share of the
//! step.

mod clock;
mod faults;
mod network;
mod node;
mod operator;
mod process;
mod stranger;
#[cfg(test)]
mod tests;
mod trace;

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use casty_log::disk::SimDisk;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use xxhash_rust::xxh3::xxh3_64;

pub use self::{clock::true_time, network::Conditions, process::SimTask, stranger::Forgery};
use self::{
    clock::{At, Clock, WallClock},
    network::{Network, Shared, SimNet},
    node::SimNode,
    process::{Inbox, Process},
    trace::Trace,
};
use crate::{
    ActorSystem, SystemBuilder,
    infra::{
        observe::{self, Sighting},
        sync::lock,
    },
    persistence::Memory,
    system::View,
};

/// The port of simulated nodes.
const PORT: u16 = 25520;

/// The name of simulated clusters.
const CLUSTER: &str = "sim";

/// How far true time moves in one step.
const TICK: Duration = Duration::from_millis(1);

/// How much simulated time [`Sim::on`] and [`Sim::until_up`] allow.
const PATIENCE: Duration = Duration::from_mins(2);

/// A cluster in one process, on one thread, in simulated time and over a simulated network.
///
/// All randomness comes from one seed, so a run can be repeated exactly: the same seed and the same
/// test give the same [`trace_hash`](Self::trace_hash). Time passes only while a method steps the
/// simulation, and then as fast as the computer allows.
///
/// A test is plain code: it starts nodes, runs futures on them with [`on`](Self::on), injects
/// faults into the network and the nodes, and asserts.
///
/// ```standalone_crate
/// use casty::{prelude::*, testkit::Sim};
///
/// #[derive(Default)]
/// struct Tally {
///     value: u64,
/// }
///
/// #[entity(shards = 4)]
/// impl Tally {
///     #[message]
///     fn add(&mut self, amount: u64) -> u64 {
///         self.value += amount;
///         self.value
///     }
/// }
///
/// let mut sim = Sim::new(7);
/// for name in ["a", "b", "c"] {
///     sim.start(name);
/// }
/// sim.until_up(3);
/// let add = |system: ActorSystem| async move { system.entity::<Tally>("x").add(1).await };
/// assert_eq!(sim.on("a", add), Ok(1));
/// assert_eq!(sim.on("b", add), Ok(2));
///
/// // The founder assigns shards to nodes, and the shard of `x` has its owner already. Without the
/// // founder, `b` still reaches `x` if the owner is `b` or `c`. Otherwise it gets an error.
/// sim.isolate("a");
/// let cut = sim.on("b", add);
/// sim.heal();
/// assert!(matches!(cut, Ok(3) | Err(AskError::Unreachable { .. } | AskError::Timeout { .. })));
/// ```
///
/// A node can be paused, like a process that is stopped or swapped out, and its clock can go wrong:
/// see [`pause`](Self::pause) and [`clock_rate`](Self::clock_rate). [`true_time`] orders events of
/// nodes whose clocks disagree.
///
/// The network behaves like TCP: bytes arrive in order or not at all; socket buffers are bounded,
/// so that a writer waits for a peer that does not read; and bytes that a process has written still
/// arrive after it has ended.
pub struct Sim {
    seed: u64,
    elapsed: Duration,
    /// In the order of their first start.
    nodes: Vec<SimNode>,
    names: Arc<Mutex<Vec<String>>>,
    /// The store of nodes that are given none.
    journal: Memory,
    /// Nodes store on disks of their own instead.
    has_disks: bool,
    /// Nodes take their incarnations from wall clocks.
    has_wall_clocks: bool,
    /// How often processes that are no nodes have begun something.
    operations: u64,
    sightings: Vec<(Duration, Sighting)>,
    /// Decides in which order the nodes run within a step.
    order: StdRng,
    network: Shared,
    trace: Arc<Trace>,
}

impl Sim {
    /// The same as [`testkit::replay`](crate::testkit::replay).
    ///
    /// # Errors
    /// The file cannot be read.
    ///
    /// # Panics
    /// As [`replay`](crate::testkit::replay).
    pub fn replay<E: crate::Entity>(
        file: impl AsRef<std::path::Path>,
    ) -> Result<super::Replayed, crate::recorder::RecordingError> {
        super::replay::<E>(file)
    }

    /// Creates a simulation over a network with default [`Conditions`].
    pub fn new(seed: u64) -> Self {
        Self::with_conditions(seed, Conditions::default())
    }

    /// Creates a simulation over a network with these conditions.
    pub fn with_conditions(seed: u64, conditions: Conditions) -> Self {
        let trace = Arc::<Trace>::default();
        let network = Network::new(seed, conditions);
        Self {
            seed,
            elapsed: Duration::ZERO,
            nodes: Vec::new(),
            journal: Memory::new(),
            has_disks: false,
            names: Arc::default(),
            has_wall_clocks: false,
            operations: 0,
            sightings: Vec::new(),
            // Another stream of numbers than the network's.
            order: StdRng::seed_from_u64(!seed),
            network: Shared::new(network, trace.clone()),
            trace,
        }
    }

    /// Nodes that are started from now on have a disk each, for what their entities store, and keep
    /// copies of each other's, as nodes with a [directory](SystemBuilder::data_dir) do. A crash
    /// loses what was not synced. Without this, nodes that are given no journal share one in
    /// memory.
    ///
    /// The decisions about the cluster need a [directory](SystemBuilder::state_dir) besides, where
    /// all nodes are to be down at a time.
    pub fn give_disks(&mut self) {
        self.has_disks = true;
    }

    /// Starts a node. The first node founds the cluster, and the seeds of each further one are all
    /// nodes that were started before.
    ///
    /// Its process starts once simulated time passes.
    ///
    /// # Panics
    /// If there is a node of that name.
    pub fn start(&mut self, name: &str) {
        self.start_with(name, |builder| builder);
    }

    /// Starts a node with its own settings or entity types. `configure` is called at each start of
    /// the node.
    ///
    /// A node listens at port 25520 of its name: `a:25520` may be a seed. The name `nodes` has the
    /// addresses of all nodes that were started until now, as a headless service of Kubernetes has.
    ///
    /// # Panics
    /// If there is a node of that name.
    pub fn start_with(
        &mut self,
        name: &str,
        configure: impl Fn(SystemBuilder) -> SystemBuilder + 'static,
    ) {
        assert!(
            self.nodes.iter().all(|node| node.name != name),
            "there is a node `{name}` already; `restart` starts it again"
        );
        let names = self.names.clone();
        let before: Vec<String> = lock(&names).clone();
        lock(&names).push(name.to_owned());
        let inbox = Arc::<Inbox>::default();
        let (host, ip) = self.network.with(|network| {
            let host = network.add_host(name);
            (host, network.ip(host))
        });
        let net = Arc::new(SimNet {
            host,
            shared: self.network.clone(),
        });
        let mut seed_of_disk = self.seed.to_le_bytes().to_vec();
        seed_of_disk.extend(name.as_bytes());
        let disk = SimDisk::new(xxh3_64(&seed_of_disk));
        let start = {
            let (name, inbox) = (name.to_owned(), inbox.clone());
            let (seed, trace) = (self.seed, self.trace.clone());
            let by_clock = self.has_wall_clocks;
            let (journal, has_disks) = (self.journal.clone(), self.has_disks);
            let disk = disk.clone();
            move |start: u64| {
                // After a restart, nodes that were started later are seeds, too.
                let others = match start {
                    1 => before.clone(),
                    _ => lock(&names)
                        .iter()
                        .filter(|n| **n != name)
                        .cloned()
                        .collect(),
                };
                let seeds = others.iter().map(|name| format!("{name}:{PORT}"));
                let mut randomness = seed.to_le_bytes().to_vec();
                randomness.extend(start.to_le_bytes());
                randomness.extend(name.as_bytes());
                let starting = || {
                    let builder = ActorSystem::builder(CLUSTER)
                        .node_id(&name)
                        .listen(SocketAddr::new(ip, PORT))
                        .seeds(seeds)
                        .seed(xxh3_64(&randomness))
                        .net(net.clone());
                    // The factor leaves room for the incarnations that a node takes when it joins
                    // again.
                    let builder = if by_clock {
                        builder
                    } else {
                        builder.incarnation(start * 1000)
                    };
                    let mut builder = configure(builder).for_tests(journal.clone());
                    if has_disks {
                        builder = builder.simulated_disk(disk.clone());
                    }
                    Box::pin(builder.start()) as _
                };
                Process::start(&name, starting, inbox.clone(), trace.clone())
            }
        };
        self.nodes.push(SimNode {
            name: name.to_owned(),
            host,
            inbox,
            starts: 1,
            process: Some(start(1)),
            start: Box::new(start),
            is_paused: false,
            disk,
            clock: Clock::default(),
            wall_clock: WallClock::default(),
            is_outside: false,
        });
    }

    /// Runs a future on a node, and steps the simulation until the future is done.
    ///
    /// # Panics
    /// If there is no such node, or if the future is not done within two simulated minutes: the
    /// node may have crashed, or be paused.
    pub fn on<T, F>(
        &mut self,
        name: &str,
        work: impl FnOnce(ActorSystem) -> F + Send + 'static,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let task = self.spawn_on(name, work);
        self.until(&format!("`{name}` does it"), |_| task.is_done());
        match task.take() {
            Some(output) => output,
            None => unreachable!("it is done"),
        }
    }

    /// Runs a future on a node while the test goes on.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn spawn_on<T, F>(
        &mut self,
        name: &str,
        work: impl FnOnce(ActorSystem) -> F + Send + 'static,
    ) -> SimTask<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let at = self.node(name);
        self.nodes[at].inbox.put(work)
    }

    /// Steps the simulation until each running node sees at least this many members Up.
    ///
    /// # Panics
    /// If that does not happen within two simulated minutes.
    pub fn until_up(&mut self, members: usize) {
        let running = self.nodes.iter().filter(|node| node.runs());
        let tasks: Vec<_> = running
            .map(|node| {
                node.inbox.put(move |system: ActorSystem| async move {
                    let _ = system.wait_for(members).await;
                })
            })
            .collect();
        self.until(&format!("{members} members are Up"), |_| {
            tasks.iter().all(SimTask::is_done)
        });
    }

    /// Steps the simulation until `condition` holds. `what` describes it in the panic's message.
    ///
    /// # Panics
    /// If the condition does not hold within two simulated minutes.
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let end = self.elapsed() + PATIENCE;
        while !condition(self) {
            assert!(
                self.elapsed() < end,
                "seed {}: {what}: not within {PATIENCE:?}\n{}",
                self.seed,
                self.trace.last()
            );
            self.step();
        }
    }

    /// Steps the simulation for a span of simulated time.
    ///
    /// # Panics
    /// If a node could not start.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.elapsed() + time;
        while self.elapsed() < end {
            self.step();
        }
    }

    fn step(&mut self) {
        let at = At::new(self.elapsed);
        let now = self.elapsed;
        observe::watch(true);
        self.network.with(|network| network.handle_time(now));
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.shuffle(&mut self.order);
        for at in order {
            match self.nodes[at].step() {
                None => {}
                Some(Ok(())) => self.end(at),
                Some(Err(error)) => panic!(
                    "seed {}: node `{}`: {error}\n{}",
                    self.seed,
                    self.nodes[at].name,
                    self.trace.last()
                ),
            }
        }
        drop(at);
        let seen = observe::watch(false).into_iter();
        self.sightings.extend(seen.map(|sighting| (now, sighting)));
        self.elapsed += TICK;
    }

    /// The simulated true time since the start, which nodes' clocks may not agree with. Code on a
    /// node gets it from [`true_time`].
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The sightings inside the nodes since the last call, each with its time.
    #[doc(hidden)]
    pub fn sightings(&mut self) -> Vec<(Duration, Sighting)> {
        std::mem::take(&mut self.sightings)
    }

    /// The present state of all nodes that run.
    #[doc(hidden)]
    pub fn views(&self) -> Vec<View> {
        let running = self.nodes.iter().filter(|node| !node.is_paused);
        running
            .filter_map(|node| node.process.as_ref()?.view())
            .collect()
    }

    /// The present state of a node, if its process runs.
    ///
    /// # Panics
    /// If there is no such node.
    #[doc(hidden)]
    pub fn view(&self, name: &str) -> Option<View> {
        let node = &self.nodes[self.node(name)];
        let process = node.process.as_ref().filter(|_| !node.is_paused);
        process?.view()
    }

    /// The bytes that a node's processes have written to other nodes since the start, whether they
    /// arrived or not. Includes frames and handshakes, but no headers of TCP and IP.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn bytes_written(&self, name: &str) -> u64 {
        let host = self.nodes[self.node(name)].host;
        self.network.with(|network| network.written(host).bytes)
    }

    /// The number of those writes: about the number of packets on a network without delays.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn writes(&self, name: &str) -> u64 {
        let host = self.nodes[self.node(name)].host;
        self.network.with(|network| network.written(host).segments)
    }

    /// A hash of the run so far: of every byte sent, every event of every node and every fault,
    /// each with its time. The same seed and the same test give the same hash.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    /// The last faults and events of the run, one per line.
    pub fn trace(&self) -> String {
        self.trace.last()
    }

    fn node(&self, name: &str) -> usize {
        match self.nodes.iter().position(|node| node.name == name) {
            Some(at) => at,
            None => panic!("there is no node `{name}`"),
        }
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("seed", &self.seed)
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        for at in 0..self.nodes.len() {
            self.end(at);
        }
    }
}
