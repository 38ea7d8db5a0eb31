//! A node that is left alone by the others that have copies.

use std::path::Path;

use casty::{
    prelude::*,
    testkit::{self, eventually, shutdown, soon},
};

/// Counts, on nodes that keep copies.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Meter {
    count: u64,
}

#[entity(durable, shards = 12, role = "keeper")]
impl Meter {
    /// Adds.
    #[message]
    fn add(&mut self, more: u64) -> u64 {
        self.count += more;
        self.count
    }

    /// The node that it lives on.
    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// Three nodes that keep copies of meters, and two that vote and keep others.
fn node(folder: &Path, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let name = format!("node-{number}");
    let builder = ActorSystem::builder("few").data_dir(folder.join(&name));
    let builder = builder.node_id(name);
    if number < 3 {
        builder.role("keeper")
    } else {
        builder
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_too_few_nodes_have_fails_with_the_names_of_those_that_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = testkit::cluster_of(5, |i| node(folder.path(), i)).await;
    let admin = casty::admin::Admin::connect("few", [nodes[4].address()]);
    let admin = soon("it answers", admin).await.unwrap();
    let voters = || async {
        let members = admin.members().await;
        members.map_or(0, |all| all.members.iter().filter(|it| it.votes).count())
    };
    eventually("all vote", voters, |voters| *voters == 5).await;
    let on_first = || async {
        for n in 0..40 {
            let meter = nodes[0].entity::<Meter>(n.to_string());
            if meter.add(1).await.is_ok() && meter.node().await.as_deref() == Ok("node-0") {
                return Some(n);
            }
        }
        None
    };
    let found = eventually("one lives on the first", on_first, Option::is_some).await;
    let meter = nodes[0].entity::<Meter>(found.unwrap().to_string());

    // None of them says goodbye.
    let second = nodes.remove(2);
    drop((second, nodes.remove(1)));
    let refused = || meter.add(1);
    let is_told = |got: &Result<u64, AskError>| {
        let Err(AskError::NotEnoughCopies { missing, possibly }) = got else {
            return false;
        };
        let known = |name: &String| name == "node-1" || name == "node-2";
        *possibly && !missing.is_empty() && missing.iter().all(known)
    };
    let told = eventually("it is told", refused, is_told).await;
    let text = told.unwrap_err().to_string();
    assert!(text.contains("too few nodes with copies answer"), "{text}");

    // With one of the others there are enough.
    let seeds = [nodes[0].address()];
    let again = node(folder.path(), 1).seeds(seeds).start().await.unwrap();
    let added = || meter.add(1);
    eventually("it is stored again", added, Result::is_ok).await;
    nodes.push(again);
    shutdown(nodes).await;
}
