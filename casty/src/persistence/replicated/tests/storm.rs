//! Nodes crash, are cut off and come back, while records are written: what was acknowledged is in
//! the log of each later owner.

use std::{
    collections::BTreeMap,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, seq::IndexedRandom};
use tokio::time::{sleep, timeout};

use super::{
    claim, kinds, log, paused, record,
    world::{ROUGH, World},
};
use crate::{
    id::{EntityId, Epoch},
    infra::{panic::panic_text, seeds::seeds, sync::lock},
    persistence::{
        Append, AppendError, Appended, Journal, Log, Page, Record, Snapshot, replicated::Replicated,
    },
    protocol::copies::Life,
};

const NODES: usize = 3;
const SHARDS: u32 = 2;
const STEPS: usize = 60;

/// What is known of one shard.
#[derive(Default)]
struct Known {
    /// The records that were acknowledged or found by an owner, by position.
    decided: BTreeMap<u64, Record>,
    acknowledged: usize,
    next: u64,
    life: Life,
    /// The snapshots that the life began with, once an owner has looked. Those of earlier lives,
    /// but these, are never to be seen again.
    began_with: Option<BTreeMap<EntityId, Snapshot>>,
}

impl Known {
    /// All that was known was given up.
    fn begin_anew(&mut self, life: Life) {
        self.decided.clear();
        self.life = life;
        self.began_with = life.begins_empty.then(BTreeMap::new);
    }

    /// Looks whether snapshots that an owner has are of this life.
    fn check_snapshots(&mut self, found: &BTreeMap<EntityId, Snapshot>) -> Result<(), String> {
        let tag = format!("a state of life {}", self.life.after);
        let began_with = self.began_with.get_or_insert_with(|| found.clone());
        let is_of_life = |(entity, found): &(&EntityId, &Snapshot)| {
            found.body == tag.as_bytes() || began_with.get(*entity) == Some(*found)
        };
        match found.iter().find(|found| !is_of_life(found)) {
            Some(old) => Err(format!("what was given up is back: {old:?}")),
            None => Ok(()),
        }
    }

    fn decide(&mut self, record: Record) -> Result<(), String> {
        let position = record.position;
        let before = self.decided.insert(position, record.clone());
        match before {
            Some(before) if (before.seq, &before.entity) != (record.seq, &record.entity) => Err(
                format!("position {position} was decided twice: {before:?}, {record:?}"),
            ),
            Some(before)
                if !before.body.is_empty()
                    && !record.body.is_empty()
                    && before.body != record.body =>
            {
                Err(format!(
                    "position {position} was decided twice: {before:?}, {record:?}"
                ))
            }
            _ => Ok(()),
        }
    }
}

fn entity(number: u64) -> EntityId {
    EntityId::from_text(Arc::from(format!("entity-{}", number % 3)))
}

/// All that an owner has, once its takeover is complete.
async fn check(
    store: &Replicated,
    log: &Log,
    (head, epoch): (u64, Epoch),
    known: &Mutex<Known>,
) -> Result<Option<BTreeMap<EntityId, u64>>, String> {
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or(0, |record: &Record| record.position);
        let Ok(read) = store.read_log(log, after, Page::default()).await else {
            // The process is dying.
            return Ok(None);
        };
        if read.is_empty() {
            break;
        }
        found.extend(read);
    }
    found.retain(|record| record.position <= head);
    if found.len() as u64 != head {
        return Err(format!(
            "{log} has {} records, and its head is {head}",
            found.len()
        ));
    }
    let mut seqs = BTreeMap::new();
    let mut snapshots = BTreeMap::new();
    for number in 0..3 {
        let entity = entity(number);
        let Ok(snapshot) = store.load(log, &entity).await else {
            return Ok(None);
        };
        if let Some(snapshot) = snapshot {
            // A copy that was not whole may have the state before the records.
            seqs.insert(entity.clone(), snapshot.seq);
            snapshots.insert(entity, snapshot);
        }
    }
    for record in &found {
        let seq = seqs.entry(record.entity.clone()).or_insert(0);
        *seq = record.seq.max(*seq);
        let snapshot = snapshots.get(&record.entity).map_or(0, |it| it.seq);
        if record.body.is_empty() && snapshot < record.seq {
            return Err(format!("nothing stands for {record:?} in {log}"));
        }
    }
    let mut known = lock(known);
    if epoch <= known.life.after {
        // It was given up meanwhile.
        return Ok(None);
    }
    known.check_snapshots(&snapshots)?;
    if let Some((last, record)) = known.decided.last_key_value()
        && *last > head
    {
        return Err(format!(
            "{log} ends at {head}, and this was decided: {record:?}"
        ));
    }
    for record in found {
        known.decide(record)?;
    }
    Ok(Some(seqs))
}

