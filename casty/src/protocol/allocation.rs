//! Decides where shards should live. Sends nothing itself.
//!
//! The least loaded member comes first: the member with the fewest shards of the type, then with
//! the fewest shards of all types, then the member that joined first. Equal maps give equal
//! decisions.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    copies::StoreNo,
    loads::Loads,
    map::{Assignment, ClusterMap, Member, ShardHome, Slot, Status},
    placement::{CopyLoads, slack},
};
use crate::id::{Epoch, MemberId, ShardId};

/// Homes for the shards of `wanted` that have none. Empty if no member can take them.
pub(crate) fn allocate(map: &ClusterMap, kind: &str, wanted: &[ShardId]) -> Vec<Assignment> {
    let mut load = Load::of(map);
    let free = |home: &ShardHome| home.owner.is_none();
    load.place(map, kind, wanted.iter().copied(), free)
}

/// New homes for the shards of members that are Down and, according to `over`, can no longer serve.
/// A shard with copies has a new home also if it has none, so that its copies are repaired; it
/// waits while no store in sync is there.
pub(crate) fn take_over(map: &ClusterMap, over: impl Fn(Slot) -> bool) -> Vec<Assignment> {
    let mut load = Load::of(map);
    let mut assignments = Vec::new();
    for (kind, table) in &map.kinds {
        let has_copies = map.copies.contains_key(kind);
        let free = |home: &ShardHome| match home.owner {
            Some(owner) => over(owner),
            None => has_copies && home.epoch != Epoch::ZERO,
        };
        let orphans = (0..).map(ShardId).zip(table.iter());
        let orphans: Vec<ShardId> = orphans.filter(|(_, h)| free(h)).map(|(s, _)| s).collect();
        if !orphans.is_empty() {
            assignments.extend(load.place(map, kind, orphans, free));
        }
    }
    assignments
}

/// At most `count` moves that bring the members closer to an even load. Shards of leaving members
/// move first; then shards move from the most to the least loaded member, as long as the two differ
/// by more than `slack` allows. `may_move`: whether a shard may move now, given whether its owner
/// leaves.
pub(crate) fn rebalance(
    map: &ClusterMap,
    count: usize,
    may_move: impl Fn(&str, ShardId, bool) -> bool,
) -> Vec<Assignment> {
    let mut load = Load::of(map);
    let mut moves = Vec::new();
    for (kind, table) in &map.kinds {
        let leaving = (0..)
            .map(ShardId)
            .zip(table.iter())
            .filter(|(shard, home)| {
                let owner = home.owner.and_then(|owner| map.by_slot(owner));
                home.moving.is_none()
                    && owner.is_some_and(|(_, m)| m.status == Status::Leaving)
                    && may_move(kind, *shard, true)
            });
        for (shard, home) in leaving {
            if moves.len() == count {
                return moves;
            }
            moves.extend(load.give(map, kind, shard, home, None));
        }
    }
    for (kind, table) in &map.kinds {
        let mut hosts = load.hosts_of(kind);
        if hosts.len() < 2 {
            continue;
        }
        // A shard that is moving already counts at its destination.
        let mut movable: BTreeMap<Slot, Vec<(ShardId, &ShardHome)>> = BTreeMap::new();
        for (shard, home) in (0..).map(ShardId).zip(table.iter()) {
            if let (Some(owner), None) = (home.owner, home.moving)
                && may_move(kind, shard, false)
            {
                movable.entry(owner).or_default().push((shard, home));
            }
        }
        while moves.len() < count {
            hosts.sort_by_key(|host| load.shards.key(kind, *host));
            let next = if map.copies.contains_key(kind) {
                load.next_in_sync(map, kind, &hosts, &mut movable)
            } else {
                load.next(kind, &hosts, &mut movable)
            };
            let given = next.and_then(|next| {
                let ((shard, home), to) = next;
                load.give(map, kind, shard, home, Some(to))
            });
            let Some(given) = given else {
                break;
            };
            moves.push(given);
        }
    }
    moves
}

