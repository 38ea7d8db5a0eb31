//! Decides what is committed to a store when, and what is known of it afterwards. Writes nothing
//! itself.
//!
//! While one commit runs, what comes is gathered for the next one, up to a bound. There is no
//! timer, so a lone record never waits. Positions are assigned when a commit begins. A log takes
//! part in one commit at a time, so its head is known whenever the next one begins, and what was
//! refused or has failed leaves no gap.
//!
//! **Unknown outcomes.** If a connection is lost within a commit, the store may have written the
//! records, or may yet write them. Then nothing more is written to these logs until a claim under
//! the same epoch has returned. It waits for the end of the commit, and since this node alone
//! writes under the epoch, the head that it returns tells: either it is where it was, or all
//! records of the commit are there. Any other head means that the store has lost something, and the
//! log is not served.
//!
//! **What follows a record that failed** was computed from a state that is not stored. So once a
//! record has failed, each later one of the same activation fails as well.

mod claims;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use self::claims::Claims;
pub(crate) use self::claims::LogId;
use crate::infra::{backoff::Backoff, mutants};

/// The pause after the first failed claim of a log. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between claims.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A record that waits to be written, and the activation that is told of it.
pub(crate) trait Ticket {
    /// The record, once it has a position.
    type Record;

    fn record(&self, position: u64) -> Self::Record;

    /// The size of its body.
    fn bytes(&self) -> usize;

    /// The activation that wrote it: a number that no other present activation has.
    fn writer(&self) -> usize;

    /// Whether an earlier record of the activation has failed.
    fn has_failed(&self) -> bool;
}

/// Whether a log is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The store has not answered yet. The last error, if there was one.
    Pending(Option<String>),
    Held,
    /// It cannot be claimed: another owner has it, or the store does not fit.
    Refused(String),
}

/// Why a claim did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimFailure {
    /// Another try may succeed.
    Unavailable(String),
    /// No further try helps.
    Final(String),
}

/// One commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommitId(pub(crate) u64);

/// The records of one log in a commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<R> {
    pub(crate) log: LogId,
    pub(crate) records: Vec<R>,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// For each part, whether it is written. Otherwise it was refused.
    Answered(Vec<bool>),
    NotWritten(String),
    Unknown(String),
    /// Unknown, for these nodes do not answer: see [`CommitEffect::Fail`].
    NotEnoughCopies(Vec<String>),
}

/// What is to be done. The effects of one input are carried out before the next input, unless that
/// is a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommitEffect<T: Ticket> {
    Claim(LogId),
    /// The claim that runs is given up.
    GiveUpClaim(LogId),
    Commit(CommitId, Vec<Part<T::Record>>),
    /// The commit that runs is given up. It may still be written.
    GiveUpCommit(CommitId),
    Confirm(T, u64),
    Fail {
        ticket: T,
        reason: Arc<str>,
        /// The nodes for which a store with copies waits.
        missing: Arc<[String]>,
        /// It may have been written, or may yet be.
        possibly: bool,
    },
    Stands(LogId, Claim),
    /// The store has another head than it must have: it has lost records, or has more.
    Astray {
        log: LogId,
        head: u64,
        expected: u64,
    },
    /// There is nothing left to do for the log, which is gone.
    Forget(LogId),
}

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Records of one commit.
    pub(crate) records: usize,
    /// Bytes of bodies of one commit, unless it has one record.
    pub(crate) bytes: usize,
    /// Commits at once.
    pub(crate) lanes: usize,
    /// How many records have to wait for a further commit to begin beside one that runs.
    pub(crate) lane_records: usize,
    /// Claims at once.
    pub(crate) claims: usize,
    /// How long a record waits for the store.
    pub(crate) patience: Duration,
    /// How long a commit or a claim may run.
    pub(crate) operation: Duration,
}

/// The machine. `T` is a record with its [`Ticket`].
pub(crate) struct Commits<T: Ticket> {
    bounds: Bounds,
    logs: BTreeMap<LogId, LogState<T>>,
    /// Logs with records that may be written now, each once.
    ready: VecDeque<LogId>,
    running: BTreeMap<CommitId, Running>,
    claims: Claims,
    begun: u64,
    /// No record has waited for too long before this time.
    sweep_at: Option<Instant>,
    is_closing: bool,
    effects: Vec<CommitEffect<T>>,
}

#[derive(Debug)]
struct Running {
    since: Instant,
    logs: Vec<LogId>,
}

