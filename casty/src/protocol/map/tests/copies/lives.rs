//! Shards that are given up, and begin anew.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    infra::seeds::seeds,
    protocol::{
        copies::Life,
        outbox::{Judged, SendMark, judge},
    },
};

fn life(map: &ClusterMap, shard: usize) -> Life {
    map.copies[KIND].shards[shard].life
}

/// What fits shard 0 now.
fn new_life(map: &ClusterMap, begins: Beginning) -> NewLife {
    NewLife {
        shard: ShardId(0),
        epoch: map.kinds[KIND][0].epoch,
        set_version: map.copies[KIND].shards[0].in_sync.version(),
        begins,
    }
}

fn give_up(map: &mut ClusterMap, begins: Beginning) -> Result<(), MapError> {
    let lives = vec![new_life(map, begins)];
    let kind = KIND.to_owned();
    map.apply(&Command::BeginAnew { kind, lives })
}

/// `a` has shard 0, its copies are in stores 1 and 2, both are gone, and `c` is there.
fn lost() -> ClusterMap {
    let mut map = owned(3, &[1, 2]);
    copies_min(&mut map, 2).unwrap();
    down(&mut map, "b");
    down(&mut map, "a");
    map
}

#[test]
fn a_lost_shard_begins_anew_in_a_store_that_is_there_and_in_later_epochs() {
    let mut map = lost();
    let epoch = map.kinds[KIND][0].epoch;
    let listed: Vec<_> = map.lost(KIND).map(|(shard, ..)| shard).collect();
    assert_eq!(listed, [ShardId(0)]);
    let outside = Err(MapError::Set(SetRefused::NotInSync(no(3))));
    assert_eq!(assign(&mut map, 0, "c", &[3]), outside);
    let before = change(&map, 1).set_version;
    give_up(&mut map, Beginning::Kept(store(3))).unwrap();
    assert_eq!(in_sync(&map, 0), [3]);
    assert_eq!(change(&map, 1).set_version, before + 1);
    let expected = Life {
        after: epoch,
        begins_empty: false,
    };
    assert_eq!(life(&map, 0), expected);
    assert_eq!(map.lost(KIND).count(), 0);
    // The member that is Down keeps the shard until the lease is over: `Assign` says so.
    let home = map.kinds[KIND][0];
    let owner = map.by_slot(home.owner.unwrap()).unwrap().0;
    assert_eq!((owner, home.epoch), (&member("a", 1), epoch));
    assert!(
        map.apply(&Command::Remove {
            member: member("a", 1)
        })
        .is_err()
    );
    assign(&mut map, 0, "c", &[]).unwrap();
    assert!(map.kinds[KIND][0].epoch > life(&map, 0).after);
    let view = map.copies_view(KIND, ShardId(0), &member("c", 1)).unwrap();
    assert_eq!((view.life, view.is_owner), (expected, true));
}

#[test]
fn a_shard_is_not_given_up_while_a_store_in_sync_or_its_owner_is_there() {
    let mut map = owned(3, &[1, 2]);
    let owned = Err(MapError::Set(SetRefused::Owned));
    assert_eq!(give_up(&mut map, Beginning::Kept(store(3))), owned);
    down(&mut map, "a");
    let there = Err(MapError::Set(SetRefused::StillThere(no(2))));
    for begins in [Beginning::Kept(store(3)), Beginning::Empty(vec![no(3)])] {
        assert_eq!(give_up(&mut map, begins), there);
    }
    assert_eq!(map.lost(KIND).count(), 0);
    // It is lost when the operator looks, and `b` is back before this is decided.
    let mut map = lost();
    let looked = new_life(&map, Beginning::Kept(store(3)));
    up(&mut map, &member("b", 2), 2, kept(4, 3, 2));
    let (kind, lives) = (KIND.to_owned(), vec![looked]);
    assert_eq!(map.apply(&Command::BeginAnew { kind, lives }), there);
    let mut map = lost();
    for wrong in [store(1), store(2)] {
        let nowhere = Err(MapError::Set(SetRefused::NoBeginning));
        assert_eq!(give_up(&mut map, Beginning::Kept(wrong)), nowhere);
    }
    let unknown = Err(MapError::UnknownStore(store(77)));
    assert_eq!(give_up(&mut map, Beginning::Kept(store(77))), unknown);
    let other = Command::BeginAnew {
        kind: "Counter".into(),
        lives: vec![new_life(&map, Beginning::Empty(vec![no(3)]))],
    };
    let unknown = Err(MapError::UnknownKind("Counter".into()));
    assert_eq!(map.apply(&other), unknown, "it has no copies");
    let kind = KIND.to_owned();
    let lives = vec![new_life(&map, Beginning::Kept(store(3))); COPY_CHANGES_MAX + 1];
    let too_many = map.apply(&Command::BeginAnew { kind, lives });
    assert_eq!(too_many, Err(MapError::TooManyChanges(1025)));
}

