//! The committer of a node: the task that carries out what [`protocol::commit`](Commits) decides.
//! The task is never cancelled. It ends with the store's last handle, or with the node.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, task::Poll, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, BoxFuture, abortable, ready},
    poll,
    stream::FuturesUnordered,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, sleep_until},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    id::Epoch,
    infra::{deadline::passed, panic::panic_text},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Record,
        head::Head,
        inbox::{Inbox, Input, News, Waiting},
        progress::NotStored,
    },
    protocol::commit::{
        Bounds, Claim, ClaimFailure, CommitEffect, CommitId, Commits, Ended, LogId, Part,
    },
};

/// The bounds of a committer of this store.
fn bounds(journal: &dyn Journal) -> Bounds {
    Bounds {
        records: 512,
        bytes: 1024 * 1024,
        lanes: journal.lanes().max(1),
        lane_records: journal.lane_records().max(1),
        claims: 16,
        // Shorter than `Settings::ask_timeout`, so that an asker learns the reason.
        patience: Duration::from_secs(3),
        operation: Duration::from_secs(10),
    }
}

/// While a commit runs, records that come do not wake the committer. After this time it looks at
/// them, so that they fail in time if the store hangs.
const LOOK: Duration = Duration::from_millis(250);

/// What an operation of the store came to.
enum Done {
    Claimed(LogId, Result<u64, ClaimFailure>),
    Ended(CommitId, Ended),
}

/// A log of this node.
struct OpenLog {
    log: Log,
    epoch: Epoch,
    claim: watch::Sender<Claim>,
    head: Arc<Head>,
}

/// The task.
pub(super) struct Committer {
    journal: Arc<dyn Journal>,
    /// This process, as claims name it.
    owner: Arc<str>,
    inbox: Arc<Inbox>,
    machine: Commits<Waiting>,
    logs: BTreeMap<LogId, OpenLog>,
    ids: BTreeMap<Log, LogId>,
    running: FuturesUnordered<BoxFuture<'static, Option<Done>>>,
    claims: BTreeMap<LogId, AbortHandle>,
    commits: BTreeMap<CommitId, AbortHandle>,
    /// Records that are durable, and of which their activations do not know yet, each with its
    /// position.
    durable: Vec<(Waiting, u64)>,
    /// When a disk is full, claims succeed, and commits fail.
    claims_fail: Failing,
    commits_fail: Failing,
    rng: StdRng,
}

/// Whether the store fails what is asked of it, as the log has it.
struct Failing(bool);

impl Failing {
    /// Says once that it fails, and once that it works again.
    fn say(&mut self, journal: &dyn Journal, asked: &str, failure: Option<&String>) {
        if std::mem::replace(&mut self.0, failure.is_some()) == failure.is_some() {
            return;
        }
        let store = journal.describe();
        if let Some(reason) = failure {
            tracing::warn!(store, asked, reason, "the store of entities fails");
        } else {
            tracing::info!(store, asked, "the store of entities answers again");
        }
    }
}

