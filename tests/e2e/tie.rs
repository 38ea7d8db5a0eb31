//! Two nodes with a tie-breaker: the winner goes on, and never both. `tests/invariants` runs them
//! in a storm.

use casty::{
    Settings,
    admin::{Admin, AdminError},
    error::JoinError,
    member::Availability,
    prelude::*,
    testkit::{Arbiter, Sim},
    tie::{Claim, TieBreaker, TieError, Verdict},
};
use casty_tests::{Counter, seeds};

use crate::support::{node, soon};

const TWO: [&str; 2] = ["a", "b"];
const ENTITIES: usize = 20;

fn two(seed: u64, settings: &Settings) -> (Sim, Arbiter) {
    casty_tests::log();
    let (mut sim, arbiter) = (Sim::new(seed), Arbiter::default());
    for name in TWO {
        start(&mut sim, &arbiter, name, settings);
    }
    sim.until_up(TWO.len());
    // Entities live on both nodes.
    let homes = sim.on("a", |system| async move {
        let mut homes = std::collections::BTreeSet::new();
        for n in 0..ENTITIES {
            let home = system.entity::<Counter>(format!("c{n}")).node();
            homes.insert(home.await.unwrap());
        }
        homes
    });
    assert_eq!(homes.len(), 2, "{homes:?}");
    (sim, arbiter)
}

fn start(sim: &mut Sim, arbiter: &Arbiter, name: &str, settings: &Settings) {
    let (arbiter, settings) = (arbiter.clone(), settings.clone());
    sim.start_with(name, move |builder| {
        let builder = builder.settings(settings.clone());
        builder.tie_breaker(arbiter.clone())
    });
}

/// How many entities answer a node at once.
fn answers(sim: &mut Sim, name: &str) -> usize {
    ENTITIES - silent(sim, name).len()
}

/// The entities that do not answer, and why.
fn silent(sim: &mut Sim, name: &str) -> Vec<String> {
    sim.on(name, |system| async move {
        let asks = (0..ENTITIES).map(|n| {
            let counter = system.entity::<Counter>(format!("c{n}"));
            counter
                .add(1)
                .timeout(Duration::from_millis(300))
                .into_future()
        });
        let answers = futures_util::future::join_all(asks).await.into_iter();
        let silent = answers
            .enumerate()
            .filter_map(|(n, answer)| Some((n, answer.err()?)));
        silent.map(|(n, error)| format!("c{n}: {error}")).collect()
    })
}

/// The nodes that hold a lease now. They are of one generation: otherwise two could serve the same
/// shard.
fn serving(sim: &Sim) -> Vec<String> {
    let views = sim.views();
    let serving: Vec<_> = views.iter().filter(|view| view.serving).collect();
    let generations = serving.iter().map(|view| view.generation);
    let generations: std::collections::BTreeSet<u32> = generations.collect();
    assert!(generations.len() <= 1, "{serving:?}\n{}", sim.trace());
    let names = serving.iter().map(|view| view.member.node.to_string());
    names.collect()
}

/// Steps until exactly these nodes serve. Checks after each step that no two generations do.
fn until_serving(sim: &mut Sim, who: &[&str]) {
    let wanted: std::collections::BTreeSet<&str> = who.iter().copied().collect();
    sim.until(&format!("{who:?} serve"), |sim| {
        let serving = serving(sim);
        wanted == serving.iter().map(String::as_str).collect()
    });
}

fn watch_for(sim: &mut Sim, time: Duration) {
    let end = sim.elapsed() + time;
    while sim.elapsed() < end {
        sim.run_for(Duration::from_millis(1));
        serving(sim);
    }
}

fn one_again(sim: &mut Sim) {
    sim.until("one cluster again", |sim| {
        serving(sim);
        let views = sim.views();
        let first = views[0].generation;
        views
            .iter()
            .all(|view| view.serving && view.up == 2 && view.generation == first)
    });
    for name in TWO {
        // Shards may be moving to the node that has joined.
        let begun = sim.elapsed();
        sim.until("all entities answer", |sim| silent(sim, name).is_empty());
        let after = sim.elapsed().saturating_sub(begun);
        assert!(after < Duration::from_secs(2), "asked by {name}: {after:?}");
    }
}

