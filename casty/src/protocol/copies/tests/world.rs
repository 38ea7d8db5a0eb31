//! A small world: stores with what is synced and what is not, processes that crash, messages that
//! are lost, doubled, reordered and late, and a map that each process sees late.
//!
//! Each step checks what must always hold. What was let out is known to the world alone.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU16,
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::disk::{Disk, Entry};
use crate::{
    id::Epoch,
    infra::mutants,
    protocol::{
        copies::*,
        home::{ShardHome, Slot},
    },
};

pub(super) const RESEND_AFTER: Duration = Duration::from_secs(1);
pub(super) const DROP_AFTER: Duration = Duration::from_secs(3);

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    /// So many of them are in sync at first.
    pub(super) in_sync: usize,
    pub(super) copies_min: usize,
    /// How many bytes may be on the way to a copy, and in an append of one that catches up.
    pub(super) in_flight_bytes: usize,
    /// Judge by what is visible from outside only.
    pub(super) is_external: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nodes: 3,
            in_sync: 3,
            copies_min: 2,
            in_flight_bytes: 1000,
            is_external: true,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Parcel {
    Message(CopyMessage),
    /// A snapshot, and all that it stands for.
    Snapshot {
        epoch: Epoch,
        last: LogPoint,
        content: Vec<Entry>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The store that it is for: its directory may have been replaced by another.
    store: StoreId,
    pub(super) parcel: Parcel,
}

impl Envelope {
    pub(super) fn is_confirmation(&self) -> bool {
        matches!(self.parcel, Parcel::Message(CopyMessage::Confirm { .. }))
    }
}

/// A command of the map that is not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proposal {
    /// By the owner, whose store this is.
    Set(CopyProposal, StoreId),
    LeaderDrops(SetChange),
    Assign {
        expected: Epoch,
        to: Slot,
    },
    Release {
        by: Slot,
        expected: Epoch,
    },
    Keep {
        by: Slot,
        expected: Epoch,
    },
    /// By an operator.
    BeginAnew {
        epoch: Epoch,
        set_version: u64,
        first: StoreId,
        begins_empty: bool,
    },
}

/// What the map says of the shard.
#[derive(Clone, Debug)]
pub(super) struct MapState {
    pub(super) stored: StoredHome,
    pub(super) wanted: BTreeSet<StoreId>,
}

impl MapState {
    pub(super) fn in_sync(&self) -> BTreeSet<StoreId> {
        let id = |store: StoreNo| store_id(store.0.get().into());
        self.stored.copies.in_sync.stores().map(id).collect()
    }

    pub(super) fn has(&self, store: StoreId) -> bool {
        self.stored.copies.in_sync.has(number(store))
    }

    pub(super) fn set_version(&self) -> u64 {
        self.stored.copies.in_sync.version()
    }
}

pub(super) struct Running {
    pub(super) slot: Slot,
    pub(super) machine: ShardCopy,
    /// The version of the map that it has seen.
    pub(super) seen: usize,
    pub(super) lease: bool,
    pub(super) now: Instant,
    reads: VecDeque<(StoreId, Epoch, u64)>,
}

/// A write that is not synced.
struct Unsynced {
    write: CopyWrite,
    /// What an installed snapshot stands for.
    content: Vec<Entry>,
}

pub(super) struct Node {
    pub(super) id: StoreId,
    /// What is synced.
    pub(super) disk: Disk,
    /// What the process reads.
    pub(super) now: Disk,
    unsynced: VecDeque<Unsynced>,
    pub(super) running: Option<Running>,
    /// Its last process, as the map knows it, and whether that is Down.
    pub(super) member: Slot,
    pub(super) is_down: bool,
}

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) nodes: Vec<Node>,
    /// The versions of the map.
    pub(super) maps: Vec<MapState>,
    pub(super) soup: Vec<Envelope>,
    pub(super) proposals: Vec<Proposal>,
    pub(super) let_out: Vec<Entry>,
    pub(super) last_body: u32,
    pub(super) broken: Option<&'static str>,
    last_slot: u32,
    last_epoch: u64,
    last_store: u128,
    /// What the present life began with, once that is known. What the lives before had beyond it is
    /// never to be seen again.
    began_with: Option<Vec<Entry>>,
    /// The highest epoch whose takeover was complete, and the length of the log it began with.
    closed: (Epoch, u64),
    /// The records by epoch and position.
    names: BTreeMap<(Epoch, u64), u32>,
    starts: BTreeMap<Epoch, u64>,
}

