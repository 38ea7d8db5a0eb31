//! Measures what a crowd of simulated nodes costs: `casty-crowd [--nodes N] [--seed N]
//! [--stagger-ms N] [--idle N] [--keepalive N] [--growth]`.
//!
//! The nodes start one after the other. Once all nodes see all others, in maps of one version, they
//! idle for `--idle` simulated seconds. Then one node is killed, and the others have to notice.
//! `--growth` repeats this with 10, 50, 100 and 200 nodes. `--keepalive` sets the seconds between
//! two probes of a connection, so that the share of the probes can be told from the rest.
//! Everything printed except wall time is the same for the same seed.

use std::{collections::BTreeMap, error::Error, io::Write, time::Duration};

use casty::{Settings, testkit::Sim};
use tokio::time::Instant;

/// How often the program checks whether all nodes agree.
const GLANCE: Duration = Duration::from_millis(10);

/// In simulated time, how long a crowd may take to form, or to notice a death.
const PATIENCE: Duration = Duration::from_mins(2);

/// By this time the traffic of the start is over.
const CALM: Duration = Duration::from_secs(5);

const SIZES: [usize; 4] = [10, 50, 100, 200];

type Failure = Box<dyn Error>;

struct Plan {
    nodes: usize,
    seed: u64,
    stagger: Duration,
    idle: Duration,
    keepalive: Option<Duration>,
    growth: bool,
}

fn plan() -> Result<Plan, String> {
    let mut plan = Plan {
        nodes: 200,
        seed: 1,
        stagger: Duration::from_millis(20),
        idle: Duration::from_secs(10),
        keepalive: None,
        growth: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        if option == "--growth" {
            plan.growth = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{option} needs a number"))?;
        let number: u32 = value
            .parse()
            .map_err(|_| format!("{option} needs a number, not `{value}`"))?;
        let many = number.max(1);
        match option.as_str() {
            // In a smaller cluster no majority is left when one node is killed.
            "--nodes" => plan.nodes = usize::try_from(number.max(3)).unwrap_or(usize::MAX),
            "--seed" => plan.seed = u64::from(number),
            "--stagger-ms" => plan.stagger = Duration::from_millis(u64::from(number)),
            "--idle" => plan.idle = Duration::from_secs(u64::from(many)),
            "--keepalive" => plan.keepalive = Some(Duration::from_secs(u64::from(many))),
            _ => {
                return Err(format!(
                    "unknown option `{option}`; there are --nodes, --seed, --stagger-ms, --idle, --keepalive, --growth"
                ));
            }
        }
    }
    Ok(plan)
}

/// The figures of one crowd.
struct Measured {
    nodes: usize,
    /// From the start of the last node until all nodes agreed.
    converged: Duration,
    /// Bytes and writes per node and second, on average.
    average: (u64, u64),
    leader: (u64, u64),
    /// Bytes of the node that wrote the most, leaders excluded.
    busiest: u64,
    /// Bytes of all nodes together, before they idled.
    start_bytes: u64,
    /// New versions of the map while all nodes idled.
    changes: u64,
    /// From the kill until all nodes saw it.
    noticed: Duration,
    wall: Duration,
}

struct Crowd {
    sim: Sim,
    names: Vec<String>,
    /// The leader of each term.
    leaders: BTreeMap<u64, String>,
    /// The members that were declared Down, and the version of the map that did so.
    down: BTreeMap<String, u64>,
}

impl Crowd {
    fn start(plan: &Plan, nodes: usize) -> Self {
        let mut crowd = Self {
            sim: Sim::new(plan.seed),
            names: (0..nodes).map(|n| format!("n{n}")).collect(),
            leaders: BTreeMap::new(),
            down: BTreeMap::new(),
        };
        let mut settings = Settings::default();
        if let Some(keepalive) = plan.keepalive {
            settings.keepalive_interval = keepalive;
            settings.keepalive_timeout = keepalive * 3;
        }
        for n in 0..nodes {
            let settings = settings.clone();
            crowd.sim.start_with(&crowd.names[n], move |builder| {
                builder.settings(settings.clone())
            });
            crowd.pass(plan.stagger);
        }
        crowd
    }

    fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            let left = end.saturating_sub(self.sim.elapsed());
            self.sim.run_for(GLANCE.min(left));
            self.look();
        }
    }

    fn look(&mut self) {
        use casty::testkit::Sighting;
        for (_, sighting) in self.sim.sightings() {
            match sighting {
                Sighting::Leads { member, term } => {
                    self.leaders.insert(term, member.node.to_string());
                }
                Sighting::Down { member, version } => {
                    self.down.insert(member.to_string(), version);
                }
                _ => {}
            }
        }
    }

    /// Waits until `nodes` nodes run and each sees all of them Up, in maps of one version. Returns
    /// how long it took.
    fn agree(&mut self, nodes: usize) -> Result<Duration, Failure> {
        let begun = self.sim.elapsed();
        loop {
            let took = self.sim.elapsed().saturating_sub(begun);
            let views = self.sim.views();
            let version = views.first().map_or(0, |view| view.version);
            let agrees = |up: usize, seen: u64| up == nodes && seen == version;
            let agreeing = views.iter().filter(|view| agrees(view.up, view.version));
            if views.len() == nodes && agreeing.count() == nodes {
                return Ok(took);
            }
            if took > PATIENCE {
                let seen: BTreeMap<(usize, u64), usize> =
                    views.iter().fold(BTreeMap::new(), |mut seen, view| {
                        *seen.entry((view.up, view.version)).or_default() += 1;
                        seen
                    });
                return Err(format!(
                    "{nodes} nodes do not agree within {PATIENCE:?}; how many see so many Up at a version: {seen:?}; \
                     leaders: {:?}; declared Down: {:?}",
                    self.leaders, self.down
                )
                .into());
            }
            self.pass(GLANCE);
        }
    }

    fn written(&self) -> BTreeMap<&str, (u64, u64)> {
        let names = self.names.iter().map(String::as_str);
        names
            .map(|name| (name, (self.sim.bytes_written(name), self.sim.writes(name))))
            .collect()
    }

    fn version(&self) -> u64 {
        let views = self.sim.views();
        views.iter().map(|view| view.version).max().unwrap_or(0)
    }
}

