//! The engine's log, its vote, and the map that its decisions make. All of it lives in memory.
//! Unless it is also kept on disk, it ends with the process: the next process is a new member with
//! a new number, so no member votes twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    ops::RangeBounds,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::select_all};
use openraft::{
    EntryPayload, Membership, OptionalSend, RaftLogReader, RaftSnapshotBuilder,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf},
    storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine},
};

use tokio::{sync::Notify, time::Instant};

use super::{
    disk::{Change, Snapshot, StateWriter, StoredState},
    types::{Applied, Decision, Types, seat},
};
use crate::{
    cluster::{
        locks::Rank,
        map_watch::MapWatch,
        peers::wire::{Response, respond},
    },
    id::{MemberId, Voter},
    infra::{rate::Rate, sync::Ranked},
    message::codec,
    protocol::{
        map::{ClusterMap, Command, MapError, Seat, Status, VoterPlace},
        new_voters::seat_asked_for,
        second_copy::{Copied, Copies},
    },
    transport::{connection::Inlet, frame::Frame},
};
#[cfg(feature = "sim")]
use crate::{id::ShardId, infra::observe::sighted};

/// The changes kept for watchers that are a little behind. A watcher that is further behind gets
/// the whole map.
const CHANGES_KEPT: usize = 4096;

/// The log and the vote.
#[derive(Clone)]
pub(super) struct Log {
    present: Arc<Ranked<Present>>,
    /// The writer to disk, if the node has one.
    keeper: Option<StateWriter>,
}

#[derive(Default)]
struct Present {
    vote: Option<VoteOf<Types>>,
    purged: Option<LogIdOf<Types>>,
    committed: Option<LogIdOf<Types>>,
    entries: BTreeMap<u64, EntryOf<Types>>,
}

impl Log {
    /// Starts with the state that an earlier process has kept.
    pub(super) fn new(kept: Option<&StoredState>, keeper: Option<StateWriter>) -> Self {
        let present = kept.map_or_else(Present::default, |kept| Present {
            vote: kept.vote,
            purged: kept.purged,
            committed: kept.committed,
            entries: kept.entries.clone(),
        });
        Self {
            present: Arc::new(Rank::Log.mutex(present)),
            keeper,
        }
    }

    async fn keep(&self, change: impl FnOnce() -> Change) -> io::Result<()> {
        match &self.keeper {
            Some(keeper) => keeper.change(change()).await,
            None => Ok(()),
        }
    }

    #[cfg(feature = "sim")]
    pub(super) fn length(&self) -> usize {
        self.present.lock().entries.len()
    }

