//! A node that keeps its entities in its directory, killed under load.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use casty::prelude::*;

/// It notes numbers, each of which a client gives it once.
#[message]
#[derive(Default)]
struct Notebook {
    noted: Vec<u64>,
}

#[entity(event_sourced, snapshot_every = 40, shards = 8)]
impl Notebook {
    #[event]
    fn noted(&mut self, number: u64) {
        self.noted.push(number);
    }

    #[message]
    fn note(&self, number: u64) -> Effect<Self> {
        Effect::persist(NotebookEvent::Noted { number })
    }

    #[message]
    fn all(&self) -> Vec<u64> {
        self.noted.clone()
    }
}

/// Names the directory and the round to a child, and that it is one.
const CHILD: &str = "CASTY_DURABLE_CHILD";
const ENTITIES: u64 = 12;
const CLIENTS: u64 = 12;
/// More numbers than a child gives.
const OF_A_ROUND: u64 = 1_000_000;

fn start(path: &Path) -> ActorSystem {
    let builder = ActorSystem::builder("notebooks").data_dir(path);
    builder.start_local().unwrap()
}

fn notebook(system: &ActorSystem, number: u64) -> NotebookRef {
    system.entity::<Notebook>(format!("notebook {}", number % ENTITIES).as_str())
}

fn say(what: char, number: u64) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "@{what}{number}").and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(work) = std::env::var(CHILD) else {
        return;
    };
    let (path, round) = work.split_once('\n').unwrap();
    let round: u64 = round.parse().unwrap();
    let system = start(Path::new(path));
    let clients = (0..CLIENTS).map(|client| {
        let system = system.clone();
        async move {
            for number in (client..OF_A_ROUND).step_by(usize::try_from(CLIENTS).unwrap()) {
                let number = round * OF_A_ROUND + number;
                say('?', number);
                notebook(&system, number).note(number).await.unwrap();
                say('!', number);
            }
        }
    });
    futures_util::future::join_all(clients).await;
}

/// What the children have said.
#[derive(Default)]
struct Said {
    attempted: BTreeSet<u64>,
    stored: BTreeSet<u64>,
}

impl Said {
    /// Whether it was something.
    fn note(&mut self, line: &str) -> bool {
        let Some((_, said)) = line.split_once('@') else {
            return false;
        };
        let of = match said.as_bytes().first() {
            Some(b'?') => &mut self.attempted,
            Some(b'!') => &mut self.stored,
            _ => return false,
        };
        said[1..].parse().is_ok_and(|number| of.insert(number))
    }

    /// Acknowledged ≤ stored ≤ attempted, each once.
    async fn check(&self, path: &Path, round: u64) {
        let system = start(path);
        let mut found = BTreeSet::new();
        for number in 0..ENTITIES {
            for noted in notebook(&system, number).all().await.unwrap() {
                assert!(found.insert(noted), "round {round}: {noted} is there twice");
            }
        }
        let lost: Vec<_> = self.stored.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?} are lost");
        let invented: Vec<_> = found.difference(&self.attempted).collect();
        assert!(
            invented.is_empty(),
            "round {round}: {invented:?} were never given"
        );
        system.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_node_has_confirmed_is_in_its_directory_once() {
    let kills = std::env::var("CASTY_KILLS").map_or(8, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut said = Said::default();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::child", "--nocapture", "--test-threads=1"])
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
        said.check(folder.path(), round).await;
    }
    assert!(said.stored.len() > 100);
}
