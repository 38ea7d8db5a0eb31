//! Going on without the leader.

use super::*;

fn tie_config() -> MembershipConfig {
    MembershipConfig {
        has_tie_breaker: true,
        ..config()
    }
}

fn a() -> MemberId {
    member("a", 1)
}

fn reply(result: Result<(), &str>) -> MembershipEffect {
    MembershipEffect::Reply(CommandId(9), result.map_err(ToOwned::to_owned))
}

/// A generation of this number that `b` has begun.
fn later(number: u32) -> ClusterIdentity {
    ClusterIdentity {
        generation: Generation::new(number, 2),
        ..founded(4).identity
    }
}

fn claim(session: u64) -> MembershipEffect {
    start(session, Claim(founded(4).identity, a()))
}

fn lost_leader(process: &mut Process) {
    let (sent, result) = (process.now, unreachable());
    process.done(Outcome::Renewed { sent, result });
    process.dead.insert(a());
}

/// The second of two, whose session has just ended because the first seems lost.
fn waiting() -> Process {
    let mut process = Process::member(tie_config(), &[]);
    lost_leader(&mut process);
    assert_eq!(process.handle(MembershipInput::Tick), []);
    let ended = process.tick_after(lease().lease / 2);
    assert_eq!(ended, [MembershipEffect::EndSession]);
    let places = ["seed", "127.0.0.1:1", "127.0.0.1:2"];
    let looks = process.handle(MembershipInput::Tick);
    assert_eq!(looks, [greet(1, &places)]);
    process
}

/// The rival can serve no more.
fn claiming() -> Process {
    let mut process = waiting();
    assert_eq!(process.tick_before(lease().guard * 2), []);
    assert_eq!(process.tick_after(MS), [claim(1)]);
    process
}

#[test]
fn the_second_of_two_waits_while_it_serves_or_the_first_lives() {
    let mut process = Process::member(tie_config(), &[]);
    lost_leader(&mut process);
    process.serves = true;
    for _ in 0..5 {
        let effects = process.tick_after(lease().lease);
        assert!(!effects.contains(&MembershipEffect::EndSession));
    }
    process.serves = false;
    process.tick_after(LOOK_EVERY);
    process.dead.clear();
    process.tick_after(lease().lease / 2);
    process.dead.insert(a());
    assert_eq!(process.tick_after(LOOK_EVERY), [], "anew");
    assert_ne!(process.tick_after(lease().lease / 2), []);
}

#[test]
fn a_tie_that_is_won_begins_the_next_generation() {
    let mut process = claiming();
    process.clock = 8_500;
    let map = process.map.clone().unwrap();
    assert_eq!(
        process.done(Outcome::Claimed(Ok(Verdict::Won))),
        [
            MembershipEffect::Begin(b(8_500)),
            start(2, FoundGeneration(later(8), map))
        ]
    );
    // Members of the last generation are told, until they have joined.
    assert_eq!(
        process.done(Outcome::Founded(Ok(()))),
        [start(2, Renew), greet(2, &["seed", "127.0.0.1:1"])]
    );
    let (sent, result) = (process.now, unreachable());
    process.done(Outcome::Renewed { sent, result });
    // The seed is in the new generation already.
    process.identity = Some(later(8));
    let unreachable = Greeted {
        place: "127.0.0.1:1".into(),
        at: None,
        answer: SeedAnswer::Unreachable,
        cluster: None,
    };
    let joined = Greeted {
        place: "seed".into(),
        at: None,
        answer: SeedAnswer::Cluster,
        cluster: Some(introduction(later(8))),
    };
    process.done(Outcome::Greeted(vec![joined, unreachable]));
    assert_eq!(
        process.tick_after(10 * BACKOFF),
        [greet(2, &["127.0.0.1:1"])]
    );
    process.done(Outcome::Greeted(vec![]));
    process.map = Some(Arc::new(founded(4)));
    process.machine.renewal = Renewal::Off;
    assert_eq!(process.tick_after(10 * BACKOFF), [], "`a` is a member");
}

