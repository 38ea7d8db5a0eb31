//! The future that ends with a node.

use casty::{
    error::{JoinError, ShutdownError},
    prelude::*,
};
use casty_tests::Counter;
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

fn runtime(threads: usize) -> tokio::runtime::Runtime {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let builder = builder.worker_threads(threads.max(1));
    builder.enable_all().build().unwrap()
}

/// No task of it runs any more, and no timer.
#[test]
fn a_system_whose_runtime_has_ended_refuses_messages_and_ends_asks() {
    for threads in [0, 2] {
        let (theirs, ours) = (runtime(threads), runtime(0));
        let (system, asking) = theirs.block_on(async {
            let system = node("here").start().await.unwrap();
            soon("it serves", system.ready()).await.unwrap();
            let counter = system.entity::<Counter>("a");
            assert_eq!(counter.add(1).await, Ok(1));
            (system, counter)
        });
        let local = theirs.block_on(async { ActorSystem::local("app") });
        let spawned = theirs.block_on(async { local.spawn(Parrot) });
        let under_way = ours.spawn(asking.nap(600_000).into_future());
        ours.block_on(a_while());
        assert!(!under_way.is_finished());
        theirs.shutdown_background();
        ours.block_on(async {
            let lost = soon("its end", under_way).await.unwrap().unwrap_err();
            assert!(lost.maybe_handled() || lost == AskError::Stopped, "{lost}");
            soon("it terminates", system.terminated()).await;
            soon("it terminates", local.terminated()).await;
            let asked = soon("an end", asking.add(1)).await;
            assert_eq!(asked, Err(AskError::Stopped), "{threads} threads");
            let told = soon("an end", asking.increment(1).tell()).await;
            assert!(matches!(told, Err(TellError::Stopped(_))), "{told:?}");
            let other = local.entity::<Counter>("b").add(1);
            let other = soon("an end", other).await.unwrap_err();
            assert!(!other.maybe_handled(), "{other}");
            let spoken = soon("an end", spawned.speak()).await;
            assert_eq!(spoken, Err(AskError::Stopped));
            assert!(!system.is_ready() && !local.is_ready());
            let unready = soon("an end", system.ready()).await;
            assert_eq!(unready, Err(JoinError::ShutDown));
        });
    }
}

struct Parrot;

#[actor]
impl Parrot {
    #[message]
    fn speak(&self) {}
}
