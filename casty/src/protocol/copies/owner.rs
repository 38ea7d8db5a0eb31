//! The owner of a shard under one epoch: takes over, sends, and decides what is durable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tokio::time::Instant;

use super::{
    CopiedRecord, CopyEffect, CopyLimits, CopyProposal, Life, SetChange, StopOwning, StoreId,
    WriteMark,
    held_log::HeldLog,
    link::{CopyLink, Source},
};
use crate::{id::Epoch, infra::mutants};

/// What one version of the map says of a shard, to the process of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopiesView {
    pub(crate) epoch: Epoch,
    /// Whether the owner is this process: the store is not enough, another process may have had it.
    pub(crate) is_owner: bool,
    pub(crate) in_sync: BTreeSet<StoreId>,
    pub(crate) set_version: u64,
    /// The stores that are to become copies.
    pub(crate) wanted: BTreeSet<StoreId>,
    /// How many stores must have what leaves: see [`effective_min`](super::effective_min).
    pub(crate) copies_min: usize,
    pub(crate) life: Life,
}

/// How many other stores must be in sync for a store to be spared, even if fewer are enough for
/// what leaves.
const OTHERS_MIN: usize = 2;

impl CopiesView {
    /// Whether so many stores are in sync that another one is not needed.
    pub(super) fn spares(&self, store: StoreId) -> bool {
        !self.in_sync.contains(&store)
            && !self.wanted.contains(&store)
            && self.in_sync.len() >= self.copies_min.max(OTHERS_MIN)
    }
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendRefused {
    #[error("this node does not own the shard")]
    NotOwner,
    #[error("the shard is being handed over")]
    HandedOver,
    /// Once [`MayLeave`](CopyEffect::MayLeave) tells of more, there is room.
    #[error("too much waits for the copies")]
    Full,
}

/// A store that is proposed to be added. It is required until the map has decided (O6).
#[derive(Clone, Copy, Debug)]
struct PendingAdd {
    change: SetChange,
    again_at: Instant,
}

/// The owner under one epoch.
#[derive(Debug)]
pub(crate) struct Owning {
    me: StoreId,
    epoch: Epoch,
    /// The length of the log at the takeover, synced or not (T2).
    start: u64,
    /// The write of the promise. Nothing is sent before it is synced (T1).
    fence: WriteMark,
    view: CopiesView,
    links: BTreeMap<StoreId, CopyLink>,
    pending: Option<PendingAdd>,
    /// Stores that are to be added and have been sent all there is. What leaves waits for them, so
    /// that a store that is slower than all others is ever found to have all of it.
    near: BTreeSet<StoreId>,
    /// The lengths of the log at writes that are not synced.
    unsynced: VecDeque<(WriteMark, u64)>,
    /// How much of the log is synced in the own store.
    synced: u64,
    may_leave: Option<u64>,
    is_handed_over: bool,
    /// The records that are not durable: positions and bytes.
    sizes: VecDeque<(u64, usize)>,
    bytes: usize,
}

// ---- Inputs.

impl Owning {
    /// T1 and T2: the own store promises the epoch, and the length of the log is the start.
    pub(crate) fn take_over(
        me: StoreId,
        view: CopiesView,
        log: &mut HeldLog,
        effects: &mut Vec<CopyEffect>,
    ) -> Result<Self, StopOwning> {
        // Equal: this store has owned the shard under this epoch, and has given it up. Positions
        // may be used that its log does not have (O4).
        if log.promised() >= view.epoch {
            return Err(StopOwning::Promised(log.promised()));
        }
        if view.life.begins_empty
            && view.life.is_after(log.promised())
            && !mutants::on("an_owner_keeps_what_was_given_up")
        {
            // L1.
            effects.push(CopyEffect::Write(log.clear(view.epoch)));
        } else if !mutants::on("the_own_store_is_not_fenced") {
            let write = log.write(view.epoch, None, Vec::new());
            effects.extend(write.map(CopyEffect::Write));
        }
        Ok(Self {
            me,
            epoch: view.epoch,
            start: log.head(),
            fence: log.written(),
            view,
            links: BTreeMap::new(),
            pending: None,
            near: BTreeSet::new(),
            unsynced: VecDeque::from([(log.written(), log.head())]),
            synced: 0,
            may_leave: None,
            is_handed_over: false,
            sizes: VecDeque::new(),
            bytes: 0,
        })
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The same epoch, and a later version of the map.
    pub(crate) fn handle_view(&mut self, view: CopiesView) {
        if view.set_version < self.view.set_version {
            return;
        }
        // O6: it is decided, one way or the other, once the version it was bound to is over.
        let version = view.set_version;
        self.pending
            .take_if(|pending| pending.change.set_version < version);
        self.view = view;
    }

    pub(crate) fn append(
        &mut self,
        bodies: Vec<bytes::Bytes>,
        log: &mut HeldLog,
        limits: &CopyLimits,
        now: Instant,
        effects: &mut Vec<CopyEffect>,
    ) -> Result<u64, AppendRefused> {
        if self.is_handed_over {
            return Err(AppendRefused::HandedOver);
        }
        if self.bytes >= limits.undurable_bytes {
            return Err(AppendRefused::Full);
        }
        let epoch = self.epoch;
        let record = |body| CopiedRecord { epoch, body };
        let records: Vec<_> = bodies.into_iter().map(record).collect();
        let mut after = log.head();
        let mut cut = None;
        if mutants::on("a_position_is_used_twice")
            && self.durable(log) < after
            && self.start < after
        {
            after -= 1;
            cut = Some(after);
        }
        for (position, record) in (after + 1..).zip(&records) {
            self.sizes.push_back((position, record.size()));
            self.bytes += record.size();
        }
        let write = log.write(epoch, cut, records.clone());
        effects.extend(write.map(CopyEffect::Write));
        self.unsynced.push_back((log.written(), log.head()));
        let (links, source) = self.parts(log, limits, now);
        for (to, link) in links {
            link.handle_new(*to, after, &records, &source, effects);
        }
        Ok(log.head())
    }

    pub(crate) fn handle_confirm(
        &mut self,
        from: StoreId,
        epoch: Epoch,
        position: u64,
        log: &HeldLog,
        limits: &CopyLimits,
        now: Instant,
    ) {
        // T2: what another epoch confirmed is void.
        if epoch != self.epoch && !mutants::on("confirmations_of_any_epoch_count") {
            return;
        }
        let (links, source) = self.parts(log, limits, now);
        if let Some(link) = links.get_mut(&from) {
            link.handle_confirm(position, &source);
        }
    }

    /// Whatever else a copy or the own store answers about a copy.
    pub(crate) fn with_link(
        &mut self,
        to: StoreId,
        log: &HeldLog,
        limits: &CopyLimits,
        now: Instant,
        with: impl FnOnce(&mut CopyLink, &Source<'_>),
    ) {
        let (links, source) = self.parts(log, limits, now);
        if let Some(link) = links.get_mut(&to) {
            with(link, &source);
        }
    }

    /// O8: nothing leaves from now on.
    pub(crate) fn hand_over(&mut self) {
        self.is_handed_over = !mutants::on("it_serves_after_the_release");
    }

    pub(crate) fn handle_time(
        &mut self,
        limits: &CopyLimits,
        now: Instant,
        effects: &mut Vec<CopyEffect>,
    ) {
        if mutants::on("a_proposed_copy_is_forgotten")
            && let Some(pending) = &mut self.pending
        {
            // It is required no more.
            pending.change.store = self.me;
        }
        if let Some(pending) = &mut self.pending
            && pending.again_at <= now
        {
            pending.again_at = now + limits.propose_again;
            effects.push(CopyEffect::Propose(CopyProposal::Add(pending.change)));
        }
        for (store, link) in &mut self.links {
            link.handle_time(now);
            // O5: it goes on being required until the map that this owner sees is without it.
            let may_go = self.view.in_sync.contains(store)
                && (self.view.in_sync.len() > self.view.copies_min
                    || mutants::on("drops_go_on_down_to_one"));
            if link.is_late(now, limits.propose_again) && may_go {
                let change = SetChange {
                    epoch: self.epoch,
                    set_version: self.view.set_version,
                    store: *store,
                };
                effects.push(CopyEffect::Propose(CopyProposal::Drop(change)));
                if mutants::on("copies_are_dropped_without_a_decision") {
                    self.view.in_sync.remove(store);
                }
            }
        }
    }
}

// ---- What follows.

impl Owning {
    /// What follows from the inputs: what may leave, what is proposed, what is sent.
    pub(crate) fn advance(
        &mut self,
        log: &HeldLog,
        limits: &CopyLimits,
        now: Instant,
        effects: &mut Vec<CopyEffect>,
    ) {
        self.count_synced(log);
        self.link_targets(log);
        self.find_near(log, limits, now);
        self.add_copies(limits, now, effects);
        if self.is_fenced(log) || mutants::on("appends_leave_before_the_fence_is_synced") {
            let (links, source) = self.parts(log, limits, now);
            for (to, link) in links {
                link.pump(*to, &source, effects);
            }
        }
        self.let_out(log, effects);
    }

    /// T4: its own log is synced up to the start, and so is that of every required store.
    pub(crate) fn is_complete(&self, log: &HeldLog) -> bool {
        let has_start = |store| {
            let confirmed = self.links.get(&store).and_then(CopyLink::confirmed);
            confirmed.is_some_and(|confirmed| confirmed >= self.start)
        };
        self.is_fenced(log) && self.required().all(has_start)
    }

    /// The stores that hold back what is not durable, or the takeover.
    pub(crate) fn waits_for(&self, log: &HeldLog) -> Vec<StoreId> {
        let is_behind = |store: &StoreId| {
            let confirmed = self.links.get(store).and_then(CopyLink::confirmed);
            confirmed.is_none_or(|confirmed| confirmed < log.head())
        };
        self.required().filter(is_behind).collect()
    }

    /// How far what has seen the log may leave. `None` before the takeover is complete, while the
    /// shard is handed over, and while too few stores have what leaves.
    pub(crate) fn may_leave(&self, log: &HeldLog) -> Option<u64> {
        let stores = 1 + self.required().count();
        let is_enough = stores >= self.view.copies_min || mutants::on("drops_go_on_down_to_one");
        if self.is_handed_over || !is_enough {
            return None;
        }
        if mutants::on("outputs_leave_before_the_takeover_is_complete") {
            return Some(log.head().min(self.durable(log).max(self.start)));
        }
        let near = self.near.iter().map(|store| self.confirmed(*store));
        let position = near.fold(self.durable(log), u64::min);
        self.is_complete(log).then_some(position)
    }

    /// Whether a store that is no copy may give up what it has, although it may have confirmed up
    /// to `confirmed`: by then more is durable, so that confirmation adds it no more (O6). `None`:
    /// it has confirmed nothing under this epoch. All required stores have what is durable.
    pub(crate) fn spares(&self, store: StoreId, confirmed: Option<u64>, log: &HeldLog) -> bool {
        let is_pending = self.pending.map(|pending| pending.change.store) == Some(store);
        let Some(durable) = self.may_leave(log).filter(|_| !is_pending) else {
            return false;
        };
        let counts = confirmed.is_some_and(|confirmed| confirmed >= durable.max(self.start));
        self.view.spares(store)
            && self.waits_for(log).is_empty()
            && (!counts || mutants::on("old_copies_go_that_may_count"))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let links = self.links.values().filter_map(CopyLink::deadline);
        let again = self.pending.map(|pending| pending.again_at);
        links.chain(again).min()
    }

    /// O1: the stores in sync, by the map that this owner has seen, and the one that it has
    /// proposed to add.
    fn required(&self) -> impl Iterator<Item = StoreId> + use<'_> {
        let in_sync = &self.view.in_sync;
        let pending = self.pending.map(|pending| pending.change.store);
        let pending = pending.filter(|store| {
            !in_sync.contains(store) && !mutants::on("a_proposed_copy_is_not_required")
        });
        let required = in_sync.iter().copied().chain(pending);
        required.filter(|store| *store != self.me)
    }

    /// O2: what the own store has synced and all required stores have confirmed.
    fn durable(&self, log: &HeldLog) -> u64 {
        let own = if mutants::on("the_own_sync_is_not_counted") {
            log.head()
        } else {
            self.synced
        };
        let confirmed = self.required().map(|store| self.confirmed(store));
        if mutants::on("one_confirmation_is_enough") {
            return confirmed.max().map_or(own, |max| max.min(own));
        }
        confirmed.fold(own, u64::min)
    }

    /// How far a copy has confirmed, under this epoch.
    fn confirmed(&self, store: StoreId) -> u64 {
        let confirmed = self.links.get(&store).and_then(CopyLink::confirmed);
        confirmed.unwrap_or(0)
    }

    fn is_fenced(&self, log: &HeldLog) -> bool {
        log.synced() >= self.fence
    }

    fn count_synced(&mut self, log: &HeldLog) {
        while let Some((mark, length)) = self.unsynced.front().copied()
            && mark <= log.synced()
        {
            self.synced = length;
            self.unsynced.pop_front();
        }
    }

    /// One link for each copy, and for each store that is to become one.
    fn link_targets(&mut self, log: &HeldLog) {
        let mut links = std::mem::take(&mut self.links);
        let wanted = self.view.wanted.iter().copied();
        let targets = || {
            self.required()
                .chain(wanted.clone().filter(|it| *it != self.me))
        };
        links.retain(|store, _| targets().any(|target| target == *store));
        for store in targets() {
            let link = || CopyLink::new(log.head());
            links.entry(store).or_insert_with(link);
        }
        self.links = links;
    }

    fn find_near(&mut self, log: &HeldLog, limits: &CopyLimits, now: Instant) {
        let (near, view, links) = (&mut self.near, &self.view, &self.links);
        near.retain(|store| view.wanted.contains(store) && links.contains_key(store));
        for store in view.wanted.difference(&view.in_sync) {
            let Some(link) = links.get(store) else {
                continue;
            };
            if link.is_behind(now, limits.drop_after) {
                near.remove(store);
            } else if link.is_near(log.head()) {
                near.insert(*store);
            }
        }
    }

    /// O6: a store is proposed to be added once it has what the log had at the start, and all that
    /// was let out. From then on it is required. One at a time: a change of the set makes all
    /// others void.
    fn add_copies(&mut self, limits: &CopyLimits, now: Instant, effects: &mut Vec<CopyEffect>) {
        if self.pending.is_some() || self.is_handed_over {
            return;
        }
        let let_out = self.may_leave.unwrap_or(0);
        let mut needed = let_out.max(self.start);
        if mutants::on("copies_are_added_on_what_is_durable_alone") {
            needed = let_out;
        }
        if mutants::on("copies_are_added_within_one_batch") {
            needed = needed.saturating_sub(1);
        }
        let has_all = |store: &&StoreId| {
            let confirmed = self.links.get(store).and_then(CopyLink::confirmed);
            confirmed.is_some_and(|confirmed| confirmed >= needed)
        };
        let wanted = self.view.wanted.difference(&self.view.in_sync);
        let Some(store) = wanted.copied().find(|store| has_all(&store)) else {
            return;
        };
        let change = SetChange {
            epoch: self.epoch,
            set_version: self.view.set_version,
            store,
        };
        let again_at = now + limits.propose_again;
        self.pending = Some(PendingAdd { change, again_at });
        effects.push(CopyEffect::Propose(CopyProposal::Add(change)));
    }

    fn let_out(&mut self, log: &HeldLog, effects: &mut Vec<CopyEffect>) {
        let Some(position) = self.may_leave(log) else {
            return;
        };
        if self.may_leave.is_none_or(|known| known < position) {
            self.may_leave = Some(position);
            effects.push(CopyEffect::MayLeave(position));
        }
        while let Some((at, bytes)) = self.sizes.front().copied()
            && at <= position
        {
            self.sizes.pop_front();
            self.bytes -= bytes;
        }
    }

    fn parts<'a>(
        &'a mut self,
        log: &'a HeldLog,
        limits: &'a CopyLimits,
        now: Instant,
    ) -> (&'a mut BTreeMap<StoreId, CopyLink>, Source<'a>) {
        let durable = self.may_leave.unwrap_or(0);
        let source = Source {
            epoch: self.epoch,
            start: self.start,
            life: self.view.life.after,
            log: log.runs(),
            durable,
            limits,
            now,
        };
        (&mut self.links, source)
    }
}
