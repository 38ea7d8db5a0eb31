//! The end of a membership, and the next incarnation.

use super::*;
use crate::protocol::map::VoterPlace;

/// The same node is started twice: the second process takes the place of the first, which goes on
/// as a later one. The map takes in the latest only.
#[test]
fn of_two_processes_of_one_name_the_first_is_superseded() {
    let mut process = Process::member(config(), &[]);
    // The other process has a clock that is far ahead.
    process.map = Some(Arc::new(cluster(&[b(1), b(9000)])));
    process.clock = 40;
    assert_eq!(process.handle(MembershipInput::Map), begins(2, 9001));
    assert_eq!(
        process.done(Outcome::Forgotten),
        [greet(2, &["seed", "127.0.0.1:1"])]
    );
}

#[test]
fn an_incarnation_comes_from_the_clock_where_that_is_ahead() {
    let mut process = Process::member(config(), &[]);
    process.clock = 70;
    assert_eq!(process.handle(MembershipInput::Down(b(1))), begins(2, 70));
    // The clock stands still, or goes back.
    for (clock, incarnation, session) in [(70, 71, 4), (3, 72, 6)] {
        process.clock = clock;
        let down = MembershipInput::Down(b(incarnation - 1));
        assert_eq!(process.handle(down), begins(session, incarnation));
    }
}

/// The process before this one had a clock that was ahead. The map refuses this one until its
/// incarnation is greater, which by the clock may take hours.
#[test]
fn an_incarnation_is_greater_than_the_one_it_lost_to_and_than_any_that_the_map_knows() {
    let older = LeaderError::Refused(MapError::Older {
        member: b(1),
        than: Incarnation(5000),
    });
    // Also where a node that is declared Down stays out: this process was no member yet.
    let mut process = Process::joining(MembershipConfig {
        on_down: OnDown::Stop,
        ..config()
    });
    process.clock = 2;
    let refused = process.done(Outcome::Decided(Err(older.clone())));
    assert_eq!(refused, begins(2, 5001));
    assert_eq!(process.done(Outcome::Forgotten), [greet(2, &["seed"])]);
    let mut process = Process::joining(config());
    process.map = Some(Arc::new(cluster(&[b(7000)])));
    let refused = process.done(Outcome::Decided(Err(older)));
    assert_eq!(refused, begins(2, 7001));
}

/// Something is wrong where a process is Down again and again, and haste makes it worse.
#[test]
fn incarnations_in_a_row_ask_after_growing_pauses_and_one_that_lasted_asks_at_once() {
    let mut process = Process::member(config(), &[]);
    let mut pauses = vec![];
    for incarnation in 1..8 {
        process.handle(MembershipInput::Down(b(incarnation)));
        let mut asked = process.done(Outcome::Forgotten);
        let begun = process.now;
        while asked.is_empty() {
            asked = process.tick_after(MS);
        }
        pauses.push((process.now - begun).as_millis());
    }
    assert_eq!(pauses, [0, 20, 40, 80, 160, 200, 200]);
    // The next one is a member for long enough.
    process.identity = Some(founded(4).identity);
    process.done(answers(SeedAnswer::Cluster, process.identity));
    process.done(Outcome::Decided(Ok(2)));
    process.map = Some(Arc::new(cluster(&[b(8)])));
    process.handle(MembershipInput::Map);
    process.done(Outcome::Decided(Ok(3)));
    process.now += 10 * BACKOFF;
    process.handle(MembershipInput::Down(b(8)));
    assert_eq!(process.done(Outcome::Forgotten).len(), 1, "it asks at once");
}

#[test]
fn given_incarnations_are_counted() {
    let mut process = Process::member(
        MembershipConfig {
            counts_incarnations: true,
            ..config()
        },
        &[],
    );
    process.clock = 70;
    assert_eq!(process.handle(MembershipInput::Down(b(1))), begins(2, 2));
}

