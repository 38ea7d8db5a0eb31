//! Runs `casty top` against a node in the test's own process.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use casty::{prelude::*, testkit::soon};
use tokio::sync::Semaphore;

use crate::common::ask;

/// Lets handlers go on.
struct Pass(Semaphore);

/// Works for as long as it has to.
#[derive(Default)]
pub struct Clerk;

#[entity(name = "top/clerk")]
impl Clerk {
    /// Works.
    #[message]
    pub async fn work(&mut self, ctx: &mut Context<Self>) -> u32 {
        let pass = ctx.resource::<Arc<Pass>>().clone();
        pass.0.acquire().await.map_or(0, |_| 7)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_nodes_do_is_shown_with_what_is_not_as_it_should_be() {
    let pass = Arc::new(Pass(Semaphore::new(0)));
    let node = ActorSystem::builder("top")
        .node_id("node-1")
        .resource(pass.clone());
    let node = node.start().await.unwrap();
    soon("it is ready", node.ready()).await.unwrap();
    let well = ask("top", &node, "top --once").await.succeeded();
    assert!(well.contains("nothing is found"), "{well}");

    let clerk = node.entity::<Clerk>("c");
    for _ in 0..3 {
        soon("it is told", clerk.work().tell()).await.unwrap();
    }
    let shown = async {
        loop {
            let shown = ask("top", &node, "top --once").await.succeeded();
            if shown.contains("hint: ") {
                return shown;
            }
        }
    };
    let shown = soon("the handler takes long", shown).await;
    let line = |begin: &str| {
        let mut lines = shown.lines();
        let line = lines.find(|line| line.starts_with(begin));
        let words = line.unwrap_or_else(|| panic!("{begin}: {shown}"));
        words.split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("NODE")[..3], ["NODE", "SERVES", "LEADS"]);
    assert_eq!(line("node-1")[1..3], ["yes", "yes"]);
    assert_eq!(line("top/clerk ")[1], "1");
    assert_eq!(line("top/clerk/c")[1..4], ["node-1", "2", "work"]);
    let hint = "hint: Handler `work` of `top/clerk/c` runs for ";
    assert!(
        shown.contains(hint) && shown.contains("2 messages wait behind it"),
        "{shown}"
    );

    let json = ask("top", &node, "top --json").await.json();
    assert_eq!(json["overview"]["nodes"][0]["node"], "node-1");
    assert_eq!(json["findings"][0]["name"], "slow-handler");
    assert_eq!(json["findings"][0]["about"], "top/clerk/c");

    pass.0.close();
    node.shutdown().await.unwrap();
    let gone = ask("top", &node, "top --once").await;
    assert!(gone.failed(3).contains("cannot show what the nodes do"));
}
