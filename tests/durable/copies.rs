//! Stored entities of nodes that have a directory each, and no database.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

use casty::{
    Settings,
    admin::{Admin, KindReport},
    error::StartError,
    prelude::*,
    testkit::{self, eventually, shutdown, soon},
};

use crate::types::{Chronicle, Vault};

const VAULTS: i64 = 40;

/// A node whose directory is in this folder.
fn node(folder: &Path, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let name = format!("node-{number}");
    ActorSystem::builder("copies")
        .data_dir(folder.join(&name))
        .node_id(name)
}

async fn deposit_all(node: &ActorSystem, amount: i64) {
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        let deposited = soon("a deposit", vault.deposit(amount)).await;
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

/// How many vaults each node has, once all can be asked.
async fn homes(node: &ActorSystem) -> BTreeMap<String, usize> {
    let mut homes = BTreeMap::new();
    for n in 0..VAULTS {
        let vault = node.entity::<Vault>(n.to_string());
        if let Ok(home) = vault.node().await {
            *homes.entry(home).or_default() += 1;
        }
    }
    homes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entities_of_a_node_that_dies_go_on_where_copies_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = testkit::cluster_of(3, |i| node(folder.path(), i)).await;
    deposit_all(&nodes[0], 1).await;
    let spread = || homes(&nodes[0]);
    eventually("they are spread", spread, |homes| homes.len() == 3).await;
    deposit_all(&nodes[0], 2).await;
    drop(nodes.remove(2));
    all_have(&nodes[0], 3).await;
    deposit_all(&nodes[1], 4).await;

    // It comes back, with what it has, and gets the rest.
    let seeds = [nodes[0].address()];
    let again = node(folder.path(), 2).seeds(seeds).start().await.unwrap();
    soon("it joins", again.wait_for(3)).await.unwrap();
    nodes.push(again);
    let spread = || homes(&nodes[0]);
    eventually("it has some again", spread, |homes| homes.len() == 3).await;
    all_have(&nodes[2], 7).await;
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_entities_is_joined_by_others_and_leaves_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = testkit::cluster_of(1, |i| node(folder.path(), i)).await;
    deposit_all(&nodes[0], 5).await;
    let seeds = [nodes[0].address()];
    let second = node(folder.path(), 1).seeds(seeds).start().await.unwrap();
    soon("it joins", second.wait_for(2)).await.unwrap();
    nodes.push(second);
    let spread = || homes(&nodes[0]);
    eventually("some have moved", spread, |homes| homes.len() == 2).await;
    all_have(&nodes[1], 5).await;
    let first = nodes.remove(0);
    soon("it leaves", first.shutdown()).await.unwrap();
    all_have(&nodes[0], 5).await;
    deposit_all(&nodes[0], 1).await;
    all_have(&nodes[0], 6).await;
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_are_gone_at_once_and_start_again_from_their_directories() {
    let folder = tempfile::tempdir().unwrap();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for round in 1..=3 {
        let mut nodes = Vec::new();
        for number in 0..3 {
            let seeds = addresses.clone();
            let node = if let Some(address) = addresses.get(number).filter(|_| round > 1) {
                let start = || {
                    let builder = node(folder.path(), number).seeds(seeds.clone());
                    builder.listen(address).start()
                };
                // What was dropped gives its address back a little later.
                let started = eventually("it starts", start, Result::is_ok).await;
                started.unwrap()
            } else {
                node(folder.path(), number)
                    .seeds(seeds)
                    .start()
                    .await
                    .unwrap()
            };
            if round == 1 {
                addresses.push(node.address());
            }
            nodes.push(node);
        }
        for node in &nodes {
            soon("the cluster forms", node.wait_for(3)).await.unwrap();
        }
        all_have(&nodes[0], round - 1).await;
        deposit_all(&nodes[1], 1).await;
        all_have(&nodes[2], round).await;
        // None of them says goodbye.
        drop(nodes);
    }
}

/// What the cluster says of an entity type.
async fn report(node: &ActorSystem, kind: &str) -> KindReport {
    let admin = Admin::connect("copies", [node.address()]).await.unwrap();
    let shards = admin.shards().await.unwrap();
    let mut kinds = shards.kinds.into_iter();
    kinds.find(|report| report.name == kind).unwrap()
}

async fn write_all(node: &ActorSystem) {
    for n in 0..60 {
        let chronicle = node.entity::<Chronicle>(n.to_string());
        let written = soon("a line", chronicle.write("a line".to_owned())).await;
        assert_eq!(written, Ok(1), "chronicle {n}");
    }
}

/// The nodes that keep each shard of the chronicles, once there are two of each.
async fn chronicles(node: &ActorSystem) -> Vec<BTreeSet<String>> {
    let nodes = || async {
        let homes = report(node, "Chronicle").await.homes.into_iter();
        let copies = homes.filter_map(|home| home.copies);
        let nodes = copies.map(|copies| copies.in_sync.iter().map(ToString::to_string).collect());
        nodes.collect::<Vec<BTreeSet<String>>>()
    };
    eventually("each has two", nodes, |nodes| {
        nodes.len() == 12 && nodes.iter().all(|nodes| nodes.len() == 2)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_says_itself_how_many_nodes_keep_it() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = testkit::cluster_of(3, |i| node(folder.path(), i)).await;
    write_all(&nodes[0]).await;
    deposit_all(&nodes[0], 1).await;
    let of = |kind| report(&nodes[1], kind);
    let copies = |report: &KindReport| report.copies.map(|copies| copies.copies);
    assert_eq!(copies(&of("Chronicle").await), Some(2));
    assert_eq!(copies(&of("Vault").await), Some(3), "as the settings say");
    chronicles(&nodes[1]).await;
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_type_that_contradicts_the_settings_of_its_node_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        copies_min: 3,
        ..Settings::default()
    };
    let started = node(folder.path(), 0).settings(settings).start().await;
    let error = started.map(drop).unwrap_err();
    assert!(
        matches!(
            &error,
            StartError::Copies { kind, copies: 2, copies_min: 3, lacks: "copies_min" } if kind == "Chronicle"
        ),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "entity type `Chronicle` would have 3 nodes store what gets out, and 2 keep it: write `copies_min = ..` as well in \
         its `#[entity(..)]`, or change `Settings::copies_min`"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copies_of_a_shard_are_in_different_zones() {
    let folder = tempfile::tempdir().unwrap();
    let in_zone = |number: usize| {
        let zone = ["west", "west", "east"][number];
        node(folder.path(), number).role(format!("zone:{zone}"))
    };
    let mut nodes = testkit::cluster_of(2, in_zone).await;
    write_all(&nodes[0]).await;
    for nodes in chronicles(&nodes[0]).await {
        assert_eq!(nodes, ["node-0", "node-1"].map(str::to_owned).into());
    }
    // Once there is another zone, each shard has a copy there.
    let third = in_zone(2).seeds([nodes[0].address()]).start().await;
    nodes.push(third.unwrap());
    let spread = || chronicles(&nodes[0]);
    eventually("they move apart", spread, |shards| {
        shards.iter().all(|nodes| nodes.contains("node-2"))
    })
    .await;
    shutdown(nodes).await;
}
