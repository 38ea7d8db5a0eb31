//! One shard in the task: the machine, and what waits for it.

use std::{collections::VecDeque, time::Duration};

use casty_log::LogId;
use tokio::{sync::oneshot, time::Instant};

use super::{
    message::{CopyEnvelope, StoreMessage},
    outlet::CopyOutlet,
    tidies::Tidies,
};
use crate::{
    id::Epoch,
    infra::mutants,
    persistence::{Appended, ClaimError, JournalError, Log, Record, local::OpenDirectory},
    protocol::copies::{
        AppendRefused, CopiesView, CopyLimits, EpochRuns, LogPoint, ShardCopy, StopOwning, StoreId,
        Unneeded,
    },
};

/// How long a part waits for copies. Longer than it takes to drop one that does not answer, and
/// shorter than `Settings::ask_timeout`, so that an asker learns the reason.
pub(super) const APPEND_MAX: Duration = Duration::from_secs(4);

/// The pause before late parts are looked at again.
const LATE_AGAIN: Duration = Duration::from_millis(500);

/// The end of one part of an append: an error says why it is not known what became of it.
pub(super) type PartAnswer = oneshot::Sender<Result<Appended, Unwritten>>;

/// Why a part of an append was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unwritten {
    pub(super) reason: String,
    /// The nodes that it waits for.
    pub(super) missing: Vec<String>,
    /// It may be stored, or be stored later.
    pub(super) possibly: bool,
}

impl Unwritten {
    pub(super) fn new(reason: impl ToString, possibly: bool) -> Self {
        Self {
            reason: reason.to_string(),
            missing: Vec::new(),
            possibly,
        }
    }
}

/// A part that is written, and is not confirmed yet.
#[derive(Debug)]
pub(super) struct WrittenPart {
    /// The position of its last record.
    last: u64,
    at: Instant,
    answer: PartAnswer,
}

/// A claim that is not answered.
#[derive(Debug)]
pub(super) struct WaitingClaim {
    pub(super) epoch: Epoch,
    pub(super) answer: oneshot::Sender<Result<u64, ClaimError>>,
    /// The length of the log when the claim came, once this store owns the shard.
    pub(super) head: Option<u64>,
}

/// Records that are to be appended.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) epoch: Epoch,
    pub(super) records: Vec<Record>,
    pub(super) answer: PartAnswer,
}

/// Records of a copy that are read when more is synced.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadAgain {
    pub(super) to: StoreId,
    pub(super) epoch: Epoch,
    pub(super) after: u64,
    pub(super) bytes: usize,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) log: Log,
    pub(super) id: LogId,
    pub(super) copy: ShardCopy,
    /// The epoch that the store has promised, once all writes are done.
    pub(super) promised: Epoch,
    /// What the map says, once it says something.
    pub(super) view: Option<CopiesView>,
    pub(super) claims: Vec<WaitingClaim>,
    pub(super) written: VecDeque<WrittenPart>,
    /// When parts that are not confirmed may be late.
    pub(super) late_at: Option<Instant>,
    /// What waits for room.
    pub(super) blocked: VecDeque<Part>,
    pub(super) reads: Vec<ReadAgain>,
    /// The last epoch that this store had to give up, or could not own under, and why.
    pub(super) stopped: Option<(Epoch, StopOwning)>,
    pub(super) deadline: Option<Instant>,
    /// What this store does besides records, while it owns the shard.
    pub(super) tidies: Option<Tidies>,
    /// What is stored is of no use, unless it turns out to be.
    pub(super) unneeded: Option<Unneeded>,
    /// When the owner is told again that what is stored is damaged.
    pub(super) damaged_again: Option<Instant>,
}

impl Shard {
    /// A message about this shard to another store.
    pub(super) fn envelope(
        &self,
        from: StoreId,
        to: StoreId,
        message: StoreMessage,
    ) -> CopyEnvelope {
        CopyEnvelope {
            kind: self.log.kind.clone(),
            shard: self.log.shard,
            from,
            to,
            message,
        }
    }

    /// The nodes of the stores that something waits for.
    pub(super) fn missing(&self, outlet: &dyn CopyOutlet) -> Vec<String> {
        let stores = self.copy.waits_for().into_iter();
        stores.map(|store| outlet.node_of(store)).collect()
    }

    /// What the store has of a shard.
    pub(super) fn recovered(
        directory: &OpenDirectory,
        id: LogId,
        me: StoreId,
        limits: CopyLimits,
    ) -> (ShardCopy, Epoch) {
        let reader = directory.engine.reader();
        let promised = Epoch(reader.head(id).epoch);
        let runs = reader.runs(id).into_iter().map(|run| LogPoint {
            position: run.last,
            epoch: Epoch(run.epoch),
        });
        let runs = EpochRuns::of(runs);
        (ShardCopy::recovered(me, promised, runs, limits), promised)
    }

    pub(super) fn new(log: Log, id: LogId, copy: ShardCopy, promised: Epoch) -> Self {
        Self {
            log,
            id,
            copy,
            promised,
            view: None,
            claims: Vec::new(),
            written: VecDeque::new(),
            late_at: None,
            blocked: VecDeque::new(),
            reads: Vec::new(),
            stopped: None,
            deadline: None,
            tidies: None,
            unneeded: None,
            damaged_again: None,
        }
    }

