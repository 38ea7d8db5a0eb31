//! Invariant 13: What an event-sourced entity has acknowledged is in every later activation of it.
//! No output leaves before its record is durable, and what is said to be not stored never is.
//! Positions in a log, and the numbers of an entity's records, are dense and single. Two owners
//! never both commit: after a claim nothing is written under an earlier epoch.
//!
//! Judged from outside: by answers, by messages to other entities, and by what is in the store.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context as PollContext, Poll, Waker},
};

use casty::{
    id::{EntityId, Epoch},
    persistence::{
        Journal, Log, Memory, Page, Record,
        faults::{Faults, Faulty, FaultyStore},
    },
    prelude::*,
    testkit::{Sim, View, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Broken,
    reminders::{self, Reminded},
    sends::{self, Sent},
};

const THREE: [&str; 3] = ["a", "b", "c"];
const ENTITIES: u64 = 5;
const SHARDS: u32 = 3;
const FAULTS: Duration = Duration::from_secs(14);

/// How often a node dies while it appends.
const ROUNDS: usize = 3;

/// The role of the nodes of this storm: those of other storms have no journal.
const ROLE: &str = "ledgers";

/// What the entities of a run know of it.
#[derive(Clone)]
struct Judge {
    memory: Memory,
    seen: Arc<Mutex<Seen>>,
    sent: Sent,
    reminded: Reminded,
}

#[derive(Default)]
struct Seen {
    /// How many numbers each entity has acknowledged.
    acknowledged: BTreeMap<u64, usize>,
    /// Numbers that are said to be not stored, and by which error.
    refused: BTreeMap<u64, String>,
    wrong: Vec<String>,
    /// How many answers there were, and how many of each failure.
    answers: BTreeMap<String, usize>,
}

/// What the memory answers at once.
fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = PollContext::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("memory never waits"),
    }
}

const ALL: Page = Page {
    records: usize::MAX,
    bytes: usize::MAX,
};

fn log_of(shard: u32) -> Log {
    Log {
        kind: "invariants/ledger".into(),
        shard,
    }
}

fn shard_of(entity: u64) -> u32 {
    let shards = NonZeroU32::new(SHARDS).expect("not zero");
    EntityId::new(entity.to_string()).shard(shards).0
}

/// The number that a record of a ledger says. The test looks for it in the encoded event.
fn says(record: &Record, number: u64) -> bool {
    let mut needle = vec![0xcf];
    needle.extend(number.to_be_bytes());
    record
        .body
        .windows(needle.len())
        .any(|window| window == needle)
}

impl Judge {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, what: String) {
        self.seen().wrong.push(what);
    }

    /// The records of an entity that are in the store at present.
    fn stored(&self, entity: u64) -> Vec<Record> {
        let (log, id) = (log_of(shard_of(entity)), EntityId::new(entity.to_string()));
        let read = self.memory.read_entity(&log, &id, 0, ALL);
        now_or_never(read).expect("memory never fails")
    }

    /// These numbers have been shown outside, so they must be stored.
    fn shown(&self, entity: u64, numbers: &[u64], by: &str) {
        let stored = self.stored(entity);
        for (at, number) in numbers.iter().enumerate() {
            if !stored.get(at).is_some_and(|record| says(record, *number)) {
                let now = true_time().unwrap_or_default();
                self.wrong(format!(
                    "{by} shows at {now:?} that {number} is number {at} of ledger {entity}, of \
                     which {} are stored",
                    stored.len()
                ));
                return;
            }
        }
    }
}

/// A list of numbers.
#[message]
#[derive(Default)]
struct Ledger {
    numbers: Vec<u64>,
}

#[entity(event_sourced, id = u64, shards = 3, snapshot_every = 4, role = "ledgers",
         name = "invariants/ledger")]
impl Ledger {
    #[event]
    fn entered(&mut self, number: u64) {
        self.numbers.push(number);
    }

    #[message]
    fn enter(&self, number: u64, ctx: &mut Context<Self>) -> Effect<Self, Vec<u64>> {
        let ledger = ctx.entity_id();
        // It is told of the state before this message, too.
        let mut numbers = self.numbers.clone();
        numbers.push(number);
        let _ = ctx
            .entity::<Witness>(ledger)
            .hear(ledger, numbers)
            .try_tell();
        Effect::persist(LedgerEvent::Entered { number })
            .then(move |ledger: &Self, ctx: &mut Context<Self>| {
                let judge = ctx.resource::<Judge>();
                let upto = ledger.numbers.iter().position(|entered| *entered == number);
                if let Some(upto) = upto {
                    judge.shown(ctx.entity_id(), &ledger.numbers[..=upto], "then");
                }
            })
            .reply(|ledger: &Self| ledger.numbers.clone())
    }

