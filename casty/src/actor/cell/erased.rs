//! A cell, and the activation in it, of any type.

use std::{any::Any, ops::ControlFlow, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    actor::{
        Actor, Envelope, Message as _,
        ask::{
            chain::{Acts, Chain},
            remote_reply::Conveyed,
            reply::{Own, ReplyTo, undecodable},
        },
        cell::{
            Cell, Refusal,
            activation::{AnyActivation, Life},
            admission::admit_all,
            core::{Core, Status, Untyped},
            gate::Gate,
            hooks::{Hook, guarded},
            host::Host,
            leased::ActingLease,
            policy::Policy,
            run::Run,
            settle::Settle,
            stored::stores,
            turn::{drop_given_up, lost_lease},
        },
        context::{core::ContextCore, watch::Watcher},
        handle::{AnyCell, Signal},
        observer::Subject,
        tasks::lingering::Lingers,
    },
    error::Failure,
    event::{ActorPath, TerminatedReason},
    infra::{concurrent::lock, panic},
    message::{answer::Credit, codec},
};

impl<A: Actor> Lingers for Cell<A> {
    fn end_wait(&self, at_all: bool) -> bool {
        let (there_is_a_run, waker) = lock(&self.inner).status.end_wait(at_all);
        if let Some(waker) = waker {
            waker.wake();
        }
        there_is_a_run
    }
}

impl<A: Actor> AnyCell for Cell<A> {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        received: Conveyed,
        credit: &mut dyn FnMut() -> Option<Credit>,
    ) {
        let decoded = self.runtime().enter(|| A::Message::decode(payload));
        let reply = ReplyTo::from(received);
        let refusal = match decoded {
            Ok(message) => self.push_credited(Envelope { message, reply }, credit),
            Err(codec::DecodeError(reason)) => {
                let name = codec::variant_name(payload).unwrap_or("?");
                undecodable(self.runtime(), &|| Self::path(&self), name, reply, reason);
                Ok(())
            }
        };
        match refusal {
            Ok(()) => {}
            Err(Refusal::Failing(envelope, failure)) => self.undeliverable(envelope, failure),
            Err(Refusal::Full(envelope) | Refusal::Closed(envelope)) => {
                self.undeliverable(envelope, Failure::Stopped);
            }
        }
    }

    fn drop_orphans(&self) {
        Self::drop_orphans(self);
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        until_closed(Self::close(&self))
    }

    fn sever(self: Arc<Self>) {
        Self::sever(&self);
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        self.host.parent()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        self.host.gate()
    }

    fn signal(self: Arc<Self>, signal: Signal) {
        Self::signal(&self, signal);
    }

    fn watch(&self, watcher: Watcher) {
        Self::watch(self, watcher);
    }
}

impl<A: Actor> Acts for Cell<A> {
    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn may_act(&self) -> bool {
        Self::may_act(self)
    }

    fn lost_lease(&self) -> Failure {
        lost_lease(self.runtime())
    }

    fn asks(&self, ask: &Arc<Chain>) {
        let mut inner = lock(&self.inner);
        inner.status.seen.get_or_insert_default().add(ask);
    }

    fn is_within(&self, key: *const ()) -> bool {
        let me: *const () = std::ptr::from_ref(self).cast();
        let parent = || self.host.parent();
        std::ptr::eq(me, key) || parent().is_some_and(|parent| parent.is_within(key))
    }
}

/// An error of the receiver means that the cell had closed before.
fn until_closed(closed: tokio::sync::oneshot::Receiver<()>) -> BoxFuture<'static, ()> {
    Box::pin(async move { drop(closed.await) })
}

impl<A: Actor> Untyped for Cell<A> {
    fn core(&self) -> &Core {
        &self.core
    }

    fn host(&self) -> &dyn Host {
        &*self.host
    }

    fn with_status(&self, look: &mut dyn FnMut(&mut Status, bool)) {
        let mut inner = lock(&self.inner);
        let is_empty = inner.mailbox.is_empty();
        look(&mut inner.status, is_empty);
    }
}

impl<A: Actor> Subject for Cell<A> {
    fn kind(&self) -> &str {
        self.host.kind()
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn ancestors(&self) -> Vec<ActorPath> {
        ancestors(self.host.parent())
    }
}

fn ancestors(parent: Option<Arc<dyn AnyCell>>) -> Vec<ActorPath> {
    std::iter::successors(parent, |ancestor| ancestor.parent())
        .map(|ancestor| ancestor.path())
        .collect()
}

impl<A: Actor> AnyActivation for Run<A> {
    fn cell(&self) -> Arc<dyn Untyped> {
        self.cell.clone()
    }

