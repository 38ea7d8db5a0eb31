//! What one copy has of the owner's log, and what is on the way to it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    Append, CopiedRecord, CopyEffect, CopyLimits, CopyMessage, EpochRuns, LogPoint, StoreId,
};
use crate::id::Epoch;

/// The part of the owner's state that decides what a copy gets.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) start: u64,
    pub(crate) life: Epoch,
    pub(crate) log: &'a EpochRuns,
    /// What is durable, or was before the owner took over.
    pub(crate) durable: u64,
    pub(crate) limits: &'a CopyLimits,
    pub(crate) now: Instant,
}

/// One copy, under one epoch.
#[derive(Debug)]
pub(crate) struct CopyLink {
    /// How far the copy has confirmed, under this epoch. `None` before its first confirmation.
    confirmed: Option<u64>,
    stage: LinkStage,
    /// What is sent and not confirmed: last positions, with the bytes up to there.
    in_flight: VecDeque<(u64, usize)>,
    bytes: usize,
    is_reading: bool,
    /// It is sent again from where it is confirmed, once in `resend_after` only: each append that
    /// follows a lost one is answered in the same way.
    has_rewound: bool,
    resend_at: Option<Instant>,
    /// Since when it has confirmed nothing although there was something to confirm.
    behind_since: Option<Instant>,
    drop_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkStage {
    /// Asks whether the copy's log has this position.
    Probing(u64),
    /// All up to here is sent.
    Streaming(u64),
    /// A snapshot is being sent.
    Shipping,
}

impl CopyLink {
    /// `prev`: where to ask first whether the logs agree.
    pub(crate) fn new(prev: u64) -> Self {
        Self {
            confirmed: None,
            stage: LinkStage::Probing(prev),
            in_flight: VecDeque::new(),
            bytes: 0,
            is_reading: false,
            has_rewound: false,
            resend_at: None,
            behind_since: None,
            drop_at: None,
        }
    }

    pub(crate) fn confirmed(&self) -> Option<u64> {
        self.confirmed
    }

    /// Whether all of the log is sent to it, so that it is about as far as the copies in sync.
    pub(crate) fn is_near(&self, head: u64) -> bool {
        self.stage == LinkStage::Streaming(head)
    }

    pub(crate) fn handle_confirm(&mut self, position: u64, source: &Source<'_>) {
        if position > source.log.head() {
            return;
        }
        let is_news = self.confirmed.is_none_or(|known| known < position);
        if is_news {
            self.confirmed = Some(position);
            self.has_rewound = false;
            self.behind_since = None;
            self.drop_at = None;
            self.resend_at = None;
        }
        while let Some((last, bytes)) = self.in_flight.front().copied()
            && last <= position
        {
            self.in_flight.pop_front();
            self.bytes -= bytes;
        }
        self.stage = match self.stage {
            LinkStage::Streaming(sent) => LinkStage::Streaming(sent.max(position)),
            // A confirmation is true whatever it answers.
            LinkStage::Probing(_) | LinkStage::Shipping => {
                self.resend_at = None;
                LinkStage::Streaming(self.confirmed.unwrap_or(position))
            }
        };
    }

    pub(crate) fn handle_differs(
        &mut self,
        to: StoreId,
        prev: u64,
        runs: &[LogPoint],
        source: &Source<'_>,
        effects: &mut Vec<CopyEffect>,
    ) {
        match self.stage {
            LinkStage::Probing(asked) if asked == prev => {
                self.resend_at = None;
                if prev <= source.log.base().position {
                    return self.ship(to, source, effects);
                }
                let base = source.log.base().position;
                let common = source.log.common(runs, prev);
                self.stage = LinkStage::Probing(common.max(base));
            }
            LinkStage::Streaming(_) if !self.has_rewound => self.rewind(),
            // An answer to an earlier question.
            _ => {}
        }
    }

    pub(crate) fn handle_read(
        &mut self,
        to: StoreId,
        after: u64,
        records: Vec<CopiedRecord>,
        source: &Source<'_>,
        effects: &mut Vec<CopyEffect>,
    ) {
        self.is_reading = false;
        if self.stage == LinkStage::Streaming(after) {
            self.send(to, after, records, source, effects);
        }
    }

    /// New records are at the end of the log. A copy to which all before them is sent gets them at
    /// once; another one catches up by reads.
    pub(crate) fn handle_new(
        &mut self,
        to: StoreId,
        after: u64,
        records: &[CopiedRecord],
        source: &Source<'_>,
        effects: &mut Vec<CopyEffect>,
    ) {
        if self.stage == LinkStage::Streaming(after) && self.has_room(source.limits) {
            self.send(to, after, records.to_vec(), source, effects);
        }
    }

