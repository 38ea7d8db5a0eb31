//! Invariant 21: nodes that keep copies of each other's entities lose nothing that was
//! acknowledged, whichever of them die, and if all do. What an entity has shown is shown by each
//! later activation, in the same order, and what is said to be not stored never is.
//!
//! The disks of the nodes lose what was not synced, and tear what was being written.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use casty::{
    prelude::*,
    testkit::{Sim, View, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::Broken;

const NODES: [&str; 3] = ["a", "b", "c"];

/// A node that comes later.
const LATER: &str = "d";

const ENTITIES: u64 = 5;
const FAULTS: Duration = Duration::from_secs(30);

/// The role of the nodes of this storm.
const ROLE: &str = "shelves";

/// A list of numbers.
#[message]
#[derive(Default)]
struct Shelf {
    numbers: Vec<u64>,
}

#[entity(event_sourced, id = u64, shards = 4, snapshot_every = 5, retain = "snapshot",
         role = "shelves", name = "invariants/shelf")]
impl Shelf {
    #[event]
    fn placed(&mut self, number: u64) {
        self.numbers.push(number);
    }

    #[message]
    fn place(&self, number: u64) -> Effect<Self, Vec<u64>> {
        Effect::persist(ShelfEvent::Placed { number }).reply(|shelf: &Self| shelf.numbers.clone())
    }

    #[message]
    fn list(&self) -> Vec<u64> {
        self.numbers.clone()
    }
}

#[derive(Default)]
struct Seen {
    /// The longest list that each entity has shown.
    shown: BTreeMap<u64, Vec<u64>>,
    /// Numbers that are said to be not stored.
    refused: BTreeMap<u64, String>,
    wrong: Vec<String>,
    answers: usize,
    errors: BTreeMap<String, usize>,
}

type Judge = Arc<Mutex<Seen>>;

fn seen(judge: &Judge) -> MutexGuard<'_, Seen> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// An answer of an entity that had shown so many numbers when it was asked.
    fn heed(&mut self, entity: u64, before: usize, answer: Vec<u64>) {
        self.answers += 1;
        let shown = self.shown.entry(entity).or_default();
        let common = shown.len().min(answer.len());
        if shown[..common] != answer[..common] {
            self.wrong.push(format!(
                "shelf {entity} has shown {shown:?}, and now {answer:?}"
            ));
        }
        if answer.len() < before {
            self.wrong.push(format!(
                "shelf {entity} had shown {before} numbers, and then {}: {:?} are lost",
                answer.len(),
                &shown[answer.len()..],
            ));
        }
        if answer.iter().collect::<BTreeSet<_>>().len() < answer.len() {
            self.wrong
                .push(format!("shelf {entity} has a number twice: {answer:?}"));
        }
        if answer.len() > shown.len() {
            *shown = answer;
        }
    }

    /// What is said to be not stored is nowhere.
    fn check_refused(&mut self) {
        let stored: BTreeSet<u64> = self.shown.values().flatten().copied().collect();
        for (number, why) in &self.refused {
            if stored.contains(number) {
                self.wrong
                    .push(format!("{number} is stored, and was refused: {why}"));
            }
        }
    }
}

