//! The shards of one entity type on this node, and the entities alive in them.

use std::{
    any::Any,
    collections::{BTreeMap, BinaryHeap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{ShardRegion, busiest::Busiest, host::ShardHost, idle, parcel::Frozen};
use crate::{
    actor::{
        Entity,
        cell::{
            Cell,
            policy::Policy,
            report::{CellReport, Glance},
        },
        handle::{CellName, Signal},
    },
    id::{EntityId, Epoch, ShardId},
    infra::{coarse::millis_since, panic, sync::lock},
    persistence::{Log, shard_log::ShardLog, store::Store},
};

/// The cell of an entity, of any type.
pub(super) trait EntityCell: Send + Sync {
    fn name(&self) -> &CellName;

    fn report(&self) -> CellReport;

    /// See [`Cell::glance`].
    fn glance(&self, now: u32) -> Glance;

    fn wake(self: Arc<Self>);

    fn signal(self: Arc<Self>, signal: Signal);

    fn seal(&self);

    fn sever(self: Arc<Self>);

    /// See [`Cell::hurry`].
    fn hurry(self: Arc<Self>) -> bool;

    /// See [`Cell::wake_handler`].
    fn wake_handler(&self);

    fn close(self: Arc<Self>) -> oneshot::Receiver<()>;

    fn is_closed(&self) -> bool;

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<E: Entity> EntityCell for Cell<E> {
    fn name(&self) -> &CellName {
        self.name()
    }

    fn report(&self) -> CellReport {
        self.report()
    }

    fn glance(&self, now: u32) -> Glance {
        self.glance(now)
    }

    fn wake(self: Arc<Self>) {
        Self::wake(&self);
    }

    fn signal(self: Arc<Self>, signal: Signal) {
        Self::signal(&self, signal);
    }

    fn seal(&self) {
        self.seal();
    }

    fn sever(self: Arc<Self>) {
        Self::sever(&self);
    }

    fn hurry(self: Arc<Self>) -> bool {
        Self::hurry(&self)
    }

    fn wake_handler(&self) {
        self.wake_handler();
    }

    fn close(self: Arc<Self>) -> oneshot::Receiver<()> {
        Self::close(&self)
    }

    fn is_closed(&self) -> bool {
        self.is_closed()
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Whether two pointers are to the same cell. A cell has one address, whatever its pointer's type.
pub(super) fn address<T: ?Sized>(cell: &T) -> *const () {
    std::ptr::from_ref(cell).cast()
}

/// Why a local system starts no entity of a stored type.
const NO_JOURNAL: &str =
    "the system was started without a journal: use `ActorSystem::builder(..).journal(..)`";

/// Where the logs of the shards of a stored type are.
pub(super) struct Logs {
    store: Arc<Store>,
    /// The type's wire name.
    kind: Arc<str>,
    /// Why this node must not use its store, if it must not.
    forbidden: Mutex<Option<String>>,
}

impl Logs {
    pub(super) fn new(store: &Arc<Store>, kind: &str) -> Self {
        Self {
            store: store.clone(),
            kind: kind.into(),
            forbidden: Mutex::default(),
        }
    }

    /// `there`: a node on another host that hosts the type as well.
    fn set_other_host(&self, there: impl FnOnce() -> Option<SocketAddr>) {
        let Some(reason) = self.store.journal().only_one_host() else {
            return;
        };
        let why = there().map(|there| {
            let store = self.store.journal().describe();
            format!("{store} cannot be used together with `{there}`: {reason}")
        });
        let mut forbidden = lock(&self.forbidden);
        if *forbidden != why {
            if let Some(reason) = &why {
                tracing::error!(kind = %self.kind, reason, "no stored entity is started here");
            }
            *forbidden = why;
        }
    }

    fn open(&self, shard: ShardId, epoch: Epoch) -> Arc<ShardLog> {
        let log = Log {
            kind: self.kind.clone(),
            shard: shard.0,
        };
        self.store.open_log(log, epoch)
    }
}

pub(super) struct LocalShards {
    shards: Box<[Mutex<LocalShard>]>,
    /// `None`: the type is not stored, or is not hosted here.
    logs: Option<Logs>,
    policy: Policy,
    /// Active entities. They are counted only where their number is limited, since threads that
    /// make entities contend for the counter.
    counted: AtomicU64,
    /// Notified when there are more active entities than the type allows.
    over_limit: Arc<Notify>,
    /// Notified when this node gets or loses a shard.
    owned: Notify,
    /// This node has ever had a shard of the type.
    has_owned: AtomicBool,
}

struct LocalShard {
    hold: Hold,
    /// Since when.
    since: Instant,
    /// States without an activation: entities that have stopped here and go on elsewhere, or that
    /// came from elsewhere and have not started here.
    frozen: BTreeMap<EntityId, Frozen>,
    /// States of entities that have stopped here and cannot move.
    stayed: BTreeMap<EntityId, StayedState>,
    cells: HashMap<EntityId, Arc<dyn EntityCell>, foldhash::fast::RandomState>,
    /// Shared by those cells.
    host: Weak<ShardHost>,
    /// The log of the shard under the present epoch, if the type is stored.
    log: Option<Arc<ShardLog>>,
}

impl LocalShard {
    fn has_state_of(&self, id: &EntityId) -> bool {
        self.frozen.contains_key(id) || self.stayed.contains_key(id)
    }
}

/// The state of an entity that cannot move, and why.
pub(super) struct StayedState {
    pub(super) reason: String,
    pub(super) state: Box<dyn Any + Send>,
    /// See [`Frozen::luggage`].
    pub(super) luggage: Bytes,
}

/// What a node knows of an entity whose shard it owns.
pub(crate) struct Looked {
    pub(crate) owned_for: Duration,
    /// `None`: the entity is not active.
    pub(crate) cell: Option<CellReport>,
}

/// How this node holds a shard, and at which epoch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Elsewhere,
    /// The shard is about to come here. It takes the messages that were kept for it, but none yet
    /// from a connection.
    Opening(Epoch),
    /// This node owns the shard, which takes messages.
    Open(Epoch),
    /// This node still owns the shard, but hands it over: the shard takes no more messages.
    Draining(Epoch),
}

impl Hold {
    /// The epoch at which this node owns the shard.
    fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Elsewhere => None,
            Self::Opening(epoch) | Self::Open(epoch) | Self::Draining(epoch) => Some(epoch),
        }
    }

    /// Whether the shard takes messages. `epoch`: it has to be open at exactly this one.
    fn takes(self, epoch: Option<Epoch>) -> bool {
        match (self, epoch) {
            (Self::Open(present), Some(epoch)) => present == epoch,
            (Self::Open(_) | Self::Opening(_), None) => true,
            _ => false,
        }
    }
}

impl LocalShards {
    /// `epoch`: the epoch of all shards, if every shard is here from the start.
    pub(super) fn new(
        shards: u32,
        epoch: Option<Epoch>,
        policy: Policy,
        logs: Option<Logs>,
    ) -> Self {
        let shard = |_| {
            Mutex::new(LocalShard {
                hold: epoch.map_or(Hold::Elsewhere, Hold::Open),
                since: Instant::now(),
                frozen: BTreeMap::new(),
                stayed: BTreeMap::new(),
                cells: HashMap::default(),
                host: Weak::new(),
                log: None,
            })
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            logs,
            policy,
            counted: AtomicU64::new(0),
            over_limit: Arc::default(),
            owned: Notify::new(),
            has_owned: AtomicBool::new(false),
        }
    }

    /// Notified when this node gets or loses a shard.
    pub(super) fn owned(&self) -> &Notify {
        &self.owned
    }

    /// Notified when there are more active entities than the type allows.
    pub(super) fn over_limit(&self) -> Arc<Notify> {
        self.over_limit.clone()
    }

    /// Passivates the entities that have been idle for too long, and the least recently used ones
    /// above the limit.
    pub(super) fn passivate(&self, now: u32) {
        let mut idle = Vec::new();
        for shard in &self.shards {
            let cells = &lock(shard).cells;
            let since = |cell: &Arc<dyn EntityCell>| {
                let used = cell.glance(now).last_used?;
                Some((millis_since(now, used), (used, cell.clone())))
            };
            idle.extend(cells.values().filter_map(since));
        }
        let active = usize::try_from(self.active()).unwrap_or(usize::MAX);
        let policy = self.policy;
        let chosen = idle::chosen(
            idle,
            |(_, cell)| cell.name(),
            active,
            policy.passivate_after,
            policy.max_active,
        );
        for (used, cell) in chosen {
            cell.signal(Signal::Passivate(used));
        }
    }

    /// The number of active entities.
    pub(super) fn active(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).cells.len() as u64).sum()
    }

    /// What this node knows of an entity of a shard that it owns.
    pub(super) fn look(&self, shard: ShardId, id: &str) -> Option<Looked> {
        let local = self.get(shard)?;
        local.hold.epoch()?;
        let (since, cell) = (local.since, local.cells.get(id).cloned());
        drop(local);
        Some(Looked {
            owned_for: since.elapsed(),
            cell: cell.map(|cell| cell.report()),
        })
    }

    /// Looks for the busiest entities of a shard.
    pub(super) fn look_for(&self, shard: ShardId, busiest: &mut Busiest) {
        if let Some(local) = self.get(shard) {
            for cell in local.cells.values() {
                busiest.look(cell);
            }
        }
    }

    /// The first active entities of a shard after `after` whose ids begin with `prefix`, in order.
    pub(super) fn active_in(
        &self,
        shard: ShardId,
        after: Option<&EntityId>,
        prefix: &str,
        limit: usize,
    ) -> Vec<EntityId> {
        let Some(local) = self.get(shard) else {
            return Vec::new();
        };
        let ids = local.cells.keys();
        let ids = ids.filter(|id| after.is_none_or(|after| *id > after));
        let mut first = BinaryHeap::new();
        for id in ids.filter(|id| id.as_str().starts_with(prefix)) {
            if first.len() < limit {
                first.push(id.clone());
            } else if let Some(mut last) = first.peek_mut()
                && id < &*last
            {
                *last = id.clone();
            }
        }
        first.into_sorted_vec()
    }

    /// One more entity is active.
    fn entered(&self) {
        if let Some(max) = self.policy.max_active
            && self.counted.fetch_add(1, Ordering::Relaxed) >= max as u64
        {
            self.over_limit.notify_one();
        }
    }

    /// `count` entities are active no more.
    fn left(&self, count: usize) {
        if self.policy.max_active.is_some() {
            self.counted.fetch_sub(count as u64, Ordering::Relaxed);
        }
    }

    fn get(&self, shard: ShardId) -> Option<MutexGuard<'_, LocalShard>> {
        Some(lock(self.shards.get(shard.index())?))
    }

    /// The epoch at which the shard is open here.
    pub(super) fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        match self.get(shard)?.hold {
            Hold::Open(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// The present cell of an entity.
    pub(super) fn present_cell(
        &self,
        shard: ShardId,
        id: &EntityId,
    ) -> Option<Arc<dyn EntityCell>> {
        self.get(shard)?.cells.get(id).cloned()
    }

    /// The cell of an entity, made if there is none. `None`: the shard takes no messages here.
    ///
    /// `epoch`: the shard has to be open at exactly this epoch. `closed`: the address of a cell
    /// that was found before and has closed since; a fresh cell takes its place.
    ///
    /// A shard closes its cells before it moves. So a cell that still accepts a message belongs to
    /// the epoch at which it was found, and need not be locked together with its shard.
    pub(super) fn cell(
        &self,
        region: &ShardRegion,
        shard: ShardId,
        epoch: Option<Epoch>,
        (id, owned): (&str, &dyn Fn() -> EntityId),
        closed: Option<*const ()>,
    ) -> Option<Arc<dyn EntityCell>> {
        let mut local = self.get(shard)?;
        if !local.hold.takes(epoch) {
            return None;
        }
        if let Some(cell) = local.cells.get(id)
            && closed != Some(address(&**cell))
        {
            return Some(cell.clone());
        }
        self.add_cell(&mut local, region, shard, owned())
    }

    /// Whether a message would make a cell of this entity here: see [`cell`](Self::cell).
    pub(super) fn would_start(&self, shard: ShardId, epoch: Option<Epoch>, id: &str) -> bool {
        let Some(local) = self.get(shard) else {
            return false;
        };
        local.hold.takes(epoch) && !local.cells.contains_key(id)
    }

    /// Whether a message for an active entity alone finds none here. An entity whose state waits,
    /// as its shard has just moved, is about to be active.
    #[cold]
    pub(super) fn has_none_active(&self, shard: ShardId, epoch: Option<Epoch>, id: &str) -> bool {
        self.would_start(shard, epoch, id) && !self.has_state_of(shard, &EntityId::new(id))
    }

    /// Whether there is a state for an entity that has no activation.
    pub(super) fn has_state_of(&self, shard: ShardId, id: &EntityId) -> bool {
        self.get(shard).is_some_and(|local| local.has_state_of(id))
    }

    /// Makes a cell, in place of a closed one if there is one.
    fn add_cell(
        &self,
        local: &mut LocalShard,
        region: &ShardRegion,
        shard: ShardId,
        id: EntityId,
    ) -> Option<Arc<dyn EntityCell>> {
        let host = ShardHost::of(&mut local.host, shard, &region.me)?;
        let cell = (region.entity_type.new_cell)(CellName::Entity(id.clone()), host);
        if local.cells.insert(id, cell.clone()).is_none() {
            self.entered();
        }
        Some(cell)
    }

    /// Forgets a cell that has closed.
    pub(super) fn closed(&self, shard: ShardId, id: &EntityId, cell: *const ()) {
        let Some(local) = self.shards.get(shard.index()) else {
            return;
        };
        let mut local = lock(local);
        if local
            .cells
            .get(id)
            .is_some_and(|present| address(&**present) == cell)
        {
            local.cells.remove(id);
            self.left(1);
        }
    }

    fn set(&self, shard: ShardId, hold: Hold) {
        self.has_owned.store(true, Ordering::Release);
        if let Some(mut local) = self.get(shard) {
            if local.hold.epoch() != hold.epoch() {
                local.since = Instant::now();
            }
            local.hold = hold;
        }
        self.owned.notify_waiters();
    }

    /// The shard is about to be here: see [`Hold::Opening`].
    pub(super) fn open(&self, shard: ShardId, epoch: Epoch) {
        self.set(shard, Hold::Opening(epoch));
        // It is claimed before the first message needs it.
        drop(self.log(shard));
    }

    /// `there`: where another node that hosts the type is on another host than this one.
    pub(super) fn set_other_host(&self, there: impl FnOnce() -> Option<SocketAddr>) {
        if let Some(logs) = &self.logs {
            logs.set_other_host(there);
        }
    }

    /// The log of a shard of a stored type, under the epoch at which this node owns the shard. An
    /// error says why there is none.
    pub(super) fn log(&self, shard: ShardId) -> Result<Arc<ShardLog>, String> {
        let logs = self.logs.as_ref().ok_or(NO_JOURNAL)?;
        let forbidden = lock(&logs.forbidden).clone();
        forbidden.map_or(Ok(()), Err)?;
        let elsewhere = "the shard of the entity is on another node now";
        let mut local = self.get(shard).ok_or(elsewhere)?;
        let (Hold::Opening(epoch) | Hold::Open(epoch) | Hold::Draining(epoch)) = local.hold else {
            return Err(elsewhere.to_owned());
        };
        let present = local.log.take_if(|log| log.epoch() == epoch);
        let log = present.unwrap_or_else(|| logs.open(shard, epoch));
        local.log = Some(log.clone());
        Ok(log)
    }

    /// The log of a shard, if the shard is here and its log is in use.
    pub(super) fn log_in_use(&self, shard: ShardId) -> Option<Arc<ShardLog>> {
        self.get(shard).and_then(|local| local.log.clone())
    }

    /// The shard is here from now on.
    pub(super) fn take_over(&self, shard: ShardId, epoch: Epoch) {
        self.set(shard, Hold::Open(epoch));
    }

    /// Whether the shard is being handed over, at this epoch.
    pub(super) fn is_draining(&self, shard: ShardId, epoch: Epoch) -> bool {
        let local = self.get(shard);
        local.is_some_and(|local| local.hold == Hold::Draining(epoch))
    }

    /// The epoch at which this node owns the shard, also while the shard opens or drains.
    pub(super) fn epoch_of_owner(&self, shard: ShardId) -> Option<Epoch> {
        self.get(shard)?.hold.epoch()
    }

    /// The shards that may be here: none of a type of which this node has never had one.
    pub(super) fn ever_here(&self) -> impl Iterator<Item = ShardId> + use<> {
        let has_owned = self.has_owned.load(Ordering::Acquire);
        let shards = if has_owned { self.shards.len() } else { 0 };
        (0..).map(ShardId).take(shards)
    }

    /// The epoch at which entities of the shard may act here.
    #[cfg(feature = "sim")]
    pub(super) fn serves(&self, shard: ShardId) -> Option<Epoch> {
        let local = self.get(shard)?;
        match local.hold {
            Hold::Opening(epoch) | Hold::Open(epoch) => Some(epoch),
            Hold::Draining(epoch) if !local.cells.is_empty() => Some(epoch),
            Hold::Elsewhere | Hold::Draining(_) => None,
        }
    }

    /// The shard is not here any more. Any entities that it still has end at once.
    pub(super) fn drop_shard(&self, shard: ShardId) {
        let Some(local) = self.shards.get(shard.index()) else {
            return;
        };
        let stayed;
        let orphans = {
            let mut local = lock(local);
            local.hold = Hold::Elsewhere;
            local.log = None;
            local.frozen.clear();
            stayed = std::mem::take(&mut local.stayed);
            std::mem::take(&mut local.cells)
        };
        self.owned.notify_waiters();
        panic::contained("a state", || drop(stayed));
        self.left(orphans.len());
        for cell in in_order(orphans.into_values().collect()) {
            cell.sever();
        }
    }

    /// Has handlers that await something look whether they may go on.
    pub(super) fn wake_handlers(&self) {
        for shard in &self.shards {
            let cells = lock(shard).cells.values().cloned().collect();
            for cell in in_order(cells) {
                cell.wake_handler();
            }
        }
    }

    /// Whether the shard is being handed over, at any epoch.
    pub(super) fn is_handed_over(&self, shard: ShardId) -> bool {
        let local = self.get(shard);
        local.is_some_and(|local| matches!(local.hold, Hold::Draining(_)))
    }

    /// Keeps the state of an entity that has stopped, if its shard is being handed over.
    pub(super) fn freeze(&self, shard: ShardId, id: &EntityId, state: Frozen) {
        if let Some(mut local) = self.get(shard)
            && matches!(local.hold, Hold::Draining(_))
        {
            local.frozen.insert(id.clone(), state);
        }
    }

    /// Keeps the state of an entity that has stopped and cannot move.
    pub(super) fn stay(&self, shard: ShardId, id: &EntityId, state: StayedState) {
        let refused = self.get(shard).map(|mut local| {
            let is_here = matches!(local.hold, Hold::Draining(_));
            if is_here {
                local.stayed.insert(id.clone(), state);
                return None;
            }
            Some(state)
        });
        // A state is dropped without the lock, since this runs a user's code.
        drop(refused);
    }

    /// Takes the states of a shard that cannot move.
    pub(super) fn take_stayed(&self, shard: ShardId) -> BTreeMap<EntityId, StayedState> {
        let local = self.get(shard);
        local.map_or_else(BTreeMap::new, |mut local| std::mem::take(&mut local.stayed))
    }

    /// Takes the state of one of them.
    pub(super) fn take_stayed_state(&self, shard: ShardId, id: &EntityId) -> Option<StayedState> {
        let mut local = self.get(shard)?;
        // Most shards have none.
        if local.stayed.is_empty() {
            return None;
        }
        local.stayed.remove(id)
    }

    /// How many entities of a shard cannot move, one of them, and why.
    pub(super) fn cannot_move(&self, shard: ShardId) -> Option<(usize, EntityId, String)> {
        let local = self.get(shard)?;
        let (id, first) = local.stayed.first_key_value()?;
        Some((local.stayed.len(), id.clone(), first.reason.clone()))
    }

    /// Takes the states that are kept for a shard.
    pub(super) fn take_frozen(&self, shard: ShardId) -> BTreeMap<EntityId, Frozen> {
        let local = self.shards.get(shard.index());
        local.map_or_else(BTreeMap::new, |local| {
            std::mem::take(&mut lock(local).frozen)
        })
    }

    /// The entities whose states are kept for a shard.
    pub(super) fn waiting_ids(&self, shard: ShardId) -> Vec<EntityId> {
        self.get(shard).map_or_else(Vec::new, |local| {
            let ids = local.frozen.keys().chain(local.stayed.keys());
            ids.cloned().collect()
        })
    }

    /// The shard comes here with these states.
    pub(super) fn set_frozen(&self, shard: ShardId, frozen: BTreeMap<EntityId, Frozen>) {
        if let Some(local) = self.shards.get(shard.index()) {
            lock(local).frozen = frozen;
        }
    }

    /// The state that an entity came here with, until the entity is active.
    pub(super) fn frozen_state(&self, shard: ShardId, id: &EntityId) -> Option<Frozen> {
        lock(self.shards.get(shard.index())?)
            .frozen
            .get(id)
            .cloned()
    }

    /// The entity is active: the state that it came with is dropped.
    pub(super) fn thawed(&self, shard: ShardId, id: &EntityId) {
        if let Some(local) = self.shards.get(shard.index()) {
            let mut local = lock(local);
            if !matches!(local.hold, Hold::Draining(_)) {
                local.frozen.remove(id);
            }
        }
    }

    /// The cell of an entity that came here with a state, and has not been activated yet.
    pub(super) fn moved_cell(
        &self,
        region: &ShardRegion,
        shard: ShardId,
        id: &EntityId,
    ) -> Option<Arc<dyn EntityCell>> {
        let mut local = self.get(shard)?;
        if !matches!(local.hold, Hold::Open(_)) || !local.has_state_of(id) {
            return None;
        }
        match local.cells.get(id) {
            Some(cell) => Some(cell.clone()),
            None => self.add_cell(&mut local, region, shard, id.clone()),
        }
    }

    /// Closes the shard, so that it takes no more messages. Neither do its cells, which references
    /// remember. Returns its epoch and its cells, which are still to be closed; `None` if the shard
    /// was not open.
    pub(super) fn close(&self, shard: ShardId) -> Option<(Epoch, Vec<Arc<dyn EntityCell>>)> {
        let mut local = self.get(shard)?;
        let Hold::Open(epoch) = local.hold else {
            return None;
        };
        local.hold = Hold::Draining(epoch);
        let cells = in_order(local.cells.values().cloned().collect());
        // All cells close under one lock. A sender's next message waits for the next owner, so none
        // of its later messages may be handled here.
        for cell in &cells {
            cell.seal();
        }
        Some((epoch, cells))
    }
}

/// Sorts cells in an order that does not depend on the hash, so that a simulation can be repeated.
fn in_order(mut cells: Vec<Arc<dyn EntityCell>>) -> Vec<Arc<dyn EntityCell>> {
    cells.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    cells
}
