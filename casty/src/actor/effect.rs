//! What a command of an event-sourced entity decides: events, and what follows from them.

use std::fmt;

use crate::{
    actor::{
        Entity,
        ask::{call::Call, sent},
        context::{Context, written::FollowUp},
        outcome::{self, AnswerOf, Outcome, Unsendable},
        reference::Stored,
        remind::Remind,
        stored_promise::StoredPromise,
    },
    message::{
        codec::{DecodeError, EncodeError},
        wire::Wire,
    },
    persistence::{record_body::WrittenEvent, sends::WrittenSend},
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

/// The events have one of this name, as a number. A projection asks for it, so that a name that is
/// none is an error that says so.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no event of this name",
    label = "not the name of an `#[event]` function",
    note = "an `#[on]` function is named after an event of the entity: `fn withdrawn(..)` handles `AccountEvent::Withdrawn`, \
            which is made of `#[event] fn withdrawn(..)`"
)]
pub trait EventNamed<const NAME: u64> {}

/// Requires that there is such an event.
#[doc(hidden)]
pub const fn event_named<E: EventNamed<NAME>, const NAME: u64>() {}

/// An event of `E`. The compiler knows by it which entity an effect is of.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event of this entity",
    label = "not made by an `#[event]` function",
    note = "an effect persists events of its entity, such as `AccountEvent::Withdrawn {{ amount }}` of `Account`: \
            write an `#[event]` function for each, in the block with `#[entity(event_sourced)]`"
)]
pub trait EventOf<E: EventSourced>: Events {
    /// The event, as one of `E`.
    fn own(self) -> E::Event;
}

/// An entity whose state is made of events. `#[entity(event_sourced)]` implements it; do not
/// implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not event-sourced",
    label = "has no events to persist",
    note = "write `#[entity(event_sourced)]` above its block or its module, and `#[event]` above the functions that change the state"
)]
pub trait EventSourced: Entity {
    /// Its events, such as `AccountEvent`.
    type Event: EventOf<Self>;

    /// Applies an event, and says whether it led to another state. An error says that the present
    /// state has no such event.
    #[doc(hidden)]
    fn apply(&mut self, event: Self::Event) -> Result<bool, DecodeError>;
}

/// What a command of an event-sourced entity decides: the events that it persists, its reply, and
/// what follows.
///
/// `R` is the type of the reply. A command returns `Effect<Self, R>`, or a `Result` of it. The
/// events are applied to the state at once; they are stored before the reply, and what else the
/// command lets out, leaves.
///
/// ```standalone_crate
/// use casty::{persistence::Memory, prelude::*};
///
/// #[message]
/// #[derive(Default)]
/// struct Purse {
///     cents: u64,
/// }
///
/// #[entity(event_sourced)]
/// impl Purse {
///     #[message]
///     fn put(&self, cents: u64) -> Effect<Self, u64> {
///         Effect::persist(PurseEvent::Filled { cents }).reply(|purse| purse.cents)
///     }
///
///     #[message]
///     fn pay(&self, cents: u64) -> Result<Effect<Self>, String> {
///         if self.cents < cents {
///             return Err(format!("there are {}", self.cents));
///         }
///         Ok(Effect::persist(PurseEvent::Paid { cents }))
///     }
///
///     #[event]
///     fn filled(&mut self, cents: u64) {
///         self.cents += cents;
///     }
///
///     #[event]
///     fn paid(&mut self, cents: u64) {
///         self.cents -= cents;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let system = ActorSystem::builder("shop").journal(Memory::new()).start_local()?;
/// let purse = system.entity::<Purse>("alice");
/// assert_eq!(purse.put(5).await?, 5);
/// let refused = purse.pay(7).await;
/// assert_eq!(refused, Err(AskError::Entity("there are 5".to_owned())));
/// # Ok(())
/// # }
/// ```
#[must_use = "an effect does nothing until the command returns it"]
pub struct Effect<E: EventSourced, R = ()> {
    events: Vec<E::Event>,
    reply: Box<dyn FnOnce(&E) -> R + Send>,
    then: Vec<FollowUp<E>>,
    sends: Vec<Result<WrittenSend, Unsendable>>,
    reminders: Vec<ReminderWish<E::Message>>,
    keeps: Vec<Keep<E>>,
    stop: bool,
    erase: bool,
}

/// Keeps a promise.
type Keep<E> = Box<dyn FnOnce(&mut Context<E>) -> Result<(), EncodeError> + Send>;

/// What an effect says of a reminder.
enum ReminderWish<M> {
    Set(String, Remind, M),
    Forget(String),
}

impl<E: EventSourced> Effect<E> {
    /// Persists an event.
    pub fn persist<V: EventOf<E>>(event: V) -> Self {
        Self::of(vec![event.own()])
    }

