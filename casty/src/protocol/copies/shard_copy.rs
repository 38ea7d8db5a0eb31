//! One shard in one store, from a start of the process to its end.

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Append, AppendRefused, CopiedRecord, CopiesView, CopyEffect, CopyLimits, CopyMessage,
    EpochRuns, Life, LogPoint, StopOwning, StoreId, WriteMark,
    copy::Following,
    held_log::HeldLog,
    link::{CopyLink, Source},
    owner::Owning,
};
use crate::{id::Epoch, infra::mutants};

/// The machine. Its store may be the owner's, a copy, or have nothing to do with the shard any
/// more: it keeps what it has until it is told to forget it.
#[derive(Debug)]
pub(crate) struct ShardCopy {
    me: StoreId,
    limits: CopyLimits,
    log: HeldLog,
    following: Option<Following>,
    owning: Option<Owning>,
    /// The last epoch that this process has owned the shard under, or was to.
    owned: Epoch,
    has_failed: bool,
    effects: Vec<CopyEffect>,
}

// ---- Inputs. The effects of each are carried out before the next one.

impl ShardCopy {
    /// What the store has of the shard when its process starts: its promise, and its records, all
    /// of which must be synced.
    pub(crate) fn recovered(
        me: StoreId,
        promised: Epoch,
        runs: EpochRuns,
        limits: CopyLimits,
    ) -> Self {
        Self {
            me,
            limits,
            log: HeldLog::recovered(promised, runs),
            following: None,
            owning: None,
            owned: Epoch::ZERO,
            has_failed: false,
            effects: Vec::new(),
        }
    }

    /// A version of the map, no older than the one before.
    pub(crate) fn handle_view(&mut self, view: CopiesView, now: Instant) {
        if let Some(owning) = &mut self.owning {
            let is_same_life = view.life.after < owning.epoch();
            if view.epoch == owning.epoch() && view.is_owner && is_same_life {
                owning.handle_view(view);
                return self.advance(now);
            }
            if view.epoch < owning.epoch() {
                return;
            }
            // O7.
            self.stop(StopOwning::Map);
        }
        // The last owner of a life that was given up stays in the map until there is another.
        let is_over = view.epoch <= view.life.after;
        if !view.is_owner || view.epoch <= self.owned || self.has_failed || is_over {
            return;
        }
        let epoch = view.epoch;
        self.owned = epoch;
        match Owning::take_over(self.me, view, &mut self.log, &mut self.effects) {
            Ok(owning) => {
                self.following = None;
                self.owning = Some(owning);
                self.advance(now);
            }
            Err(why) => self.effects.push(CopyEffect::Stop(epoch, why)),
        }
    }

    /// A message of another store, as it was sent to this store and not to another one that its
    /// node had.
    pub(crate) fn handle_message(&mut self, from: StoreId, message: CopyMessage, now: Instant) {
        if self.has_failed {
            return;
        }
        match message {
            CopyMessage::Append(append) => return self.handle_append(from, append, now),
            CopyMessage::Refused { promised } => {
                let owning = self.owning.as_ref();
                if owning.is_some_and(|owning| owning.epoch() < promised) {
                    self.stop(StopOwning::Superseded(promised));
                }
            }
            CopyMessage::Confirm { epoch, position } => {
                if let Some(owning) = &mut self.owning {
                    let (log, limits) = (&self.log, &self.limits);
                    owning.handle_confirm(from, epoch, position, log, limits, now);
                }
            }
            CopyMessage::Differs { epoch, prev, runs } => {
                let effects = &mut self.effects;
                if let Some(owning) = &mut self.owning
                    && owning.epoch() == epoch
                {
                    owning.with_link(from, &self.log, &self.limits, now, |link, source| {
                        link.handle_differs(from, prev, &runs, source, effects);
                    });
                }
            }
        }
        self.advance(now);
    }

    /// A snapshot of the log as of `last`, from the owner of an epoch, has arrived whole.
    #[cfg_attr(not(test), expect(dead_code, reason = "nothing is trimmed yet"))]
    pub(crate) fn handle_snapshot(
        &mut self,
        from: StoreId,
        epoch: Epoch,
        last: LogPoint,
        now: Instant,
    ) {
        if !self.has_failed && self.follow(from, epoch, now) {
            let (log, effects) = (&mut self.log, &mut self.effects);
            if let Some(following) = &mut self.following {
                following.handle_snapshot(log, last, effects);
            }
        }
    }

