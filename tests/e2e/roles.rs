//! Types that live only on nodes of a role, and nodes that host nothing.

use std::collections::BTreeSet;

use casty::{SystemBuilder, error::StartError, prelude::*};

use crate::support::{eventually, node, shutdown, soon};

/// Stores a value, on nodes with its role.
#[derive(Default)]
struct Vault {
    kept: u64,
}

#[entity(shards = 12, role = "storage")]
impl Vault {
    /// Adds to the value.
    #[message]
    fn put(&mut self, more: u64) -> u64 {
        self.kept += more;
        self.kept
    }

    /// The node that the vault lives on.
    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// Enough ids that each shard has at least one.
const VAULTS: usize = 100;

async fn start(builders: impl IntoIterator<Item = SystemBuilder>) -> Vec<ActorSystem> {
    let mut nodes: Vec<ActorSystem> = Vec::new();
    for builder in builders {
        let seeds = nodes.first().map(ActorSystem::address);
        nodes.push(builder.seeds(seeds).start().await.unwrap());
    }
    for node in &nodes {
        let all = node.wait_for(nodes.len());
        soon("the cluster forms", all).await.unwrap();
    }
    nodes
}

/// The nodes on which the vaults live, as `node` learns it.
async fn homes(node: &ActorSystem) -> BTreeSet<String> {
    let mut homes = BTreeSet::new();
    for i in 0..VAULTS {
        let vault = node.entity::<Vault>(format!("v{i}"));
        homes.insert(soon("where it lives", vault.node()).await.unwrap());
    }
    homes
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(ToOwned::to_owned).into()
}

#[tokio::test]
async fn a_type_lives_on_the_nodes_of_its_role_and_others_send_to_it() {
    let builders = [
        node("node-0"),
        node("node-1").role("storage"),
        node("node-2").role("web"),
    ];
    let mut nodes = start(builders).await;
    for node in &nodes {
        assert_eq!(homes(node).await, set(["node-1"]));
    }
    let storage = |nodes: &[ActorSystem]| {
        let members = nodes[0].members();
        let roles = members.into_iter().map(|member| member.roles);
        roles.collect::<Vec<_>>()
    };
    let told = || std::future::ready(storage(&nodes));
    let expected = [set([]), set(["storage"]), set(["web"])];
    eventually("the roles are told", told, |roles| *roles == expected).await;

    // A second node takes its share, and messages sent by way of the first still arrive.
    let seeds = [nodes[0].address()];
    let second = node("node-3").role("storage").role("web").seeds(seeds);
    nodes.push(second.start().await.unwrap());
    let both = || homes(&nodes[2]);
    eventually("they share", both, |homes| {
        *homes == set(["node-1", "node-3"])
    })
    .await;
    // And it hands its share back.
    let leaver = nodes.pop().unwrap();
    soon("it leaves", leaver.shutdown()).await.unwrap();
    assert_eq!(homes(&nodes[2]).await, set(["node-1"]));
    shutdown(nodes).await;
}

#[tokio::test]
async fn an_error_names_a_role_that_no_member_has() {
    let mut nodes = start([node("node-0"), node("node-1").role("storag")]).await;
    let vault = nodes[1].entity::<Vault>("v");
    let error = soon("an error", vault.put(1)).await.unwrap_err();
    assert_eq!(
        error,
        AskError::<std::convert::Infallible>::UnknownEntity {
            name: "Vault".to_owned(),
            role: Some("storage".to_owned()),
        }
    );
    let text = error.to_string();
    assert!(text.contains("with the role `storage`"), "{text}");
    // A retry is useless until a node with the role joins, and works from then on.
    let builder = node("node-2").role("storage");
    let third = builder.seeds([nodes[0].address()]).start().await.unwrap();
    soon("it joins", third.wait_for(3)).await.unwrap();
    assert_eq!(soon("an answer", vault.put(1)).await, Ok(1));
    nodes.push(third);
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_system_without_a_network_lacks_no_role() {
    let system = ActorSystem::local("app");
    assert_eq!(system.entity::<Vault>("v").put(2).await, Ok(2));
    let system = ActorSystem::builder("app").start_local().unwrap();
    assert_eq!(system.entity::<Vault>("v").put(3).await, Ok(3));
}

#[tokio::test]
async fn roles_are_names_and_not_too_many() {
    let many = (0..17).fold(node("node-0"), |node, n| node.role(format!("r{n}")));
    for builder in [
        node("node-0").role(""),
        node("node-0").role("r".repeat(256)),
        many,
        node("node-0").role("zone:"),
        node("node-0").role("zone:eu-1").role("zone:eu-2"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(
            matches!(
                error,
                StartError::Setting {
                    setting: "role",
                    ..
                }
            ),
            "{error}"
        );
    }
    // A role that is given twice is one role.
    let twice = (0..20).fold(node("node-0"), |node, _| node.role("r"));
    let node = twice.start().await.unwrap();
    assert_eq!(node.members().len(), 0);
    soon("it founds", node.wait_for(1)).await.unwrap();
    assert_eq!(node.members()[0].roles, set(["r"]));
    shutdown(vec![node]).await;
}

/// Two nodes store, and a witness hosts no vault and votes: whichever of the two dies, the other
/// goes on.
#[tokio::test]
async fn with_a_witness_either_of_two_may_fail() {
    for victim in [0, 1] {
        let builders = [
            node("node-0").role("storage"),
            node("node-1").role("storage"),
            node("witness"),
        ];
        let mut nodes = start(builders).await;
        assert_eq!(homes(&nodes[2]).await, set(["node-0", "node-1"]));
        let admin = casty::admin::Admin::connect("test", [nodes[2].address()]);
        let admin = soon("it answers", admin).await.unwrap();
        let voters = || async {
            let members = soon("members", admin.members()).await;
            members.map_or(0, |all| all.members.iter().filter(|m| m.votes).count())
        };
        eventually("all three vote", voters, |voters| *voters == 3).await;
        drop(nodes.remove(victim));
        let survivor = set([["node-1", "node-0"][victim]]);
        let ask = || async {
            let mut homes = BTreeSet::new();
            for i in 0..VAULTS {
                homes.insert(nodes[1].entity::<Vault>(format!("v{i}")).node().await.ok());
            }
            homes
        };
        let survivor: BTreeSet<_> = survivor.into_iter().map(Some).collect();
        eventually("the other has all", ask, |homes| *homes == survivor).await;
        for node in &nodes {
            soon("shutdown", node.shutdown()).await;
        }
    }
}
