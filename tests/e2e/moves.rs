//! Shards that get another home, and clusters that have lost a voter, or the only one.

use casty::prelude::*;
use casty_tests::{Counter, CounterRef, Ledger, Seen};

use crate::support::{cluster, entity_on, event, eventually, shutdown, soon};

#[tokio::test]
async fn entities_live_on_elsewhere_after_their_node_has_left() {
    let mut nodes = cluster(3).await;
    for i in 0..50 {
        nodes[0]
            .entity::<Counter>(format!("c{i}"))
            .add(1)
            .await
            .unwrap();
    }
    let leaver = nodes.pop().unwrap();
    soon("it leaves", leaver.shutdown()).await.unwrap();
    for i in 0..50 {
        let counter = nodes[1].entity::<Counter>(format!("c{i}"));
        let home = soon("an answer", counter.node()).await.unwrap();
        assert_ne!(home, "node-2");
        // State lives on its node. The state on the other nodes is still there.
        assert!(matches!(counter.value().await, Ok(0 | 1)));
    }
    shutdown(nodes).await;
}

/// While a node leaves under load, no message is lost silently, and none is handled twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leave_under_load_loses_no_message() {
    const ENTITIES: usize = 100;
    let mut nodes = cluster(3).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let sender = nodes[0].clone();
    let sending = tokio::spawn(async move {
        let counters: Vec<_> = (0..ENTITIES)
            .map(|i| sender.entity::<Counter>(format!("c{i}")))
            .collect();
        let mut asked = 0;
        while !*stopped.borrow() {
            for counter in &counters {
                // An ask under way when its entity stops is either answered or sent again: the
                // leaving node handles what it has taken.
                counter.add(1).await.unwrap();
                asked += 1;
            }
        }
        asked
    });
    let warm = || nodes[1].entity::<Counter>("c99").value().into_future();
    eventually("it is under way", warm, |value| matches!(value, Ok(1..))).await;
    let leaver = nodes.pop().unwrap();
    soon("it leaves", leaver.shutdown()).await.unwrap();
    stop.send(true).unwrap();
    let asked: u64 = soon("the sender", sending).await.unwrap();
    assert!(asked > ENTITIES as u64);
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tells_during_a_leave_arrive_or_are_dead_letters() {
    const ENTITIES: usize = 100;
    const EACH: u64 = 200;
    let mut nodes = cluster(3).await;
    let sender = nodes[0].clone();
    let sending = tokio::spawn(async move {
        let ledgers: Vec<_> = (0..ENTITIES)
            .map(|i| sender.entity::<Counter>(format!("l{i}")))
            .collect();
        for _ in 0..EACH {
            for ledger in &ledgers {
                ledger.increment(1).tell().await.unwrap();
            }
        }
        // Behind every earlier tell.
        for ledger in &ledgers {
            ledger.value().await.unwrap();
        }
    });
    let leaver = nodes.pop().unwrap();
    soon("it leaves", leaver.shutdown()).await.unwrap();
    soon("the sender", sending).await.unwrap();
    let dead: u64 = nodes
        .iter()
        .chain([&leaver])
        .map(ActorSystem::dead_letters)
        .sum();
    assert_eq!(dead, 0);
    shutdown(nodes).await;
}

/// All three nodes vote: without the founder, the other two elect a leader and go on.
#[tokio::test]
async fn without_the_founder_known_homes_work_and_new_ones_are_found() {
    let mut nodes = cluster(3).await;
    let mut on_others = Vec::new();
    for i in 0..30 {
        let id = format!("l{i}");
        let home = nodes[0].entity::<Counter>(&id).node().await.unwrap();
        // Nodes 1 and 2 both have to know the entity's home.
        for node in &nodes {
            node.entity::<Counter>(&id)
                .increment(1)
                .tell()
                .await
                .unwrap();
        }
        if home != "node-0" {
            on_others.push(id);
        }
    }
    assert!(!on_others.is_empty());
    drop(nodes.remove(0));
    for id in &on_others {
        for node in &nodes {
            assert_eq!(
                soon("an answer", node.entity::<Counter>(id).value()).await,
                Ok(3)
            );
        }
    }
    // No ledger has been used before, so none of their shards has a home.
    for node in &nodes {
        let ledger = node.entity::<Ledger>("new");
        assert_eq!(soon("an answer", ledger.seen()).await, Ok(Seen::default()));
    }
    for node in &nodes {
        soon("shutdown", node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn without_its_only_voter_a_cluster_serves_nothing_and_says_so() {
    let mut nodes = cluster(2).await;
    let counter = entity_on::<Counter>(&nodes[0], "node-1", CounterRef::node).await;
    let counter = nodes[1].entity::<Counter>(counter.entity_id());
    drop(nodes.remove(0));
    // Until its lease is over.
    let ask = || counter.value().into_future();
    eventually("no quorum", ask, |answer| {
        *answer == Err(AskError::<std::convert::Infallible>::NoQuorum)
    })
    .await;
    let ledger = nodes[0].entity::<Ledger>("new");
    assert_eq!(
        soon("an error", ledger.seen()).await,
        Err(AskError::<std::convert::Infallible>::NoQuorum)
    );
    let mut events = nodes[0].events();
    ledger.note(0, 0).tell().await.unwrap();
    event(&mut events, "a dead letter", |event| match event {
        Event::DeadLetter(dead) => (dead.message == "note").then_some(()),
        _ => None,
    })
    .await;
    for node in &nodes {
        soon("shutdown", node.shutdown()).await.unwrap();
    }
}

#[tokio::test]
async fn a_founder_may_leave_first() {
    let nodes = cluster(2).await;
    soon("it leaves", nodes[0].shutdown()).await.unwrap();
    soon("the other follows", nodes[1].shutdown())
        .await
        .unwrap();
}

#[tokio::test]
async fn first_messages_are_kept_in_order_while_a_home_is_found() {
    let nodes = cluster(2).await;
    for i in 0..64 {
        let ledger = nodes[1].entity::<Ledger>(format!("fresh{i}"));
        for number in 0..20 {
            ledger.note(0, number).try_tell().unwrap();
        }
        let seen = soon("an answer", ledger.seen()).await;
        assert_eq!(
            seen,
            Ok(Seen {
                messages: 20,
                out_of_order: 0
            })
        );
    }
    shutdown(nodes).await;
}
