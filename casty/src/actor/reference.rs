//! References: values that say who a message is for.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use super::{
    Actor, Address, Entity, Rejected, Route,
    cell::{Cell, CellName, Refusal},
    envelope::Envelope,
    runtime::{ActorAddress, Runtime},
    watch::{self, WatchId, WatchedKey, Watcher},
};
use crate::{
    error::Failure,
    event::{ActorPath, TerminatedReason},
    id::{EntityId, ShardId},
    message::codec,
};

/// A reference to an entity: its type and its id. Where it lives is found out at each send, so it is never stale.
///
/// Cheap to clone. It may travel in a message, and works on the other side. What a user holds is the typed proxy
/// around it, such as `CounterRef`.
pub struct EntityRef<E: Entity>(Arc<EntityTarget<E>>);

struct EntityTarget<E: Entity> {
    id: EntityId,
    shard: ShardId,
    route: Arc<dyn Route<E>>,
}

impl<E: Entity> EntityRef<E> {
    pub(crate) fn new(route: Arc<dyn Route<E>>, id: EntityId) -> Self {
        let shard = id.shard(route.shards());
        Self(Arc::new(EntityTarget { id, shard, route }))
    }

    /// Which entity of its type.
    pub fn entity_id(&self) -> &EntityId {
        &self.0.id
    }

    /// Its name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        ActorPath {
            kind: self.0.route.name().to_owned(),
            id: self.0.id.to_string(),
        }
    }

    /// The shard the entity belongs to.
    pub fn shard(&self) -> ShardId {
        self.0.shard
    }
}

impl<E: Entity> Address<E> for EntityRef<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        self.0.route.runtime()
    }

    fn try_send(&self, envelope: Envelope<E>) -> Result<(), Rejected<E>> {
        match self.0.id.check() {
            Ok(()) => self.0.route.try_send(&self.0.id, self.0.shard, envelope),
            Err(invalid) => Err(Rejected::new(envelope, Failure::InvalidId(invalid))),
        }
    }

    fn send(&self, envelope: Envelope<E>) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        self.0
            .route
            .clone()
            .send(self.0.id.clone(), self.0.shard, envelope)
    }
}

impl<E: Entity> Clone for EntityRef<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Entity> PartialEq for EntityRef<E> {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl<E: Entity> Eq for EntityRef<E> {}

impl<E: Entity> Hash for EntityRef<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl<E: Entity> fmt::Debug for EntityRef<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.route.name(), self.0.id)
    }
}

#[derive(Serialize, Deserialize)]
struct WireEntityRef {
    kind: String,
    id: EntityId,
}

impl<E: Entity> Serialize for EntityRef<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = WireEntityRef {
            kind: self.0.route.name().to_owned(),
            id: self.0.id.clone(),
        };
        wire.serialize(serializer)
    }
}

impl<'de, E: Entity> Deserialize<'de> for EntityRef<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireEntityRef::deserialize(deserializer)?;
        let runtime = Runtime::current().ok_or_else(|| D::Error::custom(OUTSIDE))?;
        let route = runtime.route::<E>();
        if route.name() == wire.kind {
            Ok(Self::new(route, wire.id))
        } else {
            Err(D::Error::custom(format!(
                "`{}` is not a `{}`",
                wire.kind,
                route.name()
            )))
        }
    }
}

const OUTSIDE: &str = "a reference can only be decoded by a running system";

/// A reference to one particular actor that somebody spawned, on this node or another.
///
/// Cheap to clone. It may travel in a message, and works on the other side as long as the actor lives. What a user
/// holds is the typed proxy around it, such as `GreeterRef`.
pub struct ActorRef<A: Actor>(Place<A>);

enum Place<A: Actor> {
    Here(Arc<Cell<A>>),
    Elsewhere {
        runtime: Arc<Runtime>,
        address: Arc<ActorAddress>,
    },
}

impl<A: Actor> ActorRef<A> {
    pub(crate) fn local(cell: Arc<Cell<A>>) -> Self {
        Self(Place::Here(cell))
    }

    /// Stops the actor: it takes no more messages, handles the ones in its mailbox, runs `#[on_stop]`.
    ///
    /// Resolves when that is done, at once if it has stopped already. An actor on another node cannot be stopped
    /// from here; give it a message for that.
    ///
    /// # Cancel safety
    /// Safe: the actor stops all the same.
    pub async fn stop(&self) {
        if let Place::Here(cell) = &self.0 {
            // An error means that it had stopped before.
            let _ = cell.close().await;
        }
    }

    fn address(&self) -> Option<ActorAddress> {
        match &self.0 {
            Place::Here(cell) => {
                let myself = cell.runtime().myself()?;
                let CellName::Actor(actor) = cell.name() else {
                    return None;
                };
                Some(ActorAddress {
                    member: myself.member.clone(),
                    address: myself.address,
                    actor: *actor,
                    kind: A::NAME.to_owned(),
                })
            }
            Place::Elsewhere { address, .. } => Some((**address).clone()),
        }
    }

