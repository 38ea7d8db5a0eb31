//! A cluster grows from three nodes to six and shrinks again under load: the load evens out, no
//! value is lost, and an entity that moves is away only for a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use casty::{Settings, SystemBuilder, prelude::*, testkit::cluster_of};
use futures_util::future::join_all;
use tokio::{sync::watch, time::Instant};

use crate::support::{eventually, node, shutdown, soon};

const ENTITIES: usize = 1000;
const SHARDS: usize = 64;
/// The nodes that stay. All askers live on them.
const STAY: usize = 3;
const JOIN: usize = 3;
/// Between an answer and the next ask of the same entity. At a faster pace a thousand entities keep
/// two processors so busy that the test measures the queue.
const PACE: Duration = Duration::from_millis(50);
/// Answers of each entity that end a time of measurement.
const ANSWERS: u64 = 20;
/// How long a planned move may keep an entity from answering, in the median and at worst. These
/// bounds hold only on a machine without other load, with `CASTY_MEASURE` set. Otherwise far larger
/// bounds only detect an entity that is stuck.
const MEDIAN: Duration = Duration::from_millis(50);
const WORST: Duration = Duration::from_millis(250);
const GENEROUS: u32 = 20;

/// A counter that migrates.
#[message]
#[derive(Default)]
pub(crate) struct Settler {
    value: u64,
}

