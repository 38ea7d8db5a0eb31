//! Runs `casty why` against a node in the test's own process.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use std::sync::Arc;

use casty::{prelude::*, testkit::soon};
use tokio::sync::Semaphore;

use crate::common::ask;

/// Lets handlers go on.
struct Pass(Semaphore);

/// Asks a clerk.
#[derive(Default)]
pub struct Front;

#[entity(name = "why/front")]
impl Front {
    /// Waits for the clerk.
    #[message]
    pub async fn serve(&mut self, ctx: &mut Context<Self>) -> u32 {
        let clerk = ctx.entity::<Clerk>("c");
        clerk.work().await.unwrap_or_default()
    }
}

/// Works for as long as it has to.
#[derive(Default)]
pub struct Clerk;

#[entity(name = "why/clerk")]
impl Clerk {
    /// Works.
    #[message]
    pub async fn work(&mut self, ctx: &mut Context<Self>) -> u32 {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.0.acquire().await.map_or(0, |_| 7)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_an_entity_up_is_told_step_by_step() {
    let pass = Arc::new(Pass(Semaphore::new(0)));
    let node = ActorSystem::builder("why")
        .node_id("node-1")
        .resource(pass.clone());
    let node = node.start().await.unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    let front = node.entity::<Front>("f");
    let serving: Vec<_> = (0..3)
        .map(|_| {
            let serving = front.serve().timeout(Duration::from_mins(1));
            tokio::spawn(serving.into_future())
        })
        .collect();
    let told = async {
        loop {
            let told = ask("why", &node, "why why/front/f").await.succeeded();
            if told.contains("2 messages wait") && told.contains("handles work") {
                return told;
            }
        }
    };
    let told = soon("both handlers run", told).await;
    let lines: Vec<_> = told.lines().collect();
    let [home, handles, waits, asks, clerk, works, alone] = &lines[..] else {
        panic!("{told}");
    };
    assert!(
        home.starts_with("why/front/f is on node-1, which has had its shard, "),
        "{home}"
    );
    assert!(handles.starts_with("  It handles serve, for "), "{handles}");
    assert_eq!(*waits, "  2 messages wait in its mailbox.");
    assert!(
        asks.starts_with("  It waits for why/clerk/c, which it asked work "),
        "{asks}"
    );
    assert!(clerk.starts_with("why/clerk/c is on node-1"), "{clerk}");
    assert!(works.starts_with("  It handles work, for "), "{works}");
    assert_eq!(
        *alone,
        "  It waits for no actor: its code computes, or awaits something else."
    );

    let json = ask("why", &node, "why why/clerk/c --json").await.json();
    assert_eq!(json["steps"][0]["handling"]["message"], "work");
    assert_eq!(json["end"], "NoneAwaited");

    pass.0.add_permits(8);
    for served in serving {
        assert_eq!(served.await.unwrap(), Ok(7));
    }
    let other = ask("why", &node, "why why/clerk/other").await.succeeded();
    assert!(other.starts_with("why/clerk/other "), "{other}");
    let unknown = ask("why", &node, "why nothing/x").await.failed(1);
    assert!(unknown.contains("nothing"), "{unknown}");
    node.shutdown().await.unwrap();
}