    /// Persists several events as one: all of them are durable, or none.
    pub fn persist_all<V: EventOf<E>>(events: impl IntoIterator<Item = V>) -> Self {
        Self::of(events.into_iter().map(EventOf::own).collect())
    }

    /// Persists nothing. A closure for [`reply`](Self::reply) then has to name the type of the
    /// state: `Effect::none().reply(|purse: &Purse| purse.cents)`.
    pub fn none() -> Self {
        Self::of(Vec::new())
    }

    fn of(events: Vec<E::Event>) -> Self {
        Self {
            events,
            reply: Box::new(|_| ()),
            then: Vec::new(),
            sends: Vec::new(),
            reminders: Vec::new(),
            keeps: Vec::new(),
            stop: false,
            erase: false,
        }
    }
}

impl<E: EventSourced, R> Effect<E, R> {
    /// Replies with what `reply` makes of the state after the events. The reply leaves once they
    /// are durable.
    pub fn reply<S>(self, reply: impl FnOnce(&E) -> S + Send + 'static) -> Effect<E, S> {
        Effect {
            events: self.events,
            reply: Box::new(reply),
            then: self.then,
            sends: self.sends,
            reminders: self.reminders,
            keeps: self.keeps,
            stop: self.stop,
            erase: self.erase,
        }
    }

    /// Calls `then` once the events are durable. It is called at most once: not if the node fails
    /// in between, nor if a later handler of the activation fails before it could be called.
    pub fn then(mut self, then: impl FnOnce(&E, &mut Context<E>) + Send + 'static) -> Self {
        self.then.push(Box::new(then));
        self
    }

    /// Sends a message to another stored entity, effectively once: it is part of the record of this
    /// effect, so it is sent if, and only if, the record is durable, and again, also after a
    /// failover, until the receiver has what it has changed in a durable record of its own. The
    /// receiver handles it once. What one entity sends to another arrives in order.
    ///
    /// What the receiver returns is thrown away; [`send_for`](Self::send_for) brings it back.
    ///
    /// Up to 4,096 sends of a shard wait for their receivers. A command that would send more fails
    /// as [`AskError::OutboxFull`](crate::AskError::OutboxFull).
    ///
    /// # Panics
    /// In the command that returns the effect, if the message cannot be encoded, or the id of the
    /// receiver is none. Nothing of the command is stored then.
    ///
    /// ```standalone_crate
    /// use casty::{persistence::Memory, prelude::*};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Till {
    ///     cents: u64,
    /// }
    ///
    /// #[entity(event_sourced)]
    /// impl Till {
    ///     #[message]
    ///     fn hand_over(&self, to: TillRef) -> Effect<Self, u64> {
    ///         let cents = self.cents;
    ///         Effect::persist(TillEvent::HandedOver { cents })
    ///             .send(to.put(cents))
    ///             .reply(move |_: &Self| cents)
    ///     }
    ///
    ///     #[message]
    ///     fn put(&self, cents: u64) -> Effect<Self> {
    ///         Effect::persist(TillEvent::PutIn { cents })
    ///     }
    ///
    ///     #[message]
    ///     fn cents(&self) -> u64 {
    ///         self.cents
    ///     }
    ///
    ///     #[event]
    ///     fn handed_over(&mut self, cents: u64) {
    ///         self.cents -= cents;
    ///     }
    ///
    ///     #[event]
    ///     fn put_in(&mut self, cents: u64) {
    ///         self.cents += cents;
    ///     }
    /// }
    /// # fn main() {}
    /// ```
    pub fn send<A: Stored, T, F>(mut self, call: Call<A, T, F>) -> Self {
        self.sends.push(sent::written(call, None));
        self
    }

    /// The same, and this entity is told of the outcome by a message of its own, effectively once
    /// as well. `tell` makes that message: it puts the [`Outcome`] that it is given into one of the
    /// arguments. Whatever else the message says is fixed now.
    ///
    /// # Panics
    /// As [`send`](Self::send), and if the message does not contain the outcome, or has more than
    /// 32 KiB besides it.
    pub fn send_for<A: Stored, T, F, S>(
        mut self,
        call: Call<A, T, F>,
        tell: impl FnOnce(Outcome<S>) -> E::Message,
    ) -> Self
    where
        S: AnswerOf<T, F>,
    {
        let form = outcome::answer_form::<E::Message, S>(tell);
        let send = form.and_then(|form| sent::written(call, Some(form)));
        self.sends.push(send);
        self
    }

