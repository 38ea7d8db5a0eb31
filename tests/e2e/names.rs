//! Names and addresses of nodes: which process is let in, and which is not.

use std::net::TcpListener;

use casty::{
    error::{JoinError, StartError},
    id::Incarnation,
    member::MemberStatus,
    prelude::*,
    testkit::{Sighting, Sim},
};
use casty_tests::Counter;

use crate::support::{cluster, eventually, node, shutdown, soon};

/// The ids and the states of a cluster, as one node sees it.
fn members(node: &ActorSystem) -> Vec<(String, MemberStatus)> {
    let members = node.members().into_iter();
    members.map(|m| (m.id.to_string(), m.status)).collect()
}

#[tokio::test]
async fn a_second_process_under_a_live_name_is_refused_and_takes_nothing() {
    let nodes = cluster(3).await;
    for n in 0..40 {
        let counter = nodes[0].entity::<Counter>(format!("taken-{n}"));
        counter.increment(1).await.unwrap();
    }
    let before = members(&nodes[0]);
    // One of them is the leader, and one sole voter or not: it makes no difference.
    for holder in &nodes {
        let second = node(holder.node_id().as_str())
            .seeds(nodes.iter().map(ActorSystem::address))
            .start()
            .await
            .unwrap();
        let refused = soon("refused", second.ready()).await;
        let by = holder.address();
        assert_eq!(refused, Err(JoinError::NameTaken { by }));
        shutdown(vec![second]).await;
    }
    assert_eq!(members(&nodes[0]), before);
    for n in 0..40 {
        let counter = nodes[1].entity::<Counter>(format!("taken-{n}"));
        assert_eq!(counter.value().await, Ok(1), "it lost its state");
    }
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_name_is_free_once_its_process_has_ended_whatever_the_address() {
    let mut nodes = cluster(2).await;
    for _ in 0..3 {
        let name = nodes[1].node_id().clone();
        drop(nodes.pop());
        let next = node(name.as_str()).seeds([nodes[0].address()]);
        let next = next.start().await.unwrap();
        soon("it is back", next.wait_for(2)).await.unwrap();
        nodes.push(next);
    }
    // And while it leaves.
    let last = nodes.pop().unwrap();
    let next = node(last.node_id().as_str()).seeds([nodes[0].address()]);
    let (left, next) = tokio::join!(last.shutdown(), next.start());
    left.unwrap();
    let next = next.unwrap();
    soon("it is back", next.wait_for(2)).await.unwrap();
    nodes.push(next);
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_process_whose_predecessor_had_a_clock_that_was_ahead_takes_the_next_incarnation() {
    let first = node("node-0").start().await.unwrap();
    let ahead = Incarnation::now().0 + 3_600_000;
    let builder = || node("node-1").seeds([first.address()]);
    let early = builder().incarnation(ahead).start().await.unwrap();
    soon("it is up", early.wait_for(2)).await.unwrap();
    drop(early);
    let again = builder().start().await.unwrap();
    soon("it is back", again.wait_for(2)).await.unwrap();
    let ups = || {
        let members = first.members().into_iter();
        let ups = members.filter(|m| m.status == MemberStatus::Up);
        let ups = ups.filter(|m| m.id.node.as_str() == "node-1");
        std::future::ready(ups.map(|m| m.id.incarnation.0).collect::<Vec<_>>())
    };
    eventually("the next one", ups, |ups| *ups == [ahead + 1]).await;
    shutdown(vec![first, again]).await;
}

#[test]
fn a_node_that_others_cannot_dial_is_let_in_once_they_can() {
    casty_tests::log();
    let mut sim = Sim::new(41);
    sim.start("a");
    sim.until_up(1);
    // `b` dials `a`, and is not dialed back.
    sim.start("b");
    sim.partition_one_way("a", "b");
    let up = |sim: &mut Sim| sim.on("a", async |system| system.members().len());
    for _ in 0..50 {
        sim.run_for(Duration::from_millis(100));
        assert_eq!(up(&mut sim), 1);
    }
    let served = sim.on("a", async |system| {
        let asks = (0..40).map(|n| system.entity::<Counter>(format!("dialed-{n}")));
        let mut served = 0;
        for counter in asks {
            served += usize::from(counter.value().await.is_ok());
        }
        served
    });
    assert_eq!(served, 40, "shards went to a node that is out of reach");
    sim.heal();
    sim.until_up(2);
}

/// The number of clusters that were founded.
fn founded(sim: &mut Sim) -> usize {
    let sightings = sim.sightings().into_iter();
    let founded = sightings.filter(|(_, it)| matches!(it, Sighting::Founded { .. }));
    founded.count()
}

/// The name has the addresses of those nodes only that have started.
#[test]
fn nodes_that_share_a_name_of_many_addresses_found_one_cluster_once_enough_are_there() {
    casty_tests::log();
    for seed in 0..casty_tests::seeds(10) {
        let mut sim = Sim::new(seed);
        let start = |sim: &mut Sim, name: &str| {
            sim.start_with(name, |builder| {
                builder.seeds(["nodes:25520"]).bootstrap_expect(3)
            });
        };
        for name in ["c", "e"] {
            start(&mut sim, name);
            sim.run_for(Duration::from_secs(2));
        }
        assert_eq!(founded(&mut sim), 0, "two are not enough");
        // Which of the five reaches which others changes.
        start(&mut sim, "b");
        sim.partition("b", "c");
        sim.run_for(Duration::from_millis(20 * seed));
        start(&mut sim, "a");
        start(&mut sim, "d");
        sim.partition("a", "e");
        sim.run_for(Duration::from_millis(300));
        sim.heal();
        sim.until_up(5);
        assert_eq!(founded(&mut sim), 1, "seed {seed}");
    }
}

#[test]
fn two_of_three_found_a_cluster_if_they_are_told_to_and_the_third_joins_it() {
    casty_tests::log();
    let mut sim = Sim::new(7);
    let seeds = ["a:25520", "b:25520", "c:25520"];
    for name in ["b", "c"] {
        sim.start_with(name, move |builder| {
            builder.seeds(seeds).bootstrap_expect(2)
        });
    }
    sim.until_up(2);
    sim.start_with("a", move |builder| builder.seeds(seeds).bootstrap_expect(2));
    sim.until_up(3);
    assert_eq!(founded(&mut sim), 1);
}

#[tokio::test]
async fn a_cluster_is_not_founded_by_no_nodes() {
    let refused = node("node-0").bootstrap_expect(0).start().await;
    let Err(StartError::Setting { setting, .. }) = refused else {
        panic!("it started");
    };
    assert_eq!(setting, "bootstrap_expect");
}

#[tokio::test]
async fn an_address_at_which_another_process_listens_is_no_address_of_this_node() {
    let first = node("node-0").start().await.unwrap();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let advertised = [first.address(), stranger.local_addr().unwrap()];
    for (n, address) in advertised.into_iter().enumerate() {
        let hidden = node(&format!("hidden-{n}"))
            .advertise(address)
            .seeds([first.address()])
            .start()
            .await
            .unwrap();
        // Others are let in meanwhile.
        let open = node(&format!("open-{n}")).seeds([first.address()]);
        let open = open.start().await.unwrap();
        soon("it is up", open.wait_for(2)).await.unwrap();
        assert!(!hidden.is_ready());
        assert!(
            members(&first)
                .iter()
                .all(|(id, _)| !id.starts_with("hidden"))
        );
        shutdown(vec![hidden, open]).await;
    }
    shutdown(vec![first]).await;
}

#[tokio::test]
async fn an_advertised_address_needs_a_port() {
    let refused = node("node-0").advertise("127.0.0.1:0").start().await;
    let Err(StartError::Setting { setting, reason }) = refused else {
        panic!("it started");
    };
    assert_eq!(setting, "advertise");
    assert!(reason.contains("127.0.0.1:0"), "{reason}");
}
