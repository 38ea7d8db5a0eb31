//! Decides where the copies of shards should be. Sends nothing itself.
//!
//! Each shard is to have as many copies as its type asks for, or as there are stores. A copy comes
//! before another goes: a store is wanted first, and once it is in sync, the copy that is too many
//! is dropped. Equal maps give equal decisions.
//!
//! A store in another zone than the other copies comes first, then one on another host, then the
//! least loaded, by the copies of the type and then by all copies. Nodes that name no zone are one
//! zone. Copies that share a zone or a host move apart once there is a place for them.
//!
//! Moving ends. No step adds to the pairs of copies of a shard in one zone, or else, those being as
//! many, to the pairs on one host: what is dropped has as many beside it as what has come. Of
//! steps that leave both as they are, each evens the load by more than [`slack`].

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    copies::{CopyPlaces, CopyProposal, SetChange, StoreNo},
    home::{ShardHome, Slot},
    loads::Loads,
    map::{
        Assignment, Beginning, COPY_CHANGES_MAX, ClusterMap, Command, KindCopies, NewLife, Status,
        Wanted, can_be_spared,
    },
};
use crate::{
    id::{MemberId, ShardId},
    infra::mutants,
};

/// How many shards a store takes part in copying at a time, as their owner's or as the new copy:
/// the copying of the others must not suffer from it.
const COPYING_MAX: usize = 64;

/// How many shards of a type two members may differ by before shards move: 1, or a tenth of their
/// average. Without this slack shards would wander back and forth.
pub(crate) fn slack(both: usize) -> usize {
    (both / 20).max(1)
}

/// What is to be proposed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyPlan {
    pub(crate) commands: Vec<Command>,
    /// Shards whose owner's store has too many copies: another store in sync is to have the owner.
    pub(crate) moves: Vec<Assignment>,
}

/// What follows from the map alone.
pub(crate) fn plan(map: &ClusterMap) -> CopyPlan {
    let mut commands = Vec::new();
    if map.copies.is_empty() {
        return CopyPlan::default();
    }
    for kind in map.copies.keys() {
        if let Some(min) = map.copies_min_goal(kind) {
            let kind = kind.clone();
            commands.push(Command::CopiesMin { kind, min });
        }
    }
    commands.extend(begin_anew_in_memory(map));
    let stores = Stores::of(map);
    commands.extend(stores.drop_dead(map));
    let mut loads = CopyLoads::of(map);
    let mut copying = stores.copying(map);
    let (mut wants, mut moves) = (Vec::new(), Vec::new());
    for (kind, copies) in &map.copies {
        let mut plan = KindPlan {
            map,
            kind,
            copies,
            stores: stores.of_kind(map, kind),
            all: &stores,
            loads: &mut loads,
            copying: &mut copying,
            wants: Vec::new(),
            drops: Vec::new(),
            moves: Vec::new(),
        };
        plan.make();
        wants.append(&mut plan.wants);
        moves.append(&mut plan.moves);
        let drops = plan.drops;
        commands.extend(
            drops
                .chunks(COPY_CHANGES_MAX)
                .map(|changes| Command::Copies {
                    by: None,
                    kind: kind.clone(),
                    changes: changes.to_vec(),
                }),
        );
    }
    let wants = wants.chunks(COPY_CHANGES_MAX).map(<[Wanted]>::to_vec);
    commands.extend(wants.map(|wants| Command::Want { wants }));
    CopyPlan { commands, moves }
}

/// The shards of which every copy in sync was in the memory of a process that is gone: nothing of
/// them is left, so they begin with nothing. What a store has that was not in sync is given up as
/// well: it may lack what was acknowledged, and nobody is there to decide that this is better.
fn begin_anew_in_memory(map: &ClusterMap) -> Vec<Command> {
    let is_gone = |places: &CopyPlaces| {
        places.in_sync.stores().all(|store| {
            let place = map.stores.get(&store);
            place.is_some_and(|place| place.id.is_in_memory())
        })
    };
    let mut commands = Vec::new();
    for kind in map.copies.keys() {
        let lives = empty_lives(map, kind, |_, places| is_gone(places));
        let lives = lives.chunks(COPY_CHANGES_MAX);
        commands.extend(lives.map(|lives| Command::BeginAnew {
            kind: kind.clone(),
            lives: lives.to_vec(),
        }));
    }
    commands
}