#[test]
fn the_sole_voter_goes_on_without_the_other_node() {
    for seed in 0..seeds(4) {
        let (mut sim, arbiter) = two(seed, &Settings::default());
        sim.crash("b");
        let killed = sim.elapsed();
        sim.until("all entities answer", |sim| answers(sim, "a") == ENTITIES);
        // As soon as in a larger cluster.
        assert!(sim.elapsed() < killed + Duration::from_secs(4));
        assert_eq!(arbiter.winners(), ["a#1000"]);
        sim.restart("b");
        one_again(&mut sim);
    }
}

/// How long after the founder's end the other node serves.
fn failover(seed: u64, settings: &Settings) -> Duration {
    let (mut sim, arbiter) = two(seed, settings);
    // Gossip has met all members, and may be anywhere in its round.
    sim.run_for(Duration::from_millis(3000 + seed * 37));
    sim.crash("a");
    let killed = sim.elapsed();
    until_serving(&mut sim, &[]);
    until_serving(&mut sim, &["b"]);
    let after = sim.elapsed().saturating_sub(killed);
    assert_eq!(answers(&mut sim, "b"), ENTITIES);
    assert_eq!(arbiter.winners(), ["b#1000"]);
    sim.restart("a");
    one_again(&mut sim);
    after
}

#[test]
fn the_second_node_goes_on_without_the_sole_voter() {
    for settings in [Settings::default(), Settings::fast_failover()] {
        let times: Vec<Duration> = (0..seeds(12))
            .map(|seed| failover(seed, &settings))
            .collect();
        // The bound in the documentation of `TieBreaker`, and a tenth of a second for the claim and
        // the founding.
        let drift = (1.0 + settings.clock_drift) / (1.0 - settings.clock_drift);
        let noticed = (settings.gossip_interval * 2 + settings.suspect_after).max(settings.lease);
        let bound = noticed + settings.lease / 2 + (settings.lease * 2).mul_f64(drift);
        let slowest = times.iter().max().unwrap();
        assert!(
            *slowest < bound + settings.gossip_interval + Duration::from_millis(200),
            "{times:?}, expected {bound:?}"
        );
        if std::env::var_os("CASTY_MEASURE").is_some() {
            println!("{times:?}, expected {bound:?}");
        }
    }
}

/// A fault between the two nodes, of any kind. The node that does not win stops, and joins the
/// other after it.
fn apart(seed: u64, settings: &Settings, fault: impl Fn(&mut Sim)) -> String {
    let (mut sim, arbiter) = two(seed, settings);
    fault(&mut sim);
    watch_for(&mut sim, Duration::from_secs(10));
    let winner = serving(&sim);
    assert_eq!(winner.len(), 1, "one goes on: {winner:?}");
    assert_eq!(answers(&mut sim, &winner[0]), ENTITIES);
    let winners = arbiter.winners();
    assert_eq!(winners, [format!("{}#1000", winner[0])]);
    sim.heal();
    one_again(&mut sim);
    winner[0].clone()
}

#[test]
fn of_two_apart_exactly_one_goes_on_whichever_way_they_are_cut() {
    for seed in 0..seeds(3) {
        apart(seed, &Settings::default(), |sim| sim.partition("a", "b"));
        apart(seed, &Settings::default(), |sim| {
            sim.partition_one_way("a", "b");
        });
        apart(seed, &Settings::default(), |sim| {
            sim.partition_one_way("b", "a");
        });
        apart(seed, &Settings::default(), |sim| sim.stall("a", "b"));
    }
}

#[test]
fn the_node_that_reaches_the_tie_breaker_goes_on() {
    for (cut_off, other) in [("a", "b"), ("b", "a")] {
        let (mut sim, arbiter) = two(7, &Settings::default());
        arbiter.cut_off(cut_off);
        // What is held arrives after the healing, and must not count as a sign of life.
        sim.stall("a", "b");
        watch_for(&mut sim, Duration::from_secs(10));
        assert_eq!(serving(&sim), [other]);
        sim.heal();
        one_again(&mut sim);
    }
}

#[test]
fn without_the_tie_breaker_neither_node_goes_on_and_both_do_once_they_reach_each_other() {
    let (mut sim, arbiter) = two(8, &Settings::default());
    for name in TWO {
        arbiter.cut_off(name);
    }
    sim.partition("a", "b");
    watch_for(&mut sim, Duration::from_secs(12));
    assert_eq!(serving(&sim), [""; 0]);
    let told = sim.on("b", |system| async move {
        let asks = (0..ENTITIES).map(|n| {
            let counter = system.entity::<Counter>(format!("c{n}"));
            counter.add(1).into_future()
        });
        futures_util::future::join_all(asks).await
    });
    // The entities that live there; the others are on the node that it cannot reach.
    assert!(told.contains(&Err(AskError::NoQuorum)), "{told:?}");
    assert!(told.iter().all(Result::is_err), "{told:?}");
    // The tie-breaker is still out of reach. The second node comes back as another member, and
    // knows that it founded no generation.
    sim.heal();
    one_again(&mut sim);
    assert_eq!(arbiter.winners(), [""; 0]);
}

