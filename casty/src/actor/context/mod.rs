//! The context of a handler: everything it may use besides its state and its message.

pub(crate) mod activation_scope;
mod actors;
pub(crate) mod core;
mod entity;
pub(crate) mod luggage;
pub(crate) mod schedule;
pub(crate) mod watch;
pub(crate) mod written;

use std::{any::Any, fmt, sync::Arc};

use crate::{
    actor::{
        Actor,
        cell::Cell,
        context::{
            core::{ContextCore, Transition},
            written::Written,
        },
        hold::{self, Once},
    },
    event::{ActorPath, Emitted, Event},
    id::NodeId,
    message::caller::Caller,
};

/// A handler's context: its own identity, other actors, timers, work, and stopping.
///
/// A handler asks for it by a parameter `ctx: &mut Context<Self>`, at any position.
///
/// Everything that a handler starts through it belongs to this activation of the actor: children,
/// timers, work and watches end when the actor stops, is passivated, or starts afresh after a
/// failure.
pub struct Context<A: Actor> {
    cell: Arc<Cell<A>>,
    core: ContextCore,
    /// The messages that the handler has raised. Boxed: most handlers raise none.
    #[expect(clippy::box_collection, reason = "two words less in each run")]
    raised: Option<Box<Vec<A::Message>>>,
    /// What the handler has changed, if the actor is stored. Made by its first change.
    written: Option<Box<Written<A>>>,
}

impl<A: Actor> Context<A> {
    pub(crate) fn new(cell: Arc<Cell<A>>) -> Self {
        Self {
            cell,
            core: ContextCore::default(),
            raised: None,
            written: None,
        }
    }

    /// A reference to this very actor, to be sent to others.
    pub fn myself(&self) -> A::Ref {
        A::proxy(self.cell.address())
    }

