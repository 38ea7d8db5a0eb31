//! Helpers that the tests share.

use std::time::Duration;

use casty::{ActorSystem, Call, Entity, Event, Events, SystemBuilder};

/// A step that takes longer hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Fails a test that hangs.
pub(crate) async fn soon<T>(what: &str, wait: impl IntoFuture<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, wait).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {LIMIT:?}"),
    }
}

pub(crate) fn node(name: &str) -> SystemBuilder {
    casty_tests::log();
    ActorSystem::builder("test").node_id(name)
}

/// A cluster of `n` nodes in this process. Each node sees all others.
pub(crate) async fn cluster(n: usize) -> Vec<ActorSystem> {
    let first = node("node-0").start().await.unwrap();
    let mut nodes = vec![first];
    for i in 1..n {
        let seeds = [nodes[0].address()];
        nodes.push(
            node(&format!("node-{i}"))
                .seeds(seeds)
                .start()
                .await
                .unwrap(),
        );
    }
    for node in &nodes {
        soon("the cluster forms", node.wait_for(n)).await.unwrap();
    }
    nodes
}

pub(crate) async fn shutdown(nodes: Vec<ActorSystem>) {
    // The founder leaves last: until then it can record that the others have left.
    for node in nodes.into_iter().rev() {
        soon("shutdown", node.shutdown()).await.unwrap();
    }
}

/// An entity that lives on the node `home`. `node` asks for the home of an entity.
pub(crate) async fn entity_on<E: Entity>(
    system: &ActorSystem,
    home: &str,
    node: impl Fn(&E::Ref) -> Call<E, String>,
) -> E::Ref {
    for n in 0.. {
        let entity = system.entity::<E>(format!("{home}-{n}"));
        if soon("where it lives", node(&entity)).await.unwrap() == home {
            return entity;
        }
    }
    unreachable!("one of them lives there")
}

/// The first event from now on for which `look` returns a value.
pub(crate) async fn event<T>(
    events: &mut Events,
    what: &str,
    mut look: impl FnMut(&Event) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the system still runs");
            if let Some(found) = look(&event) {
                return found;
            }
        }
    })
    .await
}

/// Repeats `ask` until `look` accepts the answer.
pub(crate) async fn eventually<T, F: Future<Output = T>>(
    what: &str,
    mut ask: impl FnMut() -> F,
    mut look: impl FnMut(&T) -> bool,
) -> T {
    soon(what, async {
        loop {
            let answer = ask().await;
            if look(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}
