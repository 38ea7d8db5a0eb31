//! An actor whose type is not known: its cell as watchers, parents and connections see it.

use std::{any::Any, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::{
    actor::{
        ask::{chain::Acts, remote_reply::Conveyed},
        cell::gate::Gate,
        context::watch::{WatchId, Watcher},
    },
    error::StoredError,
    event::Terminated,
    id::EntityId,
    infra::printable::Printable,
    message::answer::Credit,
};

/// Which actor a cell is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CellName {
    Entity(EntityId),
    Actor(u64),
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entity(id) => fmt::Display::fmt(&Printable(id.as_str()), f),
            Self::Actor(number) => write!(f, "{number}"),
        }
    }
}

impl CellName {
    /// The id under which the actor is an entity.
    pub(crate) fn entity_id(&self) -> EntityId {
        match self {
            Self::Entity(id) => id.clone(),
            Self::Actor(number) => EntityId::new(number.to_string()),
        }
    }

    /// An actor's number on its node. Entities have none: they are not watched, since they have no
    /// end, only pauses.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Actor(number) => *number,
            Self::Entity(_) => 0,
        }
    }
}

/// A type-erased cell, for messages from connections and for watchers.
pub(crate) trait AnyCell: Acts {
    fn deliver(
        self: Arc<Self>,
        payload: &[u8],
        received: Conveyed,
        credit: &mut dyn FnMut() -> Option<Credit>,
    );

    /// See [`Cell::drop_orphans`](crate::actor::cell::Cell::drop_orphans).
    fn drop_orphans(&self) {}

    fn close(self: Arc<Self>) -> BoxFuture<'static, ()>;

    /// Ends it at once, as [`Cell::sever`](crate::actor::cell::Cell::sever) does.
    fn sever(self: Arc<Self>);

    /// The `Cell<A>` itself, or the `Arc<dyn Destination<A>>` of an actor that has no cell.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;

    /// The actor that spawned it, if it still lives.
    fn parent(&self) -> Option<Arc<dyn AnyCell>>;

    /// Decides whether it may act. `None` where no other node could have it.
    fn gate(&self) -> Option<&Arc<Gate>> {
        None
    }

    fn signal(self: Arc<Self>, signal: Signal);

    /// The outcome of a child's failure or end.
    fn child(self: Arc<Self>, number: u64, event: ChildEvent) {
        self.signal(Signal::Child(number, event));
    }

    /// Lets it start afresh, for no failure of its own.
    fn restart(self: Arc<Self>) {
        self.signal(Signal::Restart);
    }

    fn watch(&self, watcher: Watcher);
}

/// A notice to an actor that is no message. Signals are handled before messages.
///
/// The number of signals in a cell is bounded by the actor's own actions: one for each watch, a few
/// for each child.
pub(crate) enum Signal {
    /// An actor that this one watches has ended.
    Terminated(WatchId, Terminated),
    /// The outcome of the child with this number.
    Child(u64, ChildEvent),
    /// Work, or a timer, of the activation with this number panicked.
    WorkFailed(u32, String),
    /// Work of the activation with this number was dropped, as its lease has lapsed.
    WorkCutShort(u32),
    /// Start afresh, since another child of the same parent failed.
    Restart,
    /// Passivate, unless the actor was used since this time, as
    /// [`Glance`](crate::actor::cell::report::Glance) gives it.
    Passivate(u32),
    /// It should have closed by now: messages that wait are not handled here any more.
    Overdue,
    /// End, and erase what is stored of the entity. Answered by whether there was anything.
    Erase(ErasureReply),
}

/// The way back for the outcome of an erasure.
pub(crate) type ErasureReply = oneshot::Sender<Result<bool, StoredError>>;

/// A child's report to its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChildEvent {
    /// The child failed, and goes on.
    Restarts,
    /// The child failed, and that ends it.
    Fails,
    /// The child failed, it ends, and its failure becomes the parent's.
    Escalates(String),
    /// The child has ended.
    Ended,
}

/// Resolves when all of these have closed.
///
/// They are awaited one after the other. All must close anyway, and each of many futures in a set
/// is polled in vain whenever the task has used up its share of the thread.
pub(crate) async fn all_closed(closing: impl Iterator<Item = BoxFuture<'static, ()>>) {
    let closing: Vec<_> = closing.collect();
    for closed in closing {
        closed.await;
    }
}
