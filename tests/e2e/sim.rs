//! Clusters in simulated time.

use std::{collections::BTreeMap, sync::Mutex};

use casty::{
    Settings,
    error::JoinError,
    member::{Availability, MemberInfo, MemberStatus},
    prelude::*,
    testkit::{Conditions, Sim, SimTask, true_time},
};
use casty_tests::Counter;

const NODES: [&str; 3] = ["a", "b", "c"];

fn cluster(seed: u64) -> Sim {
    casty_tests::log();
    let mut sim = Sim::new(seed);
    for name in NODES {
        sim.start_with(name, |builder| builder.strict_wire(false));
    }
    sim.until_up(NODES.len());
    sim
}

/// What witnesses recorded: node, true time and message. For each test, by its number.
type Seen = BTreeMap<u64, Vec<(String, Duration, u64)>>;

static SEEN: Mutex<Seen> = Mutex::new(BTreeMap::new());

fn seen(test: u64) -> Vec<(String, Duration, u64)> {
    SEEN.lock().unwrap().remove(&test).unwrap_or_default()
}

/// The numbers of the handled messages.
fn numbers(seen: &[(String, Duration, u64)]) -> Vec<u64> {
    seen.iter().map(|(_, _, number)| *number).collect()
}

/// Records what it handles, outside of the simulation.
#[derive(Default)]
struct Witness;

