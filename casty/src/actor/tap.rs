//! A stand-in for an actor: what is sent to it comes out of a channel.

use std::{
    any::Any,
    sync::{Arc, Mutex, Weak},
};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    actor::{
        Actor, Message as _, Rejected,
        cell::{AnyCell, Signal, undecodable},
        context::watch::{WatchId, WatchedKey, Watcher},
        envelope::{Envelope, RemoteAsk, ReplyTo},
        reference::Destination,
        runtime::{ActorAddress, Runtime},
    },
    error::Failure,
    event::{ActorPath, Terminated, TerminatedReason},
    infra::sync::lock,
    message::{answer::Credit, codec},
};

/// The items that a tap delivers.
pub(crate) enum Tapped<A: Actor> {
    Message(Envelope<A>),
    Terminated(Terminated),
}

/// Unbounded: the test that holds the other end decides what comes.
pub(crate) struct Tap<A: Actor> {
    me: Weak<Self>,
    runtime: Arc<Runtime>,
    number: u64,
    out: mpsc::UnboundedSender<Tapped<A>>,
    watchers: Mutex<Vec<Watcher>>,
}

impl<A: Actor> Tap<A> {
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        number: u64,
        out: mpsc::UnboundedSender<Tapped<A>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime,
            number,
            out,
            watchers: Mutex::default(),
        })
    }

    pub(crate) fn path(&self) -> ActorPath {
        ActorPath {
            kind: A::NAME.to_owned(),
            id: self.number.to_string(),
        }
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Nobody reads any more.
    pub(crate) fn end(&self) {
        self.runtime.forget(self.number);
        for watcher in std::mem::take(&mut *lock(&self.watchers)) {
            watcher.tell(self.path(), TerminatedReason::Stopped);
        }
    }

    fn put(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        match self.out.send(Tapped::Message(envelope)) {
            Err(mpsc::error::SendError(Tapped::Message(envelope))) => {
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

impl<A: Actor> Destination<A> for Tap<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        self.put(envelope)
    }

    fn send(self: Arc<Self>, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        Box::pin(std::future::ready(self.put(envelope)))
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

impl<A: Actor> AnyCell for Tap<A> {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        ask: Option<RemoteAsk>,
        _: &mut dyn FnMut() -> Option<Credit>,
    ) {
        let reply = ReplyTo::from(ask);
        match self.runtime.enter(|| A::Message::decode(payload)) {
            Ok(message) => {
                if let Err(rejected) = self.put(Envelope { message, reply }) {
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

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        None
    }

    fn signal(self: Arc<Self>, signal: Signal) {
        if let Signal::Terminated(_, who) = signal {
            // An error means that the probe is gone.
            let _ = self.out.send(Tapped::Terminated(who));
        }
    }

    fn watch(&self, watcher: Watcher) {
        self.add(watcher);
    }
}

impl<A: Actor> Tap<A> {
    /// As the watching actor.
    pub(crate) fn weak(&self) -> Weak<dyn AnyCell> {
        self.me.clone()
    }
}
