//! How a run waits for what [`settle`](super::settle) decides: that a message may be handled, or
//! that outputs may leave.

use std::{future::poll_fn, pin::pin, sync::atomic::Ordering, task::Poll};

use futures_util::future::{OptionFuture, select};

use crate::{
    actor::cell::{
        activation::AnyActivation,
        core::{Core, Phase, Status, Untyped},
    },
    error::Failure,
    infra::{
        boxed::{Boxed, boxed},
        mutants,
    },
};

/// Resolves once the actor has to end at once.
async fn ends_calls(cell: &dyn Untyped) {
    poll_fn(|cx| {
        cell.with_status(&mut |status, _| status.wake_by(cx.waker()));
        // It may have been told so before it could be woken.
        if cell.core().ends_calls() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

impl dyn AnyActivation + '_ {
    /// Waits until a message may be handled. Messages and outputs that wait for too long fail. An
    /// activation whose records are not stored ends.
    pub(super) fn await_permission(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            let mut waits = false;
            while (!self.settle().may_handle(cell.core(), true)
                || waits && mutants::on("whoever_waits_for_a_lease_waits_on"))
                && !cell.core().is_severed()
                && !cell.host().runtime().is_stopped()
            {
                if self.settle().failed().is_some() || self.is_late() {
                    self.not_stored().await;
                    continue;
                }
                waits = true;
                self.await_conditions(&*cell, Phase::Paused).await;
                self.release();
            }
            self.release();
        })
    }

    /// Waits until outputs have left, or there is something else to do.
    pub(super) fn await_outputs(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            self.release();
            if self.is_late() {
                return self.not_stored().await;
            }
            if self.settle().holds() || self.settle().is_writing() {
                self.await_conditions(&*cell, Phase::Settling).await;
                self.release();
            }
        })
    }

    /// Waits until all outputs have left, or are given up.
    pub(super) async fn settled(&mut self) {
        let cell = self.cell();
        self.written().await;
        self.release();
        while self.settle().holds() {
            if cell.core().ends_calls() || cell.host().runtime().is_stopped() {
                return self.settle().end(cell.core(), &|| cell.lost_lease());
            }
            self.await_conditions(&*cell, Phase::Paused).await;
            self.release();
        }
    }

    /// Waits until the store has decided about all records. What depends on a record that is not
    /// stored fails.
    pub(super) fn written(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            while self.settle().is_undecided() {
                self.release();
                if cell.core().ends_calls() || cell.host().runtime().is_stopped() {
                    return self.give_up_records();
                }
                self.await_decision(&*cell).await;
            }
            match self.settle().failed() {
                Some(why) => self.settle().fail(cell.core(), &why, &cell.lost_lease()),
                None => self.release(),
            }
        })
    }

    /// Waits until a record is durable or has failed, or until the actor has to end at once.
    async fn await_decision(&mut self, cell: &dyn Untyped) {
        let Some(progress) = self
            .settle()
            .writer()
            .map(|writer| writer.progress().clone())
        else {
            return;
        };
        // From here on a change is not missed.
        let changed = pin!(progress.changed().notified());
        if !self.settle().is_undecided() {
            return;
        }
        select(changed, pin!(ends_calls(cell))).await;
    }

    /// Waits until the snapshot that is being saved is there, and what is forgotten is gone. Not
    /// for longer than an answer of the store may take: a recovery sees what was done meanwhile.
    pub(super) async fn upkept(&mut self) {
        let cell = self.cell();
        let Some(upkeep) = self.settle().writer().map(|writer| writer.upkeep().clone()) else {
            return;
        };
        if cell.host().runtime().is_stopped() {
            return;
        }
        let patience = cell.host().runtime().patience();
        let idle = tokio::time::timeout(patience, upkeep.idle());
        select(pin!(idle), pin!(ends_calls(&*cell))).await;
    }

    /// The store may take longer than the actor has time.
    fn give_up_records(&mut self) {
        let cell = self.cell();
        if cell.core().is_severed() || cell.host().runtime().is_stopped() {
            return self.settle().end(cell.core(), &|| cell.lost_lease());
        }
        let why = Failure::NotStored {
            reason: "the store had not confirmed it when the entity had to stop".to_owned(),
            possibly: true,
        };
        self.settle().fail(cell.core(), &why, &cell.lost_lease());
    }

    /// Whether the actor should have ended by now, and has not, for its store.
    fn is_late(&mut self) -> bool {
        self.settle().is_writing() && self.cell().core().ends_calls()
    }

    /// What the activation has changed is not stored. It ends without its hooks, and the next one
    /// begins with what is stored. It is no failure of the actor.
    #[cold]
    pub(super) fn not_stored(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            match self.settle().failed() {
                None => self.give_up_records(),
                Some(why) => {
                    tracing::warn!(
                        actor = %cell.path(),
                        %why,
                        "an entity goes on from what is stored",
                    );
                    self.settle().fail(cell.core(), &why, &cell.lost_lease());
                }
            }
            self.discard().await;
        })
    }

    /// Lets go what may leave, and does what was to be done once its record is durable.
    pub(super) fn release(&mut self) {
        let cell = self.cell();
        self.settle().release(cell.core());
        self.run_due();
    }

    /// Waits until the conditions may be met, or the pause is interrupted.
    async fn await_conditions(&mut self, cell: &dyn Untyped, phase: Phase) {
        let mut interrupt = None;
        cell.with_status(&mut |status: &mut Status, is_empty| {
            let has_work = !is_empty || cell.core().signalled.load(Ordering::Relaxed);
            if phase == Phase::Paused || !has_work {
                interrupt = Some(status.pause(phase));
            }
        });
        let Some(interrupt) = interrupt else { return };
        let writer = self.settle().writer();
        let (progress, room) = writer.map_or((None, None), |writer| {
            let room = (!writer.has_room()).then(|| writer.room());
            (Some(writer.progress().clone()), room)
        });
        let room = OptionFuture::from(room);
        // From here on a change is not missed.
        let changed = progress
            .as_ref()
            .map(|progress| progress.changed().notified());
        let changed = OptionFuture::from(changed);
        // A lease is awaited for a time, and the store until the actor has to end.
        let is_writing = self.settle().is_writing();
        let ends = OptionFuture::from(is_writing.then(|| ends_calls(cell)));
        // The cell may have been severed before its pause could be interrupted.
        if !cell.core().is_severed() && !self.has_changed(cell.core(), phase) {
            let is_leased = self.settle().is_leased(cell.core());
            let patience = async {
                if is_leased {
                    std::future::pending::<()>().await;
                } else {
                    tokio::time::sleep(cell.host().runtime().patience()).await;
                }
            };
            let gate = self.settle().gate().filter(|_| !is_leased).cloned();
            let opened = async move {
                match gate {
                    Some(gate) if !mutants::on("whoever_waits_for_a_lease_waits_on") => {
                        gate.opened().await;
                    }
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = opened => {}
                () = interrupt.notified() => {}
                Some(()) = changed => {}
                Some(()) = room => {}
                Some(()) = ends => {}
                () = patience => self.give_up_waiting(cell),
            }
        }
        cell.with_status(&mut |status, _| status.resume());
        self.renew();
    }

    /// Whether there is nothing to wait for any more.
    fn has_changed(&mut self, core: &Core, phase: Phase) -> bool {
        if mutants::on("whoever_waits_for_a_lease_waits_on") {
            return false;
        }
        let settle = self.settle();
        if settle.may_release(core) || settle.failed().is_some() {
            return true;
        }
        match phase {
            Phase::Settling => !settle.is_writing() && !settle.holds(),
            _ => settle.may_handle(core, true) && !settle.holds(),
        }
    }

    /// The run acts under the lease of now.
    #[inline]
    pub(super) fn renew(&mut self) {
        let since = self.settle().renew();
        self.context().acts_since(since);
    }

    /// It is not known when there will be a lease again.
    fn give_up_waiting(&mut self, cell: &dyn Untyped) {
        self.turn_away(&Failure::NoQuorum, None);
        self.settle().end(cell.core(), &|| cell.lost_lease());
    }
}
