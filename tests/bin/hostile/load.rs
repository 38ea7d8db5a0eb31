//! The healthy load: clients that ask and tell at an even pace, and keep books.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use casty::{AskError, ClusterClient};
use casty_tests::Counter;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

const CLERKS: usize = 16;
/// Each clerk has so many counters of its own.
const COUNTERS: usize = 32;
/// The pause between two asks of a clerk.
const PACE: Duration = Duration::from_millis(10);

/// What the load has seen since this was last taken.
#[derive(Default)]
pub(crate) struct Seen {
    micros: Vec<u64>,
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Seen {
    pub(crate) fn asks(&self) -> usize {
        self.micros.len()
    }

    /// The time within which so many of a hundred asks were answered.
    pub(crate) fn percentile(&mut self, percent: usize) -> Duration {
        self.micros.sort_unstable();
        let at = (self.micros.len() * percent / 100).min(self.micros.len().saturating_sub(1));
        Duration::from_micros(self.micros.get(at).copied().unwrap_or(0))
    }
}

pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    _clerks: JoinSet<()>,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// `exact`: a counter holds just what its clerk has added. Without it a recording of the load
    /// that is played again may have added more.
    pub(crate) fn begin(client: &ClusterClient, exact: bool) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut clerks = JoinSet::new();
        for clerk in 0..CLERKS {
            clerks.spawn(work(client.clone(), clerk, exact, seen.clone()));
        }
        Self {
            seen,
            _clerks: clerks,
        }
    }

    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *lock(&self.seen))
    }
}

async fn work(client: ClusterClient, clerk: usize, exact: bool, seen: Arc<Mutex<Seen>>) {
    let mut sums = [0_i64; COUNTERS];
    let mut ticks = interval(PACE);
    // Asks that are late are not asked all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0.. {
        ticks.tick().await;
        let n = turn % COUNTERS;
        let counter = client.entity::<Counter>(format!("clerk-{clerk}-{n}"));
        if let Err(error) = counter.increment(1).tell().await {
            note(&seen, format!("a tell: {error}"));
            continue;
        }
        let begun = Instant::now();
        match counter.add(1).await {
            Ok(sum) => {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                lock(&seen).micros.push(micros);
                let due = sums[n] + 2;
                if sum < due || (exact && sum != due) {
                    note(&seen, format!("a counter holds {sum} and not {due}"));
                }
                sums[n] = sum;
            }
            Err(error) => {
                note(&seen, named(&error));
                // Whether it was added is not known.
                sums[n] = counter.value().await.unwrap_or(sums[n]);
            }
        }
    }
}

fn named(error: &AskError) -> String {
    let name = format!("{error:?}");
    let end = name.find([' ', '(', '{']).unwrap_or(name.len());
    name[..end].to_owned()
}

fn note(seen: &Mutex<Seen>, what: String) {
    *lock(seen).errors.entry(what).or_default() += 1;
}
