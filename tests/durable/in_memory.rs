//! Stored entities of nodes that keep them in memory.

use casty::{
    error::StartError,
    persistence::Memory,
    prelude::*,
    testkit::{self, eventually, shutdown, soon},
};

use crate::types::Vault;

const VAULTS: i64 = 30;

fn node(number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    ActorSystem::builder("in-memory")
        .data_in_memory()
        .node_id(format!("node-{number}"))
}

async fn deposit_all(node: &ActorSystem, amount: i64) {
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        let deposited = vault.deposit(amount).retry_for(testkit::STEP_LIMIT).await;
        assert!(deposited.is_ok(), "vault {n}: {deposited:?}");
    }
}

async fn all_have(node: &ActorSystem, sum: i64) {
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        let balance = vault.balance().retry_for(testkit::STEP_LIMIT).await;
        assert_eq!(balance, Ok(sum), "vault {n}");
    }
}

async fn joins(number: usize, seeds: &[ActorSystem], members: usize) -> ActorSystem {
    let seeds: Vec<_> = seeds.iter().map(ActorSystem::address).collect();
    let node = node(number).seeds(seeds).start().await.unwrap();
    soon("it joins", node.wait_for(members)).await.unwrap();
    node
}

/// Waits until all of these nodes vote, and each shard has copies on all of them: then any one of
/// them may go.
async fn any_may_go(node: &ActorSystem, nodes: usize) {
    let admin = casty::admin::Admin::connect("in-memory", [node.address()]);
    let admin = admin.await.unwrap();
    let look = || async {
        let (Ok(members), Ok(shards)) = (admin.members().await, admin.shards().await) else {
            return false;
        };
        let members = members.members.iter();
        let voting = members.filter(|member| member.votes && member.serves == Some(true));
        let kinds = shards.kinds.iter();
        let mut homes = kinds.flat_map(|kind| &kind.homes);
        let is_copied = homes.all(|home| {
            let copies = home.copies.as_ref();
            copies.is_some_and(|it| it.in_sync.len() == nodes && it.waits_for.is_empty())
        });
        is_copied && voting.count() == nodes
    };
    eventually("copies and votes are there", look, |are_there| *are_there).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_any_node_and_not_all() {
    let mut nodes = testkit::cluster_of(3, node).await;
    deposit_all(&nodes[0], 1).await;
    any_may_go(&nodes[0], 3).await;
    // It does not say goodbye.
    drop(nodes.remove(2));
    all_have(&nodes[0], 1).await;
    deposit_all(&nodes[1], 2).await;

    // What comes under its name has nothing, and gets all of it.
    let third = joins(2, &nodes, 3).await;
    nodes.push(third);
    any_may_go(&nodes[0], 3).await;
    drop(nodes.remove(0));
    all_have(&nodes[1], 3).await;

    // All of them: a new cluster begins with nothing.
    drop(nodes);
    let nodes = testkit::cluster_of(3, node).await;
    all_have(&nodes[0], 0).await;
    deposit_all(&nodes[0], 5).await;
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_system_stores_in_memory_until_it_ends() {
    casty_tests::log();
    for _ in 0..2 {
        let system = ActorSystem::builder("alone").data_in_memory().start_local();
        let system = system.unwrap();
        let vault = system.entity::<Vault>("alice");
        for sum in 1..=30 {
            assert_eq!(vault.deposit(1).await, Ok(sum));
        }
        system.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn it_is_one_place_or_another() {
    let folder = tempfile::tempdir().unwrap();
    let local = node(0).data_dir(folder.path()).start_local();
    let refused = [
        (local.map(drop), "data_dir"),
        (
            node(0).journal(Memory::new()).start().await.map(drop),
            "journal",
        ),
    ];
    for (refused, other) in refused {
        let refused = refused.unwrap_err();
        assert!(matches!(
            refused,
            StartError::Setting {
                setting: "data_in_memory",
                ..
            }
        ));
        let text = refused.to_string();
        assert!(text.contains(other), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_directory_does_not_join_those_without() {
    let nodes = testkit::cluster_of(1, node).await;
    let folder = tempfile::tempdir().unwrap();
    let other = ActorSystem::builder("in-memory")
        .data_dir(folder.path())
        .node_id("other")
        .seeds([nodes[0].address()])
        .start()
        .await
        .unwrap();
    let refused = soon("it is refused", other.wait_for(2)).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("this cluster in memory"), "{text}");
    drop(other);
    shutdown(nodes).await;
}