#[test]
fn a_generation_is_later_than_the_last_whatever_the_clock_says() {
    let mut process = claiming();
    process.clock = 3_000_000;
    let map = process.map.clone().unwrap();
    let effects = process.done(Outcome::Claimed(Ok(Verdict::Won)));
    let by_clock = start(2, FoundGeneration(later(3_000), map.clone()));
    assert_eq!(effects[1..], [by_clock]);
    let mut process = claiming();
    let effects = process.done(Outcome::Claimed(Ok(Verdict::Won)));
    assert_eq!(effects[1..], [start(2, FoundGeneration(later(8), map))]);
}

#[test]
fn a_tie_that_is_lost_has_the_node_join_as_another() {
    let mut process = claiming();
    let [_, begin, forget] = begins(2, 2);
    let lost = process.done(Outcome::Claimed(Ok(Verdict::Lost)));
    assert_eq!(lost, [begin, forget]);
    let places = ["seed", "127.0.0.1:1"];
    assert_eq!(process.done(Outcome::Forgotten), [greet(2, &places)]);
}

#[test]
fn a_tie_breaker_that_cannot_be_asked_is_asked_again_and_decides_nothing() {
    let mut process = claiming();
    let mut pause = BACKOFF;
    for _ in 0..6 {
        let failed = Err(TieError::Timeout { after: MS });
        assert_eq!(process.done(Outcome::Claimed(failed)), []);
        assert_eq!(process.tick_before(pause), []);
        assert_eq!(process.tick_after(MS), [claim(1)]);
        pause = (pause * 2).min(10 * BACKOFF);
    }
}

#[test]
fn a_rival_that_answers_has_the_node_join_as_another() {
    let identity = founded(4).identity;
    let [_, begin, forget] = begins(2, 2);
    let mut process = waiting();
    let nobody = Outcome::Greeted(vec![Greeted {
        place: "seed".into(),
        at: None,
        answer: SeedAnswer::Unreachable,
        cluster: None,
    }]);
    assert_eq!(process.done(nobody), []);
    let places = ["seed", "127.0.0.1:1", "127.0.0.1:2"];
    assert_eq!(process.tick_after(BACKOFF), [greet(1, &places)]);
    let reached = process.done(answers(SeedAnswer::Cluster, Some(identity)));
    assert_eq!(reached, [begin.clone(), forget.clone()]);
    // Or whatever knows of a later generation, or that this node is Down.
    for known in [Some(later(8)), None] {
        let mut process = waiting();
        let mut answer = answers(SeedAnswer::Cluster, known);
        if let Outcome::Greeted(places) = &mut answer
            && let Some(cluster) = &mut places[0].cluster
        {
            cluster.by = member("c", 1);
        }
        assert_eq!(process.done(answer), [begin.clone(), forget.clone()]);
    }
}

#[test]
fn a_rival_of_another_cluster_is_not_reached() {
    let mut process = waiting();
    let other = ClusterIdentity {
        uuid: uuid::Uuid::from_u128(2),
        generation: Generation::new(9, 0),
    };
    assert_eq!(process.done(answers(SeedAnswer::Cluster, Some(other))), []);
    // Nor is a member of this generation that is not the rival.
    let mut answer = answers(SeedAnswer::Cluster, Some(founded(4).identity));
    if let Outcome::Greeted(places) = &mut answer {
        places[0].cluster.as_mut().unwrap().by = member("c", 1);
    }
    process.tick_after(BACKOFF);
    assert_eq!(process.done(answer), []);
}

/// What the node has reported is not newer than the map that it looks at after the end of its
/// session: by then a third member may have joined.
#[test]
fn the_second_of_two_claims_only_by_the_map_it_has_after_its_session_has_ended() {
    let mut process = Process::member(tie_config(), &[]);
    lost_leader(&mut process);
    process.handle(MembershipInput::Tick);
    let ended = process.tick_after(lease().lease / 2);
    assert_eq!(ended, [MembershipEffect::EndSession]);
    process.map = Some(Arc::new(cluster(&[b(1), member("c", 1)])));
    let [_, begin, forget] = begins(2, 2);
    assert_eq!(process.handle(MembershipInput::Tick), [begin, forget]);
}

