//! The target behind a probe's reference: what is sent to it comes out of a channel.

use std::{
    any::Any,
    sync::{Arc, Mutex, Weak},
};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    actor::{
        Actor, Envelope, Message as _, Rejected,
        ask::{
            chain::Acts,
            remote_reply::Conveyed,
            reply::{ReplyTo, undecodable},
        },
        context::watch::{WatchId, WatchedKey, Watcher},
        handle::{AnyCell, Signal},
        reference::{destination::Destination, travelled},
        runtime::{ActorAddress, Runtime},
    },
    error::Failure,
    event::{ActorPath, Terminated, TerminatedReason},
    id::EntityId,
    infra::sync::lock,
    message::{answer::Credit, codec},
};

/// What comes out of the channel.
pub(super) enum Arrival<A: Actor> {
    /// With the id of the entity that it is for, or the number of the actor.
    Message(EntityId, Envelope<A>),
    Terminated(Terminated),
}

/// Unbounded: the test that holds the other end decides what comes.
pub(super) struct ProbeTarget<A: Actor> {
    me: Weak<Self>,
    runtime: Arc<Runtime>,
    number: u64,
    out: mpsc::UnboundedSender<Arrival<A>>,
    watchers: Mutex<Vec<Watcher>>,
}

impl<A: Actor> ProbeTarget<A> {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        number: u64,
        out: mpsc::UnboundedSender<Arrival<A>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime,
            number,
            out,
            watchers: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> ActorPath {
        ActorPath {
            kind: A::NAME.to_owned(),
            id: self.number.to_string(),
        }
    }

    fn id(&self) -> EntityId {
        EntityId::new(self.number.to_string())
    }

    pub(super) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Ends the probe: no test reads its messages any more.
    pub(super) fn end(&self) {
        self.runtime.forget(self.number);
        for watcher in std::mem::take(&mut *lock(&self.watchers)) {
            watcher.tell(self.path(), TerminatedReason::Stopped);
        }
    }

    pub(super) fn put(&self, to: EntityId, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        let path = || ActorPath {
            kind: A::NAME.to_owned(),
            id: to.to_string(),
        };
        let Some(envelope) = travelled(&self.runtime, &path, envelope)? else {
            return Ok(());
        };
        match self.out.send(Arrival::Message(to, envelope)) {
            Err(mpsc::error::SendError(Arrival::Message(_, envelope))) => {
                Err(Rejected::new(envelope, Failure::Stopped))
            }
            _ => Ok(()),
        }
    }

    fn add(&self, watcher: Watcher) {
        if self.out.is_closed() {
            watcher.tell(self.path(), TerminatedReason::Stopped);
        } else {
            lock(&self.watchers).push(watcher);
        }
    }

    fn remove(&self, watch: WatchId) {
        lock(&self.watchers).retain(|watcher| watcher.id != watch);
    }
}

impl<A: Actor> Destination<A> for ProbeTarget<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        self.put(self.id(), envelope)
    }

    fn send(self: Arc<Self>, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        Box::pin(std::future::ready(self.put(self.id(), envelope)))
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn key(&self) -> WatchedKey {
        (None, self.number)
    }

    fn watch(&self, watcher: Watcher) {
        self.add(watcher);
    }

    fn unwatch(&self, watch: WatchId) {
        self.remove(watch);
    }

    fn address(&self) -> Option<ActorAddress> {
        self.runtime.address_of(self.number, A::NAME)
    }
}

impl<A: Actor> Acts for ProbeTarget<A> {
    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn may_act(&self) -> bool {
        true
    }

    fn lost_lease(&self) -> Failure {
        Failure::Stopped
    }
}

impl<A: Actor> AnyCell for ProbeTarget<A> {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        received: Conveyed,
        _: &mut dyn FnMut() -> Option<Credit>,
    ) {
        let reply = ReplyTo::from(received);
        match self.runtime.enter(|| A::Message::decode(payload)) {
            Ok(message) => {
                if let Err(rejected) = self.put(self.id(), Envelope { message, reply }) {
                    let (envelope, failure) = (rejected.envelope, rejected.failure);
                    envelope.undelivered(&self.runtime, &|| Self::path(&self), failure);
                }
            }
            Err(codec::DecodeError(reason)) => {
                let name = codec::variant_name(payload).unwrap_or("?");
                undecodable(&self.runtime, &|| Self::path(&self), name, reply, reason);
            }
        }
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn sever(self: Arc<Self>) {}

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        let destination: Arc<dyn Destination<A>> = self;
        Arc::new(destination)
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        None
    }

    fn signal(self: Arc<Self>, signal: Signal) {
        if let Signal::Terminated(_, who) = signal {
            // An error means that the probe is gone.
            let _ = self.out.send(Arrival::Terminated(who));
        }
    }

    fn watch(&self, watcher: Watcher) {
        self.add(watcher);
    }
}

impl<A: Actor> ProbeTarget<A> {
    /// As the watching actor.
    pub(super) fn weak(&self) -> Weak<dyn AnyCell> {
        self.me.clone()
    }
}
