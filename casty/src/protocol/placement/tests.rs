//! What the leader makes of a map, step by step and in random walks.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::{
    infra::{mutants, seeds::seeds},
    protocol::{
        allocation,
        copies::StoreId,
        map::tests::{
            address,
            copies::{founded_with, join_with, kept},
            member,
        },
        membership::leaving::has_handed_over,
    },
};

const KIND: &str = "Account";

/// A cluster with a leader, and owners that copy at once what is wanted.
struct Cluster {
    map: ClusterMap,
    catalog: Vec<crate::id::CatalogEntry>,
    last_store: u128,
    last_incarnation: u64,
    /// The zones and hosts of nodes by their names. The others are in no zone, and each has a host
    /// of its own.
    sites: BTreeMap<String, (Option<&'static str>, u8)>,
}

/// The host of a node whose name is a letter, or a letter and a number.
fn host_of(name: &str) -> IpAddr {
    let (letter, number) = name.split_at(1);
    let [high, low] = number.parse::<u16>().unwrap_or_default().to_be_bytes();
    IpAddr::from([10, letter.as_bytes()[0], high, low])
}

impl Cluster {
    /// `a` with store 1.
    fn new(shards: u32, copies: u8, copies_min: u8) -> Self {
        let catalog = kept(shards, copies, copies_min);
        Self {
            map: founded_with(&catalog),
            catalog,
            last_store: 1,
            last_incarnation: 1,
            sites: BTreeMap::new(),
        }
    }

