//! Stored entities of a cluster: wherever they live, they are what they were.

use std::collections::BTreeMap;

use casty::{
    persistence::Memory,
    prelude::*,
    testkit::{self, eventually, shutdown, soon},
};

use crate::types::Vault;

/// A cluster whose nodes share a store.
async fn cluster(store: &Memory, nodes: usize) -> Vec<ActorSystem> {
    casty_tests::log();
    testkit::cluster_of(nodes, |i| node(store, i)).await
}

fn node(store: &Memory, number: usize) -> casty::SystemBuilder {
    let builder = ActorSystem::builder("test").node_id(format!("node-{number}"));
    builder.journal(store.clone())
}

const VAULTS: i64 = 60;

async fn deposit_all(node: &ActorSystem, each: i64) {
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        soon("a deposit", vault.deposit(n + each)).await.unwrap();
    }
}

/// How many vaults each node has.
async fn homes(node: &ActorSystem) -> BTreeMap<String, usize> {
    let mut homes = BTreeMap::new();
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        let home = soon("a home", vault.node()).await.unwrap();
        *homes.entry(home).or_default() += 1;
    }
    homes
}

async fn all_have(node: &ActorSystem, rounds: i64, sum: i64) {
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        let balance = vault.balance().retry_for(testkit::STEP_LIMIT).await;
        assert_eq!(balance, Ok(rounds * n + sum), "vault {n}");
    }
}

#[tokio::test]
async fn entities_move_to_a_node_that_comes_and_are_what_they_were() {
    let store = Memory::new();
    let mut nodes = cluster(&store, 1).await;
    deposit_all(&nodes[0], 1).await;
    let seeds = [nodes[0].address()];
    let second = node(&store, 1).seeds(seeds).start().await.unwrap();
    soon("it joins", second.wait_for(2)).await.unwrap();
    nodes.push(second);
    let spread = || homes(&nodes[0]);
    eventually("some have moved", spread, |homes| homes.len() == 2).await;
    all_have(&nodes[1], 1, 1).await;
    deposit_all(&nodes[1], 2).await;
    let left = nodes.pop().unwrap();
    soon("it leaves", left.shutdown()).await.unwrap();
    all_have(&nodes[0], 2, 3).await;
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_of_a_node_that_dies_go_on_elsewhere_with_all_that_was_acknowledged() {
    let store = Memory::new();
    let mut nodes = cluster(&store, 3).await;
    deposit_all(&nodes[0], 0).await;
    let spread = || homes(&nodes[0]);
    eventually("they are spread", spread, |homes| homes.len() == 3).await;
    let sender = nodes[0].clone();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    // For each vault: how much was acknowledged, and how much may be stored besides.
    let sending = tokio::spawn(async move {
        let mut sums = vec![(0, 0); usize::try_from(VAULTS).unwrap()];
        while !*stopped.borrow() {
            for (n, (acknowledged, possible)) in sums.iter_mut().enumerate() {
                let vault = sender.entity::<Vault>(n.to_string());
                match vault.deposit(1).await {
                    Ok(_) => *acknowledged += 1,
                    Err(error) if error.maybe_handled() => *possible += 1,
                    Err(_) => {}
                }
            }
        }
        sums
    });
    drop(nodes.remove(2));
    let without = || homes_if_known(&nodes[1]);
    let is_over = |homes: &Option<BTreeMap<String, usize>>| {
        homes
            .as_ref()
            .is_some_and(|homes| !homes.contains_key("node-2"))
    };
    eventually("the others take over", without, is_over).await;
    stop.send(true).unwrap();
    let sums = soon("the sender", sending).await.unwrap();
    assert!(sums.iter().any(|(acknowledged, _)| *acknowledged > 0));
    for (n, (acknowledged, possible)) in (0..).zip(sums) {
        let vault = nodes[1].entity::<Vault>(n.to_string());
        let balance = vault
            .balance()
            .retry_for(testkit::STEP_LIMIT)
            .await
            .unwrap();
        let deposited = balance - n;
        let range = acknowledged..=acknowledged + possible;
        assert!(
            range.contains(&deposited),
            "vault {n}: {deposited} of {range:?}"
        );
    }
    shutdown(nodes).await;
}

async fn homes_if_known(node: &ActorSystem) -> Option<BTreeMap<String, usize>> {
    let mut homes = BTreeMap::new();
    for n in 0..VAULTS {
        let home = node.entity::<Vault>(n.to_string()).node().await.ok()?;
        *homes.entry(home).or_default() += 1;
    }
    Some(homes)
}