#[test]
fn a_member_that_is_down_joins_as_another_and_only_once() {
    let mut process = Process::member(config(), &[]);
    process.change(&Command::Down { member: b(1) });
    assert_eq!(process.handle(MembershipInput::Map), begins(2, 2));
    // The same is said by whatever else knows.
    assert_eq!(process.handle(MembershipInput::Down(b(1))), []);
    let seeds = greet(2, &["seed", "127.0.0.1:1"]);
    assert_eq!(process.done(Outcome::Forgotten), [seeds]);
}

#[test]
fn a_member_that_the_map_has_forgotten_is_down() {
    let mut process = Process::member(config(), &[]);
    process.change(&Command::Down { member: b(1) });
    process.change(&Command::Remove { member: b(1) });
    assert_eq!(process.handle(MembershipInput::Map), begins(2, 2));
    // A map without a node that was never in it says nothing of the kind.
    let mut process = Process::joining(config());
    process.map = Some(Arc::new(cluster(&[])));
    assert_eq!(process.handle(MembershipInput::Map), []);
}

#[test]
fn a_member_that_is_down_stops_if_it_was_told_to() {
    let mut process = Process::member(
        MembershipConfig {
            on_down: OnDown::Stop,
            ..config()
        },
        &[],
    );
    assert_eq!(process.handle(MembershipInput::Down(b(1))), begins(2, 2));
    assert_eq!(
        process.done(Outcome::Forgotten),
        [
            MembershipEffect::Abandon,
            MembershipEffect::EndSession,
            MembershipEffect::Fail(JoinError::Down)
        ]
    );
    assert_eq!(process.handle(MembershipInput::Down(b(2))), []);
}

#[test]
fn a_node_that_is_down_while_it_joins_begins_anew() {
    let mut process = Process::joining(config());
    assert_eq!(process.handle(MembershipInput::Down(b(1))), begins(2, 2));
    // Between its join and the map that shows it.
    let mut process = Process::joining(config());
    process.done(Outcome::Decided(Ok(2)));
    let mut map = cluster(&[b(1)]);
    map.apply(&Command::Down { member: b(1) }).unwrap();
    process.map = Some(Arc::new(map));
    assert_eq!(process.handle(MembershipInput::Map), begins(2, 2));
}

#[test]
fn what_is_said_of_an_earlier_incarnation_is_no_news() {
    let mut process = Process::member(config(), &[]);
    process.handle(MembershipInput::Down(b(1)));
    assert_eq!(process.handle(MembershipInput::Down(b(1))), []);
    assert_eq!(process.handle(MembershipInput::Down(member("a", 1))), []);
}

/// The result of the last session's operation does not count for the next.
#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let mut process = Process::member(config(), &[]);
    let (before, sent) = (process.machine.session(), process.now);
    process.handle(MembershipInput::Down(b(1)));
    let result = Ok(3);
    let granted = Outcome::Renewed { sent, result };
    let late = MembershipInput::Done(before, granted);
    assert_eq!(process.handle(late), []);
    let late = MembershipInput::Done(before, answers(SeedAnswer::Myself, None));
    assert_eq!(process.handle(late), []);
}

#[test]
fn a_lease_opens_the_gate_once_the_regions_go_by_the_leaders_map() {
    let mut process = Process::member(config(), &[]);
    let (sent, until) = (process.now, process.now + lease().lease);
    process.followed = 8;
    let result = Ok(9);
    let granted = Outcome::Renewed { sent, result };
    assert_eq!(process.done(granted), [MembershipEffect::Heard(9)]);
    process.followed = 9;
    let open = [MembershipEffect::OpenGate(until)];
    assert_eq!(process.handle(MembershipInput::Map), open);
    // It is renewed three times as often as it ends.
    assert_eq!(process.tick_after(lease().lease / 3), [start(0, Renew)]);
    assert_eq!(process.tick_after(lease().lease), [], "one at a time");
}

