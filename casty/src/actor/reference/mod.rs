//! References: values that name the target of a message.

pub(crate) mod remote;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU8, Ordering},
    },
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::{
    actor::{
        Actor, Address, Entity, Envelope, Rejected, Route,
        cell::{Cell, Refusal},
        context::watch::{Watch, WatchId, WatchedKey, Watcher},
        handle::{AnyCell, Signal},
        reference::remote::Remote,
        runtime::{ActorAddress, Runtime},
    },
    error::Failure,
    event::{ActorPath, Terminated},
    id::{EntityId, ShardId},
};

/// A reference to an entity: its type and its id. The entity's home is looked up at each send, so a
/// reference is never stale.
///
/// Cheap to clone. It may travel in a message, and works on the other side. Users hold the typed
/// proxy around it, such as `CounterRef`.
pub struct EntityRef<E: Entity>(Arc<dyn Target<E>>);

/// Keeps what a target is made of out of what the compiler says of a state that is not `Send`.
trait Target<E: Entity>: Send + Sync {
    fn known(&self) -> &EntityTarget<E>;
}

struct EntityTarget<E: Entity> {
    id: EntityId,
    shard: ShardId,
    route: Arc<dyn Route<E>>,
    found: Found<E>,
}

impl<E: Entity> Target<E> for EntityTarget<E> {
    fn known(&self) -> &Self {
        self
    }
}

/// The cells in which the entity was found on this node. A closed cell takes nothing, and then the
/// entity is looked up again. A cell that is open is the only one of its entity, since the cells of
/// a shard close before the shard moves.
pub(crate) struct Found<E: Entity> {
    sightings: AtomicSightings,
    /// Most references know one cell only: to look at it costs no more than to read a pointer.
    first: OnceLock<Arc<Cell<E>>>,
    /// The one after that which closed last. Made only then: to drop an `ArcSwap` is to look at
    /// what every thread reads.
    later: OnceLock<ArcSwap<Cell<E>>>,
}

/// What a reference knows of the cells in which its entity was found on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Sightings {
    /// A reference that never finds a cell here does not pay for the lookup.
    None,
    /// Found once, and not remembered: many references are used once, and to remember a cell costs
    /// as much as to find it.
    Once,
    /// The first cell is remembered.
    First,
    /// A later cell as well.
    Later,
}

/// [`Sightings`] that threads share.
struct AtomicSightings(AtomicU8);

impl AtomicSightings {
    const fn new() -> Self {
        Self(AtomicU8::new(Sightings::None as u8))
    }

    #[inline]
    fn load(&self) -> Sightings {
        match self.0.load(Ordering::Relaxed) {
            0 => Sightings::None,
            1 => Sightings::Once,
            2 => Sightings::First,
            _ => Sightings::Later,
        }
    }

    fn store(&self, sightings: Sightings) {
        self.0.store(sightings as u8, Ordering::Relaxed);
    }
}

impl<E: Entity> Found<E> {
    pub(crate) fn new() -> Self {
        Self {
            sightings: AtomicSightings::new(),
            first: OnceLock::new(),
            later: OnceLock::new(),
        }
    }

    pub(crate) fn remember(&self, cell: &Arc<Cell<E>>) {
        let sightings = match self.sightings.load() {
            Sightings::None => Sightings::Once,
            Sightings::Once if self.first.set(cell.clone()).is_ok() => Sightings::First,
            _ => {
                let later = || ArcSwap::new(cell.clone());
                self.later.get_or_init(later).store(cell.clone());
                Sightings::Later
            }
        };
        self.sightings.store(sightings);
    }

    /// Queues the envelope there. `None` if it is not there any more, and gives it back.
    fn push(&self, mut envelope: Envelope<E>) -> Result<(), (Envelope<E>, Option<Failure>)> {
        if let Some(cell) = self.first.get() {
            match cell.push(envelope) {
                Err(Refusal::Closed(back)) => envelope = back,
                pushed => return pushed.map_err(why),
            }
        }
        if self.sightings.load() != Sightings::Later {
            return Err((envelope, None));
        }
        match self.later.get() {
            Some(cell) => cell.load().push(envelope).map_err(why),
            None => Err((envelope, None)),
        }
    }
}