    /// All writes up to this one are synced.
    pub(crate) fn handle_synced(&mut self, mark: WriteMark, now: Instant) {
        if self.has_failed {
            return;
        }
        self.log.handle_synced(mark);
        if let Some(following) = &mut self.following {
            following.handle_synced(&self.log, &mut self.effects);
        }
        self.advance(now);
    }

    /// A write or a sync has failed. What is on the disk is not known, so nothing is confirmed or
    /// owned before the store is opened again, and read.
    pub(crate) fn handle_failed(&mut self) {
        self.has_failed = true;
        self.following = None;
        self.stop(StopOwning::StoreFailed);
    }

    /// A store that is no copy any more cannot read what it may have confirmed under an epoch.
    /// Those confirmations may be on their way, or may count already for a copy that is to be added
    /// (O6). Under a later epoch they are void (T2).
    pub(crate) fn handle_damaged_copy(&mut self, epoch: Epoch) {
        if self.owns() == Some(epoch) {
            self.stop(StopOwning::CopyDamaged);
        }
    }

    /// The records that were to be read for a copy.
    pub(crate) fn handle_read(
        &mut self,
        to: StoreId,
        epoch: Epoch,
        after: u64,
        records: Vec<CopiedRecord>,
        now: Instant,
    ) {
        self.with_link(to, epoch, now, |link, source, effects| {
            link.handle_read(to, after, records, source, effects);
        });
    }

    /// The snapshot for a copy was sent, or could not be sent.
    pub(crate) fn handle_shipped(&mut self, to: StoreId, epoch: Epoch, now: Instant) {
        self.with_link(to, epoch, now, |link, source, _| {
            link.handle_shipped(source);
        });
    }

    /// The store has trimmed records up to this position. It must be durable, and a snapshot or
    /// nothing at all must stand for them.
    #[cfg_attr(not(test), expect(dead_code, reason = "nothing is trimmed yet"))]
    pub(crate) fn handle_trimmed(&mut self, upto: u64, now: Instant) {
        self.log.trim(upto);
        self.advance(now);
    }

    pub(crate) fn handle_time(&mut self, now: Instant) {
        if let Some(owning) = &mut self.owning {
            owning.handle_time(&self.limits, now, &mut self.effects);
        }
        self.advance(now);
    }

    /// Writes records, in one write. Returns the position of the last one.
    pub(crate) fn append(
        &mut self,
        bodies: Vec<Bytes>,
        now: Instant,
    ) -> Result<u64, AppendRefused> {
        let owning = self.owning.as_mut().ok_or(AppendRefused::NotOwner)?;
        let (log, limits, effects) = (&mut self.log, &self.limits, &mut self.effects);
        let position = owning.append(bodies, log, limits, now, effects)?;
        self.advance(now);
        Ok(position)
    }

    /// The shard is handed over: nothing leaves from now on. What is on its way need not be waited
    /// for.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "regions let nothing out after a release")
    )]
    pub(crate) fn hand_over(&mut self) {
        if let Some(owning) = &mut self.owning {
            owning.hand_over();
        }
    }
}

// ---- What follows.

