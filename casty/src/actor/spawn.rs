//! How an actor starts on this node.

use std::sync::{Arc, Mutex, Weak};

use futures_util::future::BoxFuture;

use crate::{
    actor::{
        Actor, FirstState,
        cell::{Cell, CellHost, Host, gate::Gate},
        context::Context,
        handle::{AnyCell, CellName},
        hold::{self, Outgoing},
        reference::{ActorRef, Spawned},
        runtime::Runtime,
    },
    error::Failure,
    infra::sync::lock,
};

impl Runtime {
    /// Starts a local actor from its state, or from what makes it.
    pub(crate) fn spawn_actor<A>(
        self: &Arc<Self>,
        state: Option<A>,
        make: Option<Box<dyn FnMut() -> A + Send>>,
        parent: Option<Weak<dyn AnyCell>>,
    ) -> Arc<Cell<A>>
    where
        A: Actor<Address: Spawned<A>>,
    {
        let number = self.next_actor();
        // What an entity starts may act no longer than the entity itself.
        let gate = parent.as_ref().and_then(Weak::upgrade);
        let gate = gate.and_then(|parent| parent.gate().cloned());
        let host = Arc::new(ActorHost {
            runtime: self.clone(),
            make: make.map(Mutex::new),
            parent,
            gate,
        });
        let name = CellName::Actor(number);
        let cell = Cell::new(name, host, A::POLICY.mailbox, state);
        self.register(number, cell.clone());
        if hold::is_on()
            && let Some(outlet) = hold::here()
        {
            outlet.queue(Box::new(Start(cell.clone())));
        } else {
            cell.wake();
        }
        cell
    }
}

/// The start of an actor by a handler of a stored entity.
struct Start<A: Actor>(Arc<Cell<A>>);

impl<A: Actor> Outgoing for Start<A> {
    fn send(self: Box<Self>) -> Option<BoxFuture<'static, ()>> {
        self.0.wake();
        None
    }

    fn lose(self: Box<Self>, _: &Failure) {
        self.0.sever();
    }
}

/// Local actors: gone when they stop.
struct ActorHost<A> {
    runtime: Arc<Runtime>,
    /// Makes a state, for an actor that was not started from a value.
    make: Option<Mutex<Box<dyn FnMut() -> A + Send>>>,
    parent: Option<Weak<dyn AnyCell>>,
    /// The parent's.
    gate: Option<Arc<Gate>>,
}

impl<A: Actor> Host for ActorHost<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn kind(&self) -> &str {
        A::NAME
    }

    fn can_init(&self) -> bool {
        self.make.is_some()
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        self.parent.as_ref()?.upgrade()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }
}

impl<A: Actor<Address: Spawned<A>>> CellHost<A> for ActorHost<A> {
    fn address(&self, cell: &Arc<Cell<A>>) -> A::Address {
        A::Address::of(ActorRef::local(cell.clone()))
    }

    fn init<'a>(&'a self, _: &'a mut Context<A>) -> Option<FirstState<'a, A>> {
        let make = self.make.as_ref()?;
        Some(FirstState::Now(Ok(lock(make)())))
    }

    fn closed(&self, cell: &Cell<A>) {
        if let CellName::Actor(number) = cell.name() {
            self.runtime.forget(*number);
        }
    }
}
