//! The place of a cell.

use std::sync::Arc;

use futures_util::future::BoxFuture;

#[cfg(feature = "metrics")]
use crate::actor::meter::TypeMeter;
#[cfg(feature = "testkit")]
use crate::message::caller::CameFrom;
use crate::{
    actor::{
        cell::gate::Gate,
        handle::{AnyCell, CellName},
        runtime::Runtime,
        tasks::throttle::Throttle,
    },
    error::StoredError,
    id::{EntityId, Epoch},
    persistence::{reminders::ReminderChange, sends::WrittenSend, writer::Writer},
};

/// Where a cell lives, as far as that does not depend on the actor's type.
pub(crate) trait Host: Send + Sync + 'static {
    fn runtime(&self) -> &Arc<Runtime>;

    /// The wire name of the actor's type, as registered.
    fn kind(&self) -> &str;

    /// Whether [`CellHost::init`](super::CellHost::init) makes a state.
    fn can_init(&self) -> bool;

    /// What counts the messages of the actor's type.
    #[cfg(feature = "metrics")]
    fn meter(&self) -> Option<&TypeMeter> {
        None
    }

    /// Whether there is a state for an entity that has no activation: it came with its shard, or
    /// was to go with it.
    fn has_state_of(&self, _: &CellName) -> bool {
        false
    }

    /// Whether it matters when the cell was last used.
    fn counts_use(&self) -> bool {
        false
    }

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

    /// What a stored actor without a store has sent, and has changed of its reminders, and whether
    /// it begins anew. An error says why it cannot be so.
    fn unstored(
        &self,
        sends: Vec<WrittenSend>,
        reminders: Vec<ReminderChange>,
        erases: bool,
    ) -> Result<(), String> {
        let _ = (sends, reminders, erases);
        Ok(())
    }

    /// When a reminder was due of a stored actor without a store, in milliseconds since the Unix
    /// epoch.
    fn unstored_due(&self, name: &str) -> Option<u64> {
        let _ = name;
        None
    }

    /// What writes the record that erases an entity. `None`: nothing is stored of it.
    fn eraser<'a>(
        &'a self,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Writer>, StoredError>> {
        let _ = id;
        let name = self.kind().to_owned();
        Box::pin(async { Err(StoredError::NotStored { name }) })
    }

    /// The sender of all messages of this process that are no timer's, in a test.
    #[cfg(feature = "testkit")]
    fn sender(&self) -> CameFrom {
        CameFrom::Here
    }

    /// The epoch under which the actor is here.
    fn epoch(&self) -> Epoch {
        Epoch::ZERO
    }
}
