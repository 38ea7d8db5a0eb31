//! Four or five nodes with senders on all of them, and a storm of faults: see [`Plan`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use casty::{
    Settings,
    prelude::*,
    testkit::{Sim, SimTask, View, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tempfile::TempDir;

use super::{
    Broken, Check, checks,
    it_comes_to_rest::{ItComesToRest, voters_of},
    step,
};

const FIVE: &[&str] = &["a", "b", "c", "d", "e"];
/// Three of four members vote.
const FOUR: &[&str] = &["a", "b", "c", "d"];
const SENDERS: u32 = 10;
const ENTITIES: u32 = 12;

/// Once all faults have healed, the cluster settles within this time.
const SETTLED: Duration = Duration::from_secs(40);

/// A message: its sender, and its number at the sender.
pub(crate) type Id = (u32, u64);

/// A message that was handled.
#[derive(Clone, Debug)]
pub(crate) struct Handled {
    pub(crate) entity: String,
    pub(crate) id: Id,
    /// True time.
    pub(crate) at: Duration,
    pub(crate) token: u64,
}

/// What became of the messages of one run.
#[derive(Default)]
pub(crate) struct Record {
    /// In order.
    pub(crate) handled: Vec<Handled>,
    pub(crate) sent: BTreeSet<Id>,
    pub(crate) told: BTreeSet<Id>,
    pub(crate) acknowledged: BTreeSet<Id>,
    /// Messages whose senders were told that they were certainly not handled.
    pub(crate) refused: BTreeMap<Id, String>,
    /// Messages whose senders were told that they may have been handled.
    pub(crate) unclear: BTreeMap<Id, String>,
    pub(crate) dead_letters: usize,
    /// No fault was injected.
    pub(crate) calm: bool,
    /// A process was killed.
    pub(crate) crashed: bool,
    /// Entities that did not answer at the end.
    pub(crate) silent: Vec<String>,
}

static RECORDS: Mutex<BTreeMap<u64, Arc<Mutex<Record>>>> = Mutex::new(BTreeMap::new());

fn of_seed(seed: u64) -> Arc<Mutex<Record>> {
    let mut records = RECORDS.lock().expect("no run panicked with it");
    records.entry(seed).or_default().clone()
}

/// The lock of a seed's runs. Two storms of one seed share its record, so they take turns if tests
/// run beside each other.
fn turn_of(seed: u64) -> Arc<Mutex<()>> {
    static TURNS: Mutex<BTreeMap<u64, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut turns = TURNS.lock().expect("no run panicked with it");
    turns.entry(seed).or_default().clone()
}

fn open(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().expect("no task panicked with it")
}

/// Records what it handles, outside of the simulation.
#[derive(Default)]
pub(crate) struct Scribe;

#[entity(shards = 8)]
impl Scribe {
    #[message]
    fn write(&mut self, seed: u64, sender: u32, number: u64, ctx: &mut Context<Self>) {
        let handled = Handled {
            entity: ctx.entity_id().to_string(),
            id: (sender, number),
            at: true_time().unwrap_or_default(),
            token: ctx.fencing_token().0,
        };
        open(&of_seed(seed)).handled.push(handled);
    }
}

/// What happens in a run.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Whether processes are killed.
    kills: bool,
    /// Whether processes are paused and clocks run at different rates.
    clocks: bool,
    nodes: &'static [&'static str],
    /// No fault is injected: nodes leave in order, one after the other, and come back.
    pub(crate) moves: bool,
    /// The next node leaves before the cluster has come to rest after the one before.
    hurried: bool,
    /// All nodes keep the map on disk, and all may be killed, even at once.
    kept: bool,
    /// There is a single fault: the leader is cut off together with a member that it has granted a
    /// lease, for longer than the other members take to elect a leader and to declare both Down.
    /// Default leases would mostly be over by then.
    succession: bool,
    faults: Duration,
}

