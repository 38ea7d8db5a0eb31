//! Runs `casty record` and `casty recording` against a node in the test's own process.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use casty::{
    prelude::*,
    testkit::{replay, soon},
};

use crate::common::{ask, casty};

/// Counts, and may break.
#[message]
#[derive(Default)]
pub struct Gauge {
    level: i64,
}

#[entity(name = "record/gauge", migrate)]
impl Gauge {
    /// Adds.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.level += amount;
        assert!(self.level < 100, "too much");
        self.level
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entity_is_recorded_read_and_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let node = ActorSystem::builder("record").node_id("node-1");
    let node = node.start().await.unwrap();
    soon("it is up", node.wait_for(1)).await.unwrap();
    let gauge = node.entity::<Gauge>("a/b");
    assert_eq!(gauge.add(1).await, Ok(1));
    let run = async |line: String| ask("record", &node, &line).await;

    let file = folder.path().join("a.casty");
    let line = format!("record record/gauge/a/b --write {}", file.display());
    let error = run(line.clone()).await.failed(1);
    assert!(error.contains("nothing of it is recorded"), "{error}");

    let told = run("record record/gauge/a/b --messages 10".to_owned()).await;
    assert_eq!(
        told.succeeded(),
        "record/gauge/a/b is recorded: 0 messages up to now, the last 10 at least are kept\n"
    );
    assert_eq!(gauge.add(2).await, Ok(3));
    let told = run("record record/gauge/a/b --json".to_owned())
        .await
        .json();
    assert_eq!(
        (&told["messages"], &told["messages_kept"]),
        (&1.into(), &256.into())
    );
    let told = run(line.clone()).await.succeeded();
    assert!(told.starts_with("1 messages are in `"), "{told}");
    let error = run(line).await.failed(1);
    assert!(error.contains("exists"), "{error}");

    assert!(gauge.add(500).await.is_err());
    let crash = folder.path().join("crash.casty");
    let line = format!(
        "record record/gauge/a/b --failed --write {}",
        crash.display()
    );
    run(line).await.succeeded();
    let shown = casty(&["recording", &crash.display().to_string()]).await;
    let shown = shown.succeeded();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[0],
        format!(
            "record/gauge/a/b on node-1, 2 messages, by casty {}; written because it failed: too much",
            env!("CARGO_PKG_VERSION")
        )
    );
    assert_eq!(lines[2], "      begins with {level: 1}");
    assert!(
        lines[3].contains("add {amount: 2}: replies 3 after ")
            && lines[3].ends_with("; then {level: 3}"),
        "{shown}"
    );
    assert!(
        lines[4].contains("add {amount: 500}: panics: too much"),
        "{shown}"
    );

    let told = run("record record/gauge/a/b --stop".to_owned()).await;
    assert_eq!(
        told.succeeded(),
        "record/gauge/a/b is not recorded any more\n"
    );
    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "hello").unwrap();
    let error = casty(&["recording", &wrong.display().to_string()]).await;
    assert!(error.failed(1).contains("does not begin as a recording"));
    node.shutdown().await.unwrap();

    let replayed = tokio::task::spawn_blocking(move || replay::<Gauge>(&crash).unwrap());
    let replayed = replayed.await.unwrap();
    assert_eq!(replayed.messages(), 2, "{replayed}");
    replayed.expect_same();
}