#[test]
fn a_claim_whose_answer_was_lost_stops_no_node_for_good() {
    let (mut sim, arbiter) = two(9, &Settings::default());
    arbiter.cut_off("a");
    arbiter.cut_answers_off("b");
    sim.partition("a", "b");
    watch_for(&mut sim, Duration::from_secs(8));
    assert_eq!(arbiter.winners(), ["b#1000"]);
    // Now the first node learns that it has lost. The second does not know yet that it has won.
    arbiter.heal();
    arbiter.cut_answers_off("b");
    watch_for(&mut sim, Duration::from_secs(2));
    assert_eq!(serving(&sim), [""; 0]);
    sim.heal();
    one_again(&mut sim);
}

#[test]
fn a_restarted_process_does_not_replace_a_process_that_may_have_won() {
    let (mut sim, arbiter) = two(10, &Settings::default());
    arbiter.cut_off("a");
    sim.crash("b");
    sim.restart("b");
    watch_for(&mut sim, Duration::from_secs(6));
    // The first node has to assume that the earlier process has founded a generation.
    assert_eq!(serving(&sim), [""; 0]);
    arbiter.heal();
    one_again(&mut sim);
    assert_eq!(arbiter.winners(), ["a#1000"]);
}

#[test]
fn a_pause_that_gossip_survives_ends_no_membership() {
    let settings = Settings {
        suspect_after: Duration::from_secs(20),
        ..Settings::default()
    };
    for seed in 0..seeds(6) {
        let (mut sim, arbiter) = two(seed, &settings);
        sim.pause("a");
        sim.run_for(Duration::from_secs(3));
        sim.resume("a");
        watch_for(&mut sim, Duration::from_secs(3));
        assert_eq!(serving(&sim).len(), 2);
        assert_eq!(arbiter.winners(), [""; 0]);
    }
}

#[test]
fn two_become_four_while_the_second_knows_nothing_of_it() {
    for seed in 0..seeds(3) {
        let (mut sim, arbiter) = two(20 + seed, &Settings::default());
        // The first node cannot have the second declared Down, and must not share the vote before
        // the second knows of the new members.
        arbiter.cut_off("a");
        sim.stall("a", "b");
        for name in ["c", "d"] {
            start(&mut sim, &arbiter, name, &Settings::default());
            sim.partition(name, "b");
        }
        watch_for(&mut sim, Duration::from_secs(10));
        assert_eq!(serving(&sim), ["b"]);
        sim.heal();
        arbiter.heal();
        sim.until("four in one cluster", |sim| {
            serving(sim);
            let views = sim.views();
            views
                .iter()
                .all(|view| view.serving && view.up == 4 && view.voters == 3)
        });
        sim.until("all entities answer", |sim| answers(sim, "c") == ENTITIES);
    }
}

#[test]
fn two_become_three_and_two_again() {
    let (mut sim, arbiter) = two(30, &Settings::default());
    start(&mut sim, &arbiter, "c", &Settings::default());
    let votes = |count| {
        move |sim: &mut Sim| {
            let views = sim.views();
            views
                .iter()
                .all(|view| view.voters == count && view.serving)
        }
    };
    sim.until("three vote", votes(3));
    assert_eq!(sim.views().len(), 3);
    // While the change is under way, the map already names all three voters.
    sim.run_for(Duration::from_secs(1));
    // Three nodes need no tie-breaker, whichever is lost.
    sim.crash("a");
    sim.until("the others go on", |sim| {
        answers(sim, "b") == ENTITIES && votes(1)(sim)
    });
    assert_eq!(arbiter.winners(), [""; 0]);
    // Two nodes do.
    sim.run_for(Duration::from_secs(3));
    sim.partition("b", "c");
    watch_for(&mut sim, Duration::from_secs(10));
    let winner = serving(&sim);
    assert_eq!(winner.len(), 1, "{winner:?}");
    assert_eq!(arbiter.winners().len(), 1);
}