impl Plan {
    /// In a quarter of the runs no process is killed, so that every message can be accounted for.
    /// Half of those runs inject no fault.
    pub(crate) fn of(seed: u64) -> Self {
        Self {
            kills: seed % 8 < 6,
            nodes: FIVE,
            moves: seed % 8 == 7,
            hurried: false,
            clocks: seed.is_multiple_of(2),
            kept: false,
            succession: false,
            faults: Duration::from_secs(12),
        }
    }

    pub(crate) fn kept(seed: u64) -> Self {
        Self {
            kills: true,
            moves: false,
            kept: true,
            ..Self::of(seed)
        }
    }

    pub(crate) fn succession() -> Self {
        Self {
            kills: false,
            nodes: FIVE,
            moves: false,
            hurried: false,
            clocks: false,
            kept: false,
            succession: true,
            faults: Duration::from_secs(8),
        }
    }

    /// Four nodes, of which one does not vote.
    #[allow(dead_code, reason = "the program that breaks rules needs fewer storms")]
    pub(crate) fn of_four(seed: u64) -> Self {
        Self {
            kills: true,
            nodes: FOUR,
            moves: false,
            faults: Duration::from_secs(20),
            ..Self::of(seed)
        }
    }

    /// A rolling restart that does not wait for the cluster to come to rest.
    pub(crate) fn rolling() -> Self {
        Self {
            kills: false,
            nodes: FOUR,
            moves: true,
            hurried: true,
            clocks: false,
            kept: false,
            succession: false,
            faults: Duration::from_secs(15),
        }
    }

    /// The test that runs this plan.
    fn storm(self) -> &'static str {
        match self {
            Self { kept: true, .. } => "they_hold_where_the_map_is_kept_on_disk",
            Self {
                succession: true, ..
            } => "they_hold_when_a_leader_is_succeeded",
            Self { hurried: true, .. } => "they_hold_in_a_rolling_restart",
            Self { nodes, .. } if nodes.len() == FOUR.len() => {
                "they_hold_where_a_member_does_not_vote"
            }
            _ => "they_hold_in_the",
        }
    }

    /// How many nodes may be at risk of losing their state at a time. A majority of the voters
    /// keeps it.
    fn endangered_max(self) -> usize {
        (voters_of(self.nodes.len()) - 1) / 2
    }

    fn settings(self) -> Settings {
        let mut settings = Settings::default();
        if self.succession {
            settings.lease = Duration::from_millis(1900);
        }
        settings
    }
}

/// Sends one message after the other, as a tell or an ask, until `until` in true time.
async fn send(system: ActorSystem, seed: u64, sender: u32, until: Duration) {
    let mut rng = StdRng::seed_from_u64(seed * 1000 + u64::from(sender));
    let record = of_seed(seed);
    let mut number = 0;
    while true_time().is_some_and(|now| now < until) {
        let id = (sender, number);
        number += 1;
        let entity = rng.random_range(0..ENTITIES).to_string();
        let call = system.entity::<Scribe>(entity).write(seed, id.0, id.1);
        open(&record).sent.insert(id);
        if rng.random() {
            match call.tell().await {
                Ok(()) => drop(open(&record).told.insert(id)),
                Err(error) => drop(open(&record).refused.insert(id, error.to_string())),
            }
        } else {
            let answer = call.timeout(Duration::from_secs(8)).await;
            let mut record = open(&record);
            match answer {
                Ok(()) => drop(record.acknowledged.insert(id)),
                Err(error) if !error.maybe_handled() => {
                    record.refused.insert(id, error.to_string());
                }
                Err(error) => drop(record.unclear.insert(id, error.to_string())),
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..60))).await;
    }
}

async fn count_dead_letters(system: ActorSystem, seed: u64) {
    let (mut events, record) = (system.events(), of_seed(seed));
    drop(system);
    while let Some(event) = events.next().await {
        match event {
            Event::DeadLetter(dead) if dead.message == "write" => open(&record).dead_letters += 1,
            _ => {}
        }
    }
}

