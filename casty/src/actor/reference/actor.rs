//! References to single actors, on this node or another.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, Weak},
};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::{
    actor::{
        Actor, Address, Envelope, Rejected,
        cell::{Cell, Refusal},
        context::watch::{Watch, WatchId, WatchedKey, Watcher},
        handle::{AnyCell, Signal},
        hold,
        reference::{OUTSIDE, destination::Destination, remote::Remote, strict::StrictCell},
        runtime::{ActorAddress, Runtime},
    },
    error::Failure,
    event::{ActorPath, Terminated},
};

/// A reference to one particular actor, on this node or another.
///
/// Cheap to clone. It may travel in a message, and works on the other side as long as the actor
/// lives. Users hold the typed proxy around it, such as `GreeterRef`.
pub struct ActorRef<A: Actor>(Place<A>);

/// The address of an actor that code starts, in contrast to an entity.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{A}` is an entity, and starts by itself when its first message arrives",
    label = "an entity is neither spawned, nor has it a reference of its own",
    note = "send to it: `system.entity::<{A}>(id)`, or `ctx.entity::<{A}>(id)` in a handler",
    note = "for an actor that is spawned, write `#[actor]` in place of `#[entity]`"
)]
pub trait Spawned<A: Actor>: Address<A> {
    fn of(actor: ActorRef<A>) -> Self;
}

impl<A: Actor> Spawned<A> for ActorRef<A> {
    fn of(actor: Self) -> Self {
        actor
    }
}

enum Place<A: Actor> {
    Here(Arc<Cell<A>>),
    Elsewhere(Arc<dyn Destination<A>>),
}

impl<A: Actor> ActorRef<A> {
    pub(crate) fn local(cell: Arc<Cell<A>>) -> Self {
        if cell.runtime().strict_wire().is_some() {
            return Self::elsewhere(Arc::new(StrictCell(cell)));
        }
        Self(Place::Here(cell))
    }

    pub(crate) fn elsewhere(destination: Arc<dyn Destination<A>>) -> Self {
        Self(Place::Elsewhere(destination))
    }

    /// Stops the actor: it takes no more messages, handles the ones in its mailbox, runs
    /// `#[on_stop]`.
    ///
    /// Resolves when that is done, at once if it has stopped already. An actor on another node
    /// cannot be stopped from here; give it a message for that.
    ///
    /// In a handler that the end has to wait for, of the actor itself or of one of its children, it
    /// resolves at once: the actor stops after that handler.
    ///
    /// # Cancel safety
    /// Safe: the actor stops all the same.
    pub async fn stop(&self) {
        if hold::is_on()
            && let Some(passage) = hold::passage()
            && passage.open().await.is_err()
        {
            return;
        }
        match &self.0 {
            Place::Here(cell) => cell.stop().await,
            Place::Elsewhere(destination) => destination.stop().await,
        }
    }

    /// Its name in events, logs and dead letters.
    pub fn path(&self) -> ActorPath {
        match &self.0 {
            Place::Here(cell) => cell.path(),
            Place::Elsewhere(destination) => destination.path(),
        }
    }

    /// Equal for references to the same actor.
    pub(crate) fn key(&self) -> WatchedKey {
        match &self.0 {
            Place::Here(cell) => (None, cell.name().number()),
            Place::Elsewhere(destination) => destination.key(),
        }
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        match &self.0 {
            Place::Here(cell) => cell.watch(watcher),
            Place::Elsewhere(destination) => destination.watch(watcher),
        }
    }

    pub(crate) fn unwatch(&self, watch: WatchId) {
        match &self.0 {
            Place::Here(cell) => cell.unwatch(watch),
            Place::Elsewhere(destination) => destination.unwatch(watch),
        }
    }

    fn address(&self) -> Option<ActorAddress> {
        match &self.0 {
            Place::Here(cell) => {
                let number = cell.name().number();
                cell.runtime().address_of(number, A::NAME)
            }
            Place::Elsewhere(destination) => destination.address(),
        }
    }
}

