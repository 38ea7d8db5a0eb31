//! Runs the program `casty` against nodes in the test's own process, over loopback.

#![expect(
    clippy::unwrap_used,
    unused_must_use,
    reason = "tests: an answer that is not the point"
)]

mod common;

use std::time::SystemTime;

use casty::{
    admin::Admin,
    prelude::*,
    testkit::{self, soon},
};
use serde_json::Value;

use crate::common::{ask, casty};

/// A counter.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 16)]
impl Counter {
    /// Adds `amount` and returns the sum.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }
}

/// Repeats `ask` until it returns a value.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    let found = testkit::eventually(what, ask, Option::is_some).await;
    found.unwrap()
}

/// The members `node-0`, `node-1` and so on of a cluster. The first founds it, the third has the
/// role `spare`.
async fn cluster(cluster: &str, n: usize) -> Vec<ActorSystem> {
    let node = |i| {
        let builder = ActorSystem::builder(cluster).node_id(format!("node-{i}"));
        if i == 2 {
            builder.role("spare")
        } else {
            builder
        }
    };
    testkit::cluster_of(n, node).await
}

/// Waits until every counter answers, on whichever node it lives.
async fn all_answer(through: &ActorSystem) {
    for i in 0..40 {
        let counter = through.entity::<Counter>(format!("c{i}"));
        eventually("an answer", || async { counter.add(1).await.ok() }).await;
    }
}

async fn shutdown(nodes: impl IntoIterator<Item = ActorSystem>) {
    for node in nodes {
        soon("shutdown", node.shutdown()).await;
    }
}

async fn admin(cluster: &str, node: &ActorSystem) -> Admin {
    Admin::connect(cluster, [node.address()]).await.unwrap()
}

/// Waits until there are `voters` voters and a leader, and all members serve.
async fn settles(cluster: &str, node: &ActorSystem, voters: usize) {
    let admin = admin(cluster, node).await;
    eventually("it settles", || async {
        let report = admin.members().await.ok()?;
        let voting = report.members.iter().filter(|member| member.votes);
        let serve = report.members.iter().all(|m| m.serves == Some(true));
        (voting.count() == voters && serve && report.leader.is_some()).then_some(())
    })
    .await;
}

