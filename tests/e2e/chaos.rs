//! Random faults under many seeds, and what must hold whatever happens.
//!
//! `CASTY_SEEDS=1000..2000` runs other seeds, or one: `CASTY_SEEDS=1234`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use casty::{prelude::*, testkit::Sim};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The first one is never crashed, so that some senders live through everything; `tests/invariants`
/// spares nobody.
const NODES: [&str; 4] = ["a", "b", "c", "d"];
const SENDERS: u32 = 6;
const ENTITIES: u32 = 10;

/// Which message: its sender, and its number there.
type Id = (u32, u64);

/// What became of the messages of one run.
#[derive(Default)]
struct Record {
    /// Handled, in order: entity and message.
    handled: Vec<(String, Id)>,
    acknowledged: BTreeSet<Id>,
    /// The sender was told that they were certainly not handled.
    refused: BTreeSet<Id>,
    /// The sender was told that nobody knows, with these words.
    unclear: BTreeMap<Id, String>,
    sent: BTreeSet<Id>,
}

static RECORDS: Mutex<BTreeMap<u64, Arc<Mutex<Record>>>> = Mutex::new(BTreeMap::new());

fn record(seed: u64) -> Arc<Mutex<Record>> {
    RECORDS.lock().unwrap().entry(seed).or_default().clone()
}

/// Writes down what it handles, outside of the simulation.
#[derive(Default)]
struct Scribe;

#[entity(shards = 8)]
impl Scribe {
    #[message]
    fn write(&mut self, seed: u64, sender: u32, number: u64, ctx: &mut Context<Self>) {
        let entity = ctx.entity_id().to_string();
        let record = record(seed);
        record
            .lock()
            .unwrap()
            .handled
            .push((entity, (sender, number)));
    }
}

/// Sends one message after the other, told or asked, until `until`.
async fn send(system: ActorSystem, seed: u64, sender: u32, until: Duration) {
    let mut rng = StdRng::seed_from_u64(seed * 1000 + u64::from(sender));
    let record = record(seed);
    let begun = tokio::time::Instant::now();
    let mut number = 0;
    while begun.elapsed() < until {
        let id = (sender, number);
        number += 1;
        let entity = rng.random_range(0..ENTITIES).to_string();
        let call = system.entity::<Scribe>(entity).write(seed, id.0, id.1);
        record.lock().unwrap().sent.insert(id);
        if rng.random() {
            if call.tell().await.is_err() {
                record.lock().unwrap().refused.insert(id);
            }
        } else {
            let answer = call.timeout(Duration::from_secs(8)).await;
            let mut record = record.lock().unwrap();
            match answer {
                Ok(()) => drop(record.acknowledged.insert(id)),
                Err(error) if !error.maybe_handled() => drop(record.refused.insert(id)),
                Err(error) => drop(record.unclear.insert(id, error.to_string())),
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..40))).await;
    }
}

fn break_something(sim: &mut Sim, rng: &mut StdRng, down: &mut BTreeSet<&'static str>) {
    let mut pick = || NODES[rng.random_range(0..NODES.len())];
    let (one, other) = (pick(), pick());
    let victim = NODES[rng.random_range(1..NODES.len())];
    match rng.random_range(0..7) {
        0 if one != other => sim.partition(one, other),
        1 if one != other => sim.partition_one_way(one, other),
        2 if one != other => sim.stall(one, other),
        3 if down.is_empty() => {
            sim.crash(victim);
            down.insert(victim);
        }
        4 => {
            if let Some(node) = down.pop_first() {
                sim.restart(node);
            }
        }
        _ => sim.heal(),
    }
}

fn run(seed: u64) -> u64 {
    let mut sim = Sim::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    for name in NODES {
        sim.start(name);
    }
    sim.until_up(NODES.len());
    let until = Duration::from_secs(20);
    let tasks: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let node = NODES[sender as usize % NODES.len()];
            sim.spawn_on(node, move |system| send(system, seed, sender, until))
        })
        .collect();
    let mut down = BTreeSet::new();
    let mut crashed = BTreeSet::new();
    let end = sim.elapsed() + until;
    while sim.elapsed() < end {
        sim.run_for(Duration::from_millis(rng.random_range(100..1500)));
        break_something(&mut sim, &mut rng, &mut down);
        crashed.extend(down.iter().copied());
    }
    sim.heal();
    for node in std::mem::take(&mut down) {
        sim.restart(node);
    }
    // A sender whose node crashed is gone with it; all others come to their end, whatever they wait
    // for.
    for (sender, task) in (0_usize..).zip(&tasks) {
        if !crashed.contains(NODES[sender % NODES.len()]) {
            sim.until("a sender ends", |_| task.is_done());
        }
    }
    check(seed);
    sim.trace_hash()
}

