//! Two nodes with a tie-breaker, and a storm of faults. In some runs, two more nodes join while the
//! first two cannot reach each other.

use std::collections::BTreeSet;

use casty::{
    prelude::*,
    testkit::{Arbiter, Sim, View, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Broken, Check, checks_of_two, step};

const TWO: [&str; 2] = ["a", "b"];
const MORE: [&str; 2] = ["c", "d"];
const ENTITIES: u32 = 8;

/// How long faults are injected.
const FAULTS: Duration = Duration::from_secs(25);

/// Once all faults have healed, the cluster settles within this time.
const SETTLED: Duration = Duration::from_secs(40);

/// An entity to ask.
#[derive(Default)]
struct Pawn {
    asked: u64,
}

#[entity(shards = 8)]
impl Pawn {
    #[message]
    fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }
}

/// Asks one entity after the other, so that shards get homes on the nodes that serve.
async fn ask_around(system: ActorSystem, until: Duration) {
    for entity in (0..ENTITIES).cycle() {
        if true_time().is_none_or(|now| now >= until) {
            return;
        }
        let call = system.entity::<Pawn>(entity.to_string()).ask();
        // Whether entities answer is checked at the end.
        let _ = call.timeout(Duration::from_millis(500)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Run {
    sim: Sim,
    seed: u64,
    rng: StdRng,
    arbiter: Arbiter,
    checks: Vec<Box<dyn Check>>,
    nodes: Vec<&'static str>,
    down: Option<&'static str>,
    paused: BTreeSet<&'static str>,
    /// No fault is active.
    calm: bool,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    casty_tests::log();
    let mut run = Run {
        sim: Sim::new(seed),
        seed,
        rng: StdRng::seed_from_u64(seed),
        arbiter: Arbiter::default(),
        checks: checks_of_two(),
        nodes: Vec::new(),
        down: None,
        paused: BTreeSet::new(),
        calm: true,
    };
    run.all()
}

impl Run {
    fn broken(&self, invariant: &'static str, what: String) -> Broken {
        Broken {
            seed: self.seed,
            invariant,
            what,
            trace: self.sim.trace(),
            storm: "two_nodes_never_both_go_on",
        }
    }

    fn step(&mut self) -> Result<(), Broken> {
        let stepped = step(&mut self.sim, &mut self.checks, &[]);
        stepped.map_err(|(invariant, what)| self.broken(invariant, what))
    }

    fn steps(&mut self, time: Duration) -> Result<(), Broken> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn start(&mut self, name: &'static str) {
        let arbiter = self.arbiter.clone();
        self.sim.start_with(name, move |builder| {
            let builder = builder.strict_wire(false);
            builder.tie_breaker(arbiter.clone())
        });
        self.nodes.push(name);
    }

    /// Has a node ask entities until the storm is over.
    fn keep_asking(&mut self, name: &str, until: Duration) {
        let asking = self
            .sim
            .spawn_on(name, move |system| ask_around(system, until));
        drop(asking);
    }

    fn all(&mut self) -> Result<(), Broken> {
        for name in TWO {
            self.start(name);
        }
        self.rest()?;
        for name in TWO {
            // Within the bound of the settings.
            let rate = self.rng.random_range(0.955..1.045);
            self.sim.clock_rate(name, rate);
        }
        let until = self.sim.elapsed() + FAULTS;
        for name in TWO {
            self.keep_asking(name, until);
        }
        if self.seed % 8 == 7 {
            self.grow_while_apart(until)?;
        } else {
            while self.sim.elapsed() < until {
                let pause = Duration::from_millis(self.rng.random_range(100..4000));
                self.steps(pause)?;
                self.break_something(until);
            }
        }
        self.heal();
        if let Some(node) = self.down.take() {
            self.sim.restart(node);
        }
        self.rest()?;
        // Longer than it takes to notice a connection that a fault has silenced.
        self.steps(Duration::from_secs(5))?;
        self.rest()?;
        for name in self.nodes.clone() {
            let silent = self.sim.on(name, |system| async move {
                for entity in 0..ENTITIES {
                    let pawn = system.entity::<Pawn>(entity.to_string());
                    if let Err(error) = pawn.ask().await {
                        return Some(format!("{entity} does not answer: {error}"));
                    }
                }
                None
            });
            if let Some(silent) = silent {
                return Err(self.broken("10, it goes on", format!("asked by {name}: {silent}")));
            }
        }
        Ok(())
    }

    /// Two more nodes join the sole voter, which cannot have the other node declared Down. The
    /// other node knows nothing of them.
    fn grow_while_apart(&mut self, until: Duration) -> Result<(), Broken> {
        self.arbiter.cut_off("a");
        self.sim.stall("a", "b");
        for name in MORE {
            self.start(name);
            self.sim.partition(name, "b");
            self.keep_asking(name, until);
            let pause = Duration::from_millis(self.rng.random_range(1..700));
            self.steps(pause)?;
        }
        let left = until.saturating_sub(self.sim.elapsed());
        self.steps(left)
    }

    fn break_something(&mut self, until: Duration) {
        let one = TWO[self.rng.random_range(0..2)];
        let other = TWO[usize::from(one == "a")];
        let fault = self.rng.random_range(0..14);
        let well = self.calm && self.down.is_none() && Self::rests(&self.sim.views(), 2).is_ok();
        self.calm = false;
        match fault {
            0 | 1 => self.sim.partition(one, other),
            2 => self.sim.partition_one_way(one, other),
            3 | 4 => self.sim.stall(one, other),
            // A node that goes on alone has the only copy of the map: it may be killed only when
            // the other node has a copy, too.
            5 | 6 if well => {
                self.sim.crash(one);
                self.down = Some(one);
            }
            7 => {
                if let Some(node) = self.down.take() {
                    self.sim.restart(node);
                    self.keep_asking(node, until);
                }
            }
            8 if self.down != Some(one) => {
                if self.paused.insert(one) {
                    self.sim.pause(one);
                }
            }
            9 => {
                if let Some(node) = self.paused.pop_first() {
                    self.sim.resume(node);
                }
            }
            10 => {
                self.arbiter.cut_off(one);
                self.sim.stall(one, other);
            }
            11 => {
                self.arbiter.cut_answers_off(one);
                self.sim.partition(one, other);
            }
            _ => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.sim.heal();
        self.arbiter.heal();
        for node in std::mem::take(&mut self.paused) {
            self.sim.resume(node);
        }
        self.calm = true;
    }

    /// Waits until the cluster has settled.
    fn rest(&mut self) -> Result<(), Broken> {
        let end = self.sim.elapsed() + SETTLED;
        loop {
            self.step()?;
            let Err(what) = Self::rests(&self.sim.views(), self.nodes.len()) else {
                return Ok(());
            };
            if self.sim.elapsed() > end {
                return Err(self.broken(
                    "9, it comes to rest",
                    format!("not after {SETTLED:?}: {what}"),
                ));
            }
        }
    }

    /// Whether all nodes are well. In a new generation a shard gets a home only when a message
    /// needs it.
    fn rests(views: &[View], nodes: usize) -> Result<(), String> {
        if views.len() != nodes {
            return Err(format!("{} nodes run", views.len()));
        }
        for view in views {
            let voters = if nodes < 3 { 1 } else { 3 };
            if view.up != nodes || view.voters != voters {
                let (up, voters) = (view.up, view.voters);
                return Err(format!(
                    "{} sees {up} members and {voters} voters",
                    view.member
                ));
            }
            if !view.serving {
                return Err(format!("{} has no lease", view.member));
            }
        }
        Ok(())
    }
}