#[test]
fn what_is_given_up_is_expected_no_more_so_that_the_rest_can_go_on() {
    let mut map = lost();
    assert_eq!(map.copies_min_goal(KIND), None, "they are expected back");
    give_up(&mut map, Beginning::Kept(store(3))).unwrap();
    assert_eq!(map.copies_min_goal(KIND), Some(1));
    copies_min(&mut map, 1).unwrap();
    // One of them comes back all the same, with its store.
    up(&mut map, &member("b", 2), 2, kept(4, 3, 2));
    assert_eq!(in_sync(&map, 0), [3], "it counts no more");
    assign(&mut map, 0, "c", &[]).unwrap();
    add(&mut map, Some("c"), 2).unwrap();
    assert_eq!(in_sync(&map, 0), [2, 3]);
    for name in ["a", "b"] {
        // Neither is needed, nor expected.
        remove(&mut map, name);
    }
    assert_eq!(map.number_of(store(1)), None);
}

/// The trace X24, by rule S5: the log begins anew at position 1, where its receivers know a mark
/// already. So the next owner has a later epoch than any of the life before.
#[test]
fn the_first_send_of_a_log_begun_anew_follows_all_marks_of_the_life_before() {
    let judged = || {
        let mut map = lost();
        // The last epoch of the life before is the last one that the map has given.
        let mark = |map: &ClusterMap, position| SendMark {
            epoch: map.kinds[KIND][0].epoch,
            position,
            index: 0,
        };
        let known = mark(&map, 9);
        give_up(&mut map, Beginning::Empty(vec![no(3)])).unwrap();
        assign(&mut map, 0, "c", &[]).unwrap();
        judge(Some(known), mark(&map, 1), None)
    };
    assert_eq!(judged(), Judged::New);
}

#[test]
fn a_new_generation_goes_on_with_the_life_of_the_one_before() {
    let mut map = lost();
    give_up(&mut map, Beginning::Empty(vec![no(3)])).unwrap();
    let identity = ClusterIdentity {
        generation: Generation::new(8, 0),
        ..map.identity
    };
    let site = site(3, Some(store(3)));
    let reborn = map.reborn(identity, member("c", 2), &site, &kept(4, 3, 2));
    assert_eq!(life(&reborn, 0), life(&map, 0));
    assert!(life(&reborn, 0).begins_empty);
    let bytes = rmp_serde::to_vec_named(&reborn).unwrap();
    let read: ClusterMap = rmp_serde::from_slice(&bytes).unwrap();
    assert_eq!(read, reborn);
}

/// What a store knows of shard 0: the last epoch that it has met, and whether what it has was let
/// out in the present life. The map alone must be enough for it never to count wrongly.
#[derive(Clone, Copy, Default)]
struct Held {
    promised: Epoch,
    /// The life in which it last was in sync.
    life: Epoch,
}

