//! What each command does to the copies of shards.

mod lives;

use serde::Serialize;
use uuid::Uuid;

use super::*;
use crate::protocol::{
    copies::{IN_SYNC_MAX, SetChange},
    map::copying::COPY_CHANGES_MAX,
};

/// The type that is kept in copies.
const KIND: &str = "Account";

pub(crate) fn store(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

fn no(number: u16) -> StoreNo {
    StoreNo(number.try_into().expect("a number"))
}

/// A type that is not kept in copies, and one that is.
pub(crate) fn kept(shards: u32, copies: u8, copies_min: u8) -> Vec<CatalogEntry> {
    let mut catalog = catalog(shards);
    catalog.push(CatalogEntry {
        name: KIND.into(),
        copies: Some(CopySettings { copies, copies_min }),
        ..catalog[0].clone()
    });
    catalog
}

pub(crate) fn join_with(id: &MemberId, store: u128, catalog: Vec<CatalogEntry>) -> Command {
    Command::Join {
        member: id.clone(),
        address: address(2),
        catalog,
        lease: lease(),
        tie_breaker: false,
        since: Incarnation(0),
        seat: None,
        store: Some(self::store(store)),
        zone: None,
    }
}

/// `a` with store 1 has founded the cluster.
pub(crate) fn founded_with(catalog: &[CatalogEntry]) -> ClusterMap {
    let identity = founded(1).identity;
    let site = site(1, Some(store(1)));
    ClusterMap::found(identity, member("a", 1), &site, catalog, lease(), false)
}

pub(crate) fn up(map: &mut ClusterMap, id: &MemberId, store: u128, catalog: Vec<CatalogEntry>) {
    map.apply(&join_with(id, store, catalog)).unwrap();
    map.apply(&Command::Up { member: id.clone() }).unwrap();
}

/// `a`, `b` and so on, each with a store, numbered from 1.
fn cluster(nodes: usize) -> ClusterMap {
    let mut map = founded_with(&kept(4, 3, 2));
    for (name, number) in ["b", "c", "d", "e"].into_iter().zip(2..).take(nodes - 1) {
        up(&mut map, &member(name, 1), number, kept(4, 3, 2));
    }
    map
}

fn assign(map: &mut ClusterMap, shard: u32, to: &str, stores: &[u16]) -> Result<(), MapError> {
    let expected = map.kinds[KIND][shard as usize].epoch;
    map.apply(&Command::Assign {
        assignments: vec![Assignment {
            kind: KIND.into(),
            copies: stores.iter().copied().map(no).collect(),
            ..assignment(shard, expected, &member(to, 1))
        }],
    })
}

/// `a` has shard 0, with these stores in sync.
fn owned(nodes: usize, stores: &[u16]) -> ClusterMap {
    let mut map = cluster(nodes);
    assign(&mut map, 0, "a", stores).unwrap();
    map
}

fn in_sync(map: &ClusterMap, shard: usize) -> Vec<u16> {
    let set = map.copies[KIND].shards[shard].in_sync;
    set.stores().map(|store| store.0.get()).collect()
}

/// The change of shard 0 that fits now.
fn change(map: &ClusterMap, number: u128) -> SetChange {
    SetChange {
        epoch: map.kinds[KIND][0].epoch,
        set_version: map.copies[KIND].shards[0].in_sync.version(),
        store: store(number),
    }
}

fn propose(map: &mut ClusterMap, by: Option<&str>, proposal: CopyProposal) -> Result<(), MapError> {
    map.apply(&Command::Copies {
        by: by.map(|by| member(by, 1)),
        kind: KIND.into(),
        changes: vec![(ShardId(0), proposal)],
    })
}

fn add(map: &mut ClusterMap, by: Option<&str>, number: u128) -> Result<(), MapError> {
    let change = change(map, number);
    propose(map, by, CopyProposal::Add(change))
}

fn drop_copy(map: &mut ClusterMap, by: Option<&str>, number: u128) -> Result<(), MapError> {
    let change = change(map, number);
    propose(map, by, CopyProposal::Drop(change))
}

fn down(map: &mut ClusterMap, name: &str) {
    let member = member(name, 1);
    map.apply(&Command::Down { member }).unwrap();
}

fn leave(map: &mut ClusterMap, name: &str) {
    let member = member(name, 1);
    map.apply(&Command::Leave { member }).unwrap();
}

fn remove(map: &mut ClusterMap, name: &str) {
    let member = member(name, 1);
    map.apply(&Command::Remove { member }).unwrap();
}

fn drop_store(map: &mut ClusterMap, number: u128) -> Result<(), MapError> {
    let store = store(number);
    map.apply(&Command::DropStore { store })
}

fn copies_min(map: &mut ClusterMap, min: u8) -> Result<(), MapError> {
    let kind = KIND.to_owned();
    map.apply(&Command::CopiesMin { kind, min })
}

#[test]
fn a_store_keeps_its_number_over_processes_and_nodes_that_have_it_one_after_the_other() {
    let mut map = cluster(2);
    let (b, again) = (member("b", 1), member("b", 2));
    assert_eq!(map.store_of(&b), Some(store(2)));
    up(&mut map, &again, 2, kept(4, 3, 2));
    assert_eq!(
        (map.store_no(&again), map.store_no(&b)),
        (Some(no(2)), None)
    );
    assert_eq!(map.process_of(store(2)), Some(&again));
    map.apply(&Command::Down { member: again }).unwrap();
    assert_eq!(map.process_of(store(2)), None);
    // The disk is in another machine now.
    let elsewhere = member("c", 1);
    up(&mut map, &elsewhere, 2, kept(4, 3, 2));
    assert_eq!(map.process_in(no(2)), Some(&elsewhere));
}

#[test]
fn a_directory_in_two_places_is_refused() {
    let mut map = cluster(2);
    let before = map.clone();
    let copied = join_with(&member("c", 1), 2, kept(4, 3, 2));
    let refused = map.apply(&copied).unwrap_err();
    assert_eq!(map, before);
    let taken = MapError::StoreTaken {
        member: member("c", 1),
        store: store(2),
        by: member("b", 1),
    };
    assert_eq!(refused, taken);
    let told = refused.to_string();
    assert!(told.contains("is in use by `b#1`") && told.contains("empty directory"));
    leave(&mut map, "b");
    assert_eq!(map.apply(&copied), Err(taken), "it is still there");
    down(&mut map, "b");
    assert_eq!(map.apply(&copied), Ok(()));
}

#[test]
fn a_store_is_known_as_long_as_a_shard_or_its_node_needs_it() {
    let mut map = owned(3, &[1, 2, 3]);
    // `c` comes with an empty directory: its old store counts, but nobody waits for the process.
    let again = member("c", 2);
    up(&mut map, &again, 9, kept(4, 3, 2));
    remove(&mut map, "c");
    assert_eq!(map.number_of(store(3)), Some(no(3)), "it is in sync");
    assert_eq!(map.store_no(&again), Some(no(4)));
    drop_copy(&mut map, Some("a"), 3).unwrap();
    // `b` is expected back. Its number is not given to another.
    down(&mut map, "b");
    drop_store(&mut map, 2).unwrap();
    remove(&mut map, "b");
    assert_eq!(map.number_of(store(3)), None);
    assert_eq!(map.number_of(store(2)), Some(no(2)));
    for (number, incarnation) in (10..).zip(1..6) {
        up(&mut map, &member("z", incarnation), number, kept(4, 3, 2));
        let old = member("z", incarnation.saturating_sub(1));
        let _none_at_first = map.apply(&Command::Remove { member: old });
    }
    let numbers: Vec<u16> = map.stores.keys().map(|store| store.0.get()).collect();
    assert_eq!(numbers, [1, 2, 4, 9], "5 to 8 were the other stores of `z`");
}

#[test]
fn numbers_begin_anew_after_the_last_and_skip_those_in_use() {
    let mut map = cluster(2);
    map.last_store = u16::MAX;
    up(&mut map, &member("c", 1), 3, kept(4, 3, 2));
    assert_eq!(map.store_no(&member("c", 1)), Some(no(3)));
}

#[test]
fn stores_that_nobody_needs_are_remembered_up_to_a_bound() {
    let mut map = cluster(1);
    for number in 2..500 {
        let node = member(&format!("n{number}"), u64::try_from(number).unwrap());
        up(&mut map, &node, number, kept(4, 3, 2));
        map.apply(&Command::Down {
            member: node.clone(),
        })
        .unwrap();
        map.apply(&Command::Remove { member: node }).unwrap();
    }
    assert_eq!(map.stores.len(), 1 + 256);
    assert!(map.number_of(store(1)).is_some() && map.number_of(store(499)).is_some());
    assert_eq!(map.number_of(store(2)), None, "the oldest");
}

#[test]
fn settings_of_copies_agree_and_a_node_with_copies_has_a_store() {
    let mut map = cluster(2);
    let c = member("c", 1);
    for other in [kept(4, 2, 2), kept(4, 3, 1), {
        let mut none = kept(4, 3, 2);
        none[1].copies = None;
        none
    }] {
        let theirs = other[1].copies;
        let refused = map.apply(&join_with(&c, 3, other)).unwrap_err();
        let ours = kept(4, 3, 2)[1].copies;
        let kind = KIND.to_owned();
        assert_eq!(refused, MapError::Copies { kind, ours, theirs });
    }
    let mut without = join_with(&c, 3, kept(4, 3, 2));
    if let Command::Join { store, .. } = &mut without {
        *store = None;
    }
    let refused = map.apply(&without).unwrap_err();
    assert!(matches!(refused, MapError::NoStore { .. }), "{refused}");
    // A node alone may change them, but not do away with copies.
    let mut alone = owned(1, &[1]);
    let again = member("a", 2);
    let mut none = kept(4, 3, 2);
    none[1].copies = None;
    assert!(alone.apply(&join_with(&again, 1, none)).is_err());
    up(&mut alone, &again, 1, kept(4, 5, 3));
    assert_eq!(alone.copies[KIND].settings.copies, 5);
    assert_eq!(in_sync(&alone, 0), [1]);
}

#[test]
fn the_first_assignment_brings_the_set_and_later_ones_need_it() {
    let mut map = cluster(4);
    let outside = Err(MapError::Set(SetRefused::NotInSync(no(1))));
    assert_eq!(assign(&mut map, 0, "a", &[2, 3]), outside);
    assert_eq!(in_sync(&map, 0), [0; 0]);
    assign(&mut map, 0, "a", &[1, 2, 3, 99]).unwrap();
    assert_eq!(in_sync(&map, 0), [1, 2, 3], "99 is no store");
    down(&mut map, "a");
    let outside = Err(MapError::Set(SetRefused::NotInSync(no(4))));
    assert_eq!(assign(&mut map, 0, "d", &[4]), outside);
    // X5: it was in sync when this was proposed.
    drop_copy(&mut map, None, 1).unwrap();
    let outside = Err(MapError::Set(SetRefused::NotInSync(no(1))));
    up(&mut map, &member("a", 2), 1, kept(4, 3, 2));
    let expected = map.kinds[KIND][0].epoch;
    let again = Assignment {
        kind: KIND.into(),
        ..assignment(0, expected, &member("a", 2))
    };
    let assignments = vec![again];
    assert_eq!(map.apply(&Command::Assign { assignments }), outside);
    assign(&mut map, 0, "b", &[]).unwrap();
    assert_eq!(in_sync(&map, 0), [2, 3]);
}

#[test]
fn an_assignment_that_does_not_fit_leaves_the_others() {
    let mut map = owned(2, &[1, 2]);
    let of = |kind: &str, shard, to: &str, stores: &[u16]| Assignment {
        kind: kind.into(),
        copies: stores.iter().copied().map(no).collect(),
        ..assignment(shard, Epoch::ZERO, &member(to, 1))
    };
    let assignments = vec![
        of(KIND, 0, "b", &[1, 2]),
        of(KIND, 1, "b", &[1]),
        of("Counter", 0, "z", &[]),
        of(KIND, 2, "b", &[1, 2]),
        of("Counter", 1, "b", &[]),
        of("Counter", 1, "a", &[]),
    ];
    map.apply(&Command::Assign { assignments }).unwrap();
    let owner = |kind: &str, shard| map.owner(kind, ShardId(shard)).map(|id| id.node.as_str());
    let homes = [0, 1, 2].map(|shard| owner(KIND, shard));
    assert_eq!(homes, [Some("a"), None, Some("b")]);
    assert_eq!(
        [0, 1].map(|shard| owner("Counter", shard)),
        [None, Some("b")]
    );
    assert_eq!(map.kinds["Counter"][1].epoch, Epoch::new(7, 3));
}

#[test]
fn a_shard_moves_into_a_store_in_sync_only() {
    let mut map = owned(3, &[1, 2]);
    let revoke = |map: &ClusterMap, to: &str| Command::Revoke {
        moves: vec![Assignment {
            kind: KIND.into(),
            ..assignment(0, map.kinds[KIND][0].epoch, &member(to, 1))
        }],
    };
    let release = |map: &ClusterMap| Command::Release {
        member: member("a", 1),
        kind: KIND.into(),
        shards: vec![(ShardId(0), map.kinds[KIND][0].epoch)],
    };
    let outside = revoke(&map, "c");
    assert_eq!(map.apply(&outside), Err(MapError::Stale));
    let inside = revoke(&map, "b");
    map.apply(&inside).unwrap();
    let mut dropped = map.clone();
    map.apply(&release(&map.clone())).unwrap();
    assert_eq!(map.owner(KIND, ShardId(0)), Some(&member("b", 1)));
    assert_eq!(in_sync(&map, 0), [1, 2]);
    // X6: the target is in sync when the move is planned, and no more when the owner is ready.
    drop_copy(&mut dropped, Some("a"), 2).unwrap();
    let before = dropped.kinds[KIND][0].epoch;
    dropped.apply(&release(&dropped.clone())).unwrap();
    let home = dropped.kinds[KIND][0];
    assert_eq!((home.owner, home.epoch), (None, before));
    let keep = Command::Keep {
        member: member("b", 1),
        kind: KIND.into(),
        shards: vec![(ShardId(0), map.kinds[KIND][0].epoch)],
    };
    let before = map.kinds[KIND][0].epoch;
    map.apply(&keep).unwrap();
    assert!(map.kinds[KIND][0].epoch > before);
}

#[test]
fn copies_come_and_go_by_compare_and_set_on_epoch_and_version() {
    let mut map = owned(4, &[1, 2]);
    let late = change(&map, 3);
    assert_eq!(add(&mut map, Some("a"), 3), Ok(()));
    assert_eq!(in_sync(&map, 0), [1, 2, 3]);
    let again = propose(&mut map, Some("a"), CopyProposal::Add(late));
    assert_eq!(again, Err(MapError::Stale), "doubled, or late");
    let other_epoch = SetChange {
        epoch: Epoch(1),
        ..change(&map, 4)
    };
    let other = propose(&mut map, Some("a"), CopyProposal::Add(other_epoch));
    assert_eq!(other, Err(MapError::Stale));
    // The owner alone adds: it alone knows what a store has.
    for by in [None, Some("b"), Some("z")] {
        assert_eq!(add(&mut map, by, 4), Err(MapError::Stale));
    }
    assert_eq!(drop_copy(&mut map, Some("b"), 3), Err(MapError::Stale));
    assert_eq!(drop_copy(&mut map, Some("a"), 3), Ok(()));
    assert_eq!(in_sync(&map, 0), [1, 2]);
    let unknown = drop_copy(&mut map, Some("a"), 77);
    assert_eq!(unknown, Err(MapError::UnknownStore(store(77))));
    // The owner requires a store that it has proposed until the version is higher.
    let version = change(&map, 77).set_version;
    assert_eq!(add(&mut map, Some("a"), 77), Ok(()));
    assert_eq!(in_sync(&map, 0), [1, 2]);
    assert_eq!(change(&map, 77).set_version, version + 1);
}

#[test]
fn no_command_leaves_too_few_copies_or_drops_the_owners_own() {
    let mut map = owned(3, &[1, 2, 3]);
    let own = Err(MapError::Set(SetRefused::OwnersStore(no(1))));
    assert_eq!(drop_copy(&mut map, Some("a"), 1), own);
    assert_eq!(drop_copy(&mut map, None, 1), own, "nor does the leader");
    copies_min(&mut map, 2).unwrap();
    assert_eq!(drop_copy(&mut map, Some("a"), 3), Ok(()));
    let too_few = Err(MapError::Set(SetRefused::TooFew { copies_min: 2 }));
    assert_eq!(drop_copy(&mut map, Some("a"), 2), too_few);
    down(&mut map, "b");
    assert_eq!(drop_copy(&mut map, None, 2), Err(MapError::Stale));
    assert_eq!(drop_store(&mut map, 2), Err(MapError::Stale));
    assert_eq!(in_sync(&map, 0), [1, 2]);
    // The owner is Down, and a copy is there: it stays until there is another.
    let mut map = owned(3, &[1, 2, 3]);
    down(&mut map, "a");
    down(&mut map, "c");
    assert_eq!(drop_copy(&mut map, None, 2), Err(MapError::Stale));
    assert_eq!(drop_copy(&mut map, None, 3), Ok(()));
    assert_eq!(
        drop_copy(&mut map, None, 1),
        Ok(()),
        "Down, before its lease is over"
    );
    // All but one are Down, and the floor is two: none goes, so that either of them may come back.
    let mut map = owned(3, &[1, 2, 3]);
    copies_min(&mut map, 2).unwrap();
    down(&mut map, "b");
    down(&mut map, "c");
    for number in [2, 3] {
        assert_eq!(drop_copy(&mut map, None, number), Err(MapError::Stale));
        assert_eq!(drop_store(&mut map, number), Err(MapError::Stale));
    }
}

#[test]
fn the_store_of_a_dead_process_leaves_all_sets_that_have_enough() {
    let mut map = owned(4, &[1, 2, 3]);
    assign(&mut map, 1, "b", &[2, 3]).unwrap();
    assign(&mut map, 2, "c", &[3]).unwrap();
    assign(&mut map, 3, "a", &[1, 2]).unwrap();
    let want = |shard, store| Wanted {
        kind: KIND.into(),
        shard: ShardId(shard),
        store: Some(no(store)),
    };
    let wants = vec![want(3, 3), want(0, 1), want(9, 4)];
    map.apply(&Command::Want { wants }).unwrap();
    assert_eq!(map.copies[KIND].shards[3].wanted, Some(no(3)));
    assert_eq!(map.copies[KIND].shards[0].wanted, None, "it is a copy");
    let in_use = Err(MapError::StoreInUse(store(3)));
    assert_eq!(drop_store(&mut map, 3), in_use);
    down(&mut map, "c");
    let version = change(&map, 3).set_version;
    drop_store(&mut map, 3).unwrap();
    let sets = [0, 1, 2, 3].map(|shard| in_sync(&map, shard));
    assert_eq!(sets, [vec![1, 2], vec![2], vec![3], vec![1, 2]]);
    assert_eq!(change(&map, 3).set_version, version + 1);
    assert_eq!(map.copies[KIND].shards[3].wanted, None);
    assert_eq!(drop_store(&mut map, 3), Err(MapError::Stale), "it is done");
    let unknown = Err(MapError::UnknownStore(store(77)));
    assert_eq!(drop_store(&mut map, 77), unknown);
}

#[test]
fn a_wanted_store_is_one_that_is_known_and_no_copy_and_is_wanted_until_it_is_one() {
    let mut map = owned(3, &[1, 2]);
    let want = |store: Option<u16>| Command::Want {
        wants: vec![Wanted {
            kind: KIND.into(),
            shard: ShardId(0),
            store: store.map(no),
        }],
    };
    for wrong in [Some(2), Some(99), None] {
        assert_eq!(map.apply(&want(wrong)), Err(MapError::Stale));
    }
    map.apply(&want(Some(3))).unwrap();
    let view = map.copies_view(KIND, ShardId(0), &member("a", 1)).unwrap();
    assert_eq!(view.wanted, [store(3)].into());
    add(&mut map, Some("a"), 3).unwrap();
    assert_eq!(map.copies[KIND].shards[0].wanted, None);
}

#[test]
fn the_minimum_rises_once_all_have_enough_and_falls_when_members_leave_and_not_when_they_die() {
    let mut map = owned(3, &[1]);
    assert_eq!(map.copies_min_goal(KIND), None, "one copy");
    assert!(copies_min(&mut map, 2).is_err());
    add(&mut map, Some("a"), 2).unwrap();
    assert_eq!(map.copies_min_goal(KIND), Some(2));
    assert!(copies_min(&mut map, 3).is_err(), "more than is set");
    copies_min(&mut map, 2).unwrap();
    assert_eq!(map.copies_min_goal(KIND), None);
    let view = map.copies_view(KIND, ShardId(0), &member("a", 1)).unwrap();
    assert_eq!(view.copies_min, 2);
    let (mut dead, mut left) = (map.clone(), map);
    down(&mut dead, "c");
    down(&mut dead, "b");
    remove(&mut dead, "c");
    remove(&mut dead, "b");
    assert_eq!(dead.copies_min_goal(KIND), None);
    assert!(copies_min(&mut dead, 1).is_err());
    // While it leaves, so that the floor lets its own copies go.
    leave(&mut left, "c");
    assert_eq!(left.copies_min_goal(KIND), Some(1));
    copies_min(&mut left, 1).unwrap();
    remove(&mut left, "c");
    assert_eq!(left.copies_min_goal(KIND), None);
    // It is back, with its store.
    up(&mut left, &member("c", 2), 3, kept(4, 3, 2));
    assert_eq!(left.copies_min_goal(KIND), Some(2));
}

#[test]
fn a_new_generation_keeps_the_stores_and_what_is_in_sync() {
    let mut map = owned(3, &[1, 2, 3]);
    copies_min(&mut map, 2).unwrap();
    let identity = ClusterIdentity {
        generation: Generation::new(8, 0),
        ..map.identity
    };
    let site = site(2, Some(store(2)));
    let mut reborn = map.reborn(identity, member("b", 2), &site, &kept(4, 3, 2));
    assert_eq!(in_sync(&reborn, 0), [1, 2, 3]);
    assert_eq!(reborn.copies[KIND].min, 2);
    assert_eq!(reborn.store_no(&member("b", 2)), Some(no(2)));
    assert_eq!(reborn.process_of(store(1)), None, "nobody has it yet");
    let expected = map.kinds[KIND][0].epoch;
    let again = Assignment {
        kind: KIND.into(),
        ..assignment(0, expected, &member("b", 2))
    };
    let assignments = vec![again];
    reborn.apply(&Command::Assign { assignments }).unwrap();
    assert!(reborn.kinds[KIND][0].epoch > expected);
    up(&mut reborn, &member("d", 1), 4, kept(4, 3, 2));
    assert_eq!(reborn.store_no(&member("d", 1)), Some(no(4)));
}

#[test]
fn each_process_is_told_what_concerns_it() {
    let map = owned(3, &[1, 2]);
    let a = map.copies_view(KIND, ShardId(0), &member("a", 1)).unwrap();
    assert!(a.is_owner);
    assert_eq!(a.in_sync, [store(1), store(2)].into());
    assert_eq!((a.epoch, a.set_version), (Epoch::new(7, 1), 0));
    let b = map.copies_view(KIND, ShardId(0), &member("b", 1)).unwrap();
    assert!(!b.is_owner);
    assert_eq!(map.copies_view(KIND, ShardId(1), &member("a", 1)), None);
    assert_eq!(
        map.copies_view("Counter", ShardId(0), &member("a", 1)),
        None
    );
}

#[test]
fn proposals_of_many_shards_are_few_commands() {
    let mut map = owned(3, &[1, 2]);
    let fits = CopyProposal::Add(change(&map, 3));
    let others = (1..2500).map(|shard| ("Other", ShardId(shard), fits));
    let all = [(KIND, ShardId(0), fits)].into_iter().chain(others);
    let commands = Command::of_proposals(&member("a", 1), all);
    let sizes: Vec<usize> = commands
        .iter()
        .map(|command| match command {
            Command::Copies { changes, .. } => changes.len(),
            _ => 0,
        })
        .collect();
    assert_eq!(
        sizes,
        [
            1,
            COPY_CHANGES_MAX,
            COPY_CHANGES_MAX,
            2499 - 2 * COPY_CHANGES_MAX
        ]
    );
    map.apply(&commands[0]).unwrap();
    assert_eq!(in_sync(&map, 0), [1, 2, 3]);
    let bytes = rmp_serde::to_vec_named(&commands[1]).unwrap().len();
    assert!(bytes < 100 * 1024, "{bytes} bytes");
    let too_many = Command::Copies {
        by: None,
        kind: KIND.into(),
        changes: vec![(ShardId(0), fits); COPY_CHANGES_MAX + 1],
    };
    assert_eq!(map.apply(&too_many), Err(MapError::TooManyChanges(1025)));
}

/// The map goes to nodes in one frame, which has at most 8 MiB.
#[test]
fn a_map_of_many_shards_is_small_and_shares_what_a_command_does_not_change() {
    const SHARDS: u32 = 10_240;
    let mut map = founded_with(&kept(SHARDS, 3, 2));
    for (name, number) in [("b", 2), ("c", 3)] {
        up(&mut map, &member(name, 1), number, kept(SHARDS, 3, 2));
    }
    let assignments = (0..SHARDS).map(|shard| Assignment {
        kind: KIND.into(),
        copies: [1, 2, 3].map(no).into(),
        ..assignment(shard, Epoch::ZERO, &member("a", 1))
    });
    let assignments = Command::Assign {
        assignments: assignments.collect(),
    };
    let command = rmp_serde::to_vec_named(&assignments).unwrap().len();
    assert!(command < 1024 * 1024, "{command} bytes");
    map.apply(&assignments).unwrap();
    let bytes = rmp_serde::to_vec_named(&map).unwrap();
    let copies = rmp_serde::to_vec_named(&map.copies).unwrap().len();
    assert_eq!(rmp_serde::from_slice::<ClusterMap>(&bytes).unwrap(), map);
    assert!(copies < 10 * SHARDS as usize, "{copies} bytes");
    let before = map.clone();
    down(&mut map, "c");
    assert!(Arc::ptr_eq(
        &map.copies[KIND].shards,
        &before.copies[KIND].shards
    ));
    assert!(Arc::ptr_eq(&map.stores, &before.stores));
    assert_eq!(IN_SYNC_MAX, 8);
}

#[test]
fn a_member_is_in_the_zone_that_its_last_process_named() {
    let mut map = founded_with(&kept(4, 3, 2));
    for (incarnation, named) in [(1, Some("eu-1")), (2, Some("eu-2")), (3, None)] {
        let id = member("b", incarnation);
        let mut join = join_with(&id, 2, kept(4, 3, 2));
        if let Command::Join { zone, .. } = &mut join {
            *zone = named.map(str::to_owned);
        }
        map.apply(&join).unwrap();
        assert_eq!(map.member(&id).unwrap().zone.as_deref(), named);
    }
    let eu = Site {
        zone: Some("eu-3".into()),
        ..site(2, Some(store(2)))
    };
    let reborn = map.reborn(map.identity, member("b", 4), &eu, &kept(4, 3, 2));
    let zone = &reborn.member(&member("b", 4)).unwrap().zone;
    assert_eq!(zone.as_deref(), Some("eu-3"));
}

/// A member that was written before it had a zone.
#[test]
fn an_older_member_is_read_and_is_in_no_zone() {
    #[derive(Serialize)]
    struct Older {
        slot: Slot,
        seat: Seat,
        address: SocketAddr,
        status: Status,
        kinds: Vec<String>,
    }
    let map = founded(4);
    let member = map.member(&member("a", 1)).unwrap().clone();
    let older = Older {
        slot: member.slot,
        seat: member.seat,
        address: member.address,
        status: member.status,
        kinds: member.kinds.clone(),
    };
    let bytes = rmp_serde::to_vec_named(&older).unwrap();
    assert_eq!(rmp_serde::from_slice::<Member>(&bytes).unwrap(), member);
}

/// A map that was written before there were copies.
#[test]
fn an_older_map_is_read_and_has_no_copies() {
    #[derive(Serialize)]
    struct Older<'a> {
        identity: ClusterIdentity,
        version: u64,
        voters: &'a BTreeMap<MemberId, VoterPlace>,
        members: &'a BTreeMap<MemberId, Member>,
        kinds: &'a BTreeMap<String, Arc<Vec<ShardHome>>>,
        lease: LeaseTimes,
        tie_breaker: bool,
        sequence: u32,
        next_slot: u32,
    }
    let map = founded(4);
    let older = Older {
        identity: map.identity,
        version: map.version,
        voters: &map.voters,
        members: &map.members,
        kinds: &map.kinds,
        lease: map.lease,
        tie_breaker: map.tie_breaker,
        sequence: map.sequence,
        next_slot: map.next_slot,
    };
    let bytes = rmp_serde::to_vec_named(&older).unwrap();
    assert_eq!(rmp_serde::from_slice::<ClusterMap>(&bytes).unwrap(), map);
}
