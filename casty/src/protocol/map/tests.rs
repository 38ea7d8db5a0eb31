//! What each command does to a map, and what no order of commands may lead to.

pub(crate) mod copies;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::id::NodeId;

pub(crate) fn member(name: &str, incarnation: u64) -> MemberId {
    MemberId {
        node: NodeId::new(name),
        incarnation: Incarnation(incarnation),
    }
}

pub(crate) fn catalog(shards: u32) -> Vec<CatalogEntry> {
    vec![CatalogEntry {
        name: "Counter".into(),
        shards,
        fingerprint: 0,
        copies: None,
    }]
}

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(crate) fn site(port: u16, store: Option<StoreId>) -> Site {
    Site {
        address: address(port),
        zone: None,
        store,
    }
}

pub(crate) fn lease() -> LeaseTimes {
    LeaseTimes::new(Duration::from_secs(1), 0.05)
}

pub(crate) fn founded(shards: u32) -> ClusterMap {
    let identity = ClusterIdentity {
        uuid: Uuid::from_u128(1),
        generation: Generation::new(7, 0),
    };
    ClusterMap::found(
        identity,
        member("a", 1),
        &site(1, None),
        &catalog(shards),
        lease(),
        false,
    )
}

/// The settings that most joins share.
fn join_of(
    member: &MemberId,
    address: SocketAddr,
    catalog: Vec<CatalogEntry>,
    seat: Option<Seat>,
) -> Command {
    Command::Join {
        member: member.clone(),
        address,
        catalog,
        lease: lease(),
        tie_breaker: false,
        since: Incarnation(0),
        seat,
        store: None,
        zone: None,
    }
}

pub(crate) fn join_in(member: &MemberId, seat: Seat) -> Command {
    join_of(member, address(9), catalog(4), Some(seat))
}

pub(crate) fn join(map: &mut ClusterMap, id: &MemberId) {
    let shards = u32::try_from(map.kinds["Counter"].len()).unwrap();
    map.apply(&join_of(id, address(2), catalog(shards), None))
        .unwrap();
    map.apply(&Command::Up { member: id.clone() }).unwrap();
}

fn assign(shard: u32, expected: Epoch, to: &MemberId) -> Command {
    Command::Assign {
        assignments: vec![assignment(shard, expected, to)],
    }
}

pub(crate) fn assignment(shard: u32, expected: Epoch, to: &MemberId) -> Assignment {
    Assignment {
        kind: "Counter".into(),
        shard: ShardId(shard),
        expected,
        to: to.clone(),
        copies: Vec::new(),
    }
}

fn release(member: &MemberId, shard: u32, epoch: Epoch) -> Command {
    Command::Release {
        member: member.clone(),
        kind: "Counter".into(),
        shards: vec![(ShardId(shard), epoch)],
    }
}

fn home(map: &ClusterMap, shard: usize) -> ShardHome {
    map.kinds["Counter"][shard]
}

#[test]
fn epochs_carry_the_generation_and_grow_with_each_assignment() {
    let (mut map, a) = (founded(4), member("a", 1));
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    map.apply(&assign(1, Epoch::ZERO, &a)).unwrap();
    assert_eq!(home(&map, 0).epoch, Epoch::new(7, 1));
    assert_eq!(home(&map, 1).epoch, Epoch::new(7, 2));
    let shards = vec![(ShardId(0), Epoch::new(7, 1))];
    let release = Command::Release {
        member: a.clone(),
        kind: "Counter".into(),
        shards,
    };
    map.apply(&release).unwrap();
    assert_eq!(
        home(&map, 0),
        ShardHome {
            owner: None,
            epoch: Epoch::new(7, 1),
            moving: None,
        }
    );
    map.apply(&assign(0, Epoch::new(7, 1), &a)).unwrap();
    assert_eq!(home(&map, 0).epoch, Epoch::new(7, 3));
}

#[test]
fn an_assignment_with_a_stale_epoch_changes_nothing() {
    let (mut map, a) = (founded(4), member("a", 1));
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    let before = map.clone();
    assert_eq!(map.apply(&assign(0, Epoch::ZERO, &a)), Err(MapError::Stale));
    assert_eq!(
        map.apply(&assign(99, Epoch::ZERO, &a)),
        Err(MapError::Stale)
    );
    assert_eq!(map, before);
}