struct Run {
    sim: Sim,
    /// The nodes' directories.
    state: TempDir,
    /// The senders, each with its node.
    senders: Vec<(&'static str, SimTask<()>)>,
    /// How many senders there have been: each has a number of its own, also after a crash.
    numbered: u32,
    /// When the senders stop.
    until: Duration,
    seed: u64,
    rng: StdRng,
    plan: Plan,
    checks: Vec<Box<dyn Check>>,
    down: BTreeSet<&'static str>,
    paused: BTreeSet<&'static str>,
    /// How many nodes have left.
    left: usize,
    /// Nodes that were killed, or may have been declared Down, since the cluster was last at rest.
    touched: BTreeSet<&'static str>,
    cut_off: Vec<(String, Duration)>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, plan: Plan) -> Result<(), Broken> {
    casty_tests::log();
    let turn = turn_of(seed);
    // A lock that a panicked run has poisoned protects nothing of the next run.
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    *open(&of_seed(seed)) = Record::default();
    let mut run = Run {
        sim: Sim::new(seed),
        state: tempfile::tempdir().expect("a directory"),
        senders: Vec::new(),
        numbered: 0,
        until: Duration::ZERO,
        seed,
        rng: StdRng::seed_from_u64(seed),
        plan,
        checks: checks(plan.nodes.len()),
        down: BTreeSet::new(),
        paused: BTreeSet::new(),
        left: 0,
        touched: BTreeSet::new(),
        cut_off: Vec::new(),
    };
    let result = run.all();
    RECORDS
        .lock()
        .expect("no run panicked with it")
        .remove(&seed);
    result
}

impl Run {
    fn broken(&self, invariant: &'static str, what: String) -> Broken {
        Broken {
            seed: self.seed,
            invariant,
            what,
            trace: self.sim.trace(),
            storm: self.plan.storm(),
        }
    }

    fn step(&mut self) -> Result<(), Broken> {
        let stepped = step(&mut self.sim, &mut self.checks, &self.cut_off);
        stepped.map_err(|(invariant, what)| self.broken(invariant, what))
    }

    fn steps(&mut self, time: Duration) -> Result<(), Broken> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn all(&mut self) -> Result<(), Broken> {
        let settings = self.plan.settings();
        for &name in self.plan.nodes {
            let settings = settings.clone();
            let state = self.plan.kept.then(|| self.state.path().join(name));
            self.sim.start_with(name, move |builder| {
                // As in production, references remember the cells they have found.
                let builder = builder.settings(settings.clone()).strict_wire(false);
                match &state {
                    Some(state) => builder.state_dir(state),
                    None => builder,
                }
            });
        }
        self.rest("9, it comes to rest")?;
        let until = self.sim.elapsed() + self.plan.faults;
        self.until = until;
        self.have_all_send();
        if self.plan.clocks {
            for &name in self.plan.nodes {
                // Within the bound of the settings.
                self.sim
                    .clock_rate(name, self.rng.random_range(0.955..1.045));
            }
        }
        while self.sim.elapsed() < until {
            let pause = Duration::from_millis(self.rng.random_range(100..1200));
            self.steps(pause)?;
            if self.plan.succession {
                // The first node founded the cluster, and has led it since.
                let other = self.plan.nodes[self.rng.random_range(1..self.plan.nodes.len())];
                self.cut_off([self.plan.nodes[0], other]);
                self.steps(until.saturating_sub(self.sim.elapsed()))?;
            } else if self.plan.moves {
                self.leave_and_return()?;
            } else if self.plan.kept && self.rng.random_range(0..4) == 0 {
                self.kill_all()?;
            } else {
                self.break_something();
            }
        }
        self.heal_everything();
        self.rest("9, it comes to rest")?;
        // By then every message under way has ended: with an answer, a timeout or a dead letter.
        self.steps(Duration::from_secs(9))?;
        self.rest("9, it comes to rest")?;
        self.senders_have_ended()?;
        self.ask_all_nodes();
        let (views, record) = (self.sim.views(), of_seed(self.seed));
        let mut record = open(&record);
        record.calm = self.plan.moves;
        record.handled.sort_by_key(|handled| handled.at);
        let mut broken = None;
        for check in &mut self.checks {
            if let Err(what) = check.at_rest(&views, &record) {
                broken = Some((check.name(), what));
                break;
            }
        }
        match broken {
            Some((name, what)) => Err(self.broken(name, what)),
            None => Ok(()),
        }
    }