/// One after the other leaves, and comes back as a new process, while everybody sends.
fn rolling(seed: u64) {
    let mut sim = Sim::new(seed);
    for name in NODES {
        sim.start(name);
    }
    sim.until_up(NODES.len());
    // The founder stays, and so do its senders.
    let tasks: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let until = Duration::from_secs(15);
            sim.spawn_on(NODES[0], move |system| send(system, seed, sender, until))
        })
        .collect();
    for node in NODES
        .iter()
        .cycle()
        .skip(1)
        .take(8)
        .filter(|node| **node != NODES[0])
    {
        sim.run_for(Duration::from_millis(700));
        let left = sim.on(node, |system| async move { system.shutdown().await });
        assert_eq!(left, Ok(()), "seed {seed}: {node} leaves");
        // An operating system delivers what a process has written, also after its end.
        sim.run_for(Duration::from_millis(300));
        sim.crash(node);
        sim.restart(node);
    }
    for task in &tasks {
        sim.until("a sender ends", |_| task.is_done());
    }
    let record = record(seed);
    // Nobody dies, so nothing may be lost: what was not refused is handled.
    let lost = || {
        let record = record.lock().unwrap();
        let handled: BTreeSet<_> = record.handled.iter().map(|(_, id)| *id).collect();
        let missing = |id: &&(u32, u64)| !handled.contains(*id) && !record.refused.contains(*id);
        let missing = record.sent.iter().filter(missing);
        missing
            .map(|id| (*id, record.unclear.get(id).cloned()))
            .collect::<Vec<_>>()
    };
    // What was told last is still on its way.
    let end = sim.elapsed() + Duration::from_secs(1);
    while !lost().is_empty() && sim.elapsed() < end {
        sim.run_for(Duration::from_millis(1));
    }
    check(seed);
    assert!(
        lost().is_empty(),
        "seed {seed}: lost {:?}\n{}",
        lost(),
        sim.trace()
    );
    let record = record.lock().unwrap();
    assert!(record.acknowledged.len() + record.refused.len() > 0);
}

#[test]
fn a_rolling_restart_loses_and_reorders_nothing() {
    for seed in seeds() {
        rolling(1_000_000 + seed);
    }
}

fn check(seed: u64) {
    let record = record(seed);
    let record = record.lock().unwrap();
    let mut once = BTreeSet::new();
    let mut last = BTreeMap::<(&str, u32), u64>::new();
    for (entity, id) in &record.handled {
        assert!(
            record.sent.contains(id),
            "seed {seed}: {id:?} was never sent"
        );
        assert!(once.insert(*id), "seed {seed}: {id:?} was handled twice");
        assert!(
            !record.refused.contains(id),
            "seed {seed}: {id:?} was handled, and its sender was told that it was not"
        );
        let before = last.insert((entity, id.0), id.1);
        assert!(
            before.is_none_or(|before| before < id.1),
            "seed {seed}: {entity} handled {id:?} after {before:?}"
        );
    }
    for id in &record.acknowledged {
        assert!(
            once.contains(id),
            "seed {seed}: {id:?} was acknowledged and not handled"
        );
    }
    assert!(
        once.len() * 4 > record.sent.len(),
        "seed {seed}: hardly anything was handled: {} of {}",
        once.len(),
        record.sent.len()
    );
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(wanted) = std::env::var("CASTY_SEEDS") else {
        return 0..16;
    };
    let number = |text: &str| text.parse().expect("CASTY_SEEDS is a number, or FROM..TO");
    match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&wanted)..number(&wanted) + 1,
    }
}

#[test]
fn at_most_once_in_order_and_never_a_lie() {
    for seed in seeds() {
        run(seed);
    }
}