#[test]
fn a_member_whose_leader_is_lost_goes_on_asking_for_a_lease() {
    let mut process = Process::member(config(), &[]);
    for _ in 0..3 {
        let (sent, result) = (process.now, unreachable());
        assert_eq!(process.done(Outcome::Renewed { sent, result }), []);
        let next = process.now + lease().lease / 3;
        assert_eq!(process.machine.deadline(), Some(next));
        assert_eq!(process.tick_after(lease().lease / 3), [start(0, Renew)]);
    }
}

/// `b` as the sole voter, and `a`. Its lease lasts from now on.
fn sole_voter() -> Process {
    let mut process = Process::member(config(), &[]);
    let seat = process.map.as_ref().unwrap().member(&b(1)).unwrap().seat;
    let place = VoterPlace {
        seat,
        address: address(2),
    };
    let voters = [(b(1), place)].into_iter().collect();
    process.change(&Command::Voters { voters });
    process.followed = 9;
    process
}

fn granted(sent: Instant) -> Outcome {
    let result = Ok(9);
    Outcome::Renewed { sent, result }
}

#[test]
fn a_sole_voter_that_stood_still_for_longer_than_its_lease_asks_the_others_first() {
    let ask_others = start(0, AskOthers(Asking::Renewal, vec!["127.0.0.1:1".into()]));
    let asks = [MembershipEffect::Heard(9), ask_others];
    let opens = |sent: Instant| MembershipEffect::OpenGate(sent + lease().lease);
    let mut process = sole_voter();
    let first = process.now;
    assert_eq!(
        process.done(granted(first)),
        asks,
        "it has had no lease yet"
    );
    let silent = Greeted {
        place: "seed".into(),
        at: None,
        answer: SeedAnswer::Unreachable,
        cluster: None,
    };
    let silence = Outcome::OthersAsked(Asking::Renewal, vec![silent.clone()]);
    assert_eq!(process.done(silence.clone()), [opens(first)]);
    // As long as it has a lease, nothing can have happened without it.
    assert_eq!(process.tick_after(lease().lease / 3), [start(0, Renew)]);
    let second = process.now;
    assert_eq!(
        process.done(granted(second)),
        [MembershipEffect::Heard(9), opens(second)]
    );
    assert_eq!(process.tick_after(lease().lease * 2), [start(0, Renew)]);
    let late = process.now;
    assert_eq!(process.done(granted(late)), asks);
    // The other is in a later generation, and says so when it refuses.
    let refused = Greeted {
        place: "seed".into(),
        at: None,
        answer: SeedAnswer::Cluster,
        cluster: None,
    };
    assert_eq!(
        process.done(Outcome::OthersAsked(Asking::Renewal, vec![silent, refused])),
        []
    );
    assert_eq!(process.done(silence), [], "nothing waits for this answer");
    assert_eq!(process.tick_after(lease().lease / 3), [start(0, Renew)]);
    assert_eq!(process.done(granted(process.now)), asks);
}

/// The member may have been promoted before this node took it for dead.
#[test]
fn a_sole_voter_asks_members_that_are_down_as_well() {
    let mut process = sole_voter();
    process.change(&Command::Down {
        member: member("a", 1),
    });
    let ask_others = start(0, AskOthers(Asking::Renewal, vec!["127.0.0.1:1".into()]));
    let asks = [MembershipEffect::Heard(9), ask_others];
    assert_eq!(process.done(granted(process.now)), asks);
}

#[test]
fn a_member_that_is_refused_a_lease_is_down() {
    let mut process = Process::member(config(), &[]);
    let (sent, result) = (process.now, Err(MapError::UnknownMember(b(1)).into()));
    let refused = Outcome::Renewed { sent, result };
    assert_eq!(process.done(refused.clone()), begins(2, 2));
    // A member that leaves needs no other incarnation.
    let mut process = Process::member(config(), &[]);
    assert_eq!(process.handle(MembershipInput::Leave), []);
    assert_eq!(process.done(refused), []);
    assert_eq!(process.machine.deadline(), None);
}

