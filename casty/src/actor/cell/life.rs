//! How an activation begins and ends, and what becomes of one that fails.

use std::{ops::ControlFlow, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::future::OptionFuture;
use tokio::{sync::Notify, time::Instant};

use super::{
    ChildEvent, Due, Phase, Waiter,
    run::{Run, guarded, guarded_now},
};
use crate::{
    actor::{
        Actor, FirstState, HookError,
        cell::{CellName, policy::OnFailure},
        tasks::throttle::Throttle,
    },
    error::Failure,
    event::{Event, TerminatedReason},
    infra::sync::lock,
    protocol::supervision::Directive,
};

impl<A: Actor> Run<A> {
    /// Makes the state if there is none, and runs the hooks that are due.
    pub(super) async fn start(&mut self) -> ControlFlow<()> {
        match self.try_start().await {
            Ok(()) => {
                self.activation.due = Due::Nothing;
                if self.activation.supervisor.is_some()
                    && let Some(rare) = &mut lock(&self.cell.inner).rare
                {
                    rare.failing = None;
                }
                ControlFlow::Continue(())
            }
            Err(reason) => Box::pin(self.start_failed(reason)).await,
        }
    }

    async fn try_start(&mut self) -> Result<(), String> {
        let Self {
            cell,
            ctx,
            activation,
            ..
        } = self;
        if activation.state.is_none() {
            let made = guarded_now("init", || Ok(cell.host.init(ctx)))?;
            activation.state = Some(match made {
                Some(FirstState::Now(made)) => made.map_err(|HookError(reason)| reason)?,
                Some(FirstState::Later(made)) => guarded("init", made).await?,
                None => {
                    return Err("it was spawned from a value, and cannot be made anew".to_owned());
                }
            });
            activation.started = false;
        }
        let Some(state) = activation.state.as_mut() else {
            return Ok(());
        };
        if !activation.started {
            guarded("on_start", state.on_start(ctx)).await?;
            activation.started = true;
            cell.runtime().publish(|| Event::ActorStarted(cell.path()));
        }
        if activation.due == Due::Restart {
            guarded("on_restart", state.on_restart(ctx)).await?;
            cell.runtime()
                .publish(|| Event::ActorRestarted(cell.path()));
        }
        Ok(())
    }

    /// An entity tells everybody who waits, and is left alone for a while; an actor is tried again,
    /// as its type says.
    async fn start_failed(&mut self, reason: String) -> ControlFlow<()> {
        self.report(&reason);
        self.discard().await;
        self.activation.due = Due::Nothing;
        if self.cell.is_entity() {
            let (pause, failure) = match self.verdict() {
                // Nobody should be able to make it spin by sending messages.
                Directive::Restart { after } => {
                    (after.max(A::POLICY.backoff / 2), Failure::Init { reason })
                }
                Directive::GiveUp { pause } => (pause, quarantined(reason, pause)),
            };
            return self.refuse(pause, failure).await;
        }
        match A::POLICY.on_failure {
            OnFailure::Restart | OnFailure::Resume if self.cell.host.can_init() => {
                match self.verdict() {
                    Directive::Restart { after } => {
                        self.activation.due = Due::Restart;
                        self.wait(after, Phase::Paused).await;
                        ControlFlow::Continue(())
                    }
                    Directive::GiveUp { .. } => self.fail_for_good(reason).await,
                }
            }
            _ => self.fail_for_good(reason).await,
        }
    }

    /// Does about a failure what the type says.
    pub(super) async fn failed(&mut self, reason: String) -> ControlFlow<()> {
        self.report(&reason);
        let policy = A::POLICY.on_failure;
        let resumes =
            policy == OnFailure::Resume && self.activation.state.as_ref().is_some_and(A::is_whole);
        let restarts = match policy {
            OnFailure::Restart => self.cell.host.can_init(),
            OnFailure::Resume => resumes || self.cell.host.can_init(),
            // The next activation of an entity is a restart by another name: it is limited in the
            // same way.
            OnFailure::Stop | OnFailure::Escalate => self.cell.is_entity(),
        };
        if !restarts {
            return self.fail_for_good(reason).await;
        }
        match self.verdict() {
            Directive::Restart { after } => {
                self.tell_parent(ChildEvent::Restarts);
                if resumes {
                    self.ctx.forget_wishes();
                } else {
                    self.discard().await;
                }
                self.activation.due = match policy {
                    OnFailure::Restart | OnFailure::Resume => Due::Restart,
                    OnFailure::Stop | OnFailure::Escalate => Due::Nothing,
                };
                self.wait(after, Phase::Paused).await;
                ControlFlow::Continue(())
            }
            Directive::GiveUp { pause } if self.cell.is_entity() => {
                self.discard().await;
                self.refuse(pause, quarantined(reason, pause)).await
            }
            Directive::GiveUp { .. } => self.fail_for_good(reason).await,
        }
    }

    /// Starts afresh because a sibling failed.
    pub(super) async fn restart(&mut self) -> ControlFlow<()> {
        if !self.cell.host.can_init() {
            return self
                .fail_for_good("a sibling failed, and it cannot be made anew".to_owned())
                .await;
        }
        self.discard().await;
        self.activation.due = Due::Restart;
        ControlFlow::Continue(())
    }

    async fn fail_for_good(&mut self, reason: String) -> ControlFlow<()> {
        self.discard().await;
        self.tell_parent(match A::POLICY.on_failure {
            OnFailure::Escalate => ChildEvent::Escalates(reason.clone()),
            _ => ChildEvent::Fails,
        });
        self.finish(TerminatedReason::Failed(reason))
    }

    fn report(&self, reason: &str) {
        tracing::warn!(actor = %self.cell.path(), reason, "an actor failed");
        self.cell.runtime().publish(|| Event::ActorFailed {
            who: self.cell.path(),
            reason: reason.to_owned(),
        });
    }

    fn verdict(&mut self) -> Directive {
        let jitter = self.cell.runtime().jitter();
        self.activation
            .supervisor
            .get_or_insert_default()
            .handle_failure(A::POLICY.limits(), Instant::now(), jitter)
    }

    fn tell_parent(&self, event: ChildEvent) {
        if let CellName::Actor(number) = self.cell.name
            && let Some(parent) = self.cell.host.parent()
        {
            parent.child(number, event);
        }
    }

    /// Ends the activation at its own wish, or because it is not needed.
    pub(super) async fn deactivate(&mut self) {
        self.end(false).await;
    }

    /// The same, because the cell closes: the entity may go on with its state elsewhere.
    pub(super) async fn close(&mut self) {
        self.end(true).await;
    }

    async fn end(&mut self, closes: bool) {
        if let Some(attached) = self.ctx.detach() {
            attached.end().await;
        }
        if self.activation.started
            && let Some(state) = self.activation.state.as_mut()
            && state.is_whole()
        {
            let hook = guarded("on_stop", state.on_stop(&mut self.ctx)).await;
            if let Err(reason) = hook {
                tracing::error!(actor = %self.cell.path(), reason, "the stop hook failed");
            }
        }
        if closes {
            let cell = self.cell.clone();
            let turn = OptionFuture::from(cell.host.packing().map(Throttle::turn)).await;
            let state = self.activation.state.as_ref();
            if let Some(state) = state.filter(|state| state.is_whole()) {
                cell.host.ended(&cell, state);
            }
            // That is work as well, where it is large. What is awaited from here on is none.
            self.drop_state();
            drop(turn);
        }
        self.discard().await;
    }

    fn drop_state(&mut self) {
        let state = self.activation.state.take();
        // A failure may have left the state in any form, so that dropping it may panic as well.
        if std::panic::catch_unwind(AssertUnwindSafe(|| drop(state))).is_err() {
            tracing::error!(actor = %self.cell.path(), "dropping the state panicked");
        }
    }

    /// Takes the activation apart: what it began ends with it, and what it stashed is for the next
    /// one.
    pub(super) async fn discard(&mut self) {
        self.drop_state();
        let started = std::mem::take(&mut self.activation.started);
        self.activation.number = self.activation.number.wrapping_add(1);
        self.unstash();
        self.ctx.forget_wishes();
        let attached = self.ctx.detach();
        self.ctx.attach(self.activation.number, None);
        if let Some(attached) = attached {
            attached.end().await;
        }
        if started {
            self.cell
                .runtime()
                .publish(|| Event::ActorStopped(self.cell.path()));
        }
    }

    /// Takes no messages for `pause`, and remembers for as long again why: whoever fails once more
    /// then is given a longer pause.
    async fn refuse(&mut self, pause: Duration, failure: Failure) -> ControlFlow<()> {
        let mut admitted = Vec::new();
        let mut told = std::mem::take(&mut self.batch);
        {
            let mut inner = lock(&self.cell.inner);
            inner.rare().failing = Some((Instant::now() + pause, failure.clone()));
            told.extend(inner.mailbox.drain(&mut admitted));
        }
        admitted.into_iter().for_each(Waiter::admit);
        for envelope in told {
            self.cell.undeliverable(envelope, failure.clone());
        }
        self.wait(pause * 2, Phase::Resting).await;
        ControlFlow::Continue(())
    }

    /// Waits, unless the cell is to close. In [`Phase::Resting`] a message ends the wait.
    async fn wait(&mut self, pause: Duration, phase: Phase) {
        if pause.is_zero() {
            return;
        }
        let interrupt = Arc::new(Notify::new());
        {
            let mut inner = lock(&self.cell.inner);
            if inner.closing || phase == Phase::Resting && !inner.mailbox.is_empty() {
                return;
            }
            inner.phase = phase;
            inner.rare().interrupt = Some(interrupt.clone());
        }
        let _ = tokio::time::timeout(pause, interrupt.notified()).await;
        let mut inner = lock(&self.cell.inner);
        inner.phase = Phase::Running;
        inner.rare().interrupt = None;
    }
}

fn quarantined(reason: String, retry_after: Duration) -> Failure {
    Failure::Quarantined {
        reason,
        retry_after,
    }
}