/// Watches `who` on behalf of `watcher`.
pub(crate) fn watch<B: Actor>(id: WatchId, who: &ActorRef<B>, watcher: Weak<dyn AnyCell>) -> Watch {
    let key = who.key();
    let member = key.0.clone();
    let tell = Watcher::new(id, move |who, reason| {
        if let Some(watcher) = watcher.upgrade() {
            let who = Terminated {
                who,
                reason,
                number: key.1,
                member,
            };
            watcher.signal(Signal::Terminated(id, who));
        }
    });
    who.watch(tell);
    let target = who.clone();
    Watch::new(who.key(), move || target.unwatch(id))
}

impl Terminated {
    /// Whether this is the end of the actor behind `other`.
    pub fn is<B: Actor>(&self, other: &impl AsRef<ActorRef<B>>) -> bool {
        let (member, number) = other.as_ref().key();
        self.number == number && self.member == member
    }
}

impl<A: Actor> Address<A> for ActorRef<A> {
    const STARTS_AGAIN: bool = false;

    #[cfg(feature = "testkit")]
    fn of_machine(only: crate::actor::Only<A>) -> Self {
        Self::local(only.0)
    }

    fn runtime(&self) -> &Arc<Runtime> {
        match &self.0 {
            Place::Here(cell) => cell.runtime(),
            Place::Elsewhere(destination) => destination.runtime(),
        }
    }

    fn path(&self) -> ActorPath {
        Self::path(self)
    }

    fn try_send(&self, envelope: Envelope<A>) -> Result<(), Rejected<A>> {
        match &self.0 {
            Place::Here(cell) => cell.push(envelope).map_err(Rejected::from),
            Place::Elsewhere(destination) => destination.try_send(envelope),
        }
    }

    fn send(&self, envelope: Envelope<A>) -> BoxFuture<'static, Result<(), Rejected<A>>> {
        match &self.0 {
            Place::Here(cell) => {
                let cell = cell.clone();
                Box::pin(async move { cell.push_wait(envelope).await.map_err(Rejected::from) })
            }
            Place::Elsewhere(destination) => destination.clone().send(envelope),
        }
    }
}

impl<A: Actor> From<Refusal<A>> for Rejected<A> {
    fn from(refusal: Refusal<A>) -> Self {
        match refusal {
            Refusal::Full(envelope) => Self::new(envelope, Failure::Full),
            Refusal::Closed(envelope) => Self::new(envelope, Failure::Stopped),
            Refusal::Failing(envelope, failure) => Self::new(envelope, failure),
        }
    }
}

impl<A: Actor> AsRef<Self> for ActorRef<A> {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Place::Here(cell) => Place::Here(cell.clone()),
            Place::Elsewhere(destination) => Place::Elsewhere(destination.clone()),
        })
    }
}

impl<A: Actor> PartialEq for ActorRef<A> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Here(mine), Place::Here(theirs)) => Arc::ptr_eq(mine, theirs),
            _ => self.key() == other.key(),
        }
    }
}

impl<A: Actor> Eq for ActorRef<A> {}

impl<A: Actor> Hash for ActorRef<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<A: Actor> fmt::Debug for ActorRef<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path(), f)?;
        match self.key() {
            (Some(member), _) => write!(f, "@{member}"),
            (None, _) => Ok(()),
        }
    }
}

impl<A: Actor> Serialize for ActorRef<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let address = self.address().ok_or_else(|| {
            S::Error::custom("an actor of a system without a network has no address to send")
        })?;
        address.serialize(serializer)
    }
}

impl<'de, A: Actor> Deserialize<'de> for ActorRef<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let address = ActorAddress::deserialize(deserializer)?;
        let runtime = Runtime::current().ok_or_else(|| D::Error::custom(OUTSIDE))?;
        if address.kind != A::NAME {
            return Err(D::Error::custom(format!(
                "`{}` is not a `{}`",
                address.kind,
                A::NAME
            )));
        }
        let here = runtime
            .myself()
            .is_some_and(|myself| myself.member == address.member);
        let present = here.then(|| runtime.actor(address.actor)).flatten();
        if let Some(present) = present.map(AnyCell::into_any) {
            let other = match present.downcast::<Cell<A>>() {
                Ok(cell) => return Ok(Self::local(cell)),
                Err(other) => other,
            };
            if let Some(destination) = other.downcast_ref::<Arc<dyn Destination<A>>>() {
                return Ok(Self::elsewhere(destination.clone()));
            }
        }
        Ok(Self::elsewhere(Remote::new(runtime, address)))
    }
}
