//! Entities: the actors that are addressed by type and id.

use std::{
    any::{Any, TypeId},
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    actor::{
        Actor, Address, Envelope, Init, Rejected,
        reference::{OUTSIDE, found::Found},
        runtime::Runtime,
    },
    error::{Delay, Failure},
    event::ActorPath,
    id::{EntityId, Id, IntoId, ShardId},
    message::codec::{DecodeError, EncodeError},
};

/// Why a state can be neither written nor read.
const NO_WIRE_FORM: &str = "its type says neither `migrate` nor `record`, nor that it is stored";

/// An actor that is addressed by type and id, and lives on the node that owns its shard.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an entity",
    label = "cannot be addressed by an id",
    note = "write `#[entity]` above an `impl {Self}` block with `#[message]` functions"
)]
pub trait Entity: Init<Address = EntityRef<Self>> {
    /// The type of its ids: [`EntityId`], any text, unless `#[entity(id = ..)]` says otherwise.
    type Id: Id;

    /// Into how many shards the entities of this type are divided. The same on every node.
    const SHARDS: NonZeroU32;

    /// Whether the state moves with its shard.
    const MIGRATES: bool = false;

    /// The role of the nodes that host this type. `None`: every member that knows the type does.
    const ROLE: Option<&'static str> = None;

    /// The protocols that it speaks.
    #[doc(hidden)]
    const SPEAKS: &'static [ProtocolRegistration] = &[];

    /// Appends the state, to leave this node; its name, if there are several.
    #[doc(hidden)]
    fn freeze(&self, out: &mut Vec<u8>) -> Result<&'static str, EncodeError> {
        let _ = out;
        Err(EncodeError(NO_WIRE_FORM.to_owned()))
    }

    /// The state that left another node.
    #[doc(hidden)]
    fn thaw(name: &str, state: &[u8]) -> Result<Self, DecodeError> {
        let _ = (name, state);
        Err(DecodeError(NO_WIRE_FORM.to_owned()))
    }

    /// Applies an event that was stored, of any version that this code knows.
    #[doc(hidden)]
    fn replay(&mut self, name: &str, version: u32, event: &[u8]) -> Result<(), DecodeError> {
        let _ = (name, version, event);
        Err(DecodeError("it has no events".to_owned()))
    }
}

/// An entity type that nodes whose binaries link it host.
///
/// Each entity type is one, but for a generic one: of that, each instance that
/// `casty::host!` names.
#[diagnostic::on_unimplemented(
    message = "no node hosts `{Self}`",
    label = "no entity, or an instance of a generic one that no `host!` names",
    note = "to make an entity of it, write `#[entity]` above an `impl {Self}` block with `#[message]` functions",
    note = "name an instance of a generic entity once, beside the types that it is made of: `casty::host!({Self} as \"a name on the wire\");`",
    note = "code that is generic over entities asks for this trait: `E: casty::shards::Hosted`"
)]
pub trait Hosted:
    Entity<Id = <Self as Hosted>::Key> + Actor<Ref = <Self as Hosted>::Proxy>
{
    /// The type of its ids, which is [`Entity::Id`]. Generic code that knows it says so here:
    /// `E: Hosted<Key = EntityId>`. The compiler does not look for this type in a type that is no
    /// entity, so that such a type is one error.
    type Key;
    /// [`Actor::Ref`], likewise.
    #[doc(hidden)]
    type Proxy: Clone + Send + Sync + 'static;
}

/// An entity type whose state is stored, and survives its node: `#[entity(event_sourced)]` or
/// `#[entity(durable)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not stored",
    label = "its state ends with its node, and it has neither keys nor positions",
    note = "write `#[entity(event_sourced)]` or `#[entity(durable)]`, and give the node a store"
)]
pub trait Stored: Entity {}

/// Says that an instance of a generic entity, `E`, is hosted. It is implemented for the first type
/// parameter of `E`, so that the crate of either may do it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "no node hosts `{E}`",
    label = "no `host!` names `{E}`",
    note = "name it once, beside the types that it is made of: `casty::host!({E} as \"a name on the wire\");`"
)]
pub trait Hosts<E> {}

