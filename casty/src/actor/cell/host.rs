//! The place of a cell.

use std::sync::Arc;

use crate::{
    actor::{cell::gate::Gate, handle::AnyCell, runtime::Runtime, tasks::throttle::Throttle},
    id::Epoch,
};

/// Where a cell lives, as far as that does not depend on the actor's type.
pub(crate) trait Host: Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// The wire name of the actor's type, as registered.
    fn kind(&self) -> &str;

    /// Whether [`CellHost::init`](super::CellHost::init) makes a state.
    fn can_init(&self) -> bool;

    /// The actor that spawned this one, if it still lives.
    fn parent(&self) -> Option<Arc<dyn AnyCell>>;

    /// Decides whether the actor may act. `None` where no other node could have it.
    fn gate(&self) -> Option<&Arc<Gate>> {
        None
    }

    /// Limits how many states are packed at a time for another node. `None` where a state does not
    /// move, or is not worth a turn.
    fn packing(&self) -> Option<&Throttle> {
        None
    }

    /// The epoch under which the actor is here.
    fn epoch(&self) -> Epoch {
        Epoch::ZERO
    }
}