    fn policy(&self) -> &'static Policy {
        &A::POLICY
    }

    fn life(&mut self) -> &mut Life {
        &mut self.activation.life
    }

    fn context(&mut self) -> &mut ContextCore {
        self.ctx.core()
    }

    fn settle(&mut self) -> &mut Settle {
        &mut self.settle
    }

    fn has_state(&self) -> bool {
        self.activation.state.is_some()
    }

    fn state_name(&self) -> &'static str {
        let state = self.activation.state.as_ref();
        state.map_or(A::NAME, A::state_name)
    }

    fn is_whole(&self) -> bool {
        self.activation.state.as_ref().is_some_and(A::is_whole)
    }

    fn hook(&mut self, hook: Hook) -> BoxFuture<'_, Result<(), String>> {
        if const { stores::<A>() } {
            return self.stored_hook(Some(hook));
        }
        let ctx = &mut self.ctx;
        let state = self.activation.state.as_mut();
        let lease = ActingLease::new(&*self.cell, &self.settle);
        Box::pin(async move {
            let Some(state) = state else { return Ok(()) };
            let name = hook.name();
            let call = async {
                match hook {
                    Hook::Restart => state.on_restart(ctx).await,
                    Hook::Stop => state.on_stop(ctx).await,
                    Hook::Terminated(who) => state.on_terminated(who, ctx).await,
                }
            };
            guarded(name, lease, call).await
        })
    }

    fn hand_over_state(&mut self, luggage: Vec<u8>) {
        if let Some(state) = self.activation.state.take_if(|state| state.is_whole()) {
            self.activation.state = self.cell.host.ended(&self.cell, state, luggage);
        }
    }

    fn keep_what_survives(&mut self) {
        // A stored type goes on from what is stored.
        if A::SURVIVES && !const { stores::<A>() } {
            let activation = &mut self.activation;
            activation.failed = activation.state.take().map(Box::new);
        }
    }

    fn drop_state(&mut self) -> Result<(), ()> {
        let state = self.activation.state.take();
        std::panic::catch_unwind(AssertUnwindSafe(|| drop(state))).map_err(panic::forget)
    }

    fn run_due(&mut self) {
        if const { stores::<A>() } {
            Self::run_due(self);
        }
    }

    fn take_raised(&mut self) {
        let activation = self.activation.life.number;
        let mut raised = self.ctx.take_raised();
        while let Some(message) = raised.pop() {
            let own = Own::new(activation, false, None, &Arc::default());
            self.batch.push_front(Envelope {
                message,
                reply: ReplyTo::Own(own),
            });
        }
    }

    fn unstash(&mut self) {
        if A::IS_MACHINE
            && let Some(mut stash) = self.activation.stash.take()
        {
            drop_given_up(&mut stash);
            stash.append(&mut self.batch);
            self.batch = *stash;
        }
    }

    fn turn_away(&mut self, failure: &Failure, pause: Option<Duration>) {
        let mut admitted = Vec::new();
        let mut told = std::mem::take(&mut self.batch);
        {
            let mut inner = lock(&self.cell.inner);
            if let Some(pause) = pause {
                let until = Instant::now() + pause;
                inner.status.refuse_until(until, failure.clone());
            }
            told.extend(inner.mailbox.drain(&mut admitted));
        }
        admit_all(admitted);
        for envelope in told {
            self.cell.undeliverable(envelope, failure.clone());
        }
    }

    fn close_unless_needed(&mut self) -> ControlFlow<()> {
        self.unstash();
        let inner = lock(&self.cell.inner);
        let more = !self.batch.is_empty() || !inner.mailbox.is_empty();
        if self.cell.core.is_entity() && more {
            return ControlFlow::Continue(());
        }
        let left = std::mem::take(&mut self.batch);
        self.cell.finish(inner, left, &TerminatedReason::Stopped);
        ControlFlow::Break(())
    }

    fn finish(&mut self, reason: TerminatedReason) -> ControlFlow<()> {
        self.unstash();
        let cell = &self.cell;
        self.settle.end(&cell.core, &|| lost_lease(cell.runtime()));
        let left = std::mem::take(&mut self.batch);
        self.cell.finish(lock(&self.cell.inner), left, &reason);
        ControlFlow::Break(())
    }
}
