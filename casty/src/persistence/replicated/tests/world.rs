//! Some stores in one process, a network between them, and a map.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use casty_log::disk::SimDisk;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    id::Epoch,
    infra::sync::lock,
    persistence::{
        Journal, Log,
        local::Local,
        replicated::{CopyEnvelope, CopyOutlet, LIMITS, Replicated, message::StoreMessage},
    },
    protocol::copies::{
        CopiesView, CopyLimits, CopyProposal, Life, SetChange, StopOwning, StoreId,
    },
};

/// What the map says of a shard.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) epoch: Epoch,
    /// The node that owns it, and which of its processes.
    pub(super) owner: Option<(usize, u64)>,
    /// The name that the suite has given to the owner.
    pub(super) name: String,
    pub(super) in_sync: BTreeSet<StoreId>,
    pub(super) version: u64,
    pub(super) wanted: BTreeSet<StoreId>,
    pub(super) life: Life,
}

pub(super) struct Node {
    pub(super) disk: SimDisk,
    /// The process that runs, if one does, and its number.
    pub(super) process: Option<Arc<Replicated>>,
    pub(super) number: u64,
    pub(super) store: Option<StoreId>,
}

pub(super) struct State {
    pub(super) homes: BTreeMap<Log, Home>,
    pub(super) nodes: Vec<Node>,
    kinds: Vec<(Arc<str>, NonZeroU32)>,
    rng: StdRng,
    /// Nodes that reach no others.
    pub(super) cut_off: BTreeSet<usize>,
    pub(super) stops: Vec<(Log, Epoch, StopOwning)>,
    /// How many messages about what is tidied are lost, for the node that they go to.
    pub(super) tidies_lost: BTreeMap<usize, u32>,
}

/// How the network and the disks are.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    /// Of a hundred messages so many are lost, and as many come twice.
    pub(super) lost: u32,
    pub(super) delay_max: Duration,
    pub(super) commit_max: Duration,
    pub(super) drop_after: Duration,
    /// What is said of snapshots arrives at once.
    pub(super) tidies_arrive: bool,
}

pub(super) const FINE: Weather = Weather {
    lost: 0,
    delay_max: Duration::from_millis(1),
    commit_max: Duration::from_millis(1),
    // The suite has no process that does not answer.
    drop_after: Duration::from_hours(1),
    tidies_arrive: true,
};

pub(super) const ROUGH: Weather = Weather {
    lost: 10,
    delay_max: Duration::from_millis(30),
    commit_max: Duration::from_millis(80),
    drop_after: Duration::from_secs(2),
    tidies_arrive: false,
};

pub(super) struct World {
    pub(super) state: Mutex<State>,
    weather: Weather,
    pub(super) copies_min: usize,
}

/// The way out of one process.
struct Outlet {
    world: Weak<World>,
    node: usize,
    number: u64,
}

impl Outlet {
    /// Each message has a fate of its own.
    fn send_one(&self, envelope: CopyEnvelope) {
        let Some(world) = self.world.upgrade() else {
            return;
        };
        let weather = world.weather;
        // A copy that misses one of these keeps more than it needs, which the suite would see.
        if matches!(envelope.message, StoreMessage::Tidy { .. }) && weather.tidies_arrive {
            return world.deliver(self.node, envelope);
        }
        let (times, delays) = {
            let rng = &mut lock(&world.state).rng;
            let times = match rng.random_range(0..100) {
                it if it < weather.lost => 0,
                it if it < 2 * weather.lost => 2,
                _ => 1,
            };
            let delay = || rng.random_range(Duration::ZERO..=weather.delay_max);
            (
                times,
                std::iter::repeat_with(delay).take(2).collect::<Vec<_>>(),
            )
        };
        for delay in delays.into_iter().take(times) {
            let (world, envelope, from) = (world.clone(), envelope.clone(), self.node);
            tokio::spawn(async move {
                sleep(delay).await;
                world.deliver(from, envelope);
            });
        }
    }
}

impl CopyOutlet for Outlet {
    fn send(&self, to: StoreId, envelopes: Vec<CopyEnvelope>) {
        for envelope in envelopes {
            assert_eq!(envelope.to, to, "a message for another store");
            self.send_one(envelope);
        }
    }

    fn propose(&self, proposals: Vec<(Log, CopyProposal)>) {
        let Some(world) = self.world.upgrade() else {
            return;
        };
        let (node, number) = (self.node, self.number);
        tokio::spawn(async move {
            let delay = {
                let rng = &mut lock(&world.state).rng;
                rng.random_range(Duration::ZERO..=world.weather.delay_max * 4)
            };
            sleep(delay).await;
            for (log, proposal) in proposals {
                world.decide(node, number, &log, proposal);
            }
        });
    }

