//! A process that is killed while it writes to a real disk.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::Arc,
};

use casty_log::{Change, Done, Log, Options, Page, Record, disk::Folder};

use crate::workload::{Random, SHARDS, claim, kind, log};

const CHILD: &str = "CASTY_LOG_CHILD";
const ATTEMPTED: &str = "attempted";
const STORED: &str = "stored";

fn open(path: &str) -> Log {
    let mut options = Options::default();
    // Several segments in each run.
    options.segment_bytes = 256 * 1024;
    // The thread of the log that was dropped before may not have closed it yet.
    options.lock_wait = std::time::Duration::from_mins(1);
    let opened = Log::open(Arc::new(Folder::new(path)), options);
    opened
        .expect("a killed process leaves no lock and no damage")
        .0
}

fn record(shard: u64, position: u64) -> Record {
    Record {
        position,
        epoch: 1,
        entity: format!("{shard}/{}", position % 10).into(),
        seq: position.div_ceil(10),
        at: position,
        body: format!("{shard} at {position} {}", "x".repeat(150)).into(),
    }
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "@{words}").and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(1);
    }
}

#[tokio::test]
async fn child() {
    let Ok(work) = std::env::var(CHILD) else {
        return;
    };
    let (path, seed) = work.split_once('\n').expect("two words");
    let opened = open(path);
    let mut random = Random::new(seed.parse().expect("a number"));
    opened.commit(vec![kind()]).await.expect("made");
    let mut heads = Vec::new();
    for shard in 0..u64::from(SHARDS) {
        let done = opened.commit(vec![claim(log(shard), 1)]).await;
        let Ok([Done::Claimed { head }]) = done.as_deref() else {
            panic!("{done:?}");
        };
        heads.push(*head);
    }
    loop {
        let mut changes = Vec::new();
        for (shard, head) in (0..).zip(&mut heads) {
            let last = *head + random.below(12);
            if last == *head {
                continue;
            }
            say(&format!("{ATTEMPTED} {shard} {last}"));
            changes.push(Change::Append {
                log: log(shard),
                epoch: 1,
                records: (*head + 1..=last).map(|at| record(shard, at)).collect(),
            });
            *head = last;
        }
        let parts = changes.len();
        let done = opened.commit(changes).await.expect("written");
        assert_eq!(done, vec![Done::Written; parts]);
        for (shard, head) in heads.iter().enumerate() {
            say(&format!("{STORED} {shard} {head}"));
        }
    }
}

/// What a child has said of each shard.
#[derive(Default)]
struct Said {
    attempted: BTreeMap<u64, u64>,
    stored: BTreeMap<u64, u64>,
}

impl Said {
    fn note(&mut self, line: &str) {
        let Some((_, words)) = line.split_once('@') else {
            return;
        };
        let words: Vec<_> = words.split(' ').collect();
        let [what, shard, head] = words[..] else {
            // The last line was cut.
            return;
        };
        let of = match what {
            STORED => &mut self.stored,
            _ => &mut self.attempted,
        };
        let shard = shard.parse().expect("a number");
        of.insert(shard, head.parse().expect("a number"));
    }
}

#[test]
fn what_a_killed_process_was_told_is_stored_is_there_once() {
    let kills =
        std::env::var("CASTY_LOG_KILLS").map_or(12, |kills| kills.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text").to_owned();
    let mut random = Random::new(11);
    let mut said = Said::default();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "kills::child", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{path}\n{round}"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut heard = 0;
        let enough = 100 + random.below(1500);
        while heard < enough {
            let line = lines.next().expect("a child that works").expect("text");
            heard += u64::from(line.contains('@'));
            said.note(&line);
        }
        child.kill().expect("killed");
        for line in lines {
            said.note(&line.expect("text"));
        }
        child.wait().expect("its end");
        check(&open(&path), &mut said, round);
    }
    assert!(said.stored.values().all(|head| *head > 100));
}

/// Acknowledged ≤ stored ≤ attempted, each once and in order.
fn check(opened: &Log, said: &mut Said, round: u64) {
    for shard in 0..u64::from(SHARDS) {
        let of = |said: &BTreeMap<u64, u64>| said.get(&shard).copied().unwrap_or_default();
        let head = opened.reader().head(log(shard)).position;
        let (stored, attempted) = (of(&said.stored), of(&said.attempted));
        assert!(
            (stored..=attempted).contains(&head),
            "round {round}: {head} records; {stored} acknowledged, {attempted} attempted"
        );
        let page = Page {
            records: usize::MAX,
            bytes: usize::MAX,
        };
        let read = opened.reader().read_log(log(shard), 0, page);
        let expected: Vec<_> = (1..=head).map(|at| record(shard, at)).collect();
        assert!(read.expect("readable") == expected, "round {round}");
        said.stored.insert(shard, head);
    }
}