    /// Appends one part, or answers why it was not.
    pub(super) fn append(&mut self, part: Part, now: Instant) {
        if self.blocked.is_empty() {
            self.append_now(part, now);
        } else {
            self.blocked.push_back(part);
        }
    }

    /// Appends what waits for room.
    pub(super) fn unblock(&mut self, now: Instant) {
        for part in std::mem::take(&mut self.blocked) {
            // Nobody waits any more: nothing was written.
            if !part.answer.is_closed() {
                self.append(part, now);
            }
        }
    }

    fn append_now(&mut self, part: Part, now: Instant) {
        let follows = (self.copy.head() + 1..)
            .zip(&part.records)
            .all(|(at, record)| record.position == at && record.epoch == part.epoch);
        if self.copy.owns() != Some(part.epoch) || part.records.is_empty() || !follows {
            // The caller may be gone.
            let _ = part.answer.send(Ok(Appended::Refused));
            return;
        }
        let bodies = part.records.iter().map(super::body::of_record).collect();
        match self.copy.append(bodies, now) {
            Ok(_) if mutants::on("written_records_are_confirmed_at_once") => {
                let _ = part.answer.send(Ok(Appended::Written));
            }
            Ok(last) => {
                self.late_at.get_or_insert(now + APPEND_MAX);
                self.written.push_back(WrittenPart {
                    last,
                    at: now,
                    answer: part.answer,
                });
            }
            Err(AppendRefused::Full) => self.blocked.push_back(part),
            Err(refused @ (AppendRefused::NotOwner | AppendRefused::HandedOver)) => {
                let _ = part.answer.send(Err(Unwritten::new(refused, false)));
            }
        }
    }

    /// Answers the parts whose records may leave.
    pub(super) fn confirm(&mut self, upto: u64) {
        while let Some(part) = self.written.pop_front_if(|part| part.last <= upto) {
            let _ = part.answer.send(Ok(Appended::Written));
        }
    }

    /// Parts that have waited too long for copies fail, possibly written. `missing`: the nodes that
    /// have not confirmed. What is written stays written, and what follows waits for it.
    pub(super) fn fail_late(&mut self, now: Instant, missing: Vec<String>) {
        if self.late_at.is_none_or(|at| now < at) {
            return;
        }
        let is_late = |part: &mut WrittenPart| part.at + APPEND_MAX <= now;
        // Otherwise it is this store that is slow.
        while !missing.is_empty()
            && let Some(part) = self.written.pop_front_if(is_late)
        {
            let unwritten = Unwritten::new("too few copies answer", true);
            let missing = missing.clone();
            let _ = part.answer.send(Err(Unwritten {
                missing,
                ..unwritten
            }));
        }
        let next = self.written.front().map(|part| part.at);
        self.late_at = next.map(|at| (at + APPEND_MAX).max(now + LATE_AGAIN));
    }

    /// The shard is not owned any more under an epoch.
    pub(super) fn stop(&mut self, epoch: Epoch, why: StopOwning) {
        self.stopped = Some((epoch, why));
        if let Some(tidies) = self.tidies.take() {
            tidies.stop(why);
        }
        for part in self.written.drain(..) {
            let _ = part.answer.send(Err(Unwritten::new(why, true)));
        }
        for part in self.blocked.drain(..) {
            let _ = part.answer.send(Err(Unwritten::new(why, false)));
        }
    }

    /// Answers the claims that can be.
    pub(super) fn settle_claims(&mut self) {
        let mut claims = std::mem::take(&mut self.claims);
        claims.retain(|claim| !claim.answer.is_closed());
        for mut claim in claims {
            match self.claimed(&mut claim) {
                Some(claimed) => {
                    let _ = claim.answer.send(claimed);
                }
                None => self.claims.push(claim),
            }
        }
    }

    fn claimed(&self, claim: &mut WaitingClaim) -> Option<Result<u64, ClaimError>> {
        let present = self.copy.owns();
        if present == Some(claim.epoch) {
            // All that was written under the epoch is to be decided first.
            let head = *claim.head.get_or_insert(self.copy.head());
            let is_out = self.copy.may_leave().is_some_and(|upto| upto >= head);
            return is_out.then_some(Ok(head));
        }
        let fenced = |epoch| {
            let owner = "another node".to_owned();
            Some(Err(ClaimError::Fenced { epoch, owner }))
        };
        if let Some(view) = &self.view
            && view.epoch == claim.epoch
            && !view.is_owner
        {
            return fenced(view.epoch);
        }
        let seen = self.view.as_ref().map(|view| view.epoch);
        let latest = [seen, present, Some(self.promised)].into_iter().flatten();
        if let Some(epoch) = latest.max().filter(|latest| *latest > claim.epoch) {
            return fenced(epoch);
        }
        match self.stopped {
            Some((epoch, why)) if epoch >= claim.epoch => {
                let reason = format!("{why}; the shard needs a new epoch");
                Some(Err(JournalError::Unavailable { reason }.into()))
            }
            // The map that names this node has not been seen yet.
            _ => None,
        }
    }
}
