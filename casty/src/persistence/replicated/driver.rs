//! The task of a store: it carries out what the machines of its shards decide.
//!
//! One input at a time is given to one machine, and what follows is done before the next one. What
//! is written is gathered, so that one commit and one sync serve all shards that wait.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use casty_log::{CommitError, Done, LogId, ReadError};
use foldhash::fast::FixedState;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, poll_fn},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    body,
    changes::Written,
    commits::{Commit, first_done},
    input::CopyInput,
    message::{CopyEnvelope, StoreMessage},
    one_shard::OneShard,
    outgoing::Outgoing,
    outlet::CopyOutlet,
    pages,
    shard::{Part, ReadAgain, Shard},
    tidies::{Tidies, TidiesRead, TidyAnswer},
};
use crate::{
    infra::{deadline::passed, mutants},
    persistence::{Appended, JournalError, Log, local::OpenDirectory},
    protocol::copies::{
        CopiedRecord, CopiesView, CopyEffect, CopyLimits, CopyMessage, CopyProposal, StopOwning,
        StoreId, Unneeded,
    },
};

/// How many inputs are handled before what they write is committed.
const INPUTS: usize = 512;

/// How many commits are on their way. What comes meanwhile is gathered for the next one: the fewer
/// commits there are, the fewer messages, syncs and confirmations.
const COMMITS: usize = 1;

/// The pause before the shards of a store that failed are read from it again.
const PAUSE: Duration = Duration::from_millis(200);

/// A page that was read for a copy.
struct PageRead {
    id: LogId,
    asked: ReadAgain,
    read: Result<Vec<CopiedRecord>, ReadError>,
}

pub(super) struct Driver {
    me: StoreId,
    limits: CopyLimits,
    directory: Arc<OpenDirectory>,
    outlet: Arc<dyn CopyOutlet>,
    inputs: mpsc::UnboundedReceiver<CopyInput>,
    /// The bytes of the messages that wait.
    queued: Arc<AtomicUsize>,
    shards: HashMap<LogId, Shard, FixedState>,
    deadlines: BTreeSet<(Instant, LogId)>,
    outgoing: Outgoing,
    /// Appends that wait for a commit to end, so that what waits is sent and written together.
    appends: Vec<(Log, Part)>,
    /// What is to be committed next.
    written: Written,
    answers: Vec<TidyAnswer>,
    proposals: Vec<(Log, CopyProposal)>,
    commits: VecDeque<Commit>,
    reads: FuturesUnordered<BoxFuture<'static, PageRead>>,
    tidies_read: FuturesUnordered<BoxFuture<'static, TidiesRead>>,
    /// When the shards that have failed are read from the store again.
    again: Option<Instant>,
    failed: BTreeSet<LogId>,
    /// Shards of which something that was stored cannot be read. They are copied anew once the map
    /// counts on them no more.
    damaged: BTreeSet<LogId>,
}

impl Driver {
    pub(super) fn new(
        directory: Arc<OpenDirectory>,
        limits: CopyLimits,
        outlet: Arc<dyn CopyOutlet>,
        (inputs, queued): (mpsc::UnboundedReceiver<CopyInput>, Arc<AtomicUsize>),
    ) -> Self {
        Self {
            me: StoreId(directory.store),
            limits,
            directory,
            outlet,
            inputs,
            queued,
            shards: HashMap::default(),
            deadlines: BTreeSet::new(),
            outgoing: Outgoing::default(),
            appends: Vec::new(),
            written: Written::default(),
            answers: Vec::new(),
            proposals: Vec::new(),
            commits: VecDeque::new(),
            reads: FuturesUnordered::new(),
            tidies_read: FuturesUnordered::new(),
            again: None,
            failed: BTreeSet::new(),
            damaged: BTreeSet::new(),
        }
    }