fn why<E: Entity>(refusal: Refusal<E>) -> (Envelope<E>, Option<Failure>) {
    match refusal {
        Refusal::Closed(envelope) => (envelope, None),
        Refusal::Full(envelope) => (envelope, Some(Failure::Full)),
        Refusal::Failing(envelope, failure) => (envelope, Some(failure)),
    }
}

impl<E: Entity> EntityRef<E> {
    pub(crate) fn new(route: Arc<dyn Route<E>>, id: EntityId) -> Self {
        let shard = id.shard(route.shards());
        Self(Arc::new(EntityTarget {
            id,
            shard,
            route,
            found: Found::new(),
        }))
    }

    fn target(&self) -> &EntityTarget<E> {
        self.0.known()
    }

    /// Which entity of its type.
    pub fn entity_id(&self) -> &EntityId {
        &self.target().id
    }

    /// Its name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        ActorPath {
            kind: self.target().route.name().to_owned(),
            id: self.target().id.to_string(),
        }
    }

    /// The shard the entity belongs to.
    pub fn shard(&self) -> ShardId {
        self.target().shard
    }
}

impl<E: Entity> Address<E> for EntityRef<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        self.target().route.runtime()
    }

    fn try_send(&self, envelope: Envelope<E>) -> Result<(), Rejected<E>> {
        let target = self.target();
        let envelope = match target.found.push(envelope) {
            Ok(()) => return Ok(()),
            Err((envelope, Some(failure))) => return Err(Rejected::new(envelope, failure)),
            Err((envelope, None)) => envelope,
        };
        match target.id.check() {
            Ok(()) => {
                let (id, shard) = (&target.id, target.shard);
                target.route.try_send(id, shard, envelope, &target.found)
            }
            Err(invalid) => Err(Rejected::new(envelope, Failure::InvalidId(invalid))),
        }
    }

    fn send(&self, envelope: Envelope<E>) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        let target = self.target();
        let (id, shard) = (target.id.clone(), target.shard);
        target.route.clone().send(id, shard, envelope)
    }
}

impl<E: Entity> Clone for EntityRef<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E: Entity> PartialEq for EntityRef<E> {
    fn eq(&self, other: &Self) -> bool {
        self.target().id == other.target().id
    }
}

impl<E: Entity> Eq for EntityRef<E> {}

impl<E: Entity> Hash for EntityRef<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.target().id.hash(state);
    }
}

impl<E: Entity> fmt::Debug for EntityRef<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.target().route.name(), self.target().id)
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
            kind: self.target().route.name().to_owned(),
            id: self.target().id.clone(),
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

/// A reference to one particular actor, on this node or another.
///
/// Cheap to clone. It may travel in a message, and works on the other side as long as the actor
/// lives. Users hold the typed proxy around it, such as `GreeterRef`.
pub struct ActorRef<A: Actor>(Place<A>);

enum Place<A: Actor> {
    Here(Arc<Cell<A>>),
    Elsewhere(Arc<dyn Destination<A>>),
}

/// Where messages go that are for no cell of this node.
pub(crate) trait Destination<A: Actor>: Send + Sync {
    fn runtime(&self) -> &Arc<Runtime>;
    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>>;
    fn send(self: Arc<Self>, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>>;
    fn path(&self) -> ActorPath;
    fn key(&self) -> WatchedKey;
    fn watch(&self, watcher: Watcher);
    fn unwatch(&self, watch: WatchId);
    /// The identity by which other nodes know the actor; `None` without a network.
    fn address(&self) -> Option<ActorAddress>;
}

impl<A: Actor> ActorRef<A> {
    pub(crate) fn local(cell: Arc<Cell<A>>) -> Self {
        Self(Place::Here(cell))
    }

    pub(crate) fn elsewhere(destination: Arc<dyn Destination<A>>) -> Self {
        Self(Place::Elsewhere(destination))
    }

