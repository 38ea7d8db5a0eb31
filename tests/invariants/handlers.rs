//! Invariant 17: A handler that awaits has no effect on the outside world once another activation
//! of its entity has begun, and none without a fencing token.
//!
//! Judged by the effects alone, in the order in which they happen: those of one handler's call are
//! never interleaved with those of another call at the same entity.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use casty::{
    prelude::*,
    testkit::{Sim, View, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::Broken;

const THREE: [&str; 3] = ["a", "b", "c"];
const ENTITIES: u32 = 6;
const FAULTS: Duration = Duration::from_secs(15);

/// An effect on the outside world.
struct Effect {
    seed: u64,
    entity: String,
    /// The handler's call, and its node.
    call: (u64, String),
    at: Duration,
    token: u64,
}

static EFFECTS: Mutex<Vec<Effect>> = Mutex::new(Vec::new());

fn effects() -> std::sync::MutexGuard<'static, Vec<Effect>> {
    EFFECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Acts on the outside world while it handles a message.
#[derive(Default)]
struct Toiler;

#[entity(shards = 8)]
impl Toiler {
    #[message]
    async fn toil(&mut self, seed: u64, times: u32, ctx: &mut Context<Self>) {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let number = CALLS.fetch_add(1, Ordering::Relaxed);
        for _ in 0..times {
            let effect = Effect {
                seed,
                entity: ctx.entity_id().to_string(),
                call: (number, ctx.node_id().to_string()),
                at: true_time().unwrap_or_default(),
                token: ctx.fencing_token().0,
            };
            effects().push(effect);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Has one entity after the other toil.
async fn ask_around(system: ActorSystem, seed: u64, until: Duration) {
    for entity in (0..ENTITIES).cycle() {
        if true_time().is_none_or(|now| now >= until) {
            return;
        }
        let call = system.entity::<Toiler>(entity.to_string()).toil(seed, 150);
        // Only the effects count. A call that fails at once costs no time, and time would stand
        // still as long as all of them do.
        if call.timeout(Duration::from_millis(100)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What is wrong with the effects of one run.
fn check(effects: &[Effect]) -> Result<(), String> {
    let mut last: BTreeMap<&str, &Effect> = BTreeMap::new();
    let mut over = BTreeSet::new();
    for effect in effects {
        let (entity, (call, node)) = (&effect.entity, &effect.call);
        if effect.token == 0 {
            return Err(format!(
                "{entity} acts on {node} at {:?} without a token",
                effect.at
            ));
        }
        if over.contains(call) {
            let before = last
                .get(&**entity)
                .map(|before| (&before.call.1, before.at));
            return Err(format!(
                "call {call} of {entity} goes on on {node} at {:?}, after another: {before:?}",
                effect.at
            ));
        }
        let before = last.insert(entity, effect);
        over.extend(
            before
                .map(|before| before.call.0)
                .filter(|before| before != call),
        );
    }
    Ok(())
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    casty_tests::log();
    let (mut sim, mut rng) = (Sim::new(seed), StdRng::seed_from_u64(seed));
    for name in THREE {
        sim.start_with(name, |builder| builder.strict_wire(false));
    }
    sim.until("all of them vote", |sim| {
        let views = sim.views();
        let is_settled = |view: &View| view.voters == THREE.len() && view.serving;
        views.len() == THREE.len() && views.iter().all(is_settled)
    });
    let until = sim.elapsed() + FAULTS;
    for name in THREE {
        // Within the bound of the settings.
        sim.clock_rate(name, rng.random_range(0.955..1.045));
        drop(sim.spawn_on(name, move |system| ask_around(system, seed, until)));
    }
    while sim.elapsed() < until {
        sim.run_for(Duration::from_millis(rng.random_range(500..2500)));
        let one = THREE[rng.random_range(0..THREE.len())];
        let is_paused = rng.random_range(0..3) == 0;
        if is_paused {
            sim.pause(one);
        } else {
            for other in THREE.iter().filter(|other| **other != one) {
                sim.partition(one, other);
            }
        }
        // Shorter than the lease, or long enough for its shards to go elsewhere.
        sim.run_for(Duration::from_millis(rng.random_range(200..6000)));
        sim.heal();
        if is_paused {
            sim.resume(one);
        }
    }
    let mine = {
        let mut all = effects();
        let (mine, others) = all.drain(..).partition(|effect| effect.seed == seed);
        *all = others;
        mine
    };
    let all: Vec<Effect> = mine;
    check(&all).map_err(|what| Broken {
        seed,
        invariant: "17, handlers end with their lease",
        what,
        trace: sim.trace(),
        storm: "a_handler_ends_with_its_lease",
    })
}