#[test]
fn the_vote_is_handed_over_in_a_graceful_leave_and_no_node_claims() {
    for seed in 31..36 {
        let (mut sim, arbiter) = two(seed, &Settings::default());
        let left = sim.on("a", |system| async move { system.shutdown().await });
        assert!(left.is_ok(), "{left:?}");
        sim.run_for(Duration::from_millis(500));
        sim.crash("a");
        assert_eq!(answers(&mut sim, "b"), ENTITIES, "seed {seed}");
        assert_eq!(arbiter.winners(), [""; 0], "seed {seed}");
        sim.restart("a");
        one_again(&mut sim);
        let left = sim.on("a", |system| async move { system.shutdown().await });
        assert!(left.is_ok(), "{left:?}");
        assert_eq!(answers(&mut sim, "b"), ENTITIES, "seed {seed}");
        assert_eq!(arbiter.winners(), [""; 0], "seed {seed}");
    }
}

#[tokio::test]
async fn all_nodes_have_a_tie_breaker_or_none_has() {
    let first = node("node-0").tie_breaker(Arbiter::default());
    let first = first.start().await.unwrap();
    soon("it founds", first.wait_for(1)).await.unwrap();
    let second = node("node-1").seeds([first.address()]);
    let second = second.start().await.unwrap();
    let refused = soon("it is refused", second.wait_for(2)).await;
    match refused {
        Err(JoinError::Refused { reason, .. }) => {
            assert!(
                reason.contains("this cluster has a tie-breaker"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    first.shutdown().await;
}

#[tokio::test]
async fn a_tie_breaker_and_a_preference_for_availability_contradict_each_other() {
    let both = node("node-0")
        .tie_breaker(Arbiter::default())
        .availability(Availability::Prefer);
    let error = both.start().await.unwrap_err().to_string();
    assert!(error.contains("`tie_breaker`"), "{error}");
    assert!(error.contains("`Availability::Prefer`"), "{error}");
}

/// A tie-breaker that has always decided for the other node.
struct Against;

impl TieBreaker for Against {
    async fn claim(&self, claim: Claim) -> Result<Verdict, TieError> {
        Ok(claim.verdict(&claim.other().to_string()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_refused_what_the_tie_breaker_has_given_to_the_other_unless_it_is_forced() {
    // Leases are long, so that the node does not claim by itself before the operator does.
    let settings = Settings {
        lease: Duration::from_secs(5),
        decide_timeout: Duration::from_millis(500),
        ..Settings::default()
    };
    let start = |name| node(name).settings(settings.clone()).tie_breaker(Against);
    let first = start("node-0").start().await.unwrap();
    let second = start("node-1")
        .seeds([first.address()])
        .start()
        .await
        .unwrap();
    soon("the cluster forms", second.wait_for(2)).await.unwrap();
    soon("the cluster forms", first.wait_for(2)).await.unwrap();
    let address = second.address();
    drop(first);
    let admin = Admin::connect("test", [address]).await.unwrap();
    let reason = soon("the tie-breaker is asked", async {
        loop {
            match admin.promote("node-1").await {
                Err(AdminError::Refused { reason }) if reason.contains("tie-breaker") => {
                    return reason;
                }
                // Repeats until gossip has noticed.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Ok(recovered) => panic!("{recovered:?}"),
            }
        }
    })
    .await;
    assert!(reason.contains("has decided for `node-0#"), "{reason}");
    let forced = tokio::time::timeout(Duration::from_secs(40), admin.recover("node-1", true)).await;
    assert!(matches!(forced, Ok(Ok(_))), "{forced:?}");
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_a_node_go_on_that_waits_for_a_tie_breaker_out_of_reach() {
    let arbiter = Arbiter::default();
    arbiter.cut_off("node-1");
    let start = |name| {
        let builder = node(name).settings(Settings::fast_failover());
        builder.tie_breaker(arbiter.clone())
    };
    let first = start("node-0").start().await.unwrap();
    let second = start("node-1").seeds([first.address()]);
    let second = second.start().await.unwrap();
    soon("the cluster forms", second.wait_for(2)).await.unwrap();
    let address = second.address();
    drop(first);
    let admin = Admin::connect("test", [address]).await.unwrap();
    soon("it waits", async {
        while !matches!(
            admin.promote("node-1").await,
            Err(AdminError::Refused { reason }) if reason.contains("waits until the tie-breaker")
        ) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let forced = soon("it goes on", admin.recover("node-1", true)).await;
    assert!(forced.is_ok(), "{forced:?}");
    let answer = second.entity::<Counter>("c0").add(1).await;
    assert_eq!(answer, Ok(1));
    assert_eq!(arbiter.winners(), [""; 0]);
    second.shutdown().await;
}
