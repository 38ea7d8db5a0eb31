//! How an activation handles signals.

use std::{collections::VecDeque, ops::ControlFlow, sync::atomic::Ordering};

use crate::{
    actor::{
        cell::{activation::AnyActivation, hooks::Hook, policy::Children},
        handle::{ChildEvent, Signal},
        runtime::Runtime,
    },
    error::Failure,
    infra::boxed::{Boxed, boxed},
};

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
            Signal::WorkCutShort(activation) => {
                if activation == self.life().number {
                    self.cut_short("ctx.pipe").await;
                }
            }
            Signal::Restart => self.restart().await?,
            Signal::Passivate(used) => {
                // A message that took long may have been handled since the signal was sent.
                let last = self.cell().core().used.load(Ordering::Relaxed);
                self.life().sleep_requested = last == used;
            }
            Signal::Overdue => self.turn_away_late(),
            Signal::Erase(erased) => self.erase(erased).await?,
        }
        ControlFlow::Continue(())
    }

    /// The entity has to stop, and handles nothing more.
    pub(super) fn turn_away_late(&mut self) {
        let failure = not_handled_in_time(self.cell().host().runtime());
        self.turn_away(&failure, None);
    }
}

/// The error of an asker whose message the entity did not get to before it had to stop.
fn not_handled_in_time(runtime: &Runtime) -> Failure {
    Failure::Unreachable {
        node: runtime.node.to_string(),
        reason: "the entity moves to another node, and did not get to the message within \
                 `stop_timeout`"
            .to_owned(),
        maybe_handled: false,
    }
}
