//! The other actors of a handler: entities, children, and the actors that it watches.

use std::sync::{Arc, Weak};

use crate::{
    actor::{
        Actor,
        cell::Cell,
        context::Context,
        handle::AnyCell,
        reference::{self, ActorRef, Hosted, Spawned},
    },
    id::IntoId,
};

impl<A: Actor> Context<A> {
    /// A reference to an entity of any type, wherever it lives.
    pub fn entity<E: Hosted>(&self, id: impl IntoId<E::Key>) -> E::Proxy {
        self.cell.runtime().entity::<E>(id)
    }

    /// Starts an actor on this node, as a child of this one: it stops when this activation ends,
    /// after it has handled what is in its mailbox.
    ///
    /// Started from a value, it cannot be made anew: a failure ends it, unless its type says
    /// `on_failure = resume`. See [`spawn_with`](Self::spawn_with).
    pub fn spawn<B: Actor<Address: Spawned<B>>>(&mut self, actor: B) -> B::Ref {
        let parent = self.weak();
        let cell = self
            .cell
            .runtime()
            .spawn_actor(Some(actor), None, Some(parent));
        self.adopt(cell)
    }

    /// The same, for an actor that survives its failures: `make` makes its first state, and a fresh
    /// one after each.
    pub fn spawn_with<B: Actor<Address: Spawned<B>>>(
        &mut self,
        make: impl FnMut() -> B + Send + 'static,
    ) -> B::Ref {
        let parent = self.weak();
        let make = Some(Box::new(make) as Box<dyn FnMut() -> B + Send>);
        let cell = self.cell.runtime().spawn_actor(None, make, Some(parent));
        self.adopt(cell)
    }

    fn adopt<B: Actor<Address: Spawned<B>>>(&mut self, cell: Arc<Cell<B>>) -> B::Ref {
        let number = cell.name().number();
        self.core.attached().adopt(cell.clone(), number);
        B::proxy(B::Address::of(ActorRef::local(cell)))
    }

    fn weak(&self) -> Weak<dyn AnyCell> {
        let cell: Arc<dyn AnyCell> = self.cell.clone();
        Arc::downgrade(&cell)
    }

    /// Asks to be told when an actor ends, on this node or another: by the function marked
    /// `#[on_terminated]`, once.
    ///
    /// It is told as well if the actor has ended already, and when its node is declared down or
    /// leaves. To watch it twice is to watch it once. What this actor sends it afterwards arrives
    /// after the watch.
    ///
    /// ```
    /// use casty::prelude::*;
    ///
    /// #[derive(Default)]
    /// struct Worker;
    ///
    /// #[actor]
    /// impl Worker {
    ///     #[message]
    ///     fn finish(&mut self, ctx: &mut Context<Self>) {
    ///         ctx.stop();
    ///     }
    /// }
    ///
    /// #[derive(Default)]
    /// struct Boss {
    ///     finished: u32,
    /// }
    ///
    /// #[actor]
    /// impl Boss {
    ///     #[message]
    ///     fn hire(&mut self, ctx: &mut Context<Self>) -> WorkerRef {
    ///         let worker = ctx.spawn(Worker);
    ///         ctx.watch(&worker);
    ///         worker
    ///     }
    ///
    ///     #[on_terminated]
    ///     fn worker_ended(&mut self, who: Terminated) {
    ///         println!("{} ended: {}", who.who, who.reason);
    ///         self.finished += 1;
    ///     }
    /// }
    /// ```
    pub fn watch<B: Actor>(&mut self, who: &impl AsRef<ActorRef<B>>) {
        let who = who.as_ref();
        let key = who.key();
        let weak = self.weak();
        let id = self.cell.runtime().next_watch();
        let begin = || reference::watch(id, who, weak);
        self.core.attached().watch(id, key, begin);
    }

    /// Takes a [`watch`](Self::watch) back.
    pub fn unwatch<B: Actor>(&mut self, who: &impl AsRef<ActorRef<B>>) {
        let key = who.as_ref().key();
        self.core.attached().unwatch(&key);
    }
}
