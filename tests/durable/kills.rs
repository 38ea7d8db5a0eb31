//! A node that keeps its entities in its directory, killed under load.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use casty::prelude::*;

use crate::{
    noted::{OF_A_PROCESS, Said, all, give, note},
    passed,
};

/// Names the directory and the round to a child, and that it is one.
const CHILD: &str = "CASTY_DURABLE_CHILD";
const CLIENTS: u64 = 12;

fn start(path: &Path) -> ActorSystem {
    let builder = ActorSystem::builder("notebooks").data_dir(path);
    builder.start_local().unwrap()
}

/// What a child was told: its directory, and its first number. `None` in the process of the tests.
fn work() -> Option<(ActorSystem, u64)> {
    let work = std::env::var(CHILD).ok()?;
    let (path, round) = work.split_once('\n').unwrap();
    let round: u64 = round.parse().unwrap();
    Some((start(Path::new(path)), round * OF_A_PROCESS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some((system, first)) = work() else {
        return;
    };
    // A node that is alone refuses nothing.
    let note = async |number| {
        note(&system, number).await.unwrap();
        Ok(())
    };
    give(first, CLIENTS, note).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_with_sends() {
    let Some((system, first)) = work() else {
        return;
    };
    let pass = async |number| {
        passed::pass_or_set(&system, number).await.unwrap();
        Ok(())
    };
    give(first, CLIENTS, pass).await;
}

/// Kills children under load, and hands what each leaves to `all`, which says what is stored.
async fn kill(child: &str, all: impl AsyncFn(&ActorSystem) -> Vec<u64>) {
    let kills = std::env::var("CASTY_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{}\n{round}", folder.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Each round ends at another moment.
        let enough = 100 + round * 7919 % 500;
        let mut heard = 0;
        while heard < enough {
            let line = lines.next().unwrap().unwrap();
            heard += u64::from(said.note(&line));
        }
        child.kill().unwrap();
        for line in lines {
            said.note(&line.unwrap());
        }
        child.wait().unwrap();
        let system = start(folder.path());
        said.check(&all(&system).await, &format!("round {round}"));
        system.shutdown().await.unwrap();
    }
    assert!(said.stored() > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_has_confirmed_is_in_its_directory_once() {
    kill("kills::child", all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_has_sent_is_taken_and_what_it_has_set_is_due_once() {
    kill("kills::child_with_sends", passed::all).await;
}