/// How the lost ones of these shards begin anew, with nothing: each in as many stores as it is to
/// have copies. Those for which no store is there are left out.
pub(crate) fn empty_lives<'a>(
    map: &'a ClusterMap,
    kind: &'a str,
    shards: impl Fn(ShardId, &CopyPlaces) -> bool,
) -> Vec<NewLife> {
    let (mut loads, stores) = (CopyLoads::of(map), Stores::of(map).of_kind(map, kind));
    let lost = map
        .lost(kind)
        .filter(|(shard, _, places)| shards(*shard, places));
    let lives = lost.map(|(shard, home, places)| NewLife {
        shard,
        epoch: home.epoch,
        set_version: places.in_sync.version(),
        begins: Beginning::Empty(loads.copies_beside(Vec::new(), map, kind, &stores)),
    });
    let lives = lives.filter(|life| life.begins != Beginning::Empty(Vec::new()));
    lives.collect()
}

/// The copies of each store, those included that are to come.
pub(crate) type CopyLoads<'a> = Loads<'a, StoreNo>;

impl<'a> CopyLoads<'a> {
    pub(crate) fn of(map: &'a ClusterMap) -> Self {
        let mut loads = Self::default();
        for (kind, copies) in &map.copies {
            let shards = copies.shards.iter();
            let stores = shards.flat_map(|it| it.in_sync.stores().chain(it.wanted));
            loads.add_all(kind, stores);
        }
        loads
    }

    /// The first copies of a shard whose owner has this store: the owner's comes first.
    pub(crate) fn first_copies(
        &mut self,
        map: &ClusterMap,
        kind: &'a str,
        owners: StoreNo,
    ) -> Vec<StoreNo> {
        let stores = Stores::of(map).of_kind(map, kind);
        self.copies_beside(vec![owners], map, kind, &stores)
    }

    /// The first copies of a shard: these, and the least loaded others.
    fn copies_beside(
        &mut self,
        mut first: Vec<StoreNo>,
        map: &ClusterMap,
        kind: &'a str,
        stores: &KindStores,
    ) -> Vec<StoreNo> {
        let Some(copies) = map.copies.get(kind) else {
            return Vec::new();
        };
        while first.len() < copies.settings.most()
            && let Some(next) = stores.least(self, kind, &first, |_| true)
        {
            first.push(next);
        }
        self.add_all(kind, first.iter().copied());
        first
    }
}

/// The stores of processes that are there.
struct Stores {
    present: BTreeSet<StoreNo>,
    by_slot: BTreeMap<Slot, StoreNo>,
}

/// Where a store is.
#[derive(Clone, Copy)]
struct Place {
    /// The number of its zone, within one plan.
    zone: usize,
    host: IpAddr,
}

/// How many other copies of a shard are in the zone of one, and how many on its host.
type Crowd = (usize, usize);

/// The stores of processes that host a type.
struct KindStores {
    /// They may get copies.
    takes: BTreeSet<StoreNo>,
    /// Those, and the stores of processes that will soon be Up. They keep their copies.
    stays: BTreeMap<StoreNo, Place>,
}

impl Stores {
    fn of(map: &ClusterMap) -> Self {
        let present = map.stores.iter().filter_map(|(store, place)| {
            let member = map.member(&place.holder)?;
            (!member.is_gone()).then_some((member.slot, *store))
        });
        let by_slot: BTreeMap<Slot, StoreNo> = present.collect();
        Self {
            present: by_slot.values().copied().collect(),
            by_slot,
        }
    }

    fn of_kind(&self, map: &ClusterMap, kind: &str) -> KindStores {
        let (mut takes, mut stays) = (BTreeSet::new(), BTreeMap::new());
        let mut zones = BTreeMap::new();
        for member in map.members.values() {
            let Some(store) = self.by_slot.get(&member.slot) else {
                continue;
            };
            let is_host = member.kinds.iter().any(|name| name == kind);
            if is_host && matches!(member.status, Status::Joining | Status::Up) {
                let next = zones.len();
                let zone = *zones.entry(member.zone.as_deref()).or_insert(next);
                let host = member.address.ip();
                stays.insert(*store, Place { zone, host });
            }
            if is_host && member.status == Status::Up {
                takes.insert(*store);
            }
        }
        KindStores { takes, stays }
    }

    /// The stores of dead processes that can be dropped somewhere.
    fn drop_dead(&self, map: &ClusterMap) -> Vec<Command> {
        let mut dead = BTreeSet::new();
        let is_there = |store: &StoreNo| self.present.contains(store);
        for copies in map.copies.values() {
            let min = usize::from(copies.min);
            for places in copies.shards.iter() {
                let gone = places.in_sync.stores().filter(|store| !is_there(store));
                dead.extend(gone.filter(|store| can_be_spared(places, *store, min, is_there)));
                dead.extend(places.wanted.filter(|store| !is_there(store)));
            }
        }
        let place = |store: &StoreNo| map.stores.get(store);
        let stores = dead.iter().filter_map(place).map(|place| place.id);
        stores.map(|store| Command::DropStore { store }).collect()
    }