/// Random commands, applied late, twice, or for a set as it was before.
#[test]
fn no_order_of_commands_lets_a_store_of_an_earlier_life_count() {
    let (mut lives, seeds) = (0, seeds(0..400));
    for seed in seeds.clone() {
        let mut random = StdRng::seed_from_u64(seed);
        let mut map = cluster(4);
        assign(&mut map, 0, "a", &[1, 2]).unwrap();
        let mut incarnation = 1;
        let mut held: BTreeMap<u16, Held> = BTreeMap::new();
        let mut late: Vec<Command> = Vec::new();
        for _ in 0..120 {
            let number = random.random_range(1..=4_u16);
            let node = ["a", "b", "c", "d"][usize::from(number) - 1];
            let process = map.members.keys().rfind(|id| id.node.as_str() == node);
            let process = process.cloned();
            let is_there = process.as_ref().is_some_and(|id| map.is_present(id));
            let epoch = map.kinds[KIND][0].epoch;
            let kind = KIND.to_owned();
            let command = match random.random_range(0..9) {
                0 | 1 if is_there => Command::Down {
                    member: process.unwrap(),
                },
                2 | 3 if !is_there => {
                    incarnation += 1;
                    let id = member(node, incarnation);
                    up(&mut map, &id, number.into(), kept(4, 3, 2));
                    continue;
                }
                4 if is_there => Command::Assign {
                    assignments: vec![Assignment {
                        kind,
                        ..assignment(0, epoch, &process.unwrap())
                    }],
                },
                5 => {
                    let change = change(&map, number.into());
                    let owner = map.owner(KIND, ShardId(0)).cloned();
                    let proposal = if random.random() {
                        CopyProposal::Add(change)
                    } else {
                        CopyProposal::Drop(change)
                    };
                    Command::Copies {
                        by: owner,
                        kind,
                        changes: vec![(ShardId(0), proposal)],
                    }
                }
                6 => {
                    let begins = if random.random() {
                        Beginning::Kept(store(number.into()))
                    } else {
                        Beginning::Empty(vec![no(number), no(5 - number)])
                    };
                    let lives = vec![new_life(&map, begins)];
                    Command::BeginAnew { kind, lives }
                }
                7 => {
                    let owner = map.kinds[KIND][0].owner.and_then(|it| map.by_slot(it));
                    let Some((owner, _)) = owner else { continue };
                    let shards = vec![(ShardId(0), epoch)];
                    let member = owner.clone();
                    Command::Keep {
                        member,
                        kind,
                        shards,
                    }
                }
                _ if !late.is_empty() => late[random.random_range(0..late.len())].clone(),
                _ => continue,
            };
            if late.len() < 20 {
                late.push(command.clone());
            }
            let before = map.clone();
            let is_applied = map.apply(&command).is_ok();
            let (was, is) = (life(&before, 0), life(&map, 0));
            let set = in_sync(&map, 0);
            assert!(!set.is_empty(), "seed {seed}: {command:?}");
            if was != is {
                lives += 1;
                assert!(matches!(command, Command::BeginAnew { .. }));
                let there = |number: &u16| before.process_in(no(*number)).is_some();
                assert!(!in_sync(&before, 0).iter().any(there), "seed {seed}");
                assert!(before.owner(KIND, ShardId(0)).is_none());
                assert!(set.iter().all(there), "seed {seed}: it would wait again");
                // Equal: nobody has owned it since, so nothing was let out.
                assert!(is.after >= was.after && is.after == before.kinds[KIND][0].epoch);
                for number in &set {
                    held.entry(*number).or_default().life = is.after;
                }
            }
            // A store that is added has all there is in this life: the owner has seen to that.
            for number in set.iter().filter(|_| is_applied) {
                let added = !in_sync(&before, 0).contains(number);
                let held = held.entry(*number).or_default();
                if added {
                    held.life = is.after;
                }
                assert_eq!(
                    held.life, is.after,
                    "seed {seed}: {number} after {command:?}"
                );
                // Whatever it has promised, the next owner's epoch is later.
                held.promised = held.promised.max(map.kinds[KIND][0].epoch);
            }
            let epoch = map.kinds[KIND][0].epoch;
            if epoch != before.kinds[KIND][0].epoch {
                let promised = held.values().map(|held| held.promised);
                assert!(promised.max() <= Some(epoch), "seed {seed}");
                assert!(epoch > is.after, "seed {seed}");
                let begins = before.kinds[KIND][0].epoch <= is.after;
                let is_assigned = matches!(command, Command::Assign { .. });
                assert!(!begins || is_assigned, "seed {seed}: {command:?}");
            }
        }
    }
    // In some walks none begins.
    assert!(lives > 100 || seeds.count() < 400, "{lives} lives began");
}

/// The id of a store in memory.
fn in_memory(number: u8) -> StoreId {
    StoreId::in_memory([number; 16])
}

fn join_in(map: &mut ClusterMap, id: &MemberId, store: StoreId) -> Result<(), MapError> {
    let mut join = join_with(id, 0, kept(4, 3, 2));
    if let Command::Join { store: place, .. } = &mut join {
        *place = Some(store);
    }
    map.apply(&join)?;
    map.apply(&Command::Up { member: id.clone() })
}

