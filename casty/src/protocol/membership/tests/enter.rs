//! The way into a cluster.

use super::*;
use crate::id::{Seeker, SeekerState};

fn engine(reason: &str) -> MembershipEffect {
    let reason = reason.to_owned();
    MembershipEffect::Fail(JoinError::Engine { reason })
}

/// Nobody counts on a process that founds.
fn founds() -> [MembershipEffect; 2] {
    [MembershipEffect::TellSeekers(None), start(0, Found)]
}

fn seeker(n: u16, known: &[u16]) -> SeedAnswer {
    SeedAnswer::Seeker(Seeker {
        address: address(n),
        known: known.iter().map(|n| address(*n)).collect(),
        vote: None,
    })
}

fn waits(for_seed: SeedAnswer) -> MembershipEffect {
    MembershipEffect::Wait(vec![Greeted {
        place: "seed".into(),
        at: None,
        answer: for_seed,
        cluster: None,
    }])
}

#[test]
fn a_seeker_tells_whom_it_knows_and_asks_those_too() {
    let mut process = Process::seeking(config());
    let hears = |answers: &[SeedAnswer]| {
        let answers = answers.iter().map(|answer| Greeted {
            place: "seed".into(),
            at: None,
            answer: answer.clone(),
            cluster: None,
        });
        Outcome::Greeted(answers.collect())
    };
    // The seed knows one more.
    let first = seeker(3, &[2, 3, 4]);
    let greeted = hears(std::slice::from_ref(&first));
    assert_eq!(process.done(greeted), [waits(first)]);
    let all = greet(0, &["seed", "127.0.0.1:3", "127.0.0.1:4"]);
    assert_eq!(process.tick_after(BACKOFF), [all]);
    let seed = seeker(3, &[2, 3, 4]);
    let known = [2, 3, 4].map(address).into();
    assert_eq!(
        process.done(hears(&[seed.clone(), seed.clone(), seeker(4, &[])])),
        [MembershipEffect::TellSeekers(Some(SeekerState {
            known,
            vote: None
        }))]
    );
    process.tick_after(2 * BACKOFF);
    assert_eq!(
        process.done(hears(&[seed.clone(), seed, seeker(4, &[2, 3, 4])])),
        founds()
    );
}

#[test]
fn a_process_that_waits_names_whom_it_waits_for_at_first_and_every_ten_seconds() {
    let mut process = Process::seeking(config());
    let silent = || answers(SeedAnswer::Unreachable, None);
    let waits = waits(SeedAnswer::Unreachable);
    let (begun, mut said) = (process.now, Vec::new());
    while process.now < begun + 25_000 * MS {
        if process.done(silent()).contains(&waits) {
            said.push((process.now - begun).as_secs());
        }
        process.tick_after(10 * BACKOFF);
    }
    assert_eq!(said, [0, 10, 20]);
}

#[test]
fn a_seed_without_an_address_is_named_although_another_answers() {
    let mut process = Process::seeking(config());
    let unresolved = SeedAnswer::Unresolved("no such name".into());
    let waits = waits(unresolved.clone());
    let identity = founded(4).identity;
    let greeted = |answer, cluster| Greeted {
        place: "seed".into(),
        at: None,
        answer,
        cluster,
    };
    let cluster = greeted(SeedAnswer::Cluster, Some(introduction(identity)));
    let effects = process.done(Outcome::Greeted(vec![greeted(unresolved, None), cluster]));
    let meets = MembershipEffect::Meet(introduction(identity));
    assert_eq!(effects, [waits, meets, start(0, Join)]);
}

#[test]
fn a_node_without_seeds_founds_and_renews_its_lease() {
    let mut process = Process::starting(MembershipConfig {
        seeds: vec![],
        ..config()
    });
    assert_eq!(process.done(Outcome::Sat(Ok(vec![]))), [greet(0, &[])]);
    assert_eq!(process.done(Outcome::Greeted(vec![])), founds());
    assert_eq!(process.done(Outcome::Founded(Ok(()))), [start(0, Renew)]);
}