    /// This actor's name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        self.cell.path()
    }

    /// The name of the node this runs on.
    pub fn node_id(&self) -> &NodeId {
        &self.cell.runtime().node
    }

    /// The process that sent the message which is handled, as the network has verified it. A client
    /// cannot make itself another: the name is that of its certificate, and the node that has its
    /// connection reads it there.
    ///
    /// It is the process that sent *this* message. Where an entity asks another because a client
    /// asked it, the second one sees the node of the first: hand on what the second has to know as
    /// an argument. Outside of messages, in `#[init]` and hooks, it is [`Caller::Local`]; so it is
    /// for timers and for raised messages. What a stored entity was sent
    /// by another comes from the node that has the sender's shard.
    ///
    /// ```standalone_crate
    /// use casty::{access::Caller, prelude::*};
    ///
    /// #[derive(Default)]
    /// struct Door { opened_by: Vec<String> }
    ///
    /// #[entity]
    /// impl Door {
    ///     #[message]
    ///     fn open(&mut self, ctx: &mut Context<Self>) -> bool {
    ///         let may_open = match ctx.caller() {
    ///             Caller::Local | Caller::Member(_) => true,
    ///             Caller::Client(name) => name == "porter",
    ///             _ => false,
    ///         };
    ///         if may_open {
    ///             self.opened_by.push(ctx.caller().to_string());
    ///         }
    ///         may_open
    ///     }
    /// }
    /// # let mut door = casty::testkit::Machine::<Door>::new();
    /// # assert_eq!(door.send(|door| door.open()), Ok(true));
    /// ```
    pub fn caller(&self) -> &Caller {
        self.core.came_from.caller()
    }

    /// The resource of type `T` that the program gave this system by
    /// [`SystemBuilder::resource`](crate::SystemBuilder::resource): a connection pool, a client, a
    /// clock. Available in `#[init]`, hooks and message functions, to entities and local actors.
    ///
    /// Each node has resources of its own; nothing of them is sent to other nodes. Reading one
    /// takes no lock.
    ///
    /// # Panics
    /// If no resource of type `T` is set. In a handler or a hook this is a failure of the actor
    /// like any other panic. See [`try_resource`](Self::try_resource).
    ///
    /// ```standalone_crate
    /// use std::collections::HashMap;
    ///
    /// use casty::{prelude::*, testkit};
    ///
    /// /// Opening balances by owner. A real program would have a connection pool here.
    /// struct Balances(HashMap<String, i64>);
    ///
    /// struct Purse {
    ///     balance: i64,
    /// }
    ///
    /// #[entity]
    /// impl Purse {
    ///     #[init]
    ///     fn open(ctx: &mut Context<Self>) -> Self {
    ///         let balances = ctx.resource::<Balances>();
    ///         let balance = balances.0.get(ctx.entity_id().as_str());
    ///         Self { balance: balance.copied().unwrap_or_default() }
    ///     }
    ///
    ///     #[message]
    ///     fn balance(&self) -> i64 {
    ///         self.balance
    ///     }
    /// }
    ///
    /// let balances = Balances(HashMap::from([("alice".to_owned(), 15)]));
    /// testkit::paused_with(
    ///     |builder| builder.resource(balances),
    ///     |system| async move {
    ///         assert_eq!(system.entity::<Purse>("alice").balance().await, Ok(15));
    ///         assert_eq!(system.entity::<Purse>("bob").balance().await, Ok(0));
    ///     },
    /// );
    /// ```
    pub fn resource<T: Send + Sync + 'static>(&self) -> &T {
        self.try_resource()
            .unwrap_or_else(|| panic!("{}", self.cell.runtime().resources().missing::<T>()))
    }

    /// The resource of type `T`, or `None` if this system has none of that type.
    pub fn try_resource<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.cell.runtime().resources().get()
    }

    /// Publishes an event of the application's own: [`Event::Emitted`] to all subscribers of
    /// [`events`](crate::ActorSystem::events) on this node. What a handler of a stored entity emits
    /// is published once its record is durable.
    pub fn emit(&self, event: impl Any + Send + Sync) {
        let event = Emitted::new(self.cell.path(), event);
        if hold::is_on() {
            let runtime = self.cell.runtime().clone();
            let publish = move || runtime.publish(|| Event::Emitted(event));
            hold::hold_if_room("an event", Box::new(Once(publish)));
        } else {
            self.cell.runtime().publish(|| Event::Emitted(event));
        }
    }

    /// Sends this actor a message that it handles next: before all that waits in its mailbox, and
    /// before the messages that were stashed for the next state. Several raised messages are
    /// handled in order. Statecharts call this an internal event.
    ///
    /// It is for internal messages, which take no answer. A message that is raised by a handler
    /// that panics, or that stops the actor, is not handled.
    ///
    /// ```
    /// use casty::{prelude::*, testkit::Machine};
    ///
    /// #[actor]
    /// mod till {
    ///     use casty::prelude::*;
    ///
    ///     #[state(initial)]
    ///     pub struct Counting { pub left: u32 }
    ///
    ///     #[state]
    ///     pub struct Done;
    ///
    ///     #[behavior]
    ///     impl Counting {
    ///         #[message]
    ///         fn count(&mut self, ctx: &mut Context<Till>) {
    ///             self.left -= 1;
    ///             if self.left == 0 {
    ///                 ctx.raise(TillMsg::Counted {});
    ///             }
    ///         }
    ///
    ///         #[message(internal)]
    ///         fn counted(self) -> Done {
    ///             Done
    ///         }
    ///     }
    ///
    ///     #[behavior(otherwise = ignore)]
    ///     impl Done {}
    /// }
    ///
    /// let mut till = Machine::of(Till::from(till::Counting { left: 1 }));
    /// assert_eq!(till.send(|till| till.count()), Ok(()));
    /// assert_eq!(till.state(), "Done");
    /// ```
    pub fn raise(&mut self, message: A::Message) {
        let raised = self.raised.get_or_insert_default();
        if !std::mem::replace(&mut self.core.requests.raised, true) {
            // What a handler that failed has left.
            raised.clear();
        }
        raised.push(message);
    }

    /// Ends this activation when the handler returns, after `#[on_stop]`.
    ///
    /// An actor is gone then; messages still in its mailbox fail as `Stopped`. An entity starts
    /// afresh with its next message, and messages in its mailbox wait for that.
    pub fn stop(&mut self) {
        self.core.requests.stop = true;
    }
}

/// For the run.
impl<A: Actor> Context<A> {
    #[inline]
    pub(crate) fn core(&mut self) -> &mut ContextCore {
        &mut self.core
    }

    pub(crate) fn random_number(&self) -> u64 {
        self.cell.runtime().random_number()
    }

    fn written(&mut self) -> &mut Written<A> {
        self.written.get_or_insert_default()
    }

    pub(crate) fn take_raised(&mut self) -> Vec<A::Message> {
        self.raised.take().map_or_else(Vec::new, |raised| *raised)
    }

    pub(crate) fn is_made_here(&self) -> bool {
        self.core.ended_by_move.is_none() && !self.core.is_restored
    }

    pub(crate) fn transition(&mut self, from: &'static str, message: &'static str) {
        self.core.transition(Transition { from, message });
    }
}

impl<A: Actor> fmt::Debug for Context<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("actor", &self.cell.path())
            .finish_non_exhaustive()
    }
}
