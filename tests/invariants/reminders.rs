//! Invariant 24: A stored entity is reminded of what it has set, once, if and only if the record
//! that set it is stored; not of what it has forgotten; and a reminder that repeats goes on.
//!
//! Part of the storm of invariant 13: the same nodes, stores and faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use casty::{
    prelude::*,
    remind::{Missed, Remind},
    testkit::{Sim, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const SLEEPERS: u64 = 6;

/// What the entities of a run know of it.
#[derive(Clone, Default)]
pub(super) struct Reminded(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// What each sleeper has acknowledged to have set, and to have forgotten.
    set: BTreeMap<u64, BTreeSet<u64>>,
    /// Numbers that are said to be not stored.
    refused: BTreeSet<u64>,
    wrong: Vec<String>,
}

impl Reminded {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, what: String) {
        self.seen().wrong.push(what);
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.seen().wrong.first().cloned().map_or(Ok(()), Err)
    }
}

/// What a sleeper knows.
#[message]
#[derive(Debug, Default, Clone)]
struct Slept {
    set: Vec<u64>,
    forgotten: BTreeSet<u64>,
    woken: Vec<u64>,
    ticks: u64,
}

/// Sets reminders, and is woken by them.
#[message]
#[derive(Default)]
struct Sleeper {
    slept: Slept,
}

#[entity(durable, id = u64, shards = 3, snapshot_every = 4, retain = "snapshot", role = "ledgers",
         name = "invariants/sleeper")]
impl Sleeper {
    #[message]
    fn set(&mut self, number: u64, millis: u64, ctx: &mut Context<Self>) {
        let remind = Remind::after(Duration::from_millis(millis));
        ctx.remind(&number.to_string(), remind, SleeperMsg::Wake { number });
        // The same each time: it goes on as it is.
        let every = Remind::every(Duration::from_secs(1)).missed(Missed::All(3));
        ctx.remind("tick", every, SleeperMsg::Tick {});
        // Another one each time: the earlier one must not come any more.
        let soon = Remind::after(Duration::from_millis(millis / 2));
        ctx.remind("latest", soon, SleeperMsg::Latest { number });
        self.slept.set.push(number);
    }

    /// Forgets the last one, unless it has come.
    #[message]
    fn forget(&mut self, ctx: &mut Context<Self>) -> Option<u64> {
        let last = *self.slept.set.last()?;
        if self.slept.woken.contains(&last) {
            return None;
        }
        ctx.forget(&last.to_string());
        self.slept.forgotten.insert(last);
        Some(last)
    }

    #[message]
    fn wake(&mut self, number: u64, ctx: &mut Context<Self>) {
        let me = ctx.entity_id();
        let reminded = ctx.resource::<Reminded>();
        if self.slept.woken.contains(&number) {
            reminded.wrong(format!("sleeper {me} is reminded of {number} twice"));
        }
        if self.slept.forgotten.contains(&number) {
            reminded.wrong(format!(
                "sleeper {me} has forgotten {number}, and is reminded of it"
            ));
        }
        if !self.slept.set.contains(&number) {
            reminded.wrong(format!("sleeper {me} has not set {number}"));
        }
        self.slept.woken.push(number);
    }

    #[message]
    fn latest(&mut self, number: u64, ctx: &mut Context<Self>) {
        let latest = self.slept.set.last().copied();
        if latest != Some(number) {
            let me = ctx.entity_id();
            let reminded = ctx.resource::<Reminded>();
            reminded.wrong(format!(
                "sleeper {me} is reminded of {number}, not of {latest:?}"
            ));
        }
    }

    #[message(internal)]
    fn tick(&mut self) {
        self.slept.ticks += 1;
    }

    #[message]
    fn report(&self) -> Slept {
        self.slept.clone()
    }
}

/// Has sleepers set reminders, and forget some.
pub(super) async fn set(system: ActorSystem, reminded: Reminded, asker: u64, until: Duration) {
    let mut rng = StdRng::seed_from_u64(asker.rotate_left(32));
    let mut number = asker << 32;
    while true_time().is_some_and(|now| now < until) {
        let id = rng.random_range(0..SLEEPERS);
        let sleeper = system.entity::<Sleeper>(id);
        let timeout = Duration::from_millis(rng.random_range(100..4000));
        number += 1;
        let millis = rng.random_range(0..6000);
        match sleeper.set(number, millis).timeout(timeout).await {
            Ok(()) => {
                reminded.seen().set.entry(id).or_default().insert(number);
            }
            Err(error) if !error.maybe_handled() => {
                reminded.seen().refused.insert(number);
            }
            Err(_) => {}
        }
        if rng.random_bool(0.2) {
            // Whatever becomes of it: the sleeper says at the end what it has forgotten.
            drop(sleeper.forget().timeout(timeout).await);
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
    }
}

/// What all of them say, once each was reminded of all that it has set.
async fn reports(system: ActorSystem) -> Result<Vec<Slept>, String> {
    let until = true_time().unwrap_or_default() + Duration::from_secs(90);
    let mut sleepers = Vec::new();
    for id in 0..SLEEPERS {
        let mut first_ticks = None;
        loop {
            let report = system.entity::<Sleeper>(id).report().await;
            let is_late = true_time().is_none_or(|now| now >= until);
            let why = match report {
                Ok(slept) => {
                    let ticks = *first_ticks.get_or_insert(slept.ticks);
                    let due =
                        |it: &&u64| !slept.woken.contains(it) && !slept.forgotten.contains(it);
                    let missing: Vec<_> = slept.set.iter().filter(due).collect();
                    let ticks_on = slept.set.is_empty() || slept.ticks > ticks + 1;
                    if missing.is_empty() && ticks_on {
                        sleepers.push(slept);
                        break;
                    }
                    format!(
                        "is not reminded of {missing:?}, and has {} ticks",
                        slept.ticks
                    )
                }
                Err(error) => error.to_string(),
            };
            if is_late {
                return Err(format!("sleeper {id}: {why}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(sleepers)
}

/// All faults are over.
pub(super) fn at_rest(sim: &mut Sim, node: &str, reminded: &Reminded) -> Result<(), String> {
    let sleepers = sim.on(node, reports)?;
    reminded.check()?;
    let seen = reminded.seen();
    for (id, slept) in (0..).zip(&sleepers) {
        let acknowledged = seen.set.get(&id).into_iter().flatten();
        if let Some(lost) = acknowledged.copied().find(|it| !slept.set.contains(it)) {
            return Err(format!(
                "sleeper {id} has acknowledged {lost}, and lacks it"
            ));
        }
        if let Some(refused) = seen.refused.iter().find(|it| slept.set.contains(it)) {
            return Err(format!(
                "{refused} was said to be not stored, and is in sleeper {id}"
            ));
        }
    }
    let woken: usize = sleepers.iter().map(|it| it.woken.len()).sum();
    let forgotten: usize = sleepers.iter().map(|it| it.forgotten.len()).sum();
    if woken < 50 || forgotten < 5 {
        return Err(format!("hardly anything was set: {woken}, {forgotten}"));
    }
    Ok(())
}
