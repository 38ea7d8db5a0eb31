//! What the leader decides, tick by tick.

use super::*;
use crate::{
    id::{Epoch, ShardId},
    protocol::{
        lease::LeaseTimes,
        map::{
            Wanted,
            tests::{
                assignment,
                copies::{founded_with, kept, up},
                founded, join, member,
            },
        },
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn leader() -> Leader {
    let times = LeaderTimes {
        silent_max: 3 * SECOND,
        remember_down: 60 * SECOND,
        moves_max: 4,
    };
    Leader::new(member("a", 1), times)
}

fn lease() -> LeaseTimes {
    LeaseTimes::new(SECOND, 0.05)
}

/// `a` has been leading for long, and `others` have just renewed.
fn leading_with(others: &[&str], now: Instant) -> Grants {
    let mut grants = Grants::default();
    grants.handle_leading(1, now - 10 * SECOND, lease());
    for name in others {
        grants.grant(&member(name, 1), 1, now, lease());
    }
    grants
}

fn seats(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<Seat> {
    numbers.into_iter().map(Seat).collect()
}

fn settled(numbers: std::ops::RangeInclusive<u32>) -> Electorate {
    Electorate {
        voters: seats(numbers.clone()),
        nodes: seats(numbers),
        ..Electorate::default()
    }
}

fn cluster(names: &[&str]) -> ClusterMap {
    let mut map = founded(4);
    for name in names {
        join(&mut map, &member(name, 1));
    }
    map
}

fn down(name: &str) -> LeaderEffect {
    LeaderEffect::Propose(Command::Down {
        member: member(name, 1),
    })
}

#[test]
fn a_dead_member_is_down_and_its_shards_wait_for_its_lease() {
    let (mut map, now) = (cluster(&["b", "c"]), Instant::now());
    let b = member("b", 1);
    let assignments = vec![assignment(0, Epoch::ZERO, &b)];
    map.apply(&Command::Assign { assignments }).unwrap();
    let (mut leader, grants) = (leader(), leading_with(&["b", "c"], now));
    let dead = BTreeSet::from([b.clone()]);
    let mut tick = |map: &ClusterMap, at| {
        let effects = leader.handle_tick(map, &dead, &settled(1..=1), &grants, None, at);
        effects
            .into_iter()
            .filter(|effect| matches!(effect, LeaderEffect::Propose(_)))
            .collect::<Vec<_>>()
    };
    let quiet = now + lease().lease / 2;
    assert_eq!(tick(&map, quiet), [down("b")]);
    map.apply(&Command::Down { member: b }).unwrap();
    assert_eq!(tick(&map, now + SECOND), []);
    let assignments = vec![assignment(0, Epoch::new(7, 1), &member("a", 1))];
    let assign = LeaderEffect::Propose(Command::Assign { assignments });
    assert_eq!(tick(&map, now + lease().guard), [assign]);
}

/// The store of a dead member is replaced at once, and its shards go only to stores in sync,
/// once its lease is over.
#[test]
fn shards_with_copies_go_where_these_are_and_their_copies_are_repaired() {
    let catalog = kept(2, 2, 1);
    let (mut map, now) = (founded_with(&catalog), Instant::now());
    for (name, store) in [("b", 2), ("c", 3)] {
        up(&mut map, &member(name, 1), store, catalog.clone());
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| member(name, 1));
    let number = |map: &ClusterMap, id: &MemberId| map.store_no(id).unwrap();
    let (of_b, of_c) = (number(&map, &b), number(&map, &c));
    let to = |shard, expected, to: &MemberId, copies| Assignment {
        kind: "Account".into(),
        copies,
        ..assignment(shard, expected, to)
    };
    let assignments = vec![
        to(0, Epoch::ZERO, &b, vec![of_b, of_c]),
        to(1, Epoch::ZERO, &a, vec![number(&map, &a), of_c]),
    ];
    map.apply(&Command::Assign { assignments }).unwrap();
    let (mut leader, grants) = (leader(), leading_with(&["b", "c"], now));
    let mut tick = |map: &ClusterMap, at| {
        let none = BTreeSet::new();
        let effects = leader.handle_tick(map, &none, &settled(1..=1), &grants, None, at);
        effects
            .into_iter()
            .filter_map(|effect| match effect {
                LeaderEffect::Propose(command) => Some(command),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(tick(&map, now), []);
    map.apply(&Command::Down { member: b.clone() }).unwrap();
    let store = map.stores[&of_b].id;
    let drop_store = Command::DropStore { store };
    let dropped = tick(&map, now + SECOND);
    assert_eq!(dropped, [drop_store], "before its lease is over");
    map.apply(&dropped[0]).unwrap();
    assert_eq!(tick(&map, now + SECOND), []);
    let assignments = vec![to(0, Epoch::new(7, 1), &c, Vec::new())];
    let assign = Command::Assign { assignments };
    assert_eq!(
        tick(&map, now + lease().guard),
        std::slice::from_ref(&assign)
    );
    map.apply(&assign).unwrap();
    let wants = vec![Wanted {
        kind: "Account".into(),
        shard: ShardId(0),
        store: Some(number(&map, &a)),
    }];
    let after = tick(&map, now + lease().guard);
    assert!(after.contains(&Command::Want { wants }), "{after:?}");
}

/// A forged datagram, or a peer that reaches no other, has gossip take a healthy member for
/// dead.
#[test]
fn a_member_that_renews_is_not_down_by_a_rumor_unless_it_lasts() {
    let (map, begun) = (cluster(&["b", "c"]), Instant::now());
    let (mut leader, mut grants) = (leader(), leading_with(&["b", "c"], begun));
    let dead = BTreeSet::from([member("b", 1)]);
    let (mut now, third) = (begun, lease().lease / 3);
    let mut tick = |dead: &BTreeSet<_>, now: Instant| {
        for name in ["b", "c"] {
            grants.grant(&member(name, 1), 1, now, lease());
        }
        let effects = leader.handle_tick(&map, dead, &settled(1..=1), &grants, None, now);
        effects.contains(&down("b"))
    };
    let mut lasts_for = |rumor: &BTreeSet<_>, time: Duration| {
        let until = now + time;
        while now < until {
            assert!(!tick(rumor, now));
            now += third;
        }
        now
    };
    // Another rumor begins anew.
    lasts_for(&dead, 2 * SECOND);
    lasts_for(&BTreeSet::new(), third);
    let end = lasts_for(&dead, 3 * SECOND);
    assert!(tick(&dead, end), "others do not reach it");
}

#[test]
fn a_member_that_does_not_renew_is_down_whatever_gossip_says() {
    let (map, now) = (cluster(&["b", "c"]), Instant::now());
    let (mut leader, mut grants) = (leader(), leading_with(&["b", "c"], now));
    let first = leader.handle_tick(&map, &BTreeSet::new(), &settled(1..=1), &grants, None, now);
    assert!(!first.contains(&down("b")));
    let later = now + lease().guard + 3 * SECOND;
    grants.grant(&member("c", 1), 1, later, lease());
    let effects = leader.handle_tick(
        &map,
        &BTreeSet::new(),
        &settled(1..=1),
        &grants,
        None,
        later,
    );
    assert_eq!(effects, [down("b")]);
    // A new leader has not heard from any member yet.
    grants.handle_leading(2, later, lease());
    let effects = leader.handle_tick(
        &map,
        &BTreeSet::new(),
        &settled(1..=3),
        &grants,
        None,
        later,
    );
    assert_eq!(effects, []);
}

#[test]
fn with_a_tie_breaker_the_sole_voter_claims_before_it_goes_on() {
    let (map, now) = (cluster(&["b"]), Instant::now());
    let (b, dead) = (member("b", 1), BTreeSet::from([member("b", 1)]));
    let (mut leader, grants) = (leader(), leading_with(&[], now));
    let mut ties = Ties::new(member("a", 1), SECOND);
    let mut tick = |ties: &mut Ties, electorate, now| {
        leader.handle_tick(&map, &dead, electorate, &grants, Some(ties), now)
    };
    let sole = settled(1..=1);
    assert_eq!(
        tick(&mut ties, &sole, now),
        [LeaderEffect::Claim(b.clone())]
    );
    assert_eq!(tick(&mut ties, &sole, now), [], "it has just asked");
    assert_eq!(
        tick(&mut ties, &sole, now + SECOND),
        [LeaderEffect::Claim(b.clone())]
    );
    ties.handle_verdict(&b, true);
    assert_eq!(tick(&mut ties, &sole, now + SECOND), [down("b")]);
    // With more than one voter there is no tie.
    let mut ties = Ties::new(member("a", 1), SECOND);
    let three = Electorate {
        voters: seats([1, 3, 4]),
        nodes: seats([1, 3, 4]),
        ..Electorate::default()
    };
    let effects = tick(&mut ties, &three, now);
    assert!(!effects.contains(&LeaderEffect::Claim(b)), "{effects:?}");
}

#[test]
fn a_member_that_is_down_is_remembered_for_a_while_or_until_it_comes_back() {
    let (mut map, now) = (cluster(&["b"]), Instant::now());
    let (mut leader, grants) = (leader(), leading_with(&["b"], now));
    map.apply(&Command::Down {
        member: member("b", 1),
    })
    .unwrap();
    let none = BTreeSet::new();
    let remove = LeaderEffect::Propose(Command::Remove {
        member: member("b", 1),
    });
    assert_eq!(
        leader.handle_tick(&map, &none, &settled(1..=1), &grants, None, now),
        []
    );
    let effects = leader.handle_tick(
        &map,
        &none,
        &settled(1..=1),
        &grants,
        None,
        now + 60 * SECOND,
    );
    assert_eq!(effects, std::slice::from_ref(&remove));
    join(&mut map, &member("b", 2));
    let effects = leader.handle_tick(&map, &none, &settled(1..=1), &grants, None, now);
    assert_eq!(effects, [remove]);
}

#[test]
fn a_leader_that_has_not_joined_yet_decides_nothing_by_itself() {
    let (map, now) = (cluster(&["b", "c"]), Instant::now());
    let grants = leading_with(&[], now);
    let mut leader = Leader {
        me: member("a", 2),
        ..leader()
    };
    let dead = BTreeSet::from([member("a", 1), member("b", 1)]);
    let effects = leader.handle_tick(&map, &dead, &settled(1..=3), &grants, None, now);
    assert_eq!(effects, []);
}

fn vote(map: &ClusterMap, electorate: &Electorate) -> Option<LeaderEffect> {
    leader().electorate(map, |_| true, electorate)
}

#[test]
fn one_or_two_members_have_one_voter() {
    assert_eq!(vote(&cluster(&[]), &settled(1..=1)), None);
    assert_eq!(vote(&cluster(&["b"]), &settled(1..=1)), None);
}

#[test]
fn the_third_member_makes_three_voters_once_they_know_everything() {
    let map = cluster(&["b", "c"]);
    let mut electorate = settled(1..=1);
    let teach = |name| Some(LeaderEffect::Teach(member(name, 1)));
    assert_eq!(vote(&map, &electorate), teach("b"));
    electorate.nodes.insert(Seat(2));
    assert_eq!(vote(&map, &electorate), teach("c"));
    electorate.nodes.insert(Seat(3));
    electorate.caught_up.insert(Seat(2));
    assert_eq!(vote(&map, &electorate), None);
    electorate.caught_up.insert(Seat(3));
    assert_eq!(
        vote(&map, &electorate),
        Some(LeaderEffect::Elect(seats(1..=3)))
    );
    assert_eq!(vote(&map, &settled(1..=3)), None);
}

#[test]
fn at_most_five_members_vote_and_voters_stay() {
    let map = cluster(&["b", "c", "d", "e", "f", "g"]);
    assert_eq!(vote(&map, &settled(1..=5)), None);
    let electorate = Electorate {
        voters: seats([1, 3, 5, 6, 7]),
        nodes: seats([1, 3, 5, 6, 7]),
        ..Electorate::default()
    };
    assert_eq!(vote(&map, &electorate), None);
}

#[test]
fn a_dead_voter_is_replaced() {
    let map = cluster(&["b", "c", "d"]);
    let alive = |id: &MemberId| *id != member("b", 1);
    let mut electorate = settled(1..=3);
    let got = leader().electorate(&map, alive, &electorate);
    assert_eq!(got, Some(LeaderEffect::Teach(member("d", 1))));
    electorate.nodes.insert(Seat(4));
    electorate.caught_up.insert(Seat(4));
    let got = leader().electorate(&map, alive, &electorate);
    assert_eq!(got, Some(LeaderEffect::Elect(seats([1, 3, 4]))));
    electorate.voters = seats([1, 3, 4]);
    let got = leader().electorate(&map, alive, &electorate);
    assert_eq!(got, Some(LeaderEffect::Dismiss(seats([2]))));
}

#[test]
fn with_two_of_five_voters_lost_the_others_decide_alone_before_newcomers_have_learned() {
    let map = cluster(&["b", "c", "d", "e", "f", "g"]);
    let alive = |id: &MemberId| *id != member("b", 1) && *id != member("c", 1);
    let got = leader().electorate(&map, alive, &settled(1..=5));
    assert_eq!(got, Some(LeaderEffect::Elect(seats([1, 4, 5]))));
    let one = |id: &MemberId| *id != member("b", 1);
    let got = leader().electorate(&map, one, &settled(1..=5));
    assert_eq!(got, Some(LeaderEffect::Teach(member("f", 1))));
}

#[test]
fn a_majority_of_the_voters_is_never_declared_down() {
    let mut map = cluster(&["b", "c", "d", "e", "f"]);
    // `f` does not vote.
    let down = |map: &ClusterMap, silent: &[&str], electorate: &Electorate| {
        let silent: Vec<MemberId> = silent.iter().map(|name| member(name, 1)).collect();
        let silent: Vec<&MemberId> = silent.iter().collect();
        let down = Leader::expendable(map, &silent, electorate).into_iter();
        down.map(|id| id.node.to_string()).collect::<String>()
    };
    let five = settled(1..=5);
    assert_eq!(down(&map, &["b", "c", "f"], &five), "bcf");
    assert_eq!(down(&map, &["b", "c", "d", "f"], &five), "f");
    map.apply(&Command::Down {
        member: member("e", 1),
    })
    .unwrap();
    assert_eq!(down(&map, &["b", "f"], &five), "bf");
    assert_eq!(down(&map, &["b", "c", "f"], &five), "f");
    let changing = Electorate {
        changing: true,
        ..five.clone()
    };
    assert_eq!(down(&map, &["b", "f"], &changing), "f");
    // Another leader proposed this while the member was silent, and could not decide it. The
    // member is heard again, and will be Down.
    let undecided = Electorate {
        undecided: vec![Command::Down {
            member: member("d", 1),
        }],
        ..five
    };
    assert_eq!(down(&map, &["f"], &undecided), "f");
    assert_eq!(down(&map, &["b", "f"], &undecided), "f");
}

#[test]
fn a_leader_that_leaves_hands_over_to_a_voter() {
    let mut map = cluster(&["b", "c", "d"]);
    map.apply(&Command::Leave {
        member: member("a", 1),
    })
    .unwrap();
    let mut electorate = settled(1..=3);
    electorate.nodes.insert(Seat(4));
    electorate.caught_up.insert(Seat(4));
    assert_eq!(
        vote(&map, &electorate),
        Some(LeaderEffect::Abdicate(Seat(2)))
    );
    // While no other member can lead, the voters change first.
    let electorate = Electorate {
        voters: seats([1]),
        nodes: seats([1, 2]),
        caught_up: seats([2]),
        ..Electorate::default()
    };
    let mut map = cluster(&["b"]);
    map.apply(&Command::Leave {
        member: member("a", 1),
    })
    .unwrap();
    assert_eq!(
        vote(&map, &electorate),
        Some(LeaderEffect::Elect(seats([2])))
    );
    // It leads until another voter does.
    let electorate = Electorate {
        voters: seats([2]),
        ..electorate
    };
    assert_eq!(
        vote(&map, &electorate),
        Some(LeaderEffect::Abdicate(Seat(2)))
    );
}
