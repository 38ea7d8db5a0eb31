//! Runs `casty recover --lost` against nodes in the test's own process, whose directories are taken
//! away.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{collections::BTreeMap, path::Path};

use casty::{
    prelude::*,
    testkit::{self, soon},
};
use serde_json::Value;

use crate::common::{Ran, ask};

/// An account.
#[message]
#[derive(Default)]
pub struct Account {
    cents: u64,
}

#[entity(shards = 4, event_sourced, role = "bank")]
impl Account {
    /// Adds.
    #[message]
    pub fn deposit(&self, cents: u64) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::Deposited { cents }).reply(|account| account.cents)
    }

    /// The balance.
    #[message]
    pub fn balance(&self) -> u64 {
        self.cents
    }

    #[event]
    fn deposited(&mut self, cents: u64) {
        self.cents += cents;
    }
}

const CLUSTER: &str = "lost";

/// How many nodes decide. They store nothing.
const VOTERS: usize = 3;

const ACCOUNTS: u64 = 16;

/// The first nodes decide, and the others have the accounts, each in a directory of its own.
fn node(folder: &Path, number: usize) -> casty::SystemBuilder {
    let builder = ActorSystem::builder(CLUSTER).node_id(format!("node-{number}"));
    if number < VOTERS {
        builder
    } else {
        let directory = folder.join(number.to_string());
        builder.role("bank").data_dir(directory)
    }
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    let found = testkit::eventually(what, ask, Option::is_some).await;
    found.unwrap()
}

async fn deposit_all(node: &ActorSystem, cents: u64) {
    for number in 0..ACCOUNTS {
        let account = node.entity::<Account>(number.to_string());
        let deposited = account.deposit(cents).retry_for(testkit::STEP_LIMIT).await;
        assert!(deposited.is_ok(), "account {number}: {deposited:?}");
    }
}

/// The balance of each account, by its shard.
async fn balances(node: &ActorSystem) -> BTreeMap<u64, Vec<u64>> {
    let mut balances: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let shards = ask(CLUSTER, node, "entities Account --json").await.json();
    for entity in shards["entities"].as_array().unwrap() {
        let account = node.entity::<Account>(entity["id"].as_str().unwrap());
        let balance = account.balance().retry_for(testkit::STEP_LIMIT).await;
        let shard = entity["shard"].as_u64().unwrap();
        balances.entry(shard).or_default().push(balance.unwrap());
    }
    for balances in balances.values_mut() {
        balances.sort_unstable();
        balances.dedup();
    }
    balances
}

/// Waits until the copies of each shard are on these nodes alone, and all of them are there.
async fn copies_are_on(node: &ActorSystem, nodes: &[&str]) {
    eventually("the copies are there", || async {
        let shards = ask(CLUSTER, node, "shards --json").await.json();
        let homes = shards["kinds"][0]["homes"].as_array()?.clone();
        let is_fine = homes.iter().all(|home| {
            let in_sync = home["copies"]["in_sync"].as_array();
            let in_sync = in_sync.into_iter().flatten().filter_map(Value::as_str);
            let waits_for = home["copies"]["waits_for"].as_array();
            in_sync.eq(nodes.iter().copied()) && waits_for.is_some_and(Vec::is_empty)
        });
        (is_fine && homes.len() == 4).then_some(())
    })
    .await;
}

async fn lost(node: &ActorSystem, more: &str) -> Ran {
    ask(CLUSTER, node, &format!("recover --lost {more}")).await
}