    /// Runs until the store is closed, or its last handle is dropped.
    pub(super) async fn run(mut self) {
        let mut sleep = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            self.flush().await;
            let deadline = self.deadlines.first().map(|(at, _)| *at);
            let deadline = deadline.into_iter().chain(self.again).min();
            let Self {
                commits,
                reads,
                tidies_read,
                inputs,
                ..
            } = &mut self;
            tokio::select! {
                biased;
                done = first_done(commits) => self.handle_committed(done),
                Some(page) = reads.next() => self.handle_read(page),
                Some(read) = tidies_read.next() => self.handle_tidies_read(read),
                input = inputs.recv() => {
                    let Some(input) = input else { return };
                    if let Some(closed) = self.handle_inputs(input) {
                        self.outgoing.send_all(&*self.outlet);
                        // The caller may be gone.
                        let _ = closed.send(());
                        return;
                    }
                }
                () = passed(deadline, sleep.as_mut()) => self.handle_time(),
            }
        }
    }

    /// Handles an input and what waits behind it. Returns the answer to a request to close.
    fn handle_inputs(&mut self, first: CopyInput) -> Option<oneshot::Sender<()>> {
        let now = Instant::now();
        let (mut next, mut handled) = (Some(first), 0);
        while let Some(input) = next {
            handled += match &input {
                CopyInput::Messages(envelopes) => envelopes.len().max(1),
                _ => 1,
            };
            let closed = self.handle_input(input, now);
            if closed.is_some() {
                return closed;
            }
            next = if handled < INPUTS {
                self.inputs.try_recv().ok()
            } else {
                None
            };
        }
        None
    }

    fn handle_input(&mut self, input: CopyInput, now: Instant) -> Option<oneshot::Sender<()>> {
        match input {
            CopyInput::Views(views) => {
                for (log, view) in views {
                    self.handle_view(&log, view, now);
                }
            }
            CopyInput::Messages(envelopes) => {
                let weight = envelopes.iter().map(CopyEnvelope::weight).sum();
                self.queued.fetch_sub(weight, Ordering::Relaxed);
                for envelope in envelopes {
                    self.handle_message(envelope, now);
                }
            }
            CopyInput::Claim { log, claim } => {
                if let Some(shard) = self.shard(&log) {
                    shard.claims.push(claim);
                    shard.settle_claims();
                } else {
                    let reason = format!("{log} was not prepared by `open`");
                    let unavailable = JournalError::Unavailable { reason };
                    let _ = claim.answer.send(Err(unavailable.into()));
                }
            }
            CopyInput::Appends(mut parts) => {
                // While a disk hangs, callers give up, and come again.
                self.appends.retain(|(_, part)| !part.answer.is_closed());
                self.appends.append(&mut parts);
            }
            CopyInput::Tidy {
                log,
                epoch,
                tidy,
                answer,
            } => {
                let Some(id) = self.shard(&log).map(|shard| shard.id) else {
                    // Nothing is stored of it.
                    let _ = answer.send(Ok(()));
                    return None;
                };
                let answer = self.with_one(id, |one| one.handle_tidy(epoch, tidy, answer, now));
                self.answers.extend(answer.flatten());
            }
            CopyInput::Damaged(log) => {
                if let Some(id) = self.shard(&log).map(|shard| shard.id) {
                    self.handle_damage(id, now);
                }
            }
            CopyInput::Why { log, answer } => {
                let _ = answer.send(self.why(&log));
            }
            CopyInput::Durable { log, answer } => {
                let durable = self.shard(&log).and_then(|shard| shard.copy.may_leave());
                let _ = answer.send(durable.ok_or_else(|| self.why(&log)));
            }
            CopyInput::Close(closed) => return Some(closed),
        }
        None
    }
}

// ---- Inputs.

impl Driver {
    fn handle_view(&mut self, log: &Log, view: CopiesView, now: Instant) {
        let concerns = view.is_owner || view.in_sync.contains(&self.me);
        let Some(id) = self.directory.id(log) else {
            return;
        };
        // A store that has nothing to do with a shard need not know of it.
        let holds = || self.directory.engine.reader().head(id).position > 0;
        if !concerns && !self.shards.contains_key(&id) && !holds() {
            return;
        }
        if let Some(shard) = self.shard(log) {
            shard.view = Some(view.clone());
        }
        if self.damaged.contains(&id) {
            return self.handle_view_of_damaged(id, &view, now);
        }
        self.with(id, now, |shard| shard.copy.handle_view(view, now));
        if let Some(shard) = self.shards.get_mut(&id) {
            shard.settle_claims();
        }
        let pause = self.limits.keep_dropped;
        self.with_one(id, |one| {
            one.tell_tidies(now);
            one.note_unneeded(pause, now);
        });
    }

