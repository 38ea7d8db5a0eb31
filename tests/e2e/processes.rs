//! Nodes in processes of their own.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Stdio};

use casty::{admin::Admin, id::Incarnation, member::MemberStatus, prelude::*, testkit::Probe};
use casty_tests::{Counter, CounterRef, Herald, HeraldRef, Listener};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::support::{STEP_LIMIT, entity_on, eventually, node, soon};

struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Process {
    async fn start(name: &str, seeds: &[SocketAddr]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_casty-test-node"));
        Self::start_by(program, name, seeds).await
    }

    /// A node with a state directory under `below`.
    async fn start_kept(name: &str, seeds: &[SocketAddr], below: &Path) -> Self {
        // A write without room on the disk must fail, and not kill the process.
        let mut program = Command::new("sh");
        program
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_casty-test-node"))
            .env("CASTY_STATE_DIR", below.join(name));
        Self::start_by(program, name, seeds).await
    }

    async fn start_by(mut program: Command, name: &str, seeds: &[SocketAddr]) -> Self {
        let mut child = program
            .args(["test", name, "127.0.0.1:0"])
            .args(seeds.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut process = Self {
            child,
            lines,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        process.address = process.says("address ").await.parse().unwrap();
        process
    }

    /// The rest of the next line that starts with `what`.
    async fn says(&mut self, what: &str) -> String {
        soon(what, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(what) {
                    return rest.to_owned();
                }
            }
            panic!("the process ended before it said `{what}`")
        })
        .await
    }

    async fn sees(&mut self, members: usize) {
        while self.says("members ").await != members.to_string() {}
    }

    async fn leave(mut self) {
        drop(self.child.stdin.take());
        let status = soon("it leaves", async { self.child.wait().await.unwrap() }).await;
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn three_processes_form_a_cluster_and_serve() {
    let mut first = Process::start("one", &[]).await;
    let mut second = Process::start("two", &[first.address]).await;
    let here = node("three")
        .seeds([second.address, first.address])
        .start()
        .await
        .unwrap();
    soon("it forms", here.wait_for(3)).await.unwrap();
    first.sees(3).await;
    second.sees(3).await;
    let mut homes = std::collections::BTreeSet::new();
    for i in 0..40 {
        let counter = here.entity::<Counter>(format!("c{i}"));
        counter.increment(i).tell().await.unwrap();
        assert_eq!(soon("an answer", counter.value()).await, Ok(i));
        homes.insert(counter.node().await.unwrap());
    }
    assert_eq!(homes.len(), 3, "{homes:?}");
    soon("shutdown", here.shutdown()).await.unwrap();
    second.leave().await;
    first.leave().await;
}

#[tokio::test]
async fn asks_to_a_killed_process_fail_at_once() {
    let here = node("here").start().await.unwrap();
    let mut there = Process::start("there", &[here.address()]).await;
    soon("it forms", here.wait_for(2)).await.unwrap();
    let counter = entity_on::<Counter>(&here, "there", CounterRef::node).await;
    let id = counter.entity_id();
    let asks: Vec<_> = (0..10)
        .map(|_| {
            let asking = counter.clone();
            tokio::spawn(async move { asking.nap(600_000).timeout(Duration::from_mins(10)).await })
        })
        .collect();
    // The asks are under way: a later ask has been answered.
    let other = here.entity::<Counter>(format!("{id}-other"));
    other.value().await.unwrap();
    eventually("under way", || other.value().into_future(), Result::is_ok).await;
    there.child.kill().await.unwrap();
    let killed = tokio::time::Instant::now();
    for ask in asks {
        let error = soon("a failure", ask).await.unwrap().unwrap_err();
        assert!(
            matches!(&error, AskError::Unreachable { node, .. } if node == "there"),
            "{error}"
        );
    }
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}, not at once");
    // Later asks fail too, as long as the shards have no other owner.
    let error = soon("a failure", counter.value()).await.unwrap_err();
    assert!(!error.maybe_handled(), "{error}");
    soon("shutdown", here.shutdown()).await.unwrap();
}

/// Its entities are on other nodes before it ends, and no ask fails with an unreachable node.
#[tokio::test]
async fn a_process_that_is_told_to_terminate_leaves_first() {
    let here = node("here").start().await.unwrap();
    let mut there = Process::start("there", &[here.address()]).await;
    soon("it forms", here.wait_for(2)).await.unwrap();
    let counter = entity_on::<Counter>(&here, "there", CounterRef::node).await;
    let pid = there.child.id().unwrap().to_string();
    let killed = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(killed.await.unwrap().success());
    let home = || counter.node().into_future();
    eventually("it lives here", home, |home| {
        let home = home.as_ref().expect("no error in between");
        home == "here"
    })
    .await;
    let status = soon("it ends", async { there.child.wait().await.unwrap() }).await;
    assert!(status.success(), "{status}");
    soon("shutdown", here.shutdown()).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_killed_process_is_the_end_of_its_actors() {
    let here = node("here").start().await.unwrap();
    let mut there = Process::start("there", &[here.address()]).await;
    soon("it forms", here.wait_for(2)).await.unwrap();
    let herald = entity_on::<Herald>(&here, "there", HeraldRef::node).await;
    let mut probe = Probe::<Listener>::new(&here);
    let listener = soon("an actor there", herald.hire()).await.unwrap();
    assert_eq!(listener.hear("hello".to_owned()).await, Ok(1));
    probe.watch(&listener);
    there.child.kill().await.unwrap();
    let end = probe.expect_terminated_within(STEP_LIMIT).await;
    assert!(end.is(&listener));
    let reason = end.reason.to_string();
    assert!(reason.contains("its node is gone: there"), "{reason}");
    soon("shutdown", here.shutdown()).await.unwrap();
}

/// The members that are Up, as this node sees them.
fn up(system: &ActorSystem) -> BTreeMap<String, Incarnation> {
    let members = system.members().into_iter();
    let up = members.filter(|member| member.status == MemberStatus::Up);
    up.map(|up| (up.id.node.to_string(), up.id.incarnation))
        .collect()
}

/// The first of the three is the sole voter at first.
async fn three_that_keep_what_they_decide(below: &Path) -> (Vec<Process>, ActorSystem) {
    let (mut processes, mut seeds) = (Vec::<Process>::new(), Vec::new());
    for name in KEEPERS {
        let process = Process::start_kept(name, &seeds, below).await;
        seeds.push(process.address);
        processes.push(process);
        // One after the other: the first three vote.
        let members = processes.len();
        processes[0].sees(members).await;
    }
    let here = node("here").seeds(&seeds).start().await.unwrap();
    soon("it forms", here.wait_for(4)).await.unwrap();
    let admin = Admin::connect("test", &seeds).await.unwrap();
    let votes = |name: &str, seen: &casty::admin::Members| {
        let mut members = seen.members.iter();
        members.any(|member| member.votes && member.id.node.as_str() == name)
    };
    eventually(
        "they vote",
        || admin.members(),
        |seen| {
            let seen = seen.as_ref().ok();
            seen.is_some_and(|seen| KEEPERS.iter().all(|name| votes(name, seen)))
        },
    )
    .await;
    (processes, here)
}

const KEEPERS: [&str; 3] = ["one", "two", "three"];

/// They come back at other addresses, too. Only this process, which has no vote, kept running.
#[tokio::test]
async fn all_that_decide_are_killed_at_once_and_come_back_to_their_cluster() {
    let state = tempfile::tempdir().unwrap();
    let (mut processes, here) = three_that_keep_what_they_decide(state.path()).await;
    let before = up(&here);
    for process in &mut processes {
        process.child.start_kill().unwrap();
    }
    for process in &mut processes {
        process.child.wait().await.unwrap();
    }
    let (mut again, mut seeds) = (Vec::new(), Vec::new());
    for name in KEEPERS {
        let process = Process::start_kept(name, &seeds, state.path()).await;
        seeds.push(process.address);
        again.push(process);
    }
    let newer = |up: &BTreeMap<String, Incarnation>| {
        let newer = |name: &&str| up.get(*name).is_some_and(|now| *now > before[*name]);
        KEEPERS.iter().all(newer)
    };
    let now = eventually("they are back", || async { up(&here) }, newer).await;
    assert_eq!(now["here"], before["here"], "it is the same cluster");
    for n in 0..8 {
        let counter = here.entity::<Counter>(format!("c{n}"));
        let asked = || counter.add(1).into_future();
        eventually("it answers", asked, Result::is_ok).await;
    }
    soon("shutdown", here.shutdown()).await.unwrap();
    for process in again.into_iter().rev() {
        process.leave().await;
    }
}

/// The node reports the reason, the others go on, and it is back as soon as there is room.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_voter_whose_disk_is_full_leaves() {
    let state = tempfile::tempdir().unwrap();
    let (mut processes, here) = three_that_keep_what_they_decide(state.path()).await;
    let before = up(&here);
    let mut full = processes.remove(0);
    let pid = full.child.id().unwrap().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, "--fsize=1"])
        .status();
    assert!(limited.await.unwrap().success());
    // Its join is decided, and all voters have written it.
    let more = node("more").seeds([here.address()]).start();
    let more = more.await.unwrap();
    soon("it joins", more.wait_for(4)).await.unwrap();
    let why = full.says("failed ").await;
    assert!(why.contains("File too large"), "{why}");
    let ended = soon("it ends", async { full.child.wait().await.unwrap() }).await;
    assert!(ended.success(), "it has nothing left to wait for: {ended}");
    let others: Vec<_> = processes.iter().map(|process| process.address).collect();
    let again = Process::start_kept(KEEPERS[0], &others, state.path()).await;
    let newer = |now: &BTreeMap<String, Incarnation>| {
        now.get(KEEPERS[0])
            .is_some_and(|now| *now > before[KEEPERS[0]])
    };
    let now = eventually("it is back", || async { up(&here) }, newer).await;
    assert_eq!(now["here"], before["here"], "it is the same cluster");
    soon("shutdown", here.shutdown()).await.unwrap();
    again.leave().await;
    for process in processes.into_iter().rev() {
        process.leave().await;
    }
}
