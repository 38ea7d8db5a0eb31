//! Whole clusters in one process, under one seed.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{
    ActorSystem, Event, SystemBuilder,
    sync::lock,
    transport::sim_net::{SimNet, Wiretap},
};

/// Where simulated nodes listen.
const PORT: u16 = 25520;

/// How far time moves in one step.
const TICK: Duration = Duration::from_millis(1);

/// How much simulated time [`Sim::on`] and [`Sim::until_up`] allow.
const PATIENCE: Duration = Duration::from_mins(2);

/// Lines of the trace that a failing test is shown.
const LINES_KEPT: usize = 200;

type Work = Box<dyn FnOnce(ActorSystem) -> BoxFuture<'static, ()> + Send>;

/// A cluster in one process, on one thread, in simulated time and over a simulated network.
///
/// Everything that is random comes from one seed, so a run can be repeated exactly: the same seed and the same test give
/// the same [`trace_hash`](Self::trace_hash). Time stands still while nobody steps the simulation, and passes as fast as
/// the machine can compute it.
///
/// A test is plain code: it starts nodes, has them do things with [`on`](Self::on), breaks the network and the nodes,
/// and asserts.
///
/// ```
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
/// // The founder decides where entities live, and `x` has its place: cut off from it, the others reach `x` if it is
/// // theirs, and else are told.
/// sim.isolate("a");
/// let cut = sim.on("b", add);
/// sim.heal();
/// assert!(matches!(cut, Ok(3) | Err(AskError::Unreachable { .. } | AskError::Timeout { .. })));
/// ```
///
/// What it cannot simulate yet: processes that are paused, and clocks of different rates.
pub struct Sim {
    turmoil: turmoil::Sim<'static>,
    seed: u64,
    nodes: BTreeMap<String, SimNode>,
    trace: Arc<Trace>,
}

struct SimNode {
    address: IpAddr,
    inbox: Arc<Inbox>,
}

/// What a node has been told to do.
#[derive(Default)]
struct Inbox {
    work: Mutex<Vec<Work>>,
    arrived: Notify,
}

/// How a simulated network behaves while nothing is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Weather {
    /// The shortest time a message is under way.
    pub latency_min: Duration,
    /// The longest time a message is under way; most take far less.
    pub latency_max: Duration,
    /// How probable it is, for each message, that the link it is on breaks. What is on a broken link is lost.
    pub break_rate: f64,
    /// How probable it is, for each message, that a broken link works again.
    pub repair_rate: f64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_millis(1),
            latency_max: Duration::from_millis(20),
            break_rate: 0.0,
            repair_rate: 1.0,
        }
    }
}

impl Sim {
    /// A simulation in fine weather.
    pub fn new(seed: u64) -> Self {
        Self::with_weather(seed, Weather::default())
    }