    fn stopped(&self, log: &Log, epoch: Epoch, why: StopOwning) {
        if let Some(world) = self.world.upgrade() {
            lock(&world.state).stops.push((log.clone(), epoch, why));
        }
    }

    fn node_of(&self, store: StoreId) -> String {
        store.to_string()
    }
}

impl World {
    pub(super) async fn new(
        nodes: usize,
        weather: Weather,
        seed: u64,
        kinds: &[(Arc<str>, NonZeroU32)],
    ) -> Arc<Self> {
        let rng = StdRng::seed_from_u64(seed);
        let node = |number: usize| Node {
            disk: SimDisk::new(seed * 64 + number as u64),
            process: None,
            number: 0,
            store: None,
        };
        let state = State {
            homes: BTreeMap::new(),
            nodes: (0..nodes).map(node).collect(),
            kinds: kinds.to_vec(),
            rng,
            cut_off: BTreeSet::new(),
            stops: Vec::new(),
            tidies_lost: BTreeMap::new(),
        };
        let world = Arc::new(Self {
            state: Mutex::new(state),
            weather,
            copies_min: 2.min(nodes),
        });
        for node in 0..nodes {
            world.start(node).await;
        }
        world
    }

    /// Starts a process of a node.
    pub(super) async fn start(self: &Arc<Self>, node: usize) {
        let (disk, number, kinds) = {
            let state = &mut *lock(&self.state);
            let kinds = state.kinds.clone();
            let node = &mut state.nodes[node];
            node.number += 1;
            (node.disk.clone(), node.number, kinds)
        };
        let (world, commit_max) = (Arc::downgrade(self), self.weather.commit_max);
        let pace = move || {
            let Some(world) = world.upgrade() else {
                return Duration::ZERO;
            };
            lock(&world.state)
                .rng
                .random_range(Duration::ZERO..=commit_max)
        };
        let identity = Uuid::from_u128(node as u128 + 1);
        let local = Local::simulated(Arc::new(disk), identity, Box::new(pace));
        let local = local.expect("a sound disk");
        let world = Arc::downgrade(self);
        let outlet = Arc::new(Outlet {
            world,
            node,
            number,
        });
        let limits = CopyLimits {
            drop_after: self.weather.drop_after,
            keep_dropped: Duration::from_secs(20),
            ..LIMITS
        };
        let opened = Replicated::open(Arc::new(local), limits, outlet).await;
        let opened = opened.expect("opened");
        if !kinds.is_empty() {
            opened.open(&kinds).await.expect("prepared");
        }
        {
            let here = &mut lock(&self.state).nodes[node];
            assert!(here.store.is_none_or(|store| store == opened.store()));
            here.store = Some(opened.store());
            here.process = Some(opened);
        }
        let logs: Vec<_> = lock(&self.state).homes.keys().cloned().collect();
        for log in logs {
            self.publish_to(node, &log);
        }
    }

    /// The process dies, and the disk loses what was not synced.
    pub(super) fn crash(&self, node: usize) {
        let node = &mut lock(&self.state).nodes[node];
        node.process = None;
        node.disk.crash();
    }

    pub(super) fn disk(&self, node: usize) -> SimDisk {
        lock(&self.state).nodes[node].disk.clone()
    }

    pub(super) fn process(&self, node: usize) -> Option<Arc<Replicated>> {
        lock(&self.state).nodes[node].process.clone()
    }

    pub(super) fn stores(&self) -> BTreeSet<StoreId> {
        let state = lock(&self.state);
        state.nodes.iter().filter_map(|node| node.store).collect()
    }

    pub(super) fn store(&self, node: usize) -> StoreId {
        lock(&self.state).nodes[node].store.expect("it has started")
    }

    /// Makes entity types known to all nodes.
    pub(super) async fn open(&self, kinds: &[(Arc<str>, NonZeroU32)]) {
        let nodes = lock(&self.state).nodes.len();
        for node in 0..nodes {
            if let Some(process) = self.process(node) {
                process.open(kinds).await.expect("prepared");
            }
        }
    }

    /// M1: a new owner, if its store is in sync.
    pub(super) fn assign(&self, log: &Log, epoch: Epoch, node: usize) -> bool {
        self.elect(log, epoch, node, "")
    }

    pub(super) fn elect(&self, log: &Log, epoch: Epoch, node: usize, name: &str) -> bool {
        let stores = self.stores();
        {
            let state = &mut *lock(&self.state);
            let number = state.nodes[node].number;
            let store = state.nodes[node].store;
            let home = state.homes.entry(log.clone()).or_insert_with(|| Home {
                epoch: Epoch::ZERO,
                owner: None,
                name: String::new(),
                in_sync: stores,
                version: 0,
                wanted: BTreeSet::new(),
                life: Life::default(),
            });
            if home.epoch >= epoch || store.is_none_or(|store| !home.in_sync.contains(&store)) {
                return false;
            }
            (home.epoch, home.owner) = (epoch, Some((node, number)));
            name.clone_into(&mut home.name);
        }
        self.publish(log);
        true
    }