    /// Commands behind this index, in order.
    pub(super) fn behind(&self, index: u64) -> Vec<Command> {
        let kept = self.present.lock();
        let entries = kept.entries.range(index + 1..);
        let command = |entry: &EntryOf<Types>| match &entry.payload {
            EntryPayload::Normal(Decision::Change(command)) => Some(command.clone()),
            _ => None,
        };
        entries.filter_map(|(_, entry)| command(entry)).collect()
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<EntryOf<Types>>>
    where
        R: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend,
    {
        let kept = self.present.lock();
        Ok(kept.entries.range(range).map(|(_, e)| e.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(self.present.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let kept = self.present.lock();
        let last = kept.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: kept.purged,
            last_log_id: last.or(kept.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        self.keep(|| Change::Vote(*vote)).await?;
        self.present.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<Types>>) -> io::Result<()> {
        if let Some(keeper) = &self.keeper {
            keeper.committed(committed);
        }
        self.present.lock().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<Types>>> {
        Ok(self.present.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().collect();
        self.keep(|| Change::Append(entries.clone())).await?;
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        self.present.lock().entries.extend(entries);
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, after: Option<LogIdOf<Types>>) -> io::Result<()> {
        let first = after.map_or(0, |last| last.index + 1);
        self.keep(|| Change::Truncate(first)).await?;
        self.present.lock().entries.split_off(&first);
        Ok(())
    }

    async fn purge(&mut self, upto: LogIdOf<Types>) -> io::Result<()> {
        self.keep(|| Change::Purge(upto)).await?;
        let mut kept = self.present.lock();
        kept.entries = kept.entries.split_off(&(upto.index + 1));
        kept.purged = Some(upto);
        Ok(())
    }
}

/// The map with all decisions that have been applied here, and its watchers on other nodes.
pub(super) struct MapMachine {
    /// The member whose machine this is.
    member: MemberId,
    state: Ranked<State>,
    snapshot: Ranked<Option<Snapshot>>,
    /// The writer of snapshots to disk, if the node has one.
    keeper: Option<StateWriter>,
    watch: Arc<MapWatch>,
    /// Notified when another member may have a decision, or need not be waited for any more.
    heard: Notify,
}

#[derive(Default)]
struct State {
    applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
    /// `None` until the cluster is founded, or this node has been taught.
    map: Option<ClusterMap>,
    changes: VecDeque<(u64, Command)>,
    /// The whole map as it is sent, with its version: encoded once, however many processes ask for
    /// it, and however often.
    encoded: Option<(u64, Bytes)>,
    watchers: Vec<Watcher>,
    copies: Copies,
    /// Seats without a vote that a process has asked for in vain: it has left them.
    left: BTreeSet<Seat>,
}

/// A process that watches the map.
struct Watcher {
    inlet: Arc<Inlet>,
    /// How often it is told what it lacks: a change that comes by itself costs it nothing.
    rate: Rate,
}

/// How often a second a process that watches the map is told what it lacks. It asks once, and again
/// after it could not use a change. The whole map may be megabytes.
const ASKS_PER_SECOND: u32 = 10;

impl State {
    fn decide(&mut self, decision: &Decision) -> Applied {
        match (decision, &mut self.map) {
            (Decision::Found(founded), map) => {
                let version = founded.version;
                map.get_or_insert_with(|| (**founded).clone());
                self.tell_everybody_all();
                Ok(version)
            }
            (Decision::Change(command), Some(_)) => {
                let changed = self.change(command.clone());
                if let (Err(MapError::Seat(_)), Some(map)) = (&changed, &self.map)
                    && let Some((seat, _)) = seat_asked_for(command, map)
                {
                    self.left.retain(|seat| map.by_seat(*seat).is_some());
                    self.left.insert(seat);
                }
                changed
            }
            (Decision::Change(_), None) => Err(MapError::Stale),
        }
    }

    /// The map names the voters, so that every watcher of the map knows which members to ask.
    fn elect(&mut self, membership: &Membership<u64, Voter>) -> Applied {
        let Some(map) = &self.map else { return Ok(0) };
        let voter = |id: u64| {
            let seat = seat(id);
            // A later process of the node may be in the seat.
            let now = map.by_seat(seat).map(|(id, m)| (id.clone(), m.address));
            let first = || Some(membership.get_node(&id)?).map(|v| (v.member.clone(), v.address));
            let (member, address) = now.or_else(first)?;
            Some((member, VoterPlace { seat, address }))
        };
        let voters = membership.voter_ids().filter_map(voter).collect();
        if map.voters == voters {
            return Ok(map.version);
        }
        self.change(Command::Voters { voters })
    }

    fn change(&mut self, command: Command) -> Applied {
        let Some(map) = &mut self.map else {
            return Err(MapError::Stale);
        };
        map.apply(&command)?;
        let version = map.version;
        tracing::debug!(version, ?command, "decided");
        if self.changes.len() == CHANGES_KEPT {
            self.changes.pop_front();
        }
        let change = (version, command);
        self.changes.push_back(change.clone());
        self.tell(&Response::Changes(vec![change]));
        Ok(version)
    }

    /// The watchers that are members: a client keeps no copy.
    fn listening(&self) -> impl Iterator<Item = &Arc<Inlet>> {
        let is_alive = |inlet: &&Arc<Inlet>| {
            let status = self.map.as_ref().and_then(|map| map.status(&inlet.peer));
            !inlet.cancel.is_cancelled() && status.is_some_and(|status| status != Status::Down)
        };
        let inlets = self.watchers.iter().map(|watcher| &watcher.inlet);
        inlets.filter(is_alive)
    }

    /// Forgets the copies of processes that are not, or no longer, members.
    fn retain_copies(&mut self) {
        let Self { copies, map, .. } = self;
        copies.retain(|member| {
            let status = map.as_ref().and_then(|map| map.status(member));
            status.is_some_and(|status| status != Status::Down)
        });
    }

    fn handle_has(&mut self, member: &MemberId, version: u64) {
        self.copies.handle_has(member, version);
        self.retain_copies();
    }

    fn copied(&mut self, version: u64) -> Copied {
        self.retain_copies();
        let listening = self.listening().map(|inlet| &inlet.peer);
        self.copies.look(version, listening)
    }

    fn tell_everybody_all(&mut self) {
        self.changes.clear();
        // Of this version there may have been another map.
        self.encoded = None;
        if self.has_watchers()
            && let Some(map) = self.encoded()
        {
            self.send(&map);
        }
    }

    fn tell(&mut self, news: &Response) {
        if !self.has_watchers() {
            return;
        }
        match codec::to_vec(news) {
            Ok(bytes) => self.send(&bytes),
            Err(error) => tracing::error!(%error, "a change of the map cannot be encoded"),
        }
    }

    /// Forgets the watchers whose connections have ended. Returns whether others are left.
    fn has_watchers(&mut self) -> bool {
        self.watchers
            .retain(|watcher| !watcher.inlet.cancel.is_cancelled());
        !self.watchers.is_empty()
    }

    /// Sends a response, as it is encoded, to all watchers.
    fn send(&self, response: &[u8]) {
        for watcher in &self.watchers {
            watcher.inlet.send(Frame::Control(response));
        }
    }

    /// Whether a process that watches the map, or is about to, may be told what it lacks.
    fn admits(&mut self, watcher: &Arc<Inlet>) -> bool {
        let now = Instant::now();
        let known = self
            .watchers
            .iter_mut()
            .find(|known| Arc::ptr_eq(&known.inlet, watcher));
        let is_slow = known.map(|known| known.rate.take(now).is_ok());
        is_slow.unwrap_or_else(|| {
            self.has_watchers();
            let mut rate = Rate::new(ASKS_PER_SECOND, now);
            let is_slow = rate.take(now).is_ok();
            let inlet = watcher.clone();
            self.watchers.push(Watcher { inlet, rate });
            is_slow
        })
    }

    /// The whole map as a response.
    fn encoded(&mut self) -> Option<Bytes> {
        let map = self.map.as_ref()?;
        if let Some((version, encoded)) = &self.encoded
            && *version == map.version
        {
            return Some(encoded.clone());
        }
        let encoded = codec::to_vec(&Response::Map(map.clone()));
        let encoded = encoded
            .inspect_err(|error| tracing::error!(%error, "the map cannot be encoded"))
            .ok()?;
        let encoded = Bytes::from(encoded);
        self.encoded = Some((map.version, encoded.clone()));
        Some(encoded)
    }
}

impl MapMachine {
    /// The machine begins empty. The engine applies the stored decisions of an earlier one.
    pub(super) fn new(
        watch: Arc<MapWatch>,
        member: MemberId,
        snapshot: Option<Snapshot>,
        keeper: Option<StateWriter>,
    ) -> Arc<Self> {
        Arc::new(Self {
            member,
            state: Rank::Machine.mutex(State::default()),
            snapshot: Rank::Snapshot.mutex(snapshot),
            keeper,
            watch,
            heard: Notify::new(),
        })
    }

    async fn keep_snapshot(&self, meta: &SnapshotMetaOf<Types>, snapshot: &[u8]) -> io::Result<()> {
        // Skip a snapshot that is not newer than the stored one. At start the engine installs again
        // what was loaded, and a snapshot built here may finish after a newer one has come from the
        // leader.
        let is_known = |present: &Option<Snapshot>| {
            let known = present.as_ref();
            known.is_some_and(|(known, _)| known.last_log_id >= meta.last_log_id)
        };
        if is_known(&self.snapshot.lock()) {
            return Ok(());
        }
        let snapshot = (meta.clone(), snapshot.to_vec());
        if let Some(keeper) = &self.keeper {
            keeper.change(Change::Snapshot(snapshot.clone())).await?;
        }
        let mut present = self.snapshot.lock();
        if !is_known(&present) {
            *present = Some(snapshot);
        }
        Ok(())
    }

    pub(super) fn member(&self) -> &MemberId {
        &self.member
    }

    /// Reports to the checks of a simulation which decision was applied.
    #[cfg(feature = "sim")]
    fn sight(
        &self,
        entry: &EntryOf<Types>,
        before: Option<&ClusterMap>,
        after: Option<&ClusterMap>,
    ) {
        use std::collections::BTreeMap;

        sighted!(Applied {
            member: self.member.clone(),
            index: entry.log_id.index,
            term: entry.log_id.committed_leader_id().term,
            decision: entry.payload.to_string(),
        });
        let (Some(before), Some(after)) = (before, after) else {
            return;
        };
        for (id, _) in after
            .members
            .iter()
            .filter(|(_, m)| m.status == Status::Down)
        {
            if before.status(id) != Some(Status::Down) {
                sighted!(Down {
                    member: id.clone(),
                    version: after.version,
                });
            }
        }
        let joined = after.members.iter();
        for (id, member) in joined.filter(|(id, _)| before.member(id).is_none()) {
            if member.seat.0 != member.slot.0 {
                sighted!(Sat {
                    member: id.clone(),
                    number: member.seat.0,
                    votes: before.voters.values().any(|v| v.seat == member.seat),
                });
            }
        }
        let names = |map: &ClusterMap| -> BTreeMap<_, _> {
            let members = map.members.iter();
            members
                .map(|(id, member)| (member.slot, id.clone()))
                .collect()
        };
        let (old, new) = (names(before), names(after));
        for (kind, table) in &after.kinds {
            let Some(was) = before
                .kinds
                .get(kind)
                .filter(|was| !Arc::ptr_eq(was, table))
            else {
                continue;
            };
            for (shard, (now, then)) in (0..).map(ShardId).zip(table.iter().zip(was.iter())) {
                if now.epoch != then.epoch
                    && let Some(to) = now.owner.and_then(|owner| new.get(&owner))
                {
                    // The owner releases a shard itself; a takeover is another matter.
                    let taken = matches!(
                        &entry.payload,
                        EntryPayload::Normal(Decision::Change(Command::Assign { .. }))
                    );
                    let from = then.owner.and_then(|owner| old.get(&owner));
                    sighted!(Assigned {
                        kind: kind.clone(),
                        shard,
                        epoch: now.epoch,
                        to: to.clone(),
                        from: from.filter(|_| taken).cloned(),
                    });
                }
            }
        }
    }

    pub(super) fn map(&self) -> Option<ClusterMap> {
        self.state.lock().map.clone()
    }

    /// The seats that a process has asked for in vain, and has left.
    pub(super) fn left(&self) -> BTreeSet<Seat> {
        self.state.lock().left.clone()
    }

    /// Sends a watcher what it lacks, and every change from now on. A watcher that asks without a
    /// pause has no answer.
    pub(super) fn add_watcher(&self, watcher: &Arc<Inlet>, version: u64) {
        let mut state = self.state.lock();
        if !state.admits(watcher) {
            return;
        }
        if let Some(map) = &state.map {
            let current = map.version == version;
            let known = state.changes.front();
            let known = known.is_some_and(|(first, _)| *first <= version.saturating_add(1));
            if current || (known && version < map.version) {
                let changes = state.changes.iter().filter(|(v, _)| *v > version);
                respond(watcher, &Response::Changes(changes.cloned().collect()));
            } else if let Some(map) = state.encoded() {
                watcher.send(Frame::Control(&map));
            }
        }
        state.handle_has(&watcher.peer, version);
        drop(state);
        self.heard.notify_waiters();
    }

    /// Another node has the map of this version.
    pub(super) fn handle_has(&self, member: &MemberId, version: u64) {
        self.state.lock().handle_has(member, version);
        self.heard.notify_waiters();
    }

    /// Resolves when another member has the map of this version, or when no member listens that
    /// could.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn copied(&self, version: u64) {
        loop {
            // The wait begins before the check, so that no news in between is missed.
            let heard = self.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            let listening: Vec<Arc<Inlet>> = {
                let mut state = self.state.lock();
                if state.copied(version) != Copied::NotYet {
                    return;
                }
                state.listening().cloned().collect()
            };
            let lost = listening
                .iter()
                .map(|inlet| Box::pin(inlet.cancel.cancelled()));
            tokio::select! {
                biased;
                () = heard => {}
                _ = select_all(lost) => {}
            }
        }
    }

    /// No member has acknowledged this version in time. Returns the members that are skipped from
    /// now on.
    pub(super) fn handle_late(&self, version: u64) -> Vec<MemberId> {
        let mut state = self.state.lock();
        let listening: Vec<MemberId> = state.listening().map(|inlet| inlet.peer.clone()).collect();
        state.copies.handle_late(version, listening.iter())
    }
}

impl RaftSnapshotBuilder<Types> for Arc<MapMachine> {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Vec<u8>>> {
        let (meta, map) = {
            let state = self.state.lock();
            let meta = SnapshotMetaOf::<Types> {
                last_log_id: state.applied,
                last_membership: state.membership.clone(),
            };
            (meta, state.map.clone())
        };
        let snapshot = codec::to_vec(&map).map_err(|error| io::Error::other(error.0))?;
        self.keep_snapshot(&meta, &snapshot).await?;
        Ok(SnapshotOf::<Types, Vec<u8>> { meta, snapshot })
    }
}

impl RaftStateMachine<Types> for Arc<MapMachine> {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        let state = self.state.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let (applied, map) = {
                let mut state = self.state.lock();
                #[cfg(feature = "sim")]
                let before = state.map.clone();
                let applied = match &entry.payload {
                    EntryPayload::Normal(decision) => state.decide(decision),
                    EntryPayload::Membership(membership) => {
                        state.membership = StoredMembershipOf::<Types>::new(
                            Some(entry.log_id),
                            membership.clone(),
                        );
                        state.elect(membership)
                    }
                    EntryPayload::Blank => Ok(state.map.as_ref().map_or(0, |map| map.version)),
                };
                state.applied = Some(entry.log_id);
                #[cfg(feature = "sim")]
                self.sight(&entry, before.as_ref(), state.map.as_ref());
                (applied, state.map.clone())
            };
            if let Some(map) = map {
                self.watch.offer(map);
            }
            self.heard.notify_waiters();
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<Types>,
        snapshot: Vec<u8>,
    ) -> io::Result<()> {
        let map: Option<ClusterMap> =
            codec::decode(&snapshot).map_err(|error| io::Error::other(error.0))?;
        self.keep_snapshot(meta, &snapshot).await?;
        {
            let mut state = self.state.lock();
            state.applied = meta.last_log_id;
            state.membership = meta.last_membership.clone();
            state.map.clone_from(&map);
            state.tell_everybody_all();
        }
        if let Some(map) = map {
            self.watch.offer(map);
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Vec<u8>>>> {
        let snapshot = self.snapshot.lock().clone();
        Ok(snapshot.map(|(meta, snapshot)| SnapshotOf::<Types, Vec<u8>> { meta, snapshot }))
    }
}
