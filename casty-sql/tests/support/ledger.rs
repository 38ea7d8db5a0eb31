//! Entities under load on a store that fails, and what must hold whatever happens to it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use casty::{
    persistence::{Journal, Log},
    prelude::*,
    testkit::soon,
};
use tokio::sync::watch;

use super::{
    Random, all,
    child::{ATTEMPTED, Child, STORED, say},
    kills,
};

/// A list of numbers. A client gives each number once.
#[message]
#[derive(Default)]
pub(crate) struct Ledger {
    noted: Vec<u64>,
}

#[entity(event_sourced, snapshot_every = 40, shards = 8)]
impl Ledger {
    #[event]
    fn noted(&mut self, number: u64) {
        self.noted.push(number);
    }

    #[message]
    fn note(&self, number: u64) -> Effect<Self> {
        Effect::persist(LedgerEvent::Noted { number })
    }

    #[message]
    fn all(&self) -> Vec<u64> {
        self.noted.clone()
    }
}

/// More numbers than a child gives.
const OF_A_ROUND: u64 = 1_000_000;

/// A node that gives numbers to its ledgers until it is killed.
pub(crate) async fn note_until_killed(journal: impl Journal, round: u64) {
    let system = ActorSystem::builder("ledgers")
        .journal(journal)
        .start_local();
    let system = system.expect("started");
    let clients = (0..u64::from(CLIENTS)).map(|client| {
        let system = system.clone();
        async move {
            for number in (client..OF_A_ROUND).step_by(CLIENTS as usize) {
                let number = round * OF_A_ROUND + number;
                say(&[ATTEMPTED, number]);
                ledger(&system, number).note(number).await.expect("noted");
                say(&[STORED, number]);
            }
        }
    });
    futures_util::future::join_all(clients).await;
}

/// Numbers that nodes gave before they were killed.
#[derive(Default)]
pub(crate) struct Given {
    attempted: BTreeSet<u64>,
    stored: BTreeSet<u64>,
}

impl Given {
    pub(crate) fn note(&mut self, words: &[u64]) {
        let of = if words[0] == STORED {
            &mut self.stored
        } else {
            &mut self.attempted
        };
        of.insert(words[1]);
    }

    /// Acknowledged ≤ stored ≤ attempted, each once.
    pub(crate) async fn check(&self, journal: impl Journal, context: &str) {
        let found = noted(journal, context).await;
        let lost: Vec<_> = self.stored.difference(&found).collect();
        assert!(
            lost.is_empty(),
            "{context}: confirmed, and not stored: {lost:?}"
        );
        let invented: Vec<_> = found.difference(&self.attempted).collect();
        assert!(
            invented.is_empty(),
            "{context}: stored, and never given: {invented:?}"
        );
        assert!(!self.stored.is_empty(), "{context}: nothing was confirmed");
    }
}

/// What the ledgers have, as another node reads it from the store. Each number is there once.
async fn noted(journal: impl Journal, context: &str) -> BTreeSet<u64> {
    let system = ActorSystem::builder("ledgers")
        .journal(journal)
        .start_local();
    let system = system.expect("started");
    let mut found = BTreeSet::new();
    for number in 0..ENTITIES {
        let ledger = ledger(&system, number);
        let asked = ledger.all().retry_for(Duration::from_mins(1)).await;
        for noted in asked.expect("an answer") {
            assert!(found.insert(noted), "{context}: {noted} is stored twice");
        }
    }
    system.shutdown().await.expect("ended");
    found
}

/// Kills nodes under load, and reads what is stored by another node. `child` is the test that
/// [`note_until_killed`] runs in, and `store` names the store to it.
pub(crate) async fn kill_nodes<J, C>(child: &str, store: &str, connect: impl Fn() -> C)
where
    J: Journal,
    C: Future<Output = J>,
{
    let (mut random, mut given) = (Random::new(7), Given::default());
    for round in 1..=kills(12) {
        let mut node = Child::start(child, &[store, &round.to_string()]);
        // The first numbers of a round follow the claims.
        for _ in 0..100 + random.below(400) {
            let words = node.hear().await.expect("a node that works");
            given.note(&words);
        }
        for words in node.kill().await {
            given.note(&words);
        }
        given
            .check(connect().await, &format!("round {round}"))
            .await;
    }
}