fn store_id(number: u128) -> StoreId {
    StoreId(Uuid::from_u128(number))
}

/// The number of a store in the map.
pub(super) fn number(store: StoreId) -> StoreNo {
    let number = NonZeroU16::new(store.0.as_u128() as u16);
    StoreNo(number.expect("stores are numbered from 1"))
}

/// The first version of a map with these copies.
fn copies(stores: impl IntoIterator<Item = StoreId>) -> CopyPlaces {
    CopyPlaces {
        in_sync: InSync::first(stores.into_iter().map(number)),
        wanted: None,
        life: Life::default(),
    }
}

impl World {
    /// Node 0 has the shard, and its takeover is complete.
    pub(super) fn new(plan: Plan) -> Self {
        let stored = StoredHome {
            home: ShardHome {
                owner: Some(Slot(1)),
                epoch: Epoch(1),
                moving: None,
            },
            copies: copies((1..=plan.in_sync as u128).map(store_id)),
        };
        let wanted = BTreeSet::new();
        let mut world = Self {
            plan,
            nodes: Vec::new(),
            maps: vec![MapState { stored, wanted }],
            soup: Vec::new(),
            proposals: Vec::new(),
            let_out: Vec::new(),
            last_body: 0,
            broken: None,
            last_slot: 0,
            last_epoch: 1,
            last_store: plan.nodes as u128,
            began_with: Some(Vec::new()),
            closed: (Epoch::ZERO, 0),
            names: BTreeMap::new(),
            starts: BTreeMap::new(),
        };
        for number in 1..=plan.nodes as u128 {
            world.nodes.push(Node {
                id: store_id(number),
                disk: Disk::default(),
                now: Disk::default(),
                unsynced: VecDeque::new(),
                running: None,
                member: Slot(0),
                is_down: true,
            });
        }
        for node in 0..plan.nodes {
            world.restart(node);
        }
        world.nodes[0].running.as_mut().expect("it runs").lease = true;
        world.calm();
        assert!(world.machine(0).is_complete(), "it begins with an owner");
        world
    }

    pub(super) fn map(&self) -> &MapState {
        self.maps.last().expect("a map")
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.map().stored.home.epoch
    }

    pub(super) fn life(&self) -> Life {
        self.map().stored.copies.life
    }

    pub(super) fn running(&mut self, node: usize) -> &mut Running {
        self.nodes[node].running.as_mut().expect("it runs")
    }

    pub(super) fn machine(&mut self, node: usize) -> &mut ShardCopy {
        &mut self.running(node).machine
    }

    fn break_rule(&mut self, how: &'static str) {
        self.broken.get_or_insert(how);
    }

    fn node_of(&self, store: StoreId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == store)
    }
}

// ---- What a process does.

impl World {
    fn with(&mut self, node: usize, input: impl FnOnce(&mut ShardCopy, Instant)) {
        if let Some(running) = &mut self.nodes[node].running {
            input(&mut running.machine, running.now);
            self.carry_out(node);
        }
    }