/// How envelopes reach the entities of one type, wherever they live.
#[doc(hidden)]
pub(crate) trait Route<E: Entity>: Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// The name this type is registered under.
    fn name(&self) -> &str;

    fn shards(&self) -> NonZeroU32;

    /// Queues now, or gives it back. Where the entity is here, `found` remembers its cell.
    fn try_send(
        &self,
        to: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
        found: &Found<E>,
    ) -> Result<(), Rejected<E>>;

    /// See [`Address::explain`].
    fn explain(
        &self,
        to: &EntityId,
        within: Option<Duration>,
    ) -> Option<BoxFuture<'static, Option<Delay>>> {
        let _ = (to, within);
        None
    }

    /// Waits for room, then queues.
    fn send(
        self: Arc<Self>,
        to: EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>>;
}

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
    const STARTS_AGAIN: bool = true;

    fn runtime(&self) -> &Arc<Runtime> {
        self.target().route.runtime()
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn explain(&self, within: Option<Duration>) -> Option<BoxFuture<'static, Option<Delay>>> {
        let target = self.target();
        target.route.explain(&target.id, within)
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

    #[cfg(feature = "testkit")]
    fn of_machine(only: crate::actor::Only<E>) -> Self {
        let cell = only.0;
        let id = cell.name().entity_id();
        let target = Arc::downgrade(&cell);
        let take = move |_, envelope| {
            let Some(cell) = target.upgrade() else {
                return Err(Rejected::new(envelope, Failure::Stopped));
            };
            cell.push(envelope).map_err(Rejected::from)
        };
        let route = Arc::new(StandIn {
            name: E::NAME.to_owned(),
            runtime: cell.runtime().clone(),
            take: Arc::new(take),
        });
        Self::new(route, id)
    }

    #[cfg(feature = "testkit")]
    fn stand_in(runtime: &Arc<Runtime>, take: Arc<crate::actor::Take<E>>) {
        let route: Arc<dyn Route<E>> = Arc::new(StandIn {
            name: runtime.route::<E>().name().to_owned(),
            runtime: runtime.clone(),
            take,
        });
        // For references that are made from now on.
        runtime.set_route(TypeId::of::<E>(), Arc::new(route));
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

/// A protocol that an entity type speaks.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ProtocolRegistration {
    /// The type of the protocol's references.
    pub(super) protocol: fn() -> TypeId,
    pub(super) refer: Refer,
}

/// Gives a reference of the protocol, boxed, if the type is that of the name.
type Refer = fn(&Arc<Runtime>, &WireRef) -> Option<Box<dyn Any>>;

/// How a reference travels: its entity's type, by the wire name, and id.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireRef {
    pub(super) kind: String,
    pub(super) id: EntityId,
}

impl WireRef {
    /// The reference on its way, and the system that reads it.
    pub(super) fn read<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<(Self, Arc<Runtime>), D::Error> {
        let wire = Self::deserialize(deserializer)?;
        let runtime = Runtime::current().ok_or_else(|| D::Error::custom(OUTSIDE))?;
        Ok((wire, runtime))
    }
}

impl<E: Entity> Serialize for EntityRef<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wire = WireRef {
            kind: self.target().route.name().to_owned(),
            id: self.target().id.clone(),
        };
        wire.serialize(serializer)
    }
}

impl<'de, E: Entity> Deserialize<'de> for EntityRef<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (wire, runtime) = WireRef::read(deserializer)?;
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

impl Runtime {
    pub(crate) fn route<E: Entity>(self: &Arc<Self>) -> Arc<dyn Route<E>> {
        self.routes()
            .get(&TypeId::of::<E>())
            .and_then(|route| route.downcast_ref::<Arc<dyn Route<E>>>())
            .cloned()
            .unwrap_or_else(|| {
                Arc::new(NoRoute {
                    runtime: self.clone(),
                })
            })
    }

    pub(crate) fn entity<E: Entity>(self: &Arc<Self>, id: impl IntoId<E::Id>) -> E::Ref {
        E::proxy(EntityRef::new(self.route::<E>(), id.into_entity_id()))
    }
}

/// The route of an entity type that this system does not know.
struct NoRoute {
    runtime: Arc<Runtime>,
}

impl<E: Entity> Route<E> for NoRoute {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn name(&self) -> &str {
        E::NAME
    }

    fn shards(&self) -> NonZeroU32 {
        E::SHARDS
    }

    fn try_send(
        &self,
        _: &EntityId,
        _: ShardId,
        envelope: Envelope<E>,
        _: &Found<E>,
    ) -> Result<(), Rejected<E>> {
        let failure = Failure::UnknownEntity {
            name: E::NAME.to_owned(),
            // It is not known here at all: no role is what is missing.
            role: None,
        };
        Err(Rejected::new(envelope, failure))
    }

    fn send(
        self: Arc<Self>,
        to: EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        let result = self.try_send(&to, shard, envelope, &Found::new());
        Box::pin(std::future::ready(result))
    }
}

/// The route to a stand-in. It ends with the routes of its system.
#[cfg(feature = "testkit")]
struct StandIn<E: Entity> {
    runtime: Arc<Runtime>,
    name: String,
    take: Arc<crate::actor::Take<E>>,
}

#[cfg(feature = "testkit")]
impl<E: Entity> Route<E> for StandIn<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn shards(&self) -> NonZeroU32 {
        E::SHARDS
    }

    fn try_send(
        &self,
        to: &EntityId,
        _: ShardId,
        envelope: Envelope<E>,
        _: &Found<E>,
    ) -> Result<(), Rejected<E>> {
        (self.take)(to.clone(), envelope)
    }

    fn send(
        self: Arc<Self>,
        to: EntityId,
        _: ShardId,
        envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        Box::pin(std::future::ready((self.take)(to, envelope)))
    }
}
