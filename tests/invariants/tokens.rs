//! Invariant 18: No fencing token is used by two nodes, whatever operators do; a generation has one
//! founder. While every process reaches every other, tokens only grow, and nodes that serve are of
//! one generation. At no time do two clusters serve.
//!
//! Judged by the effects of entities, in the order in which they happen.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use casty::{
    id::MemberId,
    prelude::*,
    testkit::{Sighting, View},
};

use super::Moment;

/// An effect of an entity on the outside world.
#[derive(Clone, Debug)]
struct Effect {
    seed: u64,
    entity: String,
    node: String,
    token: u64,
}

static EFFECTS: Mutex<Vec<Effect>> = Mutex::new(Vec::new());

fn effects() -> MutexGuard<'static, Vec<Effect>> {
    EFFECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has an effect with each message.
#[derive(Default)]
pub(crate) struct Seal;

#[entity(shards = 8)]
impl Seal {
    #[message]
    fn stamp(&mut self, seed: u64, ctx: &mut Context<Self>) {
        effects().push(Effect {
            seed,
            entity: ctx.entity_id().to_string(),
            node: ctx.node_id().to_string(),
            token: ctx.fencing_token().0,
        });
    }
}

/// A cluster, and the generation that it is in.
type Generation = (u128, u32, u16);

pub(crate) fn generation_of(view: &View) -> Generation {
    (view.uuid, view.generation, view.founder)
}

pub(crate) struct Tokens {
    seed: u64,
    founders: BTreeMap<Generation, MemberId>,
    /// The cluster that was founded last.
    cluster: u128,
    /// The node of each token of an entity.
    used: BTreeMap<(String, u64), String>,
    last: BTreeMap<String, Effect>,
}

impl Tokens {
    pub(crate) fn new(seed: u64) -> Self {
        effects().retain(|effect| effect.seed != seed);
        Self {
            seed,
            founders: BTreeMap::new(),
            cluster: 0,
            used: BTreeMap::new(),
            last: BTreeMap::new(),
        }
    }

    /// `whole`: every process has reached every other since the cluster was last at rest.
    pub(crate) fn at(&mut self, moment: &Moment<'_>, whole: bool) -> Result<(), String> {
        for (_, sighting) in moment.sightings {
            let Sighting::Founded {
                by,
                uuid,
                generation,
                founder,
                ..
            } = sighting
            else {
                continue;
            };
            if *uuid != self.cluster {
                // A cluster that begins after another is gone numbers its tokens by the clock of
                // its founder, which may be behind.
                self.cluster = *uuid;
                self.used.clear();
                self.last.clear();
            }
            let began = (*uuid, *generation, *founder);
            if let Some(other) = self.founders.insert(began, by.clone()) {
                return Err(format!(
                    "{other} and {by} both began generation {generation}.{founder}"
                ));
            }
        }
        judge_serving(moment.views, whole)?;
        let mine: Vec<Effect> = {
            let mut all = effects();
            let of_me = |effect: &mut Effect| effect.seed == self.seed;
            all.extract_if(.., of_me).collect()
        };
        mine.into_iter()
            .try_for_each(|effect| self.judge(effect, whole))
    }

    fn judge(&mut self, effect: Effect, whole: bool) -> Result<(), String> {
        if effect.token == 0 {
            return Err(format!("no token: {effect:?}"));
        }
        let used = (effect.entity.clone(), effect.token);
        let node = self.used.entry(used).or_insert_with(|| effect.node.clone());
        if *node != effect.node {
            return Err(format!("the token is {node}'s: {effect:?}"));
        }
        let before = self.last.insert(effect.entity.clone(), effect.clone());
        match before.filter(|before| whole && before.token > effect.token) {
            Some(before) => Err(format!("{effect:?} after {before:?}")),
            None => Ok(()),
        }
    }
}

/// Whether the nodes that serve may do so at one time.
fn judge_serving(views: &[View], whole: bool) -> Result<(), String> {
    let mut serving = views.iter().filter(|view| view.serving);
    let Some(first) = serving.next() else {
        return Ok(());
    };
    let ours = generation_of(first);
    let differs = |view: &&View| view.uuid != ours.0 || whole && generation_of(view) != ours;
    match serving.find(differs) {
        Some(other) => Err(format!(
            "{} serves in {ours:?}, and {} in {:?}",
            first.member,
            other.member,
            generation_of(other)
        )),
        None => Ok(()),
    }
}