    #[message]
    fn list(&self) -> Vec<u64> {
        self.numbers.clone()
    }

    /// Tells what is there, and waits for that.
    #[message]
    async fn report(&self, ctx: &mut Context<Self>) -> Vec<u64> {
        let ledger = ctx.entity_id();
        let witness = ctx.entity::<Witness>(ledger);
        let _ = witness.hear(ledger, self.numbers.clone()).tell().await;
        self.numbers.clone()
    }
}

/// Is told what ledgers enter.
#[derive(Default)]
struct Witness;

#[entity(id = u64, shards = 3, role = "ledgers", name = "invariants/witness")]
impl Witness {
    #[message]
    fn hear(&mut self, ledger: u64, numbers: Vec<u64>, ctx: &mut Context<Self>) {
        ctx.resource::<Judge>().shown(ledger, &numbers, "a message");
    }
}

/// Enters one number after the other, and looks at what is there.
async fn enter(system: ActorSystem, judge: Judge, asker: u64, until: Duration) {
    let mut rng = StdRng::seed_from_u64(asker);
    let mut number = asker << 32;
    while true_time().is_some_and(|now| now < until) {
        let entity = rng.random_range(0..ENTITIES);
        let ledger = system.entity::<Ledger>(entity);
        let before = judge.seen().acknowledged.get(&entity).copied();
        let timeout = Duration::from_millis(rng.random_range(100..4000));
        match rng.random_range(0..8) {
            0 => {
                let answer = ledger.list().timeout(timeout).await;
                heed(&judge, entity, before, None, answer);
            }
            1 | 2 => {
                let answer = ledger.report().timeout(timeout).await;
                heed(&judge, entity, before, None, answer);
            }
            _ => {
                number += 1;
                let answer = ledger.enter(number).timeout(timeout).await;
                heed(&judge, entity, before, Some(number), answer);
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
    }
}

/// An answer of a ledger. `before`: how many numbers it had acknowledged when it was asked.
fn heed(
    judge: &Judge,
    entity: u64,
    before: Option<usize>,
    number: Option<u64>,
    answer: Result<Vec<u64>, AskError>,
) {
    let kind = match &answer {
        Ok(_) => "answered".to_owned(),
        Err(error) => format!("{error:?}")
            .split([' ', '{'])
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    *judge.seen().answers.entry(kind).or_default() += 1;
    match answer {
        Ok(numbers) => {
            judge.shown(entity, &numbers, "an answer");
            let before = before.unwrap_or_default();
            if numbers.len() < before {
                judge.wrong(format!(
                    "ledger {entity} answers with {} numbers after it has acknowledged {before}",
                    numbers.len()
                ));
            }
            if number.is_some_and(|number| !numbers.contains(&number)) {
                judge.wrong(format!(
                    "ledger {entity} acknowledges {number:?} without it"
                ));
            }
            let mut seen = judge.seen();
            let acknowledged = seen.acknowledged.entry(entity).or_default();
            *acknowledged = numbers.len().max(*acknowledged);
        }
        Err(error) if !error.maybe_handled() => {
            let now = true_time().unwrap_or_default();
            let refused = number.map(|number| (number, format!("{error} at {now:?}")));
            judge.seen().refused.extend(refused);
        }
        Err(_) => {}
    }
}

struct Storm {
    sim: Sim,
    seed: u64,
    rng: StdRng,
    judge: Judge,
    store: FaultyStore,
    connections: BTreeMap<&'static str, Faulty>,
    askers: u64,
    until: Duration,
    /// The node that is cut off, paused or down. There is one at a time: the others keep the map.
    victim: Option<&'static str>,
    is_paused: bool,
    is_down: bool,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    casty_tests::log();
    let judge = Judge {
        memory: Memory::new(),
        seen: Arc::default(),
        sent: Sent::default(),
        reminded: Reminded::default(),
    };
    let store = FaultyStore::new(Arc::new(judge.memory.clone()));
    let connections = THREE.into_iter().zip(1..);
    let connections = connections.map(|(name, n)| (name, store.connection(seed * 10 + n)));
    let mut run = Storm {
        sim: Sim::new(seed),
        seed,
        rng: StdRng::seed_from_u64(seed),
        judge,
        connections: connections.collect(),
        store,
        askers: 0,
        until: Duration::ZERO,
        victim: None,
        is_paused: false,
        is_down: false,
    };
    run.all()
}

impl Storm {
    fn all(&mut self) -> Result<(), Broken> {
        for name in THREE {
            let (judge, connection) = (self.judge.clone(), self.connections[name].clone());
            self.sim.start_with(name, move |builder| {
                builder
                    .role(ROLE)
                    .resource(judge.clone())
                    .resource(judge.sent.clone())
                    .resource(judge.reminded.clone())
                    .journal(connection.clone())
                    .strict_wire(false)
            });
        }
        self.settle();
        self.until = self.sim.elapsed() + FAULTS;
        for name in THREE {
            self.ask(name);
            self.ask(name);
        }
        while self.sim.elapsed() < self.until {
            self.act();
            let time = self.rng.random_range(50..1500);
            self.sim.run_for(Duration::from_millis(time));
            self.check()?;
        }
        self.heal();
        for _ in 0..ROUNDS {
            self.die_while_it_appends()?;
        }
        self.at_rest()
    }

    /// A node dies while the store has not answered its appends, and others take its shards over.
    /// What is on its way comes to the store before their claims, just after them, or never.
    fn die_while_it_appends(&mut self) -> Result<(), Broken> {
        let name = THREE[self.rng.random_range(0..THREE.len())];
        for connection in self.connections.values() {
            connection.set(Faults::default());
        }
        self.connections[name].set(Faults {
            is_silent: true,
            ..Faults::default()
        });
        self.until = self.sim.elapsed() + Duration::from_millis(500);
        for other in THREE.into_iter().filter(|other| *other != name) {
            self.ask(other);
            self.ask(other);
        }
        self.sim.run_for(Duration::from_millis(400));
        (self.victim, self.is_down) = (Some(name), true);
        self.sim.crash(name);
        // The shards have other owners, which have claimed their logs.
        self.sim.run_for(Duration::from_secs(4));
        self.heal();
        self.check()?;
        (0..SHARDS).try_for_each(|shard| self.check_log(&log_of(shard)))
    }

    fn ask(&mut self, name: &str) {
        self.askers += 1;
        let asker = self.seed.wrapping_mul(1000) % 1_000_000 + self.askers;
        let (judge, until) = (self.judge.clone(), self.until);
        drop(
            self.sim
                .spawn_on(name, move |system| enter(system, judge, asker, until)),
        );
        let sent = self.judge.sent.clone();
        drop(
            self.sim
                .spawn_on(name, move |system| sends::pass(system, sent, asker, until)),
        );
        let reminded = self.judge.reminded.clone();
        drop(self.sim.spawn_on(name, move |system| {
            reminders::set(system, reminded, asker, until)
        }));
    }

    /// Waits until all nodes are members that serve.
    fn settle(&mut self) {
        self.sim.until("all of them vote", |sim| {
            let views = sim.views();
            let is_settled = |view: &View| view.voters == THREE.len() && view.serving;
            views.len() == THREE.len() && views.iter().all(is_settled)
        });
        // What the leader has decided is decided everywhere.
        self.sim.run_for(Duration::from_secs(2));
    }

    fn act(&mut self) {
        let one = THREE[self.rng.random_range(0..THREE.len())];
        match (self.rng.random_range(0..12), self.victim) {
            (0..=4, Some(_)) => self.heal(),
            (fault @ 0..=4, None) => {
                self.victim = Some(one);
                match fault {
                    0 => {
                        let other = THREE.iter().find(|other| **other != one);
                        self.sim.partition(one, other.expect("there are three"));
                    }
                    1 => self.sim.isolate(one),
                    2 | 3 => {
                        self.is_paused = true;
                        self.sim.pause(one);
                    }
                    _ => {
                        self.is_down = true;
                        self.sim.crash(one);
                    }
                }
            }
            _ => self.break_store(one),
        }
    }

    /// What a node meets at the store from now on.
    fn break_store(&mut self, name: &str) {
        let rng = &mut self.rng;
        let mut faults = Faults {
            delay_max: Duration::from_millis(rng.random_range(0..40)),
            claim_delay: Duration::from_millis(rng.random_range(0..200)),
            ..Faults::default()
        };
        match rng.random_range(0..7) {
            0 => faults.is_away = true,
            1 => faults.is_silent = true,
            2 => faults.not_written = 0.3,
            3 => faults.claim_delay = Duration::from_millis(rng.random_range(0..3000)),
            4 | 5 => faults.unknown = 0.3,
            _ => {}
        }
        self.connections[name].set(faults);
    }

    fn heal(&mut self) {
        self.sim.heal();
        let Some(victim) = self.victim.take() else {
            return;
        };
        if std::mem::take(&mut self.is_paused) {
            self.sim.resume(victim);
        }
        if std::mem::take(&mut self.is_down) {
            // A node that cannot open its store does not start.
            self.connections[victim].set(Faults::default());
            self.sim.restart(victim);
            self.ask(victim);
        }
        self.settle();
    }

    fn broken(&self, what: String) -> Broken {
        Broken {
            seed: self.seed,
            invariant: "13, what is acknowledged is durable",
            what,
            trace: self.sim.trace(),
            storm: "what_is_acknowledged_is_durable",
        }
    }

    fn broken_sends(&self, what: String) -> Broken {
        Broken {
            invariant: "23, what is sent is taken once",
            ..self.broken(what)
        }
    }

    fn broken_reminders(&self, what: String) -> Broken {
        Broken {
            invariant: "24, each is reminded once",
            ..self.broken(what)
        }
    }

    fn check(&self) -> Result<(), Broken> {
        let wrong = self.judge.seen().wrong.first().cloned();
        wrong.map_or(Ok(()), |what| Err(self.broken(what)))?;
        let sent = self.judge.sent.check();
        sent.map_err(|what| self.broken_sends(what))?;
        let reminded = self.judge.reminded.check();
        reminded.map_err(|what| self.broken_reminders(what))
    }

    /// All faults are over: each ledger answers with what is stored of it, and no log has anything
    /// that must not be there.
    fn at_rest(&mut self) -> Result<(), Broken> {
        for connection in self.connections.values() {
            connection.set(Faults::default());
        }
        // The last askers end.
        self.sim.run_for(Duration::from_secs(8));
        for name in THREE {
            let lists = self.sim.on(name, |system| async move {
                let mut lists = Vec::new();
                let until = true_time().unwrap_or_default() + Duration::from_secs(20);
                for entity in 0..ENTITIES {
                    let ledger = system.entity::<Ledger>(entity);
                    let mut answer = ledger.list().await;
                    while answer.is_err() && true_time().is_some_and(|now| now < until) {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        answer = ledger.list().await;
                    }
                    lists.push(answer);
                }
                lists
            });
            for (entity, list) in (0..).zip(lists) {
                let list = list.map_err(|error| {
                    self.broken(format!("ledger {entity} does not answer {name}: {error}"))
                })?;
                let before = self.judge.seen().acknowledged.get(&entity).copied();
                let stored = self.judge.stored(entity).len();
                if list.len() != stored {
                    let what = format!("ledger {entity} has {} of {stored} numbers", list.len());
                    return Err(self.broken(what));
                }
                heed(&self.judge, entity, before, None, Ok(list));
            }
        }
        self.check()?;
        sends::at_rest(&mut self.sim, THREE[0], &self.judge.sent)
            .map_err(|what| self.broken_sends(what))?;
        reminders::at_rest(&mut self.sim, THREE[0], &self.judge.reminded)
            .map_err(|what| self.broken_reminders(what))?;
        (0..SHARDS).try_for_each(|shard| self.check_log(&log_of(shard)))?;
        let answered = self.judge.seen().answers.get("answered").copied();
        if answered.unwrap_or_default() < 100 {
            let answers = format!("{:?}", self.judge.seen().answers);
            return Err(self.broken(format!("hardly anything was answered: {answers}")));
        }
        Ok(())
    }

    fn check_log(&self, log: &Log) -> Result<(), Broken> {
        let records = now_or_never(self.judge.memory.read_log(log, 0, ALL));
        let records = records.expect("memory never fails");
        let mut last: BTreeMap<&EntityId, u64> = BTreeMap::new();
        for (record, position) in records.iter().zip(1..) {
            if record.position != position {
                return Err(self.broken(format!("{log} has a gap at position {position}")));
            }
            if record.entity.as_str().is_empty() {
                // Of the shard itself.
                continue;
            }
            let seq = last.entry(&record.entity).or_default();
            *seq += 1;
            if record.seq != *seq {
                return Err(self.broken(format!(
                    "record {} of {} at position {position} of {log} follows record {}",
                    record.seq,
                    record.entity,
                    *seq - 1
                )));
            }
        }
        let claims = self.store.claims();
        let mut owners: BTreeMap<Epoch, &String> = BTreeMap::new();
        for claim in claims.iter().filter(|claim| claim.log == *log) {
            let (epoch, head) = (claim.epoch, claim.head);
            let before = owners.insert(epoch, &claim.owner);
            if before.is_some_and(|before| *before != claim.owner) {
                return Err(self.broken(format!("{log}: epoch {epoch} has two owners")));
            }
            let late = records
                .iter()
                .find(|record| record.position > head && record.epoch < epoch);
            if let Some(late) = late {
                return Err(self.broken(format!(
                    "{log}: position {} is of epoch {}, after epoch {epoch} was claimed with head \
                     {head}",
                    late.position, late.epoch
                )));
            }
        }
        let seen = self.judge.seen();
        let refused = &seen.refused;
        let stored = |(number, _): &(&u64, _)| records.iter().any(|record| says(record, **number));
        if let Some((number, error)) = refused.iter().find(stored) {
            return Err(self.broken(format!(
                "{number} was said to be not stored ({error}), and is in {log}"
            )));
        }
        Ok(())
    }
}
