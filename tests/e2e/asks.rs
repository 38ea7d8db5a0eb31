//! Asks between actors.

use casty::{
    prelude::*,
    reply::{Later, Promise},
    testkit,
};

use crate::support::{cluster, entity_on, shutdown, soon};

/// Asks its friends, and is asked.
#[derive(Default)]
struct Friend {
    waiting: Vec<Promise<u32>>,
    back: Option<String>,
}

#[entity(shards = 4)]
impl Friend {
    /// Asks the first friend of the list to ask the rest.
    #[message]
    async fn pass_on(&self, to: Vec<String>, ctx: &mut Context<Self>) -> Result<u32, String> {
        let Some((first, rest)) = to.split_first() else {
            return Ok(0);
        };
        let next = ctx.entity::<Self>(first);
        match next.pass_on(rest.to_vec()).await {
            Ok(depth) => Ok(depth + 1),
            Err(AskError::Entity(reason)) => Err(reason),
            Err(AskError::Deadlock { chain }) => Err(chain.join(" ")),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    /// The same, in a task of its own.
    #[message]
    fn pass_aside(&mut self, to: String, ctx: &mut Context<Self>) -> Later<u32> {
        let (promise, later) = Promise::new();
        let next = ctx.entity::<Self>(to);
        ctx.pipe(
            async move { next.pass_on(vec![]).await.unwrap_or(99) },
            |depth| FriendMsg::Passed { depth, promise },
        );
        later
    }

    #[message(internal)]
    fn passed(&mut self, depth: u32, promise: Promise<u32>) {
        promise.reply(depth);
    }

    /// The same, in a task of its own, as a call.
    #[message]
    fn pass_aside_as_a_call(&mut self, to: String, ctx: &mut Context<Self>) -> Later<u32> {
        let (promise, later) = Promise::new();
        let call = ctx.entity::<Self>(to).pass_on(vec![]);
        ctx.pipe(call, |depth| FriendMsg::Passed {
            depth: depth.unwrap_or(99),
            promise,
        });
        later
    }

    /// Asks a friend and gives up; the friend then asks back.
    #[message]
    async fn impatient(&self, via: String, ctx: &mut Context<Self>) -> String {
        let next = ctx.entity::<Self>(via);
        let me = ctx.entity_id().to_string();
        let asked = next.slow_back(me).timeout(Duration::from_millis(100)).await;
        format!("{asked:?}")
    }

    #[message]
    async fn slow_back(&mut self, to: String, ctx: &mut Context<Self>) -> u32 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let back = ctx.entity::<Self>(to).pass_on(vec![]).await;
        self.back = Some(format!("{back:?}"));
        0
    }

    /// The answer it got when it asked back.
    #[message]
    fn back(&self) -> Option<String> {
        self.back.clone()
    }

    /// Answered when another message opens it.
    #[message]
    fn wait(&mut self) -> Later<u32> {
        let (promise, later) = Promise::new();
        self.waiting.push(promise);
        later
    }

    #[message]
    fn open(&mut self, value: u32) -> u64 {
        let count = self.waiting.len() as u64;
        for promise in self.waiting.drain(..) {
            promise.reply(value);
        }
        count
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn forget(&mut self) {
        self.waiting.clear();
    }
}

fn ids(ids: &str) -> Vec<String> {
    ids.split_whitespace().map(ToOwned::to_owned).collect()
}

#[test]
fn a_chain_is_fine_and_a_circle_is_told_at_once() {
    testkit::paused(|system| async move {
        let begun = tokio::time::Instant::now();
        let a = system.entity::<Friend>("a");
        assert_eq!(a.pass_on(ids("b c d")).await, Ok(3));
        // The same actor twice, but the second time it no longer waits.
        assert_eq!(a.pass_on(ids("b c")).await, Ok(2));
        let circles = [
            ("a", "Friend/a Friend/a"),
            ("b a", "Friend/a Friend/b Friend/a"),
            ("b c d b", "Friend/b Friend/c Friend/d Friend/b"),
        ];
        for (path, chain) in circles {
            let expected = AskError::Entity(chain.to_owned());
            assert_eq!(a.pass_on(ids(path)).await, Err(expected), "{path}");
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // No actor is stuck.
        assert_eq!(a.pass_on(ids("b c d")).await, Ok(3));
    });
}

#[test]
fn work_of_its_own_may_ask_in_a_circle() {
    testkit::paused(|system| async move {
        let a = system.entity::<Friend>("a");
        assert_eq!(a.pass_aside("a".into()).await, Ok(0));
        assert_eq!(a.pass_aside("b".into()).await, Ok(0));
    });
}

#[test]
fn an_ask_that_was_given_up_closes_no_circle() {
    testkit::paused(|system| async move {
        let a = system.entity::<Friend>("a");
        let answer = a.impatient("b".into()).await.unwrap();
        assert!(answer.contains("Timeout"), "{answer}");
        let b = system.entity::<Friend>("b");
        assert_eq!(b.back().await, Ok(Some("Ok(0)".to_owned())));
    });
}

#[test]
fn an_ask_in_a_handler_blocks_no_other_actor() {
    testkit::paused(|system| async move {
        let (a, b) = (system.entity::<Friend>("a"), system.entity::<Friend>("b"));
        let slow = tokio::spawn(a.impatient("c".into()).into_future());
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(b.pass_on(ids("d")).await, Ok(1));
        slow.await.unwrap().unwrap();
    });
}

#[test]
fn later_replies_come_later_and_a_dropped_promise_is_told() {
    testkit::paused(|system| async move {
        let friend = system.entity::<Friend>("f");
        let waiting: Vec<_> = (0..3)
            .map(|_| tokio::spawn(friend.wait().into_future()))
            .collect();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(friend.open(7).await, Ok(3));
        for answer in waiting {
            assert_eq!(answer.await.unwrap(), Ok(7));
        }
        let forgotten = tokio::spawn(friend.wait().into_future());
        tokio::time::sleep(Duration::from_millis(10)).await;
        friend.forget().await.unwrap();
        assert_eq!(forgotten.await.unwrap(), Err(AskError::Stopped));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_across_nodes_is_told_at_once_too() {
    let nodes = cluster(3).await;
    let friend = async |home| {
        let friend = entity_on::<Friend>(&nodes[0], home, FriendRef::node).await;
        friend.entity_id().to_string()
    };
    let a = friend("node-0").await;
    let b = friend("node-1").await;
    let c = friend("node-2").await;
    let first = nodes[0].entity::<Friend>(&a);
    let path = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
    let straight = soon("a chain", first.pass_on(path(&[&b, &c]))).await;
    assert_eq!(straight, Ok(2));
    for circle in [path(&[&b, &a]), path(&[&b, &c, &a]), path(&[&b, &c, &b])] {
        let begun = std::time::Instant::now();
        let told = soon("a circle", first.pass_on(circle.clone())).await;
        let Err(AskError::Entity(chain)) = told else {
            panic!("{circle:?}: {told:?}");
        };
        assert!(chain.starts_with("Friend/"), "{chain}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{chain}");
    }
    // Asked from a node outside of the circle, and once more: no actor is stuck.
    let outside = nodes[2].entity::<Friend>(&a);
    assert_eq!(
        soon("a chain", outside.pass_on(path(&[&b, &c]))).await,
        Ok(2)
    );
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_call_can_be_piped_and_spawned() {
    let system = ActorSystem::local("app");
    let friend = system.entity::<Friend>("a");
    let asked = friend.pass_aside_as_a_call("b".to_owned());
    assert_eq!(soon("an answer", asked).await, Ok(0));
    let asking = tokio::spawn(friend.pass_on(vec!["b".to_owned()]).into_future());
    assert_eq!(soon("an answer", asking).await.unwrap(), Ok(1));
}

/// Answers with much.
#[derive(Default)]
struct Library;

#[entity]
impl Library {
    #[message]
    fn home(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn read(&self, bytes: usize) -> String {
        "x".repeat(bytes)
    }
}

#[tokio::test]
async fn many_large_replies_fail_no_ask_but_their_own() {
    let nodes = cluster(2).await;
    let library = entity_on::<Library>(&nodes[0], "node-1", LibraryRef::home).await;
    let innocent = entity_on::<Library>(&nodes[0], "node-1", LibraryRef::home).await;
    let (mib, patience) = (1024 * 1024, Duration::from_mins(1));
    let large = (0..150).map(|_| library.read(mib).timeout(patience).into_future());
    let small = (0..50).map(|_| innocent.read(1).timeout(patience).into_future());
    let (large, small) = tokio::join!(
        futures_util::future::join_all(large),
        futures_util::future::join_all(small)
    );
    for answer in small {
        assert_eq!(answer.as_deref(), Ok("x"));
    }
    for answer in large {
        match answer {
            Ok(read) => assert_eq!(read.len(), mib),
            Err(AskError::Reply { reason }) => assert!(reason.contains("wait"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    // The connection is the same, and as good as before.
    assert_eq!(library.read(mib).await.map(|read| read.len()), Ok(mib));
    shutdown(nodes).await;
}
