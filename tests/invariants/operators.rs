//! Two to four nodes, a storm of faults that also take majorities and directories, and an operator
//! who acts meanwhile: recovers, promotes, drains. Then the faults are over, and the operator does
//! what the README says.
//!
//! Invariant 19: Nobody is left without a way on: then all nodes are members of one cluster that
//! serves.
//!
//! Invariant 20: Strangers that claim a later generation or a member's renewal, and processes under
//! the name of another that lives, change nothing in a cluster that is well.

use std::collections::{BTreeMap, BTreeSet};

use casty::{
    admin::{AdminError, MemberReport},
    member::MemberStatus,
    prelude::*,
    testkit::{Forgery, Sim, SimTask, true_time},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tempfile::TempDir;

use super::{
    Broken, Check, Moment,
    buffers_are_bounded::BuffersAreBounded,
    one_owner_at_a_time::OneOwnerAtATime,
    tokens::{Seal, Tokens, generation_of},
};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SEEDS: [&str; 4] = ["a:25520", "b:25520", "c:25520", "d:25520"];
const ENTITIES: u32 = 6;

/// How often the operator takes most nodes for lost.
const DISASTERS: usize = 2;

/// How long the operator waits between two looks at a cluster that is not well.
const PATIENCE: Duration = Duration::from_secs(12);

/// How often the operator acts at the end before nothing helps any more.
const ROUNDS: usize = 6;

/// Has one entity after the other act.
async fn ask_around(system: ActorSystem, seed: u64) {
    for entity in (0..ENTITIES).cycle() {
        let call = system.entity::<Seal>(entity.to_string()).stamp(seed);
        // Whether entities answer is checked at the end.
        let _ = call.timeout(Duration::from_millis(300)).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// What an operator has begun.
struct Begun {
    /// Whether a node was to begin a generation.
    recovers: bool,
    what: String,
    done: SimTask<Result<(), AdminError>>,
}

struct Run {
    sim: Sim,
    seed: u64,
    rng: StdRng,
    /// The nodes' directories, if they have any.
    state: Option<TempDir>,
    nodes: &'static [&'static str],
    tokens: Tokens,
    down: BTreeSet<&'static str>,
    paused: BTreeSet<&'static str>,
    /// When the processes that have failed for good are started again.
    supervised: BTreeMap<&'static str, Duration>,
    begun: Vec<Begun>,
    /// Every process has reached every other since the cluster was last at rest.
    whole: bool,
    /// How many processes were started under a name that another has.
    twins: usize,
    /// The operator's last results, for the report of a run that fails.
    told: Vec<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Result<(), Broken> {
    casty_tests::log();
    let mut rng = StdRng::seed_from_u64(seed);
    let nodes = &NAMES[..[2, 2, 3, 4][rng.random_range(0..4)]];
    let is_kept: bool = rng.random();
    let mut run = Run {
        sim: Sim::new(seed),
        seed,
        rng,
        state: is_kept.then(|| tempfile::tempdir().expect("a directory")),
        nodes,
        tokens: Tokens::new(seed),
        down: BTreeSet::new(),
        paused: BTreeSet::new(),
        supervised: BTreeMap::new(),
        begun: Vec::new(),
        whole: true,
        twins: 0,
        told: Vec::new(),
    };
    run.all()
}

// ---- The course of a run.

impl Run {
    fn all(&mut self) -> Result<(), Broken> {
        self.sim.use_wall_clocks();
        for &name in self.nodes {
            self.start(name);
        }
        for &name in self.nodes {
            self.keep_asking(name);
        }
        self.find_way_on()?;
        if self.seed.is_multiple_of(4) {
            self.bear_impostors()?;
        }
        for _ in 0..DISASTERS {
            for _ in 0..self.rng.random_range(0..4) {
                self.act()?;
                self.steps_up_to(1200)?;
            }
            // Half of the time the disaster comes over a cluster that is well.
            if self.rng.random() {
                self.find_way_on()?;
            }
            self.lose_most()?;
            self.find_way_on()?;
        }
        self.ask_all()
    }

    fn start(&mut self, name: &'static str) {
        let state = self.state.as_ref().map(|state| state.path().join(name));
        let seeds = &SEEDS[..self.nodes.len()];
        self.sim.start_with(name, move |builder| {
            let builder = builder.seeds(seeds).strict_wire(false);
            match &state {
                Some(state) => builder.state_dir(state),
                None => builder,
            }
        });
    }

    fn broken(&self, invariant: &'static str, what: &str) -> Broken {
        let told = self.told.join("\n");
        Broken {
            seed: self.seed,
            invariant,
            what: format!("{what}\nthe operator was told:\n{told}"),
            trace: self.sim.trace(),
            storm: "nobody_is_left_without_a_way_on",
        }
    }

    /// One millisecond, and what must hold in it.
    fn step(&mut self) -> Result<(), Broken> {
        self.sim.run_for(Duration::from_millis(1));
        let moment = Moment {
            now: self.sim.elapsed(),
            views: &self.sim.views(),
            sightings: &self.sim.sightings(),
            cut_off: &[],
        };
        let told = self.tokens.at(&moment, self.whole);
        told.map_err(|what| self.broken("18, no token is used twice", &what))?;
        if self.whole {
            let one = OneOwnerAtATime.at(&moment);
            one.map_err(|what| self.broken("2, one owner at a time", &what))?;
        }
        let bounded = BuffersAreBounded.at(&moment);
        bounded.map_err(|what| self.broken("14, buffers are bounded", &what))?;
        self.supervise();
        self.note_results();
        Ok(())
    }

    fn steps(&mut self, time: Duration) -> Result<(), Broken> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn steps_up_to(&mut self, millis: u64) -> Result<(), Broken> {
        let time = Duration::from_millis(self.rng.random_range(50..millis));
        self.steps(time)
    }

    fn keep_asking(&mut self, name: &str) {
        let seed = self.seed;
        let asks = move |system| ask_around(system, seed);
        drop(self.sim.spawn_on(name, asks));
    }

    /// A process that has failed for good ends, and its supervisor starts it again.
    fn supervise(&mut self) {
        let now = self.sim.elapsed();
        for &name in self.nodes {
            let failed = self.sim.view(name).and_then(|view| view.failed);
            if let Some(why) = failed {
                let told = &mut self.told;
                self.supervised.entry(name).or_insert_with(|| {
                    told.push(format!("{now:?} {name} fails: {why}"));
                    now + Duration::from_secs(1)
                });
            }
        }
        while let Some((&name, _)) = self.supervised.iter().find(|(_, at)| **at <= now) {
            self.supervised.remove(name);
            if !self.down.contains(name) && !self.paused.contains(name) {
                self.restart(name);
            }
        }
    }

    fn note_results(&mut self) {
        let (done, begun) = std::mem::take(&mut self.begun)
            .into_iter()
            .partition(|begun: &Begun| begun.done.is_done());
        self.begun = begun;
        let done: Vec<Begun> = done;
        for Begun {
            recovers,
            what,
            done,
        } in done
        {
            let result = done.take();
            let now = self.sim.elapsed();
            // As the README says: the nodes that a recovery gave up come back without their
            // directories.
            if recovers && matches!(result, Some(Ok(()))) {
                for name in self.down.clone() {
                    self.lose_directory(name);
                }
            }
            self.told.push(format!("{now:?} {what}: {result:?}"));
        }
    }

    // ---- Processes.

    fn crash(&mut self, name: &'static str) {
        self.sim.crash(name);
        self.paused.remove(name);
        self.down.insert(name);
    }

    fn restart(&mut self, name: &'static str) {
        self.down.remove(name);
        self.paused.remove(name);
        self.sim.restart(name);
        self.keep_asking(name);
    }

    fn restart_afresh(&mut self, name: &'static str) {
        self.crash(name);
        self.lose_directory(name);
        self.restart(name);
    }

    /// The node's process is down.
    fn lose_directory(&self, name: &str) {
        if let Some(state) = &self.state {
            // It may have none yet.
            let _ = std::fs::remove_dir_all(state.path().join(name));
        }
    }

    fn heal(&mut self) {
        self.sim.heal();
        for name in std::mem::take(&mut self.paused) {
            self.sim.resume(name);
        }
    }

    fn tear(&mut self) {
        self.whole = false;
    }

    fn pick(&mut self) -> &'static str {
        self.nodes[self.rng.random_range(0..self.nodes.len())]
    }

    fn runs(&self, name: &str) -> bool {
        !self.down.contains(name) && !self.paused.contains(name)
    }

    // ---- Faults.

    fn act(&mut self) -> Result<(), Broken> {
        let (one, other) = (self.pick(), self.pick());
        match self.rng.random_range(0..14) {
            0 if one != other => self.cut(one, other),
            1 if one != other => {
                self.tear();
                self.sim.stall(one, other);
            }
            2 if one != other => {
                self.tear();
                self.sim.damage(one, other);
            }
            3 => self.heal(),
            4 if !self.down.contains(one) => self.crash(one),
            5 | 6 => {
                if let Some(name) = self.down.first().copied() {
                    self.come_back(name);
                }
            }
            7 => self.kill_all()?,
            8 if self.runs(one) => self.pause(one),
            9 => self.go_on(one),
            10 => self.drain(one),
            11 => self.set_clock(one),
            12 if one != other => self.forge(one, other),
            _ => self.start_twin(one),
        }
        Ok(())
    }

    fn cut(&mut self, one: &'static str, other: &'static str) {
        self.tear();
        match self.rng.random_range(0..3) {
            0 => self.sim.partition(one, other),
            1 => self.sim.partition_one_way(one, other),
            _ => self.cut_off(one),
        }
    }

    /// Cuts a node off from the others, and not from the operator.
    fn cut_off(&mut self, one: &'static str) {
        self.tear();
        for other in self.nodes.iter().filter(|other| **other != one) {
            self.sim.partition(one, other);
        }
    }

    /// All processes end at once. Some lose their directories.
    fn kill_all(&mut self) -> Result<(), Broken> {
        let mut order = self.nodes.to_vec();
        for name in &order {
            self.crash(name);
        }
        if self.rng.random_range(0..3) == 0 {
            let name = self.pick();
            self.lose_directory(name);
        }
        order.shuffle(&mut self.rng);
        for name in order {
            self.steps_up_to(300)?;
            self.restart(name);
        }
        Ok(())
    }

    /// A wall clock jumps by up to an hour, ahead or behind.
    fn set_clock(&mut self, name: &str) {
        let hour = Duration::from_hours(1);
        let by = Duration::from_millis(self.rng.random_range(0..7_200_000));
        let shows = self.sim.wall_clock_of(name) + by;
        self.sim.wall_clock(name, shows.saturating_sub(hour));
    }

    fn pause(&mut self, name: &'static str) {
        self.sim.pause(name);
        self.paused.insert(name);
    }

    /// A node starts again, perhaps without its directory, and perhaps where it reaches others that
    /// do not reach it.
    fn come_back(&mut self, name: &'static str) {
        if self.rng.random_range(0..3) == 0 {
            self.lose_directory(name);
        }
        let other = self.pick();
        if other != name && self.rng.random_range(0..3) == 0 {
            self.tear();
            self.sim.partition_one_way(other, name);
        }
        self.restart(name);
    }

    /// The operator takes all nodes but one or two for lost, and has these go on. Then the others
    /// come back after all.
    fn lose_most(&mut self) -> Result<(), Broken> {
        let mut kept = self.nodes.to_vec();
        kept.shuffle(&mut self.rng);
        let most = (kept.len() - 1).min(2);
        let lost = kept.split_off(self.rng.random_range(1..=most));
        let how = self.rng.random_range(0..6);
        for name in &lost {
            match how {
                0 => self.cut_off(name),
                1..=3 if self.runs(name) => self.pause(name),
                4 => {
                    self.crash(name);
                    self.lose_directory(name);
                }
                _ => self.crash(name),
            }
        }
        if kept.len() > 1 && self.rng.random() {
            self.cut_off(kept[0]);
        }
        self.steps_up_to(4000)?;
        for name in kept {
            self.go_on(name);
            self.steps_up_to(300)?;
        }
        // They come back while the others are about to go on, or after that.
        let until = self.sim.elapsed() + Duration::from_secs(10);
        let waits = self.rng.random();
        while waits && !self.begun.is_empty() && self.sim.elapsed() < until {
            self.step()?;
        }
        self.steps_up_to(3000)?;
        for name in lost {
            if self.down.contains(name) {
                self.come_back(name);
            } else if self.paused.remove(name) {
                self.sim.resume(name);
            }
            self.steps_up_to(200)?;
        }
        Ok(())
    }

    // ---- Impostors.

    /// A second process under the name of a node, at a host of its own.
    fn start_twin(&mut self, of: &'static str) {
        let twin = format!("twin{}", self.twins);
        self.twins += 1;
        let seeds = &SEEDS[..self.nodes.len()];
        self.sim.start_with(&twin, move |builder| {
            builder.node_id(of).seeds(seeds).strict_wire(false)
        });
        self.sim.certify_as(&twin, of);
    }

    fn end_twins(&mut self) {
        for twin in 0..self.twins {
            self.sim.crash(&format!("twin{twin}"));
        }
    }

    /// A stranger says something to one node, perhaps of another.
    fn forge(&mut self, to: &str, of: &str) {
        let said = match self.sim.view(of) {
            Some(view) if self.rng.random() => Forgery::Renewal(view.member),
            _ => Forgery::LaterGeneration,
        };
        self.sim.forge(to, said);
    }

    /// Whatever impostors say, in a cluster that is well all members remain and serve.
    fn bear_impostors(&mut self) -> Result<(), Broken> {
        let members = |run: &Self| {
            let views = run.nodes.iter().map(|name| run.sim.view(name));
            let members = views.map(|view| Some((view.as_ref()?.member.clone(), view?.serving)));
            members.collect::<Vec<_>>()
        };
        let before = members(self);
        let holder = self.pick();
        self.start_twin(holder);
        let end = self.sim.elapsed() + Duration::from_secs(4);
        while self.sim.elapsed() < end {
            let one = self.rng.random_range(0..self.nodes.len());
            let other = (one + 1) % self.nodes.len();
            self.forge(self.nodes[one], self.nodes[other]);
            for _ in 0..200 {
                self.step()?;
                let now = members(self);
                if now != before {
                    let what = format!("{now:?}, and before {before:?}");
                    return Err(self.broken("20, impostors change nothing", &what));
                }
            }
        }
        Ok(())
    }

    // ---- What an operator does meanwhile.

    fn begin<F>(&mut self, what: String, recovers: bool, done: F)
    where
        F: FnOnce(&mut Sim) -> SimTask<Result<(), AdminError>>,
    {
        let done = done(&mut self.sim);
        self.begun.push(Begun {
            recovers,
            what,
            done,
        });
    }

    /// Has a node go on without the others.
    fn go_on(&mut self, name: &'static str) {
        let how = self.rng.random_range(0..4);
        self.begin(format!("{name} goes on ({how})"), true, |sim| {
            sim.operate([name], move |admin| async move {
                match how {
                    0 => admin.promote(name).await,
                    1 => admin.recover(name, false).await,
                    _ => admin.recover(name, true).await,
                }
                .map(drop)
            })
        });
    }

    fn drain(&mut self, name: &'static str) {
        let asked: Vec<_> = self.nodes.to_vec();
        self.begin(format!("{name} is drained"), false, |sim| {
            sim.operate(asked, move |admin| async move {
                let wait = Duration::from_secs(4);
                admin.drain(name, wait, drop).await.map(drop)
            })
        });
    }
}

// ---- What an operator does at the end.

impl Run {
    /// Whether all nodes are members of one cluster that serves.
    fn rests(&self) -> Result<(), String> {
        let mut one = None;
        for &name in self.nodes {
            let Some(view) = self.sim.view(name) else {
                return Err(format!("{name} does not run"));
            };
            let generation = generation_of(&view);
            let voters = if self.nodes.len() < 3 { 1 } else { 3 };
            let (up, serving) = (view.up, view.serving);
            if up != self.nodes.len() || view.voters != voters || !serving {
                return Err(format!(
                    "{} sees {up} members and {} voters in {generation:?}, and serves: {serving}",
                    view.member, view.voters
                ));
            }
            if *one.get_or_insert(generation) != generation {
                return Err(format!(
                    "{} is in {generation:?}, not in {one:?}",
                    view.member
                ));
            }
        }
        Ok(())
    }

    fn find_way_on(&mut self) -> Result<(), Broken> {
        self.heal();
        self.end_twins();
        for name in self.down.clone() {
            self.restart(name);
        }
        for _ in 0..ROUNDS {
            let end = self.sim.elapsed() + PATIENCE;
            while self.sim.elapsed() < end {
                self.step()?;
                if self.begun.is_empty() && self.rests().is_ok() {
                    self.whole = true;
                    return Ok(());
                }
            }
            self.help()?;
        }
        let what = self.rests().err().unwrap_or_default();
        Err(self.broken("19, nobody is left without a way on", &what))
    }

    /// The operator does what the README says.
    fn help(&mut self) -> Result<(), Broken> {
        let nodes = self.nodes;
        let looking = self
            .sim
            .operate(nodes, |admin| async move { admin.members().await });
        let seen = self.result_of(&looking)?;
        let at = self.sim.elapsed();
        self.told.push(format!("{at:?} members: {seen:?}"));
        match seen {
            Ok(seen) if seen.leader.is_none() => self.recover_the_best(),
            // What is no member, or is drained, is started anew.
            Ok(seen) => {
                for &name in nodes {
                    let reports = seen.members.iter();
                    let mut mine = reports.filter(|report| report.id.node.as_str() == name);
                    let is_well = |report: &MemberReport| {
                        report.status == MemberStatus::Up && report.serves == Some(true)
                    };
                    if !mine.any(is_well) {
                        self.restart_afresh(name);
                    }
                }
                Ok(())
            }
            Err(AdminError::NoMap) => {
                for name in nodes {
                    self.restart_afresh(name);
                }
                Ok(())
            }
            Err(error) => Err(self.broken(
                "19, nobody is left without a way on",
                &format!("the operator sees nothing: {error}"),
            )),
        }
    }

    /// Has the node go on that knows the most.
    fn recover_the_best(&mut self) -> Result<(), Broken> {
        let nodes = self.nodes;
        let recovering = self.sim.operate(nodes, move |admin| async move {
            let first = admin.recover(nodes[0], false).await;
            match first {
                Err(AdminError::NotMostAdvanced { better, .. }) => {
                    admin.recover(better.to_string(), true).await
                }
                Err(AdminError::UnknownMember { .. } | AdminError::NoAnswer { .. }) => {
                    admin.recover(nodes[1], true).await
                }
                Err(AdminError::Refused { .. }) => admin.recover(nodes[0], true).await,
                result => result,
            }
        });
        let recovered = self.result_of(&recovering)?;
        let at = self.sim.elapsed();
        self.told.push(format!("{at:?} recover: {recovered:?}"));
        Ok(())
    }

    fn result_of<T>(&mut self, task: &SimTask<T>) -> Result<T, Broken> {
        let end = self.sim.elapsed() + Duration::from_mins(2);
        while self.sim.elapsed() < end {
            if let Some(result) = task.take() {
                return Ok(result);
            }
            self.step()?;
        }
        Err(self.broken(
            "19, nobody is left without a way on",
            "a command of the operator never ends",
        ))
    }

    fn ask_all(&mut self) -> Result<(), Broken> {
        for &name in self.nodes {
            let seed = self.seed;
            let asked = self.sim.on(name, move |system| async move {
                // Meanwhile connections and dials that a fault has silenced are noticed.
                let until = true_time().unwrap_or_default() + PATIENCE;
                for entity in 0..ENTITIES {
                    let seal = system.entity::<Seal>(entity.to_string());
                    while let Err(error) = seal.stamp(seed).await {
                        if true_time().is_none_or(|now| now > until) {
                            return Some(format!("{entity} does not answer: {error}"));
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
                None
            });
            if let Some(silent) = asked {
                let what = format!("asked by {name}: {silent}");
                return Err(self.broken("10, it goes on", &what));
            }
        }
        self.step()
    }
}
