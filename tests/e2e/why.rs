//! Why an entity does not answer.

use std::sync::Arc;

use casty::{
    admin::{Activity, Admin, Why, WhyEnd},
    id::NodeId,
    prelude::*,
    testkit::soon,
};
use tokio::sync::Semaphore;

/// Lets handlers go on.
struct Pass(Semaphore);

/// Asks a clerk.
#[derive(Default)]
struct Front;

#[entity(name = "why/front", shards = 16)]
impl Front {
    #[message]
    async fn serve(&mut self, ctx: &mut Context<Self>, clerk: String) -> Result<u32, String> {
        let clerk = ctx.entity::<Clerk>(clerk);
        clerk.work().await.map_err(|error| error.to_string())
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn explode(&mut self) {
        panic!("on purpose");
    }
}

/// Works for as long as it has to.
#[entity(name = "why/clerk", shards = 16)]
mod clerk {
    use super::*;

    #[derive(Default)]
    #[state(initial)]
    pub(crate) struct Fresh;

    #[state]
    pub(crate) struct Busy;

    #[behavior(otherwise = reject)]
    impl Fresh {
        #[message]
        fn begin(self) -> Busy {
            Busy
        }

        #[message]
        fn node(&self, ctx: &mut Context<Clerk>) -> String {
            ctx.node_id().to_string()
        }
    }