#[test]
fn an_owned_shard_is_not_assigned_away() {
    let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
    join(&mut map, &b);
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    assert_eq!(
        map.apply(&assign(0, Epoch::new(7, 1), &b)),
        Err(MapError::Stale)
    );
}

#[test]
fn only_members_that_are_up_and_host_the_type_get_shards() {
    let (mut map, b) = (founded(4), member("b", 1));
    let refused = Err(MapError::WrongStatus(b.clone()));
    assert_eq!(map.apply(&assign(0, Epoch::ZERO, &b)), refused);
    let join = join_of(&b, address(2), vec![], None);
    map.apply(&join).unwrap();
    map.apply(&Command::Up { member: b.clone() }).unwrap();
    assert_eq!(map.apply(&assign(0, Epoch::ZERO, &b)), refused);
}

#[test]
fn a_restarted_node_takes_the_place_of_its_former_self() {
    let (mut map, old, new) = (founded(4), member("b", 1), member("b", 2));
    join(&mut map, &old);
    map.apply(&assign(3, Epoch::ZERO, &old)).unwrap();
    join(&mut map, &new);
    assert_eq!(map.status(&old), Some(Status::Down));
    let slot = map.member(&old).unwrap().slot;
    assert_eq!(home(&map, 3).owner, Some(slot), "it may still serve");
    let remove = Command::Remove {
        member: old.clone(),
    };
    assert!(map.apply(&remove).is_err());
    map.apply(&assign(3, Epoch::new(7, 1), &new)).unwrap();
    assert_eq!(home(&map, 3).epoch, Epoch::new(7, 2));
    map.apply(&remove).unwrap();
    let again = join_of(&old, address(2), vec![], None);
    let (member, than) = (old, Incarnation(2));
    assert_eq!(map.apply(&again), Err(MapError::Older { member, than }));
}

fn sit(id: &MemberId, seat: Seat) -> Command {
    join_of(id, address(3), vec![], Some(seat))
}

#[test]
fn a_process_that_has_kept_the_seat_of_its_node_votes_from_there() {
    let (mut map, old, new) = (founded(4), member("a", 1), member("a", 2));
    map.apply(&sit(&new, Seat(1))).unwrap();
    assert_eq!(map.status(&old), Some(Status::Down));
    let sits = map.member(&new).unwrap();
    assert_eq!((sits.slot, sits.seat), (Slot(2), Seat(1)));
    assert_eq!(map.by_seat(Seat(1)).unwrap().0, &new);
    let place = VoterPlace {
        seat: Seat(1),
        address: address(3),
    };
    assert_eq!(map.voters, BTreeMap::from([(new.clone(), place)]));
    // It also works when the earlier process has been forgotten: it left while no other member
    // could take its vote.
    map.apply(&Command::Down {
        member: new.clone(),
    })
    .unwrap();
    map.apply(&Command::Remove { member: new }).unwrap();
    let third = member("a", 3);
    map.apply(&sit(&third, Seat(1))).unwrap();
    assert_eq!(map.by_seat(Seat(1)).unwrap().0, &third);
}

#[test]
fn a_seat_is_taken_over_by_its_own_node_only_and_only_while_it_votes() {
    let (mut map, b, again) = (founded(4), member("b", 1), member("b", 2));
    join(&mut map, &b);
    let before = map.clone();
    // `b` has never voted.
    assert_eq!(
        map.apply(&sit(&again, Seat(2))),
        Err(MapError::Seat(again.clone()))
    );
    assert_eq!(
        map.apply(&sit(&again, Seat(1))),
        Err(MapError::Seat(again.clone()))
    );
    assert_eq!(map, before);
    let place = VoterPlace {
        seat: Seat(2),
        address: address(2),
    };
    let voters = BTreeMap::from([(b, place)]);
    map.apply(&Command::Voters { voters }).unwrap();
    let a = member("a", 2);
    assert_eq!(map.apply(&sit(&a, Seat(1))), Err(MapError::Seat(a)));
    map.apply(&sit(&again, Seat(2))).unwrap();
}

