//! Protocols: messages that entities of several types understand, and references to an entity of
//! any of these types.

use std::{
    any::{Any, TypeId},
    sync::Arc,
};

use serde::{Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    actor::{
        ask::call::Call,
        reference::{
            Entity, EntityRef,
            entity::{ProtocolRegistration, WireRef},
        },
        runtime::Runtime,
    },
    event::ActorPath,
    id::EntityId,
};

/// A letter of a message's name.
#[doc(hidden)]
#[derive(Debug)]
pub struct Letter<const LETTER: char>;

/// An entity that handles a message of this name. Types that name protocols implement it, for each
/// of their messages.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not speak the protocol: it lacks the message `{Name}`",
    label = "lacks a message of the protocol",
    note = "a message of a protocol is a `#[message]` function of the same name, with the same arguments and reply, in \
            the block of the entity"
)]
pub trait Handles<Name>: Entity {
    type Arguments;
    type Answer;
    type Error;

    fn call(
        to: &EntityRef<Self>,
        arguments: Self::Arguments,
    ) -> Call<Self, Self::Answer, Self::Error>;
}

/// The entity behind a protocol's reference.
#[doc(hidden)]
pub trait Speaker: Send + Sync + 'static {
    fn entity_id(&self) -> &EntityId;

    fn path(&self) -> ActorPath;
}

impl<E: Entity> Speaker for EntityRef<E> {
    fn entity_id(&self) -> &EntityId {
        Self::entity_id(self)
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }
}

impl ProtocolRegistration {
    pub const fn of<E: Entity, R: From<E::Ref> + 'static>() -> Self {
        Self {
            protocol: TypeId::of::<R>,
            refer: refer::<E, R>,
        }
    }
}

fn refer<E: Entity, R: From<E::Ref> + 'static>(
    runtime: &Arc<Runtime>,
    wire: &WireRef,
) -> Option<Box<dyn Any>> {
    let route = runtime.route::<E>();
    let is_meant = route.name() == wire.kind;
    is_meant.then(|| {
        let entity = E::proxy(EntityRef::new(route, wire.id.clone()));
        Box::new(R::from(entity)) as Box<dyn Any>
    })
}

/// What the entity types of a system speak. It stands among the [routes](Runtime::routes), by its
/// own type.
#[derive(Default)]
pub(crate) struct Speakers(Vec<ProtocolRegistration>);

impl Speakers {
    pub(crate) fn add(&mut self, speaks: &[ProtocolRegistration]) {
        self.0.extend(speaks);
    }
}

/// Writes a protocol's reference, in the form of an [`EntityRef`].
#[doc(hidden)]
pub fn serialize_speaker<S: Serializer>(
    speaker: &dyn Speaker,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let wire = WireRef {
        kind: speaker.path().kind,
        id: speaker.entity_id().clone(),
    };
    wire.serialize(serializer)
}

/// Reads a protocol's reference of type `R`.
#[doc(hidden)]
pub fn deserialize_speaker<'de, R: 'static, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<R, D::Error> {
    let (wire, runtime) = WireRef::read(deserializer)?;
    let routes = runtime.routes();
    let speakers = routes.get(&TypeId::of::<Speakers>());
    let speakers = speakers.and_then(|speakers| speakers.downcast_ref::<Speakers>());
    let mut speakers = speakers.into_iter().flat_map(|speakers| &speakers.0);
    let reference = speakers.find_map(|it| {
        let is_meant = (it.protocol)() == TypeId::of::<R>();
        is_meant.then(|| (it.refer)(&runtime, &wire)).flatten()
    });
    let reference = reference.and_then(|reference| reference.downcast::<R>().ok());
    reference.map(|reference| *reference).ok_or_else(|| {
        D::Error::custom(format!(
            "this node knows no entity type `{}` that speaks the protocol",
            wire.kind
        ))
    })
}
