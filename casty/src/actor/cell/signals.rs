//! Signals to an actor, and how its activation handles them.

use std::{collections::VecDeque, ops::ControlFlow, sync::atomic::Ordering};

use crate::{
    actor::{
        cell::{hooks::Hook, life::AnyActivation, policy::Children},
        context::watch::WatchId,
    },
    event::Terminated,
    infra::boxed::{Boxed, boxed},
};

/// A notice to an actor that is no message. Signals are handled before messages.
///
/// The number of signals in a cell is bounded by the actor's own actions: one for each watch, a few
/// for each child.
pub(crate) enum Signal {
    /// An actor that this one watches has ended.
    Terminated(WatchId, Terminated),
    /// The outcome of the child with this number.
    Child(u64, ChildEvent),
    /// Work, or a timer, of the activation with this number panicked.
    WorkFailed(u32, String),
    /// Start afresh, since another child of the same parent failed.
    Restart,
    /// Passivate, unless the actor was used since this time, as
    /// [`Cell::last_used`](crate::actor::cell::Cell::last_used) gives it.
    Passivate(u32),
}

/// A child's report to its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChildEvent {
    /// The child failed, and goes on.
    Restarts,
    /// The child failed, and that ends it.
    Fails,
    /// The child failed, it ends, and its failure becomes the parent's.
    Escalates(String),
    /// The child has ended.
    Ended,
}

impl dyn AnyActivation + '_ {
    pub(super) fn handle_signals(
        &mut self,
        signals: VecDeque<Signal>,
    ) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            for signal in signals {
                self.handle_signal(signal).await?;
            }
            ControlFlow::Continue(())
        })
    }

    async fn handle_signal(&mut self, signal: Signal) -> ControlFlow<()> {
        match signal {
            Signal::Terminated(watch, who) => {
                if self.context().attached().take_watch(watch) && self.has_state() {
                    if let Err(reason) = self.hook(Hook::Terminated(who)).await {
                        self.failed(reason).await?;
                    }
                    self.heed_requests().await?;
                }
            }
            Signal::Child(number, event) => {
                let all = self.policy().children == Children::AllForOne;
                let scope = self.context().attached();
                scope.handle_child(number, &event, all);
                if let ChildEvent::Escalates(reason) = event {
                    self.failed(format!("its child {number} failed: {reason}"))
                        .await?;
                }
            }
            Signal::WorkFailed(activation, reason) => {
                if activation == self.life().number {
                    self.failed(reason).await?;
                }
            }
            Signal::Restart => self.restart().await?,
            Signal::Passivate(used) => {
                // A message that took long may have been handled since the signal was sent.
                let last = self.cell().core().used.load(Ordering::Relaxed);
                self.life().sleep_requested = last == used;
            }
        }
        ControlFlow::Continue(())
    }
}
