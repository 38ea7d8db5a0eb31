//! Tests that look behind the public surface: at decisions of the leader, at cluster maps, and at
//! the network.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::io::AsyncReadExt;

use super::{PORT, Sim, SimNet};
use crate::{
    ActorSystem, Settings,
    cluster::{authority::raft::types::Decision, node::Node, peers::wire::ProposalError},
    id::{CatalogEntry, Generation, Incarnation, MemberId, NodeId},
    protocol::{lease::LeaseTimes, map::Command},
    transport::net::{Net, Target},
};

fn node(system: &ActorSystem) -> Arc<Node> {
    system.node().expect("it has a network").clone()
}

/// Has the leader decide that a made-up member joins, which hosts an entity type of this name. The
/// type outlives even a recovery. A proposal would be refused, since the leader does not reach that
/// member.
fn join(sim: &mut Sim, on: &str, kind: &'static str) -> Result<u64, ProposalError> {
    sim.on(on, move |system| async move {
        let settings = Settings::default();
        let command = Command::Join {
            member: MemberId {
                node: NodeId::new(kind),
                incarnation: Incarnation(1),
            },
            address: "10.9.9.9:1".parse().expect("an address"),
            catalog: vec![CatalogEntry {
                name: kind.to_owned(),
                shards: 4,
                fingerprint: 0,
                copies: None,
            }],
            lease: LeaseTimes::new(settings.lease, settings.clock_drift),
            tie_breaker: false,
            since: Incarnation(1),
            seat: None,
            store: None,
            zone: None,
        };
        let engine = node(&system).current_membership().voter.engine();
        let engine = engine.expect("it leads");
        engine.decide_and_keep(Decision::Change(command)).await
    })
}

fn knows(sim: &mut Sim, on: &str, kind: &'static str) -> bool {
    sim.on(on, move |system| async move {
        let map = node(&system).map.get();
        map.is_some_and(|map| map.kinds.contains_key(kind))
    })
}

/// Two nodes. `a` has founded the cluster and is its only voter.
fn two(seed: u64) -> Sim {
    let mut sim = Sim::new(seed);
    sim.start("a");
    sim.start("b");
    sim.until_up(2);
    sim.run_for(Duration::from_millis(500));
    assert!(sim.views().iter().all(|view| view.voters == 1));
    sim
}

/// Kills a node's host, together with all bytes that the network has not delivered yet.
fn kill(sim: &mut Sim, name: &str) {
    sim.isolate(name);
    sim.crash(name);
}

#[test]
fn a_decision_of_the_only_voter_outlives_it() {
    for seed in 0..20 {
        let mut sim = two(seed);
        let decided = join(&mut sim, "a", "Late");
        kill(&mut sim, "a");
        assert!(decided.is_ok(), "seed {seed}: {decided:?}");
        let recovered = sim.on("b", |system| async move {
            let node = node(&system);
            let before = node.map.get().map(|map| map.identity.generation);
            let begun = node
                .current_membership()
                .contact
                .tenure
                .inputs
                .recover(true)
                .await;
            let is_new = |generation| Some(generation) > before;
            let seen = node.map.wait(|map| {
                map.filter(|map| is_new(map.identity.generation))
                    .map(|_| ())
            });
            seen.await;
            begun
        });
        assert_eq!(recovered, Ok(()), "seed {seed}");
        assert!(knows(&mut sim, "b", "Late"), "seed {seed}");
    }
}

/// An operator has this node go on without the leader.
fn recover(sim: &mut Sim, name: &str) {
    let recovered = sim.on(name, |system| async move {
        let membership = node(&system).current_membership();
        membership.contact.tenure.inputs.recover(true).await
    });
    assert_eq!(recovered, Ok(()));
}

/// The generation of a node's map, if the node serves.
fn serves_in(sim: &Sim, name: &str) -> Option<u32> {
    let views = sim.views();
    let view = views
        .iter()
        .find(|view| view.member.node.as_str() == name)?;
    view.serving.then_some(view.generation)
}

/// Two nodes, of which the founder stands still and the other is promoted. Wakes the founder after
/// so much of the other's wait, and returns once both serve in one generation.
fn wakes_after(seed: u64, wait: Duration) {
    let mut sim = two(seed);
    let before = serves_in(&sim, "a");
    sim.pause("a");
    sim.run_for(Duration::from_secs(3));
    recover(&mut sim, "b");
    sim.run_for(wait);
    let promoted = serves_in(&sim, "b").is_some();
    sim.resume("a");
    for _ in 0..10_000 {
        sim.run_for(Duration::from_millis(1));
        let (a, b) = (serves_in(&sim, "a"), serves_in(&sim, "b"));
        let is_old = promoted && a == before;
        assert!(
            !is_old,
            "seed {seed}: the founder serves under its old token"
        );
        let both = a.is_some() && b.is_some();
        assert!(!both || a == b, "seed {seed}: {before:?} {a:?} {b:?}");
        if both {
            return;
        }
    }
    panic!("seed {seed}: they are no cluster again");
}