#[test]
fn a_shard_moves_when_its_owner_gives_it_up_and_not_before() {
    let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
    join(&mut map, &b);
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    let moves = vec![assignment(0, Epoch::new(7, 1), &b)];
    let revoke = Command::Revoke { moves };
    map.apply(&revoke).unwrap();
    let slots = |id: &MemberId| Some(map.member(id).unwrap().slot);
    let (of_a, of_b) = (slots(&a), slots(&b));
    let moving = ShardHome {
        owner: of_a,
        epoch: Epoch::new(7, 1),
        moving: of_b,
    };
    assert_eq!(home(&map, 0), moving);
    assert_eq!(map.apply(&revoke), Err(MapError::Stale), "it moves already");
    map.apply(&release(&a, 0, Epoch::new(7, 1))).unwrap();
    let there = ShardHome {
        owner: of_b,
        epoch: Epoch::new(7, 2),
        moving: None,
    };
    assert_eq!(home(&map, 0), there);
    assert_eq!(
        map.apply(&release(&a, 0, Epoch::new(7, 1))),
        Err(MapError::Stale)
    );
}

#[test]
fn a_shard_that_cannot_be_handed_over_is_kept() {
    let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
    join(&mut map, &b);
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    let before = home(&map, 0);
    let moves = vec![assignment(0, Epoch::new(7, 1), &b)];
    map.apply(&Command::Revoke { moves }).unwrap();
    let kept = ShardHome {
        epoch: Epoch::new(7, 2),
        ..before
    };
    map.apply(&Command::Keep {
        member: a,
        kind: "Counter".into(),
        shards: vec![(ShardId(0), Epoch::new(7, 1))],
    })
    .unwrap();
    assert_eq!(home(&map, 0), kept);
}

#[test]
fn a_shard_whose_target_has_gone_is_free() {
    let (mut map, a, b) = (founded(4), member("a", 1), member("b", 1));
    join(&mut map, &b);
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    let moves = vec![assignment(0, Epoch::new(7, 1), &b)];
    map.apply(&Command::Revoke { moves }).unwrap();
    map.apply(&Command::Down { member: b }).unwrap();
    map.apply(&release(&a, 0, Epoch::new(7, 1))).unwrap();
    assert_eq!(home(&map, 0).owner, None);
}

#[test]
fn a_reborn_map_keeps_epochs_and_forgets_owners() {
    let (mut map, a, b) = (founded(4), member("a", 1), member("b", 2));
    map.apply(&assign(0, Epoch::ZERO, &a)).unwrap();
    let identity = ClusterIdentity {
        generation: Generation::new(8, 0),
        ..map.identity
    };
    let mut reborn = map.reborn(identity, b.clone(), &site(2, None), &catalog(4));
    assert!(reborn.version > map.version);
    assert_eq!((home(&reborn, 0).owner, reborn.members.len()), (None, 1));
    reborn.apply(&assign(0, Epoch::new(7, 1), &b)).unwrap();
    assert_eq!(home(&reborn, 0).epoch, Epoch::new(8, 1));
}

#[test]
fn joining_twice_is_joining_once() {
    let (mut map, b) = (founded(4), member("b", 1));
    join(&mut map, &b);
    let slot = map.member(&b).unwrap().slot;
    let again = join_of(&b, address(2), catalog(4), None);
    map.apply(&again).unwrap();
    assert_eq!(map.member(&b).unwrap().slot, slot);
    assert_eq!(map.status(&b), Some(Status::Up));
}

#[test]
fn shard_counts_must_agree() {
    let mut map = founded(4);
    let join = join_of(&member("b", 1), address(2), catalog(5), None);
    let refused = MapError::Shards {
        kind: "Counter".into(),
        ours: 4,
        theirs: 5,
    };
    assert_eq!(map.apply(&join), Err(refused));
}

/// A process that is let in must not take all memory of the others.
#[test]
fn a_cluster_has_no_more_shards_than_fit_into_a_map() {
    let mut map = founded(4);
    let mut join_with = |shards| {
        let mut catalog = catalog(4);
        let mut other = catalog[0].clone();
        (other.name, other.shards) = ("Other".into(), shards);
        catalog.push(other);
        map.apply(&join_of(&member("b", 1), address(2), catalog, None))
    };
    let refused = MapError::TooManyShards {
        member: member("b", 1),
        shards: u64::from(u32::MAX) + 4,
    };
    assert_eq!(join_with(u32::MAX), Err(refused));
    assert_eq!(join_with(u32::try_from(SHARDS_MAX).unwrap() - 4), Ok(()));
}