#[derive(Debug)]
struct Queued<T> {
    ticket: T,
    since: Instant,
}

#[derive(Debug)]
struct LogState<T> {
    stage: LogStage,
    /// The position of the last record that is known to be written.
    head: u64,
    queue: VecDeque<Queued<T>>,
    /// Records that are being written, or of which it is not known whether they are.
    batch: Vec<Queued<T>>,
    backoff: Backoff,
    /// No record is added any more.
    is_gone: bool,
    /// The nodes for which the last commit has waited in vain, until the log is held again.
    missing: Arc<[String]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LogStage {
    /// It is being claimed for the first time.
    New,
    Held,
    /// It is part of a commit.
    Committing,
    /// It is being claimed again. So many records after the head may be written.
    InDoubt(u64),
    Refused(Arc<str>),
}

impl<T> LogState<T> {
    fn is_claiming(&self) -> bool {
        matches!(self.stage, LogStage::New | LogStage::InDoubt(_))
    }

    /// When the first record will have waited for too long, apart from those that are being
    /// written.
    fn oldest(&self) -> Option<Instant> {
        let in_doubt = self.batch.first().filter(|_| self.is_claiming());
        let oldest = self.queue.front().into_iter().chain(in_doubt);
        oldest.map(|queued| queued.since).min()
    }
}

// ---- Inputs.

impl<T: Ticket> Commits<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            claims: Claims::new(bounds.claims, bounds.operation),
            bounds,
            logs: BTreeMap::new(),
            ready: VecDeque::new(),
            running: BTreeMap::new(),
            begun: 0,
            sweep_at: None,
            is_closing: false,
            effects: Vec::new(),
        }
    }

    /// This node owns a shard from now on, under a new epoch, or again under the same one.
    /// `instead_of`: an earlier ownership of the same shard.
    pub(crate) fn handle_opened(&mut self, log: LogId, instead_of: Option<LogId>) {
        if let Some(earlier) = instead_of {
            let reason: Arc<str> = "the shard was taken from this activation".into();
            if let Some(earlier) = self.logs.get_mut(&earlier) {
                let queue = std::mem::take(&mut earlier.queue);
                let why = (&reason, &Arc::default());
                self.effects.extend(failures(queue, why, false));
            }
            self.handle_gone(earlier);
        }
        let state = LogState {
            stage: LogStage::New,
            head: 0,
            queue: VecDeque::new(),
            batch: Vec::new(),
            backoff: Backoff::new(PAUSE, PAUSE_MAX),
            is_gone: false,
            missing: Arc::default(),
        };
        self.logs.insert(log, state);
        self.claims.want(log);
    }

    /// This node has given the shard up. What is queued is written, as far as the store takes it.
    pub(crate) fn handle_gone(&mut self, log: LogId) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        state.is_gone = true;
        let is_done = state.queue.is_empty() && state.stage != LogStage::Committing;
        if is_done || state.is_claiming() {
            self.forget(log);
        }
    }

    pub(crate) fn handle_record(&mut self, log: LogId, ticket: T, now: Instant) {
        let reason = match self.logs.get_mut(&log) {
            None => "the shard is not on this node any more".into(),
            Some(_) if self.is_closing => "the node shuts down".into(),
            Some(LogState {
                stage: LogStage::Refused(reason),
                ..
            }) => reason.clone(),
            Some(_) if ticket.has_failed() && !mutants::on("records_follow_a_failed_one") => {
                "an earlier record of the activation was not stored".into()
            }
            Some(state) => {
                let was_empty = state.queue.is_empty();
                state.queue.push_back(Queued { ticket, since: now });
                if was_empty && state.stage == LogStage::Held {
                    self.ready.push_back(log);
                }
                self.sweep_by(now + self.bounds.patience);
                return;
            }
        };
        self.effects.push(CommitEffect::Fail {
            ticket,
            reason,
            missing: Arc::default(),
            possibly: false,
        });
    }

    /// The store has answered a commit, or has failed.
    pub(crate) fn handle_ended(&mut self, commit: CommitId, ended: &Ended) {
        let Some(Running { logs, .. }) = self.running.remove(&commit) else {
            return;
        };
        for (index, log) in logs.into_iter().enumerate() {
            match ended {
                Ended::Answered(parts) => match parts.get(index) {
                    Some(true) => self.written(log),
                    Some(false) => self.refused(log),
                    // The store does not keep its contract.
                    None => self.in_doubt(log, "the store has not answered for all records"),
                },
                Ended::NotWritten(reason) => {
                    self.fail_batch(log, reason, false);
                    self.held(log);
                }
                Ended::Unknown(reason) => self.in_doubt(log, reason),
                Ended::NotEnoughCopies(missing) => {
                    if let Some(state) = self.logs.get_mut(&log) {
                        state.missing = missing.clone().into();
                    }
                    let nodes = missing.join(", ");
                    self.in_doubt(log, &format!("it waits for what is stored at {nodes}"));
                }
            }
        }
    }

    /// A claim has returned the head of its log, or has failed. `jitter` is random, from 0 to 1.
    pub(crate) fn handle_claimed(
        &mut self,
        log: LogId,
        claimed: Result<u64, ClaimFailure>,
        jitter: f64,
        now: Instant,
    ) {
        if !self.claims.end(log) {
            return;
        }
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        let head = match claimed {
            Ok(head) => head,
            Err(ClaimFailure::Final(reason)) => return self.refuse(log, &reason.into()),
            Err(ClaimFailure::Unavailable(reason)) => {
                let pause = state.backoff.pause(jitter);
                self.claims.pause(log, now + pause);
                let stands = CommitEffect::Stands(log, Claim::Pending(Some(reason)));
                return self.effects.push(stands);
            }
        };
        state.backoff.reset();
        state.missing = Arc::default();
        match state.stage {
            LogStage::New => state.head = head,
            LogStage::InDoubt(_) if head == state.head => {
                self.fail_batch(log, "the store has not written it", false);
            }
            LogStage::InDoubt(doubtful) if head == state.head + doubtful => self.confirm_batch(log),
            _ => {
                let expected = state.head;
                self.effects.push(CommitEffect::Astray {
                    log,
                    head,
                    expected,
                });
                let reason = format!(
                    "the store has head {head} where this node has written up to {expected}: it \
                     was restored from an older copy, or it is not one store"
                );
                return self.refuse(log, &reason.into());
            }
        }
        self.effects.push(CommitEffect::Stands(log, Claim::Held));
        self.held(log);
    }

    /// `jitter` is random, from 0 to 1.
    pub(crate) fn handle_time(&mut self, now: Instant, jitter: f64) {
        let limit = self.bounds.operation;
        let overdue = self.running.iter();
        let overdue = overdue.filter(|(_, running)| running.since + limit <= now);
        let overdue: Vec<_> = overdue.map(|(commit, _)| *commit).collect();
        let no_answer = format!("the store has not answered for {limit:?}");
        for commit in overdue {
            self.effects.push(CommitEffect::GiveUpCommit(commit));
            self.handle_ended(commit, &Ended::Unknown(no_answer.clone()));
        }
        for log in self.claims.overdue(now) {
            self.effects.push(CommitEffect::GiveUpClaim(log));
            // Not all at the same time.
            #[expect(clippy::cast_precision_loss, reason = "any number will do")]
            let jitter = (jitter + log.0 as f64 * 0.618).fract();
            let failure = ClaimFailure::Unavailable(no_answer.clone());
            self.handle_claimed(log, Err(failure), jitter, now);
        }
        self.claims.handle_time(now);
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep(now);
        }
    }

    /// The node shuts down. What is queued is still written.
    pub(crate) fn handle_closing(&mut self) {
        self.is_closing = true;
    }
}