    fn carry_out(&mut self, node: usize) {
        let running = self.nodes[node].running.as_mut().expect("it runs");
        let owns = running.machine.owns();
        for effect in running.machine.take_effects() {
            match effect {
                CopyEffect::Write(write) => self.write(node, write, Vec::new()),
                CopyEffect::Send { to, message } => {
                    self.send(node, to, Parcel::Message(message));
                }
                CopyEffect::Read {
                    to, epoch, after, ..
                } => self.running(node).reads.push_back((to, epoch, after)),
                CopyEffect::Ship {
                    to, epoch, at_most, ..
                } => {
                    let content = self.nodes[node].now.log[..at_most as usize].to_vec();
                    let last = self.nodes[node].now.point(at_most);
                    let parcel = Parcel::Snapshot {
                        epoch,
                        last,
                        content,
                    };
                    self.send(node, to, parcel);
                    self.with(node, |machine, now| machine.handle_shipped(to, epoch, now));
                }
                CopyEffect::Propose(proposal) => {
                    let by = self.nodes[node].id;
                    self.propose(Proposal::Set(proposal, by));
                }
                CopyEffect::MayLeave(position) => self.leaves(node, position),
                CopyEffect::Stop(..) => {}
                CopyEffect::Malformed(..) => {
                    self.break_rule("an append came that no owner may send");
                }
            }
        }
        let life = self.life();
        let owns_now = self.machine(node).owns();
        if owns_now.is_some_and(|epoch| epoch > life.after) && self.began_with.is_none() {
            if !self.map().has(self.nodes[node].id) {
                self.break_rule("a store that was given up has the first owner of a life");
            }
            self.began_with = Some(self.nodes[node].now.log.clone());
        }
        if let Some(epoch) = owns {
            let length = self.nodes[node].now.log.len() as u64;
            self.starts.entry(epoch).or_insert(length);
        }
        self.check();
    }

    pub(super) fn propose(&mut self, proposal: Proposal) {
        if !self.proposals.contains(&proposal) {
            self.proposals.push(proposal);
        }
    }

    fn send(&mut self, from: usize, store: StoreId, parcel: Parcel) {
        if let Some(to) = self.node_of(store) {
            self.soup.push(Envelope {
                from,
                to,
                store,
                parcel,
            });
        }
    }

    fn write(&mut self, node: usize, write: CopyWrite, content: Vec<Entry>) {
        let first = write.after + 1;
        for (position, record) in (first..).zip(&write.records) {
            let body = Disk::entry(record).1;
            let known = *self.names.entry((record.epoch, position)).or_insert(body);
            if known != body && !self.plan.is_external {
                self.break_rule("two records have one epoch and position");
            }
        }
        let node = &mut self.nodes[node];
        node.now.write(&write, &content, usize::MAX);
        node.unsynced.push_back(Unsynced { write, content });
    }

    fn leaves(&mut self, node: usize, position: u64) {
        let after = self.life().after;
        if self.machine(node).owns().is_none_or(|epoch| epoch <= after) {
            // Its life was given up, whatever it lets out.
            return;
        }
        let log = &self.nodes[node].now.log;
        let seen = &log[..log.len().min(position as usize)];
        let both = seen.len().min(self.let_out.len());
        if seen[..both] != self.let_out[..both] {
            return self.break_rule("what leaves contradicts what has left before");
        }
        if seen.len() > self.let_out.len() {
            self.let_out = seen.to_vec();
            let has = |node: &&Node| node.disk.log.starts_with(&self.let_out);
            if self.nodes.iter().filter(has).count() < self.plan.copies_min {
                self.break_rule("something was let out that too few stores have");
            }
        }
    }

    /// The owner writes one record more, if it takes it.
    pub(super) fn append(&mut self, node: usize) {
        self.last_body += 1;
        let body = Bytes::copy_from_slice(&self.last_body.to_be_bytes());
        self.with(node, |machine, now| {
            let _refused = machine.append(vec![body], now);
        });
    }

    /// Syncs the first `writes`.
    pub(super) fn sync_some(&mut self, node: usize, writes: usize) {
        let at = &mut self.nodes[node];
        let mut mark = None;
        for _ in 0..writes {
            let Some(Unsynced { write, content }) = at.unsynced.pop_front() else {
                break;
            };
            at.disk.write(&write, &content, usize::MAX);
            mark = Some(write.mark);
        }
        if let Some(mark) = mark {
            self.with(node, |machine, now| machine.handle_synced(mark, now));
        }
    }

