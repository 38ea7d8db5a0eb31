//! Stand-ins for the entities of a type, in tests.

use std::{any::TypeId, num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;

use super::{Entity, Found, Route};
use crate::{
    actor::{Envelope, Rejected, Take, runtime::Runtime},
    id::{EntityId, ShardId},
};

/// Has `take` receive what is sent through references that are made from now on.
pub(super) fn stand_in<E: Entity>(runtime: &Arc<Runtime>, take: Arc<Take<E>>) {
    let route: Arc<dyn Route<E>> = Arc::new(StandIn {
        name: runtime.route::<E>().name().to_owned(),
        runtime: runtime.clone(),
        take,
    });
    runtime.set_route(TypeId::of::<E>(), Arc::new(route));
}

/// The route to a stand-in. It ends with the routes of its system.
struct StandIn<E: Entity> {
    runtime: Arc<Runtime>,
    name: String,
    take: Arc<Take<E>>,
}

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
