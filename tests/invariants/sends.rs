//! Invariant 23: What a stored entity sends to another one is taken once, in order, if and only if
//! the record that it is part of is stored; and its sender is told of the outcome once.
//!
//! Part of the storm of invariant 13: the same nodes, stores and faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use casty::{
    prelude::*,
    reply::{Later, StoredPromise},
    testkit::{Sim, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const SENDERS: u64 = 4;
const TAKERS: u64 = 3;

/// What the entities of a run know of it.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// What each sender has acknowledged.
    acknowledged: BTreeMap<u64, BTreeSet<u64>>,
    /// Numbers that are said to be not stored.
    refused: BTreeSet<u64>,
    wrong: Vec<String>,
}

impl Sent {
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

/// Each taker refuses these.
#[message]
#[derive(Debug, Clone, PartialEq)]
struct Odd {
    number: u64,
}

fn is_refused(number: u64) -> bool {
    number.is_multiple_of(5)
}

/// The reply comes from a promise that the taker stores.
fn is_taken_later(number: u64) -> bool {
    number.is_multiple_of(3)
}

/// Passes numbers on, and is told what became of them.
#[message]
#[derive(Default)]
struct Sender {
    numbers: Vec<u64>,
    told: BTreeMap<u64, bool>,
}

#[entity(event_sourced, id = u64, shards = 3, snapshot_every = 4, retain = "snapshot",
         role = "ledgers", name = "invariants/sender")]
impl Sender {
    #[message]
    fn pass(&self, number: u64, to: TakerRef, ctx: &mut Context<Self>) -> Effect<Self> {
        let from = ctx.entity_id();
        let passed = Effect::persist(SenderEvent::Passed { number });
        let tell = move |outcome| SenderMsg::Tell { number, outcome };
        if is_taken_later(number) {
            return passed.send_for(to.take_later(from, number), tell);
        }
        passed.send_for(to.take(from, number), tell)
    }

    #[message]
    fn tell(
        &self,
        number: u64,
        outcome: Outcome<Result<u64, Odd>>,
        ctx: &mut Context<Self>,
    ) -> Effect<Self> {
        let sent = ctx.resource::<Sent>();
        let me = ctx.entity_id();
        if self.told.contains_key(&number) {
            sent.wrong(format!("sender {me} is told of {number} twice"));
        }
        if !self.numbers.contains(&number) {
            sent.wrong(format!(
                "sender {me} is told of {number}, which it has not sent"
            ));
        }
        let taken = match outcome.result() {
            Ok(Ok(taken)) if taken == number => true,
            Ok(Err(Odd { number: refused })) if refused == number => false,
            other => {
                sent.wrong(format!("sender {me} is told {other:?} of {number}"));
                false
            }
        };
        Effect::persist(SenderEvent::Told { number, taken })
    }

    #[message]
    fn report(&self) -> (Vec<u64>, BTreeMap<u64, bool>) {
        (self.numbers.clone(), self.told.clone())
    }

    #[event]
    fn passed(&mut self, number: u64) {
        self.numbers.push(number);
    }

    #[event]
    fn told(&mut self, number: u64, taken: bool) {
        self.told.insert(number, taken);
    }
}

type Taken = Result<u64, Odd>;

/// Takes numbers.
#[message]
#[derive(Default)]
struct Taker {
    taken: BTreeMap<u64, Vec<u64>>,
    /// What is to be replied, by the next message.
    owed: Vec<(Taken, StoredPromise<Taken>)>,
}

#[entity(durable, id = u64, shards = 3, snapshot_every = 4, role = "ledgers",
         name = "invariants/taker")]
impl Taker {
    #[message]
    fn take(&mut self, from: u64, number: u64, ctx: &mut Context<Self>) -> Result<u64, Odd> {
        self.keep_promises(ctx);
        self.note(from, number, ctx)
    }

    #[message]
    fn take_later(
        &mut self,
        from: u64,
        number: u64,
        ctx: &mut Context<Self>,
    ) -> Later<Result<u64, Odd>> {
        self.keep_promises(ctx);
        let noted = self.note(from, number, ctx);
        let (promise, later) = ctx.promise();
        self.owed.push((noted, promise));
        later
    }

    #[message]
    fn catch_up(&mut self, ctx: &mut Context<Self>) {
        self.keep_promises(ctx);
    }

    #[message]
    fn report(&self) -> BTreeMap<u64, Vec<u64>> {
        self.taken.clone()
    }
}

impl Taker {
    fn keep_promises(&mut self, ctx: &mut Context<Self>) {
        for (reply, promise) in self.owed.drain(..) {
            ctx.keep_promise(promise, reply);
        }
    }

