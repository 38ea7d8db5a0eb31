//! A cell of any type.

use std::{any::Any, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Reply,
        cell::{Cell, ChildEvent, Refusal, Signal, run::lost_lease},
        context::watch::Watcher,
        envelope::{Envelope, RemoteAsk, ReplyTo},
        runtime::Runtime,
    },
    error::Failure,
    event::ActorPath,
    message::{answer::Credit, codec},
};

/// A cell whose messages come over a connection, or whose end concerns others.
pub(crate) trait AnyCell: Send + Sync {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        ask: Option<RemoteAsk>,
        credit: &mut dyn FnMut() -> Option<Credit>,
    );

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()>;

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    fn path(&self) -> ActorPath;

    /// The actor that spawned it, if it still lives.
    fn parent(&self) -> Option<Arc<dyn AnyCell>>;

    fn signal(self: Arc<Self>, signal: Signal);

    /// What became of its child.
    fn child(self: Arc<Self>, number: u64, event: ChildEvent) {
        self.signal(Signal::Child(number, event));
    }

    /// Lets it start afresh, for no failure of its own.
    fn restart(self: Arc<Self>) {
        self.signal(Signal::Restart);
    }

    fn watch(&self, watcher: Watcher);

    /// Ends its run if that has waited since the last call, or at all. Returns whether there is a
    /// run yet.
    fn end_wait(&self, at_all: bool) -> bool {
        let _ = at_all;
        false
    }

    /// Whether it may act now: answer, and send something away from this node.
    fn may_act(&self) -> bool {
        true
    }

    /// What is said instead of an answer that may not leave.
    fn lost_lease(&self) -> Failure {
        Failure::Stopped
    }
}

impl<A: Actor> AnyCell for Cell<A> {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        ask: Option<RemoteAsk>,
        credit: &mut dyn FnMut() -> Option<Credit>,
    ) {
        let decoded = self
            .runtime()
            .enter(|| codec::decode::<A::Message>(payload));
        let reply = ReplyTo::from(ask);
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

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        let closed = Self::close(&self);
        Box::pin(async move { drop(closed.await) })
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        self.host.parent()
    }

    fn signal(self: Arc<Self>, signal: Signal) {
        Self::signal(&self, signal);
    }

    fn watch(&self, watcher: Watcher) {
        Self::watch(self, watcher);
    }

    fn end_wait(&self, at_all: bool) -> bool {
        Self::end_wait(self, at_all)
    }

    fn may_act(&self) -> bool {
        Self::may_act(self)
    }

    fn lost_lease(&self) -> Failure {
        lost_lease(self.runtime())
    }
}

/// Says that a message from another node could not be read.
pub(crate) fn undecodable<R: Reply>(
    runtime: &Runtime,
    to: &dyn Fn() -> ActorPath,
    message: &str,
    reply: ReplyTo<R>,
    reason: String,
) {
    let failure = Failure::Undecodable {
        message: message.to_owned(),
        reason,
    };
    reply.undelivered(runtime, to, message, failure);
}