#[test]
fn an_operator_can_decide_for_the_node_that_waits() {
    let mut process = waiting();
    let waits = "it waits until the tie-breaker says which of the two goes on";
    assert_eq!(process.recover(false), [reply(Err(waits))]);
    assert_eq!(process.recover(true), [reply(Ok(()))]);
    // Not before the rival can serve no more, and whatever is heard meanwhile.
    assert_eq!(process.done(answers(SeedAnswer::Cluster, None)), []);
    assert_eq!(process.tick_before(lease().guard * 2), []);
    let map = process.map.clone().unwrap();
    assert_eq!(
        process.tick_after(MS),
        [
            MembershipEffect::Begin(b(2)),
            start(2, FoundGeneration(later(8), map))
        ]
    );
}

#[test]
fn a_node_that_leaves_waits_for_no_verdict() {
    let mut process = claiming();
    assert_eq!(process.handle(MembershipInput::Leave), []);
    assert_eq!(process.done(Outcome::Claimed(Ok(Verdict::Won))), []);
    assert_eq!(process.tick_after(MAP_WITHIN), []);
}

/// A recovery may begin: the next generation is announced to the others.
fn announces(generation: u32) -> [MembershipEffect; 3] {
    [
        MembershipEffect::Begin(b(2)),
        MembershipEffect::Announce(later(generation)),
        greet(2, &["127.0.0.1:1"]),
    ]
}

#[test]
fn a_recovery_waits_for_all_leases_of_the_last_generation() {
    let mut process = Process::member(config(), &[]);
    lost_leader(&mut process);
    assert_eq!(process.recover(false), [start(0, AskLeader)]);
    assert_eq!(
        process.done(Outcome::HasLeader(false)),
        [MembershipEffect::EndSession, reply(Ok(()))]
    );
    let map = process.map.clone().unwrap();
    assert_eq!(process.tick_after(BACKOFF), announces(8));
    let about = "it is about to go on";
    process.map = Some(map.clone());
    assert_eq!(process.recover(true), [reply(Err(about))]);
    process.map = None;
    // A member of the last generation that is silent now learns of it when it asks.
    assert_eq!(process.done(answers(SeedAnswer::Unreachable, None)), []);
    assert_eq!(process.tick_before(lease().guard), []);
    let founds = start(2, FoundGeneration(later(8), map));
    assert_eq!(process.tick_after(MS), [founds]);
    assert_eq!(
        process.done(Outcome::Founded(Ok(()))),
        [start(2, Renew), greet(2, &["seed", "127.0.0.1:1"])]
    );
}

#[test]
fn a_cluster_with_a_leader_is_not_recovered() {
    let mut process = Process::member(config(), &[]);
    let renewed = process.recover(true);
    assert_eq!(renewed, [start(0, AskLeader)]);
    let leader = "the cluster has a leader: there is nothing to recover from";
    assert_eq!(process.done(Outcome::HasLeader(true)), [reply(Err(leader))]);
}

#[test]
fn a_recovery_beside_a_member_that_seems_alive_has_to_be_forced() {
    let mut process = Process::member(config(), &[]);
    process.recover(false);
    let alive = "`a#1` seems alive: let more of the cluster come back; if the majority is lost for \
                 good, `casty recover --force` goes on all the same, and `a#1` joins as a new member";
    assert_eq!(process.done(Outcome::HasLeader(false)), [reply(Err(alive))]);
    process.recover(true);
    assert_eq!(process.done(Outcome::HasLeader(false)), [asks_survivors()]);
    assert_eq!(
        process.done(survivor(SeedAnswer::Unreachable)),
        [MembershipEffect::EndSession, reply(Ok(()))]
    );
}

fn asks_survivors() -> MembershipEffect {
    start(0, AskOthers(Asking::Recovery, vec!["127.0.0.1:1".into()]))
}

fn survivor(answer: SeedAnswer) -> Outcome {
    let cluster = None;
    Outcome::OthersAsked(
        Asking::Recovery,
        vec![Greeted {
            place: "seed".into(),
            at: None,
            answer,
            cluster,
        }],
    )
}

