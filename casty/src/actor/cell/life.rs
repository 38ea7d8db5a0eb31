//! How an activation begins and ends, and what becomes of an activation that fails.
//!
//! Nothing here is generic: what depends on the actor's type is behind [`AnyActivation`].

use std::{future::poll_fn, ops::ControlFlow, pin::pin, task::Poll, time::Duration};

use futures_util::future::OptionFuture;
use tokio::time::Instant;

use crate::{
    actor::{
        cell::{
            activation::{AnyActivation, Due},
            core::{Phase, Status, Untyped},
            hooks::Hook,
            metered,
            policy::OnFailure,
            rings,
        },
        context::{activation_scope::ActivationScope, core::Transition},
        handle::{self, ChildEvent},
        hold::Once,
        tally::Tally,
        tasks::throttle::Throttle,
    },
    error::Failure,
    event::{Event, TerminatedReason},
    infra::boxed::{Boxed, boxed},
    protocol::supervision::Directive,
};

/// How an activation ends that has not failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// A handler asked for it.
    Stop,
    /// The actor is idle.
    Passivate,
    /// The cell closes. The entity may go on with its state elsewhere.
    Close,
}

/// The state was made, and its start hook has run.
pub(super) fn publish_started(cell: &dyn Untyped) {
    let host = cell.host();
    metered::tally(host, Tally::Activated);
    host.runtime().publish(|| Event::ActorStarted(cell.path()));
}