#[test]
fn a_founder_that_wakes_after_the_other_was_promoted_serves_nothing_under_its_old_token() {
    for seed in 0..6 {
        wakes_after(seed, Duration::from_secs(4));
    }
}

#[test]
fn a_founder_that_wakes_while_the_other_waits_to_be_promoted_stops_before_the_other_serves() {
    for seed in 0..6 {
        wakes_after(seed, Duration::from_millis(100 * (seed + 1)));
    }
}

#[test]
fn a_founder_that_wakes_beside_a_dead_member_goes_on() {
    let mut sim = two(1);
    kill(&mut sim, "b");
    sim.pause("a");
    sim.run_for(Duration::from_secs(10));
    sim.resume("a");
    sim.until("it serves", |sim| serves_in(sim, "a").is_some());
}

/// Two survivors, `d` and `e`, of five nodes. Both are told to go on, the second a little later.
fn two_recovered(seed: u64, apart: bool) -> Sim {
    let mut sim = Sim::new(seed);
    for name in ["a", "b", "c", "d", "e"] {
        sim.start(name);
    }
    sim.until_up(5);
    sim.run_for(Duration::from_secs(1));
    for name in ["a", "b", "c"] {
        kill(&mut sim, name);
    }
    sim.run_for(Duration::from_secs(3));
    if apart {
        sim.partition("d", "e");
    }
    for name in ["d", "e"] {
        drop(sim.spawn_on(name, |system| async move {
            let membership = node(&system).current_membership();
            membership.contact.tenure.inputs.recover(true).await
        }));
        sim.run_for(Duration::from_millis(60 * seed));
    }
    sim
}

/// The generations in which `d` and `e` serve.
fn generations(sim: &mut Sim) -> Vec<Generation> {
    let names = ["d", "e"].into_iter();
    let serving = names.filter(|name| serves_in(sim, name).is_some());
    let serving: Vec<&str> = serving.collect();
    let of = |name| sim.on(name, |system| async move { node(&system).map.get() });
    let maps = serving.into_iter().filter_map(of);
    maps.map(|map| map.identity.generation).collect()
}

#[test]
fn two_survivors_that_are_recovered_at_once_are_one_cluster() {
    for seed in 0..6 {
        let mut sim = two_recovered(seed, false);
        sim.until("they serve", |sim| {
            let generations = generations(sim);
            let differ = generations.first() != generations.last();
            assert!(!differ, "seed {seed}: both serve, in {generations:?}");
            generations.len() == 2 && sim.views().iter().all(|view| view.up == 2)
        });
    }
}

/// The others have left their generation for one that is gone with its only node.
#[test]
fn a_survivor_of_a_generation_that_died_at_once_can_be_recovered() {
    for seed in 0..4 {
        let mut sim = Sim::new(seed);
        for name in ["a", "b", "c", "d", "e"] {
            sim.start(name);
        }
        sim.until_up(5);
        sim.run_for(Duration::from_secs(1));
        for name in ["a", "b", "c"] {
            kill(&mut sim, name);
        }
        sim.run_for(Duration::from_secs(3));
        recover(&mut sim, "d");
        let map_of = |sim: &mut Sim| sim.on("e", |system| async move { node(&system).map.get() });
        sim.until("the other has heard of it", |sim| map_of(sim).is_none());
        kill(&mut sim, "d");
        sim.run_for(Duration::from_secs(5));
        recover(&mut sim, "e");
        sim.until("it serves", |sim| serves_in(sim, "e").is_some());
    }
}

#[test]
fn generations_that_two_survivors_begin_apart_share_no_epoch_and_the_greater_one_stays() {
    for seed in 0..3 {
        let mut sim = two_recovered(seed, true);
        sim.until("both serve", |sim| generations(sim).len() == 2);
        let apart = generations(&mut sim);
        assert_ne!(apart[0], apart[1], "seed {seed}");
        sim.heal();
        let greater = apart.iter().copied().max();
        sim.until("one cluster", |sim| {
            let now = generations(sim);
            now.len() == 2 && now.iter().all(|now| Some(*now) == greater)
        });
    }
}

#[test]
fn a_silent_member_holds_up_one_decision_and_not_for_long() {
    let mut sim = two(1);
    sim.stall("a", "b");
    let settings = Settings::default();
    let limit = settings.lease / 2;
    let took = |sim: &mut Sim, kind| {
        let begun = sim.elapsed();
        assert!(join(sim, "a", kind).is_ok());
        sim.elapsed().saturating_sub(begun)
    };
    let first = took(&mut sim, "First");
    assert!(first > limit / 2 && first < limit + limit / 4, "{first:?}");
    let second = took(&mut sim, "Second");
    assert!(second < Duration::from_millis(20), "{second:?}");
    assert!(!knows(&mut sim, "b", "First"));
    // Once the member reports again, decisions wait for it.
    sim.heal();
    sim.until("it has heard", |sim| knows(sim, "b", "Second"));
    sim.run_for(Duration::from_millis(50));
    let third = took(&mut sim, "Third");
    kill(&mut sim, "a");
    assert!(third < Duration::from_millis(50), "{third:?}");
    assert!(knows(&mut sim, "b", "Third"));
}