const ENTITIES: u64 = 12;
const CLIENTS: u32 = 12;

/// What the clients know.
#[derive(Default)]
struct Heard {
    /// Confirmed.
    stored: BTreeSet<u64>,
    /// Refused with the promise that they are not stored.
    not_stored: BTreeSet<u64>,
    /// Read from an entity.
    seen: BTreeSet<u64>,
    /// Neither.
    in_doubt: u64,
}

impl Heard {
    fn note(&mut self, number: u64, asked: Result<(), AskError>) {
        match asked {
            Ok(()) => drop(self.stored.insert(number)),
            Err(error) if error.maybe_handled() => self.in_doubt += 1,
            Err(_) => drop(self.not_stored.insert(number)),
        }
    }
}

pub(crate) struct Load {
    system: ActorSystem,
    heard: Arc<Mutex<Heard>>,
    is_over: Arc<AtomicBool>,
    confirmed: watch::Sender<u64>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

fn ledger(system: &ActorSystem, number: u64) -> LedgerRef {
    system.entity::<Ledger>(format!("ledger {}", number % ENTITIES).as_str())
}

impl Load {
    /// Starts clients, each with an ask at a time.
    pub(crate) fn start(journal: impl Journal) -> Self {
        let system = ActorSystem::builder("ledgers")
            .journal(journal)
            .start_local();
        let mut load = Self {
            system: system.expect("started"),
            heard: Arc::default(),
            is_over: Arc::default(),
            confirmed: watch::Sender::new(0),
            clients: Vec::new(),
        };
        for client in 0..CLIENTS {
            let (system, heard) = (load.system.clone(), load.heard.clone());
            let (is_over, confirmed) = (load.is_over.clone(), load.confirmed.clone());
            let client = async move {
                for number in (u64::from(client)..).step_by(CLIENTS as usize) {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let asked = ledger(&system, number / u64::from(CLIENTS))
                        .note(number)
                        .await;
                    let is_confirmed = asked.is_ok();
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .note(number, asked);
                    if is_confirmed {
                        confirmed.send_modify(|confirmed| *confirmed += 1);
                    } else {
                        // While the store is away, errors come at once.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            };
            #[expect(clippy::disallowed_methods, reason = "a client is no part of a node")]
            load.clients.push(tokio::spawn(client));
        }
        load
    }

    /// Waits until so many more numbers are confirmed, and reads what a ledger has.
    pub(crate) async fn goes_on(&self, more: u64) {
        let mut confirmed = self.confirmed.subscribe();
        let enough = *confirmed.borrow() + more;
        let so_many = confirmed.wait_for(|confirmed| *confirmed >= enough);
        let so_many = soon("numbers are confirmed", so_many).await;
        drop(so_many.expect("the sender is here"));
        if let Ok(all) = ledger(&self.system, enough).all().await {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.seen.extend(all);
        }
    }

    /// Ends the load, and compares what the clients know with what is stored: by the entities of
    /// another node, and in the store itself.
    pub(crate) async fn check(self, journal: impl Journal + Clone) {
        self.is_over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.expect("a client");
        }
        self.system.shutdown().await.expect("ended");
        let stored = noted(journal.clone(), "after the load").await;
        let heard = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *heard)
        };
        let lost: Vec<_> = heard.stored.difference(&stored).collect();
        assert!(lost.is_empty(), "confirmed, and not stored: {lost:?}");
        let undone: Vec<_> = heard.seen.difference(&stored).collect();
        assert!(undone.is_empty(), "shown, and not stored: {undone:?}");
        let wrong: Vec<_> = heard.not_stored.intersection(&stored).collect();
        assert!(
            wrong.is_empty(),
            "said not to be stored, and stored: {wrong:?}"
        );
        assert!(stored.len() as u64 <= heard.stored.len() as u64 + heard.in_doubt);
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!(
                "{}: {} confirmed, {} refused, {} in doubt, {} stored\n",
                journal.describe(),
                heard.stored.len(),
                heard.not_stored.len(),
                heard.in_doubt,
                stored.len()
            ),
        );
        let mut count = 0;
        for shard in 0..8 {
            let kind = Arc::from("Ledger");
            count += all(&journal, &Log { kind, shard }).await.len();
        }
        assert_eq!(count, stored.len(), "records, and numbers");
    }
}