/// Claims a shard for its owner, checks it, and writes, for as long as that goes well. Whether it
/// is to be claimed again under the same epoch.
async fn serve(
    store: &Replicated,
    log: &Log,
    epoch: Epoch,
    known: &Mutex<Known>,
) -> Result<bool, String> {
    let claimed = timeout(Duration::from_secs(20), claim(store, log, epoch)).await;
    let Ok(Ok(mut head)) = claimed else {
        return Ok(false);
    };
    let Some(mut seqs) = check(store, log, (head, epoch), known).await? else {
        return Ok(false);
    };
    loop {
        let number = {
            let mut known = lock(known);
            known.next += 1;
            known.next
        };
        let entity = entity(number);
        let seq = seqs.entry(entity.clone()).or_insert(0);
        *seq += 1;
        let body = format!("record {number} of {epoch}");
        let written = record(head + 1, epoch, entity.as_str(), *seq, &body);
        let part = Append {
            log: log.clone(),
            epoch,
            records: vec![written.clone()],
        };
        let done = timeout(Duration::from_secs(30), store.append(vec![part])).await;
        if let Ok(Err(AppendError::NotEnoughCopies { .. })) = done {
            return Ok(true);
        }
        let Ok(Ok(done)) = done else {
            return Ok(false);
        };
        if done != [Appended::Written] {
            return Ok(false);
        }
        head += 1;
        let life = {
            let mut known = lock(known);
            if epoch <= known.life.after {
                return Ok(false);
            }
            known.acknowledged += 1;
            known.decide(written)?;
            known.life.after
        };
        if number.is_multiple_of(5) {
            let snapshot = Snapshot {
                seq: *seq,
                at: 1,
                body: format!("a state of life {life}").into(),
            };
            let saved = store.save(log, epoch, &entity, snapshot).await;
            if saved.is_ok() {
                // An error: it is kept.
                let _ = store.forget(log, epoch, &entity, *seq, false).await;
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Serves a shard wherever the map says, until the end.
async fn client(world: Arc<World>, log: Log, known: Arc<Mutex<Known>>) -> Result<(), String> {
    let mut last = None;
    loop {
        let owner = {
            let state = lock(&world.state);
            let home = &state.homes[&log];
            home.owner.map(|(node, number)| (node, number, home.epoch))
        };
        if let Some((node, number, epoch)) = owner
            && Some((number, epoch)) != last
            && let Some(store) = world.process(node)
            && lock(&world.state).nodes[node].number == number
        {
            let again = serve(&store, &log, epoch, &known).await?;
            last = (!again).then_some((number, epoch)).or(last);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The leader: a shard whose owner is gone gets another one, of those in sync.
fn elect(world: &World, log: &Log, anyhow: bool) {
    let candidates: Vec<usize> = {
        let state = lock(&world.state);
        let home = &state.homes[log];
        let is_served = home.owner.is_some_and(|(node, number)| {
            let node = &state.nodes[node];
            node.process.is_some() && node.number == number
        });
        if is_served && !anyhow {
            return;
        }
        let may = |node: &usize| {
            let node = &state.nodes[*node];
            node.process.is_some()
                && node
                    .store
                    .is_some_and(|store| home.in_sync.contains(&store))
        };
        (0..NODES).filter(may).collect()
    };
    let chosen = world.random(|rng| candidates.choose(rng).copied());
    let epoch = Epoch(lock(&world.state).homes[log].epoch.0 + 1);
    if let Some(node) = chosen {
        world.assign(log, epoch, node);
    }
}

/// Lives that have begun in all storms.
static LIVES: AtomicUsize = AtomicUsize::new(0);

/// An operator: a shard that is lost is given up, if a node is there in which it can begin anew.
fn give_up(world: &World, log: &Log, known: &Mutex<Known>) {
    if !world.is_lost(log) {
        return;
    }
    let (node, begins_empty, now) = world.random(|rng| {
        let node = rng.random_range(0..NODES);
        (node, rng.random_ratio(1, 3), rng.random_ratio(1, 2))
    });
    if now && let Some(life) = world.begin_anew(log, node, begins_empty) {
        lock(known).begin_anew(life);
        LIVES.fetch_add(1, Ordering::Relaxed);
    }
}

async fn step(world: &Arc<World>, log: &Log, known: &Mutex<Known>) {
    let (what, node, pause) = world.random(|rng| {
        let pause = rng.random_range(Duration::ZERO..Duration::from_millis(1500));
        (rng.random_range(0..10), rng.random_range(0..NODES), pause)
    });
    let runs = world.process(node).is_some();
    match what {
        0 | 1 if runs => world.crash(node),
        2..=4 if !runs => world.start(node).await,
        5 => {
            lock(&world.state).cut_off.insert(node);
        }
        6 => lock(&world.state).cut_off.clear(),
        7 => elect(world, log, true),
        8 => world.want_all(log),
        9 => (0..NODES).for_each(|node| {
            if world.process(node).is_some() {
                world.crash(node);
            }
        }),
        _ => {}
    }
    give_up(world, log, known);
    elect(world, log, false);
    sleep(pause).await;
}

/// Waits until the store of a node is in sync.
async fn in_sync(world: &World, log: &Log, node: usize) -> Result<(), String> {
    for _ in 0..1000 {
        let home = lock(&world.state).homes[log].clone();
        if home.in_sync.contains(&world.store(node)) {
            return Ok(());
        }
        world.want_all(log);
        sleep(Duration::from_millis(100)).await;
    }
    Err(format!("node {node} does not come into sync for {log}"))
}

async fn run(seed: u64) -> Result<usize, String> {
    let world = World::new(NODES, ROUGH, seed, &kinds()).await;
    let logs: Vec<Log> = (0..SHARDS).map(log).collect();
    let mut known = Vec::new();
    let mut clients = Vec::new();
    for log in &logs {
        world.assign(log, Epoch(1), 0);
        let of_log = Arc::new(Mutex::new(Known::default()));
        known.push(of_log.clone());
        clients.push(tokio::spawn(client(world.clone(), log.clone(), of_log)));
    }
    for number in 0..STEPS {
        let shard = number % logs.len();
        step(&world, &logs[shard], &known[shard]).await;
    }
    lock(&world.state).cut_off.clear();
    for node in 0..NODES {
        if world.process(node).is_none() {
            world.start(node).await;
        }
    }
    let before: Vec<_> = known.iter().map(|known| lock(known).acknowledged).collect();
    for _ in 0..3000 {
        for log in &logs {
            elect(&world, log, false);
            world.want_all(log);
        }
        let is_whole = |log: &Log| lock(&world.state).homes[log].in_sync.len() == NODES;
        let goes_on = known
            .iter()
            .zip(&before)
            .all(|(known, before)| lock(known).acknowledged > *before);
        if goes_on && logs.iter().all(is_whole) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    for client in &clients {
        client.abort();
    }
    for client in clients {
        match client.await {
            Ok(Err(why)) => return Err(why),
            Err(error) if error.is_panic() => {
                return Err(panic_text(&*error.into_panic()).clone());
            }
            _ => {}
        }
    }
    // The last word has an owner that is elected now, in each store once.
    for (log, known) in logs.iter().zip(&known) {
        for node in 0..NODES {
            in_sync(&world, log, node).await?;
            let epoch = Epoch(lock(&world.state).homes[log].epoch.0 + 1);
            world.assign(log, epoch, node);
            let store = world.process(node).ok_or("it runs")?;
            let claimed = timeout(Duration::from_mins(2), claim(&store, log, epoch)).await;
            let head = match claimed {
                Ok(Ok(head)) => head,
                other => return Err(format!("node {node} does not take {log} over: {other:?}")),
            };
            let checked = check(&store, log, (head, epoch), known).await?;
            checked.ok_or("the store cannot be read")?;
        }
    }
    let acknowledged = known.iter().map(|known| lock(known).acknowledged);
    for (known, before) in known.iter().zip(before) {
        if lock(known).acknowledged <= before {
            return Err("nothing is acknowledged any more".to_owned());
        }
    }
    Ok(acknowledged.sum())
}

/// The first seed that fails, and why.
fn explore(seeds: Range<u64>) -> Option<(u64, String)> {
    for seed in seeds {
        let ran = catch_unwind(AssertUnwindSafe(|| paused(run(seed))));
        match ran {
            Ok(Ok(acknowledged)) => assert!(acknowledged > 0, "seed {seed}: nothing was written"),
            Ok(Err(why)) => return Some((seed, why)),
            Err(panic) => return Some((seed, panic_text(&*panic).clone())),
        }
    }
    None
}

#[test]
fn what_was_acknowledged_is_in_the_log_of_each_later_owner() {
    let failed = explore(seeds(0..60));
    if let Some((seed, why)) = failed {
        panic!("CASTY_STORM_SEEDS={seed}: {why}");
    }
    let lives = LIVES.load(Ordering::Relaxed);
    println!("{lives} shards were given up");
}

/// Rules that concern how the task carries out what the machine decides, and some of the machine's
/// own: all others are looked for by its walks.
const RULES: &[&str] = &[
    "written_records_are_confirmed_at_once",
    "what_is_forgotten_is_copied_as_it_is",
    "one_confirmation_is_enough",
    "confirmed_before_sync",
    "outputs_leave_before_the_takeover_is_complete",
    "copies_are_dropped_without_a_decision",
    "an_owner_keeps_what_was_given_up",
    "a_copy_keeps_what_was_given_up",
];

#[test]
fn storms_find_each_rule_that_is_broken() {
    const STORMS: u64 = 300;
    let mut survivors = Vec::new();
    for rule in RULES {
        match crate::infra::mutants::breaking(rule, || explore(0..STORMS)) {
            Some((seed, how)) => println!("{rule}: storm {seed}, {how}"),
            None => survivors.push(rule),
        }
    }
    assert!(survivors.is_empty(), "{STORMS} storms miss {survivors:?}");
}