    pub(super) fn sync(&mut self, node: usize) {
        self.sync_some(node, usize::MAX);
    }

    pub(super) fn unsynced(&self, node: usize) -> usize {
        self.nodes[node].unsynced.len()
    }

    /// Answers the oldest read.
    pub(super) fn read(&mut self, node: usize) -> bool {
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        let Some((to, epoch, after)) = running.reads.pop_front() else {
            return false;
        };
        // A page has two records.
        let log = &self.nodes[node].now.log;
        let page = log.iter().skip(after as usize).take(2);
        let page: Vec<_> = page.map(Disk::record).collect();
        if !page.is_empty() {
            self.with(node, |machine, now| {
                machine.handle_read(to, epoch, after, page, now);
            });
        }
        true
    }

    /// So much time passes for one process.
    pub(super) fn wait(&mut self, node: usize, time: Duration) {
        if let Some(running) = &mut self.nodes[node].running {
            running.now += time;
        }
        self.with(node, ShardCopy::handle_time);
    }

    /// Time passes until something is due.
    pub(super) fn wait_until_due(&mut self, node: usize) -> bool {
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        let Some(due) = running.machine.deadline() else {
            return false;
        };
        running.now = running.now.max(due);
        self.with(node, ShardCopy::handle_time);
        true
    }

    pub(super) fn deliver(&mut self, envelope: &Envelope) {
        let (from, to) = (self.nodes[envelope.from].id, envelope.to);
        if self.nodes[to].id != envelope.store || self.nodes[to].running.is_none() {
            return;
        }
        match &envelope.parcel {
            Parcel::Message(message) => {
                let message = message.clone();
                self.with(to, |machine, now| {
                    machine.handle_message(from, message, now);
                });
            }
            Parcel::Snapshot {
                epoch,
                last,
                content,
            } => {
                let running = self.running(to);
                let now = running.now;
                running.machine.handle_snapshot(from, *epoch, *last, now);
                for effect in running.machine.take_effects() {
                    match effect {
                        CopyEffect::Write(write) => self.write(to, write, content.clone()),
                        CopyEffect::Send { to: store, message } => {
                            self.send(to, store, Parcel::Message(message));
                        }
                        _ => {}
                    }
                }
                self.check();
            }
        }
    }

    /// The next version of the map.
    pub(super) fn see(&mut self, node: usize) -> bool {
        let last = self.maps.len() - 1;
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        if running.seen == last {
            return false;
        }
        running.seen += 1;
        self.show_map(node);
        true
    }

    /// The last version of the map, whatever it was before.
    pub(super) fn see_last(&mut self, node: usize) {
        let last = self.maps.len() - 1;
        if let Some(running) = &mut self.nodes[node].running
            && running.seen < last
        {
            running.seen = last;
            self.show_map(node);
        }
    }

    fn show_map(&mut self, node: usize) {
        let copies_min = effective_min(self.plan.copies_min, self.plan.nodes);
        let running = self.nodes[node].running.as_ref().expect("it runs");
        let map = &self.maps[running.seen];
        let view = CopiesView {
            epoch: map.stored.home.epoch,
            is_owner: map.stored.home.owner == Some(running.slot),
            in_sync: map.in_sync(),
            set_version: map.set_version(),
            wanted: map.wanted.clone(),
            copies_min,
            life: map.stored.copies.life,
        };
        self.with(node, |machine, now| machine.handle_view(view, now));
    }

    /// The owner gives the shard up to where it is to move.
    pub(super) fn hand_over(&mut self, node: usize) -> bool {
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        let (by, seen) = (running.slot, &self.maps[running.seen].stored.home);
        let (is_moving, expected) = (seen.moving.is_some(), seen.epoch);
        if !is_moving || running.machine.owns() != Some(expected) {
            return false;
        }
        running.machine.hand_over();
        self.propose(Proposal::Release { by, expected });
        true
    }
}