    fn handle_message(&mut self, envelope: CopyEnvelope, now: Instant) {
        let log = envelope.log();
        if envelope.to != self.me {
            return;
        }
        let Some(shard) = self.shard(&log) else {
            tracing::debug!(%log, from = %envelope.from, "a message about a shard that is not kept");
            return;
        };
        let id = shard.id;
        let from = envelope.from;
        match envelope.message {
            StoreMessage::Copy(message) => {
                if let CopyMessage::Append(append) = &message
                    && let Err(error) = append.records.iter().try_for_each(body::check)
                {
                    tracing::warn!(%log, %from, %error, "a store sent a record that is none");
                    return;
                }
                if let (CopyMessage::Append(_), Some(unneeded)) = (&message, &mut shard.unneeded) {
                    unneeded.handle_append(now);
                }
                self.with(id, now, |shard| {
                    shard.copy.handle_message(from, message, now);
                });
            }
            StoreMessage::Unneeded {
                epoch,
                confirmed,
                asked,
            } => {
                self.with_one(id, |one| {
                    one.handle_unneeded(from, (epoch, confirmed, asked));
                });
            }
            StoreMessage::Spared {
                epoch,
                by_owner,
                confirmed,
                asked,
            } => {
                let (from, asked) = ((from, by_owner), (epoch, confirmed, asked));
                if self.with_one(id, |one| one.handle_spared(from, asked)) == Some(true) {
                    self.delete(id, now);
                }
            }
            StoreMessage::Damaged { epoch } => {
                self.with(id, now, |shard| shard.copy.handle_damaged_copy(epoch));
            }
            other => {
                let read = self.with_one(id, |one| one.handle_tidy_message(from, other, now));
                self.tidies_read.extend(read.flatten());
            }
        }
    }

    /// A shard of which something cannot be read is neither owned nor confirmed any more.
    fn handle_damage(&mut self, id: LogId, now: Instant) {
        if !self.damaged.insert(id) {
            return;
        }
        self.with(id, now, |shard| shard.copy.handle_failed());
        if let Some(view) = self.shards.get(&id).and_then(|shard| shard.view.clone()) {
            self.handle_view_of_damaged(id, &view, now);
        }
    }

    /// The owner gives the shard up, and a copy waits until it is dropped. Then it begins anew,
    /// once nothing counts any more that it may have confirmed: what is needed is in the stores in
    /// sync.
    fn handle_view_of_damaged(&mut self, id: LogId, view: &CopiesView, now: Instant) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        shard.damaged_again = None;
        if view.is_owner {
            self.outlet
                .stopped(&shard.log, view.epoch, StopOwning::StoreFailed);
            return;
        }
        if view.in_sync.contains(&self.me) {
            return;
        }
        let may_count = shard.copy.may_have_confirmed(view.epoch).is_some();
        if may_count && !mutants::on("a_damaged_copy_begins_anew_at_once") {
            shard.damaged_again = Some(now);
            self.note_deadline(id);
            return;
        }
        tracing::warn!(log = %shard.log, "a damaged copy begins anew");
        self.damaged.remove(&id);
        self.clear(id, now);
    }

    fn why(&mut self, log: &Log) -> String {
        let outlet = self.outlet.clone();
        let Some(shard) = self.shard(log) else {
            return format!("{log} is not known here");
        };
        if shard.copy.owns().is_none() {
            return "the map has not named this node as the owner yet".to_owned();
        }
        let nodes = shard.missing(&*outlet);
        if nodes.is_empty() {
            return "too few copies are in sync, or the disk of this node is slow".to_owned();
        }
        let nodes = nodes.join(", ");
        format!("it waits for what is stored at {nodes}")
    }

    fn handle_read(&mut self, page: PageRead) {
        let now = Instant::now();
        let PageRead { id, asked, read } = page;
        let ReadAgain {
            to, epoch, after, ..
        } = asked;
        match read {
            // What is to be read is not synced yet.
            Ok(records) if records.is_empty() => {
                if let Some(shard) = self.shards.get_mut(&id) {
                    shard.reads.push(asked);
                }
            }
            Ok(records) => self.with(id, now, |shard| {
                shard.copy.handle_read(to, epoch, after, records, now);
            }),
            Err(error) => {
                let log = self.shards.get(&id).map(|shard| shard.log.to_string());
                tracing::error!(log, %error, "records cannot be read for a copy");
                if let ReadError::Damaged(_) = error {
                    self.handle_damage(id, now);
                } else {
                    self.fail([id].into());
                }
            }
        }
    }

    fn handle_time(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(shard) = self.shards.get_mut(&id) {
                shard.deadline = None;
            }
            self.with(id, now, |shard| shard.copy.handle_time(now));
            self.with_one(id, |one| {
                one.handle_tidies_time(now);
                one.ask_unneeded(now);
                one.tell_damaged(now);
            });
            self.fail_late(id, now);
        }
        if self.again.is_some_and(|again| again <= now) {
            self.again = None;
            self.read_again(now);
        }
    }
}