#[test]
fn a_member_that_leaves_renews_until_it_is_gone() {
    let mut process = Process::member(config(), &[]);
    process.handle(MembershipInput::Leave);
    let (sent, result) = (process.now, Ok(3));
    process.followed = 3;
    assert_eq!(
        process.done(Outcome::Renewed { sent, result }),
        [
            MembershipEffect::Heard(3),
            MembershipEffect::OpenGate(sent + lease().lease)
        ]
    );
    assert_eq!(process.tick_after(lease().lease / 3), [start(0, Renew)]);
}

#[test]
fn a_member_that_a_generation_has_left_behind_joins_that_one() {
    let mut process = Process::member(config(), &[]);
    let before = founded(4).identity;
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(7, 0),
            address(1)
        )),
        []
    );
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(8, 0),
            address(1)
        )),
        begins(2, 2)
    );
    let places = greet(2, &["seed", "127.0.0.1:1"]);
    assert_eq!(
        process.done(Outcome::Forgotten),
        std::slice::from_ref(&places)
    );
    // A process that is behind as well introduces an earlier one.
    let earlier = ClusterIdentity {
        generation: Generation::new(6, 0),
        ..before
    };
    let answer = |identity| {
        let answer = Greeted {
            place: "seed".into(),
            at: None,
            answer: SeedAnswer::Cluster,
            cluster: Some(introduction(identity)),
        };
        Outcome::Greeted(vec![answer.clone(), answer])
    };
    assert_eq!(process.done(answer(earlier)), []);
    assert_eq!(process.tick_after(BACKOFF), std::slice::from_ref(&places));
    // So does another cluster.
    let other = ClusterIdentity {
        uuid: uuid::Uuid::from_u128(2),
        generation: Generation::new(9, 0),
    };
    assert_eq!(process.done(answer(other)), []);
    assert_eq!(process.tick_after(2 * BACKOFF), [places]);
    let later = ClusterIdentity {
        generation: Generation::new(8, 0),
        ..before
    };
    assert_eq!(
        process.done(answer(later)),
        [MembershipEffect::Meet(introduction(later)), start(2, Join)]
    );
}

#[test]
fn a_generation_is_news_only_to_a_node_that_has_met_an_earlier_one() {
    let mut process = Process::seeking(config());
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(8, 0),
            address(1)
        )),
        []
    );
    let mut process = Process::joining(config());
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(7, 0),
            address(1)
        )),
        []
    );
    // The member that introduced the cluster was behind as well, and the join is never decided.
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(8, 0),
            address(1)
        )),
        begins(2, 2)
    );
    let mut process = Process::joining(config());
    // A kept seat is in a cluster. It is the seat that is gone.
    process.keeps_seat = true;
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(8, 0),
            address(1)
        )),
        begins(2, 2)
    );
}

#[test]
fn a_kept_seat_that_a_generation_has_left_behind_joins_also_where_a_member_stops() {
    let mut process = Process::joining(MembershipConfig {
        on_down: OnDown::Stop,
        ..config()
    });
    process.keeps_seat = true;
    process.handle(MembershipInput::Generation(
        Generation::new(8, 0),
        address(1),
    ));
    assert_eq!(
        process.done(Outcome::Forgotten),
        [greet(2, &["seed", "127.0.0.1:1"])]
    );
}

/// The nodes of a minority wait for a leader, hear that they are Down once the network heals, and
/// join from where the others were.
#[test]
fn a_minority_rejoins_when_it_hears_of_the_majority() {
    let mut process = Process::member(config(), &[member("c", 1)]);
    let (sent, result) = (process.now, unreachable());
    process.done(Outcome::Renewed { sent, result });
    process.dead = BTreeSet::from([member("a", 1), member("c", 1)]);
    for _ in 0..20 {
        let effects = process.tick_after(lease().lease);
        let renews = effects.is_empty() || effects == [start(0, Renew)];
        assert!(renews, "it decides nothing by itself: {effects:?}");
    }
    assert_eq!(process.handle(MembershipInput::Down(b(1))), begins(2, 2));
    let places = greet(2, &["seed", "127.0.0.1:1"]);
    assert_eq!(
        process.done(Outcome::Forgotten),
        std::slice::from_ref(&places)
    );
    // It is declared Down again, before it has a map: it knows the same places.
    process.done(answers(SeedAnswer::Unreachable, None));
    assert_eq!(process.handle(MembershipInput::Down(b(2))), begins(4, 3));
    assert_eq!(process.done(Outcome::Forgotten), []);
    let Some(MembershipEffect::Start(_, again)) = process.tick_after(BACKOFF).pop() else {
        panic!("it asks nobody");
    };
    assert_eq!(start(2, again), places);
}

