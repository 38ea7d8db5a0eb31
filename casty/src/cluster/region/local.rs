//! The shards of one entity type on this node, and the entities alive in them.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use super::{host::ShardHost, idle, moving::Frozen};
use crate::{
    actor::{
        Entity,
        cell::{Cell, CellName, Refusal, Signal},
        envelope::Envelope,
    },
    error::Failure,
    id::{EntityId, Epoch, ShardId},
    infra::sync::lock,
};

pub(super) struct LocalShards<E: Entity> {
    shards: Box<[Mutex<LocalShard<E>>]>,
    /// Entities alive here, where their number is limited: threads that make them would wait for
    /// each other to count.
    counted: AtomicU64,
    /// There are more entities than the type allows.
    crowd: Arc<Notify>,
}

struct LocalShard<E: Entity> {
    /// While this node owns the shard and lets it take messages.
    epoch: Option<Epoch>,
    /// It is about to be here: what was kept for it comes first.
    opening: Option<Epoch>,
    /// This node owns it still, and hands it over: it takes nothing more.
    draining: Option<Epoch>,
    /// States without an activation: of entities that have stopped here to go on elsewhere, or the
    /// other way round.
    frozen: BTreeMap<EntityId, Frozen>,
    cells: HashMap<EntityId, Arc<Cell<E>>, foldhash::fast::RandomState>,
    /// Of those cells.
    host: Weak<ShardHost<E>>,
}

/// Why a shard here does not take an envelope.
pub(super) enum Refused<E: Entity> {
    NotHere(Envelope<E>),
    Full(Envelope<E>, Arc<Cell<E>>),
    Failed(Envelope<E>, Failure),
}

impl<E: Entity> LocalShards<E> {
    /// `epoch`: of all shards, if they are here from the start.
    pub(super) fn new(shards: u32, epoch: Option<Epoch>) -> Self {
        let shard = |_| {
            Mutex::new(LocalShard {
                epoch,
                opening: None,
                draining: None,
                frozen: BTreeMap::new(),
                cells: HashMap::default(),
                host: Weak::new(),
            })
        };
        Self {
            shards: (0..shards).map(shard).collect(),
            counted: AtomicU64::new(0),
            crowd: Arc::default(),
        }
    }

    /// Notified when there are more entities than the type allows.
    pub(super) fn crowd(&self) -> Arc<Notify> {
        self.crowd.clone()
    }