/// Places one number after the other.
async fn place(system: ActorSystem, judge: Judge, asker: u64, until: Duration) {
    let mut rng = StdRng::seed_from_u64(asker);
    let mut number = asker << 32;
    while true_time().is_some_and(|now| now < until) {
        let entity = rng.random_range(0..ENTITIES);
        let shelf = system.entity::<Shelf>(entity);
        let before = seen(&judge).shown.get(&entity).map_or(0, Vec::len);
        let timeout = Duration::from_millis(rng.random_range(200..5000));
        number += 1;
        let answer = if rng.random_range(0..5) == 0 {
            shelf.list().timeout(timeout).await
        } else {
            shelf.place(number).timeout(timeout).await
        };
        match answer {
            Ok(numbers) => seen(&judge).heed(entity, before, numbers),
            Err(error) => {
                let mut seen = seen(&judge);
                if !error.maybe_handled() {
                    seen.refused.insert(number, error.to_string());
                }
                let text = format!("{error:?}");
                let kind = text.split([' ', '{']).next().unwrap_or_default();
                *seen.errors.entry(kind.to_owned()).or_default() += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
    }
}

struct Storm {
    sim: Sim,
    seed: u64,
    rng: StdRng,
    judge: Judge,
    askers: u64,
    until: Duration,
    nodes: Vec<&'static str>,
    down: BTreeSet<&'static str>,
    paused: Option<&'static str>,
    is_cut: bool,
    folder: tempfile::TempDir,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    casty_tests::log();
    let mut storm = Storm {
        sim: Sim::new(seed),
        seed,
        rng: StdRng::seed_from_u64(seed ^ 0xc0_71e5),
        judge: Judge::default(),
        askers: 0,
        until: Duration::ZERO,
        nodes: Vec::new(),
        down: BTreeSet::new(),
        paused: None,
        is_cut: false,
        folder: tempfile::tempdir().expect("a folder"),
    };
    storm.sim.give_disks();
    storm.all()
}

impl Storm {
    fn all(&mut self) -> Result<(), Broken> {
        for name in NODES {
            self.start(name);
        }
        // While the cluster forms, its voters change.
        for _ in 0..self.rng.random_range(0..4) {
            let time = self.rng.random_range(100..3000);
            self.sim.run_for(Duration::from_millis(time));
            self.kill_all();
        }
        self.settle();
        self.until = self.sim.elapsed() + FAULTS;
        for name in NODES {
            self.ask(name);
            self.ask(name);
        }
        while self.sim.elapsed() < self.until {
            self.act();
            let time = self.rng.random_range(50..2500);
            self.sim.run_for(Duration::from_millis(time));
            self.check()?;
        }
        self.mend();
        self.settle();
        self.at_rest()
    }

    fn start(&mut self, name: &'static str) {
        let state = self.folder.path().join(name);
        self.nodes.push(name);
        self.sim.start_with(name, move |builder| {
            builder.role(ROLE).state_dir(&state).strict_wire(false)
        });
    }

    fn ask(&mut self, name: &'static str) {
        self.askers += 1;
        let asker = self.seed.wrapping_mul(1000) % 1_000_000 + self.askers;
        let (judge, until) = (self.judge.clone(), self.until);
        drop(
            self.sim
                .spawn_on(name, move |system| place(system, judge, asker, until)),
        );
    }

    /// Waits until all nodes are members that serve.
    fn settle(&mut self) {
        let nodes = self.nodes.len();
        self.sim.until("all of them serve", |sim| {
            let views = sim.views();
            let serves = |view: &View| view.serving;
            views.len() == nodes && views.iter().all(serves)
        });
        self.sim.run_for(Duration::from_secs(2));
    }

    fn act(&mut self) {
        let one = self.nodes[self.rng.random_range(0..self.nodes.len())];
        let is_calm = self.down.is_empty() && self.paused.is_none() && !self.is_cut;
        match self.rng.random_range(0..11) {
            0..=2 if is_calm => {
                self.sim.crash(one);
                self.down.insert(one);
            }
            3 if is_calm => {
                self.is_cut = true;
                self.sim.isolate(one);
            }
            4 if is_calm => {
                let other = self.nodes[self.rng.random_range(0..self.nodes.len())];
                if other != one {
                    self.is_cut = true;
                    self.sim.partition(one, other);
                }
            }
            5 if is_calm => {
                self.sim.pause(one);
                self.paused = Some(one);
            }
            6 if is_calm && !self.nodes.contains(&LATER) => self.start(LATER),
            7 | 8 => self.kill_all(),
            _ => self.mend(),
        }
    }

    /// All at once, as when the power fails.
    fn kill_all(&mut self) {
        self.resume();
        for name in self.nodes.clone() {
            if self.down.insert(name) {
                self.sim.crash(name);
            }
        }
        self.sim.run_for(Duration::from_millis(200));
        self.mend();
    }

    fn restart(&mut self, name: &'static str) {
        self.down.remove(name);
        self.sim.restart(name);
        if self.sim.elapsed() < self.until {
            self.ask(name);
        }
    }

    fn resume(&mut self) {
        if let Some(paused) = self.paused.take() {
            self.sim.resume(paused);
        }
    }

    /// Ends all faults.
    fn mend(&mut self) {
        self.sim.heal();
        self.is_cut = false;
        self.resume();
        for name in std::mem::take(&mut self.down) {
            self.restart(name);
        }
    }

    fn check(&mut self) -> Result<(), Broken> {
        let wrong = seen(&self.judge).wrong.first().cloned();
        wrong.map_or(Ok(()), |what| Err(self.broken(&what)))
    }

    /// All entities answer, with all that they have ever shown, and go on.
    fn at_rest(&mut self) -> Result<(), Broken> {
        let judge = self.judge.clone();
        let limit = self.sim.elapsed() + Duration::from_mins(1);
        let going = self.sim.on(NODES[0], move |system| async move {
            for entity in 0..ENTITIES {
                let one = system.entity::<Shelf>(entity);
                // Each try has a number of its own: one that failed may be stored.
                for number in (0..=u64::MAX - (entity << 40)).rev() {
                    let before = seen(&judge).shown.get(&entity).map_or(0, Vec::len);
                    match one.place(number).await {
                        Ok(numbers) => {
                            seen(&judge).heed(entity, before, numbers);
                            break;
                        }
                        Err(error) if true_time().is_none_or(|now| now > limit) => {
                            return Err(format!("shelf {entity}: {error}"));
                        }
                        Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                    }
                }
            }
            Ok(())
        });
        if let Err(why) = going {
            return Err(self.broken(&format!("it does not go on: {why}")));
        }
        seen(&self.judge).check_refused();
        self.check()?;
        let (answers, errors) = {
            let seen = seen(&self.judge);
            (seen.answers, seen.errors.clone())
        };
        println!("seed {}: {answers} answers, {errors:?}", self.seed);
        if answers < 50 {
            return Err(self.broken(&format!("only {answers} answers, and {errors:?}")));
        }
        Ok(())
    }

    fn broken(&self, what: &str) -> Broken {
        Broken {
            seed: self.seed,
            invariant: "21, nothing acknowledged is lost with copies",
            what: what.to_owned(),
            trace: self.sim.trace(),
            storm: "what_is_acknowledged_is_in_the_copies",
        }
    }
}