    /// The same with nodes of these names, in these zones and on these hosts.
    fn at(shards: u32, copies: u8, sites: &[(&str, Option<&'static str>, u8)]) -> Self {
        let mut cluster = Self::new(shards, copies, 1);
        for (name, zone, host) in sites {
            cluster.sites.insert((*name).to_owned(), (*zone, *host));
            assert!(cluster.start(name, None));
        }
        cluster
    }

    /// `a`, `b` and so on.
    fn of(nodes: usize, shards: u32, copies: u8) -> Self {
        let mut cluster = Self::new(shards, copies, 2);
        for name in ["b", "c", "d", "e", "f"].iter().take(nodes - 1) {
            cluster.start(name, None);
        }
        cluster
    }

    fn apply(&mut self, command: &Command) -> bool {
        self.map.apply(command).is_ok()
    }

    /// A process with an old store or a new one.
    fn start(&mut self, name: &str, store: Option<u128>) -> bool {
        let store = store.unwrap_or_else(|| {
            self.last_store += 1;
            self.last_store
        });
        self.last_incarnation += 1;
        let id = member(name, self.last_incarnation);
        let mut join = join_with(&id, store, self.catalog.clone());
        if let Command::Join { address, zone, .. } = &mut join {
            address.set_ip(host_of(name));
            if let Some((named, host)) = self.sites.get(name) {
                *zone = named.map(str::to_owned);
                address.set_ip([10, 0, 0, *host].into());
            }
        }
        self.apply(&join) && self.apply(&Command::Up { member: id })
    }

    /// The last process of a node.
    fn process(&self, name: &str) -> MemberId {
        let mut members = self.map.members.keys();
        let last = members.rfind(|id| id.node.as_str() == name);
        last.expect("a process").clone()
    }

    fn down(&mut self, name: &str) {
        let member = self.process(name);
        assert!(self.apply(&Command::Down { member }));
    }

    fn use_all(&mut self) {
        let shards = self.map.copies[KIND].shards.len();
        let shards: Vec<ShardId> = (0..).map(ShardId).take(shards).collect();
        let assignments = allocation::allocate(&self.map, KIND, &shards);
        if !assignments.is_empty() {
            self.apply(&Command::Assign { assignments });
        }
    }

    /// What the leader proposes now.
    fn lead(&self, room: usize) -> Vec<Command> {
        let mut commands = Vec::new();
        let is_down = |slot| {
            let owner = self.map.by_slot(slot);
            owner.is_none_or(|(_, member)| member.is_gone())
        };
        let assignments = allocation::take_over(&self.map, is_down);
        let plan = plan(&self.map);
        if assignments.is_empty() {
            let mut moves = allocation::rebalance(&self.map, room, |_, _, _| true);
            moves.extend(plan.moves);
            moves.truncate(room);
            if !moves.is_empty() {
                commands.push(Command::Revoke { moves });
            }
        } else {
            commands.push(Command::Assign { assignments });
        }
        commands.extend(plan.commands);
        commands
    }

    /// What the owner of a shard does: it gives the shard up if that is to move, and else adds the
    /// store that is wanted.
    fn own(&self, shard: ShardId) -> Option<Command> {
        let home = self.map.kinds[KIND][shard.index()];
        let places = self.map.copies[KIND].shards[shard.index()];
        let (owner, member) = self.map.by_slot(home.owner?)?;
        if member.is_gone() {
            return None;
        }
        if home.moving.is_some() {
            return Some(Command::Release {
                member: owner.clone(),
                kind: KIND.into(),
                shards: vec![(shard, home.epoch)],
            });
        }
        let wanted = places
            .wanted
            .filter(|store| self.map.process_in(*store).is_some())?;
        let add = CopyProposal::Add(self.change(shard, self.id(wanted)));
        Command::of_proposals(owner, [(KIND, shard, add)]).pop()
    }

    fn change(&self, shard: ShardId, store: StoreId) -> SetChange {
        SetChange {
            epoch: self.map.kinds[KIND][shard.index()].epoch,
            set_version: self.map.copies[KIND].shards[shard.index()]
                .in_sync
                .version(),
            store,
        }
    }

    fn id(&self, store: StoreNo) -> StoreId {
        self.map.stores[&store].id
    }

    fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let shards = self.map.copies[KIND].shards.len();
        (0..).map(ShardId).take(shards)
    }

    /// One round of the leader, of the owners and of those that leave. `false` if nothing happened.
    fn round(&mut self) -> bool {
        let mut is_busy = false;
        for command in self.lead(16) {
            is_busy |= self.apply(&command);
        }
        for shard in self.shards() {
            if let Some(command) = self.own(shard) {
                is_busy |= self.apply(&command);
            }
        }
        let leaving: Vec<MemberId> = self
            .map
            .members
            .iter()
            .filter(|(id, member)| {
                member.status == Status::Leaving && has_handed_over(&self.map, id)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for member in leaving {
            is_busy |= self.apply(&Command::Remove { member });
        }
        is_busy
    }

    fn settle(&mut self) -> usize {
        for round in 0..2000 {
            if !self.round() {
                return round;
            }
        }
        panic!("it does not come to rest: {:?}", self.lead(16));
    }

    /// Nodes by the copies that they have.
    fn copies(&self) -> BTreeMap<&str, usize> {
        let mut copies = BTreeMap::new();
        for places in self.map.copies[KIND].shards.iter() {
            for store in places.in_sync.stores() {
                let node = self.map.stores[&store].holder.node.as_str();
                *copies.entry(node).or_default() += 1;
            }
        }
        copies
    }

    fn nodes(&self, shard: u32) -> Vec<&str> {
        let stores = self.map.copies[KIND].shards[shard as usize]
            .in_sync
            .stores();
        let node = |store| self.map.stores[&store].holder.node.as_str();
        stores.map(node).collect()
    }

    /// The zone and the host of a store.
    fn site(&self, store: StoreNo) -> (Option<&str>, IpAddr) {
        let holder = &self.map.stores[&store].holder;
        let member = self.map.member(holder).expect("a member");
        (member.zone.as_deref(), member.address.ip())
    }

    /// The pairs of stores that share a zone, and those that share a host.
    fn pairs(&self, stores: &[StoreNo]) -> (usize, usize) {
        let mut pairs = (0, 0);
        for (at, one) in stores.iter().enumerate() {
            for other in &stores[..at] {
                let ((zone, host), (other_zone, other_host)) = (self.site(*one), self.site(*other));
                pairs.0 += usize::from(zone == other_zone);
                pairs.1 += usize::from(host == other_host);
            }
        }
        pairs
    }

    /// The copies of a shard are in as many zones, and then on as many hosts, as there are. No copy
    /// can go to a store with many fewer that is not worse in this.
    fn check_spread(&self, takes: &BTreeSet<StoreNo>, loads: &BTreeMap<StoreNo, usize>) {
        let shards = self.map.copies[KIND].shards.iter();
        for places in shards.filter(|places| !places.in_sync.is_empty()) {
            let stores: Vec<StoreNo> = places.in_sync.stores().collect();
            let zones: BTreeSet<_> = stores.iter().map(|store| self.site(*store).0).collect();
            let all: BTreeSet<_> = takes.iter().map(|store| self.site(*store).0).collect();
            assert!(
                zones.len() == stores.len() || zones == all,
                "two copies in one zone, and another has none: {stores:?}"
            );
            let pairs = self.pairs(&stores);
            for (at, from) in stores.iter().enumerate() {
                for to in takes.iter().filter(|to| !stores.contains(to)) {
                    let mut others = stores.clone();
                    others[at] = *to;
                    let moved = self.pairs(&others);
                    assert!(moved >= pairs, "{from:?} of {stores:?} should be in {to:?}");
                    let (low, high) = (loads[to], loads[from]);
                    assert!(
                        moved > pairs || high <= low + slack(high + low),
                        "{from:?} of {stores:?} should be in {to:?}: {loads:?}"
                    );
                }
            }
        }
    }

    /// Each shard has its copies and an owner among them, and they are spread evenly.
    fn check_rest(&self) {
        let copies = &self.map.copies[KIND];
        let stores = Stores::of(&self.map);
        let takes = stores.of_kind(&self.map, KIND).takes;
        let goal = copies.settings.most().min(takes.len());
        let mut loads: BTreeMap<StoreNo, usize> = takes.iter().map(|store| (*store, 0)).collect();
        let mut owners = loads.clone();
        for (home, places) in self.map.kinds[KIND].iter().zip(copies.shards.iter()) {
            if places.in_sync.is_empty() {
                continue;
            }
            let waits_for = || {
                places
                    .in_sync
                    .stores()
                    .map(|store| &self.map.stores[&store])
            };
            let owner = home
                .owner
                .filter(|owner| stores.by_slot.contains_key(owner));
            let Some(owner) = owner else {
                panic!("no owner: {home:?}, {:?}", waits_for().collect::<Vec<_>>());
            };
            let own = stores.by_slot[&owner];
            assert!(places.in_sync.has(own), "the owner's store is in sync");
            assert_eq!((home.moving, places.wanted), (None, None));
            assert_eq!(places.in_sync.count(), goal, "of {} nodes", takes.len());
            *owners.get_mut(&own).expect("it is Up") += 1;
            for store in places.in_sync.stores() {
                *loads.get_mut(&store).expect("it is Up") += 1;
            }
        }
        self.check_spread(&takes, &loads);
        if !self.sites.is_empty() {
            // Stores that are alone in their zone have more copies than others.
            return;
        }
        for (of, loads, factor) in [("copies", loads, 1), ("owners", owners, 2)] {
            let (low, high) = (loads.values().min(), loads.values().max());
            let (low, high) = (low.expect("a store"), high.expect("a store"));
            assert!(high - low <= factor * slack(high + low), "{of}: {loads:?}");
        }
    }
}

#[test]
fn the_first_copies_are_the_owners_and_the_least_loaded_on_other_hosts() {
    let mut cluster = Cluster::of(4, 8, 3);
    cluster.use_all();
    cluster.check_rest();
    // `b` and `z` have one host.
    let mut shared = Cluster::new(4, 2, 2);
    for (name, host) in [("b", 1), ("c", 2)] {
        let id = member(name, 1);
        let mut join = join_with(&id, if host == 1 { 2 } else { 3 }, shared.catalog.clone());
        if let Command::Join { address: at, .. } = &mut join {
            *at = address(7);
            if host == 2 {
                at.set_ip([10, 0, 0, 2].into());
            }
        }
        assert!(shared.apply(&join) && shared.apply(&Command::Up { member: id }));
    }
    shared.use_all();
    for shard in 0..4 {
        let nodes = shared.nodes(shard);
        assert!(nodes.contains(&"c"), "{nodes:?} are on one host");
    }
}

#[test]
fn the_first_copies_are_in_as_many_zones_as_there_are() {
    let (x, y) = (Some("x"), Some("y"));
    let sites = [("b", x, 1), ("c", x, 2), ("d", x, 3), ("e", y, 4)];
    let mut cluster = Cluster::at(12, 3, &sites);
    cluster.use_all();
    for shard in 0..12 {
        let nodes = cluster.nodes(shard);
        // `a` is in no zone, which counts as one.
        assert!(nodes.contains(&"a") && nodes.contains(&"e"), "{nodes:?}");
    }
    cluster.settle();
    cluster.check_rest();
}

#[test]
fn copies_in_one_zone_move_apart_when_another_comes() {
    let (x, y) = (Some("x"), Some("y"));
    let mut cluster = Cluster::at(40, 2, &[("b", x, 1), ("c", x, 2)]);
    cluster.down("a");
    cluster.use_all();
    cluster.settle();
    assert_eq!(cluster.copies(), [("b", 40), ("c", 40)].into());
    cluster.sites.insert("d".to_owned(), (y, 3));
    cluster.start("d", None);
    cluster.settle();
    cluster.check_rest();
    assert_eq!(cluster.copies()["d"], 40, "one of each");
    // It restarts: its copies stay, and the others where they are.
    let before = cluster.copies().into_values().collect::<Vec<_>>();
    let store = cluster
        .map
        .store_of(&cluster.process("d"))
        .expect("a store");
    cluster.start("d", Some(store.0.as_u128()));
    cluster.settle();
    assert!(cluster.copies().into_values().eq(before));
    // It dies, and is alone in its zone: one zone has all there is until it is back.
    cluster.down("d");
    cluster.settle();
    assert_eq!(cluster.copies(), [("b", 40), ("c", 40)].into());
    cluster.start("d", Some(store.0.as_u128()));
    cluster.settle();
    cluster.check_rest();
}

#[test]
fn copies_on_one_host_move_apart_when_another_comes() {
    let mut cluster = Cluster::at(40, 2, &[("b", None, 1), ("c", None, 1)]);
    cluster.down("a");
    cluster.use_all();
    cluster.settle();
    assert_eq!(cluster.copies(), [("b", 40), ("c", 40)].into());
    cluster.sites.insert("d".to_owned(), (None, 2));
    cluster.start("d", None);
    cluster.settle();
    cluster.check_rest();
    assert_eq!(cluster.copies()["d"], 40, "one of each");
}

#[test]
fn a_node_that_joins_gets_copies_and_then_shards() {
    let mut cluster = Cluster::new(60, 3, 2);
    cluster.use_all();
    assert_eq!(cluster.copies(), [("a", 60)].into());
    for (nodes, name) in (2..).zip(["b", "c", "d", "e"]) {
        cluster.start(name, None);
        cluster.settle();
        cluster.check_rest();
        let min = if nodes <= 2 { 1 } else { 2 };
        assert_eq!(cluster.map.copies[KIND].min, min, "of {nodes} nodes");
    }
}

#[test]
fn one_copy_moves_with_its_owner() {
    let mut cluster = Cluster::new(40, 1, 1);
    cluster.use_all();
    cluster.start("b", None);
    cluster.start("c", None);
    cluster.settle();
    cluster.check_rest();
}

#[test]
fn only_so_many_shards_are_copied_at_a_time() {
    let mut cluster = Cluster::new(500, 3, 2);
    cluster.use_all();
    cluster.start("b", None);
    let wants = |cluster: &Cluster| {
        let wants = cluster.lead(16).into_iter().map(|command| match command {
            Command::Want { wants } => wants.len(),
            _ => 0,
        });
        wants.sum::<usize>()
    };
    assert_eq!(wants(&cluster), COPYING_MAX);
    for command in cluster.lead(16) {
        cluster.apply(&command);
    }
    assert_eq!(wants(&cluster), 0, "these come first");
    assert!(cluster.settle() >= 500 / COPYING_MAX);
}

#[test]
fn a_dead_node_is_replaced_and_evened_out_when_it_is_back() {
    let mut cluster = Cluster::of(4, 40, 3);
    cluster.use_all();
    cluster.settle();
    cluster.down("b");
    cluster.settle();
    cluster.check_rest();
    assert!(!cluster.copies().contains_key("b"));
    cluster.start("b", Some(2));
    cluster.settle();
    cluster.check_rest();
    assert!(cluster.copies()["b"] > 20);
}

#[test]
fn a_shard_without_a_store_that_is_there_waits_for_any_of_them() {
    let mut cluster = Cluster::of(5, 10, 2);
    cluster.use_all();
    cluster.settle();
    let nodes: Vec<String> = cluster.nodes(0).iter().map(ToString::to_string).collect();
    for name in &nodes {
        cluster.down(name);
    }
    cluster.settle();
    assert_eq!(cluster.map.owner(KIND, ShardId(0)), None);
    assert_eq!(cluster.nodes(0), nodes, "none of them is dropped");
    let store = cluster.map.copies[KIND].shards[0].in_sync.stores().nth(1);
    let number = cluster.id(store.expect("two")).0.as_u128();
    cluster.start(&nodes[1], Some(number));
    cluster.settle();
    cluster.check_rest();
    let owner = cluster.map.owner(KIND, ShardId(0)).expect("an owner");
    assert!(cluster.nodes(0).contains(&owner.node.as_str()));
}

#[test]
fn a_leaving_node_goes_once_its_copies_are_elsewhere() {
    let mut cluster = Cluster::of(4, 40, 3);
    cluster.use_all();
    cluster.settle();
    for (left, name) in [(3, "d"), (2, "b"), (1, "c")] {
        let member = cluster.process(name);
        cluster.apply(&Command::Leave {
            member: member.clone(),
        });
        assert!(!has_handed_over(&cluster.map, &member));
        cluster.settle();
        assert_eq!(cluster.map.member(&member), None, "it has left");
        assert!(
            cluster.map.copies[KIND]
                .shards
                .iter()
                .all(|places| places.in_sync.count() == left.min(3))
        );
        cluster.check_rest();
    }
    assert_eq!(cluster.map.copies[KIND].min, 1);
}

#[test]
fn nodes_that_all_leave_at_once_keep_their_copies() {
    let mut cluster = Cluster::of(3, 10, 3);
    cluster.use_all();
    cluster.settle();
    for name in ["a", "b", "c"] {
        let member = cluster.process(name);
        cluster.apply(&Command::Leave { member });
    }
    assert_eq!(cluster.lead(16), []);
    assert_eq!(cluster.map.copies[KIND].min, 2);
}

#[test]
fn a_wanted_store_whose_process_dies_is_exchanged_for_another() {
    let mut cluster = Cluster::of(2, 1, 2);
    cluster.use_all();
    cluster.settle();
    cluster.start("c", None);
    cluster.start("d", None);
    cluster.down("b");
    let wanted = |cluster: &Cluster| {
        let wanted = cluster.map.copies[KIND].shards[0].wanted;
        wanted.map(|store| cluster.map.stores[&store].holder.node.to_string())
    };
    let lead = |cluster: &mut Cluster| {
        for command in cluster.lead(16) {
            cluster.apply(&command);
        }
        wanted(cluster)
    };
    let first = lead(&mut cluster).expect("a store");
    cluster.down(&first);
    let mut second = lead(&mut cluster);
    if second.is_none() {
        second = lead(&mut cluster);
    }
    assert!(second.is_some_and(|second| second != first));
}

// ---- Walks.

struct Walk {
    cluster: Cluster,
    random: StdRng,
    /// Commands that are not decided.
    pending: Vec<Command>,
    /// Stores without a process.
    attic: Vec<(String, u128)>,
    last_name: u32,
    /// Whether nodes are in zones, and share hosts.
    is_crowded: bool,
    steps: Vec<String>,
}

/// What a command may do to a shard.
fn check_step(before: &ClusterMap, after: &ClusterMap, command: &Command) {
    let homes = before.kinds[KIND].iter().zip(after.kinds[KIND].iter());
    let (old, new) = (&before.copies[KIND], &after.copies[KIND]);
    let places = old.shards.iter().zip(new.shards.iter());
    let owner_of = |map: &ClusterMap, home: &ShardHome| {
        let owner = home.owner.and_then(|owner| map.by_slot(owner));
        owner
            .filter(|(_, member)| !member.is_gone())
            .map(|(id, _)| id.clone())
    };
    for ((was, is), (had, has)) in homes.zip(places) {
        let (old_set, new_set) = (had.in_sync, has.in_sync);
        assert!(is.epoch >= was.epoch);
        assert!(
            old_set.is_empty() || !new_set.is_empty(),
            "a set is empty: {command:?}"
        );
        if old_set.stores().ne(new_set.stores()) && !old_set.is_empty() {
            assert!(new_set.version() > old_set.version());
            let gone = old_set
                .stores()
                .filter(|store| !new_set.has(*store))
                .count();
            let come = new_set
                .stores()
                .filter(|store| !old_set.has(*store))
                .count();
            assert_eq!(gone + come, 1, "one at a time: {command:?}");
            let by_leader = matches!(
                command,
                Command::DropStore { .. } | Command::Copies { by: None, .. }
            );
            let is_there = |store: &StoreNo| after.process_in(*store).is_some();
            let there = new_set.stores().filter(is_there).count();
            assert!(
                !by_leader || there >= usize::from(old.min.max(1)),
                "of no use to anybody: {command:?}"
            );
            assert!(
                gone == 0 || new_set.count() >= usize::from(old.min),
                "below the floor"
            );
        }
        if is.owner != was.owner && is.owner.is_some() {
            assert!(is.epoch > was.epoch);
        }
        if let Some(owner) = owner_of(after, is) {
            let store = after.store_no(&owner).expect("a store");
            assert!(
                new_set.has(store),
                "the owner's store is not in sync: {command:?}"
            );
        }
    }
    if new.min > old.min {
        let is_enough = |places: &CopyPlaces| {
            places.in_sync.is_empty() || places.in_sync.count() >= usize::from(new.min)
        };
        assert!(new.shards.iter().all(is_enough));
    }
    let ids: BTreeSet<StoreId> = after.stores.values().map(|place| place.id).collect();
    assert_eq!(ids.len(), after.stores.len());
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let copies = random.random_range(1..=4);
        let shards = random.random_range(1..=40);
        let min = random.random_range(1..=copies);
        Self {
            cluster: Cluster::new(shards, copies, min),
            random,
            pending: Vec::new(),
            attic: Vec::new(),
            last_name: 0,
            is_crowded: false,
            steps: Vec::new(),
        }
    }

    /// The same with nodes in zones and on hosts. A host may even have nodes of several zones.
    fn crowded(seed: u64) -> Self {
        Self {
            is_crowded: true,
            ..Self::new(seed)
        }
    }

    fn apply(&mut self, command: &Command) {
        let before = self.cluster.map.clone();
        let is_applied = self.cluster.apply(command);
        self.steps.push(format!("{is_applied} {command:?}"));
        if is_applied {
            check_step(&before, &self.cluster.map, command);
        } else {
            assert_eq!(self.cluster.map, before);
        }
    }

    fn present(&self) -> Vec<MemberId> {
        self.cluster
            .map
            .present()
            .map(|(id, _)| id.clone())
            .collect()
    }

    fn new_name(&mut self) -> String {
        self.last_name += 1;
        let name = format!("n{}", self.last_name);
        if self.is_crowded {
            let zones = [None, Some("x"), Some("y"), Some("z")];
            let zone = *zones.choose(&mut self.random).expect("a zone");
            let host = self.random.random_range(1..=5);
            self.steps.push(format!("{name} is in {zone:?} on {host}"));
            self.cluster.sites.insert(name.clone(), (zone, host));
        }
        name
    }

    /// A process ends, and its store has none.
    fn lose(&mut self, id: &MemberId) {
        if let Some(store) = self.cluster.map.store_of(id) {
            self.attic.push((id.node.to_string(), store.0.as_u128()));
        }
    }

    fn fault(&mut self) {
        let present = self.present();
        let some = present.choose(&mut self.random).cloned();
        match (self.random.random_range(0..6), some) {
            (0, _) if present.len() < 7 => {
                let name = self.new_name();
                self.cluster.start(&name, None);
                self.steps.push(format!("{name} joins"));
            }
            (1, Some(id)) if present.len() > 1 => {
                self.lose(&id);
                self.apply(&Command::Down { member: id });
            }
            (2, Some(member)) if present.len() > 2 => self.apply(&Command::Leave { member }),
            // A store is back, on its node or on another.
            (3, _) if !self.attic.is_empty() => {
                let at = self.random.random_range(0..self.attic.len());
                let (mut name, store) = self.attic.swap_remove(at);
                let is_taken = present.iter().any(|id| id.node.as_str() == name);
                if is_taken || self.random.random_range(0..4) == 0 {
                    name = self.new_name();
                }
                self.steps.push(format!("{name} is back with {store}"));
                assert!(self.cluster.start(&name, Some(store)));
            }
            // Its node begins anew with an empty directory.
            (4, Some(id)) if self.random.random_range(0..3) == 0 => {
                self.lose(&id);
                self.steps
                    .push(format!("{} has an empty directory", id.node));
                assert!(self.cluster.start(id.node.as_str(), None));
            }
            // Its directory is copied.
            (4, Some(id)) if present.len() > 1 => {
                let store = self.cluster.map.store_of(&id).expect("a store");
                let started = self.cluster.start("copy", Some(store.0.as_u128()));
                assert!(!started, "a store is in two places");
            }
            // It restarts.
            (5, Some(id)) => {
                let store = self.cluster.map.store_of(&id).expect("a store");
                self.steps.push(format!("{} restarts", id.node));
                let store = store.0.as_u128();
                assert!(self.cluster.start(id.node.as_str(), Some(store)));
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        let shards: Vec<ShardId> = self.cluster.shards().collect();
        let shard = *shards.choose(&mut self.random).expect("a shard");
        match self.random.random_range(0..40) {
            0 | 1 => self.fault(),
            2 | 3 => {
                let assignments = allocation::allocate(&self.cluster.map, KIND, &[shard]);
                if !assignments.is_empty() {
                    self.pending.push(Command::Assign { assignments });
                }
            }
            4..=9 => self.pending.extend(self.cluster.lead(4)),
            10..=22 => self.pending.extend(self.cluster.own(shard)),
            // An owner finds a copy too slow, or gives a move up.
            23 | 24 => {
                let home = self.cluster.map.kinds[KIND][shard.index()];
                let owner = home.owner.and_then(|owner| self.cluster.map.by_slot(owner));
                let owner = owner.map(|(id, _)| id.clone());
                let known: Vec<StoreNo> = self.cluster.map.stores.keys().copied().collect();
                let store = known.choose(&mut self.random).copied();
                let (Some(owner), Some(store)) = (owner, store) else {
                    return;
                };
                if self.random.random() {
                    let change = self.cluster.change(shard, self.cluster.id(store));
                    let proposals = [(KIND, shard, CopyProposal::Drop(change))];
                    self.pending
                        .extend(Command::of_proposals(&owner, proposals));
                } else {
                    self.pending.push(Command::Keep {
                        member: owner,
                        kind: KIND.into(),
                        shards: vec![(shard, home.epoch)],
                    });
                }
            }
            25 => {
                let gone = self.cluster.map.members.iter();
                let gone: Vec<MemberId> = gone
                    .filter(|(_, member)| matches!(member.status, Status::Leaving | Status::Down))
                    .map(|(id, _)| id.clone())
                    .collect();
                if let Some(member) = gone.choose(&mut self.random).cloned() {
                    let was_there = self.cluster.map.is_present(&member);
                    let store = self.cluster.map.store_of(&member);
                    self.apply(&Command::Remove {
                        member: member.clone(),
                    });
                    if was_there
                        && self.cluster.map.member(&member).is_none()
                        && let Some(store) = store
                    {
                        self.attic
                            .push((member.node.to_string(), store.0.as_u128()));
                    }
                }
            }
            _ => {
                if !self.pending.is_empty() {
                    let at = self.random.random_range(0..self.pending.len());
                    // It may be doubled, and come late.
                    let command = if self.random.random_range(0..5) == 0 {
                        self.pending[at].clone()
                    } else {
                        self.pending.swap_remove(at)
                    };
                    self.apply(&command);
                }
            }
        }
    }

    /// Faults stop, and all stores are there.
    fn rest(&mut self) {
        for (_, store) in std::mem::take(&mut self.attic) {
            let name = self.new_name();
            self.cluster.start(&name, Some(store));
        }
        self.cluster.settle();
        // A node that leaves and has the only copy of a shard which it has released is of use again
        // once it has restarted.
        let leaving = self.cluster.map.present();
        let leaving: Vec<MemberId> = leaving
            .filter(|(_, member)| member.status == Status::Leaving)
            .map(|(id, _)| id.clone())
            .collect();
        for id in leaving {
            let store = self.cluster.map.store_of(&id).expect("a store");
            let store = store.0.as_u128();
            assert!(self.cluster.start(id.node.as_str(), Some(store)));
        }
        self.cluster.settle();
        self.cluster.check_rest();
    }
}

#[test]
fn copies_survive_any_walk_and_are_even_once_it_is_quiet() {
    walk_all(Walk::new);
}

#[test]
fn copies_survive_any_walk_through_zones_and_are_apart_once_it_is_quiet() {
    walk_all(Walk::crowded);
}

fn walk_all(begin: fn(u64) -> Walk) {
    for seed in seeds(0..300) {
        let mut walk = begin(seed);
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..600 {
                walk.step();
            }
            walk.rest();
        }));
        if let Err(panic) = walked {
            let last = walk.steps.len().saturating_sub(60);
            println!(
                "{}\nCASTY_STORM_SEEDS={seed}",
                walk.steps[last..].join("\n")
            );
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn walks_through_zones_find_copies_that_do_not_move_apart() {
    let is_found = (0..100).any(|seed| {
        let walked = mutants::breaking("copies_stay_in_one_zone", || {
            std::panic::catch_unwind(|| {
                let mut walk = Walk::crowded(seed);
                for _ in 0..600 {
                    walk.step();
                }
                walk.rest();
            })
        });
        walked.is_err()
    });
    assert!(is_found, "the rule can be broken unnoticed");
}

/// The rules that are seen in the map alone. The others are seen in what is lost: see the walks of
/// `copies`.
#[test]
fn walks_find_each_rule_of_the_map_that_is_broken() {
    const RULES: &[&str] = &[
        "assignments_are_checked_when_proposed",
        "owners_come_from_outside",
        "a_release_goes_outside",
        "drops_go_on_down_to_one",
        "epochs_are_given_twice",
        "a_store_is_in_two_places",
        "the_last_copies_are_dropped",
    ];
    for rule in RULES {
        let is_found = (0..400).any(|seed| {
            let walked = mutants::breaking(rule, || {
                std::panic::catch_unwind(|| {
                    let mut walk = Walk::new(seed);
                    for _ in 0..600 {
                        walk.step();
                    }
                })
            });
            walked.is_err()
        });
        assert!(is_found, "{rule} can be broken unnoticed");
    }
}