#[test]
fn a_node_whose_engine_cannot_start_is_never_a_member() {
    let failed = Err("disk full".to_owned());
    let effects = [MembershipEffect::EndSession, engine("disk full")];
    let mut process = Process::starting(config());
    assert_eq!(
        process.done(Outcome::Sat(failed.clone().map(|()| vec![]))),
        effects
    );
    let mut process = Process::seeking(config());
    let first = process.done(answers(SeedAnswer::Myself, None));
    assert_eq!(first, founds());
    assert_eq!(process.done(Outcome::Founded(failed)), effects);
    assert_eq!(process.tick_after(MAP_WITHIN), []);
}

#[test]
fn a_node_joins_through_a_seed_and_is_up_when_the_map_says_so() {
    let mut process = Process::seeking(config());
    let identity = founded(4).identity;
    assert_eq!(
        process.done(answers(SeedAnswer::Cluster, Some(identity))),
        [
            MembershipEffect::Meet(introduction(identity)),
            start(0, Join)
        ]
    );
    process.map = Some(Arc::new(founded(4)));
    assert_eq!(process.handle(MembershipInput::Map), []);
    let decided = process.done(Outcome::Decided(Ok(2)));
    assert_eq!(decided, [MembershipEffect::Heard(2)], "the map is behind");
    process.change(&Command::Join {
        member: b(1),
        address: address(2),
        catalog: vec![],
        lease: lease(),
        tie_breaker: false,
        since: Incarnation(1),
        seat: None,
        store: None,
        zone: None,
    });
    assert_eq!(process.handle(MembershipInput::Map), [start(0, Up)]);
    let decided = process.done(Outcome::Decided(Ok(3)));
    assert_eq!(decided, [MembershipEffect::Heard(3)]);
    process.change(&Command::Up { member: b(1) });
    assert_eq!(process.handle(MembershipInput::Map), [start(0, Renew)]);
}

#[test]
fn a_client_only_waits_for_a_map() {
    let mut process = Process::seeking(MembershipConfig {
        address: None,
        ..config()
    });
    let identity = founded(4).identity;
    assert_eq!(
        process.done(answers(SeedAnswer::Cluster, Some(identity))),
        [MembershipEffect::Meet(introduction(identity))]
    );
    process.map = Some(Arc::new(founded(4)));
    assert_eq!(process.handle(MembershipInput::Map), []);
    assert_eq!(
        process.machine.deadline(),
        None,
        "it waits for nothing more"
    );
}

#[test]
fn a_seed_that_refuses_for_good_ends_the_search() {
    let mut process = Process::seeking(config());
    let refused = JoinError::Refused {
        seed: "seed".into(),
        reason: "another cluster".into(),
    };
    assert_eq!(
        process.done(answers(SeedAnswer::Refused("another cluster".into()), None)),
        [
            MembershipEffect::EndSession,
            MembershipEffect::Fail(refused)
        ]
    );
}

#[test]
fn what_may_pass_is_tried_again_after_a_pause() {
    let mut process = Process::seeking(config());
    process.done(answers(SeedAnswer::Unreachable, None));
    assert_eq!(process.tick_before(BACKOFF), []);
    assert_eq!(process.tick_after(MS), [greet(0, &["seed"])]);
    // No leader.
    let mut process = Process::joining(config());
    assert_eq!(process.done(Outcome::Decided(unreachable())), []);
    assert_eq!(process.tick_after(BACKOFF), [greet(0, &["seed"])]);
    // Decided, and the map does not come.
    process.done(answers(SeedAnswer::Cluster, process.identity));
    process.done(Outcome::Decided(Ok(2)));
    assert_eq!(process.tick_after(MAP_WITHIN), []);
    assert_eq!(process.tick_before(2 * BACKOFF), [], "the pause grows");
    assert_eq!(process.tick_after(MS), [greet(0, &["seed"])]);
    // The leader does not reach it.
    let mut process = Process::joining(config());
    let not_reached = LeaderError::Refused(MapError::NotReached {
        member: b(1),
        address: address(2),
        reason: "refused".into(),
    });
    assert_eq!(process.done(Outcome::Decided(Err(not_reached))), []);
    assert_eq!(process.tick_after(BACKOFF), [greet(0, &["seed"])]);
}

