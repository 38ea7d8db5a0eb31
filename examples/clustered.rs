//! Two nodes form a cluster, and counters live on either of them.
//!
//! In one process: `cargo run --example clustered`
//!
//! One node per process, in two terminals: `cargo run --example clustered -- --node node-1`, then
//! `cargo run --example clustered -- --node node-2`. The second node sends the messages, and its
//! end ends the first.

use casty::prelude::*;

/// A counter. One lives per entity id, on whichever node owns its shard.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 10)]
impl Counter {
    /// Adds `amount` and says so.
    #[message]
    fn increment(&mut self, amount: i64, ctx: &mut Context<Self>) {
        let id = ctx.entity_id();
        println!(
            "  [{id}] {} + {amount} = {}",
            self.value,
            self.value + amount
        );
        self.value += amount;
    }

    /// The current value.
    #[message]
    async fn value(&self) -> i64 {
        self.value
    }
}

const NODE_1: &str = "127.0.0.1:25520";
const NODE_2: &str = "127.0.0.1:25521";

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => both_nodes().await,
        ["--node", "node-1"] => node_1_alone().await,
        ["--node", "node-2"] => node_2_alone().await,
        _ => Err("usage: clustered [--node node-1 | --node node-2]".into()),
    }
}

async fn start_node_1() -> Result<ActorSystem, AnyError> {
    let builder = ActorSystem::builder("my-cluster")
        .node_id("node-1")
        .listen(NODE_1);
    Ok(builder.start().await?)
}

async fn start_node_2() -> Result<ActorSystem, AnyError> {
    let builder = ActorSystem::builder("my-cluster")
        .node_id("node-2")
        .listen(NODE_2);
    Ok(builder.seeds([NODE_1]).start().await?)
}

async fn both_nodes() -> Result<(), AnyError> {
    let node1 = start_node_1().await?;
    let node2 = start_node_2().await?;
    node1.wait_for(2).await?;
    node2.wait_for(2).await?;

    count(&node1).await?;

    node2.shutdown().await?;
    node1.shutdown().await?;
    Ok(())
}

/// Hosts counters until the other node has left.
async fn node_1_alone() -> Result<(), AnyError> {
    let node1 = start_node_1().await?;
    let mut events = node1.events();
    println!("── node-1 waits for node-2 ──");
    node1.wait_for(2).await?;
    while let Some(event) = events.next().await {
        if matches!(event, Event::MemberLeft(_)) {
            break;
        }
    }
    node1.shutdown().await?;
    Ok(())
}

async fn node_2_alone() -> Result<(), AnyError> {
    let node2 = start_node_2().await?;
    node2.wait_for(2).await?;
    count(&node2).await?;
    node2.shutdown().await?;
    Ok(())
}

async fn count(node: &ActorSystem) -> Result<(), AnyError> {
    println!("── Cluster formed (2 nodes) ──\n");

    println!("── Sending increments ──");
    node.entity::<Counter>("alice").increment(10).tell().await?;
    node.entity::<Counter>("alice").increment(5).tell().await?;
    node.entity::<Counter>("bob").increment(100).tell().await?;
    node.entity::<Counter>("carol").increment(42).tell().await?;

    // An entity handles messages in the order they were sent. So all increments have been printed
    // once all three answers are here.
    let mut balances = Vec::new();
    for name in ["alice", "bob", "carol"] {
        balances.push((name, node.entity::<Counter>(name).value().await?));
    }

    println!("\n── Querying balances ──");
    for (name, balance) in balances {
        println!("  {name}: {balance}");
    }
    Ok(())
}
