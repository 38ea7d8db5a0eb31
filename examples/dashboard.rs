//! A cluster of three nodes at work, and a page that shows what they do.
//!
//! ```sh
//! cargo run --example dashboard
//! ```
//!
//! Open the address that it prints. `casty top --cluster harbour --node ADDRESS` shows the same in
//! a terminal. One of the cranes is slow, one is asked for more than it can do, and now and then
//! one fails: the page says so. Ctrl-C ends it.

use std::sync::atomic::{AtomicU64, Ordering};

use casty::prelude::*;
use tokio::task::JoinSet;

/// A container on its way.
#[derive(Default)]
struct Container {
    moves: u64,
}

#[entity(name = "Container", shards = 64)]
impl Container {
    /// It was moved.
    #[message]
    fn moved(&mut self) -> u64 {
        self.moves += 1;
        self.moves
    }
}

/// A crane, which moves one container at a time.
#[derive(Default)]
struct Crane {
    lifted: u64,
}

#[entity(name = "Crane", shards = 16, mailbox = 2000, on_failure = resume)]
impl Crane {
    /// Lifts a container.
    #[message(timeout = "10s")]
    async fn lift(&mut self, ctx: &mut Context<Self>, container: u64, takes: Duration) -> u64 {
        assert!(!container.is_multiple_of(997), "the hook is stuck");
        tokio::time::sleep(takes).await;
        self.lifted += 1;
        let container = ctx.entity::<Container>(format!("c{}", container % 5000));
        container.moved().await.unwrap_or_default()
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Has a crane lift containers for ever.
async fn work(node: ActorSystem, crane: &'static str, takes: Duration) {
    loop {
        let lift = node.entity::<Crane>(crane).lift(next(), takes);
        if lift.await.is_err() {
            // What happens is on the page.
            tokio::task::yield_now().await;
        }
    }
}

/// Tells a crane more than it can do.
async fn overload(node: ActorSystem) {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        ticks.tick().await;
        let crane = node.entity::<Crane>("busy");
        let lift = crane.lift(next(), Duration::from_millis(6));
        if lift.try_tell().is_err() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut nodes: Vec<ActorSystem> = Vec::new();
    for name in ["north", "east", "south"] {
        let node = ActorSystem::builder("harbour").node_id(name);
        let node = node.seeds(nodes.first().map(ActorSystem::address));
        nodes.push(node.start().await?);
    }
    for node in &nodes {
        node.ready().await?;
    }
    let dashboard = casty_dashboard::serve(&nodes[0], "127.0.0.1:0").await?;
    println!("open http://{}", dashboard.address());
    println!("nodes: {}", nodes[0].address());

    // They end with the set.
    let mut at_work = JoinSet::new();
    for node in &nodes {
        for crane in ["quay-1", "quay-2", "yard-1", "yard-2"] {
            at_work.spawn(work(node.clone(), crane, Duration::from_millis(1)));
        }
    }
    at_work.spawn(work(nodes[0].clone(), "slow", Duration::from_secs(6)));
    at_work.spawn(overload(nodes[1].clone()));

    nodes[0].terminated().await;
    at_work.shutdown().await;
    dashboard.shutdown().await?;
    for node in nodes {
        // The crane that was told too much has more to do than a shutdown waits for.
        if let Err(error) = node.shutdown().await {
            println!("{error}");
        }
    }
    Ok(())
}