// ---- What follows.

impl Driver {
    fn with_one<R>(&mut self, id: LogId, with: impl FnOnce(&mut OneShard<'_>) -> R) -> Option<R> {
        let mut one = OneShard {
            me: self.me,
            directory: &self.directory,
            outlet: &*self.outlet,
            outgoing: &mut self.outgoing,
            shard: self.shards.get_mut(&id)?,
            written: &mut self.written,
        };
        let answer = with(&mut one);
        self.note_deadline(id);
        Some(answer)
    }

    /// What is stored of a shard is of no use any more.
    fn delete(&mut self, id: LogId, now: Instant) {
        if self.damaged.contains(&id) || self.failed.contains(&id) {
            return;
        }
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        shard.unneeded = None;
        tracing::info!(log = %shard.log, "an old copy is deleted: other nodes have the shard");
        // Whatever comes until it is gone is not heard.
        shard.copy.handle_failed();
        self.clear(id, now);
        self.note_deadline(id);
    }

    /// All that is stored of a shard goes. It is read again then, as one of which there is nothing.
    fn clear(&mut self, id: LogId, now: Instant) {
        let promised = self.shards.get(&id).map(|shard| shard.promised);
        self.written.clear_log(id, promised.unwrap_or_default());
        self.failed.insert(id);
        self.again = Some(now);
    }

    fn handle_tidies_read(&mut self, read: TidiesRead) {
        let now = Instant::now();
        let TidiesRead {
            id,
            epoch,
            to,
            why,
            read,
        } = read;
        let read = read.unwrap_or_else(|error| {
            let log = self.shards.get(&id).map(|shard| shard.log.to_string());
            tracing::error!(log, %error, "snapshots cannot be read for a copy");
            if let ReadError::Damaged(_) = error {
                self.handle_damage(id, now);
            }
            (Vec::new(), None)
        });
        self.with_one(id, |one| {
            one.handle_tidies_read((epoch, to, why), read, now);
        });
    }

    /// What waits too long for copies is not known to be stored.
    fn fail_late(&mut self, id: LogId, now: Instant) {
        if let Some(shard) = self.shards.get_mut(&id) {
            shard.fail_late(now, shard.missing(&*self.outlet));
        }
        self.note_deadline(id);
    }

    /// The shard of this log, if its type is known here.
    fn shard(&mut self, log: &Log) -> Option<&mut Shard> {
        let id = self.directory.id(log)?;
        match self.shards.entry(id) {
            Entry::Occupied(shard) => Some(shard.into_mut()),
            Entry::Vacant(place) => {
                let (_, shards) = self.directory.engine.reader().kind(&log.kind)?;
                if log.shard >= shards {
                    return None;
                }
                let limits = self.limits.clone();
                let (copy, promised) = Shard::recovered(&self.directory, id, self.me, limits);
                Some(place.insert(Shard::new(log.clone(), id, copy, promised)))
            }
        }
    }

    /// Gives an input to the machine of a shard, and does what follows.
    fn with(&mut self, id: LogId, now: Instant, input: impl FnOnce(&mut Shard)) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        input(shard);
        loop {
            let Some(shard) = self.shards.get_mut(&id) else {
                return;
            };
            let effects = shard.copy.take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(id, effect, now);
            }
        }
        self.note_deadline(id);
    }

    /// A deadline that has become later, or is over, stays as it was: with each confirmation there
    /// is another one. The shard is looked at once in vain.
    fn note_deadline(&mut self, id: LogId) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        let tidies = shard.tidies.as_ref().and_then(Tidies::deadline);
        let unneeded = shard.unneeded.as_ref().map(Unneeded::deadline);
        let others = tidies.into_iter().chain(shard.late_at).chain(unneeded);
        let others = others.chain(shard.damaged_again);
        let deadline = shard.copy.deadline().into_iter().chain(others).min();
        let is_sooner = match (deadline, shard.deadline) {
            (Some(deadline), Some(noted)) => deadline < noted,
            (deadline, None) => deadline.is_some(),
            (None, Some(_)) => false,
        };
        if !is_sooner {
            return;
        }
        if let Some(at) = std::mem::replace(&mut shard.deadline, deadline) {
            self.deadlines.remove(&(at, id));
        }
        self.deadlines.extend(deadline.map(|at| (at, id)));
    }

    fn carry_out(&mut self, id: LogId, effect: CopyEffect, now: Instant) {
        let Some(shard) = self.shards.get_mut(&id) else {
            return;
        };
        match effect {
            CopyEffect::Write(write) => {
                shard.promised = shard.promised.max(write.promise.unwrap_or_default());
                self.written.write(id, shard.promised, write);
            }
            CopyEffect::Send { to, message } => {
                let message = StoreMessage::Copy(message);
                self.outgoing.add(shard.envelope(self.me, to, message));
            }
            CopyEffect::Read {
                to,
                epoch,
                after,
                bytes,
            } => self.read(
                id,
                ReadAgain {
                    to,
                    epoch,
                    after,
                    bytes,
                },
            ),
            CopyEffect::Ship { to, epoch, .. } => {
                // Nothing is trimmed, so each copy can be sent all records.
                let log = &shard.log;
                tracing::warn!(%log, %to, "a store claims to need a snapshot of a whole shard");
                shard.copy.handle_shipped(to, epoch, now);
            }
            CopyEffect::Propose(proposal) => self.proposals.push((shard.log.clone(), proposal)),
            CopyEffect::MayLeave(upto) => {
                shard.confirm(upto);
                shard.unblock(now);
                shard.settle_claims();
                if shard.tidies.is_none() {
                    self.with_one(id, |one| one.tell_tidies(now));
                }
            }
            CopyEffect::Stop(epoch, why) => {
                tracing::debug!(log = %shard.log, %epoch, %why, "a shard is not owned any more");
                shard.stop(epoch, why);
                shard.settle_claims();
                self.outlet.stopped(&shard.log, epoch, why);
            }
            CopyEffect::Malformed(store, error) => {
                tracing::warn!(log = %shard.log, %store, %error, "a store breaks the protocol");
            }
        }
    }

    /// Appends what has waited.
    fn append_all(&mut self) {
        let now = Instant::now();
        for (log, part) in std::mem::take(&mut self.appends) {
            // The caller is gone, and nothing was written. A claim may have said so meanwhile.
            if part.answer.is_closed() {
                continue;
            }
            if let Some(id) = self.shard(&log).map(|shard| shard.id) {
                self.with(id, now, |shard| shard.append(part, now));
            } else {
                let _ = part.answer.send(Ok(Appended::Refused));
            }
        }
    }

    fn read(&self, id: LogId, asked: ReadAgain) {
        let directory = self.directory.clone();
        self.reads.push(Box::pin(async move {
            let read = pages::read(directory, id, asked.after, asked.bytes).await;
            PageRead { id, asked, read }
        }));
    }

    /// Sends what is to be sent, commits what is to be written, and proposes what is to be
    /// proposed.
    async fn flush(&mut self) {
        if self.commits.len() < COMMITS && !self.appends.is_empty() {
            self.append_all();
        }
        self.outgoing.send_all(&*self.outlet);
        if !self.proposals.is_empty() {
            self.outlet.propose(std::mem::take(&mut self.proposals));
        }
        while self.commits.len() < COMMITS && !self.written.is_empty() {
            let mut written = std::mem::take(&mut self.written);
            let directory = self.directory.clone();
            let changes = written.take_changes();
            let running = async move { directory.engine.commit(changes).await };
            let mut commit = Commit {
                written,
                answers: std::mem::take(&mut self.answers),
                running: Box::pin(running),
            };
            // Polled now, it is in the queue of the log before the next one.
            let polled = poll_fn(|context| Poll::Ready(commit.running.poll_unpin(context)));
            if let Poll::Ready(done) = polled.await {
                commit.running = Box::pin(std::future::ready(done));
            }
            self.commits.push_back(commit);
        }
    }

    fn handle_committed(&mut self, (commit, done): (Commit, Result<Vec<Done>, CommitError>)) {
        let Commit {
            mut written,
            answers,
            ..
        } = commit;
        let now = Instant::now();
        let outcome = match &done {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::error!(store = %self.me, %error, "the store of this node fails");
                let reason = error.to_string();
                Err(JournalError::Unavailable { reason })
            }
        };
        for answer in answers {
            let _ = answer.send(outcome.clone());
        }
        for (id, epoch, number) in std::mem::take(&mut written.erased) {
            let outcome = outcome.clone();
            self.with_one(id, |one| {
                one.with_tidies(epoch, |tidies| tidies.handle_erased(number, outcome));
            });
        }
        let Ok(done) = done else {
            return self.fail(written.shards());
        };
        for envelope in written.said(&done, self.directory.engine.reader()) {
            self.outgoing.add(envelope);
        }
        let refused = written.refused(&done);
        for (id, mark) in written.marks() {
            if refused.contains(&id) {
                continue;
            }
            self.with(id, now, |shard| shard.copy.handle_synced(mark, now));
            let reads = self
                .shards
                .get_mut(&id)
                .map(|it| std::mem::take(&mut it.reads));
            for asked in reads.unwrap_or_default() {
                self.read(id, asked);
            }
        }
        if !refused.is_empty() {
            tracing::error!(store = %self.me, ?refused, "the store has another log than it should");
            self.fail(refused);
        }
    }

    /// The store has failed to write something of these shards.
    fn fail(&mut self, shards: BTreeSet<LogId>) {
        let now = Instant::now();
        for id in shards {
            if self.failed.insert(id) {
                self.with(id, now, |shard| shard.copy.handle_failed());
            }
        }
        self.again.get_or_insert(now + PAUSE);
    }

    /// Reads the shards that have failed from the store, once it works again.
    fn read_again(&mut self, now: Instant) {
        // What was on its way when the store failed is to be decided first.
        if !self.commits.is_empty() || !self.written.is_empty() {
            self.again = Some(now + PAUSE);
            return;
        }
        if self.directory.engine.is_dead() {
            // A commit opens the store again.
            self.written.touch();
            self.again = Some(now + PAUSE);
            return;
        }
        for id in std::mem::take(&mut self.failed) {
            if self.damaged.contains(&id) {
                continue;
            }
            let (copy, promised) =
                Shard::recovered(&self.directory, id, self.me, self.limits.clone());
            let Some(shard) = self.shards.get_mut(&id) else {
                continue;
            };
            (shard.copy, shard.promised) = (copy, promised);
            shard.reads.clear();
            let Some(view) = shard.view.clone() else {
                continue;
            };
            self.with(id, now, |shard| shard.copy.handle_view(view, now));
        }
    }
}