    /// The leader gives a copy up.
    pub(super) fn drop_copy(&self, log: &Log, node: usize) {
        let store = self.store(node);
        if let Some(home) = lock(&self.state).homes.get_mut(log) {
            home.in_sync.remove(&store);
            home.version += 1;
        }
        self.publish(log);
    }

    /// Stores that are to become copies: those that are not in sync.
    pub(super) fn want_all(&self, log: &Log) {
        let stores = self.stores();
        if let Some(home) = lock(&self.state).homes.get_mut(log) {
            home.wanted = stores.difference(&home.in_sync).copied().collect();
        }
        self.publish(log);
    }

    /// Whether no store in sync has a process.
    pub(super) fn is_lost(&self, log: &Log) -> bool {
        let state = lock(&self.state);
        let Some(home) = state.homes.get(log) else {
            return false;
        };
        let is_in_sync = |store| home.in_sync.contains(&store);
        let mut nodes = state.nodes.iter();
        nodes.all(|node| node.process.is_none() || !node.store.is_some_and(is_in_sync))
    }

    /// A shard that is lost is given up, and begins anew in this node's store. The life that it has
    /// then.
    pub(super) fn begin_anew(&self, log: &Log, node: usize, begins_empty: bool) -> Option<Life> {
        if !self.is_lost(log) {
            return None;
        }
        let life = {
            let state = &mut *lock(&self.state);
            let place = &state.nodes[node];
            let store = place.store.filter(|_| place.process.is_some())?;
            let home = state.homes.get_mut(log)?;
            home.in_sync = [store].into();
            home.version += 1;
            home.wanted.clear();
            home.life = Life {
                after: home.epoch,
                begins_empty,
            };
            home.life
        };
        self.publish(log);
        Some(life)
    }

    /// M2 and M3.
    fn decide(&self, node: usize, number: u64, log: &Log, proposal: CopyProposal) {
        {
            let state = &mut *lock(&self.state);
            let own = state.nodes[node].store;
            let Some(home) = state.homes.get_mut(log) else {
                return;
            };
            let (CopyProposal::Add(change) | CopyProposal::Drop(change)) = proposal;
            let SetChange {
                epoch,
                set_version,
                store,
            } = change;
            if home.owner != Some((node, number))
                || (epoch, set_version) != (home.epoch, home.version)
            {
                return;
            }
            match proposal {
                CopyProposal::Add(_) => {
                    home.in_sync.insert(store);
                    home.wanted.remove(&store);
                }
                CopyProposal::Drop(_) => {
                    if Some(store) == own || home.in_sync.len() <= self.copies_min {
                        return;
                    }
                    home.in_sync.remove(&store);
                }
            }
            home.version += 1;
        }
        self.publish(log);
    }

    fn publish(&self, log: &Log) {
        let nodes = lock(&self.state).nodes.len();
        for node in 0..nodes {
            self.publish_to(node, log);
        }
    }

    fn publish_to(&self, node: usize, log: &Log) {
        let (process, view) = {
            let state = lock(&self.state);
            let (Some(home), place) = (state.homes.get(log), &state.nodes[node]) else {
                return;
            };
            let Some(process) = place.process.clone() else {
                return;
            };
            let view = CopiesView {
                epoch: home.epoch,
                is_owner: home.owner == Some((node, place.number)),
                in_sync: home.in_sync.clone(),
                set_version: home.version,
                wanted: home.wanted.clone(),
                copies_min: self.copies_min,
                life: home.life,
            };
            (process, view)
        };
        process.see(vec![(log.clone(), view)]);
    }

    fn deliver(&self, from: usize, envelope: CopyEnvelope) {
        let process = {
            let state = &mut *lock(&self.state);
            let to = state
                .nodes
                .iter()
                .position(|node| node.store == Some(envelope.to));
            let Some(to) = to else { return };
            if matches!(envelope.message, StoreMessage::Tidy { .. })
                && let Some(lost) = state.tidies_lost.get_mut(&to).filter(|lost| **lost > 0)
            {
                *lost -= 1;
                return;
            }
            if state.cut_off.contains(&from) || state.cut_off.contains(&to) {
                return;
            }
            state.nodes[to].process.clone()
        };
        if let Some(process) = process {
            process.deliver(vec![envelope]);
        }
    }

    pub(super) fn random<T>(&self, with: impl FnOnce(&mut StdRng) -> T) -> T {
        with(&mut lock(&self.state).rng)
    }
}