    /// In how many shards each store takes part that are being copied.
    fn copying(&self, map: &ClusterMap) -> BTreeMap<StoreNo, usize> {
        let mut copying = BTreeMap::new();
        for (kind, copies) in &map.copies {
            let homes = map
                .kinds
                .get(kind)
                .into_iter()
                .flat_map(|table| table.iter());
            for (home, places) in homes.zip(copies.shards.iter()) {
                if let Some(wanted) = places.wanted {
                    let owners = home.owner.and_then(|owner| self.by_slot.get(&owner));
                    for store in owners.copied().into_iter().chain([wanted]) {
                        *copying.entry(store).or_default() += 1;
                    }
                }
            }
        }
        copying
    }
}

impl KindStores {
    /// The store for one more copy beside those of a shard: the least crowded, and of these the
    /// least loaded.
    fn least<'a>(
        &self,
        loads: &CopyLoads<'a>,
        kind: &'a str,
        beside: &[StoreNo],
        may: impl Fn(StoreNo) -> bool,
    ) -> Option<StoreNo> {
        let others = self.takes.iter().copied();
        others
            .filter(|store| !beside.contains(store) && may(*store))
            .min_by_key(|store| (self.crowd(*store, beside), loads.key(kind, *store)))
    }

    /// How many of the copies in these stores share the place of one. Those that do not stay do not
    /// count.
    fn crowd(&self, store: StoreNo, copies: &[StoreNo]) -> Crowd {
        let Some(place) = self.stays.get(&store) else {
            return (0, 0);
        };
        let others = copies.iter().filter(|other| **other != store);
        let others = others.filter_map(|other| self.stays.get(other));
        others.fold((0, 0), |(zone, host), other| {
            let (in_zone, on_host) = (other.zone == place.zone, other.host == place.host);
            (zone + usize::from(in_zone), host + usize::from(on_host))
        })
    }
}

/// A shard that has had an owner.
#[derive(Clone, Copy)]
struct PlacedShard {
    id: ShardId,
    home: ShardHome,
    places: CopyPlaces,
    /// The store of its owner, if that is there.
    owners: Option<StoreNo>,
}

impl PlacedShard {
    fn stores(&self) -> Vec<StoreNo> {
        self.places.in_sync.stores().collect()
    }

    /// Its stores but this one.
    fn stores_but(&self, store: StoreNo) -> Vec<StoreNo> {
        let stores = self.places.in_sync.stores();
        stores.filter(|other| *other != store).collect()
    }
}

/// The plan for one type.
struct KindPlan<'p, 'a> {
    map: &'a ClusterMap,
    kind: &'a str,
    copies: &'a KindCopies,
    stores: KindStores,
    all: &'p Stores,
    loads: &'p mut CopyLoads<'a>,
    copying: &'p mut BTreeMap<StoreNo, usize>,
    wants: Vec<Wanted>,
    drops: Vec<(ShardId, CopyProposal)>,
    moves: Vec<Assignment>,
}

impl KindPlan<'_, '_> {
    fn make(&mut self) {
        let homes = self.map.kinds.get(self.kind);
        let homes = homes.into_iter().flat_map(|table| table.iter());
        let shards = (0..).map(ShardId).zip(homes.zip(self.copies.shards.iter()));
        let shards: Vec<PlacedShard> = shards
            .filter(|(_, (_, places))| !places.in_sync.is_empty())
            .map(|(id, (home, places))| PlacedShard {
                id,
                home: *home,
                places: *places,
                owners: home
                    .owner
                    .and_then(|owner| self.all.by_slot.get(&owner).copied()),
            })
            .collect();
        let mut even = Vec::new();
        for shard in &shards {
            self.drop_surplus(shard);
        }
        for shard in shards {
            if self.repair(&shard) {
                even.push(shard);
            }
        }
        let even = self.move_apart(even);
        self.even_out(even);
    }

    /// How many copies a shard is to have.
    fn goal(&self) -> usize {
        let most = self.copies.settings.most();
        most.min(self.stores.stays.len())
    }

    /// How many copies a shard has that stay.
    fn count(&self, shard: &PlacedShard) -> usize {
        let stores = shard.places.in_sync.stores();
        stores
            .filter(|store| self.stores.stays.contains_key(store))
            .count()
    }