impl dyn AnyActivation + '_ {
    /// The restart hook, after the start hook.
    pub(super) fn restarted(&mut self) -> Boxed<'_, Result<(), String>> {
        boxed(async move {
            self.hook(Hook::Restart).await?;
            let cell = self.cell();
            let runtime = cell.host().runtime();
            runtime.publish(|| Event::ActorRestarted(cell.path()));
            metered::tally(cell.host(), Tally::Restarted);
            Ok(())
        })
    }

    /// An activation after a failure has started.
    #[cold]
    pub(super) fn forgive(&mut self) {
        if let Some(supervisor) = &mut self.life().supervisor {
            supervisor.handle_read();
        }
        let cell = self.cell();
        cell.with_status(&mut |status, _| status.refuse_no_more());
    }

    /// An entity fails the messages that wait, and takes none for a while. An actor is started
    /// again, as its type says.
    pub(super) fn start_failed(&mut self, reason: String) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            let unread = self.context().take_unread();
            if unread.is_none() {
                self.report(&reason);
            }
            self.discard().await;
            self.life().due = Due::Nothing;
            let cell = self.cell();
            if let Some(unread) = unread {
                return self.refuse_unread(*unread).await;
            }
            if cell.core().is_entity() {
                let (pause, failure) = match self.directive() {
                    // Senders must not be able to make an entity spin.
                    Directive::Restart { after } => {
                        let pause = after.max(self.policy().backoff / 2);
                        (pause, Failure::Init { reason })
                    }
                    Directive::GiveUp { pause } => (pause, quarantined(reason, pause)),
                };
                return self.refuse(pause, &failure).await;
            }
            match self.policy().on_failure {
                OnFailure::Restart | OnFailure::Resume if cell.host().can_init() => {
                    match self.directive() {
                        Directive::Restart { after } => {
                            self.life().due = Due::Restart;
                            self.wait(after, Phase::Paused).await;
                            ControlFlow::Continue(())
                        }
                        Directive::GiveUp { .. } => self.fail_for_good(reason).await,
                    }
                }
                _ => self.fail_for_good(reason).await,
            }
        })
    }

    /// A stored entity could not be read. It fails the messages that wait, and takes none for a
    /// while. That is no failure of the entity.
    async fn refuse_unread(&mut self, failure: Failure) -> ControlFlow<()> {
        let cell = self.cell();
        let pause = if matches!(failure, Failure::StoreUnavailable { .. }) {
            let jitter = cell.host().runtime().jitter();
            let supervisor = self.life().supervisor.get_or_insert_default();
            supervisor.handle_unread(jitter)
        } else {
            // Until other code runs, or the store is mended, each try ends the same way.
            self.report(&failure.to_string());
            self.policy().backoff_max
        };
        self.refuse(pause, &failure).await
    }

    /// Does about a failure what the type says.
    pub(super) fn failed(&mut self, reason: String) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            self.report(&reason);
            let cell = self.cell();
            cell.core().present.pause();
            let policy = self.policy().on_failure;
            // A stored entity goes on from what is stored.
            let resumes =
                policy == OnFailure::Resume && self.is_whole() && self.settle().writer().is_none();
            let restarts = match policy {
                OnFailure::Restart => cell.host().can_init(),
                OnFailure::Resume => resumes || cell.host().can_init(),
                // The next activation of an entity is a restart by another name, and limited in
                // the same way.
                OnFailure::Stop | OnFailure::Escalate => cell.core().is_entity(),
            };
            if !restarts {
                return self.fail_for_good(reason).await;
            }
            match self.directive() {
                Directive::Restart { after } => {
                    self.tell_parent(ChildEvent::Restarts);
                    if resumes {
                        self.context().forget_requests();
                    } else {
                        self.keep_what_survives();
                        self.discard().await;
                    }
                    self.life().due = match policy {
                        OnFailure::Restart | OnFailure::Resume => Due::Restart,
                        OnFailure::Stop | OnFailure::Escalate => Due::Nothing,
                    };
                    self.wait(after, Phase::Paused).await;
                    ControlFlow::Continue(())
                }
                Directive::GiveUp { pause } if cell.core().is_entity() => {
                    self.discard().await;
                    self.refuse(pause, &quarantined(reason, pause)).await
                }
                Directive::GiveUp { .. } => self.fail_for_good(reason).await,
            }
        })
    }

    /// A handler, or work, of this activation was dropped where it awaited something, so that the
    /// state may be anything. The next activation begins afresh, here or elsewhere.
    #[cold]
    pub(super) fn cut_short(&mut self, what: &'static str) -> Boxed<'_, ()> {
        boxed(async move {
            let cell = self.cell();
            cell.core().present.pause();
            let (actor, why) = (cell.path(), cell.core().why_cut_short());
            // Of an entity that had to stop, the move of its shard says so, for all of them at
            // once.
            if !cell.core().is_overdue() {
                tracing::warn!(
                    %actor,
                    what,
                    why,
                    "a handler, or work, was dropped while it awaited something, and the state \
                     with it",
                );
            }
            cell.host().runtime().publish(|| Event::ActorFailed {
                who: actor,
                reason: format!("`{what}` was dropped while it awaited something: {why}"),
            });
            self.discard().await;
        })
    }

    /// The next message is handled by an activation that begins with what is stored.
    pub(super) fn begin_anew(&mut self) -> Boxed<'_, ()> {
        boxed(async move {
            self.cell().core().present.pause();
            self.discard().await;
        })
    }

    /// Starts afresh because a sibling failed.
    pub(super) async fn restart(&mut self) -> ControlFlow<()> {
        if !self.cell().host().can_init() {
            return self
                .fail_for_good("a sibling failed, and it cannot be made anew".to_owned())
                .await;
        }
        self.discard().await;
        self.life().due = Due::Restart;
        ControlFlow::Continue(())
    }

    async fn fail_for_good(&mut self, reason: String) -> ControlFlow<()> {
        self.discard().await;
        self.tell_parent(match self.policy().on_failure {
            OnFailure::Escalate => ChildEvent::Escalates(reason.clone()),
            _ => ChildEvent::Fails,
        });
        self.finish(TerminatedReason::Failed(reason))
    }

    fn report(&self, reason: &str) {
        let cell = self.cell();
        tracing::warn!(actor = %cell.path(), reason, "an actor failed");
        let runtime = cell.host().runtime();
        runtime.failures.add(cell.path(), reason);
        rings::failed(cell.host(), &cell.path(), reason);
        metered::tally(cell.host(), Tally::Failed);
        cell.host().runtime().publish(|| Event::ActorFailed {
            who: cell.path(),
            reason: reason.to_owned(),
        });
    }

    fn directive(&mut self) -> Directive {
        let jitter = self.cell().host().runtime().jitter();
        let limits = self.policy().limits();
        let supervisor = self.life().supervisor.get_or_insert_default();
        supervisor.handle_failure(limits, Instant::now(), jitter)
    }

    fn tell_parent(&self, event: ChildEvent) {
        let cell = self.cell();
        cell.core().tell_parent(cell.host(), event);
    }

    /// Does what a handler asked for besides its reply.
    pub(super) fn heed_requests(&mut self) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            if let Some(Transition { from, message }) = self.context().take_transition() {
                let (cell, to) = (self.cell(), self.state_name());
                let runtime = cell.host().runtime().clone();
                let transition = || Event::Transition {
                    who: cell.path(),
                    from,
                    to,
                    message,
                };
                if self.settle().is_writing() {
                    let transition = transition();
                    let publish = Once(move || runtime.publish(|| transition));
                    self.settle().hold(Box::new(publish), false, cell.core());
                } else {
                    runtime.publish(transition);
                }
                self.unstash();
            }
            let stops = self.context().take_stop();
            // What an activation sends itself ends with it.
            if self.context().take_raised() && !stops {
                self.take_raised();
                // An actor that raises messages without end must not keep its thread.
                tokio::task::coop::consume_budget().await;
            }
            if stops {
                self.settled().await;
                self.end(Ending::Stop).await;
                return self.close_unless_needed();
            }
            ControlFlow::Continue(())
        })
    }

    /// Ends the activation because it is idle.
    pub(super) fn passivate(&mut self) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            self.end(Ending::Passivate).await;
            self.close_unless_needed()
        })
    }

    /// Ends the activation, and the cell with it.
    pub(super) fn close(&mut self) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            self.end(Ending::Close).await;
            self.finish(TerminatedReason::Stopped)
        })
    }

    /// Ends the activation without its hooks, and the cell with it: the actor may be somewhere else
    /// by now.
    pub(super) fn abandon(&mut self) -> Boxed<'_, ControlFlow<()>> {
        boxed(async move {
            self.discard().await;
            self.finish(TerminatedReason::Stopped)
        })
    }

    pub(super) async fn end(&mut self, ending: Ending) {
        if self.settle().failed().is_some() {
            // It ends without its hooks.
            return self.not_stored().await;
        }
        let luggage = match ending {
            Ending::Close => self.pack(),
            Ending::Stop | Ending::Passivate => Vec::new(),
        };
        if let Some(attached) = self.context().detach() {
            self.end_scope(attached).await;
        }
        let cell = self.cell();
        if self.life().started
            && self.is_whole()
            && let Err(reason) = self.hook(Hook::Stop).await
        {
            tracing::error!(actor = %cell.path(), reason, "the stop hook failed");
        }
        // What the hook has changed.
        self.written().await;
        if ending == Ending::Close {
            let turn = OptionFuture::from(cell.host().packing().map(Throttle::turn)).await;
            self.hand_over_state(luggage);
            // To drop a large state is work as well. The turn must not cover what is awaited later.
            self.drop_state_quietly();
            drop(turn);
        }
        self.discard().await;
    }

    /// What goes along with the state, if the type migrates.
    fn pack(&mut self) -> Vec<u8> {
        let cell = self.cell();
        match cell.host().packing() {
            Some(_) => self.context().pack(cell.host().runtime()).encode(),
            None => Vec::new(),
        }
    }

    fn drop_state_quietly(&mut self) {
        // A failure may have left the state in any form, so that dropping it may panic as well.
        if self.drop_state().is_err() {
            tracing::error!(actor = %self.cell().path(), "dropping the state panicked");
        }
    }

    /// Takes the activation apart: its children, timers, work and watches end with it, and its
    /// stashed messages go to the next activation.
    pub(super) async fn discard(&mut self) {
        self.drop_state_quietly();
        if self.settle().writer().is_some() {
            // The next activation reads what is stored, so nothing may be under way.
            self.written().await;
            self.run_due();
            self.upkept().await;
            self.settle().take_storing();
        }
        let life = self.life();
        let started = std::mem::take(&mut life.started);
        life.number = life.number.wrapping_add(1);
        let number = life.number;
        self.unstash();
        let context = self.context();
        context.forget_requests();
        let attached = context.detach();
        context.attach(number, None);
        if let Some(attached) = attached {
            self.end_scope(attached).await;
        }
        if started {
            let cell = self.cell();
            let runtime = cell.host().runtime();
            runtime.publish(|| Event::ActorStopped(cell.path()));
        }
    }

    /// Ends what belongs to the activation: work and timers at once, children when they have
    /// handled what they have. Children of an actor that has to end at once do so too.
    async fn end_scope(&mut self, mut scope: Box<ActivationScope>) {
        let children = scope.end();
        if children.is_empty() {
            return;
        }
        let cell = self.cell();
        let closing = handle::all_closed(children.iter().map(|child| child.clone().close()));
        let (mut closing, mut at_once) = (pin!(closing), false);
        poll_fn(|cx| {
            let core = cell.core();
            core.set_awaiting(false);
            if closing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            core.set_awaiting(true);
            cell.with_status(&mut |status, _| status.wake_by(cx.waker()));
            // It may have been told so before it could be woken.
            if core.ends_calls() && !std::mem::replace(&mut at_once, true) {
                for child in &children {
                    child.clone().sever();
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Takes no messages for `pause`, and keeps the supervisor for as long again: an activation
    /// that fails once more in that time is given a longer pause.
    async fn refuse(&mut self, pause: Duration, failure: &Failure) -> ControlFlow<()> {
        metered::tally(self.cell().host(), Tally::Refusing);
        self.turn_away(failure, Some(pause));
        self.wait(pause * 2, Phase::Resting).await;
        ControlFlow::Continue(())
    }

    /// Waits, unless the cell is to close. In [`Phase::Resting`] a message ends the wait.
    async fn wait(&mut self, pause: Duration, phase: Phase) {
        if pause.is_zero() {
            return;
        }
        let cell = self.cell();
        let mut interrupt = None;
        cell.with_status(&mut |status: &mut Status, is_empty| {
            let rests = is_empty && !status.is_to_be_erased();
            if !status.closing && (phase != Phase::Resting || rests) {
                interrupt = Some(status.pause(phase));
            }
        });
        let Some(interrupt) = interrupt else { return };
        let _ = tokio::time::timeout(pause, interrupt.notified()).await;
        cell.with_status(&mut |status, _| status.resume());
    }
}

fn quarantined(reason: String, retry_after: Duration) -> Failure {
    Failure::Quarantined {
        reason,
        retry_after,
    }
}