// ---- What happens to a process.

impl World {
    /// The process dies. Of what was not synced, the first `kept` steps are on the disk.
    pub(super) fn crash(&mut self, node: usize, kept: usize) {
        let node = &mut self.nodes[node];
        let mut left = kept;
        for Unsynced { write, content } in std::mem::take(&mut node.unsynced) {
            left -= node.disk.write(&write, &content, left);
        }
        node.now.clone_from(&node.disk);
        node.running = None;
    }

    /// How many steps of writing are not synced.
    pub(super) fn steps_unsynced(&self, node: usize) -> usize {
        let unsynced = self.nodes[node].unsynced.iter();
        unsynced.map(|it| Disk::steps(&it.write)).sum()
    }

    /// The process ends in order: what it has written is on the disk.
    pub(super) fn end(&mut self, node: usize) {
        self.crash(node, usize::MAX);
    }

    /// A new process, which is a new member with the same store.
    pub(super) fn restart(&mut self, node: usize) {
        self.last_slot += 1;
        let seen = self.maps.len() - 1;
        let limits = CopyLimits {
            in_flight_bytes: self.plan.in_flight_bytes,
            page_bytes: 1,
            undurable_bytes: 10_000,
            resend_after: RESEND_AFTER,
            drop_after: DROP_AFTER,
            propose_again: RESEND_AFTER,
            keep_dropped: Duration::from_mins(10),
        };
        let at = &mut self.nodes[node];
        let (promised, runs) = (at.disk.promised, at.disk.runs());
        at.member = Slot(self.last_slot);
        at.is_down = false;
        at.running = Some(Running {
            slot: at.member,
            machine: ShardCopy::recovered(at.id, promised, runs, limits),
            seen,
            lease: false,
            now: Instant::now(),
            reads: VecDeque::new(),
        });
        self.show_map(node);
    }

    /// The directory is an older copy of itself, and so it is another store.
    pub(super) fn restore_from_backup(&mut self, node: usize, records: usize) {
        let at = &mut self.nodes[node];
        at.disk.log.truncate(records);
        at.now.clone_from(&at.disk);
        if !mutants::on("a_restored_store_keeps_its_id") {
            self.last_store += 1;
            at.id = store_id(self.last_store);
        }
    }

    pub(super) fn trim(&mut self, node: usize, upto: u64) -> bool {
        let at = &mut self.nodes[node];
        if at.disk.log.len() < upto as usize || at.disk.base >= upto || at.running.is_none() {
            return false;
        }
        if !at
            .disk
            .log
            .iter()
            .eq(at.now.log.iter().take(at.disk.log.len()))
        {
            return false;
        }
        (at.disk.base, at.now.base) = (upto, upto);
        self.with(node, |machine, now| machine.handle_trimmed(upto, now));
        true
    }
}

// ---- The map.

impl World {
    /// Changes the map, unless the change is refused.
    pub(super) fn change(
        &mut self,
        change: impl FnOnce(&mut MapState, Epoch) -> Result<(), SetRefused>,
    ) -> bool {
        let mut map = self.map().clone();
        let next = Epoch(self.last_epoch + 1);
        if change(&mut map, next).is_err() {
            return false;
        }
        if map.stored.home.epoch == next {
            self.last_epoch += 1;
        }
        let in_sync = map.in_sync();
        map.wanted.retain(|store| !in_sync.contains(store));
        let life = map.stored.copies.life;
        if life != self.life() {
            self.let_out.clear();
            self.closed = (life.after, u64::MAX);
            self.began_with = life.begins_empty.then(Vec::new);
        }
        self.maps.push(map);
        self.check();
        true
    }

