//! The future that ends with a node.

use casty::{
    error::{JoinError, ShutdownError},
    prelude::*,
};
use tokio::task::JoinHandle;

use crate::support::{cluster, node, shutdown, soon};

fn watch(system: &ActorSystem) -> JoinHandle<()> {
    tokio::spawn(system.terminated())
}

/// All tasks that can run have run.
async fn a_while() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shutdown_by_anybody_terminates() {
    let mut nodes = cluster(2).await;
    let (first, second) = (watch(&nodes[0]), watch(&nodes[1]));
    a_while().await;
    assert!(!first.is_finished() && !second.is_finished());
    let other = nodes[1].clone();
    tokio::spawn(async move { other.shutdown().await });
    soon("it terminates", second).await.unwrap();
    assert!(!nodes[1].is_ready());
    soon("at once, later", nodes[1].terminated()).await;
    assert!(!first.is_finished(), "the other node goes on");
    soon("run", nodes[1].run_until_terminated()).await.unwrap();
    nodes.truncate(1);
    shutdown(nodes).await;
    soon("it terminates", first).await.unwrap();
}

#[tokio::test]
async fn a_dropped_system_terminates() {
    let local = ActorSystem::local("app");
    let one = node("one").start().await.unwrap();
    let (clone, watches) = (local.clone(), [watch(&local), watch(&one)]);
    a_while().await;
    drop((local, one));
    let [here, there] = watches;
    soon("the node terminates", there).await.unwrap();
    a_while().await;
    assert!(!here.is_finished(), "a clone is left");
    drop(clone);
    soon("the system terminates", here).await.unwrap();
}

#[tokio::test]
async fn a_node_that_will_never_be_a_member_terminates() {
    let first = node("first").start().await.unwrap();
    let other = ActorSystem::builder("other").seeds([first.address()]);
    let stranger = other.start().await.unwrap();
    let watch = watch(&stranger);
    let ended = soon("it runs until then", stranger.run_until_terminated()).await;
    let is_refused = |ended: &Result<(), ShutdownError>| {
        matches!(
            ended,
            Err(ShutdownError::NoMember {
                reason: JoinError::Refused { .. }
            })
        )
    };
    assert!(is_refused(&ended), "{ended:?}");
    soon("it terminates", watch).await.unwrap();
    soon("shutdown", first.shutdown()).await.unwrap();
}