// ---- What follows.

impl<T: Ticket> Commits<T> {
    /// When [`handle_time`](Self::handle_time) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let oldest = self.running.values().map(|running| running.since).min();
        let overdue = oldest.map(|since| since + self.bounds.operation);
        let others = [overdue, self.claims.deadline(), self.sweep_at];
        others.into_iter().flatten().min()
    }

    /// Whether no record waits, while the node shuts down.
    pub(crate) fn is_closed(&self) -> bool {
        let is_done = |state: &LogState<T>| state.queue.is_empty() && state.batch.is_empty();
        self.is_closing && self.running.is_empty() && self.logs.values().all(is_done)
    }

    /// What follows from the inputs since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<CommitEffect<T>> {
        std::mem::take(&mut self.effects)
    }

    /// Begins what may begin now: claims, and commits. All that is known to wait is part of it, so
    /// this is called once all inputs that are there are handled.
    pub(crate) fn begin(&mut self, now: Instant) {
        while let Some(log) = self.claims.begin(now) {
            self.effects.push(CommitEffect::Claim(log));
        }
        while self.may_commit() {
            self.commit(now);
        }
    }

    fn may_commit(&self) -> bool {
        !self.ready.is_empty() && self.needed() == 0
    }

    /// Without so many further records no commit begins now.
    pub(crate) fn needed(&self) -> usize {
        if self.running.is_empty() {
            return usize::from(self.ready.is_empty());
        }
        if self.running.len() >= self.bounds.lanes {
            return usize::MAX;
        }
        let ready = self.ready.iter().filter_map(|log| self.logs.get(log));
        let waiting = ready.map(|state| state.queue.len()).sum();
        self.bounds.lane_records.saturating_sub(waiting)
    }

    fn commit(&mut self, now: Instant) {
        let (mut records, mut bytes, mut parts) = (0, 0, Vec::new());
        let commit = CommitId(self.begun);
        while let Some(log) = self.ready.pop_front() {
            let Some(state) = self.logs.get_mut(&log) else {
                continue;
            };
            let mut part = Vec::new();
            while let Some(first) = state.queue.front() {
                let with_it = bytes + first.ticket.bytes();
                let is_full = records >= self.bounds.records || with_it > self.bounds.bytes;
                if is_full && records > 0 {
                    break;
                }
                (records, bytes) = (records + 1, with_it);
                if let Some(first) = state.queue.pop_front() {
                    let position = state.head + part.len() as u64 + 1;
                    part.push(first.ticket.record(position));
                    state.batch.push(first);
                }
            }
            if part.is_empty() && state.queue.is_empty() {
                continue;
            }
            if part.is_empty() {
                self.ready.push_front(log);
                break;
            }
            state.stage = LogStage::Committing;
            parts.push(Part { log, records: part });
        }
        if parts.is_empty() {
            return;
        }
        self.begun += 1;
        let logs = parts.iter().map(|part| part.log).collect();
        self.running.insert(commit, Running { since: now, logs });
        self.effects.push(CommitEffect::Commit(commit, parts));
    }

    fn written(&mut self, log: LogId) {
        self.confirm_batch(log);
        self.held(log);
    }

    /// Nothing was written. A further claim tells why.
    fn refused(&mut self, log: LogId) {
        let pending = Claim::Pending(Some("the store has refused a record".to_owned()));
        self.effects.push(CommitEffect::Stands(log, pending));
        self.fail_batch(
            log,
            "the store has refused it: the shard may have another owner",
            false,
        );
        if let Some(state) = self.logs.get_mut(&log) {
            state.stage = LogStage::InDoubt(0);
            self.claim_again(log);
        }
    }

    fn in_doubt(&mut self, log: LogId, reason: &str) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        if mutants::on("unknown_is_not_written") {
            self.fail_batch(log, reason, false);
            return self.held(log);
        }
        if mutants::on("unknown_is_written") {
            return self.written(log);
        }
        // Before any record of the log fails: nothing is to be read before the claim.
        let pending = Claim::Pending(Some(reason.to_owned()));
        self.effects.push(CommitEffect::Stands(log, pending));
        state.stage = LogStage::InDoubt(state.batch.len() as u64);
        let oldest = state.oldest();
        self.claim_again(log);
        if let Some(since) = oldest {
            self.sweep_by(since + self.bounds.patience);
        }
    }

    fn claim_again(&mut self, log: LogId) {
        match self.logs.get(&log) {
            Some(state) if state.is_gone => self.forget(log),
            _ => self.claims.want(log),
        }
    }

    /// The log can be written to, and its head is known.
    fn held(&mut self, log: LogId) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        state.stage = LogStage::Held;
        if !state.queue.is_empty() {
            self.ready.push_back(log);
        } else if state.is_gone {
            self.forget(log);
        }
    }

    /// The log will not be written to any more.
    fn refuse(&mut self, log: LogId, reason: &Arc<str>) {
        let refused = Claim::Refused(reason.to_string());
        self.effects.push(CommitEffect::Stands(log, refused));
        if let Some(state) = self.logs.get_mut(&log) {
            state.stage = LogStage::Refused(reason.clone());
            // A claim that was refused has not waited for the end of a commit.
            let why = (reason, &Arc::default());
            let batch = std::mem::take(&mut state.batch);
            self.effects.extend(failures(batch, why, true));
            let queue = std::mem::take(&mut state.queue);
            self.effects.extend(failures(queue, why, false));
        }
    }

    fn confirm_batch(&mut self, log: LogId) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        if let LogStage::InDoubt(doubtful) = state.stage
            && state.batch.is_empty()
        {
            // Its records were given up before.
            state.head += doubtful;
        }
        for Queued { ticket, .. } in state.batch.drain(..) {
            state.head += 1;
            self.effects.push(CommitEffect::Confirm(ticket, state.head));
        }
    }

    /// The records of the batch fail, and what follows them.
    fn fail_batch(&mut self, log: LogId, reason: &str, possibly: bool) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        let reason = Arc::from(reason);
        let writers = state.batch.iter().map(|queued| queued.ticket.writer());
        let writers: BTreeSet<_> = writers.collect();
        let batch = std::mem::take(&mut state.batch);
        let why = (&reason, &state.missing);
        self.effects.extend(failures(batch, why, possibly));
        self.fail_followers(log, &writers, &reason);
    }

    /// Fails what activations have queued of which a record has failed.
    fn fail_followers(&mut self, log: LogId, writers: &BTreeSet<usize>, reason: &Arc<str>) {
        let Some(state) = self.logs.get_mut(&log) else {
            return;
        };
        if writers.is_empty() || mutants::on("records_follow_a_failed_one") {
            return;
        }
        let queue = std::mem::take(&mut state.queue);
        let (followers, others): (VecDeque<_>, VecDeque<_>) = queue
            .into_iter()
            .partition(|queued| writers.contains(&queued.ticket.writer()));
        state.queue = others;
        let why = (reason, &state.missing);
        self.effects.extend(failures(followers, why, false));
        if state.queue.is_empty() {
            self.ready.retain(|ready| *ready != log);
        }
    }

    fn forget(&mut self, log: LogId) {
        if self.claims.forget(log) {
            self.effects.push(CommitEffect::GiveUpClaim(log));
        }
        self.ready.retain(|ready| *ready != log);
        if let Some(state) = self.logs.remove(&log) {
            let reason: Arc<str> = "the shard is not on this node any more".into();
            let why = (&reason, &Arc::default());
            self.effects.extend(failures(state.batch, why, true));
            self.effects.extend(failures(state.queue, why, false));
        }
        self.effects.push(CommitEffect::Forget(log));
    }

    fn sweep_by(&mut self, at: Instant) {
        self.sweep_at = Some(self.sweep_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Fails what has waited for too long.
    fn sweep(&mut self, now: Instant) {
        let patience = self.bounds.patience;
        let late = |since: Instant| since + patience <= now;
        let logs: Vec<_> = self.logs.keys().copied().collect();
        let reason: Arc<str> = format!("the store has not taken it within {patience:?}").into();
        for log in logs {
            let Some(state) = self.logs.get_mut(&log) else {
                continue;
            };
            let first = state.batch.first().filter(|_| state.is_claiming());
            if first.is_some_and(|first| late(first.since)) {
                let reason = "it is not known whether the store has written it, and the store has \
                              not answered since";
                self.fail_batch(log, reason, true);
            }
            let Some(state) = self.logs.get_mut(&log) else {
                continue;
            };
            let count = state.queue.iter().take_while(|queued| late(queued.since));
            let count = count.count();
            let expired: Vec<_> = state.queue.drain(..count).collect();
            let writers = expired
                .iter()
                .map(|queued| queued.ticket.writer())
                .collect();
            let why = (&reason, &state.missing);
            self.effects.extend(failures(expired, why, false));
            self.fail_followers(log, &writers, &reason);
            let state = self.logs.get(&log);
            let is_done = |state: &LogState<T>| state.is_gone && state.queue.is_empty();
            if state.is_some_and(|state| is_done(state) && state.stage == LogStage::Held) {
                self.forget(log);
            }
        }
        let oldest = self.logs.values().filter_map(LogState::oldest).min();
        self.sweep_at = oldest.map(|since| since + patience);
    }
}

fn failures<T: Ticket>(
    queued: impl IntoIterator<Item = Queued<T>>,
    (reason, missing): (&Arc<str>, &Arc<[String]>),
    possibly: bool,
) -> Vec<CommitEffect<T>> {
    let failures = queued.into_iter().map(|queued| CommitEffect::Fail {
        ticket: queued.ticket,
        reason: reason.clone(),
        missing: missing.clone(),
        possibly,
    });
    failures.collect()
}
