//! A handler, or a hook, that awaits something, and the lease under which it began.
//!
//! Once the lease has lapsed the entity may act on another node, so whatever was begun here must
//! not go on. Code that awaits is dropped where it awaits. Code that does not cannot be stopped: it
//! finds only that its fencing token is zero.
//!
//! The same holds for an actor that is severed, and for an entity that has to stop for the move of
//! its shard and has not done so in time.
//!
//! A call that is done when it is first polled pays nothing for this. One that has to wait leaves
//! its run's waker in the cell, by which it hears that it may not go on.

use std::{
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use pin_project_lite::pin_project;

use crate::{
    actor::cell::{
        core::Untyped,
        gate::{Gate, Lapses},
        settle::Settle,
    },
    infra::{mutants, panic},
};

/// What a call ends with in place of a panic: it was dropped where it awaited something. Of no
/// size, so boxing it allocates nothing.
pub(super) struct CutShort;

/// The lease under which a run has begun what it does.
#[derive(Clone, Copy)]
pub(super) struct ActingLease<'a> {
    cell: &'a dyn Untyped,
    /// `None` where no other node could have the actor.
    gate: Option<&'a Gate>,
    since: Lapses,
}

impl<'a> ActingLease<'a> {
    #[inline]
    pub(super) fn new(cell: &'a dyn Untyped, settle: &'a Settle) -> Self {
        Self {
            cell,
            gate: settle.gate().map(|gate| &**gate),
            since: settle.since(),
        }
    }

    /// The same for a call that changes what the run holds meanwhile.
    pub(super) fn since(cell: &'a dyn Untyped, since: Lapses) -> Self {
        Self {
            cell,
            gate: cell.host().gate().map(|gate| &**gate),
            since,
        }
    }

    pub(super) fn why_cut_short(self) -> &'static str {
        self.cell.core().why_cut_short()
    }

    pub(super) fn lets<F>(self, call: F) -> WhileLeased<'a, F> {
        WhileLeased {
            call: Some(call),
            lease: self,
            waits: false,
        }
    }

    #[cold]
    fn may_go_on(self) -> bool {
        let is_leased = self.gate.is_none_or(|gate| gate.is_open_since(self.since));
        is_leased && !self.cell.core().ends_calls() || mutants::on("a_handler_outlives_its_lease")
    }

    /// Leaves the waker. Returns whether the call may go on.
    #[cold]
    fn wait(self, cx: &Context<'_>) -> bool {
        let core = self.cell.core();
        core.set_awaiting(true);
        let runtime = self.cell.host().runtime();
        core.present.note(|| runtime.coarse_millis());
        self.cell
            .with_status(&mut |status, _| status.wake_by(cx.waker()));
        // The gate may have closed before it could be told of this waker.
        self.may_go_on()
    }

    #[cold]
    fn wakes(self) -> bool {
        self.cell.core().set_awaiting(false);
        self.may_go_on()
    }
}

pin_project! {
    /// Catches the call's panics, and ends it with [`CutShort`] once it may not go on.
    pub(super) struct WhileLeased<'a, F> {
        #[pin]
        call: Option<F>,
        lease: ActingLease<'a>,
        waits: bool,
    }
}

impl<T, F: Future<Output = thread::Result<T>>> Future for WhileLeased<'_, F> {
    type Output = thread::Result<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<thread::Result<T>> {
        let mut this = self.project();
        let may_go_on = !*this.waits || this.lease.wakes();
        if may_go_on && let Some(call) = this.call.as_mut().as_pin_mut() {
            match call.poll(cx) {
                Poll::Pending => *this.waits = true,
                ready @ Poll::Ready(_) => return ready,
            }
            if this.lease.wait(cx) {
                return Poll::Pending;
            }
        }
        this.lease.cell.core().set_awaiting(false);
        panic::contained("a value of a handler", || this.call.set(None));
        Poll::Ready(Err(Box::new(CutShort)))
    }
}
