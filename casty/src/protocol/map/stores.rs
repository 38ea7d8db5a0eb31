//! The stores that the map knows: they come with a process, outlive it, and are forgotten once no
//! shard has a copy there.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
};

use super::{ClusterMap, KindCopies, MapError, Status, StorePlace};
use crate::{
    id::{CatalogEntry, CopySettings, MemberId, ShardId},
    infra::mutants,
    protocol::copies::{CopiesView, CopyPlaces, StoreId, StoreNo},
};

/// How many stores are remembered that no process has and that no shard needs.
const IDLE_STORES_MAX: usize = 256;

// ---- What the map says.

impl ClusterMap {
    /// The store of a process.
    #[cfg(test)]
    pub(crate) fn store_of(&self, member: &MemberId) -> Option<StoreId> {
        let mut stores = self.stores.values();
        let place = stores.find(|place| place.holder == *member)?;
        Some(place.id)
    }

    /// The number of the store of a process.
    pub(crate) fn store_no(&self, member: &MemberId) -> Option<StoreNo> {
        let mut stores = self.stores.iter();
        let (store, _) = stores.find(|(_, place)| place.holder == *member)?;
        Some(*store)
    }

    pub(crate) fn number_of(&self, store: StoreId) -> Option<StoreNo> {
        let mut stores = self.stores.iter();
        let (number, _) = stores.find(|(_, place)| place.id == store)?;
        Some(*number)
    }

    /// The process that has a store now, or had it last.
    pub(crate) fn holder_of(&self, store: StoreId) -> Option<&MemberId> {
        let mut stores = self.stores.values();
        let place = stores.find(|place| place.id == store)?;
        Some(&place.holder)
    }

    /// The process that has a store now. `None` if it is Down, or no member any more.
    pub(crate) fn process_of(&self, store: StoreId) -> Option<&MemberId> {
        self.process_in(self.number_of(store)?)
    }

    /// The process that has the store of this number now.
    pub(crate) fn process_in(&self, store: StoreNo) -> Option<&MemberId> {
        let holder = &self.stores.get(&store)?.holder;
        self.is_present(holder).then_some(holder)
    }

    /// What the map says of a shard to the process of one of its stores. `None` if the type is not
    /// kept in copies, or nobody has had the shard yet.
    pub(crate) fn copies_view(
        &self,
        kind: &str,
        shard: ShardId,
        me: &MemberId,
    ) -> Option<CopiesView> {
        let copies = self.copies.get(kind)?;
        let places = copies.shards.get(shard.index())?;
        let home = self.kinds.get(kind)?.get(shard.index())?;
        if places.in_sync.is_empty() {
            return None;
        }
        let slot = self.member(me).map(|member| member.slot);
        let id = |store: StoreNo| Some(self.stores.get(&store)?.id);
        Some(CopiesView {
            epoch: home.epoch,
            is_owner: slot.is_some() && home.owner == slot,
            in_sync: places.in_sync.stores().filter_map(id).collect(),
            set_version: places.in_sync.version(),
            wanted: places.wanted.into_iter().filter_map(id).collect(),
            copies_min: usize::from(copies.min),
            life: places.life,
        })
    }

    /// Whether a shard of a type that is kept in copies has had no owner yet.
    pub(crate) fn was_never_owned(&self, kind: &str, shard: ShardId) -> bool {
        let places = self.places(kind, shard);
        places.is_some_and(|places| places.in_sync.is_empty())
    }

    /// The stores that a shard cannot do without now. With an owner: those in sync that have no
    /// process; nothing is let out until each is back, or dropped because there are others. Without
    /// one: the stores in sync, if none of them has a process; the first that is back is enough.
    pub(crate) fn waits_for(&self, kind: &str, shard: ShardId) -> Vec<StoreNo> {
        let Some(places) = self.places(kind, shard) else {
            return Vec::new();
        };
        let is_gone = |store: &StoreNo| self.process_in(*store).is_none();
        let gone: Vec<StoreNo> = places.in_sync.stores().filter(is_gone).collect();
        if self.owner(kind, shard).is_some() || gone.len() == places.in_sync.count() {
            gone
        } else {
            Vec::new()
        }
    }

    /// How many stores the cluster has for a type: those of present processes that host it and do
    /// not leave, and those that are expected back.
    pub(super) fn stores_expected(&self, kind: &str) -> usize {
        let counts = |place: &&StorePlace| {
            place.kinds.iter().any(|name| name == kind)
                && self.is_expected(place)
                && self.status(&place.holder) != Some(Status::Leaving)
        };
        self.stores.values().filter(counts).count()
    }
}

impl ClusterMap {
    /// Whether a process of the store is expected back, or there. A store in memory never is.
    fn is_expected(&self, place: &StorePlace) -> bool {
        let may_return = !place.id.is_in_memory() || self.is_present(&place.holder);
        place.is_expected && may_return
    }

    /// Whether a process with this store would mix stores on disk and in memory. What is
    /// acknowledged would rest on memory alone then, wherever the copies happen to be there. A
    /// store in memory that is gone is no obstacle to one on disk.
    fn check_sort(&self, id: &MemberId, store: StoreId) -> Result<(), MapError> {
        let in_memory = store.is_in_memory();
        let mut others = self.stores.values();
        let is_mixed = others.any(|place| {
            let is_other = place.id.is_in_memory() != in_memory;
            let is_there = self.is_present(&place.holder) && place.holder.node != id.node;
            is_other && (in_memory || is_there)
        });
        if is_mixed {
            let member = id.clone();
            return Err(MapError::MixedStores { member, in_memory });
        }
        Ok(())
    }
}

