//! Runs `casty backup` and `casty restore`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use casty::{
    prelude::*,
    testkit::{self, shutdown, soon},
};

use crate::common::{ask, casty};

/// A jar.
#[message]
#[derive(Default)]
pub struct Jar {
    coins: u64,
}

#[entity(durable, shards = 4)]
impl Jar {
    /// Adds a coin.
    #[message]
    pub fn add(&mut self) -> u64 {
        self.coins += 1;
        self.coins
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_backed_up_and_restored_by_commands() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = testkit::cluster_of(2, |i| {
        let name = format!("node-{i}");
        let builder = ActorSystem::builder("jars").node_id(&*name);
        builder.data_dir(folder.path().join(name))
    })
    .await;
    for n in 0..10 {
        let jar = nodes[0].entity::<Jar>(n.to_string());
        soon("a coin", jar.add().retry_for(testkit::STEP_LIMIT))
            .await
            .unwrap();
    }
    let to = folder.path().join("backup");
    let operation = format!("backup --to {}", to.display());
    let text = ask("jars", &nodes[1], &operation).await.succeeded();
    assert!(
        text.contains("is a backup of `jars`: Jar; 4 shards, 10 records"),
        "{text}"
    );
    let again = ask("jars", &nodes[1], &operation).await.failed(1);
    assert!(
        again.contains("is not empty; give another directory"),
        "{again}"
    );
    let unknown = format!("backup --to {} Jam", folder.path().join("x").display());
    let unknown = ask("jars", &nodes[1], &unknown).await.failed(1);
    assert!(unknown.contains("did you mean `Jar`?"), "{unknown}");
    shutdown(nodes).await;

    let data = folder.path().join("data");
    let (from, into) = (to.display().to_string(), data.display().to_string());
    let arguments = ["restore", "--from", &from, "--to", &into, "--json"];
    let report = casty(&arguments).await.json();
    assert_eq!(report["records"], 10);
    let again = casty(&arguments).await.failed(1);
    assert!(
        again.contains("is not empty; give another directory"),
        "{again}"
    );
    let none = ["restore", "--from", &into, "--to", "elsewhere"];
    let none = casty(&none).await.failed(1);
    assert!(none.contains("is no backup; "), "{none}");

    let system = ActorSystem::builder("more").data_dir(&data);
    let system = system.start().await.unwrap();
    soon("it founds", system.wait_for(1)).await.unwrap();
    for n in 0..10 {
        let jar = system.entity::<Jar>(n.to_string());
        assert_eq!(jar.add().retry_for(testkit::STEP_LIMIT).await, Ok(2));
    }
    shutdown(vec![system]).await;
}