/// The largest excess over [`slack`] between two members, over all entity types.
#[cfg(feature = "sim")]
pub(crate) fn spread(map: &ClusterMap) -> usize {
    let load = Load::of(map);
    let of_kind = |kind: &String| {
        let hosts = load.hosts_of(kind).into_iter();
        let loads: Vec<_> = hosts.map(|slot| load.shards.of_kind(kind, slot)).collect();
        let (low, high) = (loads.iter().min(), loads.iter().max());
        low.zip(high).map_or(0, |(low, high)| {
            (high - low).saturating_sub(slack(high + low))
        })
    };
    map.kinds.keys().map(of_kind).max().unwrap_or(0)
}

/// Shards by their owner.
type Movable<'a> = BTreeMap<Slot, Vec<(ShardId, &'a ShardHome)>>;

/// How many shards each member has, or will have once its moves are done.
struct Load<'a> {
    shards: Loads<'a, Slot>,
    copies: CopyLoads<'a>,
    /// The members that host each type, with their stores.
    hosts: BTreeMap<&'a str, Vec<(Slot, Option<StoreNo>)>>,
}

impl<'a> Load<'a> {
    fn of(map: &'a ClusterMap) -> Self {
        let mut load = Self {
            shards: Loads::default(),
            copies: CopyLoads::of(map),
            hosts: BTreeMap::new(),
        };
        let stores: BTreeMap<&MemberId, StoreNo> = map
            .stores
            .iter()
            .map(|(store, place)| (&place.holder, *store))
            .collect();
        let up = |member: &Member| member.status == Status::Up;
        for (id, member) in map.members.iter().filter(|(_, member)| up(member)) {
            let host = (member.slot, stores.get(id).copied());
            for kind in &member.kinds {
                load.hosts.entry(kind).or_default().push(host);
            }
        }
        for (kind, table) in &map.kinds {
            let owners = table.iter().filter_map(|home| home.moving.or(home.owner));
            load.shards.add_all(kind, owners);
        }
        load
    }

    fn hosts_of(&self, kind: &str) -> Vec<Slot> {
        let hosts = self.hosts.get(kind).into_iter().flatten();
        hosts.map(|(slot, _)| *slot).collect()
    }

    /// The members that may own a shard: if it has copies, those whose store is in sync, and if it
    /// is to have some, those with a store.
    fn may_own(
        &self,
        map: &ClusterMap,
        kind: &str,
        shard: ShardId,
    ) -> impl Iterator<Item = (Slot, Option<StoreNo>)> {
        let places = map.copies.get(kind).map(|copies| {
            let places = copies.shards.get(shard.index());
            places.map(|places| places.in_sync).unwrap_or_default()
        });
        let hosts = self.hosts.get(kind).into_iter().flatten().copied();
        hosts.filter(move |(_, store)| {
            places.is_none_or(|in_sync| {
                store.is_some_and(|store| in_sync.is_empty() || in_sync.has(store))
            })
        })
    }

    fn store(&self, kind: &str, slot: Slot) -> Option<StoreNo> {
        let mut hosts = self.hosts.get(kind)?.iter();
        hosts.find(|(host, _)| *host == slot)?.1
    }

    fn differ(&self, kind: &'a str, low: Slot, high: Slot) -> bool {
        let shards = &self.shards;
        let (low, high) = (shards.of_kind(kind, low), shards.of_kind(kind, high));
        high.saturating_sub(low) > slack(high + low)
    }