#[test]
fn a_forced_recovery_does_not_begin_beside_one_that_another_member_has_begun() {
    let mut process = Process::member(config(), &[]);
    process.recover(true);
    assert_eq!(process.done(Outcome::HasLeader(false)), [asks_survivors()]);
    let reason = "another member has begun a new generation, which this node is to join";
    assert_eq!(
        process.done(survivor(SeedAnswer::Cluster)),
        [reply(Err(reason))]
    );
}

/// `b`, as it waits to begin generation 8.
fn recovering() -> Process {
    let mut process = Process::member(config(), &[]);
    process.recover(true);
    process.done(Outcome::HasLeader(false));
    process.done(survivor(SeedAnswer::Unreachable));
    assert_eq!(process.tick_after(BACKOFF), announces(8));
    process.identity = Some(later(8));
    process
}

#[test]
fn of_two_that_recover_at_once_the_lesser_generation_gives_way() {
    let by = |founder| MembershipInput::Generation(Generation::new(8, founder), address(1));
    let mut process = recovering();
    assert_eq!(process.handle(by(1)), [], "the other gives way");
    assert_eq!(process.handle(by(3)), begins(4, 3));
    // Also if it is founding by then.
    let mut process = recovering();
    process.tick_after(lease().guard);
    assert_eq!(process.handle(by(3)), begins(4, 3));
    let mut process = recovering();
    process.tick_after(lease().guard);
    process.done(Outcome::Founded(Ok(())));
    assert_eq!(process.handle(by(1)), []);
    assert_eq!(process.handle(by(3)), begins(4, 3));
}

#[test]
fn a_recovery_in_a_cluster_with_a_tie_breaker_claims_first() {
    let lost = "the tie-breaker has decided for `a#1`";
    let failed = TieError::Timeout { after: MS };
    let silent = failed.to_string();
    let verdicts = [
        (Ok(Verdict::Lost), vec![reply(Err(lost))]),
        (Err(failed), vec![reply(Err(&silent))]),
        (
            Ok(Verdict::Won),
            vec![MembershipEffect::EndSession, reply(Ok(()))],
        ),
    ];
    for (verdict, effects) in verdicts {
        let mut process = Process::member(tie_config(), &[]);
        lost_leader(&mut process);
        process.recover(false);
        assert_eq!(process.done(Outcome::HasLeader(false)), [claim(0)]);
        assert_eq!(process.done(Outcome::Claimed(verdict)), effects);
    }
}

/// The sole voter claims against each member that could claim against it.
#[test]
fn a_sole_voter_recovers_only_against_all_others() {
    let mut process = Process::member(tie_config(), &[member("c", 1)]);
    let mut map = cluster(&[b(1), member("c", 1)]);
    map.voters = std::iter::once((b(1), map.voters.pop_first().unwrap().1)).collect();
    process.map = Some(Arc::new(map));
    process.dead = BTreeSet::from([a(), member("c", 1)]);
    process.recover(false);
    assert_eq!(process.done(Outcome::HasLeader(false)), [claim(0)]);
    let next = start(0, Claim(founded(4).identity, member("c", 1)));
    assert_eq!(process.done(Outcome::Claimed(Ok(Verdict::Won))), [next]);
    assert_eq!(
        process.done(Outcome::Claimed(Ok(Verdict::Won))),
        [MembershipEffect::EndSession, reply(Ok(()))]
    );
    // There all leases are waited for twice as long.
    process.tick_after(BACKOFF);
    assert_eq!(process.tick_before(lease().guard * 2), []);
    assert_ne!(process.tick_after(MS), []);
}

#[test]
fn a_recovery_needs_a_map_and_a_member() {
    let nothing = reply(Err("it knows no cluster"));
    let none = reply(Err("it is no member"));
    let mut process = Process::seeking(config());
    assert_eq!(process.recover(true), [nothing]);
    // A kept seat comes with a map: an operator may have it go on from there.
    process.map = Some(Arc::new(cluster(&[b(1)])));
    assert_eq!(process.recover(true), [start(0, AskLeader)]);
    let again = reply(Err("another recovery is under way"));
    assert_eq!(process.recover(true), [again]);
    let leaves = reply(Err("it is leaving"));
    let left = process.handle(MembershipInput::Leave);
    assert_eq!(left, [leaves, start(0, Renew)], "the map has it");
    assert_eq!(process.recover(true), std::slice::from_ref(&none));
    let mut process = Process::member(config(), &[]);
    let failed = JoinError::ShutDown;
    process.handle(MembershipInput::EngineFailed(failed));
    assert_eq!(process.recover(true), std::slice::from_ref(&none));
    let mut client = Process::seeking(MembershipConfig {
        address: None,
        ..config()
    });
    client.map = Some(Arc::new(cluster(&[b(1)])));
    assert_eq!(client.recover(true), [none]);
}