    fn note(&mut self, from: u64, number: u64, ctx: &mut Context<Self>) -> Result<u64, Odd> {
        if is_refused(number) {
            return Err(Odd { number });
        }
        let taken = self.taken.entry(from).or_default();
        if taken.last().is_some_and(|last| *last == number) || taken.contains(&number) {
            let me = ctx.entity_id();
            let sent = ctx.resource::<Sent>();
            sent.wrong(format!("taker {me} takes {number} of sender {from} twice"));
        }
        taken.push(number);
        Ok(number)
    }
}

/// Has senders pass numbers on, one after the other.
pub(super) async fn pass(system: ActorSystem, sent: Sent, asker: u64, until: Duration) {
    let mut rng = StdRng::seed_from_u64(!asker);
    let mut number = asker << 32;
    while true_time().is_some_and(|now| now < until) {
        let (from, to) = (rng.random_range(0..SENDERS), rng.random_range(0..TAKERS));
        number += 1;
        let to = system.entity::<Taker>(to);
        let passing = system.entity::<Sender>(from).pass(number, to);
        let timeout = Duration::from_millis(rng.random_range(100..4000));
        match passing.timeout(timeout).await {
            Ok(()) => {
                let mut seen = sent.seen();
                seen.acknowledged.entry(from).or_default().insert(number);
            }
            Err(error) if !error.maybe_handled() => {
                sent.seen().refused.insert(number);
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
    }
}

type Reports = (
    Vec<(Vec<u64>, BTreeMap<u64, bool>)>,
    Vec<BTreeMap<u64, Vec<u64>>>,
);

/// What all of them say, once each sender has been told of all that it has sent.
async fn reports(system: ActorSystem) -> Result<Reports, String> {
    let patience = Duration::from_secs(40);
    let until = true_time().unwrap_or_default() + patience;
    let mut senders = Vec::new();
    for from in 0..SENDERS {
        loop {
            for to in 0..TAKERS {
                // Whether it hears is seen by what the senders are told.
                drop(system.entity::<Taker>(to).catch_up().await);
            }
            let report = system.entity::<Sender>(from).report().await;
            let is_late = true_time().is_none_or(|now| now >= until);
            match report {
                Ok((numbers, told)) if told.len() == numbers.len() => {
                    senders.push((numbers, told));
                    break;
                }
                Ok((numbers, told)) if is_late => {
                    let untold: Vec<_> =
                        numbers.iter().filter(|it| !told.contains_key(it)).collect();
                    return Err(format!("sender {from} is not told of {untold:?}"));
                }
                Err(error) if is_late => return Err(format!("sender {from}: {error}")),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
    let mut takers = Vec::new();
    for to in 0..TAKERS {
        let report = system
            .entity::<Taker>(to)
            .report()
            .retry_for(patience)
            .await;
        takers.push(report.map_err(|error| format!("taker {to}: {error}"))?);
    }
    Ok((senders, takers))
}

/// All faults are over.
pub(super) fn at_rest(sim: &mut Sim, node: &str, sent: &Sent) -> Result<(), String> {
    let (senders, takers) = sim.on(node, reports)?;
    sent.check()?;
    let seen = sent.seen();
    for (from, (numbers, told)) in (0..).zip(&senders) {
        let has = |number: &u64| numbers.contains(number);
        let acknowledged = seen.acknowledged.get(&from).into_iter().flatten();
        if let Some(lost) = acknowledged.copied().find(|number| !has(number)) {
            return Err(format!(
                "sender {from} has acknowledged {lost}, and lacks it"
            ));
        }
        if let Some(refused) = seen.refused.iter().find(|number| has(number)) {
            return Err(format!(
                "{refused} was said to be not stored, and is in sender {from}"
            ));
        }
        if let Some((number, _)) = told.iter().find(|(it, taken)| **taken == is_refused(**it)) {
            return Err(format!("sender {from} is told wrongly of {number}"));
        }
        // Each taker has a part of them, in order.
        let mut taken: Vec<u64> = Vec::new();
        for (to, taker) in (0..).zip(&takers) {
            let part = taker.get(&from).cloned().unwrap_or_default();
            let mut places = part
                .iter()
                .map(|it| numbers.iter().position(|sent| sent == it));
            let in_order = places.by_ref().collect::<Option<Vec<_>>>();
            if !in_order.is_some_and(|places| places.is_sorted()) {
                return Err(format!(
                    "taker {to} has {part:?} of sender {from}: {numbers:?}"
                ));
            }
            taken.extend(part);
        }
        taken.sort_unstable();
        let mut expected: Vec<_> = numbers
            .iter()
            .copied()
            .filter(|it| !is_refused(*it))
            .collect();
        expected.sort_unstable();
        if taken != expected {
            return Err(format!(
                "takers have {taken:?} of sender {from}, not {expected:?}"
            ));
        }
    }
    let sum: usize = senders.iter().map(|(numbers, _)| numbers.len()).sum();
    if sum < 50 {
        return Err(format!("hardly anything was sent: {sum}"));
    }
    Ok(())
}
