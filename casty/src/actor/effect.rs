//! What a command of an event-sourced entity decides: events, and what follows from them.

use std::fmt;

use crate::{
    actor::{
        Entity,
        context::{Context, written::Then},
    },
    message::codec::{DecodeError, EncodeError},
    persistence::record_body::WrittenEvent,
};

/// The events of an entity: the enum that `#[entity(event_sourced)]` makes of its `#[event]`
/// functions.
#[doc(hidden)]
pub trait Events: Sized + Send + 'static {
    /// Appends the arguments. Returns the name and the version.
    fn write(&self, out: &mut Vec<u8>) -> Result<(&'static str, u32), EncodeError>;

    /// Reads an event of any version that this code knows. An old one may have become several, or
    /// none.
    fn read(name: &str, version: u32, bytes: &[u8]) -> Result<Vec<Self>, DecodeError>;
}

/// An entity whose state is made of events. `#[entity(event_sourced)]` implements it; do not
/// implement it by hand.
pub trait EventSourced: Entity {
    /// Its events, such as `AccountEvent`.
    type Event: Events;

    /// Applies an event. An error says that the present state has no such event.
    #[doc(hidden)]
    fn apply(&mut self, event: Self::Event) -> Result<(), DecodeError>;
}

/// What a command decides: the events that it persists, its reply, and what follows.
///
/// `R` is the reply.
#[must_use = "an effect does nothing until the command returns it"]
pub struct Effect<E: EventSourced, R = ()> {
    events: Vec<E::Event>,
    reply: Box<dyn FnOnce(&E) -> R + Send>,
    then: Vec<Then<E>>,
    stop: bool,
    erase: bool,
}

impl<E: EventSourced> Effect<E> {
    /// Persists an event.
    pub fn persist(event: E::Event) -> Self {
        Self::persist_all([event])
    }

    /// Persists several events as one: all of them are durable, or none.
    pub fn persist_all(events: impl IntoIterator<Item = E::Event>) -> Self {
        Self {
            events: events.into_iter().collect(),
            reply: Box::new(|_| ()),
            then: Vec::new(),
            stop: false,
            erase: false,
        }
    }

    /// Persists nothing.
    pub fn none() -> Self {
        Self::persist_all([])
    }
}

impl<E: EventSourced, R> Effect<E, R> {
    /// Replies with what `reply` makes of the state after the events. The reply leaves once they are
    /// durable.
    pub fn reply<S>(self, reply: impl FnOnce(&E) -> S + Send + 'static) -> Effect<E, S> {
        Effect {
            events: self.events,
            reply: Box::new(reply),
            then: self.then,
            stop: self.stop,
            erase: self.erase,
        }
    }

    /// Calls `then` once the events are durable. It is called at most once: not if the node fails in
    /// between.
    pub fn then(mut self, then: impl FnOnce(&E, &mut Context<E>) + Send + 'static) -> Self {
        self.then.push(Box::new(then));
        self
    }

    /// Ends the activation, once the events are durable.
    pub fn stop(mut self) -> Self {
        self.stop = true;
        self
    }

    /// Erases what is stored of the entity, the events of this effect included. The entity begins
    /// anew with its next message.
    pub fn erase(mut self) -> Self {
        self.erase = true;
        self
    }
}

impl<E: EventSourced, R> fmt::Debug for Effect<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effect")
            .field("events", &self.events.len())
            .field("stop", &self.stop)
            .field("erase", &self.erase)
            .finish_non_exhaustive()
    }
}

/// Carries out what a command has decided: applies the events to the state, has them written with
/// what else the handler changes, and makes the reply.
///
/// # Panics
/// If an event cannot be encoded, or if the present state has no such event. The activation fails
/// then, and nothing of the command is stored.
#[doc(hidden)]
pub fn carry_out<E: EventSourced, R>(
    state: &mut E,
    ctx: &mut Context<E>,
    effect: Effect<E, R>,
) -> R {
    for event in effect.events {
        let mut bytes = Vec::new();
        let (name, version) = match event.write(&mut bytes) {
            Ok(written) => written,
            Err(EncodeError(reason)) => panic!("an event cannot be encoded: {reason}"),
        };
        if let Err(DecodeError(reason)) = state.apply(event) {
            panic!("event `{name}`: {reason}");
        }
        ctx.write_event(WrittenEvent {
            name: name.to_owned(),
            version,
            bytes: bytes.into(),
        });
    }
    if effect.erase {
        ctx.erase();
    }
    if effect.stop || effect.erase {
        ctx.stop();
    }
    for then in effect.then {
        ctx.when_durable(then);
    }
    (effect.reply)(state)
}