    fn have_all_send(&mut self) {
        let (seed, until) = (self.seed, self.until);
        for &name in self.plan.nodes {
            drop(
                self.sim
                    .spawn_on(name, move |system| count_dead_letters(system, seed)),
            );
        }
        for _ in 0..SENDERS {
            let sender = self.numbered;
            self.numbered += 1;
            let nodes = self.plan.nodes;
            // In a calm run, on the node that stays.
            let node = if self.plan.moves {
                0
            } else {
                sender as usize % nodes.len()
            };
            let sends = move |system| send(system, seed, sender, until);
            let task = self.sim.spawn_on(nodes[node], sends);
            self.senders.push((nodes[node], task));
        }
    }

    /// Each call ends with an answer, an error or its timeout.
    fn senders_have_ended(&mut self) -> Result<(), Broken> {
        let stuck = self.senders.iter().position(|(_, task)| !task.is_done());
        match stuck {
            Some(sender) => {
                let what = format!("a call of sender {sender} never ends");
                Err(self.broken("10, it goes on", what))
            }
            None => Ok(()),
        }
    }

    /// A crash ends the senders of the node.
    fn crash(&mut self, node: &'static str) {
        self.sim.crash(node);
        self.senders
            .retain(|(on, task)| *on != node || task.is_done());
        open(&of_seed(self.seed)).crashed = true;
    }

    /// All processes end at once, and start again one after the other.
    fn kill_all(&mut self) -> Result<(), Broken> {
        for &name in self.plan.nodes {
            self.crash(name);
        }
        self.paused.clear();
        self.down.clear();
        let mut order = self.plan.nodes.to_vec();
        order.shuffle(&mut self.rng);
        for name in order {
            let pause = Duration::from_millis(self.rng.random_range(0..300));
            self.steps(pause)?;
            self.sim.restart(name);
        }
        self.have_all_send();
        Ok(())
    }

    /// Waits until the cluster has settled.
    fn rest(&mut self, invariant: &'static str) -> Result<(), Broken> {
        let end = self.sim.elapsed() + SETTLED;
        loop {
            self.step()?;
            let Err(what) = ItComesToRest::rests(&self.sim.views(), self.plan.nodes.len()) else {
                return Ok(());
            };
            if self.sim.elapsed() > end {
                return Err(self.broken(invariant, format!("not after {SETTLED:?}: {what}")));
            }
        }
    }

    fn ask_all_nodes(&mut self) {
        let record = of_seed(self.seed);
        for &name in self.plan.nodes {
            let seed = self.seed;
            let asked = self.sim.on(name, move |system| async move {
                let mut silent = Vec::new();
                for entity in 0..ENTITIES {
                    let sender = 1000 + entity;
                    let call = system.entity::<Scribe>(entity.to_string());
                    // A new sender, without earlier messages.
                    let number = true_time().map_or(0, |now| now.as_micros());
                    let number = u64::try_from(number).unwrap_or(u64::MAX);
                    open(&of_seed(seed)).sent.insert((sender, number));
                    if let Err(error) = call.write(seed, sender, number).await {
                        silent.push(format!(
                            "{entity} does not answer {}: {error}",
                            system.node_id()
                        ));
                    }
                }
                silent
            });
            open(&record).silent.extend(asked);
        }
    }

    fn leave_and_return(&mut self) -> Result<(), Broken> {
        let others = &self.plan.nodes[1..];
        let who = if self.plan.hurried {
            // One node after the other.
            self.left += 1;
            others[(self.left - 1) % others.len()]
        } else {
            others[self.rng.random_range(0..others.len())]
        };
        let leaving = self
            .sim
            .spawn_on(who, |system| async move { system.shutdown().await });
        while !leaving.is_done() {
            self.step()?;
        }
        if let Some(Err(error)) = leaving.take() {
            return Err(self.broken("10, it goes on", format!("{who} does not leave: {error}")));
        }
        // An operating system delivers what a process has written, also after its end.
        self.steps(Duration::from_millis(300))?;
        self.sim.crash(who);
        self.sim.restart(who);
        if self.plan.hurried {
            return self.steps(Duration::from_millis(600));
        }
        self.rest("9, it comes to rest")
    }