/// `a`, `b` and so on, which keep records in memory.
fn cluster_in_memory(nodes: u8) -> ClusterMap {
    let identity = founded(1).identity;
    let site = site(1, Some(in_memory(1)));
    let catalog = kept(4, 3, 2);
    let mut map = ClusterMap::found(identity, member("a", 1), &site, &catalog, lease(), false);
    for (name, number) in ["b", "c", "d"].into_iter().zip(2..=nodes) {
        join_in(&mut map, &member(name, 1), in_memory(number)).unwrap();
    }
    map
}

fn begun(map: &ClusterMap) -> Vec<Command> {
    let commands = crate::protocol::placement::plan(map).commands.into_iter();
    let begun = commands.filter(|it| matches!(it, Command::BeginAnew { .. }));
    begun.collect()
}

#[test]
fn what_was_in_memory_alone_is_given_up_by_the_leader_once_all_of_it_is_gone() {
    let mut map = cluster_in_memory(4);
    assign(&mut map, 0, "a", &[1, 2]).unwrap();
    assign(&mut map, 1, "b", &[2, 3]).unwrap();
    down(&mut map, "a");
    assert_eq!(begun(&map), [], "one store is there still");
    down(&mut map, "b");
    let commands = begun(&map);
    let [Command::BeginAnew { lives, .. }] = &commands[..] else {
        panic!("{commands:?}");
    };
    let shards: Vec<_> = lives.iter().map(|life| life.shard).collect();
    assert_eq!(shards, [ShardId(0)], "the other one has a store");
    map.apply(&commands[0]).unwrap();
    assert_eq!(in_sync(&map, 0), [3, 4]);
    assert!(life(&map, 0).begins_empty);
    assert_eq!(begun(&map), []);
    // On disk it would wait.
    let mut on_disk = lost();
    assert_eq!(begun(&on_disk), []);
    down(&mut on_disk, "c");
    assert_eq!(begun(&on_disk), []);
    // While nobody is there to take them, they wait as well.
    let mut nobody = cluster_in_memory(2);
    assign(&mut nobody, 0, "a", &[1, 2]).unwrap();
    down(&mut nobody, "a");
    down(&mut nobody, "b");
    assert_eq!(begun(&nobody), []);
    join_in(&mut nobody, &member("c", 1), in_memory(3)).unwrap();
    assert_eq!(begun(&nobody).len(), 1);
}

#[test]
fn a_store_in_memory_is_not_expected_back() {
    let mut map = cluster_in_memory(3);
    assign(&mut map, 0, "a", &[1, 2, 3]).unwrap();
    copies_min(&mut map, 2).unwrap();
    down(&mut map, "c");
    assert_eq!(map.copies_min_goal(KIND), Some(1));
    let mut on_disk = owned(3, &[1, 2, 3]);
    copies_min(&mut on_disk, 2).unwrap();
    down(&mut on_disk, "c");
    assert_eq!(on_disk.copies_min_goal(KIND), None);
    let store = in_memory(3);
    map.apply(&Command::DropStore { store }).unwrap();
    remove(&mut map, "c");
    assert_eq!(map.number_of(store), None, "it is not remembered");
}

#[test]
fn records_are_kept_on_disk_by_all_nodes_or_in_memory_by_all() {
    let mut map = owned(2, &[1, 2]);
    let (c, d) = (member("c", 1), member("d", 1));
    let refused = join_in(&mut map, &c, in_memory(9)).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(
        refused,
        MapError::MixedStores {
            in_memory: true,
            ..
        }
    ));
    assert!(
        text.contains("in memory, and this cluster in directories"),
        "{text}"
    );
    // Also if it comes with no disk any more: what was on it is waited for.
    let again = join_in(&mut map, &member("b", 2), in_memory(9));
    assert!(matches!(again, Err(MapError::MixedStores { .. })));
    let mut map = cluster_in_memory(2);
    let refused = join_in(&mut map, &d, store(9)).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("in a directory, and this cluster in memory"),
        "{text}"
    );
    // What is gone for good is no obstacle.
    down(&mut map, "a");
    join_in(&mut map, &member("b", 2), store(9)).unwrap();
    join_in(&mut map, &d, store(10)).unwrap();
}