    /// The store that is to become a copy, if it still can.
    fn wanted(&self, shard: &PlacedShard) -> Option<StoreNo> {
        let wanted = shard.places.wanted;
        wanted.filter(|store| self.stores.takes.contains(store))
    }

    // ---- One copy too many.

    fn drop_surplus(&mut self, shard: &PlacedShard) {
        let Some(owners) = shard.owners else {
            return;
        };
        let leaves = |store: &StoreNo| {
            self.all.present.contains(store)
                && !self.stores.stays.contains_key(store)
                && *store != owners
        };
        let count = self.count(shard);
        // If nobody stays, all are about to stop, and will come back to what they have.
        if count >= self.goal().max(1)
            && let Some(store) = shard.places.in_sync.stores().find(leaves)
        {
            self.drop_copy(shard, store);
        } else if count + usize::from(self.wanted(shard).is_some()) > self.copies.settings.most() {
            // Where a store is still to come, the one that goes for it counts no more.
            let store = self.most(shard, owners);
            self.loads.take(self.kind, store);
            if count <= self.copies.settings.most() || shard.home.moving.is_some() {
                return;
            }
            if store == owners {
                self.move_owner(shard, owners);
            } else {
                self.drop_copy(shard, store);
            }
        }
    }

    /// The copy that is too many: the most crowded one, and of these the one in the most loaded
    /// store. It is the owner's only if that is more crowded than the others, or its store has many
    /// more than theirs. The shard has another owner first then.
    fn most(&self, shard: &PlacedShard, owners: StoreNo) -> StoreNo {
        let mut stores = shard.stores();
        stores.extend(self.wanted(shard));
        let crowd = |store| self.stores.crowd(store, &stores);
        let stays = |store: &StoreNo| *store != owners && self.stores.stays.contains_key(store);
        let others = shard.places.in_sync.stores().filter(stays);
        let most = others.max_by_key(|store| (crowd(*store), self.loads.key(self.kind, *store)));
        let Some(most) = most else {
            return owners;
        };
        let load = |store| self.loads.of_kind(self.kind, store);
        let (own, other) = (load(owners), load(most));
        let is_owners = match crowd(owners).cmp(&crowd(most)) {
            Ordering::Greater => true,
            Ordering::Equal => own > other + (slack(own + other) - 1) / 2,
            Ordering::Less => false,
        };
        if is_owners { owners } else { most }
    }

    fn drop_copy(&mut self, shard: &PlacedShard, store: StoreNo) {
        let min = usize::from(self.copies.min);
        let is_there = |store: &StoreNo| self.all.present.contains(store);
        let place = self.map.stores.get(&store);
        if let Some(place) = place.filter(|_| can_be_spared(&shard.places, store, min, is_there)) {
            let change = SetChange {
                epoch: shard.home.epoch,
                set_version: shard.places.in_sync.version(),
                store: place.id,
            };
            self.drops.push((shard.id, CopyProposal::Drop(change)));
        }
    }

    fn move_owner(&mut self, shard: &PlacedShard, owners: StoreNo) {
        let others = shard.places.in_sync.stores();
        let takes = |store: &StoreNo| *store != owners && self.stores.takes.contains(store);
        let to = others
            .filter(takes)
            .min_by_key(|store| self.loads.key(self.kind, *store));
        if let Some(to) = to.and_then(|to| self.map.process_in(to)) {
            let to: MemberId = to.clone();
            self.moves.push(Assignment {
                kind: self.kind.to_owned(),
                shard: shard.id,
                expected: shard.home.epoch,
                to,
                copies: Vec::new(),
            });
        }
    }

    // ---- Too few copies.

    /// Whether the shard has what it needs, and nothing is under way.
    fn repair(&mut self, shard: &PlacedShard) -> bool {
        let Some(owners) = shard.owners else {
            return false;
        };
        let wanted = self.wanted(shard);
        let count = self.count(shard);
        if wanted.is_none() && count < self.goal() {
            let beside = shard.stores();
            let may = |store| self.has_room(store) && self.has_room(owners);
            let least = self.stores.least(self.loads, self.kind, &beside, may);
            if least.is_some() || shard.places.wanted.is_some() {
                self.want(shard, owners, least);
            }
        } else if wanted != shard.places.wanted {
            self.want(shard, owners, None);
        }
        wanted.is_none() && shard.home.moving.is_none() && count == self.copies.settings.most()
    }

    fn has_room(&self, store: StoreNo) -> bool {
        self.copying
            .get(&store)
            .is_none_or(|count| *count < COPYING_MAX)
    }