#[test]
fn a_member_that_is_down_meanwhile_is_not_recovered() {
    let mut process = Process::member(config(), &[]);
    lost_leader(&mut process);
    process.recover(false);
    let [end, begin, forget] = begins(2, 2);
    let anew = reply(Err("it is about to join anew"));
    let effects = process.handle(MembershipInput::Down(b(1)));
    assert_eq!(effects, [anew, end, begin, forget]);
    assert_eq!(process.done(Outcome::HasLeader(false)), []);
}

fn prefers() -> Process {
    let mut process = Process::member(
        MembershipConfig {
            availability: Availability::Prefer,
            ..config()
        },
        &[],
    );
    lost_leader(&mut process);
    // Its renewals are not what is looked at here.
    process.machine.renewal = Renewal::Off;
    process
}

#[test]
fn the_survivor_of_two_goes_on_by_itself_if_it_was_told_to() {
    let mut process = prefers();
    assert_eq!(process.handle(MembershipInput::Tick), []);
    assert_eq!(process.tick_before(lease().guard), []);
    assert_eq!(process.tick_after(LOOK_EVERY), [start(0, AskLeader)]);
    // An operator need not wait for that.
    assert_eq!(process.recover(false), [start(0, AskLeader)]);
    assert_eq!(
        process.done(Outcome::HasLeader(false)),
        [MembershipEffect::EndSession, reply(Ok(()))]
    );
}

#[test]
fn a_survivor_of_two_that_serves_or_is_not_alone_does_not_go_on() {
    let spoil: [fn(&mut Process); 3] = [
        |process| process.serves = true,
        |process| process.dead.clear(),
        |process| process.map = Some(Arc::new(cluster(&[b(1), member("c", 1)]))),
    ];
    for spoil in spoil {
        let mut process = prefers();
        process.handle(MembershipInput::Tick);
        let alone = process.map.clone();
        spoil(&mut process);
        assert_eq!(process.tick_after(lease().guard), []);
        (process.map, process.serves) = (alone, false);
        process.dead.insert(a());
        assert_eq!(process.tick_after(LOOK_EVERY), [], "anew");
        assert_eq!(process.tick_after(lease().guard), [start(0, AskLeader)]);
    }
}

#[test]
fn members_of_the_last_generation_are_not_greeted_for_ever() {
    let mut process = claiming();
    process.done(Outcome::Claimed(Ok(Verdict::Won)));
    process.done(Outcome::Founded(Ok(())));
    process.machine.renewal = Renewal::Off;
    let mut rounds = 1;
    loop {
        process.done(Outcome::Greeted(vec![]));
        match process.tick_after(10 * BACKOFF).as_slice() {
            [] => break,
            round => assert_eq!(round, [greet(2, &["seed", "127.0.0.1:1"])]),
        }
        rounds += 1;
    }
    assert_eq!(rounds, TELLINGS_MAX);
}

/// The generation that it was to join is gone.
#[test]
fn a_node_that_has_left_its_generation_goes_on_from_its_last_map_and_later_than_all_it_heard_of() {
    let mut process = Process::member(config(), &[]);
    let map = process.map.clone().unwrap();
    let gone = Generation::new(40, 1);
    assert_eq!(
        process.handle(MembershipInput::Generation(gone, address(1))),
        begins(2, 2)
    );
    process.done(Outcome::Forgotten);
    assert_eq!(process.recover(true), [start(2, AskLeader)]);
    process.done(Outcome::HasLeader(false));
    process.done(survivor(SeedAnswer::Unreachable));
    process.tick_after(BACKOFF);
    let founds = start(4, FoundGeneration(later(41), map));
    assert_eq!(process.tick_after(lease().guard), [founds]);
}