/// Every copy in sync of all shards is on nodes 3 and 4. Node 5 has an older one. Nodes 3 and 4 are
/// lost, and there is nothing else; in the end they are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_have_lost_all_copies_go_on_with_what_an_operator_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = testkit::cluster_of(6, |number| node(folder.path(), number)).await;
    deposit_all(&nodes[0], 10).await;
    copies_are_on(&nodes[0], &["node-3", "node-4", "node-5"]).await;
    let nothing = lost(&nodes[0], "").await.succeeded();
    assert_eq!(nothing, "no shard has lost all its copies\n");
    let nothing = lost(&nodes[0], "--empty --yes").await.failed(1);
    assert!(
        nothing.contains("none of these shards has lost"),
        "{nothing}"
    );

    drop(nodes.pop());
    copies_are_on(&nodes[0], &["node-3", "node-4"]).await;
    deposit_all(&nodes[0], 7).await;
    drop(nodes.pop());
    drop(nodes.pop());
    let seeds = [nodes[0].address()];
    let last = node(folder.path(), 5).seeds(seeds).start();
    let last = soon("it starts", last).await.unwrap();
    soon("it joins", last.wait_for(4)).await.unwrap();
    nodes.push(last);

    // What is lost is shown, and changes nothing.
    let json = eventually("all shards are lost", || async {
        let json = lost(&nodes[0], "--json").await.json();
        let shards = json["kinds"][0]["lost"].as_array()?;
        (shards.len() == 4).then_some(json)
    })
    .await;
    let shard = &json["kinds"][0]["lost"][0];
    let waits_for = shard["waits_for"].as_array().unwrap();
    let names: Vec<&str> = waits_for
        .iter()
        .filter_map(|it| it["node"].as_str())
        .collect();
    assert_eq!(names, ["node-3", "node-4"]);
    assert!(waits_for[0]["gone_for"].is_u64(), "{shard}");
    assert_eq!(shard["copies"][0]["node"], "node-5");
    assert!(shard["copies"][0]["records"].as_u64().unwrap() > 0);
    assert!(shard["copies"][0]["at"].is_u64(), "{shard}");
    let text = lost(&nodes[1], "Account").await.succeeded();
    for part in [
        "Account: 4 of 4 shards have lost all their copies",
        "4 wait for node-3 (gone for",
        "node-5 has",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // Nothing is done by mistake.
    for (more, code, why) in [
        ("--from best", 2, "this is not confirmed"),
        ("--from node-1 --yes", 1, "`node-1` has no out-of-date copy"),
        ("account --empty --yes", 1, "did you mean `Account`?"),
        ("Account 9 --empty --yes", 2, "no shard 9"),
    ] {
        let error = lost(&nodes[0], more).await.failed(code);
        assert!(error.contains(why), "{error}");
    }
    let still = lost(&nodes[0], "--json").await.json();
    assert_eq!(still["kinds"][0]["lost"].as_array().unwrap().len(), 4);

    // One begins with nothing, and the others with what there is.
    let text = lost(&nodes[0], "Account 2 --empty --yes").await.succeeded();
    assert_eq!(text, "Account: 1 shards go on with nothing\n");
    let text = lost(&nodes[0], "--from best --yes").await.succeeded();
    assert_eq!(text, "Account: 3 shards go on with the copy of node-5\n");
    let expected = |shard: u64, sum| if shard == 2 { sum - 10 } else { sum };
    let have = |balances: &BTreeMap<u64, Vec<u64>>, sum| {
        let right = |(shard, found): (&u64, &Vec<u64>)| *found == [expected(*shard, sum)];
        balances.len() == 4 && balances.iter().all(right)
    };
    deposit_all(&nodes[0], 1).await;
    let found = balances(&nodes[0]).await;
    assert!(have(&found, 11), "{found:?}");

    // They are back with their directories, and what they alone had is not.
    for number in [3, 4] {
        let again = node(folder.path(), number).seeds(seeds).start();
        nodes.push(soon("it starts", again).await.unwrap());
    }
    copies_are_on(&nodes[0], &["node-3", "node-4", "node-5"]).await;
    drop(nodes.remove(VOTERS));
    deposit_all(&nodes[0], 1).await;
    let found = balances(&nodes[0]).await;
    assert!(have(&found, 12), "{found:?}");
    testkit::shutdown(nodes).await;
}