#[test]
fn a_process_whose_name_is_taken_ends() {
    let mut process = Process::joining(config());
    let (member, by) = (b(1), address(9));
    let taken = LeaderError::Refused(MapError::NameTaken { member, by });
    assert_eq!(
        process.done(Outcome::Decided(Err(taken))),
        [
            MembershipEffect::EndSession,
            MembershipEffect::Fail(JoinError::NameTaken { by })
        ]
    );
}

#[test]
fn a_second_try_of_what_was_decided_is_no_failure() {
    let mut process = Process::joining(config());
    process.map = Some(Arc::new(cluster(&[b(1)])));
    let again = LeaderError::Refused(MapError::WrongStatus(b(1)));
    assert_eq!(
        process.done(Outcome::Decided(Err(again.clone()))),
        [start(0, Up)]
    );
    assert_eq!(
        process.done(Outcome::Decided(Err(again))),
        [start(0, Renew)]
    );
}

#[test]
fn a_kept_seat_is_taken_from_the_node_itself_or_where_its_voters_were() {
    let mut process = Process::starting(config());
    process.keeps_seat = true;
    let places = ["seed", "127.0.0.1:2", "127.0.0.1:1"];
    let voters = vec![address(2), address(1)];
    assert_eq!(process.done(Outcome::Sat(Ok(voters))), [greet(0, &places)]);
    let silent = |answer| Greeted {
        place: "seed".into(),
        at: None,
        answer,
        cluster: None,
    };
    // The node founds no cluster beside the cluster that it knows.
    let alone = [
        SeedAnswer::Unreachable,
        SeedAnswer::Kept,
        SeedAnswer::Unreachable,
    ];
    let alone = alone.into_iter().map(silent).collect();
    assert_eq!(process.done(Outcome::Greeted(alone)), [start(0, Join)]);
}

/// The others have decided without the seat for good: the node joins as if it had kept nothing,
/// also where a member that is Down stops.
#[test]
fn a_seat_that_is_refused_is_forgotten() {
    let mut process = Process::joining(MembershipConfig {
        on_down: OnDown::Stop,
        ..config()
    });
    (process.keeps_seat, process.clock) = (true, 50);
    let refused = Err(LeaderError::Refused(MapError::Seat(b(1))));
    assert_eq!(process.done(Outcome::Decided(refused)), begins(2, 50));
    assert_eq!(process.done(Outcome::Forgotten), [greet(2, &["seed"])]);
    // There is a cluster: none is founded.
    assert_eq!(process.done(answers(SeedAnswer::Myself, None)), []);
}

#[test]
fn a_refusal_that_concerns_the_settings_is_final() {
    let mut process = Process::joining(config());
    let refused = MapError::TieBreaker { ours: true };
    let error = JoinError::Refused {
        seed: "seed".into(),
        reason: refused.to_string(),
    };
    assert_eq!(
        process.done(Outcome::Decided(Err(refused.into()))),
        [MembershipEffect::EndSession, MembershipEffect::Fail(error)]
    );
}

#[test]
fn a_node_that_leaves_before_its_join_is_decided_joins_no_more() {
    let mut process = Process::joining(config());
    assert_eq!(process.handle(MembershipInput::Leave), []);
    assert_eq!(process.done(Outcome::Decided(Ok(2))), []);
    process.map = Some(Arc::new(cluster(&[b(1)])));
    assert_eq!(process.handle(MembershipInput::Map), []);
    assert_eq!(process.tick_after(MAP_WITHIN), []);
    assert_eq!(process.handle(MembershipInput::Down(b(1))), []);
}

/// It may own shards by now, and its entities need a lease to finish.
#[test]
fn a_node_that_leaves_before_it_knows_that_it_is_up_has_a_lease() {
    let mut process = Process::joining(config());
    process.done(Outcome::Decided(Ok(2)));
    process.map = Some(Arc::new(cluster(&[b(1)])));
    assert_eq!(process.handle(MembershipInput::Map), [start(0, Up)]);
    assert_eq!(process.handle(MembershipInput::Leave), [start(0, Renew)]);
    assert_eq!(process.done(Outcome::Decided(Ok(3))), []);
    let (sent, result) = (process.now, Ok(3));
    process.followed = 3;
    let renewed = process.done(Outcome::Renewed { sent, result });
    let open = MembershipEffect::OpenGate(sent + lease().lease);
    assert_eq!(renewed, [MembershipEffect::Heard(3), open]);
}