impl ShardCopy {
    /// What follows from the inputs since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<CopyEffect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`handle_time`](Self::handle_time) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.owning.as_ref()?.deadline()
    }

    /// The epoch this store owns the shard under.
    pub(crate) fn owns(&self) -> Option<Epoch> {
        self.owning.as_ref().map(Owning::epoch)
    }

    /// Whether the takeover is complete.
    pub(crate) fn is_complete(&self) -> bool {
        let owning = self.owning.as_ref();
        owning.is_some_and(|owning| owning.is_complete(&self.log))
    }

    /// How far what has seen the log may leave now, if anything may.
    pub(crate) fn may_leave(&self) -> Option<u64> {
        self.owning.as_ref()?.may_leave(&self.log)
    }

    /// What this store may have confirmed under an epoch, if it promised that: no more than it has.
    pub(crate) fn may_have_confirmed(&self, epoch: Epoch) -> Option<u64> {
        (self.log.promised() >= epoch).then(|| self.log.head())
    }

    /// Whether this store, which owns the shard under an epoch or copies it, does without another
    /// one: see [`Unneeded`](super::Unneeded).
    pub(crate) fn spares(&self, store: StoreId, epoch: Epoch, confirmed: Option<u64>) -> bool {
        match &self.owning {
            Some(owning) => owning.epoch() == epoch && owning.spares(store, confirmed, &self.log),
            None => !self.has_failed && self.log.promised() == epoch && self.log.head() > 0,
        }
    }

    /// The stores that hold back the takeover, or what is written.
    pub(crate) fn waits_for(&self) -> Vec<StoreId> {
        let owning = self.owning.as_ref();
        owning.map_or_else(Vec::new, |owning| owning.waits_for(&self.log))
    }

    /// The last record that may leave. All copies in sync have it.
    pub(crate) fn durable(&self) -> Option<LogPoint> {
        self.log.runs().point(self.may_leave()?)
    }

    /// Whether the log is the owner's up to a record that is durable, by what the owner of an epoch
    /// says, which this store has promised. It is compared as `prev` of an append is, and what is
    /// durable is never cut.
    pub(crate) fn has_durable(&self, epoch: Epoch, point: LogPoint) -> bool {
        !self.has_failed && self.log.promised() == epoch && self.log.runs().has(point)
    }

    /// The position of the last record that is written, durable or not.
    pub(crate) fn head(&self) -> u64 {
        self.log.head()
    }

    fn handle_append(&mut self, from: StoreId, append: Append, now: Instant) {
        if let Err(error) = append.check() {
            return self.effects.push(CopyEffect::Malformed(from, error));
        }
        if self.follow(from, append.epoch, now)
            && let Some(following) = &mut self.following
        {
            let life = Life {
                after: append.life,
                begins_empty: false,
            };
            if life.is_after(self.log.promised()) && !mutants::on("a_copy_keeps_what_was_given_up")
            {
                // L2. It is the first append of this epoch that it meets, so nothing is matched.
                let clear = self.log.clear(append.epoch);
                self.effects.push(CopyEffect::Write(clear));
            }
            following.handle_append(&mut self.log, append, &mut self.effects);
        }
    }

    /// C1: whether this store follows an owner, which it does from the first message of the
    /// highest epoch. What it owns itself under a lower epoch ends.
    fn follow(&mut self, from: StoreId, epoch: Epoch, now: Instant) -> bool {
        let promised = self.log.promised();
        if epoch < promised && !mutants::on("copies_take_old_epochs") {
            let message = CopyMessage::Refused { promised };
            self.effects.push(CopyEffect::Send { to: from, message });
            return false;
        }
        if let Some(owning) = &self.owning {
            // Its own epoch: no other process sends under it.
            if owning.epoch() >= epoch {
                return false;
            }
            if !mutants::on("a_stale_owner_writes") {
                self.stop(StopOwning::Superseded(epoch));
            }
        }
        if self.following.as_ref().map(Following::epoch) != Some(epoch) {
            self.following = Some(Following::new(epoch, from));
        }
        self.advance(now);
        true
    }

    fn with_link(
        &mut self,
        to: StoreId,
        epoch: Epoch,
        now: Instant,
        with: impl FnOnce(&mut CopyLink, &Source<'_>, &mut Vec<CopyEffect>),
    ) {
        if let Some(owning) = &mut self.owning
            && owning.epoch() == epoch
        {
            let effects = &mut self.effects;
            owning.with_link(to, &self.log, &self.limits, now, |link, source| {
                with(link, source, effects);
            });
            self.advance(now);
        }
    }

    fn stop(&mut self, why: StopOwning) {
        if let Some(owning) = self.owning.take() {
            self.effects.push(CopyEffect::Stop(owning.epoch(), why));
        }
    }

    fn advance(&mut self, now: Instant) {
        if let Some(owning) = &mut self.owning {
            owning.advance(&self.log, &self.limits, now, &mut self.effects);
        }
    }
}