#[entity(shards = 20)]
impl Witness {
    #[message]
    fn see(&mut self, test: u64, number: u64, ctx: &mut Context<Self>) {
        let now = true_time().expect("this runs in a simulation");
        let mut seen = SEEN.lock().unwrap();
        let seen = seen.entry(test).or_default();
        seen.push((ctx.node_id().to_string(), now, number));
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// A witness that lives on a node.
fn witness(sim: &mut Sim, node: &'static str) -> String {
    sim.on(NODES[0], move |system| async move {
        for n in 0.. {
            let id = format!("w{n}");
            if system.entity::<Witness>(&id).node().await.as_deref() == Ok(node) {
                return id;
            }
        }
        unreachable!("one of them lives there")
    })
}

/// Has a node send a tell to a witness.
fn tell(sim: &mut Sim, node: &str, witness: &str, test: u64, number: u64) {
    let witness = witness.to_owned();
    let told = sim.on(node, move |system| async move {
        let witness = system.entity::<Witness>(witness);
        witness.see(test, number).tell().await
    });
    assert!(told.is_ok(), "{number}: {told:?}");
}

/// When, in true time, a timer of a node fires, and how much time has passed on the node by then.
fn timer(sim: &mut Sim, node: &str, after: Duration) -> SimTask<(Duration, Duration)> {
    sim.spawn_on(node, move |_| async move {
        let begun = tokio::time::Instant::now();
        tokio::time::sleep(after).await;
        let now = true_time().expect("this runs in a simulation");
        (now, begun.elapsed())
    })
}

fn about(time: Duration, expected: Duration) -> bool {
    time.abs_diff(expected) <= Duration::from_millis(3)
}

async fn add(system: ActorSystem, id: String) -> Result<i64, AskError> {
    system.entity::<Counter>(id).add(1).await
}

/// The homes of some entities, as one node sees them.
fn homes(sim: &mut Sim, asked: &str, count: usize) -> BTreeMap<String, String> {
    sim.on(asked, move |system| async move {
        let mut homes = BTreeMap::new();
        for n in 0..count {
            let id = format!("c{n}");
            let home = system.entity::<Counter>(&id).node().await.unwrap();
            homes.insert(id, home);
        }
        homes
    })
}

/// An entity that lives on a node.
fn on(homes: &BTreeMap<String, String>, node: &str) -> String {
    let found = homes.iter().find(|(_, home)| *home == node);
    found.map(|(id, _)| id.clone()).expect("one lives there")
}

#[test]
fn every_node_reaches_every_entity() {
    let mut sim = cluster(1);
    for (round, name) in (1..).zip(NODES) {
        for n in 0..20 {
            let counted = sim.on(name, move |system| add(system, format!("c{n}")));
            assert_eq!(counted, Ok(round));
        }
    }
    let homes = homes(&mut sim, "b", 20);
    let used: std::collections::BTreeSet<_> = homes.values().collect();
    assert_eq!(used.len(), 3, "{homes:?}");
}

/// A run with a bit of everything.
fn eventful(seed: u64) -> (u64, String) {
    let mut sim = cluster(seed);
    sim.clock_rate("a", 1.3);
    sim.clock_rate("b", 0.7);
    for n in 0..30 {
        let node = NODES[n % 3];
        drop(sim.spawn_on(node, move |system| add(system, format!("c{}", n % 7))));
        sim.run_for(Duration::from_millis(3));
    }
    sim.partition("b", "c");
    sim.run_for(Duration::from_secs(2));
    sim.heal();
    sim.pause("b");
    sim.run_for(Duration::from_millis(600));
    sim.resume("b");
    sim.clock_jump("b", Duration::from_millis(100));
    sim.crash("c");
    sim.run_for(Duration::from_secs(3));
    sim.restart("c");
    sim.run_for(Duration::from_secs(10));
    for n in 0..5 {
        let _ = sim.on("a", move |system| add(system, format!("c{n}")));
    }
    let shut = sim.on("b", |system| async move { system.shutdown().await });
    let trace = format!("{shut:?}\n{}", sim.trace());
    (sim.trace_hash(), trace)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_another() {
    let (first, second) = (eventful(3), eventful(3));
    assert_eq!(first.1, second.1);
    assert_eq!(first.0, second.0, "the traces look alike");
    assert_ne!(first.0, eventful(4).0);
}

#[test]
fn a_partition_is_told_and_heals() {
    let mut sim = cluster(5);
    let homes = homes(&mut sim, "a", 20);
    let there = on(&homes, "c");
    sim.partition("b", "c");
    let id = there.clone();
    let cut = sim.on("b", move |system| add(system, id));
    assert!(
        matches!(
            cut,
            Err(AskError::Timeout { .. } | AskError::Unreachable { .. })
        ),
        "{cut:?}"
    );
    // Other links are not affected.
    let id = there.clone();
    assert!(sim.on("a", move |system| add(system, id)).is_ok());
    sim.heal();
    sim.until("it is reached again", move |sim| {
        let id = there.clone();
        sim.on("b", move |system| add(system, id)).is_ok()
    });
}

#[test]
fn what_is_stalled_comes_late_and_in_order() {
    let mut sim = cluster(6);
    let homes = homes(&mut sim, "a", 20);
    let id = on(&homes, "c");
    sim.stall("b", "c");
    let told = id.clone();
    let telling = sim.spawn_on("b", move |system| async move {
        let counter = system.entity::<Counter>(told);
        let mut answers = Vec::new();
        for _ in 0..3 {
            let asked = counter.add(1).timeout(Duration::from_secs(30));
            answers.push(asked.into_future());
        }
        futures_util::future::join_all(answers).await
    });
    // Shorter than any timeout.
    sim.run_for(Duration::from_millis(500));
    assert!(!telling.is_done());
    sim.heal();
    sim.until("the answers", |_| telling.is_done());
    assert_eq!(telling.take(), Some(vec![Ok(1), Ok(2), Ok(3)]));
}

#[test]
fn a_restarted_node_is_a_new_member() {
    let mut sim = cluster(8);
    sim.crash("c");
    sim.run_for(Duration::from_secs(5));
    sim.restart("c");
    sim.until_up(3);
    let members = sim.on("a", |system| async move { system.members() });
    let incarnations: Vec<_> = members
        .iter()
        .filter(|member| member.id.node.as_str() == "c")
        .map(|member| member.id.incarnation.0)
        .collect();
    assert!(incarnations.contains(&2000), "{members:?}");
}

#[test]
fn a_restarted_node_waits_until_it_is_up_itself() {
    for seed in 40..45 {
        let mut sim = cluster(seed);
        sim.crash("c");
        // The others still have its last process Up.
        sim.restart("c");
        let seen = sim.on("c", |system| async move {
            system.wait_for(3).await.map(|()| system.members())
        });
        let seen = seen.expect("it joins");
        let itself = |member: &&MemberInfo| member.id.to_string() == "c#2000";
        let status = seen.iter().find(itself).map(|member| member.status);
        assert_eq!(status, Some(MemberStatus::Up), "seed {seed}: {seen:?}");
    }
}

#[test]
fn a_node_is_ready_while_it_holds_a_lease() {
    let mut sim = cluster(46);
    let is_ready = |sim: &mut Sim| sim.on("c", |system| async move { system.is_ready() });
    let ready = |sim: &mut Sim| sim.on("c", |system| async move { system.ready().await });
    assert_eq!(ready(&mut sim), Ok(()));
    assert!(is_ready(&mut sim));
    sim.isolate("c");
    // It is Up in its own map for as long as it hears nothing.
    sim.run_for(Settings::default().lease * 2);
    assert!(!is_ready(&mut sim));
    assert_eq!(
        sim.on("c", |system| async move { system.wait_for(3).await }),
        Ok(())
    );
    sim.heal();
    assert_eq!(ready(&mut sim), Ok(()));
    assert!(is_ready(&mut sim));
    let shut = sim.on("c", |system| async move {
        let waiting = system.clone();
        let (shut, ready) = tokio::join!(system.shutdown(), async move {
            tokio::task::yield_now().await;
            (waiting.is_ready(), waiting.ready().await)
        });
        shut.map(|()| ready)
    });
    assert_eq!(shut, Ok((false, Err(JoinError::ShutDown))));
}

/// A broken connection is noticed only after its keepalive, and a node is not dead for that.
fn members(sim: &mut Sim, node: &str) -> Vec<(String, MemberStatus)> {
    let members = sim.on(node, |system| async move { system.members() });
    let members = members.iter();
    members
        .map(|member| (member.id.to_string(), member.status))
        .collect()
}

#[test]
fn a_node_that_announces_anothers_name_is_refused_and_changes_nothing() {
    for seed in 20..24 {
        let mut sim = cluster(seed);
        sim.run_for(Duration::from_secs(1));
        let before = members(&mut sim, "a");
        sim.start("d");
        sim.certify_as("d", "mallory");
        let joined = sim.on("d", |system| async move { system.wait_for(1).await });
        let Err(JoinError::Refused { reason, .. }) = joined else {
            panic!("seed {seed}: {joined:?}");
        };
        assert_eq!(
            reason,
            "the dialer announced itself as `d`, but its certificate says `mallory`"
        );
        sim.run_for(Duration::from_secs(1));
        assert_eq!(members(&mut sim, "a"), before, "seed {seed}");
    }
}

#[test]
fn a_process_that_took_over_a_members_address_gets_none_of_its_messages() {
    for seed in 30..33 {
        let mut sim = cluster(seed);
        let there = witness(&mut sim, "c");
        sim.crash("c");
        sim.certify_as("c", "mallory");
        sim.restart("c");
        // A new connection, since a handshake needs both directions.
        sim.run_for(Duration::from_millis(100));
        let id = there.clone();
        let asked = sim.on("a", move |system| async move {
            system.entity::<Witness>(id).see(seed, 1).await
        });
        let Err(AskError::Unreachable { reason, .. }) = &asked else {
            panic!("seed {seed}: {asked:?}");
        };
        assert_eq!(
            reason,
            "expected node `c` there, but its certificate says `mallory`"
        );
        // Longer than a message is under way, and shorter than any timeout.
        sim.until("`c` is gone", |sim| {
            members(sim, "a")
                .iter()
                .all(|(id, status)| !id.starts_with("c#") || *status == MemberStatus::Down)
        });
        sim.run_for(Duration::from_secs(5));
        let up = members(&mut sim, "a");
        let up: Vec<_> = up
            .iter()
            .filter(|(_, status)| *status == MemberStatus::Up)
            .map(|(id, _)| id.as_str())
            .collect();
        assert_eq!(up, ["a#1000", "b#1000"], "seed {seed}");
        // The message waited in the socket buffers.
        assert_eq!(
            sim.on("a", move |system| async move {
                system.entity::<Witness>(there).see(seed, 2).await
            }),
            Ok(())
        );
        let seen = seen(seed);
        assert!(
            seen.iter().all(|(node, ..)| node != "c"),
            "seed {seed}: {seen:?}"
        );
    }
}

#[test]
fn a_cluster_forms_in_bad_weather() {
    for seed in 0..5 {
        let mut conditions = Conditions::default();
        conditions.latency_max = Duration::from_millis(200);
        conditions.break_rate = 0.002;
        conditions.repair_rate = 0.25;
        // Its clock went on.
        let settings = Settings {
            suspect_after: Duration::from_secs(10),
            ..Settings::default()
        };
        let mut sim = Sim::with_conditions(seed, conditions);
        for name in NODES {
            let settings = settings.clone();
            sim.start_with(name, move |builder| builder.settings(settings.clone()));
        }
        sim.until_up(3);
    }
}

#[test]
fn a_paused_node_does_nothing_and_then_goes_on_in_order() {
    let mut sim = cluster(9);
    let there = witness(&mut sim, "c");
    // A timer that was not due then is not late.
    tell(&mut sim, "b", &there, 9, 9);
    sim.run_for(Duration::from_millis(100));
    assert_eq!(numbers(&seen(9)), [9]);
    sim.pause("c");
    let paused = sim.elapsed();
    for number in 0..5 {
        tell(&mut sim, "b", &there, 9, number);
        sim.run_for(Duration::from_millis(30));
    }
    let id = there.clone();
    let asked = sim.spawn_on("a", move |system| async move {
        system.entity::<Witness>(id).see(9, 5).await
    });
    let own = sim.spawn_on("c", |_| async {});
    // A pause passes at the same rate, a jump is no pause, and a rate can be set back.
    sim.run_for(Duration::from_millis(400));
    assert!(!asked.is_done() && !own.is_done());
    assert_eq!(seen(9), []);
    let resumed = sim.elapsed();
    assert!(resumed >= paused + Duration::from_millis(550));
    sim.resume("c");
    sim.until("the answer", |_| asked.is_done() && own.is_done());
    assert_eq!(asked.take(), Some(Ok(())));
    let seen = seen(9);
    assert_eq!(numbers(&seen), [0, 1, 2, 3, 4, 5]);
    // Both nodes have a connection to the other.
    for (node, at, _) in &seen {
        assert_eq!(node, "c");
        assert!(about(*at, resumed), "{at:?}, resumed at {resumed:?}");
    }
}

#[test]
fn timers_of_a_paused_node_fire_late_and_together() {
    let mut sim = cluster(10);
    let begun = sim.elapsed();
    let ms = Duration::from_millis;
    let due = [50, 150, 300].map(|after| timer(&mut sim, "c", ms(after)));
    let later = timer(&mut sim, "c", ms(700));
    sim.run_for(ms(100));
    assert!(due[0].is_done() && !due[1].is_done());
    sim.pause("c");
    sim.run_for(ms(400));
    assert!(!due[1].is_done() && !due[2].is_done());
    sim.resume("c");
    sim.until("the last timer", |_| later.is_done());
    for late in &due[1..] {
        let (at, passed) = late.take().unwrap();
        assert!(about(at, begun + ms(500)), "{at:?}, begun at {begun:?}");
        // The lost message did not come back.
        assert!(about(passed, ms(500)), "{passed:?}");
    }
    // The nodes are far from each other.
    let (at, passed) = later.take().unwrap();
    assert!(about(at, begun + ms(700)), "{at:?}, begun at {begun:?}");
    assert!(about(passed, ms(700)), "{passed:?}");
}

#[test]
fn timers_follow_their_nodes_clock() {
    let mut sim = cluster(11);
    let ms = Duration::from_millis;
    sim.clock_rate("a", 0.5);
    sim.clock_rate("b", 1.6);
    let begun = sim.elapsed();
    let timers = NODES.map(|node| timer(&mut sim, node, ms(800)));
    for (task, due) in timers.iter().zip([ms(1600), ms(500), ms(800)]) {
        sim.until("a timer", |_| task.is_done());
        let (at, elapsed) = task.take().unwrap();
        assert!(about(at, begun + due), "{at:?}, begun at {begun:?}");
        assert!(about(elapsed, ms(800)), "{elapsed:?}");
    }
    // Long enough for a message to be written, too short for it to arrive.
    sim.clock_rate("b", 1.0);
    let begun = sim.elapsed();
    let paused = timer(&mut sim, "a", ms(300));
    let jumped = timer(&mut sim, "b", ms(300));
    sim.run_for(ms(2));
    sim.pause("a");
    sim.clock_jump("b", ms(200));
    sim.run_for(ms(398));
    sim.resume("a");
    sim.until("both timers", |_| paused.is_done() && jumped.is_done());
    for (task, due) in [(paused, ms(600)), (jumped, ms(100))] {
        let (at, elapsed) = task.take().unwrap();
        assert!(about(at, begun + due), "{at:?}, begun at {begun:?}");
        assert!(about(elapsed, ms(300)), "{elapsed:?}");
    }
}

#[test]
fn a_clock_keeps_its_rate_over_a_restart() {
    let mut sim = Sim::new(12);
    sim.start("a");
    sim.clock_rate("a", 2.0);
    sim.until_up(1);
    sim.pause("a");
    sim.run_for(Duration::from_secs(5));
    sim.crash("a");
    sim.restart("a");
    sim.until_up(1);
    let begun = sim.elapsed();
    let second = timer(&mut sim, "a", Duration::from_secs(1));
    sim.until("the timer", |_| second.is_done());
    let (at, _) = second.take().unwrap();
    assert!(about(at, begun + Duration::from_millis(500)), "{at:?}");
}

#[test]
#[should_panic(expected = "within 0.5 and 2.0")]
fn a_clock_cannot_run_backwards() {
    let mut sim = Sim::new(13);
    sim.start("a");
    sim.clock_rate("a", -1.0);
}

#[test]
fn true_time_is_that_of_the_simulation() {
    let mut sim = cluster(14);
    assert_eq!(true_time(), None);
    sim.clock_rate("b", 2.0);
    sim.run_for(Duration::from_secs(1));
    let before = sim.elapsed();
    let inside = sim.on("b", |_| async { true_time() });
    assert_eq!(inside, Some(before));
    assert_eq!(true_time(), None);
}

#[test]
fn one_direction_can_be_cut_alone() {
    let mut sim = cluster(15);
    let (on_b, on_c) = (witness(&mut sim, "b"), witness(&mut sim, "c"));
    // The asker cannot know whether it was handled: the connection is open.
    tell(&mut sim, "c", &on_b, 15, 0);
    tell(&mut sim, "b", &on_c, 15, 1);
    sim.run_for(Duration::from_millis(100));
    assert_eq!(numbers(&seen(15)).len(), 2);
    sim.partition_one_way("b", "c");
    tell(&mut sim, "c", &on_b, 15, 2);
    tell(&mut sim, "b", &on_c, 15, 3);
    sim.run_for(Duration::from_millis(500));
    assert_eq!(numbers(&seen(15)), [2]);
    sim.heal();
    sim.until("b reaches c again", |sim| {
        let id = on_c.clone();
        let asked = sim.on("b", move |system| async move {
            system.entity::<Witness>(id).see(15, 4).await
        });
        asked.is_ok()
    });
    // Sooner than a dial without an answer.
    assert_eq!(numbers(&seen(15)), [4]);
}

#[test]
fn what_a_node_wrote_before_it_crashed_arrives() {
    let mut conditions = Conditions::default();
    conditions.latency_min = Duration::from_millis(60);
    conditions.latency_max = Duration::from_millis(90);
    let mut sim = Sim::with_conditions(16, conditions);
    for name in NODES {
        // Two nodes that cannot reach each other: the second waits, or goes on if `availability`
        // says so.
        sim.start_with(name, |builder| builder.settings(Settings::patient()));
    }
    sim.until_up(NODES.len());
    let there = witness(&mut sim, "b");
    tell(&mut sim, "c", &there, 16, 0);
    sim.run_for(Duration::from_millis(500));
    for number in 1..4 {
        tell(&mut sim, "c", &there, 16, number);
    }
    // There is one cluster: both sides see the same entity.
    sim.run_for(Duration::from_millis(10));
    sim.crash("c");
    let crashed = sim.elapsed();
    assert_eq!(numbers(&seen(16)), [0]);
    sim.run_for(Duration::from_millis(500));
    let seen = seen(16);
    assert_eq!(numbers(&seen), [1, 2, 3]);
    assert!(seen.iter().all(|(_, at, _)| *at > crashed), "{seen:?}");
}

#[test]
fn a_crashed_node_refuses_connections_and_a_paused_one_does_not() {
    let mut sim = cluster(17);
    let there = witness(&mut sim, "c");
    let ask = |sim: &mut Sim| {
        let id = there.clone();
        sim.on("b", move |system| async move {
            let asked = system.entity::<Witness>(id).see(17, 0);
            asked.timeout(Duration::from_millis(300)).await
        })
    };
    sim.pause("c");
    // Nobody knows whether it was handled: the connection stands.
    let paused = ask(&mut sim);
    assert!(
        matches!(paused, Err(AskError::Timeout { .. })),
        "{paused:?}"
    );
    sim.crash("c");
    let crashed = sim.elapsed();
    sim.until("the connection is refused", |sim| {
        let refused = ask(sim).unwrap_err();
        refused.to_string().contains("connection refused")
    });
    // Sooner than a dial that gets no answer.
    let patience = Settings::default().connect_timeout;
    assert!(sim.elapsed() < crashed + patience);
}

/// Two nodes that cannot reach each other: the second waits, or goes on if it was told to.
fn two_apart(availability: Availability) -> (Result<i64, AskError>, Result<i64, AskError>) {
    let mut sim = Sim::new(11);
    for name in ["a", "b"] {
        sim.start_with(name, move |builder| builder.availability(availability));
    }
    sim.until_up(2);
    let homes = homes(&mut sim, "a", 20);
    let id = on(&homes, "b");
    sim.partition("a", "b");
    sim.run_for(Duration::from_secs(8));
    let (here, there) = (id.clone(), id.clone());
    let first = sim.on("a", move |system| add(system, here));
    let second = sim.on("b", move |system| add(system, there));
    sim.heal();
    sim.until("one cluster again", |sim| {
        let members: Vec<usize> = ["a", "b"]
            .iter()
            .map(|name| sim.on(name, |system| async move { up(&system) }))
            .collect();
        members == [2, 2]
    });
    // And it is one: both sides see the same entity.
    let counted: Vec<_> = ["a", "b"]
        .iter()
        .map(|name| {
            let id = id.clone();
            sim.on(name, move |system| add(system, id)).unwrap()
        })
        .collect();
    assert_eq!(counted[0] + 1, counted[1]);
    (first, second)
}

fn up(system: &ActorSystem) -> usize {
    let members = system.members();
    members
        .iter()
        .filter(|m| m.status == MemberStatus::Up)
        .count()
}

#[test]
fn of_two_nodes_apart_the_founder_goes_on_and_the_other_says_why_not() {
    let (first, second) = two_apart(Availability::Consistent);
    assert_eq!(first, Ok(1));
    assert_eq!(second, Err(AskError::NoQuorum));
}

#[test]
fn of_two_nodes_that_prefer_availability_both_go_on_and_are_one_again_in_the_end() {
    let (first, second) = two_apart(Availability::Prefer);
    assert_eq!((first, second), (Ok(1), Ok(1)));
}