    /// The snapshot was sent, or could not be.
    pub(crate) fn handle_shipped(&mut self, source: &Source<'_>) {
        if self.stage == LinkStage::Shipping {
            self.stage = LinkStage::Probing(source.log.head());
        }
    }

    /// Sends what is to be sent now.
    pub(crate) fn pump(&mut self, to: StoreId, source: &Source<'_>, effects: &mut Vec<CopyEffect>) {
        let head = source.log.head();
        match self.stage {
            LinkStage::Probing(prev) if self.resend_at.is_none() => {
                // It was trimmed meanwhile.
                let prev = prev.max(source.log.base().position);
                self.stage = LinkStage::Probing(prev);
                self.append(to, prev, Vec::new(), source, effects);
            }
            LinkStage::Streaming(sent) if sent < head => {
                if sent < source.log.base().position {
                    self.ship(to, source, effects);
                } else if !self.is_reading && self.has_room(source.limits) {
                    self.is_reading = true;
                    effects.push(CopyEffect::Read {
                        to,
                        epoch: source.epoch,
                        after: sent,
                        bytes: source.limits.page_bytes,
                    });
                }
            }
            _ => {}
        }
        let has_not = |position| self.confirmed.is_none_or(|confirmed| confirmed < position);
        if let LinkStage::Streaming(sent) = self.stage
            && has_not(sent)
        {
            // Whatever of it was confirmed, the rest may be lost.
            self.resend_at
                .get_or_insert(source.now + source.limits.resend_after);
        }
        if has_not(head) {
            let since = *self.behind_since.get_or_insert(source.now);
            self.drop_at.get_or_insert(since + source.limits.drop_after);
        }
    }

    /// Whether it is time to ask for what has not been answered.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        if self.resend_at.is_none_or(|at| now < at) {
            return;
        }
        self.resend_at = None;
        if let LinkStage::Streaming(_) = self.stage {
            self.rewind();
        }
    }

    /// Whether it has confirmed nothing for so long that it is to be dropped. Asks at most once in
    /// `again`.
    pub(crate) fn is_late(&mut self, now: Instant, again: Duration) -> bool {
        let is_late = self.drop_at.is_some_and(|at| at <= now);
        if is_late {
            self.drop_at = Some(now + again);
        }
        is_late
    }

    /// Whether it had confirmed nothing for `after`.
    pub(crate) fn is_behind(&self, now: Instant, after: Duration) -> bool {
        self.behind_since.is_some_and(|since| since + after <= now)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.resend_at, self.drop_at].into_iter().flatten().min()
    }

    /// Sends again from where the copy has confirmed.
    fn rewind(&mut self) {
        self.stage = LinkStage::Streaming(self.confirmed.unwrap_or(0));
        self.in_flight.clear();
        self.bytes = 0;
        self.has_rewound = true;
        self.resend_at = None;
    }

    /// Bytes on the way are bounded, but for one append.
    fn has_room(&self, limits: &CopyLimits) -> bool {
        self.in_flight.is_empty() || self.bytes < limits.in_flight_bytes
    }

    fn ship(&mut self, to: StoreId, source: &Source<'_>, effects: &mut Vec<CopyEffect>) {
        self.stage = LinkStage::Shipping;
        self.resend_at = None;
        self.in_flight.clear();
        self.bytes = 0;
        let at_least = source.log.base().position;
        effects.push(CopyEffect::Ship {
            to,
            epoch: source.epoch,
            at_least,
            at_most: source.durable.max(at_least),
        });
    }

    fn send(
        &mut self,
        to: StoreId,
        after: u64,
        records: Vec<CopiedRecord>,
        source: &Source<'_>,
        effects: &mut Vec<CopyEffect>,
    ) {
        let last = after + records.len() as u64;
        let bytes = records.iter().map(CopiedRecord::size).sum();
        self.in_flight.push_back((last, bytes));
        self.bytes += bytes;
        self.stage = LinkStage::Streaming(last);
        self.append(to, after, records, source, effects);
    }

    fn append(
        &mut self,
        to: StoreId,
        prev: u64,
        records: Vec<CopiedRecord>,
        source: &Source<'_>,
        effects: &mut Vec<CopyEffect>,
    ) {
        let Some(prev) = source.log.point(prev) else {
            return;
        };
        let message = CopyMessage::Append(Append {
            epoch: source.epoch,
            start: source.start,
            life: source.life,
            prev,
            records,
        });
        effects.push(CopyEffect::Send { to, message });
        self.resend_at
            .get_or_insert(source.now + source.limits.resend_after);
    }
}

impl CopiedRecord {
    /// The bytes it counts for on the way: small ones are bounded in number, too.
    pub(crate) fn size(&self) -> usize {
        const EACH: usize = 32;
        self.body.len() + EACH
    }
}