    /// Its name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        match &self.0 {
            Place::Here(cell) => cell.path(),
            Place::Elsewhere { address, .. } => ActorPath {
                kind: address.kind.clone(),
                id: address.actor.to_string(),
            },
        }
    }

    pub(crate) fn watched_key(&self) -> WatchedKey {
        match &self.0 {
            Place::Here(cell) => (None, watch::number(cell.name())),
            Place::Elsewhere { address, .. } => (Some(address.member.clone()), address.actor),
        }
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        match &self.0 {
            Place::Here(cell) => cell.watch(watcher),
            Place::Elsewhere { runtime, address } => match runtime.carrier() {
                Some(carrier) => carrier.watch(address, watcher),
                None => {
                    let gone = TerminatedReason::NodeGone(address.member.to_string());
                    watcher.tell(self.path(), gone);
                }
            },
        }
    }

    pub(crate) fn unwatch(&self, watch: WatchId) {
        match &self.0 {
            Place::Here(cell) => cell.unwatch(watch),
            Place::Elsewhere { runtime, address } => {
                if let Some(carrier) = runtime.carrier() {
                    carrier.unwatch(address, watch);
                }
            }
        }
    }

    /// A key that is equal for references to the same actor.
    fn key(&self) -> (Option<&ActorAddress>, u64) {
        match &self.0 {
            Place::Here(cell) => match cell.name() {
                CellName::Actor(actor) => (None, *actor),
                CellName::Entity(_) => (None, 0),
            },
            Place::Elsewhere { address, .. } => (Some(address), address.actor),
        }
    }
}

impl<A: Actor> Address<A> for ActorRef<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        match &self.0 {
            Place::Here(cell) => cell.runtime(),
            Place::Elsewhere { runtime, .. } => runtime,
        }
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        match &self.0 {
            Place::Here(cell) => cell.push(envelope).map_err(Rejected::from),
            Place::Elsewhere { runtime, address } => carry(runtime, address, envelope),
        }
    }

    fn send(&self, mut envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        match &self.0 {
            Place::Here(cell) => {
                let cell = cell.clone();
                Box::pin(async move { cell.push_wait(envelope).await.map_err(Rejected::from) })
            }
            Place::Elsewhere { runtime, address } => {
                let (runtime, address) = (runtime.clone(), address.clone());
                Box::pin(async move {
                    loop {
                        match carry(&runtime, &address, envelope) {
                            Err(rejected) if rejected.failure == Failure::Full => {
                                envelope = rejected.envelope;
                            }
                            result => return result,
                        }
                        if let Some(carrier) = runtime.carrier() {
                            carrier.room(&address).await;
                        }
                    }
                })
            }
        }
    }
}

impl<A: Actor> From<Refusal<A>> for Rejected<A> {
    fn from(refusal: Refusal<A>) -> Self {
        match refusal {
            Refusal::Full(envelope) => Self::new(envelope, Failure::Full),
            Refusal::Closed(envelope) => Self::new(envelope, Failure::Stopped),
            Refusal::Failing(envelope, failure) => Self::new(envelope, failure),
        }
    }
}

fn carry<A: Actor>(
    runtime: &Runtime,
    to: &ActorAddress,
    envelope: Envelope<A>,
) -> Result<(), Rejected<A>> {
    let Envelope { message, reply } = envelope;
    let is_ask = !reply.is_nobody();
    let mut reply = Some(reply);
    let carried = codec::with_encoded(&message, |payload| match runtime.carrier() {
        Some(carrier) => carrier.try_carry(to, payload, is_ask, &mut || {
            reply
                .take()
                .and_then(super::envelope::ReplyTo::into_pending)
        }),
        None => Err(Failure::Stopped),
    });
    let failure = match carried {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(codec::EncodeError(reason)) => Failure::Unencodable { reason },
    };
    let reply = reply.unwrap_or(super::envelope::ReplyTo::Nobody);
    Err(Rejected::new(Envelope { message, reply }, failure))
}

impl<A: Actor> AsRef<Self> for ActorRef<A> {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Place::Here(cell) => Place::Here(cell.clone()),
            Place::Elsewhere { runtime, address } => Place::Elsewhere {
                runtime: runtime.clone(),
                address: address.clone(),
            },
        })
    }
}

impl<A: Actor> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Here(mine), Place::Here(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => self.key() == other.key(),
        }
    }
}

impl<A: Actor> Eq for ActorRef<A> {}

impl<A: Actor> Hash for ActorRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Here(cell) => fmt::Debug::fmt(&cell.path(), f),
            Place::Elsewhere { address, .. } => {
                write!(f, "{}/{}@{}", address.kind, address.actor, address.member)
            }
        }
    }
}

impl<A: Actor> Serialize for ActorRef<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = self.address().ok_or_else(|| {
            S::Error::custom("an actor of a system without a network has no address to send")
        })?;
        address.serialize(serializer)
    }
}

impl<'de, A: Actor> Deserialize<'de> for ActorRef<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let address = ActorAddress::deserialize(deserializer)?;
        let runtime = Runtime::current().ok_or_else(|| D::Error::custom(OUTSIDE))?;
        if address.kind != A::NAME {
            return Err(D::Error::custom(format!(
                "`{}` is not a `{}`",
                address.kind,
                A::NAME
            )));
        }
        let here = runtime
            .myself()
            .is_some_and(|myself| myself.member == address.member);
        let cell = here
            .then(|| runtime.actor(address.actor))
            .flatten()
            .and_then(|cell| cell.into_any().downcast::<Cell<A>>().ok());
        Ok(Self(match cell {
            Some(cell) => Place::Here(cell),
            None => Place::Elsewhere {
                runtime,
                address: Arc::new(address),
            },
        }))
    }
}