    /// Reminds this entity of something, by a message of its own, at a later time, as
    /// [`Context::remind`] does.
    ///
    /// # Panics
    /// In the command that returns the effect, as [`Context::remind`]. Nothing of the command is
    /// stored then.
    ///
    /// ```standalone_crate
    /// use casty::{persistence::Memory, prelude::*, remind::Remind, testkit};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Offer {
    ///     is_open: bool,
    /// }
    ///
    /// #[entity(event_sourced)]
    /// impl Offer {
    ///     #[message]
    ///     fn open(&self, hours: u64) -> Effect<Self> {
    ///         let expiry = Remind::after(Duration::from_hours(hours));
    ///         Effect::persist(OfferEvent::Opened {}).remind("expiry", expiry, OfferMsg::Expire {})
    ///     }
    ///
    ///     #[message(internal)]
    ///     fn expire(&self) -> Effect<Self> {
    ///         Effect::persist(OfferEvent::Expired {})
    ///     }
    ///
    ///     #[message]
    ///     fn is_open(&self) -> bool {
    ///         self.is_open
    ///     }
    ///
    ///     #[event]
    ///     fn opened(&mut self) {
    ///         self.is_open = true;
    ///     }
    ///
    ///     #[event]
    ///     fn expired(&mut self) {
    ///         self.is_open = false;
    ///     }
    /// }
    ///
    /// testkit::paused_with(
    ///     |builder| builder.journal(Memory::new()),
    ///     |system| async move {
    ///         let offer = system.entity::<Offer>("o-1");
    ///         offer.open(48).await.unwrap();
    ///         tokio::time::sleep(Duration::from_hours(47)).await;
    ///         assert_eq!(offer.is_open().await, Ok(true));
    ///         tokio::time::sleep(Duration::from_hours(2)).await;
    ///         assert_eq!(offer.is_open().await, Ok(false));
    ///     },
    /// );
    /// ```
    pub fn remind(mut self, name: impl Into<String>, remind: Remind, message: E::Message) -> Self {
        let wish = ReminderWish::Set(name.into(), remind, message);
        self.reminders.push(wish);
        self
    }

    /// Forgets a reminder, if there is one of this name, as [`Context::forget`] does.
    pub fn forget(mut self, name: impl Into<String>) -> Self {
        self.reminders.push(ReminderWish::Forget(name.into()));
        self
    }

    /// Replies to the message of which the promise is, whenever that came. The reply to a stored
    /// entity is part of the record of this effect, and so effectively once; that to an asker
    /// leaves once the events are durable.
    ///
    /// An event takes the promise into the state, and the command that keeps it has to get it out
    /// again: it is cloned there, and the event of that command drops it.
    ///
    /// # Panics
    /// In the command that returns the effect, if the reply cannot be encoded.
    pub fn keep_promise<S: Wire>(mut self, promise: StoredPromise<S>, reply: S) -> Self {
        self.keeps
            .push(Box::new(move |ctx| ctx.keep(promise, reply)));
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
    carry_out_and_leave(state, ctx, effect).0
}

/// The same in a state machine: also says whether an event has led to another state.
///
/// # Panics
/// As [`carry_out`].
#[doc(hidden)]
pub fn carry_out_and_leave<E: EventSourced, R>(
    state: &mut E,
    ctx: &mut Context<E>,
    effect: Effect<E, R>,
) -> (R, bool) {
    let left = apply(state, ctx, effect.events);
    if effect.erase {
        ctx.erase();
    }
    if effect.stop || effect.erase {
        ctx.stop();
    }
    for then in effect.then {
        ctx.when_durable(then);
    }
    for send in effect.sends {
        match send {
            Ok(send) => ctx.write_send(send),
            Err(error) => panic!("{error}"),
        }
    }
    for keep in effect.keeps {
        if let Err(EncodeError(reason)) = keep(ctx) {
            panic!("the reply of a promise cannot be encoded: {reason}");
        }
    }
    for wish in effect.reminders {
        match wish {
            ReminderWish::Set(name, remind, message) => ctx.set_reminder(&name, &remind, &message),
            ReminderWish::Forget(name) => ctx.forget_reminder(&name),
        }
    }
    ((effect.reply)(state), left)
}

fn apply<E: EventSourced>(state: &mut E, ctx: &mut Context<E>, events: Vec<E::Event>) -> bool {
    let mut left = false;
    for event in events {
        let mut bytes = Vec::new();
        let (name, version) = match event.write(&mut bytes) {
            Ok(written) => written,
            Err(EncodeError(reason)) => panic!("an event cannot be encoded: {reason}"),
        };
        match state.apply(event) {
            Ok(leaves) => left |= leaves,
            Err(DecodeError(reason)) => panic!("{reason}"),
        }
        ctx.write_event(WrittenEvent {
            name: name.to_owned(),
            version,
            bytes: bytes.into(),
        });
    }
    left
}

/// Reads a stored event, of any version that this code knows, and applies what it has become.
#[doc(hidden)]
pub fn replay<E: EventSourced>(
    state: &mut E,
    name: &str,
    version: u32,
    bytes: &[u8],
) -> Result<(), DecodeError> {
    for event in E::Event::read(name, version, bytes)? {
        state.apply(event)?;
    }
    Ok(())
}
