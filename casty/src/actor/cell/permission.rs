//! How a run waits for what [`settle`](super::settle) decides: that a message may be handled, or
//! that outputs may leave.

use std::sync::atomic::Ordering;

use crate::{
    actor::cell::{
        activation::AnyActivation,
        core::{Phase, Status, Untyped},
    },
    error::Failure,
    infra::{
        boxed::{Boxed, boxed},
        mutants,
    },
};

impl dyn AnyActivation + '_ {
    /// Waits until a message may be handled. Messages and outputs that wait for too long fail.
    pub(super) fn await_permission(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            let mut waits = false;
            while (!self.settle().may_handle(cell.core())
                || waits && mutants::on("whoever_waits_for_a_lease_waits_on"))
                && !cell.core().is_severed()
                && !cell.host().runtime().is_stopped()
            {
                waits = true;
                self.await_conditions(&*cell, Phase::Paused).await;
            }
            self.settle().release(cell.core());
        })
    }

    /// Waits until outputs have left, or there is something else to do.
    pub(super) fn await_outputs(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            self.settle().release(cell.core());
            if self.settle().holds() {
                self.await_conditions(&*cell, Phase::Settling).await;
            }
        })
    }

    /// Waits until all outputs have left, or are given up.
    pub(super) async fn settled(&mut self) {
        let cell = self.cell();
        self.settle().release(cell.core());
        while self.settle().holds() {
            if cell.core().is_severed() || cell.host().runtime().is_stopped() {
                return self.settle().end(cell.core(), &|| cell.lost_lease());
            }
            self.await_conditions(&*cell, Phase::Paused).await;
            self.settle().release(cell.core());
        }
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
        // The cell may have been severed before its pause could be interrupted.
        if !cell.core().is_severed() {
            let patience = tokio::time::sleep(cell.host().runtime().patience());
            let gate = self.settle().gate().cloned();
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
                () = patience => self.give_up_waiting(cell),
            }
        }
        cell.with_status(&mut |status, _| status.resume());
        self.renew();
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
