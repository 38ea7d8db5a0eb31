//! Actors on other nodes.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Envelope, Message as _, Rejected,
        context::watch::{WatchId, WatchedKey, Watcher},
        reference::destination::Destination,
        runtime::{ActorAddress, Runtime},
    },
    error::Failure,
    event::{ActorPath, TerminatedReason},
    message::codec,
};

/// An actor by its address.
pub(crate) struct Remote {
    runtime: Arc<Runtime>,
    address: Arc<ActorAddress>,
}

impl Remote {
    pub(crate) fn new(runtime: Arc<Runtime>, address: ActorAddress) -> Arc<Self> {
        let address = Arc::new(address);
        Arc::new(Self { runtime, address })
    }

    fn path(&self) -> ActorPath {
        ActorPath {
            kind: self.address.kind.clone(),
            id: self.address.actor.to_string(),
        }
    }

    fn carry<A: Actor>(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        let Envelope { message, mut reply } = envelope;
        let chain = reply.encode_chain(&self.runtime);
        let carried = codec::with_scratch(
            |out| message.encode(out),
            |payload| match self.runtime.carrier() {
                Some(carrier) => carrier.try_carry(&self.address, &chain, payload, &mut reply),
                None => Err(Failure::Stopped),
            },
        );
        let failure = match carried {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(codec::EncodeError(reason)) => Failure::Unencodable { reason },
        };
        Err(Rejected::new(Envelope { message, reply }, failure))
    }
}

impl<A: Actor> Destination<A> for Remote {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        self.carry(envelope)
    }

    fn send(
        self: Arc<Self>,
        mut envelope: Envelope<A>,
    ) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        Box::pin(async move {
            loop {
                match self.carry(envelope) {
                    Err(rejected) if rejected.failure == Failure::Full => {
                        envelope = rejected.envelope;
                    }
                    result => return result,
                }
                if let Some(carrier) = self.runtime.carrier() {
                    carrier.room(&self.address).await;
                }
            }
        })
    }

    fn path(&self) -> ActorPath {
        self.path()
    }

    fn key(&self) -> WatchedKey {
        (Some(self.address.member.clone()), self.address.actor)
    }

    fn watch(&self, watcher: Watcher) {
        if let Some(carrier) = self.runtime.carrier() {
            carrier.watch(&self.address, watcher);
        } else {
            // Without a network, all actors are, or were, of this node.
            let member = &self.address.member;
            let is_here = self
                .runtime
                .myself()
                .is_some_and(|myself| myself.member == *member);
            let reason = if is_here {
                TerminatedReason::Stopped
            } else {
                TerminatedReason::NodeGone(member.to_string())
            };
            watcher.tell(self.path(), reason);
        }
    }

    fn unwatch(&self, watch: WatchId) {
        if let Some(carrier) = self.runtime.carrier() {
            carrier.unwatch(&self.address, watch);
        }
    }

    fn address(&self) -> Option<ActorAddress> {
        Some((*self.address).clone())
    }
}
