//! Real clusters in one process, over loopback.

use super::soon;
use crate::{ActorSystem, SystemBuilder, persistence::Memory};

/// Starts a cluster of `n` nodes in this process, over loopback, and waits until each node sees all
/// of them Up. The nodes are called `node-0`, `node-1` and so on, and join in this order; `node-0`
/// founds the cluster.
///
/// The nodes run in real time. A cluster in simulated time, whose nodes and network a test can
/// break, is a `Sim` (feature `sim`).
///
/// ```standalone_crate
/// use casty::{prelude::*, testkit};
///
/// #[derive(Default)]
/// struct Meter {
///     value: u64,
/// }
///
/// #[entity]
/// impl Meter {
///     #[message]
///     fn add(&mut self, amount: u64) -> u64 {
///         self.value += amount;
///         self.value
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let nodes = testkit::cluster(2).await;
/// assert_eq!(nodes[0].entity::<Meter>("x").add(1).await, Ok(1));
/// assert_eq!(nodes[1].entity::<Meter>("x").add(1).await, Ok(2));
/// testkit::shutdown(nodes).await;
/// # }
/// ```
///
/// # Panics
/// If a node does not start, or if the cluster does not form within
/// [`STEP_LIMIT`](super::STEP_LIMIT).
pub async fn cluster(n: usize) -> Vec<ActorSystem> {
    cluster_of(n, |i| {
        ActorSystem::builder("test").node_id(format!("node-{i}"))
    })
    .await
}

/// Starts a cluster of `n` nodes, each with its own settings: `builder` gets the node's number. The
/// seed of all nodes but the first is added to its builder. See [`cluster`].
///
/// # Panics
/// As for [`cluster`].
pub async fn cluster_of(
    n: usize,
    mut builder: impl FnMut(usize) -> SystemBuilder,
) -> Vec<ActorSystem> {
    let mut nodes: Vec<ActorSystem> = Vec::new();
    let journal = Memory::new();
    for i in 0..n {
        let seeds = nodes.first().map(ActorSystem::address);
        let node = match builder(i)
            .for_tests(journal.clone())
            .seeds(seeds)
            .start()
            .await
        {
            Ok(node) => node,
            Err(error) => panic!("node {i} of {n} does not start: {error}"),
        };
        joined(&node, i + 1).await;
        nodes.push(node);
    }
    for node in &nodes {
        joined(node, n).await;
    }
    nodes
}

/// Waits until a node sees this many members Up.
async fn joined(node: &ActorSystem, members: usize) {
    if let Err(error) = soon("the cluster forms", node.wait_for(members)).await {
        panic!("`{}` does not join: {error}", node.node_id());
    }
}

/// Shuts all nodes of a cluster down, the founder last, so that the founder can record that the
/// others have left.
///
/// # Panics
/// If a node does not shut down in time.
pub async fn shutdown(nodes: Vec<ActorSystem>) {
    for node in nodes.into_iter().rev() {
        if let Err(error) = soon("shutdown", node.shutdown()).await {
            panic!("`{}` does not shut down: {error}", node.node_id());
        }
    }
}
