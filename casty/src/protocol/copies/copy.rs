//! A copy: it takes what the owner of an epoch appends.

use std::collections::VecDeque;

use super::{
    Append, CopiedRecord, CopyEffect, CopyMessage, LogPoint, MalformedAppend, StoreId, WriteMark,
    held_log::HeldLog,
};
use crate::{id::Epoch, infra::mutants};

/// How many ends of epochs are told where logs differ.
const LISTED_MAX: usize = 32;

/// How far this store follows the owner of an epoch. It is known in memory only: after a start of
/// the process it is to be found out again.
#[derive(Debug)]
pub(crate) struct Following {
    epoch: Epoch,
    owner: StoreId,
    /// The log is the owner's up to here. C5: the length of the log proves nothing.
    matched: u64,
    /// What is confirmed once a write is synced.
    unsynced: VecDeque<(WriteMark, u64)>,
}

impl Following {
    pub(crate) fn new(epoch: Epoch, owner: StoreId) -> Self {
        Self {
            epoch,
            owner,
            matched: 0,
            unsynced: VecDeque::new(),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// C2 to C6, for an append of this epoch. That the epoch is not too old is known (C1).
    pub(crate) fn handle_append(
        &mut self,
        log: &mut HeldLog,
        append: Append,
        effects: &mut Vec<CopyEffect>,
    ) {
        let fits = log.runs().has(append.prev)
            || mutants::on("prev_is_not_compared") && log.head() >= append.prev.position;
        if !fits {
            // C2: the log stays as it is.
            self.promise(log, effects);
            return self.differs(log, append.prev.position, effects);
        }
        let end = append.end();
        let (cut, records) = match changes(log, append) {
            Ok(changes) => changes,
            Err(error) => {
                self.promise(log, effects);
                return effects.push(CopyEffect::Malformed(self.owner, error));
            }
        };
        let has_records = !records.is_empty();
        let write = log.write(self.epoch, cut, records);
        effects.extend(write.map(CopyEffect::Write));
        self.matched = self.matched.max(end);
        let mut confirmed = self.matched;
        if mutants::on("the_length_is_confirmed") {
            confirmed = log.head();
        }
        if !has_records && mutants::on("a_cut_is_not_synced") {
            return self.confirm(confirmed, effects);
        }
        self.when_synced(log.written(), confirmed);
        self.handle_synced(log, effects);
    }

    /// C1: the epoch is promised, whatever becomes of the message.
    fn promise(&self, log: &mut HeldLog, effects: &mut Vec<CopyEffect>) {
        let promise = log.write(self.epoch, None, Vec::new());
        effects.extend(promise.map(CopyEffect::Write));
    }

    /// A snapshot of the owner's log has arrived whole. It may be installed only where no record
    /// of a copy in sync gets lost: the owner offers no snapshot but of what is durable, and if
    /// this store were required, it would have confirmed that record, so its log has it, or has
    /// been trimmed above it.
    pub(crate) fn handle_snapshot(
        &mut self,
        log: &mut HeldLog,
        last: LogPoint,
        effects: &mut Vec<CopyEffect>,
    ) {
        let known = self.matched.max(log.runs().base().position);
        if last.position <= known || log.runs().has(last) || last.epoch > self.epoch {
            return self.promise(log, effects);
        }
        effects.push(CopyEffect::Write(log.install(self.epoch, last)));
        self.matched = last.position;
        self.when_synced(log.written(), self.matched);
    }

    /// C6: one sync covers the promise, the cut and the records.
    pub(crate) fn handle_synced(&mut self, log: &HeldLog, effects: &mut Vec<CopyEffect>) {
        let mut confirmed = None;
        while let Some((mark, position)) = self.unsynced.front().copied()
            && (mark <= log.synced() || mutants::on("confirmed_before_sync"))
        {
            confirmed = Some(position);
            self.unsynced.pop_front();
        }
        if let Some(position) = confirmed {
            self.confirm(position, effects);
        }
    }

    fn when_synced(&mut self, mark: WriteMark, position: u64) {
        match self.unsynced.back_mut() {
            Some((last, known)) if *last == mark => *known = position,
            _ => self.unsynced.push_back((mark, position)),
        }
    }

    fn confirm(&self, position: u64, effects: &mut Vec<CopyEffect>) {
        let epoch = self.epoch;
        let message = CopyMessage::Confirm { epoch, position };
        let to = self.owner;
        effects.push(CopyEffect::Send { to, message });
    }

    fn differs(&self, log: &HeldLog, prev: u64, effects: &mut Vec<CopyEffect>) {
        let message = CopyMessage::Differs {
            epoch: self.epoch,
            prev,
            runs: log.runs().listed(prev, LISTED_MAX),
        };
        let to = self.owner;
        effects.push(CopyEffect::Send { to, message });
    }
}

/// Where the log is cut, and what is written after that. The log has `prev`.
fn changes(
    log: &HeldLog,
    append: Append,
) -> Result<(Option<u64>, Vec<CopiedRecord>), MalformedAppend> {
    let (runs, epoch, start) = (log.runs(), append.epoch, append.start);
    // C3: (epoch, position) names a record, and a position alone proves nothing.
    let is_same = |at: u64, record: &CopiedRecord| {
        let held = runs.epoch_at(at);
        held == Some(record.epoch)
            || held.is_some() && mutants::on("positions_alone_prove_a_record")
    };
    let differing = append.placed().find(|(at, record)| !is_same(*at, record));
    if let Some((position, _)) = differing {
        let held = runs.epoch_at(position);
        if held.is_some_and(|held| held >= epoch) && !mutants::on("copies_take_old_epochs") {
            return Err(MalformedAppend::Named {
                append: epoch,
                position,
            });
        }
        // All that follows is of older epochs: epochs never decrease along a log.
        let keep = position - 1;
        let new = append.records.len() as u64 - (keep - append.prev.position);
        let records = append.records;
        let skip = records.len() - usize::try_from(new).unwrap_or(usize::MAX);
        let records = records.into_iter().skip(skip).collect();
        return Ok((Some(keep), records));
    }
    if mutants::on("a_late_append_cuts") {
        return Ok((Some(append.end()), Vec::new()));
    }
    // C4: nothing of the epoch itself is ever cut, so a doubled or late append changes nothing.
    let older = runs.first_older(start, epoch);
    let older = older.filter(|_| !mutants::on("nothing_is_cut_above_the_start"));
    Ok((older.map(|first| first - 1), Vec::new()))
}
