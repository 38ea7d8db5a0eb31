//! The host of a shard's entities: what they know of their home.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;

#[cfg(feature = "metrics")]
use crate::actor::meter::TypeMeter;

use super::{
    ShardRegion, erasure,
    local::{StayedState, address},
    recovery,
};
use crate::{
    actor::{
        Entity, FirstState, HookError, Route,
        cell::{Cell, CellHost, Host, gate::Gate},
        context::Context,
        handle::{AnyCell, CellName},
        reference::EntityRef,
        runtime::Runtime,
        tasks::throttle::Throttle,
    },
    error::StoredError,
    id::{EntityId, Epoch, Id, ShardId},
    message::codec::EncodeError,
    persistence::writer::Writer,
};

/// The host of one shard's entities, dropped with the last of them. A single reference count for
/// all cells of a node would make threads contend for it whenever they make cells.
pub(super) struct ShardHost {
    region: Arc<ShardRegion>,
    shard: ShardId,
}

impl ShardHost {
    /// The present host of a shard, or a new one. `None` if the region is gone.
    pub(super) fn of(
        present: &mut Weak<Self>,
        shard: ShardId,
        region: &Weak<ShardRegion>,
    ) -> Option<Arc<Self>> {
        if let Some(host) = present.upgrade() {
            return Some(host);
        }
        let host = Arc::new(Self {
            region: region.upgrade()?,
            shard,
        });
        *present = Arc::downgrade(&host);
        Some(host)
    }
}

impl ShardHost {
    /// How many messages wait in the mailbox of an entity.
    pub(super) fn mailbox(&self) -> usize {
        self.region.entity_type.policy.mailbox
    }
}

impl Host for ShardHost {
    #[cfg(feature = "metrics")]
    fn meter(&self) -> Option<&TypeMeter> {
        Some(&self.region.meter)
    }

    fn has_state_of(&self, name: &CellName) -> bool {
        match name {
            CellName::Entity(id) => self.region.local.has_state_of(self.shard, id),
            CellName::Actor(_) => false,
        }
    }

    fn counts_use(&self) -> bool {
        let policy = &self.region.entity_type.policy;
        policy.passivate_after.is_some() || policy.max_active.is_some()
    }

    fn runtime(&self) -> &Arc<Runtime> {
        &self.region.runtime
    }

    fn eraser<'a>(
        &'a self,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Writer>, StoredError>> {
        let patience = self.region.runtime.patience();
        Box::pin(erasure::writer(
            self.region.local.log(self.shard),
            id,
            patience,
        ))
    }

    fn kind(&self) -> &str {
        &self.region.name
    }

    fn can_init(&self) -> bool {
        true
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        None
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        self.region.runtime.gate()
    }

    fn packing(&self) -> Option<&Throttle> {
        self.region
            .entity_type
            .migrates
            .then_some(&self.region.runtime.packing)
    }

    fn epoch(&self) -> Epoch {
        let epoch = self.region.local.epoch_of_owner(self.shard);
        epoch.unwrap_or(Epoch::ZERO)
    }
}

/// Makes the first state of an entity.
pub(super) fn first_state<E: Entity>(ctx: &mut Context<E>) -> FirstState<'_, E> {
    match E::Id::from_entity_id(ctx.entity_name()) {
        Ok(_) => E::init(ctx),
        Err(reason) => FirstState::Now(Err(HookError(format!(
            "`{}` is no id of `{}`: {reason}",
            ctx.entity_name(),
            E::NAME
        )))),
    }
}

impl<E: Entity> CellHost<E> for ShardHost {
    fn address(&self, cell: &Arc<Cell<E>>) -> EntityRef<E> {
        let runtime = &self.region.runtime;
        let route: Arc<dyn Route<E>> = match runtime.strict_wire() {
            Some(_) => runtime.route(),
            None => self.region.clone(),
        };
        EntityRef::new(route, cell.name().entity_id())
    }

    fn init<'a>(&'a self, ctx: &'a mut Context<E>) -> Option<FirstState<'a, E>> {
        if const { E::STORAGE.is_stored() } {
            let log = self.region.local.log(self.shard);
            return Some(FirstState::Later(recovery::recover(
                log,
                &self.region.runtime,
                ctx,
            )));
        }
        if let Some((state, luggage)) = self.region.stayed(self.shard, ctx.entity_name()) {
            ctx.unpack(&luggage);
            return Some(FirstState::Now(Ok(state)));
        }
        Some(match self.region.frozen(self.shard, ctx.entity_name()) {
            Some(frozen) => {
                ctx.unpack(&frozen.luggage);
                let thaw = self.region.thaw::<E>(self.shard, ctx.entity_name(), frozen);
                FirstState::later(thaw)
            }
            None => first_state(ctx),
        })
    }

    fn freeze(&self, state: &E, out: &mut Vec<u8>) -> Result<&'static str, EncodeError> {
        state.freeze(out)
    }

    fn closed(&self, cell: &Cell<E>) {
        if let CellName::Entity(id) = cell.name() {
            self.region.local.closed(self.shard, id, address(cell));
        }
    }

    fn can_move(&self, state: &E) -> Result<(), String> {
        let runtime = &self.region.runtime;
        if !E::MIGRATES || runtime.strict_wire().is_none() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let name = state.freeze(&mut bytes).map_err(|error| error.0)?;
        let thawed = runtime.enter(|| E::thaw(name, &bytes));
        thawed.map(drop).map_err(|error| error.0)
    }

    fn ended(&self, cell: &Cell<E>, state: E, luggage: Vec<u8>) -> Option<E> {
        let CellName::Entity(id) = cell.name() else {
            return Some(state);
        };
        let luggage = Bytes::from(luggage);
        let encode: &dyn Fn(&mut Vec<u8>) -> _ = &|out| state.freeze(out);
        let Err(reason) = self.region.freeze(self.shard, id, encode, &luggage) else {
            return Some(state);
        };
        let stayed = StayedState {
            reason,
            state: Box::new(state),
            luggage,
        };
        self.region.local.stay(self.shard, id, stayed);
        None
    }
}