    /// Stops the actor: it takes no more messages, handles the ones in its mailbox, runs
    /// `#[on_stop]`.
    ///
    /// Resolves when that is done, at once if it has stopped already. An actor on another node
    /// cannot be stopped from here; give it a message for that.
    ///
    /// # Cancel safety
    /// Safe: the actor stops all the same.
    pub async fn stop(&self) {
        if let Place::Here(cell) = &self.0 {
            // An error means that it had stopped before.
            let _ = cell.close().await;
        }
    }

    /// Its name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        match &self.0 {
            Place::Here(cell) => cell.path(),
            Place::Elsewhere(destination) => destination.path(),
        }
    }

    /// Equal for references to the same actor.
    pub(crate) fn key(&self) -> WatchedKey {
        match &self.0 {
            Place::Here(cell) => (None, cell.name().number()),
            Place::Elsewhere(destination) => destination.key(),
        }
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        match &self.0 {
            Place::Here(cell) => cell.watch(watcher),
            Place::Elsewhere(destination) => destination.watch(watcher),
        }
    }

    pub(crate) fn unwatch(&self, watch: WatchId) {
        match &self.0 {
            Place::Here(cell) => cell.unwatch(watch),
            Place::Elsewhere(destination) => destination.unwatch(watch),
        }
    }

    fn address(&self) -> Option<ActorAddress> {
        match &self.0 {
            Place::Here(cell) => {
                let number = cell.name().number();
                cell.runtime().address_of(number, A::NAME)
            }
            Place::Elsewhere(destination) => destination.address(),
        }
    }
}

/// Watches `who` on behalf of `watcher`.
pub(crate) fn watch<B: Actor>(id: WatchId, who: &ActorRef<B>, watcher: Weak<dyn AnyCell>) -> Watch {
    let key = who.key();
    let member = key.0.clone();
    let tell = Watcher::new(id, move |who, reason| {
        if let Some(watcher) = watcher.upgrade() {
            let who = Terminated {
                who,
                reason,
                number: key.1,
                member,
            };
            watcher.signal(Signal::Terminated(id, who));
        }
    });
    who.watch(tell);
    let target = who.clone();
    Watch::new(id, who.key(), move || target.unwatch(id))
}

impl Terminated {
    /// Whether this is the end of the actor behind `other`.
    pub fn is<B: Actor>(&self, other: &impl AsRef<ActorRef<B>>) -> bool {
        let (member, number) = other.as_ref().key();
        self.number == number && self.member == member
    }
}

impl<A: Actor> Address<A> for ActorRef<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        match &self.0 {
            Place::Here(cell) => cell.runtime(),
            Place::Elsewhere(destination) => destination.runtime(),
        }
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        match &self.0 {
            Place::Here(cell) => cell.push(envelope).map_err(Rejected::from),
            Place::Elsewhere(destination) => destination.try_send(envelope),
        }
    }

    fn send(&self, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        match &self.0 {
            Place::Here(cell) => {
                let cell = cell.clone();
                Box::pin(async move { cell.push_wait(envelope).await.map_err(Rejected::from) })
            }
            Place::Elsewhere(destination) => destination.clone().send(envelope),
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

impl<A: Actor> AsRef<Self> for ActorRef<A> {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Place::Here(cell) => Place::Here(cell.clone()),
            Place::Elsewhere(destination) => Place::Elsewhere(destination.clone()),
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
        fmt::Debug::fmt(&self.path(), f)?;
        match self.key() {
            (Some(member), _) => write!(f, "@{member}"),
            (None, _) => Ok(()),
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
        let present = here.then(|| runtime.actor(address.actor)).flatten();
        if let Some(any) = present.map(AnyCell::into_any) {
            #[cfg(feature = "testkit")]
            let any = match any.downcast::<super::tap::Tap<A>>() {
                Ok(tap) => return Ok(Self::elsewhere(tap)),
                Err(any) => any,
            };
            if let Ok(cell) = any.downcast::<Cell<A>>() {
                return Ok(Self::local(cell));
            }
        }
        Ok(Self::elsewhere(Remote::new(runtime, address)))
    }
}