fn measure(plan: &Plan, nodes: usize) -> Result<Measured, Failure> {
    let begun = Instant::now();
    let mut crowd = Crowd::start(plan, nodes);
    let converged = crowd.agree(nodes)?;
    crowd.pass(CALM);
    let start_bytes = crowd.written().values().map(|(bytes, _)| bytes).sum();

    let version = crowd.version();
    let before: BTreeMap<String, (u64, u64)> = crowd
        .written()
        .into_iter()
        .map(|(name, written)| (name.to_owned(), written))
        .collect();
    crowd.pass(plan.idle);
    let seconds = plan.idle.as_secs();
    let rates: BTreeMap<&str, (u64, u64)> = crowd
        .written()
        .into_iter()
        .map(|(name, (bytes, writes))| {
            let (bytes_before, writes_before) = before[name];
            let a_second = |now: u64, then: u64| (now - then) / seconds;
            (
                name,
                (
                    a_second(bytes, bytes_before),
                    a_second(writes, writes_before),
                ),
            )
        })
        .collect();
    let leader = crowd.leaders.values().next_back();
    let leader = leader.ok_or("no node leads")?.clone();
    let of_leader = rates[leader.as_str()];
    let others = rates.iter().filter(|(name, _)| **name != leader);
    let busiest = others.map(|(_, (bytes, _))| *bytes).max().unwrap_or(0);
    let sum = |of: fn(&(u64, u64)) -> u64| rates.values().map(of).sum::<u64>() / nodes as u64;
    let average = (sum(|rate| rate.0), sum(|rate| rate.1));
    let changes = crowd.version() - version;
    if !crowd.down.is_empty() {
        return Err(format!("declared Down, and no node had died: {:?}", crowd.down).into());
    }

    // Neither the leader nor, most likely, a voter, whose death would also cause an election.
    let victim = crowd.names[nodes - 1].clone();
    crowd.sim.crash(&victim);
    let noticed = crowd.agree(nodes - 1)?;
    if crowd.down.len() != 1 {
        return Err(format!("`{victim}` has died, and Down are {:?}", crowd.down).into());
    }
    Ok(Measured {
        nodes,
        converged,
        average,
        leader: of_leader,
        busiest,
        start_bytes,
        changes,
        noticed,
        wall: begun.elapsed(),
    })
}

fn main() -> Result<(), Failure> {
    casty_tests::log();
    let plan = plan()?;
    let sizes = if plan.growth {
        SIZES.to_vec()
    } else {
        vec![plan.nodes]
    };
    println!(
        "seed {}; idle: bytes and writes a second, what a node wrote to others",
        plan.seed
    );
    println!(
        "{:>5} {:>10} {:>10} {:>9} {:>7} {:>9} {:>9} {:>7} {:>8} {:>8} {:>8}",
        "nodes",
        "converged",
        "start KiB",
        "average",
        "writes",
        "busiest",
        "leader",
        "writes",
        "changes",
        "noticed",
        "wall"
    );
    for nodes in sizes {
        let m = measure(&plan, nodes)?;
        println!(
            "{:>5} {:>8.2} s {:>10} {:>9} {:>7} {:>9} {:>9} {:>7} {:>8} {:>6.2} s {:>6.1} s",
            m.nodes,
            m.converged.as_secs_f64(),
            m.start_bytes / 1024,
            m.average.0,
            m.average.1,
            m.busiest,
            m.leader.0,
            m.leader.1,
            m.changes,
            m.noticed.as_secs_f64(),
            m.wall.as_secs_f64()
        );
        std::io::stdout().flush()?;
    }
    Ok(())
}
