//! What a projection is: a type that handles events.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    actor::{effect::EventSourced, reference::Hosted},
    id::EntityId,
    persistence::Position,
    projection::store::ProjectionStore,
};

/// The transaction of a projection's store.
pub type TransactionOf<P> = <<P as Projection>::Store as ProjectionStore>::Transaction;

/// The events of a projection's type.
pub type EventsOf<P> = <<P as Projection>::Of as EventSourced>::Event;

/// An error of a handler of events.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// A view that is made of the events of an entity type. `#[projection]` implements it:
/// [`projection`](macro@crate::projection::projection).
///
/// Each shard has a clone of the value, and its events come to it in order. What a handler changes
/// in the value is lost if its transaction fails: the shard goes on with another clone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no projection",
    label = "handles no events",
    note = "write `#[projection(of = Account)]` above its `impl` block, and `#[on]` above a function for each event"
)]
pub trait Projection: Clone + Send + Sync + 'static {
    /// The entity type whose events are handled.
    type Of: EventSourced + Hosted;
    /// Where the view and its offsets are.
    type Store: ProjectionStore;
    /// Its name in the store.
    const NAME: &'static str;
    /// Its version. Another version begins with the first event, beside the earlier one.
    const VERSION: u32 = 1;
    /// What happens to an event that cannot be handled.
    const POISONED: Poisoned = Poisoned::Stop;

    /// Where the view and its offsets are.
    fn store(&self) -> &Self::Store;

    /// Handles one event.
    fn handle(
        &mut self,
        event: EventsOf<Self>,
        occurrence: &Occurrence,
        transaction: &mut TransactionOf<Self>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// The entity was erased: nothing of its events is to stay in the view. Called at least once
    /// for each erasure, and before the events of the entity's next life.
    fn erased(
        &mut self,
        occurrence: &Occurrence,
        transaction: &mut TransactionOf<Self>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let _ = (occurrence, transaction);
        std::future::ready(Ok(()))
    }
}

/// What happens to an event that a projection cannot handle, or that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poisoned {
    /// Its shard waits, and tries it again after growing pauses of up to ten seconds. Other shards
    /// go on.
    Stop,
    /// After three tries it is parked, with its error, and the next event follows. The store needs
    /// a place for it: [`ProjectionStore::park`].
    Park,
}

/// When and where an event happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Occurrence {
    /// The entity.
    pub of: EntityId,
    /// The place of its record.
    pub position: Position,
    /// When it was written, by the clock of the node that wrote it.
    pub at: SystemTime,
}

impl Occurrence {
    pub(crate) fn new(of: EntityId, position: Position, millis: u64) -> Self {
        let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis));
        Self {
            of,
            position,
            at: at.unwrap_or(UNIX_EPOCH),
        }
    }
}

impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at {}", self.of, self.position)
    }
}

/// What an `#[on]` function may return.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "an `#[on]` function returns nothing or a `Result<(), E>`, not `{Self}`",
    label = "not the outcome of an event",
    note = "return `Result<(), sqlx::Error>`, or another error that is `std::error::Error + Send + Sync + 'static`"
)]
pub trait EventOutcome {
    fn outcome(self) -> Result<(), HandlerError>;
}

impl EventOutcome for () {
    fn outcome(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<E: Into<HandlerError>> EventOutcome for Result<(), E> {
    fn outcome(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}