#[test]
fn leases_must_be_equally_long() {
    let mut map = founded(4);
    let join = Command::Join {
        member: member("b", 1),
        address: address(2),
        catalog: catalog(4),
        lease: LeaseTimes::new(Duration::from_secs(2), 0.05),
        tie_breaker: false,
        since: Incarnation(0),
        seat: None,
        store: None,
        zone: None,
    };
    let refused = map.apply(&join).unwrap_err();
    assert!(matches!(refused, MapError::Lease { .. }), "{refused}");
}

#[test]
fn all_have_a_tie_breaker_or_none_has() {
    let mut map = founded(4);
    let join = Command::Join {
        member: member("b", 1),
        address: address(2),
        catalog: catalog(4),
        lease: lease(),
        tie_breaker: true,
        since: Incarnation(1),
        seat: None,
        store: None,
        zone: None,
    };
    let refused = map.apply(&join).unwrap_err();
    assert_eq!(refused, MapError::TieBreaker { ours: false });
    assert_eq!(
        refused.to_string(),
        "this cluster has no tie-breaker, and that node has one; `tie_breaker` must be given to all nodes or to none"
    );
}

#[test]
fn down_is_final() {
    let (mut map, b) = (founded(4), member("b", 1));
    join(&mut map, &b);
    map.apply(&Command::Down { member: b.clone() }).unwrap();
    let refused = Err(MapError::WrongStatus(b.clone()));
    assert_eq!(map.apply(&Command::Up { member: b.clone() }), refused);
    assert_eq!(map.apply(&Command::Down { member: b.clone() }), refused);
    let join = join_of(&b, address(2), vec![], None);
    assert_eq!(map.apply(&join), Err(MapError::Superseded(b.clone())));
    map.apply(&Command::Remove { member: b.clone() }).unwrap();
    assert_eq!(map.status(&b), None);
}

fn any_command() -> impl Strategy<Value = Command> {
    let members = || (0..3u8, 1..3u64).prop_map(|(n, i)| member(&format!("m{n}"), i));
    let epochs = (0..12u32).prop_map(|n| {
        if n == 0 {
            Epoch::ZERO
        } else {
            Epoch::new(7, n)
        }
    });
    prop_oneof![
        (members(), proptest::option::of(0..4u32)).prop_map(|(member, seat)| join_of(
            &member,
            address(2),
            catalog(3),
            seat.map(Seat)
        )),
        members().prop_map(|member| Command::Up { member }),
        members().prop_map(|member| Command::Leave { member }),
        members().prop_map(|member| Command::Down { member }),
        members().prop_map(|member| Command::Remove { member }),
        (0..4u32, epochs.clone(), members()).prop_map(|(s, e, m)| assign(s, e, &m)),
        (0..4u32, epochs.clone(), members()).prop_map(|(s, e, to)| Command::Revoke {
            moves: vec![assignment(s, e, &to)]
        }),
        (0..4u32, epochs.clone(), members()).prop_map(|(s, e, member)| Command::Keep {
            member,
            kind: "Counter".into(),
            shards: vec![(ShardId(s), e)],
        }),
        (0..4u32, epochs, members()).prop_map(|(s, e, member)| release(&member, s, e)),
    ]
}

proptest! {
    /// Invariant 3: a shard's epoch never decreases. And a refused command changes nothing.
    #[test]
    fn epochs_never_decrease_and_owners_are_members(
        commands in proptest::collection::vec(any_command(), 0..200)
    ) {
        let mut map = founded(3);
        for command in commands {
            let before = map.clone();
            let result = map.apply(&command);
            if result.is_err() {
                prop_assert_eq!(&map, &before);
            }
            for (now, then) in map.kinds["Counter"].iter().zip(before.kinds["Counter"].iter()) {
                prop_assert!(now.epoch >= then.epoch);
                if now.owner != then.owner && now.owner.is_some() {
                    prop_assert!(now.epoch > then.epoch);
                }
                if let Some(slot) = now.owner {
                    prop_assert!(map.by_slot(slot).is_some());
                }
            }
        }
    }
}
