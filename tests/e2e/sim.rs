//! Clusters in simulated time.

use std::collections::BTreeMap;

use casty::{
    prelude::*,
    testkit::{Sim, Weather},
};
use casty_tests::Counter;

const NODES: [&str; 3] = ["a", "b", "c"];

fn cluster(seed: u64) -> Sim {
    casty_tests::log();
    let mut sim = Sim::new(seed);
    for name in NODES {
        sim.start(name);
    }
    sim.until_up(NODES.len());
    sim
}

async fn add(system: ActorSystem, id: String) -> Result<i64, AskError> {
    system.entity::<Counter>(id).add(1).await
}

/// Where some entities live, as a node sees it.
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
    for n in 0..30 {
        let node = NODES[n % 3];
        drop(sim.spawn_on(node, move |system| add(system, format!("c{}", n % 7))));
        sim.run_for(Duration::from_millis(3));
    }
    sim.partition("b", "c");
    sim.run_for(Duration::from_secs(2));
    sim.heal();
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
    for seed in [3, 4] {
        let (first, second) = (eventful(seed), eventful(seed));
        assert_eq!(first.1, second.1, "seed {seed}");
        assert_eq!(first.0, second.0, "seed {seed}: the traces look alike");
    }
    assert_ne!(eventful(3).0, eventful(4).0);
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
    // Others are not concerned.
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
    // Shorter than anybody's patience.
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
fn a_cluster_forms_in_bad_weather() {
    for seed in 0..5 {
        let mut weather = Weather::default();
        weather.latency_max = Duration::from_millis(200);
        weather.break_rate = 0.002;
        weather.repair_rate = 0.05;
        let mut sim = Sim::with_weather(seed, weather);
        for name in NODES {
            sim.start(name);
        }
        sim.until_up(3);
    }
}
