//! Numbers that processes note until they are killed, and what is found of them afterwards.

use std::{collections::BTreeSet, io::Write as _};

use casty::{prelude::*, testkit::STEP_LIMIT};

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

const ENTITIES: u64 = 12;

/// More numbers than one process gives.
pub(crate) const OF_A_PROCESS: u64 = 1_000_000;

fn notebook(system: &ActorSystem, number: u64) -> NotebookRef {
    system.entity::<Notebook>(format!("notebook {}", number % ENTITIES).as_str())
}

/// Gives a number to its notebook.
pub(crate) async fn note(system: &ActorSystem, number: u64) -> Result<(), AskError> {
    notebook(system, number).note(number).await
}

fn say(what: char, number: u64) {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "@{what}{number}").and_then(|()| out.flush());
    if written.is_err() {
        std::process::exit(1);
    }
}

/// Gives numbers, from a first one on, and says which, which of them are stored, and which are not
/// for sure.
pub(crate) async fn give(
    first: u64,
    clients: u64,
    give: impl AsyncFn(u64) -> Result<(), AskError>,
) {
    let give = &give;
    let clients = (0..clients).map(|client| async move {
        for number in (client..OF_A_PROCESS).step_by(usize::try_from(clients).unwrap()) {
            let number = first + number;
            say('?', number);
            match give(number).await {
                Ok(()) => say('!', number),
                Err(error) if !error.maybe_handled() => say('-', number),
                Err(_) => {}
            }
        }
    });
    futures_util::future::join_all(clients).await;
}

/// What processes have said.
#[derive(Default)]
pub(crate) struct Said {
    attempted: BTreeSet<u64>,
    stored: BTreeSet<u64>,
    not_stored: BTreeSet<u64>,
}

impl Said {
    /// How many numbers are said to be stored.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }

    /// Whether it was something.
    pub(crate) fn note(&mut self, line: &str) -> bool {
        let Some((_, said)) = line.split_once('@') else {
            return false;
        };
        let of = match said.as_bytes().first() {
            Some(b'?') => &mut self.attempted,
            Some(b'!') => &mut self.stored,
            Some(b'-') => &mut self.not_stored,
            _ => return false,
        };
        said[1..].parse().is_ok_and(|number| of.insert(number))
    }

    /// Acknowledged ≤ stored ≤ attempted, each once, and nothing that was refused for sure.
    pub(crate) fn check(&self, found: &[u64], when: &str) {
        let mut once = BTreeSet::new();
        for number in found {
            assert!(once.insert(*number), "{when}: {number} is there twice");
        }
        let lost: Vec<_> = self.stored.difference(&once).collect();
        assert!(lost.is_empty(), "{when}: {lost:?} are lost");
        let invented: Vec<_> = once.difference(&self.attempted).collect();
        assert!(invented.is_empty(), "{when}: {invented:?} were never given");
        let refused: Vec<_> = self.not_stored.intersection(&once).collect();
        assert!(
            refused.is_empty(),
            "{when}: {refused:?} were said not to be stored"
        );
    }
}

/// All numbers that are noted.
pub(crate) async fn all(system: &ActorSystem) -> Vec<u64> {
    let mut found = Vec::new();
    for number in 0..ENTITIES {
        let all = notebook(system, number).all().retry_for(STEP_LIMIT).await;
        found.extend(all.unwrap());
    }
    found
}
