//! Strict wire: what is sent on this node goes through the codec, as what leaves it does.
//!
//! A reference of a strict system stands before the same reference of any other, so others pay
//! nothing for it.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, Entity, Envelope, Message as _, Rejected, Route,
        ask::reply::{ReplyTo, undecodable},
        cell::Cell,
        context::watch::{WatchId, WatchedKey, Watcher},
        reference::{destination::Destination, found::Found},
        runtime::{ActorAddress, Runtime},
    },
    error::{Delay, Failure},
    event::ActorPath,
    id::{EntityId, ShardId},
    message::codec::{DecodeError, EncodeError},
};

/// The envelope as it would arrive on another node. `None` if it would not: then its asker, or a
/// dead letter, has told so.
///
/// # Errors
/// The failure with which a sender hears that a message cannot leave its node.
pub(crate) fn travelled<A: Actor>(
    runtime: &Arc<Runtime>,
    to: &dyn Fn() -> ActorPath,
    envelope: Envelope<A>,
) -> Result<Option<Envelope<A>>, Rejected<A>> {
    let bytes_max = match (runtime.strict_wire(), &envelope.reply) {
        // What an activation sends to itself never travels.
        (None, _) | (_, ReplyTo::Own(_)) => return Ok(Some(envelope)),
        // What was stored has been through the codec. A reminder may be an internal message.
        (_, ReplyTo::OnTerms(on_terms)) if on_terms.1.once.is_some() => {
            return Ok(Some(envelope));
        }
        (Some(bytes_max), _) => bytes_max,
    };
    let mut bytes = Vec::new();
    if let Err(EncodeError(reason)) = envelope.message.encode(&mut bytes) {
        return Err(Rejected::new(envelope, Failure::Unencodable { reason }));
    }
    if bytes.len() > bytes_max {
        let bytes = bytes.len();
        return Err(Rejected::new(
            envelope,
            Failure::TooLarge { bytes, bytes_max },
        ));
    }
    let Envelope { message, reply } = envelope;
    match runtime.enter(|| A::Message::decode(&bytes)) {
        Ok(message) => {
            let reply = reply.strict(bytes_max);
            Ok(Some(Envelope { message, reply }))
        }
        Err(DecodeError(reason)) => {
            undecodable(runtime, to, message.name(), reply, reason);
            Ok(None)
        }
    }
}

/// The route to the entities of a type in a strict system.
pub(crate) struct StrictRoute<E: Entity>(pub(crate) Arc<dyn Route<E>>);

impl<E: Entity> StrictRoute<E> {
    fn travelled(
        &self,
        to: &EntityId,
        envelope: Envelope<E>,
    ) -> Result<Option<Envelope<E>>, Rejected<E>> {
        let path = || ActorPath {
            kind: self.0.name().to_owned(),
            id: to.to_string(),
        };
        travelled(self.0.runtime(), &path, envelope)
    }
}

impl<E: Entity> Route<E> for StrictRoute<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        self.0.runtime()
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn explain(
        &self,
        to: &EntityId,
        within: Option<Duration>,
    ) -> Option<BoxFuture<'static, Option<Delay>>> {
        self.0.explain(to, within)
    }

    fn shards(&self) -> NonZeroU32 {
        self.0.shards()
    }

    fn try_send(
        &self,
        to: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
        _: &Found<E>,
    ) -> Result<(), Rejected<E>> {
        match self.travelled(to, envelope)? {
            // A cell that the reference remembers would be reached without the codec.
            Some(envelope) => self.0.try_send(to, shard, envelope, &Found::new()),
            None => Ok(()),
        }
    }

    fn send(
        self: Arc<Self>,
        to: EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        match self.travelled(&to, envelope) {
            Ok(Some(envelope)) => self.0.clone().send(to, shard, envelope),
            Ok(None) => Box::pin(std::future::ready(Ok(()))),
            Err(rejected) => Box::pin(std::future::ready(Err(rejected))),
        }
    }
}

/// An actor of this node in a strict system.
pub(super) struct StrictCell<A: Actor>(pub(super) Arc<Cell<A>>);

impl<A: Actor> StrictCell<A> {
    fn travelled(&self, envelope: Envelope<A>) -> Result<Option<Envelope<A>>, Rejected<A>> {
        travelled(self.0.runtime(), &|| self.0.path(), envelope)
    }
}

impl<A: Actor> Destination<A> for StrictCell<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        self.0.runtime()
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        match self.travelled(envelope)? {
            Some(envelope) => self.0.push(envelope).map_err(Rejected::from),
            None => Ok(()),
        }
    }

    fn send(self: Arc<Self>, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        Box::pin(async move {
            match self.travelled(envelope)? {
                Some(envelope) => self.0.push_wait(envelope).await.map_err(Rejected::from),
                None => Ok(()),
            }
        })
    }

    fn stop(&self) -> BoxFuture<'static, ()> {
        let cell = self.0.clone();
        Box::pin(async move { cell.stop().await })
    }

    fn path(&self) -> ActorPath {
        self.0.path()
    }

    fn key(&self) -> WatchedKey {
        (None, self.0.name().number())
    }

    fn watch(&self, watcher: Watcher) {
        self.0.watch(watcher);
    }

    fn unwatch(&self, watch: WatchId) {
        self.0.unwatch(watch);
    }

    fn address(&self) -> Option<ActorAddress> {
        let number = self.0.name().number();
        self.0.runtime().address_of(number, A::NAME)
    }
}