/// Marks the end, also if the runtime drops the task.
struct End(Arc<Inbox>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Committer {
    pub(super) fn new(journal: Arc<dyn Journal>, owner: Arc<str>, inbox: Arc<Inbox>) -> Self {
        let machine = Commits::new(bounds(&*journal));
        Self {
            rng: StdRng::seed_from_u64(xxh3_64(owner.as_bytes())),
            journal,
            owner,
            inbox,
            machine,
            logs: BTreeMap::new(),
            ids: BTreeMap::new(),
            running: FuturesUnordered::new(),
            claims: BTreeMap::new(),
            commits: BTreeMap::new(),
            durable: Vec::new(),
            claims_fail: Failing(false),
            commits_fail: Failing(false),
        }
    }

    pub(super) async fn run(mut self) {
        let _end = End(self.inbox.clone());
        let mut inputs = Vec::new();
        let mut sleep = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            let is_closing = self.inbox.take(&mut inputs);
            let now = Instant::now();
            for input in inputs.drain(..) {
                self.handle_input(input, now);
            }
            if is_closing {
                self.machine.handle_closing();
            }
            self.machine.begin(now);
            self.carry_out();
            if !self.durable.is_empty() && !self.commits.is_empty() {
                // The next commit begins when it is polled, and its tasks when this one yields.
                let done = poll!(self.running.next());
                yield_now().await;
                self.confirm();
                if let Poll::Ready(Some(done)) = done {
                    self.handle_all_done(done);
                    self.carry_out();
                    continue;
                }
            }
            self.confirm();
            if self.machine.is_closed() {
                return;
            }
            let needed = self.machine.needed();
            self.inbox.wake_at(needed);
            let deadline = self.machine.deadline();
            // What waits in the inbox has its own deadline, from when it is taken.
            let look = (needed > 1).then(|| now + LOOK);
            let deadline = deadline.into_iter().chain(look).min();
            let inbox = self.inbox.clone();
            tokio::select! {
                biased;
                Some(done) = self.running.next() => self.handle_all_done(done),
                () = inbox.queued.notified() => {}
                () = passed(deadline, sleep.as_mut()) => {
                    let jitter = self.rng.random();
                    self.machine.handle_time(Instant::now(), jitter);
                }
            }
            // Before what waits in the inbox: it may follow a record that has failed.
            self.carry_out();
        }
    }

    fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Opened {
                id,
                log,
                epoch,
                claim,
                head,
            } => {
                let earlier = self.ids.insert(log.clone(), id);
                self.machine.handle_opened(id, earlier);
                let open = OpenLog {
                    log,
                    epoch,
                    claim,
                    head,
                };
                self.logs.insert(id, open);
            }
            Input::Gone(id) => self.machine.handle_gone(id),
            Input::Record(id, record) => self.machine.handle_record(id, record, now),
        }
    }

    /// Handles what has ended, and what else has by now: what follows begins together.
    fn handle_all_done(&mut self, first: Option<Done>) {
        let mut next = Some(first);
        while let Some(done) = next {
            self.handle_done(done);
            next = self.running.next().now_or_never().flatten();
            if next.is_some() {
                self.carry_out();
            }
        }
    }

    fn handle_done(&mut self, done: Option<Done>) {
        // Otherwise it was given up.
        let Some(done) = done else { return };
        match done {
            Done::Claimed(log, claimed) => {
                self.claims.remove(&log);
                if let (Ok(head), Some(open)) = (&claimed, self.logs.get(&log)) {
                    open.head.rise(*head);
                }
                let failure = match &claimed {
                    Err(ClaimFailure::Unavailable(reason)) => Some(reason),
                    _ => None,
                };
                self.claims_fail.say(&*self.journal, "claims", failure);
                let jitter = self.rng.random();
                let now = Instant::now();
                self.machine.handle_claimed(log, claimed, jitter, now);
            }
            Done::Ended(commit, ended) => {
                self.commits.remove(&commit);
                let failure = match &ended {
                    // Stores with copies fail for some shards and not for others: the asker learns
                    // it.
                    Ended::Answered(_) | Ended::NotEnoughCopies(_) => None,
                    Ended::NotWritten(reason) | Ended::Unknown(reason) => Some(reason),
                };
                self.commits_fail.say(&*self.journal, "commits", failure);
                self.machine.handle_ended(commit, &ended);
            }
        }
    }

    /// Tells of what is durable only when something else is told, or by [`confirm`](Self::confirm):
    /// that takes its time, in which a further commit may run.
    fn carry_out(&mut self) {
        let mut frees = false;
        for effect in self.machine.take_effects() {
            if !matches!(effect, CommitEffect::Confirm(..) | CommitEffect::Commit(..)) {
                self.confirm();
            }
            match effect {
                CommitEffect::Claim(log) => self.claim(log),
                CommitEffect::GiveUpClaim(log) => {
                    if let Some(claim) = self.claims.remove(&log) {
                        claim.abort();
                    }
                }
                CommitEffect::Commit(commit, parts) => self.commit(commit, parts),
                CommitEffect::GiveUpCommit(commit) => {
                    if let Some(commit) = self.commits.remove(&commit) {
                        commit.abort();
                    }
                }
                CommitEffect::Confirm(record, position) => self.durable.push((record, position)),
                CommitEffect::Fail {
                    ticket,
                    reason,
                    missing,
                    possibly,
                } => {
                    ticket.fail(NotStored {
                        reason: reason.to_string(),
                        missing: missing.to_vec(),
                        possibly,
                    });
                    frees = true;
                }
                CommitEffect::Stands(log, claim) => self.stands(log, claim),
                CommitEffect::Astray {
                    log,
                    head,
                    expected,
                } => self.say_astray(log, head, expected),
                CommitEffect::Forget(log) => self.forget(log),
            }
        }
        if frees {
            self.inbox.freed.notify_waiters();
        }
    }

    fn confirm(&mut self) {
        if self.durable.is_empty() {
            return;
        }
        let mut news = News::default();
        for (record, position) in self.durable.drain(..) {
            record.confirm(position, &mut news);
        }
        drop(news);
        self.inbox.freed.notify_waiters();
    }

    fn claim(&mut self, id: LogId) {
        let Some(OpenLog { log, epoch, .. }) = self.logs.get(&id) else {
            return;
        };
        let (journal, owner) = (self.journal.clone(), self.owner.clone());
        let (log, epoch) = (log.clone(), *epoch);
        let claim = async move { journal.claim(&log, epoch, &owner).await };
        let (claim, handle) = abortable(AssertUnwindSafe(claim).catch_unwind());
        self.claims.insert(id, handle);
        self.running.push(Box::pin(async move {
            let claimed = match claim.await.ok()? {
                Ok(claimed) => claimed.map_err(failure),
                Err(panic) => Err(ClaimFailure::Unavailable(panicked(&*panic))),
            };
            Some(Done::Claimed(id, claimed))
        }));
    }

    fn commit(&mut self, id: CommitId, parts: Vec<Part<Record>>) {
        let parts = parts.into_iter().map(|Part { log, records }| {
            let OpenLog { log, epoch, .. } = self.logs.get(&log)?;
            Some(Append {
                log: log.clone(),
                epoch: *epoch,
                records,
            })
        });
        // The answers are in the order of the parts, so none may be left out.
        let Some(batch) = parts.collect::<Option<Vec<_>>>() else {
            let reason = "the log of a shard is not open any more".to_owned();
            let done = Done::Ended(id, Ended::NotWritten(reason));
            return self.running.push(Box::pin(ready(Some(done))));
        };
        #[cfg(feature = "metrics")]
        let (inbox, begun) = (self.inbox.clone(), Instant::now());
        #[cfg(feature = "metrics")]
        let records = batch.iter().map(|append| append.records.len()).sum();
        let journal = self.journal.clone();
        let append = async move { journal.append(batch).await };
        let (append, handle) = abortable(AssertUnwindSafe(append).catch_unwind());
        self.commits.insert(id, handle);
        self.running.push(Box::pin(async move {
            let ended = match append.await.ok()? {
                Ok(Ok(answers)) => {
                    let answers = answers.into_iter();
                    Ended::Answered(answers.map(|answer| answer == Appended::Written).collect())
                }
                Ok(Err(AppendError::NotWritten { reason })) => Ended::NotWritten(reason),
                Ok(Err(AppendError::Unknown { reason })) => Ended::Unknown(reason),
                Ok(Err(AppendError::NotEnoughCopies { missing })) => {
                    Ended::NotEnoughCopies(missing)
                }
                Err(panic) => Ended::Unknown(panicked(&*panic)),
            };
            #[cfg(feature = "metrics")]
            inbox.meter.ended(&ended, records, begun.elapsed());
            Some(Done::Ended(id, ended))
        }));
    }

    fn stands(&self, id: LogId, claim: Claim) {
        let Some(log) = self.logs.get(&id) else {
            return;
        };
        if let Claim::Refused(reason) = &claim {
            let (log, epoch) = (&log.log, log.epoch);
            tracing::warn!(%log, %epoch, reason, "the log of a shard cannot be written to");
        }
        log.claim.send_replace(claim);
    }

    fn say_astray(&self, id: LogId, head: u64, expected: u64) {
        let store = self.journal.describe();
        let log = self.logs.get(&id).map(|log| log.log.to_string());
        tracing::error!(
            store,
            log,
            head,
            expected,
            "the store has lost records that were durable, or has others: the shard is not served"
        );
    }

    fn forget(&mut self, id: LogId) {
        if let Some(OpenLog { log, .. }) = self.logs.remove(&id)
            && self.ids.get(&log) == Some(&id)
        {
            self.ids.remove(&log);
        }
    }
}

fn failure(error: ClaimError) -> ClaimFailure {
    match error {
        ClaimError::Journal(JournalError::Unavailable { reason }) => {
            ClaimFailure::Unavailable(reason)
        }
        ClaimError::Journal(JournalError::Unusable { reason }) => ClaimFailure::Final(reason),
        fenced @ ClaimError::Fenced { .. } => ClaimFailure::Final(fenced.to_string()),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    format!("the store panicked: {}", panic_text(panic))
}