/// Waits until no member leads or serves, and the others take `gone` members for dead.
async fn is_leaderless(cluster: &str, node: &ActorSystem, gone: usize) {
    let admin = admin(cluster, node).await;
    eventually("no member leads", || async {
        let members = admin.members().await.ok()?;
        let dead = members.members.iter().filter(|m| !m.dead_to.is_empty());
        let serves = members.members.iter().any(|m| m.serves == Some(true));
        (members.leader.is_none() && !serves && dead.count() == gone).then_some(())
    })
    .await;
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Text with every run of digits written as `0` and every run of blanks as one.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for character in text.chars() {
        let character = if character.is_ascii_digit() {
            '0'
        } else {
            character
        };
        if !(matches!(character, '0' | ' ') && shape.ends_with(character)) {
            shape.push(character);
        }
    }
    shape
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_shards_are_shown_as_text_and_as_json() {
    let nodes = cluster("shown", 3).await;
    all_answer(&nodes[1]).await;
    settles("shown", &nodes[0], 3).await;

    let text = ask("shown", &nodes[2], "members").await.succeeded();
    let lines: Vec<String> = text.lines().map(shape).collect();
    assert!(
        lines[0].starts_with("cluster shown, generation 0, map 0, led by node-0"),
        "{text}"
    );
    assert_eq!(
        lines[2],
        "NODE INCARNATION ADDRESS STATUS VOTE ANSWERS SERVES MAP SHARDS ENTITIES ROLES GOSSIP CERTIFICATE"
    );
    let row =
        |vote: &str, roles: &str| format!("node-0 0 0.0.0.0:0 up {vote} yes yes 0 0 0 {roles} - -");
    let mut rows = lines[3..].to_vec();
    rows.sort();
    let expected = [row("leads", "-"), row("votes", "-"), row("votes", "spare")];
    assert_eq!(rows, expected, "{text}");

    let json = ask("shown", &nodes[2], "members --json").await.json();
    assert_eq!(keys(&json), ["leader", "map", "members", "outside"]);
    let members = json["members"].as_array().unwrap();
    for (member, node) in members.iter().zip(&nodes) {
        assert_eq!(member["node"], node.node_id().as_str());
        assert_eq!(member["address"], node.address().to_string());
        assert_eq!(
            keys(member),
            [
                "address",
                "answered",
                "certificate_until",
                "dead_to",
                "entities",
                "incarnation",
                "leads",
                "map",
                "node",
                "roles",
                "serves",
                "shards",
                "status",
                "votes"
            ]
        );
        assert_eq!(
            (&member["status"], &member["votes"]),
            (&"up".into(), &true.into())
        );
    }
    let sum = |field: &str| {
        members
            .iter()
            .map(|m| m[field].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((members.len(), sum("entities")), (3, 40));
    assert_eq!(members[0]["roles"], serde_json::json!([]));
    assert_eq!(members[2]["roles"], serde_json::json!(["spare"]));

    let text = ask("shown", &nodes[0], "shards").await.succeeded();
    let lines: Vec<String> = text.lines().map(shape).collect();
    assert!(
        lines[0].starts_with("cluster shown, generation 0, map 0"),
        "{text}"
    );
    assert_eq!(lines[2], "NODE Counter TOTAL");
    assert_eq!(lines[3], "node-0 0 0");
    assert_eq!(lines[7], "Counter: 0 shards, 0 with an owner, 0 moving");
    assert_eq!(lines[9], "SHARD OWNER EPOCH MOVING TO");
    assert_eq!(lines[10], "0 node-0 0.0 -");

    let json = ask("shown", &nodes[0], "--json shards").await.json();
    assert_eq!(keys(&json), ["kinds", "map", "members"]);
    let kind = &json["kinds"][0];
    assert_eq!(
        (&kind["name"], &kind["shards"]),
        (&"Counter".into(), &16.into())
    );
    let homes = kind["homes"].as_array().unwrap();
    assert_eq!(keys(&homes[0]), ["epoch", "moving_to", "owner", "shard"]);
    assert_eq!(
        keys(&json["members"][0]),
        ["incarnation", "kinds", "node", "total"]
    );
    let totals = json["members"].as_array().unwrap().iter();
    let total: u64 = totals.map(|member| member["total"].as_u64().unwrap()).sum();
    assert_eq!(total, sum("shards"));
    assert_eq!(total, homes.len() as u64);
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_has_no_shard_and_no_vote_and_the_others_answer() {
    let nodes = cluster("drained", 3).await;
    all_answer(&nodes[1]).await;
    settles("drained", &nodes[0], 3).await;
    // The founder leads the cluster: a leader can leave as well.
    let ran = ask("drained", &nodes[0], "drain node-0").await;
    assert!(ran.stderr.contains("node-0: "), "its progress: {ran:?}");
    let text = ran.succeeded();
    assert_eq!(text, "node-0 is drained and may be stopped\n");

    let members = admin("drained", &nodes[1]).await.members().await.unwrap();
    let drained = &members.members[0];
    assert_eq!(drained.status, casty::member::MemberStatus::Leaving);
    assert_eq!((drained.shards, drained.votes), (0, false));
    all_answer(&nodes[1]).await;
    let members = admin("drained", &nodes[1]).await.members().await.unwrap();
    assert_eq!(members.members[0].shards, 0);

    let again = ask("drained", &nodes[1], "drain node-0 --json")
        .await
        .json();
    assert_eq!(keys(&again), ["incarnation", "left", "node", "shards_kept"]);
    ask("drained", &nodes[1], "drain node-1").await.succeeded();
    all_answer(&nodes[0]).await;
    let error = ask("drained", &nodes[0], "drain node-2").await.failed(1);
    assert!(error.contains("no other member is up"), "{error}");
    // A drained node stops as usual.
    for node in &nodes {
        soon("shutdown", node.shutdown()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_takes_too_long_says_how_far_it_came() {
    let nodes = cluster("slow", 2).await;
    all_answer(&nodes[1]).await;
    settles("slow", &nodes[0], 1).await;
    let error = ask("slow", &nodes[0], "drain node-0 --wait 1ms")
        .await
        .failed(1);
    assert!(error.contains("`node-0#"), "{error}");
    assert!(error.contains("was not drained after 1ms: "), "{error}");
    ask("slow", &nodes[0], "drain node-0").await.succeeded();
    shutdown(nodes).await;
}

/// Its state can be encoded while it is young.
#[message]
pub struct Relic {
    made: SystemTime,
}

#[entity(shards = 4, migrate, role = "relics")]
impl Relic {
    /// A young one.
    #[init]
    fn found() -> Self {
        let made = SystemTime::UNIX_EPOCH;
        Self { made }
    }

    /// Makes it older than any clock of a computer.
    #[message]
    pub fn age(&mut self) {
        self.made = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    }

    /// The name of its node.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_cannot_end_says_which_shard_stays_and_why() {
    let nodes = testkit::cluster_of(2, |i| {
        let builder = ActorSystem::builder("relics").node_id(format!("node-{i}"));
        builder.role("relics").strict_wire(false)
    })
    .await;
    settles("relics", &nodes[0], 1).await;
    let mut old = 0;
    for n in 0..16 {
        let relic = nodes[0].entity::<Relic>(format!("r{n}"));
        let home = eventually("a home", || async { relic.node().await.ok() }).await;
        if home == "node-0" {
            relic.age().await.unwrap();
            old += 1;
        }
    }
    assert!(old > 0);
    let look = || async {
        let error = ask("relics", &nodes[1], "drain node-0 --wait 2s")
            .await
            .failed(1);
        error.contains("stays").then_some(error)
    };
    let error = eventually("it says why", look).await;
    assert!(
        error.contains("of `Relic` stays: the state of `r"),
        "{error}"
    );
    assert!(error.contains("cannot be encoded: "), "{error}");
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivor_of_two_goes_on_once_it_is_promoted() {
    let mut nodes = cluster("pair", 2).await;
    all_answer(&nodes[1]).await;
    settles("pair", &nodes[0], 1).await;
    let error = ask("pair", &nodes[1], "promote node-1").await.failed(1);
    assert!(error.contains("`node-0#"), "{error}");
    assert!(error.contains("leads the cluster"), "{error}");
    let before = admin("pair", &nodes[1]).await.members().await.unwrap();

    drop(nodes.remove(0));
    is_leaderless("pair", &nodes[0], 1).await;
    let error = ask("pair", &nodes[0], "drain node-0 --timeout 500ms")
        .await
        .failed(1);
    assert!(error.contains("nothing was decided"), "{error}");
    let error = ask("pair", &nodes[0], "promote node-0").await.failed(1);
    assert!(error.contains("does not answer"), "{error}");
    let promoted = ask("pair", &nodes[0], "promote node-1 --json").await.json();
    assert_eq!(keys(&promoted), ["incarnation", "map", "node", "silent"]);
    let generation = promoted["map"]["generation"].as_u64().unwrap();
    assert!(generation > u64::from(before.map.generation), "{promoted}");
    all_answer(&nodes[0]).await;
    let text = ask("pair", &nodes[0], "members").await.succeeded();
    assert!(text.contains("led by node-1"), "{text}");
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_recovered_after_most_of_its_voters_died_at_once() {
    let mut nodes = cluster("most", 3).await;
    all_answer(&nodes[2]).await;
    settles("most", &nodes[0], 3).await;
    let before = admin("most", &nodes[2]).await.members().await.unwrap();
    let error = ask("most", &nodes[2], "recover --keep node-2")
        .await
        .failed(1);
    assert!(error.contains("leads the cluster"), "{error}");

    let survivor = nodes.remove(2);
    drop(nodes);
    is_leaderless("most", &survivor, 2).await;
    let error = ask("most", &survivor, "promote node-2").await.failed(1);
    assert!(error.contains("3 members that are not down"), "{error}");
    assert!(error.contains("casty recover"), "{error}");
    let text = ask("most", &survivor, "recover --keep node-2")
        .await
        .succeeded();
    assert!(
        text.starts_with("node-2 serves and decides; generation "),
        "{text}"
    );
    let after = admin("most", &survivor).await.members().await.unwrap();
    assert!(after.map.generation > before.map.generation);
    assert_eq!(after.members.len(), 1);
    all_answer(&survivor).await;
    shutdown([survivor]).await;
}

/// A listener that takes no connection is to others what a frozen process is: the operating system
/// answers, and no process does.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_holds_no_recovery_up_and_is_named() {
    let mut nodes = cluster("frozen", 3).await;
    all_answer(&nodes[2]).await;
    settles("frozen", &nodes[2], 3).await;
    let survivor = nodes.remove(2);
    let silent = nodes[0].address();
    drop(nodes);
    let bind = || async { std::net::TcpListener::bind(silent).ok() };
    let _frozen = eventually("its port is free", bind).await;
    is_leaderless("frozen", &survivor, 2).await;
    // Otherwise it would be waited for all the time.
    let (there, silent) = (survivor.address().to_string(), silent.to_string());
    let to_both = ["--cluster", "frozen", "--node", &there, "--node", &silent];
    let recover = ["--timeout", "10m", "recover", "--keep", "node-2", "--json"];
    let recovered = casty(&[&to_both[..], &recover[..]].concat()).await.json();
    assert_eq!(recovered["silent"], serde_json::json!(["node-0"]));
    assert_eq!(recovered["node"], "node-2");
    all_answer(&survivor).await;
    shutdown([survivor]).await;
}

/// All nodes end at once, and most of their directories are lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_directories_of_a_minority_are_enough_for_a_new_generation() {
    for (name, all, kept) in [("kept-of-three", 3, 1), ("kept-of-five", 5, 2)] {
        let state = tempfile::tempdir().unwrap();
        let node = |i: usize| {
            let builder = ActorSystem::builder(name).node_id(format!("node-{i}"));
            builder.state_dir(state.path().join(format!("node-{i}")))
        };
        let nodes = testkit::cluster_of(all, node).await;
        all_answer(&nodes[0]).await;
        settles(name, &nodes[0], all).await;
        let generation = || async {
            let report = admin(name, &nodes[0]).await.members().await;
            report.unwrap().map.generation
        };
        let before = generation().await;
        drop(nodes);

        // The last of them are started again, at other addresses.
        let mut survivors: Vec<ActorSystem> = Vec::new();
        for i in all - kept..all {
            let seeds: Vec<_> = survivors.iter().map(ActorSystem::address).collect();
            let start = || async { node(i).seeds(&seeds).start().await.ok() };
            // The directory is locked until the process before is gone.
            survivors.push(eventually("it starts", start).await);
        }
        let last = format!("node-{}", all - 1);
        let keep = format!("recover --keep {last}");
        let survivor = &survivors[kept - 1];
        let recovers = || async {
            let force = if kept > 1 { " --force" } else { "" };
            let ran = ask(name, survivor, &format!("{keep}{force}")).await;
            // Until the stored state is read, the node knows no map to go on from.
            (ran.code == Some(0)).then_some(ran.stdout)
        };
        let text = eventually("it is recovered", recovers).await;
        let serves = format!("{last} serves and decides; generation ");
        assert!(text.starts_with(&serves), "{text}");
        eventually("the other one joins", || async {
            let report = admin(name, survivor).await.members().await.ok()?;
            let serving = report.members.iter().filter(|m| m.serves == Some(true));
            let all = serving.count() == kept && report.members.len() == kept;
            (all && report.map.generation > before).then_some(())
        })
        .await;
        all_answer(&survivors[0]).await;
        shutdown(survivors).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_member_is_overruled_only_by_force_and_joins_the_new_generation() {
    let mut nodes = cluster("five", 5).await;
    all_answer(&nodes[4]).await;
    settles("five", &nodes[0], 5).await;
    let survivors = nodes.split_off(3);
    drop(nodes);
    is_leaderless("five", &survivors[0], 3).await;
    let error = ask("five", &survivors[1], "recover --keep node-3")
        .await
        .failed(1);
    assert!(error.contains("`node-4#"), "{error}");
    assert!(error.contains("seems alive"), "{error}");
    assert!(error.contains("--force"), "{error}");
    ask("five", &survivors[1], "recover --keep node-3 --force")
        .await
        .succeeded();
    let admin = admin("five", &survivors[0]).await;
    eventually("the other joins", || async {
        let report = admin.members().await.ok()?;
        let serving = report.members.iter().filter(|m| m.serves == Some(true));
        (report.members.len() == 2 && serving.count() == 2).then_some(())
    })
    .await;
    all_answer(&survivors[1]).await;
    shutdown(survivors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_its_reason_and_a_remedy() {
    let nodes = cluster("told", 1).await;
    settles("told", &nodes[0], 1).await;
    let address = nodes[0].address().to_string();

    let unreachable = casty(&["members", "--cluster", "told", "--node", "127.0.0.1:1"]).await;
    let error = unreachable.failed(3);
    assert!(
        error.contains("none of the nodes answered: `127.0.0.1:1` ("),
        "{error}"
    );

    let error = ask("other", &nodes[0], "members").await.failed(2);
    assert!(
        error.contains("belongs to cluster `told`, not to `other`"),
        "{error}"
    );

    let error = ask("told", &nodes[0], "drain node-9").await.failed(1);
    assert!(
        error.contains("`node-9` is not a member of the cluster (its members are node-0#"),
        "{error}"
    );

    let error = ask("told", &nodes[0], "drain node-0").await.failed(1);
    assert!(error.contains("no other member is up"), "{error}");

    for wrong in [
        &["members", "--node", &address][..],
        &["members", "--cluster", "told"],
        &["--cluster", "told", "--node", &address],
        &[
            "members",
            "--cluster",
            "told",
            "--node",
            &address,
            "--timeout",
            "5",
        ],
        &["members", "--cluster", "told", "--node", "127.0.0.1:port"],
        &["members", "--cluster", "told", "--node", "127.0.0.1:70000"],
        &["members", "--cluster", "told", "--node", "127.0.0.1:0"],
        &["members", "--cluster", "told", "--node", "localhost"],
    ] {
        let ran = casty(wrong).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
    // One node that answers is enough.
    let both = format!("127.0.0.1:1,{address}");
    casty(&["--cluster", "told", "--node", &both, "members"])
        .await
        .succeeded();
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_directory_is_adopted_without_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let refused = casty(&["adopt", path]).await.failed(1);
    assert!(
        refused.contains("is not the directory of a node"),
        "{refused}"
    );
    std::fs::create_dir(folder.path().join("log")).unwrap();
    let adopted = casty(&["--json", "adopt", path]).await.json();
    assert_eq!(adopted["directory"], path);
    assert!(adopted["store"].as_str().unwrap().len() > 30, "{adopted}");
}
