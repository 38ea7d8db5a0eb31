//! Random steps of the world, under seeds. A seed repeats its steps exactly.

use std::ops::Range;

use rand::{RngExt as _, SeedableRng, rngs::SmallRng};

use super::world::*;
use crate::protocol::copies::*;

/// From this seed on all stores in sync are lost now and then, and given up.
pub(super) const LIVES: u64 = 1 << 40;

/// How often faults happen in one walk, at most.
#[derive(Clone, Copy, Debug)]
struct Faults {
    crashes: u32,
    downs: u32,
    owners: u32,
    moves: u32,
    keeps: u32,
    wants: u32,
    records: u32,
    /// How often all stores in sync are lost, and given up.
    lives: u32,
}

pub(super) struct Explorer {
    pub(super) world: World,
    random: SmallRng,
    left: Faults,
    /// Whether nodes get isolated in this walk.
    isolates: bool,
    /// A node that hears of nothing, and of which nobody hears. What is on its way stays there.
    alone: Option<usize>,
    pub(super) steps: Vec<String>,
    tells: bool,
}

/// What was found: the seed, and how the world broke.
pub(super) type Found = (u64, &'static str);

/// Walks under each seed, until one breaks the world.
pub(super) fn explore(mut seeds: Range<u64>, is_external: bool) -> Option<Found> {
    seeds.find_map(|seed| {
        let mut explorer = Explorer::new(seed, is_external, false);
        explorer.walk();
        explorer.world.broken.map(|how| (seed, how))
    })
}

impl Explorer {
    pub(super) fn new(seed: u64, is_external: bool, tells: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let nodes = if random.random_ratio(1, 4) { 4 } else { 3 };
        let copies_min = random.random_range(1..=2);
        let plan = Plan {
            nodes,
            in_sync: random.random_range(copies_min..=3),
            copies_min,
            // A few records at most, or all.
            in_flight_bytes: if random.random() { 50 } else { 1000 },
            is_external,
        };
        let isolates = !seed.is_multiple_of(2);
        let left = Faults {
            crashes: random.random_range(0..=3),
            downs: random.random_range(u32::from(isolates)..=3),
            owners: random.random_range(1..=4),
            moves: random.random_range(0..=2),
            keeps: random.random_range(0..=1),
            wants: random.random_range(0..=3),
            records: random.random_range(1..=5),
            lives: if seed >= LIVES { 2 } else { 0 },
        };
        Self {
            world: World::new(plan),
            random,
            left,
            isolates,
            alone: None,
            steps: Vec::new(),
            tells,
        }
    }

    pub(super) fn walk(&mut self) {
        let steps = self.random.random_range(60..300);
        for _ in 0..steps {
            self.step();
            if self.world.broken.is_some() {
                return;
            }
        }
        if self.random.random_ratio(1, 8) {
            self.goes_on();
        }
    }

    fn tell(&mut self, what: impl FnOnce(&World) -> String) {
        if self.tells {
            let what = what(&self.world);
            self.steps.push(what);
        }
    }

    fn node(&mut self) -> usize {
        self.random.random_range(0..self.world.nodes.len())
    }

    /// The owner, by what the map says, or any node.
    fn owner(&mut self) -> usize {
        let owner = self.world.map().stored.home.owner;
        let mut nodes = self.world.nodes.iter();
        let owner = nodes.position(|node| Some(node.member) == owner);
        match owner {
            Some(owner) if self.random.random_ratio(3, 4) => owner,
            _ => self.node(),
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..1000) {
            0..380 => self.deliver(),
            380..520 => self.sync(),
            520..600 => {
                let node = self.owner();
                self.append(node);
            }
            600..680 => {
                let node = self.node();
                if self.alone == Some(node) {
                    // It sees nothing.
                } else if self.random.random_ratio(1, 3) {
                    self.tell(|_| format!("{node} sees the last map"));
                    self.world.see_last(node);
                } else {
                    self.tell(|_| format!("{node} sees a map"));
                    self.world.see(node);
                }
            }
            680..740 => {
                let node = self.node();
                self.tell(|_| format!("{node} reads"));
                self.world.read(node);
            }
            740..790 => self.time(),
            790..860 => self.apply(),
            860..880 => self.lose(),
            880..940 => self.lead(),
            940..980 => self.plan_change(),
            _ => self.fault(),
        }
    }

    /// Late messages matter as much as new ones, and some arrive twice.
    fn deliver(&mut self) {
        let count = self.world.soup.len();
        if count == 0 {
            return;
        }
        let at = if self.random.random_ratio(1, 3) {
            count - 1
        } else {
            self.random.random_range(0..count)
        };
        let ends = [self.world.soup[at].from, self.world.soup[at].to];
        if self.alone.is_some_and(|alone| ends.contains(&alone)) {
            if count > 60 {
                self.world.soup.remove(at);
            }
            return;
        }
        let stays = count < 30 && self.random.random_ratio(1, 4);
        let envelope = if stays {
            self.world.soup[at].clone()
        } else {
            self.world.soup.remove(at)
        };
        self.tell(|_| format!("delivered: {envelope:?}"));
        self.world.deliver(&envelope);
    }

    fn sync(&mut self) {
        let node = self.node();
        let writes = self.world.unsynced(node);
        if writes > 0 {
            let writes = self.random.random_range(1..=writes);
            self.tell(|_| format!("{node} syncs {writes}"));
            self.world.sync_some(node, writes);
        }
    }

    fn append(&mut self, node: usize) {
        if self.left.records > 0 {
            let before = self.world.nodes[node].now.log.len();
            self.tell(|_| format!("{node} appends"));
            self.world.append(node);
            if self.world.nodes[node].now.log.len() > before {
                self.left.records -= 1;
            }
        }
    }

    fn time(&mut self) {
        let node = self.owner();
        self.tell(|_| format!("time passes for {node}"));
        if self.random.random_ratio(1, 3) {
            self.world.wait(node, DROP_AFTER);
        } else {
            self.world.wait_until_due(node);
        }
    }

    fn apply(&mut self) {
        let count = self.world.proposals.len();
        if count == 0 {
            return;
        }
        let at = self.random.random_range(0..count);
        let proposal = if count < 10 && self.random.random_ratio(1, 4) {
            self.world.proposals[at]
        } else {
            self.world.proposals.swap_remove(at)
        };
        self.tell(|_| format!("decided: {proposal:?}"));
        self.world.apply(proposal);
    }

    fn lose(&mut self) {
        if !self.world.soup.is_empty() {
            let at = self.random.random_range(0..self.world.soup.len());
            self.tell(|_| format!("lost: {at}"));
            self.world.soup.remove(at);
        }
        if !self.world.proposals.is_empty() && self.random.random_ratio(1, 4) {
            let at = self.random.random_range(0..self.world.proposals.len());
            self.world.proposals.remove(at);
        }
    }

    /// Restarts, leases, new owners.
    fn lead(&mut self) {
        let node = self.node();
        let last = self.world.maps.len() - 1;
        let at = &mut self.world.nodes[node];
        let Some(running) = &mut at.running else {
            self.tell(|_| format!("{node} starts"));
            return self.world.restart(node);
        };
        if at.is_down {
            if running.lease && self.random.random_ratio(1, 2) {
                running.lease = false;
                self.tell(|_| format!("the lease of {node} ends"));
            } else if self.random.random_ratio(1, 4) {
                self.world.end(node);
                self.tell(|_| format!("{node} hears that it is Down"));
            }
        } else if running.seen == last && self.alone != Some(node) && self.random.random_ratio(1, 2)
        {
            running.lease = true;
            self.tell(|_| format!("a lease for {node}"));
            self.world.check();
        } else if self.left.owners > 0 && self.world.propose_owner(node) {
            self.left.owners -= 1;
            self.tell(|_| format!("a new owner is proposed: {node}"));
        }
    }

    /// What the leader plans, and what an owner does of it.
    fn plan_change(&mut self) {
        let node = self.node();
        match self.random.random_range(0..6) {
            0 if self.left.wants > 0 => {
                if self.world.want(node) {
                    self.left.wants -= 1;
                    self.tell(|_| format!("{node} is to become a copy"));
                }
            }
            1 if self.left.moves > 0 && self.left.owners > 0 => {
                if self.world.move_to(node) {
                    self.left.moves -= 1;
                    self.left.owners -= 1;
                    self.tell(|_| format!("the shard is to move to {node}"));
                }
            }
            2 | 3 => {
                if self.world.hand_over(node) {
                    self.tell(|_| format!("{node} hands over"));
                }
            }
            4 if self.left.keeps > 0 => {
                let expected = self.world.epoch();
                let by = self.world.nodes[node].member;
                if self.world.map().stored.home.owner == Some(by) {
                    self.left.keeps -= 1;
                    self.tell(|_| format!("{node} keeps the shard"));
                    self.world.propose(Proposal::Keep { by, expected });
                }
            }
            _ => self.trim(node),
        }
    }

    fn trim(&mut self, node: usize) {
        let running = self.world.nodes[node].running.as_ref();
        let upto = running.and_then(|running| running.machine.may_leave());
        if let Some(upto) = upto
            && self.world.trim(node, upto)
        {
            self.tell(|_| format!("{node} trims up to {upto}"));
        }
    }

    /// All stores in sync are lost, or given up.
    fn begin_anew(&mut self) -> bool {
        if self.left.lives == 0 || !self.random.random_ratio(1, 2) {
            return false;
        }
        if !self.world.is_lost() {
            for node in 0..self.world.nodes.len() {
                let at = &self.world.nodes[node];
                if at.is_down || !self.world.map().has(at.id) {
                    continue;
                }
                if at.running.is_some() && self.random.random() {
                    let steps = self.world.steps_unsynced(node);
                    let kept = self.random.random_range(0..=steps);
                    self.world.crash(node, kept);
                }
                self.world.down(node);
            }
            self.tell(|_| "all stores in sync are lost".to_owned());
            return true;
        }
        let (first, begins_empty) = (self.node(), self.random.random());
        let is_begun = self.world.begin_anew(first, begins_empty);
        if is_begun {
            self.left.lives -= 1;
            self.left.owners += 1;
            self.left.wants += 2;
            self.left.records += 2;
            self.tell(|_| format!("begun anew in {first}, empty: {begins_empty}"));
        }
        is_begun
    }

    fn fault(&mut self) {
        if self.begin_anew() {
            return;
        }
        let mut node = self.owner();
        if self.isolates {
            match self.alone {
                None if self.random.random_ratio(1, 2) => {
                    self.alone = Some(node);
                    return self.tell(|_| format!("{node} is alone"));
                }
                Some(alone) if self.random.random_ratio(1, 8) => {
                    self.alone = None;
                    return self.tell(|_| format!("{alone} is back"));
                }
                Some(alone) if self.random.random() => node = alone,
                _ => {}
            }
        }
        match self.random.random_range(0..4) {
            0 if self.left.crashes > 0 && self.world.nodes[node].running.is_some() => {
                self.left.crashes -= 1;
                let steps = self.world.steps_unsynced(node);
                let kept = self.random.random_range(0..=steps);
                self.tell(|_| format!("{node} crashes, {kept} of {steps} steps are on the disk"));
                self.world.crash(node, kept);
            }
            1 => {
                let at = &self.world.nodes[node];
                if !at.is_down && (at.running.is_none() || self.left.downs > 0) {
                    self.left.downs -= u32::from(at.running.is_some());
                    self.tell(|_| format!("{node} is Down"));
                    self.world.down(node);
                }
            }
            2 => {
                if self.world.nodes[node].is_down {
                    let change = self.world.set_change(node);
                    self.tell(|_| format!("the leader drops {node}"));
                    self.world.propose(Proposal::LeaderDrops(change));
                }
            }
            // An owner drops whatever it has a reason to: another reason than time.
            _ => {
                let by = self.owner();
                let seen = self.world.nodes[by].running.as_ref().map(|it| it.seen);
                if let Some(seen) = seen
                    && by != node
                {
                    let map = &self.world.maps[seen];
                    let change = SetChange {
                        epoch: map.stored.home.epoch,
                        set_version: map.set_version(),
                        store: self.world.nodes[node].id,
                    };
                    let (home, by) = (map.stored.home, &self.world.nodes[by]);
                    if home.owner == Some(by.member) {
                        let proposal = Proposal::Set(CopyProposal::Drop(change), by.id);
                        self.tell(|_| format!("proposed: {proposal:?}"));
                        self.world.propose(proposal);
                    }
                }
            }
        }
    }

    /// Faults stop. After a bounded number of rounds a new record has left.
    fn goes_on(&mut self) {
        self.tell(|_| "all faults stop".to_owned());
        let let_out = self.world.let_out.len();
        for round in 0..40 {
            for node in 0..self.world.nodes.len() {
                let at = &mut self.world.nodes[node];
                if at.running.is_none() || at.is_down {
                    if at.running.is_some() {
                        self.world.end(node);
                    }
                    self.world.restart(node);
                }
            }
            if self.world.map().in_sync().len() < self.world.plan.copies_min {
                // A life begins with one copy.
                for node in 0..self.world.nodes.len() {
                    self.world.want(node);
                }
            }
            self.world.calm();
            for proposal in std::mem::take(&mut self.world.proposals) {
                self.world.apply(proposal);
            }
            let owner = self.world.map().stored.home.owner;
            let mut nodes = 0..self.world.nodes.len();
            match nodes.find(|node| Some(self.world.nodes[*node].member) == owner) {
                Some(owner) => {
                    self.world.hand_over(owner);
                    self.world.append(owner);
                    self.world.wait_until_due(owner);
                }
                None => {
                    for node in 0..self.world.nodes.len() {
                        self.world.propose_owner(node);
                    }
                }
            }
            self.world.calm();
            if self.world.let_out.len() > let_out && round > 2 || self.world.broken.is_some() {
                return;
            }
        }
        self.world.broken = Some("it does not go on without faults");
    }
}