    fn break_something(&mut self) {
        let (one, other) = (self.pick(), self.pick());
        let fault = self.rng.random_range(0..12);
        if one != other && fault < 3 {
            self.touched.extend([one, other]);
        }
        match fault {
            0 if one != other => self.sim.partition(one, other),
            1 if one != other => self.sim.partition_one_way(one, other),
            2 if one != other => self.sim.stall(one, other),
            3 | 4 => self.cut_off_a_minority(),
            5 | 6 if self.plan.kills => {
                if self.may_kill(one) {
                    self.crash(one);
                    self.down.insert(one);
                } else {
                    self.heal();
                }
            }
            7 => {
                if let Some(node) = self.down.pop_first() {
                    self.sim.restart(node);
                }
            }
            8 if self.plan.clocks
                && self.down.len() + self.paused.len() < self.plan.endangered_max() =>
            {
                if !self.down.contains(one) && self.paused.insert(one) {
                    self.touched.insert(one);
                    self.sim.pause(one);
                }
            }
            9 | 10 => {
                if let Some(node) = self.paused.pop_first() {
                    self.sim.resume(node);
                }
            }
            _ => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.sim.heal();
        self.cut_off.clear();
        for node in std::mem::take(&mut self.paused) {
            self.sim.resume(node);
        }
    }

    /// Unless a voter keeps its state on disk, the state is lost with its process and with its
    /// incarnation. If a majority loses it, the map is lost and only an operator can help. So few
    /// nodes are endangered before the cluster is well again: with all its members and voters, each
    /// with a lease, and no member about to be declared Down.
    fn may_kill(&mut self, one: &'static str) -> bool {
        if self.plan.kept {
            return !self.down.contains(one) && !self.paused.contains(one);
        }
        let views = self.sim.views();
        let nodes = self.plan.nodes.len();
        let well = |view: &View| {
            let whole = view.up == nodes && view.voters == voters_of(nodes) && view.serving;
            let settled = view.suspects == 0 && view.undecided == 0;
            whole && settled && view.version == views[0].version
        };
        let calm = self.cut_off.is_empty() && self.paused.is_empty();
        if calm && views.len() == nodes && views.iter().all(well) {
            self.touched.clear();
        }
        let alive = !self.down.contains(one) && !self.paused.contains(one);
        self.touched.insert(one);
        alive && self.touched.len() <= self.plan.endangered_max()
    }

    fn pick(&mut self) -> &'static str {
        self.plan.nodes[self.rng.random_range(0..self.plan.nodes.len())]
    }

    /// Cuts one or two nodes off from the others.
    fn cut_off_a_minority(&mut self) {
        let mut minority = BTreeSet::from([self.pick()]);
        if self.plan.endangered_max() > 1 && self.rng.random() {
            minority.insert(self.pick());
        }
        self.cut_off(minority);
    }

    fn cut_off(&mut self, minority: impl IntoIterator<Item = &'static str>) {
        let minority: BTreeSet<_> = minority.into_iter().collect();
        self.touched.extend(minority.iter().copied());
        // If all members vote, a minority of the nodes is a minority of the voters. One node always
        // is.
        let calm = ItComesToRest::rests(&self.sim.views(), self.plan.nodes.len()).is_ok();
        for one in &minority {
            for other in self
                .plan
                .nodes
                .iter()
                .filter(|other| !minority.contains(*other))
            {
                self.sim.partition(one, other);
            }
            let now = self.sim.elapsed();
            // The check of minorities assumes the default lease.
            if calm && !self.plan.succession && !self.cut_off.iter().any(|(node, _)| node == one) {
                self.cut_off.push(((*one).to_owned(), now));
            }
        }
    }

    fn heal_everything(&mut self) {
        self.heal();
        for node in std::mem::take(&mut self.down) {
            self.sim.restart(node);
        }
    }
}