    /// A shard of the most loaded member, and the least loaded one, if the two differ too much.
    /// `hosts`: the least loaded first.
    fn next<'h>(
        &self,
        kind: &'a str,
        hosts: &[Slot],
        movable: &mut Movable<'h>,
    ) -> Option<((ShardId, &'h ShardHome), Slot)> {
        let (&least, &most) = (hosts.first()?, hosts.last()?);
        if !self.differ(kind, least, most) {
            return None;
        }
        let shard = movable.get_mut(&most)?.pop()?;
        Some((shard, least))
    }

    /// The same for shards with copies. A shard can go only where it is in sync, so that it may
    /// have to be another pair of members that differ too much.
    fn next_in_sync<'h>(
        &self,
        map: &ClusterMap,
        kind: &'a str,
        hosts: &[Slot],
        movable: &mut Movable<'h>,
    ) -> Option<((ShardId, &'h ShardHome), Slot)> {
        let copies = map.copies.get(kind)?;
        for most in hosts.iter().rev() {
            for least in hosts {
                if !self.differ(kind, *least, *most) {
                    break;
                }
                let (Some(store), Some(shards)) = (self.store(kind, *least), movable.get_mut(most))
                else {
                    continue;
                };
                // If a shard has a copy too many, its owner may just have left the store that is
                // to lose it.
                let is_in_sync = |(shard, _): &(ShardId, &ShardHome)| {
                    let places = copies.shards.get(shard.index());
                    places.is_some_and(|places| {
                        places.in_sync.has(store)
                            && places.in_sync.count() <= copies.settings.most()
                    })
                };
                if let Some(at) = shards.iter().rposition(is_in_sync) {
                    return Some((shards.swap_remove(at), *least));
                }
            }
        }
        None
    }

    /// Moves a shard to `to`, or to the least loaded member that may own it.
    fn give(
        &mut self,
        map: &'a ClusterMap,
        kind: &'a str,
        shard: ShardId,
        home: &ShardHome,
        to: Option<Slot>,
    ) -> Option<Assignment> {
        let least = || {
            let hosts = self.may_own(map, kind, shard).map(|(slot, _)| slot);
            hosts.min_by_key(|host| self.shards.key(kind, *host))
        };
        let to = to.or_else(least)?;
        let (id, _) = map.by_slot(to)?;
        if let Some(owner) = home.owner {
            self.shards.take(kind, owner);
        }
        self.shards.add(kind, to);
        let is_first = map.copies.get(kind).is_some_and(|copies| {
            let places = copies.shards.get(shard.index());
            places.is_some_and(|places| places.in_sync.is_empty())
        });
        let store = self.store(kind, to).filter(|_| is_first);
        let copies = store.map(|store| self.copies.first_copies(map, kind, store));
        Some(Assignment {
            kind: kind.to_owned(),
            shard,
            expected: home.epoch,
            to: id.clone(),
            copies: copies.unwrap_or_default(),
        })
    }

    fn place(
        &mut self,
        map: &'a ClusterMap,
        kind: &str,
        wanted: impl IntoIterator<Item = ShardId>,
        free: impl Fn(&ShardHome) -> bool,
    ) -> Vec<Assignment> {
        let Some((kind, table)) = map.kinds.get_key_value(kind) else {
            return Vec::new();
        };
        let mut placed = BTreeSet::new();
        let mut assignments = Vec::new();
        for shard in wanted {
            if let Some(home) = table.get(shard.index()).filter(|home| free(home))
                && placed.insert(shard)
            {
                assignments.extend(self.give(map, kind, shard, home, None));
            }
        }
        assignments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::map::{
        Command,
        tests::{assignment, founded, join, member},
    };

    fn shards(numbers: impl IntoIterator<Item = u32>) -> Vec<ShardId> {
        numbers.into_iter().map(ShardId).collect()
    }

    fn apply(map: &mut ClusterMap, assignments: Vec<Assignment>) {
        map.apply(&Command::Assign { assignments }).unwrap();
    }

    #[test]
    fn shards_go_to_the_least_loaded_in_turn() {
        let (mut map, b) = (founded(8), member("b", 1));
        join(&mut map, &b);
        let got = allocate(&map, "Counter", &shards([0, 1, 2]));
        let to = |shard: ShardId, id: MemberId| assignment(shard.0, Epoch::ZERO, &id);
        assert_eq!(
            got,
            [
                to(ShardId(0), member("a", 1)),
                to(ShardId(1), b.clone()),
                to(ShardId(2), member("a", 1)),
            ]
        );
        apply(&mut map, got);
        assert_eq!(allocate(&map, "Counter", &shards([3])), [to(ShardId(3), b)]);
    }

    #[test]
    fn owned_shards_stay_put_and_doubles_count_once() {
        let mut map = founded(8);
        let first = allocate(&map, "Counter", &shards([1, 1]));
        assert_eq!(first.len(), 1);
        apply(&mut map, first);
        assert_eq!(allocate(&map, "Counter", &shards([1])), []);
    }

    #[test]
    fn a_type_that_no_member_hosts_is_not_allocated() {
        let map = founded(8);
        assert_eq!(allocate(&map, "Unknown", &shards([0])), []);
        assert_eq!(allocate(&map, "Counter", &shards([99])), []);
    }

    #[test]
    fn members_on_their_way_out_get_nothing() {
        let (mut map, b) = (founded(8), member("b", 1));
        join(&mut map, &b);
        map.apply(&Command::Leave {
            member: member("a", 1),
        })
        .unwrap();
        let got = allocate(&map, "Counter", &shards(0..8));
        assert!(got.iter().all(|assignment| assignment.to == b) && got.len() == 8);
    }

    fn owned(map: &ClusterMap, name: &str) -> usize {
        map.owned(map.member(&member(name, 1)).unwrap().slot)
    }

    /// Revokes and releases shards until none moves any more. Returns the number of rounds.
    fn settle(map: &mut ClusterMap, count: usize) -> usize {
        for round in 0.. {
            let moves = rebalance(map, count, |_, _, _| true);
            assert!(moves.len() <= count);
            if moves.is_empty() {
                return round;
            }
            let owner = |m: &Assignment| {
                let owner = map.kinds["Counter"][m.shard.index()].owner.unwrap();
                map.by_slot(owner).unwrap().0.clone()
            };
            let releases: Vec<_> = moves
                .iter()
                .map(|m| (owner(m), m.shard, m.expected))
                .collect();
            map.apply(&Command::Revoke { moves }).unwrap();
            assert_eq!(rebalance(map, 0, |_, _, _| true), []);
            for (member, shard, epoch) in releases {
                map.apply(&Command::Release {
                    member,
                    kind: "Counter".into(),
                    shards: vec![(shard, epoch)],
                })
                .unwrap();
            }
        }
        unreachable!()
    }

    #[test]
    fn a_newcomer_gets_its_share_in_capped_steps_and_then_nothing_moves() {
        let mut map = founded(100);
        let all = allocate(&map, "Counter", &shards(0..100));
        apply(&mut map, all);
        for name in ["b", "c"] {
            join(&mut map, &member(name, 1));
        }
        assert!(settle(&mut map, 8) >= 8);
        for name in ["a", "b", "c"] {
            let owned = owned(&map, name);
            assert!((32..=36).contains(&owned), "{name}: {owned}");
        }
    }

    #[test]
    fn a_leaving_member_is_drained_to_the_least_loaded() {
        let mut map = founded(10);
        for name in ["b", "c"] {
            join(&mut map, &member(name, 1));
        }
        let all = allocate(&map, "Counter", &shards(0..10));
        apply(&mut map, all);
        let leave = Command::Leave {
            member: member("b", 1),
        };
        map.apply(&leave).unwrap();
        settle(&mut map, 2);
        assert_eq!(["a", "b", "c"].map(|name| owned(&map, name)), [5, 0, 5]);
    }

    #[test]
    fn the_last_member_to_leave_keeps_its_shards() {
        let mut map = founded(4);
        let all = allocate(&map, "Counter", &shards(0..4));
        apply(&mut map, all);
        let leave = Command::Leave {
            member: member("a", 1),
        };
        map.apply(&leave).unwrap();
        assert_eq!(rebalance(&map, 8, |_, _, _| true), []);
    }

    #[test]
    fn a_dead_members_shards_go_to_the_least_loaded_once_it_can_serve_no_more() {
        let mut map = founded(9);
        for name in ["b", "c"] {
            join(&mut map, &member(name, 1));
        }
        let all = allocate(&map, "Counter", &shards(0..9));
        apply(&mut map, all);
        let dead = member("b", 1);
        let slot = map.member(&dead).unwrap().slot;
        map.apply(&Command::Down { member: dead }).unwrap();
        assert_eq!(take_over(&map, |_| false), []);
        let taken = take_over(&map, |owner| owner == slot);
        assert_eq!(taken.len(), 3);
        apply(&mut map, taken);
        assert_eq!(["a", "b", "c"].map(|name| owned(&map, name)), [5, 0, 4]);
    }
}