#[test]
fn a_node_whose_engine_fails_is_as_good_as_dead() {
    let failed = JoinError::Engine {
        reason: "disk full".into(),
    };
    let effects = [
        MembershipEffect::EndSession,
        MembershipEffect::Abandon,
        MembershipEffect::SayGoodbye,
        MembershipEffect::Fail(failed.clone()),
    ];
    let input = || MembershipInput::EngineFailed(failed.clone());
    let mut process = Process::member(config(), &[]);
    assert_eq!(process.handle(input()), effects);
    assert_eq!(process.handle(input()), [], "it is said once");
    assert_eq!(process.handle(MembershipInput::Down(b(1))), []);
    let mut process = Process::member(config(), &[]);
    process.handle(MembershipInput::Leave);
    assert_eq!(process.handle(input()), effects);
}

/// It has lost a claim, and so decides no more: it begins anew once it hears of the winner.
#[test]
fn a_sole_voter_that_has_lost_a_claim_looks_for_the_next_generation() {
    let mut process = Process::member(config(), &[]);
    let places = ["127.0.0.1:1", "127.0.0.1:2", "seed"];
    let outclaimed = process.handle(MembershipInput::Outclaimed);
    assert_eq!(outclaimed, [greet(0, &places)]);
    let nothing = || Outcome::Greeted(vec![]);
    assert_eq!(process.done(nothing()), []);
    assert_eq!(process.tick_before(10 * BACKOFF), []);
    assert_eq!(process.tick_after(MS), [greet(0, &places)]);
    assert_eq!(
        process.handle(MembershipInput::Generation(
            Generation::new(8, 0),
            address(1)
        )),
        begins(2, 2)
    );
}

/// Anybody who can dial a node can claim a later generation.
#[test]
fn a_claim_of_a_later_generation_is_a_reason_to_ask_and_ends_nothing() {
    let mut process = Process::member(config(), &[]);
    let claim = |generation, address| {
        MembershipInput::GenerationClaimed(Generation::new(generation, 0), address)
    };
    let ask = |places: &[&str]| {
        let places = places.iter().map(|place| (*place).to_owned());
        start(0, AskOthers(Asking::Claim, places.collect()))
    };
    assert_eq!(process.handle(claim(7, None)), [], "its own");
    assert_eq!(
        process.handle(claim(8, Some(address(9)))),
        [ask(&["127.0.0.1:1", "127.0.0.1:9", "seed"])]
    );
    // Fifteen of them.
    for generation in 9..24 {
        assert_eq!(process.handle(claim(generation, Some(address(9)))), []);
    }
    let silent = Greeted {
        place: "seed".into(),
        at: None,
        answer: SeedAnswer::Unreachable,
        cluster: None,
    };
    let asked = Outcome::OthersAsked(Asking::Claim, vec![silent]);
    assert_eq!(process.done(asked), []);
    process.now += config().backoff_max;
    assert_eq!(
        process.handle(claim(9, None)),
        [ask(&["127.0.0.1:1", "seed"])]
    );
    // A process that is asked refuses this one by its generation.
    let confirmed = MembershipInput::Generation(Generation::new(9, 0), address(9));
    assert_eq!(process.handle(confirmed), begins(2, 2));
    // It may be that only the claimant is in that generation.
    let places = greet(2, &["seed", "127.0.0.1:1", "127.0.0.1:9"]);
    assert_eq!(process.done(Outcome::Forgotten), [places]);
}