#[test]
fn the_only_member_waits_for_no_second_copy() {
    let mut sim = Sim::new(1);
    sim.start("a");
    sim.until_up(1);
    let begun = sim.elapsed();
    assert!(join(&mut sim, "a", "Late").is_ok());
    let took = sim.elapsed().saturating_sub(begun);
    assert!(took < Duration::from_millis(20), "{took:?}");
}

/// The other members are given up for lost, and come back after all.
#[test]
fn a_minority_that_was_kept_can_be_recovered_from_and_later_ones_join_anew() {
    for seed in 0..4 {
        let state = tempfile::tempdir().expect("a directory");
        let mut sim = Sim::new(seed);
        for name in ["a", "b", "c"] {
            let path = state.path().join(name);
            sim.start_with(name, move |builder| builder.state_dir(&path));
        }
        sim.until("they vote", |sim| {
            sim.views().iter().filter(|view| view.voters == 3).count() == 3
        });
        sim.run_for(Duration::from_secs(1));
        assert!(join(&mut sim, "a", "Late").is_ok());
        // Members that lag behind have the decision by then, too.
        sim.run_for(Duration::from_secs(1));
        let before = sim.views()[0].generation;
        for name in ["a", "b", "c"] {
            sim.crash(name);
        }
        sim.restart("b");
        sim.run_for(Duration::from_secs(5));
        assert!(!sim.views()[0].serving);
        let recovered = sim.on("b", |system| async move {
            node(&system)
                .current_membership()
                .contact
                .tenure
                .inputs
                .recover(true)
                .await
        });
        assert_eq!(recovered, Ok(()), "seed {seed}");
        let serves = |sim: &mut Sim, nodes: usize| {
            let views = sim.views();
            let serves = |view: &crate::system::View| {
                view.serving && view.up == nodes && view.generation > before
            };
            views.len() == nodes && views.iter().all(serves)
        };
        sim.until("it goes on", |sim| serves(sim, 1));
        assert!(knows(&mut sim, "b", "Late"), "seed {seed}");
        // From here on the new generation is kept on disk.
        sim.crash("b");
        sim.restart("b");
        sim.until("it goes on again", |sim| serves(sim, 1));
        for name in ["a", "c"] {
            sim.restart(name);
        }
        sim.until("all are there", |sim| serves(sim, 3));
        assert!(knows(&mut sim, "a", "Late"), "seed {seed}");
    }
}

/// How long a third node takes to join while so many connections, of a host that never does its
/// part, wait to be established at each member. Afterwards, how many of them the members closed
/// within `connect_timeout`.
fn join_beside_silent_connections(seed: u64, count: usize) -> (Duration, usize) {
    let mut sim = two(seed);
    let host = sim.network.with(|network| {
        let host = network.add_host("silent");
        network.silence(host);
        host
    });
    let members = ["a", "b"].map(|name| {
        let host = sim.host(name);
        sim.network.with(|network| network.ip(host))
    });
    let net = SimNet {
        host,
        shared: sim.network.clone(),
    };
    let dialing = (0..count).flat_map(move |_| members).map(move |ip| {
        let net = net.clone();
        async move {
            let target = Target {
                address: SocketAddr::new(ip, PORT),
                expected: None,
            };
            let mut connected = net.connect(&target).await.expect("a member listens");
            // Members say nothing before the connection is established: what is read is its end.
            let read = connected.stream.read(&mut [0]).await;
            matches!(read, Ok(0))
        }
    });
    let closed = sim.spawn_on("b", move |_| async move {
        let closed = join_all(dialing).await;
        closed.into_iter().filter(|closed| *closed).count()
    });
    sim.run_for(Duration::from_millis(100));
    let begun = sim.elapsed();
    sim.start("c");
    sim.until_up(3);
    let took = sim.elapsed().saturating_sub(begun);
    sim.run_for(Settings::default().connect_timeout);
    (took, closed.take().expect("all have ended"))
}

#[test]
fn connections_that_are_never_established_delay_no_other() {
    for seed in 0..5 {
        let (alone, _) = join_beside_silent_connections(seed, 0);
        let (took, closed) = join_beside_silent_connections(seed, 100);
        assert!(
            took < alone + Duration::from_millis(100),
            "seed {seed}: {took:?}, alone {alone:?}"
        );
        assert_eq!(closed, 200, "seed {seed}");
    }
}