    pub(super) fn apply(&mut self, proposal: Proposal) -> bool {
        let copies_min = effective_min(self.plan.copies_min, self.plan.nodes);
        let members = self.nodes.iter();
        let members = members.map(|node| (node.member, (number(node.id), node.is_down)));
        let members: BTreeMap<Slot, (StoreNo, bool)> = members.collect();
        let store_of = |slot: Slot| {
            let member = members.get(&slot).filter(|(_, is_down)| !is_down);
            member.map(|(store, _)| *store)
        };
        let is_down = |slot| store_of(slot).is_none();
        let is_there = |store| {
            let mut nodes = members.values();
            nodes.any(|(number, is_down)| *number == store && !is_down)
        };
        self.change(|map, next| match proposal {
            Proposal::Set(CopyProposal::Drop(change), by) => {
                let change = change.of(number(change.store));
                map.stored.drop_copy(change, Some(number(by)), copies_min)
            }
            Proposal::Set(CopyProposal::Add(change), _) => {
                map.stored.add_copy(change.of(Some(number(change.store))))
            }
            Proposal::LeaderDrops(change) => {
                let change = change.of(number(change.store));
                map.stored.drop_copy(change, None, copies_min)
            }
            Proposal::Assign { expected, to } => {
                let store = store_of(to).ok_or(SetRefused::Stale)?;
                let to = (to, store);
                map.stored.assign(expected, is_down, to, &[], next)
            }
            Proposal::Release { by, expected } => map.stored.release(by, expected, store_of, next),
            Proposal::Keep { by, expected } => map.stored.keep(by, expected, next),
            Proposal::BeginAnew {
                epoch,
                set_version,
                first,
                begins_empty,
            } => {
                let (expected, first) = ((epoch, set_version), [number(first)]);
                let stored = &mut map.stored;
                stored.begin_anew(expected, is_down, is_there, &first, begins_empty)?;
                map.wanted.clear();
                Ok(())
            }
        })
    }

    /// All stores in sync are given up.
    pub(super) fn begin_anew(&mut self, first: usize, begins_empty: bool) -> bool {
        let map = self.map();
        let proposal = Proposal::BeginAnew {
            epoch: self.epoch(),
            set_version: map.set_version(),
            first: self.nodes[first].id,
            begins_empty,
        };
        self.apply(proposal)
    }

    /// Whether no store in sync has a process.
    pub(super) fn is_lost(&self) -> bool {
        let map = self.map();
        let mut nodes = self.nodes.iter();
        nodes.all(|node| node.is_down || !map.has(node.id))
    }

    /// The leader declares a process Down.
    pub(super) fn down(&mut self, node: usize) {
        self.nodes[node].is_down = true;
    }

    /// The leader proposes a new owner, once the old one is Down and its lease is over.
    pub(super) fn propose_owner(&mut self, node: usize) -> bool {
        let home = &self.map().stored.home;
        let (expected, owner) = (home.epoch, home.owner);
        let has_ended = |slot: Slot| {
            let node = self.nodes.iter().find(|node| node.member == slot);
            let Some(node) = node else {
                // Its node has another process, which has ended its lease as well.
                return true;
            };
            let lease = node.running.as_ref().is_some_and(|running| running.lease);
            let waits = !mutants::on("assigns_before_the_lease_is_over");
            node.is_down && !(lease && waits)
        };
        let to = &self.nodes[node];
        let is_free = owner.is_none_or(has_ended);
        let is_in_sync = self.map().has(to.id);
        if !is_free || to.is_down || !is_in_sync && !mutants::on("owners_come_from_outside") {
            return false;
        }
        let to = to.member;
        self.propose(Proposal::Assign { expected, to });
        true
    }

    /// The change of the set that this store comes or goes, as of now.
    pub(super) fn set_change(&self, node: usize) -> SetChange {
        SetChange {
            epoch: self.epoch(),
            set_version: self.map().set_version(),
            store: self.nodes[node].id,
        }
    }