    /// Puts to sleep what has been idle for long, or is too much.
    pub(super) fn passivate(&self, now: u32) {
        let mut idle = Vec::new();
        for shard in &self.shards {
            let cells = &lock(shard).cells;
            let since = |cell: &Arc<Cell<E>>| {
                let used = cell.last_used()?;
                Some((now.wrapping_sub(used), (used, cell.clone())))
            };
            idle.extend(cells.values().filter_map(since));
        }
        let active = usize::try_from(self.active()).unwrap_or(usize::MAX);
        let policy = E::POLICY;
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

    /// Entities alive here.
    pub(super) fn active(&self) -> u64 {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).cells.len() as u64).sum()
    }

    /// Another entity is active.
    fn entered(&self) {
        if let Some(max) = E::POLICY.max_active
            && self.counted.fetch_add(1, Ordering::Relaxed) >= max as u64
        {
            self.crowd.notify_one();
        }
    }

    /// So many are active no more.
    fn left(&self, count: usize) {
        if E::POLICY.max_active.is_some() {
            self.counted.fetch_sub(count as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn epoch(&self, shard: ShardId) -> Option<Epoch> {
        lock(self.shards.get(shard.index())?).epoch
    }

    pub(super) fn cell(&self, shard: ShardId, id: &EntityId) -> Option<Arc<Cell<E>>> {
        lock(self.shards.get(shard.index())?).cells.get(id).cloned()
    }

    /// Puts an envelope into the mailbox of an entity, in a cell that `make` makes if there is
    /// none.
    ///
    /// `epoch`: only if the shard is here at exactly this epoch.
    pub(super) fn push(
        &self,
        shard: ShardId,
        epoch: Option<Epoch>,
        id: impl AsRef<str> + Into<EntityId>,
        mut envelope: Envelope<E>,
        mut push: impl FnMut(&Arc<Cell<E>>, Envelope<E>) -> Result<(), Refusal<E>>,
        make: impl FnOnce(CellName, &mut Weak<ShardHost<E>>) -> Option<Arc<Cell<E>>>,
    ) -> Result<(), Refused<E>> {
        let Some(local) = self.shards.get(shard.index()) else {
            return Err(Refused::NotHere(envelope));
        };
        let mut local = lock(local);
        let takes = match epoch {
            None => local.epoch.or(local.opening).is_some(),
            Some(epoch) => local.epoch == Some(epoch),
        };
        if !takes {
            return Err(Refused::NotHere(envelope));
        }
        if let Some(cell) = local.cells.get(id.as_ref()) {
            match push(cell, envelope) {
                Ok(()) => return Ok(()),
                Err(Refusal::Full(envelope)) => return Err(Refused::Full(envelope, cell.clone())),
                Err(Refusal::Failing(envelope, failure)) => {
                    return Err(Refused::Failed(envelope, failure));
                }
                // It has just ended; a fresh one takes its place.
                Err(Refusal::Closed(back)) => envelope = back,
            }
        }
        let id: EntityId = id.into();
        let Some(cell) = make(CellName::Entity(id.clone()), &mut local.host) else {
            return Err(Refused::NotHere(envelope));
        };
        let cell = match local.cells.entry(id) {
            Entry::Occupied(mut present) => {
                present.insert(cell);
                present.into_mut()
            }
            Entry::Vacant(place) => {
                self.entered();
                place.insert(cell)
            }
        };
        match push(cell, envelope) {
            Ok(()) => Ok(()),
            Err(Refusal::Full(envelope) | Refusal::Closed(envelope)) => {
                Err(Refused::Full(envelope, cell.clone()))
            }
            Err(Refusal::Failing(envelope, failure)) => Err(Refused::Failed(envelope, failure)),
        }
    }

    /// Forgets a cell that has closed.
    pub(super) fn closed(&self, shard: ShardId, id: &EntityId, cell: &Cell<E>) {
        let Some(local) = self.shards.get(shard.index()) else {
            return;
        };
        let mut local = lock(local);
        if local
            .cells
            .get(id)
            .is_some_and(|present| std::ptr::eq(&raw const **present, cell))
        {
            local.cells.remove(id);
            self.left(1);
        }
    }

    /// The shard is about to be here: it takes what was kept for it, and nothing yet that comes
    /// over a connection.
    pub(super) fn open(&self, shard: ShardId, epoch: Epoch) {
        if let Some(local) = self.shards.get(shard.index()) {
            let mut local = lock(local);
            (local.epoch, local.opening, local.draining) = (None, Some(epoch), None);
        }
    }

    /// The shard is here from now on.
    pub(super) fn take_over(&self, shard: ShardId, epoch: Epoch) {
        if let Some(local) = self.shards.get(shard.index()) {
            let mut local = lock(local);
            (local.epoch, local.opening) = (Some(epoch), None);
        }
    }

    /// Whether the shard is being handed over, at this epoch.
    pub(super) fn is_draining(&self, shard: ShardId, epoch: Epoch) -> bool {
        let local = self.shards.get(shard.index());
        local.is_some_and(|local| lock(local).draining == Some(epoch))
    }

    /// The epoch at which the shard is here, also while it is about to be, or is handed over.
    pub(super) fn epoch_of_owner(&self, shard: ShardId) -> Option<Epoch> {
        let local = lock(self.shards.get(shard.index())?);
        local.epoch.or(local.opening).or(local.draining)
    }

    /// The epoch at which entities of the shard may act here.
    #[cfg(feature = "sim")]
    pub(super) fn serves(&self, shard: ShardId) -> Option<Epoch> {
        let local = lock(self.shards.get(shard.index())?);
        let drains = local.draining.filter(|_| !local.cells.is_empty());
        local.epoch.or(local.opening).or(drains)
    }

    /// The shard is not here any more. Its entities, if it still had any, end at once.
    pub(super) fn drop_shard(&self, shard: ShardId) {
        let Some(local) = self.shards.get(shard.index()) else {
            return;
        };
        let orphans = {
            let mut local = lock(local);
            (local.epoch, local.opening, local.draining) = (None, None, None);
            local.frozen.clear();
            std::mem::take(&mut local.cells)
        };
        self.left(orphans.len());
        for cell in in_order(orphans.into_values().collect()) {
            cell.sever();
        }
    }

    /// Keeps the state of an entity that has stopped, if its shard is being handed over.
    pub(super) fn freeze(
        &self,
        shard: ShardId,
        id: &EntityId,
        state: impl FnOnce() -> Option<Frozen>,
    ) {
        let Some(local) = self.shards.get(shard.index()) else {
            return;
        };
        if lock(local).draining.is_none() {
            return;
        }
        // Encoded outside of the lock: that is a user's code.
        let Some(state) = state() else { return };
        let mut local = lock(local);
        if local.draining.is_some() {
            local.frozen.insert(id.clone(), state);
        }
    }

    /// The states that are kept for a shard, and are no more.
    pub(super) fn take_frozen(&self, shard: ShardId) -> BTreeMap<EntityId, Frozen> {
        let local = self.shards.get(shard.index());
        local.map_or_else(BTreeMap::new, |local| {
            std::mem::take(&mut lock(local).frozen)
        })
    }

    /// Whose states are kept for a shard.
    pub(super) fn frozen_ids(&self, shard: ShardId) -> Vec<EntityId> {
        let local = self.shards.get(shard.index());
        local.map_or_else(Vec::new, |local| {
            lock(local).frozen.keys().cloned().collect()
        })
    }

    /// The shard comes here with these states.
    pub(super) fn set_frozen(&self, shard: ShardId, frozen: BTreeMap<EntityId, Frozen>) {
        if let Some(local) = self.shards.get(shard.index()) {
            lock(local).frozen = frozen;
        }
    }

    /// The state that an entity came with, if it has not been activated yet.
    pub(super) fn frozen_state(&self, shard: ShardId, id: &EntityId) -> Option<Frozen> {
        lock(self.shards.get(shard.index())?)
            .frozen
            .get(id)
            .cloned()
    }

    /// Its entity is active.
    pub(super) fn thawed(&self, shard: ShardId, id: &EntityId) {
        if let Some(local) = self.shards.get(shard.index()) {
            let mut local = lock(local);
            if local.draining.is_none() {
                local.frozen.remove(id);
            }
        }
    }

    /// The cell of an entity here whose state is still kept, made if there is none.
    pub(super) fn cell_or(
        &self,
        shard: ShardId,
        id: &EntityId,
        make: impl FnOnce(CellName, &mut Weak<ShardHost<E>>) -> Option<Arc<Cell<E>>>,
    ) -> Option<Arc<Cell<E>>> {
        let mut local = lock(self.shards.get(shard.index())?);
        local.epoch?;
        if !local.frozen.contains_key(id) {
            return None;
        }
        if let Some(cell) = local.cells.get(id) {
            return Some(cell.clone());
        }
        let cell = make(CellName::Entity(id.clone()), &mut local.host)?;
        local.cells.insert(id.clone(), cell.clone());
        self.entered();
        Some(cell)
    }

    /// The shard takes no more messages, nor do its cells, which references remember. `None` if it
    /// was not here; else its epoch, and the cells, which are still to be closed.
    pub(super) fn close(&self, shard: ShardId) -> Option<(Epoch, Vec<Arc<Cell<E>>>)> {
        let mut local = lock(self.shards.get(shard.index())?);
        let epoch = local.epoch.take()?;
        local.draining = Some(epoch);
        let cells = in_order(local.cells.values().cloned().collect());
        // All at once: what one sender sends now waits for the next owner, and nothing it sends
        // later is to be handled here.
        for cell in &cells {
            cell.seal();
        }
        Some((epoch, cells))
    }
}

/// Sorted, so that the order does not depend on the hash and a simulation can be repeated.
fn in_order<E: Entity>(mut cells: Vec<Arc<Cell<E>>>) -> Vec<Arc<Cell<E>>> {
    cells.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    cells
}