/// The leader may die before it answers. The member would look for a cluster that it is in.
#[test]
fn a_node_that_the_map_shows_up_is_a_member_without_an_answer() {
    let mut process = Process::joining(config());
    process.done(Outcome::Decided(Ok(2)));
    process.map = Some(Arc::new(cluster(&[b(1)])));
    assert_eq!(process.handle(MembershipInput::Map), [start(0, Up)]);
    let lost = process.done(Outcome::Decided(unreachable()));
    assert_eq!(lost, [start(0, Renew)]);
    // Or the map comes first.
    let mut process = Process::joining(config());
    process.done(Outcome::Decided(Ok(2)));
    process.map = Some(Arc::new(cluster(&[b(1)])));
    process.handle(MembershipInput::Map);
    assert_eq!(process.handle(MembershipInput::Map), [start(0, Renew)]);
    assert_eq!(process.done(Outcome::Decided(Ok(3))), []);
}

/// A process whose `Join` failed, and which asks its seed again.
fn asks_again() -> Process {
    let mut process = Process::joining(config());
    process.done(Outcome::Decided(unreachable()));
    assert_eq!(process.tick_after(BACKOFF), [greet(0, &["seed"])]);
    process
}

#[test]
fn a_process_that_was_about_to_join_a_cluster_that_is_gone_seeks_again() {
    let mut process = asks_again();
    let knows_none = seeker(1, &[]);
    let effects = process.done(answers(knows_none.clone(), None));
    let known = [1, 2].map(address).into();
    let told = Some(SeekerState { known, vote: None });
    assert_eq!(
        effects,
        [
            waits(knows_none),
            MembershipEffect::EndSession,
            MembershipEffect::Begin(b(2)),
            MembershipEffect::TellSeekers(told),
        ]
    );
    assert_eq!(
        process.tick_after(BACKOFF),
        [greet(2, &["seed", "127.0.0.1:1"])]
    );
    // Whatever cluster it meets next is as good as the first.
    let other = ClusterIdentity {
        uuid: uuid::Uuid::from_u128(9),
        ..founded(4).identity
    };
    let effects = process.done(answers(SeedAnswer::Cluster, Some(other)));
    let meets = MembershipEffect::Meet(introduction(other));
    assert_eq!(effects, [meets, start(2, Join)]);
}

#[test]
fn a_process_that_was_about_to_join_a_cluster_waits_while_its_seeds_are_silent() {
    let mut process = asks_again();
    let effects = process.done(answers(SeedAnswer::Unreachable, None));
    assert_eq!(effects, [waits(SeedAnswer::Unreachable)]);
}

#[test]
fn a_process_that_was_about_to_join_a_cluster_joins_the_next_of_its_name() {
    let mut process = asks_again();
    let refused = || answers(SeedAnswer::Refused("another cluster".into()), None);
    let effects = process.done(refused());
    assert_eq!(effects[..2], begins(2, 2)[..2]);
    process.tick_after(10 * BACKOFF);
    // By now it knows no cluster, and the refusal is meant for itself.
    let effects = process.done(refused());
    let seed = "seed".to_owned();
    let reason = "another cluster".to_owned();
    let fails = MembershipEffect::Fail(JoinError::Refused { seed, reason });
    assert_eq!(effects.last(), Some(&fails));
}

#[test]
fn a_member_that_lost_its_cluster_never_forgets_it() {
    let mut process = Process::member(config(), &[]);
    process.handle(MembershipInput::Down(b(1)));
    process.done(Outcome::Forgotten);
    let effects = process.done(answers(seeker(1, &[]), None));
    assert!(
        !effects.contains(&MembershipEffect::EndSession),
        "{effects:?}"
    );
}