    /// A store is to become a copy.
    pub(super) fn want(&mut self, node: usize) -> bool {
        let store = self.nodes[node].id;
        let map = self.map();
        if map.has(store) || map.wanted.contains(&store) {
            return false;
        }
        self.change(|map, _| {
            map.wanted.insert(store);
            Ok(())
        })
    }

    /// The leader plans a move.
    pub(super) fn move_to(&mut self, node: usize) -> bool {
        let (slot, store) = (self.nodes[node].member, self.nodes[node].id);
        let may = self.map().has(store) || mutants::on("a_release_goes_outside");
        let home = &self.map().stored.home;
        if !may || home.owner.is_none() || home.owner == Some(slot) || home.moving.is_some() {
            return false;
        }
        self.change(|map, _| {
            map.stored.home.moving = Some(slot);
            Ok(())
        })
    }

    /// What no voter may forget: see X18.
    pub(super) fn replace_map(&mut self, in_sync: BTreeSet<StoreId>) {
        self.last_epoch += 1;
        let epoch = Epoch(self.last_epoch);
        let stored = StoredHome {
            home: ShardHome {
                owner: None,
                epoch,
                moving: None,
            },
            copies: copies(in_sync),
        };
        let wanted = BTreeSet::new();
        self.maps.push(MapState { stored, wanted });
    }
}

// ---- What must hold.

impl World {
    pub(super) fn check(&mut self) {
        if self.broken.is_some() {
            return;
        }
        self.broken = self.look();
    }

    fn look(&mut self) -> Option<&'static str> {
        let epoch = self.epoch();
        for node in &self.nodes {
            let Some(Running { machine, lease, .. }) = &node.running else {
                continue;
            };
            let Some(owns) = machine.owns() else {
                continue;
            };
            let log = &node.now.log;
            let after = self.life().after;
            if owns <= after {
                continue;
            }
            let began_with = self.began_with.iter().flatten();
            let old = log.iter().take_while(|(epoch, _)| *epoch <= after);
            let mut both = old.clone().zip(began_with.clone());
            if after > Epoch::ZERO
                && (old.count() > began_with.count() || both.any(|(old, begun)| old != begun))
            {
                return Some("what was given up is back");
            }
            let has_all = log.starts_with(&self.let_out);
            if machine.is_complete() {
                if owns == epoch && !has_all {
                    return Some("LOST: the owner's log lacks what was let out");
                }
                let (closed, start) = self.closed;
                if owns > closed {
                    let start = usize::try_from(start).unwrap_or(usize::MAX);
                    let above = log.iter().skip(start);
                    if above.clone().any(|(epoch, _)| *epoch < closed) {
                        return Some("decided twice: what an epoch had closed out is back");
                    }
                    self.closed = (owns, self.starts.get(&owns).copied().unwrap_or(0));
                }
            }
            let serves = machine.may_leave() == Some(machine.head());
            let lease = *lease || mutants::on("reads_without_a_lease");
            if serves && lease && !has_all {
                return Some("a stale read: without a record that was acknowledged");
            }
        }
        if !self.plan.is_external {
            let map = self.map();
            let lacks = |node: &Node| map.has(node.id) && !node.disk.log.starts_with(&self.let_out);
            if self.nodes.iter().any(lacks) {
                return Some("a store in sync lacks what was let out");
            }
        }
        None
    }
}

// ---- Without faults.

impl World {
    /// Everything that can happen without a fault happens, until nothing more does. Messages of
    /// processes that are gone are among it, and time does not pass.
    pub(super) fn calm(&mut self) {
        loop {
            let mut is_calm = true;
            for node in 0..self.nodes.len() {
                while self.see(node) || self.read(node) {
                    is_calm = false;
                }
                if self.unsynced(node) > 0 {
                    self.sync(node);
                    is_calm = false;
                }
            }
            for envelope in std::mem::take(&mut self.soup) {
                self.deliver(&envelope);
                is_calm = false;
            }
            if is_calm || self.broken.is_some() {
                return;
            }
        }
    }
}