#[entity(shards = 64, migrate)]
impl Settler {
    #[message]
    fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }

    #[message]
    fn home(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

fn settler(system: &ActorSystem, n: usize) -> SettlerRef {
    system.entity::<Settler>(format!("s{n}"))
}

/// The asks of one entity, and the answers.
#[derive(Default)]
struct Heard {
    answers: AtomicU64,
    /// Asks that may have been handled, although no answer came.
    unclear: AtomicU64,
    longest_micros: AtomicU64,
}

#[derive(Default)]
struct Load {
    heard: Vec<Heard>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// Whether a caller can react to the error by a retry.
fn is_retryable(error: &AskError) -> bool {
    let known = matches!(
        error,
        AskError::Unreachable { .. } | AskError::Timeout { .. } | AskError::NoQuorum
    );
    known || !error.maybe_handled()
}

async fn ask(settler: SettlerRef, n: usize, load: Arc<Load>, stop: watch::Receiver<bool>) {
    let heard = &load.heard[n];
    let mut last = Instant::now();
    while !*stop.borrow() {
        match settler.add(1).await {
            Ok(_) => {
                let gap = last.elapsed();
                last = Instant::now();
                heard.answers.fetch_add(1, Ordering::Relaxed);
                heard
                    .longest_micros
                    .fetch_max(gap.as_micros() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                assert!(is_retryable(&error), "s{n}: {error:?}");
                if error.maybe_handled() {
                    heard.unclear.fetch_add(1, Ordering::Relaxed);
                }
                let mut errors = load.errors.lock().unwrap();
                *errors.entry(error.to_string()).or_default() += 1;
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

impl Load {
    /// Waits until every entity has answered `count` more times.
    async fn answers(&self, count: u64) {
        let answers = || self.heard.iter().map(|h| h.answers.load(Ordering::Relaxed));
        let before: Vec<u64> = answers().collect();
        let after = || async { answers().collect::<Vec<u64>>() };
        eventually("every entity answers", after, |after| {
            let pairs = after.iter().zip(&before);
            pairs.into_iter().all(|(now, then)| *now >= then + count)
        })
        .await;
    }

    fn forget_gaps(&self) {
        for heard in &self.heard {
            heard.longest_micros.store(0, Ordering::Relaxed);
        }
    }

    /// The longest gap between two answers of each chosen entity, the shortest first.
    fn gaps(&self, such: impl Fn(usize) -> bool) -> Vec<Duration> {
        let heard = self.heard.iter().enumerate().filter(|(n, _)| such(*n));
        let micros = heard.map(|(_, h)| h.longest_micros.load(Ordering::Relaxed));
        let mut gaps: Vec<_> = micros.map(Duration::from_micros).collect();
        gaps.sort_unstable();
        gaps
    }
}

/// The home of each entity.
async fn homes(system: &ActorSystem) -> Vec<String> {
    let asks = (0..ENTITIES).map(|n| settler(system, n).home().into_future());
    let homes = join_all(asks).await;
    homes.into_iter().map(Result::unwrap_or_default).collect()
}

/// How many shards each of those nodes has.
fn counts(system: &ActorSystem, homes: &[String], names: &[String]) -> BTreeMap<String, usize> {
    let owned: BTreeSet<_> = homes
        .iter()
        .enumerate()
        .map(|(n, home)| {
            (
                AsRef::<EntityRef<Settler>>::as_ref(&settler(system, n)).shard(),
                home.clone(),
            )
        })
        .collect();
    let mut counts: BTreeMap<_, _> = names.iter().map(|name| (name.clone(), 0)).collect();
    for (_, home) in owned {
        *counts.entry(home).or_default() += 1;
    }
    counts
}

/// Waits until the load is even over exactly these nodes. Returns the homes of all entities.
async fn evened_out(system: &ActorSystem, names: &[String]) -> Vec<String> {
    let even = |homes: &Vec<String>| {
        let counts = counts(system, homes, names);
        let (least, most) = (counts.values().min(), counts.values().max());
        let (least, most) = (*least.unwrap_or(&0), *most.unwrap_or(&0));
        let all: usize = counts.values().sum();
        // One shard, or a tenth of the average of two nodes.
        counts.len() == names.len()
            && all == SHARDS
            && most - least <= usize::max(1, (most + least) / 20)
    };
    let homes = eventually("the load is even", || homes(system), even).await;
    println!("shards: {:?}", counts(system, &homes, names));
    homes
}

fn report(what: &str, gaps: &[Duration]) -> (Duration, Duration) {
    let (median, worst) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!(
        "{what}: {} entities; longest gap between two answers: {median:.1?} median, {worst:.1?} worst",
        gaps.len()
    );
    (median, worst)
}

/// Checks how long entities were away, less the pace at which they are asked. `calm`: the median
/// while nothing moved, which is longer on a machine that has other work.
fn check_pause(what: &str, (median, worst): (Duration, Duration), calm: Duration) {
    let (median, worst) = (median.saturating_sub(PACE), worst.saturating_sub(PACE));
    let slow = calm.as_millis().div_ceil(PACE.as_millis());
    let times = match std::env::var_os("CASTY_MEASURE") {
        Some(_) => 1,
        None => GENEROUS * u32::try_from(slow).unwrap(),
    };
    assert!(median <= MEDIAN * times, "{what}: median {median:?}");
    assert!(worst <= WORST * times, "{what}: worst {worst:?}");
}

/// A node that keeps its lease on a busy machine: an entity that loses its state with a lease is
/// not what is looked for here.
fn patient(name: &str) -> SystemBuilder {
    node(name).settings(Settings::patient())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_and_shrinks_under_load() {
    let nodes = cluster_of(STAY, |n| patient(&format!("node-{n}"))).await;
    let all = 0..ENTITIES;
    let first: Vec<_> = all.clone().map(|n| settler(&nodes[n % STAY], n)).collect();
    for answer in soon(
        "all start",
        join_all(first.iter().map(|s| s.add(0).into_future())),
    )
    .await
    {
        assert_eq!(answer, Ok(0));
    }
    let load = Arc::new(Load {
        heard: all.map(|_| Heard::default()).collect(),
        ..Load::default()
    });
    let (stop, stopped) = watch::channel(false);
    let asking: Vec<_> = (0..STAY)
        .map(|at| {
            let asks: Vec<_> = (at..ENTITIES)
                .step_by(STAY)
                .map(|n| ask(settler(&nodes[at], n), n, load.clone(), stopped.clone()))
                .collect();
            tokio::spawn(async move { drop(join_all(asks).await) })
        })
        .collect();
    let names = |nodes: &[ActorSystem]| -> Vec<String> {
        nodes
            .iter()
            .map(|node| node.node_id().to_string())
            .collect()
    };
    let before = evened_out(&nodes[0], &names(&nodes)).await;
    load.answers(2).await;
    load.forget_gaps();
    load.answers(ANSWERS).await;
    let (calm, _) = report("while nothing moves", &load.gaps(|_| true));

    load.forget_gaps();
    let joining = (0..JOIN).map(|n| {
        let builder = patient(&format!("newcomer-{n}"));
        builder.seeds([nodes[0].address()]).start()
    });
    let newcomers = soon("they start", join_all(joining)).await;
    let newcomers: Vec<_> = newcomers.into_iter().map(Result::unwrap).collect();
    for system in nodes.iter().chain(&newcomers) {
        soon("all are there", system.wait_for(STAY + JOIN))
            .await
            .unwrap();
    }
    let six = [names(&nodes), names(&newcomers)].concat();
    let grown = evened_out(&nodes[0], &six).await;
    load.answers(2).await;
    let joined = report("moved by the joins", &load.gaps(|n| grown[n] != before[n]));

    load.forget_gaps();
    for newcomer in &newcomers {
        soon("it leaves", newcomer.shutdown()).await.unwrap();
    }
    let shrunk = evened_out(&nodes[0], &names(&nodes)).await;
    load.answers(2).await;
    let left = report("moved by the leaves", &load.gaps(|n| shrunk[n] != grown[n]));

    stop.send(true).unwrap();
    for asking in asking {
        soon("who asks comes to an end", asking).await.unwrap();
    }
    println!("errors: {:?}", load.errors.lock().unwrap());
    for (n, heard) in load.heard.iter().enumerate() {
        let value = soon("the value", first[n].add(0)).await.unwrap();
        let answers = heard.answers.load(Ordering::Relaxed);
        let at_most = answers + heard.unclear.load(Ordering::Relaxed);
        assert!(
            (answers..=at_most).contains(&value),
            "s{n} holds {value}: {answers} were acknowledged, at most {at_most} handled"
        );
    }
    check_pause("joins", joined, calm);
    check_pause("leaves", left, calm);
    shutdown(nodes).await;
}
