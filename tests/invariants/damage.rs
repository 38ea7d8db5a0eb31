//! Invariant 22: What arrives damaged is never acted on. However often the network flips bits,
//! every message that is handled and every reply is as it was sent, no process is in the map that
//! was not started, and no node believes in another cluster or gives up.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use casty::{
    prelude::*,
    testkit::{Sim, View, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::Broken;

const THREE: [&str; 3] = ["a", "b", "c"];
const ENTITIES: u64 = 12;
const FAULTS: Duration = Duration::from_secs(10);

/// What was handled and what was answered that nobody had sent: seed and text.
static STRANGE: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());

/// Handled messages and answers that are what they should be.
static SOUND: AtomicU64 = AtomicU64::new(0);

fn report(seed: u64, what: String) {
    let mut strange = STRANGE.lock().unwrap_or_else(PoisonError::into_inner);
    strange.push((seed, what));
}

/// A text that can be told from any damaged one.
fn text(number: u64) -> String {
    number.to_string().repeat(40)
}

/// Repeats what it is told.
#[derive(Default)]
struct Echo;

#[entity(shards = 6)]
impl Echo {
    #[message]
    fn echo(&mut self, seed: u64, number: u64, said: String) -> String {
        if said == text(number) {
            SOUND.fetch_add(1, Ordering::Relaxed);
        } else {
            report(seed, format!("{number} was handled as `{said}`"));
        }
        said
    }
}

async fn ask_around(system: ActorSystem, seed: u64, first: u64, until: Duration) {
    for number in first.. {
        if true_time().is_none_or(|now| now >= until) {
            return;
        }
        let echo = system.entity::<Echo>((number % ENTITIES).to_string());
        let call = echo.echo(seed, number, text(number));
        match call.timeout(Duration::from_millis(200)).await {
            Ok(said) if said == text(number) => {
                SOUND.fetch_add(1, Ordering::Relaxed);
            }
            Ok(said) => report(seed, format!("{number} was answered by `{said}`")),
            // A call that fails at once costs no time, and time would stand still.
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// What is wrong with what the nodes know.
fn check(views: &[View], uuid: &mut Option<u128>) -> Result<(), String> {
    for view in views {
        if let Some(reason) = &view.failed {
            return Err(format!("{} has given up: {reason}", view.member));
        }
    }
    for view in views.iter().filter(|view| view.version > 0) {
        let known = *uuid.get_or_insert(view.uuid);
        if view.uuid != known {
            return Err(format!(
                "{} is in cluster {:x}, not {known:x}",
                view.member, view.uuid
            ));
        }
        if view.up > THREE.len() {
            return Err(format!("{} sees {} members", view.member, view.up));
        }
    }
    Ok(())
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    casty_tests::log();
    let (mut sim, mut rng) = (Sim::new(seed), StdRng::seed_from_u64(seed));
    let broken = |sim: &Sim, what: String| Broken {
        seed,
        invariant: "22, damage is not acted on",
        what,
        trace: sim.trace(),
        storm: "damage",
    };
    for name in THREE {
        sim.start_with(name, |builder| builder.strict_wire(false));
    }
    // From the first handshake on.
    sim.damage("a", "b");
    sim.run_for(Duration::from_secs(2));
    sim.heal();
    sim.until_up(THREE.len());
    let (sound, until) = (SOUND.load(Ordering::Relaxed), sim.elapsed() + FAULTS);
    for (name, first) in THREE.into_iter().zip([1_000_000, 2_000_000, 3_000_000]) {
        drop(sim.spawn_on(name, move |system| ask_around(system, seed, first, until)));
    }
    let mut uuid = None;
    while sim.elapsed() < until {
        let (one, other) = (rng.random_range(0..3), rng.random_range(0..3));
        if one == other {
            sim.heal();
        } else {
            sim.damage(THREE[one], THREE[other]);
        }
        for _ in 0..rng.random_range(20..100) {
            sim.run_for(Duration::from_millis(10));
            check(&sim.views(), &mut uuid).map_err(|what| broken(&sim, what))?;
        }
    }
    sim.heal();
    let settled = sim.elapsed() + Duration::from_secs(30);
    while sim.views().iter().any(|view| view.up < THREE.len()) {
        if sim.elapsed() > settled {
            return Err(broken(&sim, "a node stays out after the damage".to_owned()));
        }
        sim.run_for(Duration::from_millis(10));
    }
    let strange = std::mem::take(&mut *STRANGE.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some((_, what)) = strange.into_iter().find(|(of, _)| *of == seed) {
        return Err(broken(&sim, what));
    }
    if SOUND.load(Ordering::Relaxed) < sound + 100 {
        return Err(broken(&sim, "hardly a message gets through".to_owned()));
    }
    Ok(())
}