// ---- How stores come and go.

impl ClusterMap {
    /// Whether the process may join with this store, and with these settings of copies.
    pub(super) fn check_store(
        &self,
        id: &MemberId,
        catalog: &[CatalogEntry],
        store: Option<StoreId>,
    ) -> Result<(), MapError> {
        for entry in catalog {
            self.check_copies(id, entry)?;
            if entry.copies.is_some() && store.is_none() {
                let (member, kind) = (id.clone(), entry.name.clone());
                return Err(MapError::NoStore { member, kind });
            }
        }
        let Some(store) = store else {
            return Ok(());
        };
        self.check_sort(id, store)?;
        if let Some(by) = self.process_of(store)
            && by.node != id.node
            && !mutants::on("a_store_is_in_two_places")
        {
            let (member, by) = (id.clone(), by.clone());
            return Err(MapError::StoreTaken { member, store, by });
        }
        if self.number_of(store).is_none() && self.free_number().is_none() {
            return Err(MapError::TooManyStores);
        }
        Ok(())
    }

    /// The settings may change only while no other node hosts the type, and copies that exist are
    /// never given up that way.
    fn check_copies(&self, id: &MemberId, entry: &CatalogEntry) -> Result<(), MapError> {
        if !self.kinds.contains_key(&entry.name) {
            return Ok(());
        }
        let ours = self.copies.get(&entry.name).map(|copies| copies.settings);
        let is_hosted_elsewhere = || {
            let mut others = self.present().filter(|(other, _)| other.node != id.node);
            others.any(|(_, member)| member.kinds.contains(&entry.name))
        };
        if ours != entry.copies && (entry.copies.is_none() || is_hosted_elsewhere()) {
            return Err(MapError::Copies {
                kind: entry.name.clone(),
                ours,
                theirs: entry.copies,
            });
        }
        Ok(())
    }

    /// The table of a type's copies. They may have been there before.
    pub(super) fn insert_copies(&mut self, entry: &CatalogEntry, settings: CopySettings) {
        let shards = entry.shards as usize;
        let new = || KindCopies {
            settings,
            min: 1,
            shards: Arc::new(vec![CopyPlaces::default(); shards]),
        };
        let copies = self.copies.entry(entry.name.clone());
        copies.or_insert_with(new).settings = settings;
    }

    /// A process has come with this store.
    pub(super) fn place_store(&mut self, id: &MemberId, store: StoreId, catalog: &[CatalogEntry]) {
        let Some(number) = self.number_of(store).or_else(|| self.free_number()) else {
            return;
        };
        let in_copies = catalog.iter().filter(|entry| entry.copies.is_some());
        let place = StorePlace {
            id: store,
            holder: id.clone(),
            kinds: in_copies.map(|entry| entry.name.clone()).collect(),
            is_expected: true,
        };
        let stores = Arc::make_mut(&mut self.stores);
        for other in stores.values_mut() {
            if other.holder.node == id.node {
                other.is_expected = false;
            }
        }
        if stores.insert(number, place).is_none() {
            self.last_store = number.0.get();
        }
        self.forget_stores();
    }

    /// The next number that no known store has.
    fn free_number(&self) -> Option<StoreNo> {
        let after = NonZeroU16::new(self.last_store).map(StoreNo);
        let first = after.map_or(StoreNo(NonZeroU16::MIN), StoreNo::next);
        let mut next = Some(first);
        let numbers = std::iter::from_fn(|| {
            let number = next?;
            next = Some(number.next()).filter(|next| *next != first);
            Some(number)
        });
        let mut numbers = numbers.into_iter();
        numbers.find(|number| !self.stores.contains_key(number))
    }

    /// A process has left: its store is not expected back.
    pub(super) fn leave_store(&mut self, id: &MemberId) {
        if let Some(store) = self.store_no(id)
            && let Some(place) = Arc::make_mut(&mut self.stores).get_mut(&store)
        {
            place.is_expected = false;
        }
    }

    /// Forgets the stores that no process has, that no shard needs, and that are not expected back.
    /// Of those that are expected, too many are forgotten as well, the oldest first.
    pub(super) fn forget_stores(&mut self) {
        let mut needed = BTreeSet::new();
        for places in self.copies.values().flat_map(|copies| copies.shards.iter()) {
            needed.extend(places.in_sync.stores().chain(places.wanted));
        }
        let is_idle = |store: &StoreNo, place: &StorePlace| {
            !needed.contains(store) && self.member(&place.holder).is_none()
        };
        let mut idle: Vec<_> = self
            .stores
            .iter()
            .filter(|(store, place)| is_idle(store, place))
            .map(|(store, place)| (self.is_expected(place), place.holder.incarnation, *store))
            .collect();
        idle.sort_unstable();
        let surplus = idle.len().saturating_sub(IDLE_STORES_MAX);
        let mut at = 0;
        idle.retain(|(is_expected, ..)| {
            at += 1;
            !is_expected || at <= surplus
        });
        if !idle.is_empty() {
            let stores: &mut BTreeMap<_, _> = Arc::make_mut(&mut self.stores);
            for (_, _, store) in idle {
                stores.remove(&store);
            }
        }
    }
}