    #[behavior(otherwise = reject)]
    impl Busy {
        #[message(timeout = "60s")]
        async fn work(&self, ctx: &mut Context<Clerk>) -> u32 {
            let pass = ctx.resource::<Arc<Pass>>().clone();
            pass.0.acquire().await.map_or(0, |_| 7)
        }
    }
}

async fn two(cluster: &str) -> ([ActorSystem; 2], Arc<Pass>, Admin) {
    casty_tests::log();
    let pass = Arc::new(Pass(Semaphore::new(0)));
    let node = |name: &str| {
        let builder = ActorSystem::builder(cluster).node_id(name);
        builder.resource(pass.clone())
    };
    let first = node("a").start().await.unwrap();
    let second = node("b").seeds([first.address()]).start().await.unwrap();
    for node in [&first, &second] {
        soon("both are up", node.wait_for(2)).await.unwrap();
    }
    let admin = Admin::connect(cluster, [first.address()]).await.unwrap();
    ([first, second], pass, admin)
}

async fn end([first, second]: [ActorSystem; 2]) {
    second.shutdown().await.unwrap();
    first.shutdown().await.unwrap();
}

/// A front on node `a`, and a busy clerk on node `b`.
async fn pair(node: &ActorSystem) -> (FrontRef, ClerkRef) {
    let (mut front, mut clerk) = (None, None);
    for n in 0.. {
        let id = format!("{n}");
        if front.is_none() && node.entity::<Front>(&*id).node().await.unwrap() == "a" {
            front = Some(node.entity::<Front>(&*id));
        }
        if clerk.is_none() && node.entity::<Clerk>(&*id).node().await.unwrap() == "b" {
            clerk = Some(node.entity::<Clerk>(&*id));
        }
        if let (Some(front), Some(clerk)) = (&front, &clerk) {
            clerk.begin().await.unwrap();
            return (front.clone(), clerk.clone());
        }
    }
    unreachable!("the numbers do not end")
}

async fn why(admin: &Admin, front: &FrontRef, is_it: impl Fn(&Why) -> bool) -> Why {
    let asking = async {
        loop {
            let why = admin.why("why/front", front.entity_id().as_str()).await;
            let why = why.unwrap();
            if is_it(&why) {
                return why;
            }
        }
    };
    soon("it is as expected", asking).await
}

#[tokio::test]
async fn what_an_entity_waits_for_is_followed_to_the_other_node() {
    let (nodes, pass, admin) = two("why-chain").await;
    let (front, clerk) = pair(&nodes[0]).await;
    let id = clerk.entity_id().to_string();
    let serving: Vec<_> = (0..4)
        .map(|_| {
            let (front, id) = (front.clone(), id.clone());
            tokio::spawn(async move { front.serve(id).timeout(Duration::from_mins(1)).await })
        })
        .collect();
    let seen = why(&admin, &front, |why| {
        why.steps.len() == 2 && why.steps[0].queued == 3 && why.steps[1].handling.is_some()
    })
    .await;
    let [first, second] = &seen.steps[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(first.node.as_ref().map(NodeId::as_str), Some("a"));
    assert_eq!(first.activity, Some(Activity::AtWork));
    assert_eq!(
        first.handling.as_ref().map(|it| &*it.message),
        Some("serve")
    );
    let [ask] = &first.waits_for[..] else {
        panic!("{first:?}");
    };
    assert_eq!(
        (&*ask.kind, &*ask.id, &*ask.message),
        ("why/clerk", &*id, "work")
    );
    assert_eq!(second.node.as_ref().map(NodeId::as_str), Some("b"));
    assert_eq!(second.state.as_deref(), Some("Busy"));
    assert_eq!(
        second.handling.as_ref().map(|it| &*it.message),
        Some("work")
    );
    assert!(
        second.waits_for.is_empty() && second.queued == 0,
        "{second:?}"
    );
    assert_eq!(seen.end, WhyEnd::NoneAwaited);
    pass.0.add_permits(4);
    for served in serving {
        assert_eq!(served.await.unwrap().unwrap(), 7);
    }
    // Nothing of it is left.
    let seen = why(&admin, &front, |why| why.steps[0].handling.is_none()).await;
    let [step] = &seen.steps[..] else {
        panic!("{seen:?}");
    };
    assert!(step.waits_for.is_empty() && step.queued == 0, "{step:?}");
    drop(admin);
    end(nodes).await;
}

#[tokio::test]
async fn a_failure_is_remembered_and_a_type_that_no_node_has_is_an_error() {
    let (nodes, _, admin) = two("why-failures").await;
    let (front, _) = pair(&nodes[0]).await;
    for _ in 0..2 {
        front.explode().await.unwrap_err();
    }
    let seen = why(&admin, &front, |why| {
        let failure = why.steps[0].last_failure.as_ref();
        failure.is_some_and(|failure| failure.count == 2)
    })
    .await;
    let failure = seen.steps[0].last_failure.as_ref().unwrap();
    assert_eq!(failure.reason, "on purpose");
    let unknown = admin.why("why/nothing", "x").await.unwrap_err().to_string();
    assert!(
        unknown.contains("why/nothing") && unknown.contains("why/front"),
        "{unknown}"
    );
    drop(admin);
    end(nodes).await;
}

#[tokio::test]
async fn a_timeout_says_what_it_knows_here_and_on_another_node() {
    let (nodes, pass, _) = two("why-late").await;
    let (_, clerk) = pair(&nodes[0]).await;
    let there = nodes[0].entity::<Clerk>(clerk.entity_id());
    let here = nodes[1].entity::<Clerk>(clerk.entity_id());
    let working = tokio::spawn(clerk.work().into_future());
    for (asker, is_here) in [(here, true), (there, false)] {
        let late = async {
            loop {
                let late = asker.work().timeout(Duration::from_secs(1)).await;
                let Err(AskError::Timeout {
                    delay: Some(delay), ..
                }) = &late
                else {
                    panic!("{late:?}");
                };
                // The first one may not have begun when the time was up.
                if delay.handler.is_some() {
                    return late.unwrap_err();
                }
            }
        };
        let late = soon("it says so", late).await;
        let AskError::Timeout {
            delay: Some(delay), ..
        } = &late
        else {
            panic!("{late:?}");
        };
        assert_eq!(delay.node.as_str(), "b");
        assert_eq!(delay.handler.as_deref(), Some("work"));
        assert!(delay.running_for >= Duration::from_millis(800), "{delay:?}");
        assert!(delay.waiting >= u64::from(is_here), "{delay:?}");
        let text = late.to_string();
        assert!(
            text.starts_with("no reply within 1s; on node `b` ")
                && text.contains("its handler `work` runs for"),
            "{text}"
        );
    }
    pass.0.add_permits(64);
    assert_eq!(working.await.unwrap(), Ok(7));
    end(nodes).await;
}

#[tokio::test]
async fn the_last_moves_of_an_entity_are_told_by_its_owner() {
    let pass = Arc::new(Pass(Semaphore::new(0)));
    let node = |name: &str| {
        let builder = ActorSystem::builder("why-moves").node_id(name);
        builder.resource(pass.clone())
    };
    let first = node("a").start().await.unwrap();
    soon("it is up", first.wait_for(1)).await.unwrap();
    let admin = Admin::connect("why-moves", [first.address()])
        .await
        .unwrap();
    let fronts: Vec<_> = (0..30)
        .map(|n| first.entity::<Front>(format!("{n}")))
        .collect();
    for front in &fronts {
        assert_eq!(front.node().await.unwrap(), "a");
    }
    let second = node("b").seeds([first.address()]).start().await.unwrap();
    // It gets some of the shards.
    let moved = async {
        loop {
            for front in &fronts {
                if front.node().await.is_ok_and(|node| node == "b") {
                    return front;
                }
            }
        }
    };
    let moved = soon("one has moved", moved).await;
    let told = |why: &Why| {
        let last = why.steps[0].last_moves.iter();
        let last = last.map(|it| (it.from.to_string(), it.to.to_string(), it.by_failover));
        last.collect::<Vec<_>>()
    };
    // Its new owner may have joined when the shard had moved already, and know of no move.
    let from_a = ("a".to_owned(), "b".to_owned(), false);
    let seen = why(&admin, moved, |why| why.steps[0].owned_for.is_some()).await;
    assert!(
        told(&seen).is_empty() || told(&seen) == [from_a.clone()],
        "{seen:?}"
    );
    // It is gone at once, and the shard is the first node's again, which has seen both moves.
    drop(second);
    let back = ("b".to_owned(), "a".to_owned(), true);
    let both = [back, from_a];
    why(&admin, moved, |why| told(why) == both).await;
    drop(admin);
    first.shutdown().await.unwrap();
}
