//! What a handler may use besides its state and its message.

use std::{fmt, sync::Arc};

use super::{
    Actor, Entity,
    cell::{Cell, CellName},
    reference::ActorRef,
};
use crate::id::{EntityId, NodeId};

/// A handler's surroundings: who it is, how to reach others, how to stop.
///
/// A handler asks for it by a parameter `ctx: &mut Context<Self>`, at any position.
pub struct Context<A: Actor> {
    cell: Arc<Cell<A>>,
    stop: bool,
    transition: bool,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(cell: Arc<Cell<A>>) -> Self {
        Self {
            cell,
            stop: false,
            transition: false,
        }
    }

    /// A reference to this very actor, to be sent to others.
    pub fn myself(&self) -> A::Ref {
        A::proxy(self.cell.address())
    }

    /// The name of the node this runs on.
    pub fn node_id(&self) -> &NodeId {
        &self.cell.runtime().node
    }

    /// A reference to an entity of any type, wherever it lives.
    pub fn entity<E: Entity>(&self, id: impl AsRef<str>) -> E::Ref {
        self.cell.runtime().entity::<E>(id)
    }

    /// Starts an actor on this node. It lives until it stops or the system does.
    pub fn spawn<B: Actor<Address = ActorRef<B>>>(&self, actor: B) -> B::Ref {
        B::proxy(ActorRef::local(self.cell.runtime().spawn_actor(actor)))
    }

    /// Ends this activation when the handler returns, after `#[on_stop]`.
    ///
    /// An actor is gone then; messages still in its mailbox fail as `Stopped`. An entity starts afresh with its
    /// next message, and messages in its mailbox wait for that.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    pub(crate) fn take_stop(&mut self) -> bool {
        std::mem::take(&mut self.stop)
    }
}

impl<E: Entity> Context<E> {
    /// This entity's id.
    pub fn entity_id(&self) -> &EntityId {
        match self.cell.name() {
            CellName::Entity(id) => id,
            CellName::Actor(_) => unreachable!("`Entity` types are addressed by `EntityRef` only"),
        }
    }
}

impl<A: Actor> Context<A> {
    pub(crate) fn transition(&mut self) {
        self.transition = true;
    }

    pub(crate) fn take_transition(&mut self) -> bool {
        std::mem::take(&mut self.transition)
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("actor", &self.cell.path())
            .finish_non_exhaustive()
    }
}
