//! A node whose name the network does not confirm is never a member, whenever it tries to join and
//! however often it is started again.

use casty::{prelude::*, testkit::Sim};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::Broken;

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    let mut sim = Sim::new(seed);
    let mut rng = StdRng::seed_from_u64(seed);
    for name in ["a", "b"] {
        sim.start_with(name, |builder| builder.strict_wire(false));
    }
    sim.until_up(2);
    sim.run_for(Duration::from_millis(rng.random_range(0..2000)));
    sim.start("c");
    sim.certify_as("c", "mallory");
    for _ in 0..3 {
        let until = sim.elapsed() + Duration::from_millis(rng.random_range(500..3000));
        while sim.elapsed() < until {
            sim.run_for(Duration::from_millis(1));
            let views = sim.views();
            if let Some(view) = views.iter().find(|view| view.up > 2) {
                return Err(Broken {
                    seed,
                    invariant: "16, false names are refused",
                    what: format!("{} sees {} members", view.member, view.up),
                    trace: sim.trace(),
                    storm: "false_name",
                });
            }
        }
        sim.restart("c");
    }
    Ok(())
}