    fn want(&mut self, shard: &PlacedShard, owners: StoreNo, store: Option<StoreNo>) {
        if let Some(store) = store {
            self.loads.add(self.kind, store);
            for store in [store, owners] {
                *self.copying.entry(store).or_default() += 1;
            }
        }
        self.wants.push(Wanted {
            kind: self.kind.to_owned(),
            shard: shard.id,
            store,
        });
    }

    // ---- Enough copies in the wrong places.

    /// Wants copies in emptier zones, and on other hosts, for shards whose copies crowd together.
    /// Returns the other shards.
    fn move_apart(&mut self, shards: Vec<PlacedShard>) -> Vec<PlacedShard> {
        if mutants::on("copies_stay_in_one_zone") {
            return shards;
        }
        let mut others = Vec::new();
        for shard in shards {
            match (shard.owners, self.emptier(&shard)) {
                (Some(owners), Some((from, to))) if self.has_room(owners) => {
                    self.loads.take(self.kind, from);
                    self.want(&shard, owners, Some(to));
                }
                _ => others.push(shard),
            }
        }
        others
    }

    /// A copy that goes, and the less crowded store that another comes to. Where possible it is not
    /// the owner's that goes.
    fn emptier(&self, shard: &PlacedShard) -> Option<(StoreNo, StoreNo)> {
        let stores = shard.stores();
        let stays = stores
            .iter()
            .filter(|store| self.stores.stays.contains_key(store));
        let pairs = stays.flat_map(|from| {
            let others = shard.stores_but(*from);
            let crowded = self.stores.crowd(*from, &others);
            let takes = self.stores.takes.iter();
            let free = takes.filter(|to| !shard.places.in_sync.has(**to) && self.has_room(**to));
            free.filter_map(move |to| {
                let crowd = self.stores.crowd(*to, &others);
                (crowd < crowded).then_some((*from, *to, crowd, crowded))
            })
        });
        let best = pairs.min_by_key(|(from, to, crowd, crowded)| {
            let is_owners = shard.owners == Some(*from);
            let (load, of) = (&self.loads, self.kind);
            let loads = (load.key(of, *to), Reverse(load.key(of, *from)));
            (*crowd, Reverse(*crowded), is_owners, loads)
        });
        best.map(|(from, to, ..)| (from, to))
    }

    /// Wants copies in the least loaded stores, for shards that have one in the most loaded. Where
    /// possible it is not the owner's.
    fn even_out(&mut self, mut shards: Vec<PlacedShard>) {
        if !self.wants.is_empty() {
            return;
        }
        shards.retain(|shard| shard.owners.is_some_and(|owners| self.has_room(owners)));
        while self.wants.len() < COPYING_MAX {
            let load = |store: &StoreNo| self.loads.of_kind(self.kind, *store);
            let mut stores: Vec<StoreNo> = self.stores.takes.iter().copied().collect();
            stores.sort_by_key(|store| self.loads.key(self.kind, *store));
            let mut pairs = Vec::new();
            for from in stores.iter().rev() {
                let less = stores.iter().filter(|to| {
                    let (low, high) = (load(to), load(from));
                    high > low + slack(high + low) && self.has_room(**to)
                });
                pairs.extend(less.map(|to| (*from, *to)));
            }
            let found = pairs.into_iter().find_map(|(from, to)| {
                let at = self.movable(&shards, from, to)?;
                Some((from, to, at))
            });
            let Some((from, to, at)) = found else {
                return;
            };
            let shard = shards.swap_remove(at);
            if let Some(owners) = shard.owners {
                self.loads.take(self.kind, from);
                self.want(&shard, owners, Some(to));
                if !self.has_room(owners) {
                    shards.retain(|shard| shard.owners != Some(owners));
                }
            }
        }
    }

    /// A shard whose copy can go from one store to another.
    fn movable(&self, shards: &[PlacedShard], from: StoreNo, to: StoreNo) -> Option<usize> {
        let can = |shard: &PlacedShard| {
            let in_sync = shard.places.in_sync;
            if !in_sync.has(from) || in_sync.has(to) {
                return false;
            }
            let others = shard.stores_but(from);
            self.stores.crowd(to, &others) <= self.stores.crowd(from, &others)
        };
        let not_the_owners = |shard: &PlacedShard| can(shard) && shard.owners != Some(from);
        let first = shards.iter().position(not_the_owners);
        first.or_else(|| shards.iter().position(can))
    }
}

#[cfg(test)]
mod tests;