    /// A simulation over a network that behaves like this.
    pub fn with_weather(seed: u64, weather: Weather) -> Self {
        let turmoil = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_hours(24 * 365))
            .min_message_latency(weather.latency_min)
            .max_message_latency(weather.latency_max)
            .fail_rate(weather.break_rate)
            .repair_rate(weather.repair_rate)
            .tcp_capacity(1 << 20)
            .build();
        Self {
            turmoil,
            seed,
            nodes: BTreeMap::new(),
            trace: Arc::default(),
        }
    }

    /// Starts a node. The first one founds the cluster, the others join through all that were started before.
    ///
    /// It does not start before simulated time passes.
    ///
    /// # Panics
    /// If there is a node of that name.
    pub fn start(&mut self, name: &str) {
        self.start_with(name, |builder| builder);
    }

    /// The same, with settings or entity types of its own. `configure` is called at each start of the node.
    ///
    /// # Panics
    /// If there is a node of that name.
    pub fn start_with(
        &mut self,
        name: &str,
        configure: impl Fn(SystemBuilder) -> SystemBuilder + 'static,
    ) {
        assert!(
            !self.nodes.contains_key(name),
            "there is a node `{name}` already; `restart` starts it again"
        );
        let address = self.turmoil.lookup(name);
        let seeds: Vec<String> = self.nodes.keys().map(|n| format!("{n}:{PORT}")).collect();
        let inbox = Arc::<Inbox>::default();
        let node = SimNode {
            address,
            inbox: inbox.clone(),
        };
        let (seed, trace, name) = (self.seed, self.trace.clone(), name.to_owned());
        self.nodes.insert(name.clone(), node);
        let starts = Mutex::new(0_u64);
        self.turmoil.host(address, move || {
            let start = {
                let mut starts = lock(&starts);
                *starts += 1;
                *starts
            };
            let mut randomness = seed.to_le_bytes().to_vec();
            randomness.extend(start.to_le_bytes());
            randomness.extend(name.as_bytes());
            let builder = ActorSystem::builder("sim")
                .node_id(&name)
                .listen(SocketAddr::new(address, PORT))
                .seeds(&seeds)
                .incarnation(start * 1000)
                .seed(xxh3_64(&randomness))
                .net(Arc::new(SimNet { tap: trace.clone() }));
            live(
                name.clone(),
                configure(builder),
                inbox.clone(),
                trace.clone(),
            )
        });
    }

    /// Ends a node's process at once: nothing of it is left, and nobody is told.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn crash(&mut self, name: &str) {
        self.trace.note(name, "crash");
        let address = self.node(name).address;
        self.turmoil.crash(address);
        // What it was told and had not begun is lost with it.
        lock(&self.node(name).inbox.work).clear();
    }

    /// Starts a crashed node again: a new process of the same name.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn restart(&mut self, name: &str) {
        self.trace.note(name, "restart");
        let address = self.node(name).address;
        self.turmoil.bounce(address);
    }

    /// Nothing gets through between two nodes, in either direction, and nothing says so.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn partition(&mut self, a: &str, b: &str) {
        self.trace.note(a, &format!("partition {b}"));
        let (a, b) = (self.node(a).address, self.node(b).address);
        self.turmoil.partition(a, b);
    }

    /// Nothing gets through from one node to another; the other direction works.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn partition_one_way(&mut self, from: &str, to: &str) {
        self.trace.note(from, &format!("partition one way {to}"));
        let (from, to) = (self.node(from).address, self.node(to).address);
        self.turmoil.partition_oneway(from, to);
    }

    /// Cuts a node off from all others.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn isolate(&mut self, name: &str) {
        for other in self.others(name) {
            self.partition(name, &other);
        }
    }

    /// Holds back what is under way between two nodes, until it is [healed](Self::heal): late, and in order.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn stall(&mut self, a: &str, b: &str) {
        self.trace.note(a, &format!("stall {b}"));
        let (a, b) = (self.node(a).address, self.node(b).address);
        self.turmoil.hold(a, b);
    }

    /// Repairs every link. Connections that lost something while they were cut do not come back; their nodes dial anew.
    pub fn heal(&mut self) {
        self.trace.note("*", "heal");
        let addresses: Vec<IpAddr> = self.nodes.values().map(|node| node.address).collect();
        for (at, &a) in addresses.iter().enumerate() {
            for &b in &addresses[at + 1..] {
                self.turmoil.release(a, b);
                self.turmoil.repair(a, b);
            }
        }
    }

    /// Has a node do something, and steps the simulation until it is done.
    ///
    /// # Panics
    /// If there is no such node, or if it is not done within two simulated minutes: the node may have crashed.
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

    /// Has a node do something while the test goes on.
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
        let output = Arc::new(Mutex::new(None));
        let task = SimTask(output.clone());
        let inbox = &self.node(name).inbox;
        lock(&inbox.work).push(Box::new(move |system| {
            let working = work(system);
            Box::pin(async move {
                let done = working.await;
                *lock(&output) = Some(done);
            })
        }));
        inbox.arrived.notify_one();
        task
    }

    /// Steps the simulation until every node that runs sees at least so many members Up.
    ///
    /// # Panics
    /// If that does not happen within two simulated minutes.
    pub fn until_up(&mut self, members: usize) {
        let mut running: Vec<String> = self.nodes.keys().cloned().collect();
        running.retain(|name| self.turmoil.is_host_running(self.nodes[name].address));
        let tasks: Vec<_> = running
            .iter()
            .map(|name| {
                self.spawn_on(name, move |system| async move {
                    let _ = system.wait_for(members).await;
                })
            })
            .collect();
        self.until(&format!("{members} members are Up"), |_| {
            tasks.iter().all(SimTask::is_done)
        });
    }

    /// Steps the simulation until `condition` holds.
    ///
    /// # Panics
    /// If it does not within two simulated minutes.
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

    /// Lets so much simulated time pass.
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
        if let Err(error) = self.turmoil.step() {
            panic!("seed {}: {error}\n{}", self.seed, self.trace.last());
        }
    }

    /// Simulated time since the start.
    pub fn elapsed(&self) -> Duration {
        self.turmoil.elapsed()
    }

    /// What happened so far, as a number: every byte sent, every event of every node, every fault, each at its time. The
    /// same seed and the same test give the same number.
    pub fn trace_hash(&self) -> u64 {
        lock(&self.trace.0).hash.digest()
    }

    /// The last lines of what happened, faults and events, to be read.
    pub fn trace(&self) -> String {
        self.trace.last()
    }

    fn others(&self, name: &str) -> Vec<String> {
        let names = self.nodes.keys().filter(|other| *other != name);
        names.cloned().collect()
    }

    fn node(&self, name: &str) -> &SimNode {
        match self.nodes.get(name) {
            Some(node) => node,
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

/// Something a simulated node does.
#[derive(Debug)]
#[must_use = "`is_done` says when it is done"]
pub struct SimTask<T>(Arc<Mutex<Option<T>>>);

impl<T> SimTask<T> {
    /// Whether it is done, and its output not taken yet.
    pub fn is_done(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Its output, once.
    pub fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }
}

/// The life of a node's process.
async fn live(
    name: String,
    builder: SystemBuilder,
    inbox: Arc<Inbox>,
    trace: Arc<Trace>,
) -> turmoil::Result {
    let system = builder.start().await?;
    let mut events = system.events();
    loop {
        tokio::select! {
            biased;
            () = inbox.arrived.notified() => {
                for work in std::mem::take(&mut *lock(&inbox.work)) {
                    #[expect(clippy::disallowed_methods, reason = "it ends with the host's runtime")]
                    tokio::spawn(work(system.clone()));
                }
            }
            event = events.next() => match event {
                Some(event) => trace.event(&name, &event),
                None => return Ok(()),
            },
        }
    }
}

/// What happened.
#[derive(Default)]
struct Trace(Mutex<Recorded>);

struct Recorded {
    hash: Xxh3,
    lines: std::collections::VecDeque<String>,
}

impl Default for Recorded {
    fn default() -> Self {
        Self {
            hash: Xxh3::new(),
            lines: std::collections::VecDeque::new(),
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    fn event(&self, node: &str, event: &Event) {
        self.note(node, &format!("{event:?}"));
    }

    fn note(&self, node: &str, what: &str) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let line = format!("{:>10} µs  {node:<8} {what}", at.as_micros());
        let mut recorded = lock(&self.0);
        recorded.hash.update(line.as_bytes());
        if recorded.lines.len() == LINES_KEPT {
            recorded.lines.pop_front();
        }
        recorded.lines.push_back(line);
    }

    fn last(&self) -> String {
        let recorded = lock(&self.0);
        let lines: Vec<&str> = recorded.lines.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

impl Wiretap for Trace {
    fn written(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let mut recorded = lock(&self.0);
        let line = format!("{} {from} {to} ", at.as_micros());
        recorded.hash.update(line.as_bytes());
        recorded.hash.update(bytes);
    }
}
