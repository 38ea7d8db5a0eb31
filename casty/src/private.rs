//! The functions and types that generated code uses. Not public: they change with the macros,
//! without notice.

#[path = "private/items.rs"]
mod items;

use std::{fmt, num::NonZeroU32, time::Duration};

pub use items::{hosted, into_one_of, message, proxy, replies, serde_by_form, state_name, states};

pub use crate::{
    actor::{
        Actor, Entity, FirstState, Handled, HookError, Init, Message, Reply, ReplyCodec,
        ReplyVisitor,
        ask::{
            any_call::AnyCall,
            call::Call,
            promise::{Later, Promise},
        },
        cell::policy::{Children, OnFailure, Overflow, Policy},
        context::Context,
        effect::{
            EventNamed, EventOf, EventSourced, Events, carry_out, carry_out_and_leave, event_named,
            replay,
        },
        reference::{
            ActorRef, EntityRef, Hosted, Hosts, ProtocolRegistration, Stored,
            protocol::{Handles, Letter, Speaker, deserialize_speaker, serialize_speaker},
        },
        storage::{Retain, Storage},
    },
    behavior::{
        Behavior, Group, HandlerRow, OneOf, OrStay, Otherwise, State, StateName, Stay, Stop, Widen,
    },
    cluster::registry::EntityRegistration,
    event::kinds::{ActorPath, Terminated},
    id::{EntityId, Id},
    message::{
        codec::{DecodeError, EncodeError},
        event_form::{pack_event, unpack_event},
        form::{
            Field, Form, MessageForm, MessageReader, MessageWriter, PackedFields, pack,
            read_message, slot, unpack, unpack_fields, write_message,
        },
        wire::Wire,
    },
    projection::EventOutcome,
};
pub use inventory;
pub use serde;

use crate::{
    actor::ask::call::CallSpec,
    message::{
        codec,
        form::{Known, OrDefault},
    },
};

/// Requires that a type can be part of a message, and gives what stands for it.
///
/// What it gives is of a hidden type and requires nothing of `T`. So the compiler reports a type
/// that cannot travel here; it reports equal errors at one place once.
pub const fn wire<T: Wire>() -> impl Field<Value = T> {
    Known::new()
}

/// The same for an argument that a message may come without, as `#[serde(default)]` says.
pub const fn or_default<F: Field>(field: F) -> impl Field<Value = F::Value>
where
    F::Value: Default,
{
    OrDefault(field)
}

/// Requires that a type can be a reply, and gives how it travels.
pub const fn reply<T: Wire>() -> ReplyCodec<T> {
    ReplyCodec {
        encode: codec::encode,
        decode: codec::decode,
    }
}

/// Appends a reply as it travels.
pub fn encode_reply<R>(
    codec: &ReplyCodec<R>,
    reply: &R,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    (codec.encode)(reply, out)
}

/// The same for the reply of a handler that returns a `Result`.
pub const fn fallible_reply<T: Wire, E: Wire>() -> ReplyCodec<Result<T, E>> {
    ReplyCodec {
        encode: codec::encode,
        decode: codec::decode,
    }
}

/// The call of a message whose handler returns a plain value.
#[inline]
pub fn call<A: Actor, T: 'static>(
    to: &A::Address,
    message: A::Message,
    reply: ReplyCodec<T>,
) -> Call<A, T> {
    Call::new(to, message, CallSpec::value(reply))
}

/// The call of a message whose handler returns a `Result`.
#[inline]
pub fn fallible_call<A: Actor, T: 'static, E: 'static>(
    to: &A::Address,
    message: A::Message,
    reply: ReplyCodec<Result<T, E>>,
) -> Call<A, T, E> {
    Call::new(to, message, CallSpec::result(reply))
}

pub use std::vec::Vec;

/// A state that can go along when its shard moves.
#[diagnostic::on_unimplemented(
    message = "the state `{Self}` cannot move to another node",
    label = "not serializable, or not `Send + 'static`",
    note = "`migrate` sends the state along when its shard moves: derive serde's `Serialize` and `Deserialize` for `{Self}`, or write `#[message]` above its definition"
)]
pub trait Moves: Wire {}

#[diagnostic::do_not_recommend]
impl<S: Wire> Moves for S {}

/// A state that the flight recorder can keep.
#[diagnostic::on_unimplemented(
    message = "the state `{Self}` cannot be recorded",
    label = "not serializable, or not `Send + 'static`",
    note = "`record` keeps the state, from which a test goes on: derive serde's `Serialize` and `Deserialize` for `{Self}`, or write `#[message]` above its definition"
)]
pub trait Records: Wire {}

#[diagnostic::do_not_recommend]
impl<S: Wire> Records for S {}

/// A state that can be stored.
#[diagnostic::on_unimplemented(
    message = "the state `{Self}` cannot be stored",
    label = "not serializable, or not `Send + 'static`",
    note = "the state of an event-sourced or durable entity is written to the store: derive serde's `Serialize` and `Deserialize` for `{Self}`, or write `#[message]` above its definition"
)]
pub trait Stores: Wire {}

#[diagnostic::do_not_recommend]
impl<S: Wire> Stores for S {}

/// How a state is written and read.
#[derive(Debug)]
pub struct StateCodec<S> {
    encode: fn(&S, &mut Vec<u8>) -> Result<(), EncodeError>,
    decode: fn(&[u8]) -> Result<S, DecodeError>,
}

/// The codec of a state. What uses the codec requires nothing of the state, so that a state without
/// a wire form is one error.
pub const fn moves<S: Moves>() -> StateCodec<S> {
    StateCodec {
        encode: codec::encode::<S>,
        decode: codec::decode::<S>,
    }
}

/// The same for a state that is stored.
pub const fn stores<S: Stores>() -> StateCodec<S> {
    StateCodec {
        encode: codec::encode::<S>,
        decode: codec::decode::<S>,
    }
}

/// The same for a state that is recorded.
pub const fn records<S: Records>() -> StateCodec<S> {
    StateCodec {
        encode: codec::encode::<S>,
        decode: codec::decode::<S>,
    }
}

/// Appends the encoded state of an entity that leaves this node or is stored. Returns the state's
/// name in a state machine.
pub fn freeze<S>(
    codec: &StateCodec<S>,
    name: &'static str,
    state: &S,
    out: &mut Vec<u8>,
) -> Result<&'static str, EncodeError> {
    (codec.encode)(state, out)?;
    Ok(name)
}

/// The error for a state that a handler took and did not return.
pub fn freeze_nothing() -> Result<&'static str, EncodeError> {
    Err(EncodeError("there is no state".to_owned()))
}

/// Decodes a state that came from another node.
pub fn thaw<S>(codec: &StateCodec<S>, state: &[u8]) -> Result<S, DecodeError> {
    (codec.decode)(state)
}

/// The handler that is about to be called may change the state of an entity that is stored as it
/// is.
pub fn changes<A: Actor>(ctx: &mut Context<A>) {
    ctx.changes();
}

/// The error for a state that this version of the code does not know.
pub fn thaw_unknown<S>(name: &str) -> Result<S, DecodeError> {
    Err(DecodeError(format!(
        "there is no state `{name}` in this version"
    )))
}

/// A field that is made anew at activation.
#[diagnostic::on_unimplemented(
    message = "a transient field of type `{Self}` cannot be made",
    label = "has no `Default`",
    note = "what is `#[transient]` is not written, and is made by `Default` when its value is read: derive `Default` for `{Self}`, or let the field be an `Option` of it"
)]
pub trait MadeAnew: Sized {
    /// Its first value.
    fn made_anew() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> MadeAnew for T {
    fn made_anew() -> Self {
        T::default()
    }
}

/// The value of a transient field.
pub fn made_anew<T: MadeAnew>() -> T {
    T::made_anew()
}

/// A value that can be part of an event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of an event",
    label = "not serializable, or not `Send + 'static`",
    note = "an event is stored: write `#[message]` above the definition of your type, or derive serde's `Serialize` and `Deserialize` for it"
)]
pub trait InEvents: Wire {}

#[diagnostic::do_not_recommend]
impl<T: Wire> InEvents for T {}

/// Requires that a type can be part of an event, and gives what stands for it, as [`wire`] does.
pub const fn in_event<T: InEvents>() -> impl Field<Value = T> {
    Known::new()
}

/// What an old event has become: an event of today, several, or none.
#[diagnostic::on_unimplemented(
    message = "an old event cannot become `{Self}`",
    label = "neither an event of this entity nor several",
    note = "an `#[upcast]` function returns an event of today, as `AccountEvent`, several as `Vec<AccountEvent>`, one or none as `Option<AccountEvent>`, or nothing"
)]
pub trait Becomes<V> {
    /// The events of today.
    fn events(self) -> Vec<V>;
}

impl<V: Events> Becomes<V> for V {
    fn events(self) -> Vec<V> {
        vec![self]
    }
}

impl<V: Events> Becomes<V> for Vec<V> {
    fn events(self) -> Self {
        self
    }
}

impl<V: Events> Becomes<V> for Option<V> {
    fn events(self) -> Vec<V> {
        self.into_iter().collect()
    }
}

impl<V: Events> Becomes<V> for () {
    fn events(self) -> Vec<V> {
        Vec::new()
    }
}

/// The error for an event that this version of the code cannot read. `known` are its events, each
/// with its version.
pub fn unknown_event<V>(name: &str, version: u32, known: &[(&str, u32)]) -> Result<V, DecodeError> {
    let of_this_name = known.iter().find(|(known, _)| *known == name);
    let reason = match of_this_name {
        Some((_, present)) if version > *present => format!(
            "a newer version of the program wrote it: this one knows `{name}` up to version {present}"
        ),
        Some(_) => format!(
            "there is no upcaster for it: write `#[upcast(event = {name}, from = {version})]` above one"
        ),
        None => format!(
            "there is no such event: write `#[upcast(removed = \"{name}\", from = {version})]` \
             above a function that makes today's of it, or none"
        ),
    };
    Err(DecodeError(format!(
        "event `{name}` of version {version} cannot be read: {reason}"
    )))
}

/// The error for an event that the present state does not know.
pub fn no_event_here<V>(state: &str, event: &str) -> Result<V, DecodeError> {
    Err(DecodeError(format!(
        "state `{state}` has no event `{event}`: write an `#[event]` function of this name in its block"
    )))
}

/// Appends the common data of a machine, with its length, then its state.
pub fn freeze_common<C>(
    codec: &StateCodec<C>,
    common: &C,
    out: &mut Vec<u8>,
    state: impl FnOnce(&mut Vec<u8>) -> Result<&'static str, EncodeError>,
) -> Result<&'static str, EncodeError> {
    let start = out.len();
    out.extend([0; size_of::<u32>()]);
    (codec.encode)(common, out)?;
    let written = out.len() - start - size_of::<u32>();
    let written = u32::try_from(written)
        .map_err(|_| EncodeError("the common data is larger than 4 GiB".to_owned()))?;
    for (place, byte) in out.iter_mut().skip(start).zip(written.to_be_bytes()) {
        *place = byte;
    }
    state(out)
}

/// The common data of a machine that came from another node, and what is left: its state.
pub fn thaw_common<'a, C>(
    codec: &StateCodec<C>,
    bytes: &'a [u8],
) -> Result<(C, &'a [u8]), DecodeError> {
    let parts = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.split_at_checked(length)
    });
    let Some((common, state)) = parts else {
        return Err(DecodeError("it ends within the common data".to_owned()));
    };
    Ok(((codec.decode)(common)?, state))
}

/// Requires that a type can be a state, or part of an internal message.
pub const fn in_memory<T: Send + 'static>() {}

/// Requires that the future of an async handler can move between threads.
///
/// The future's type is hidden, so that the compiler reports it here, once, and not again where the
/// future is awaited.
pub fn sendable<F: Future + Send>(future: F) -> impl Future<Output = F::Output> + Send {
    future
}

/// Reports that the state machine has changed its state: stashed messages are handled again, and
/// the timers of the state `from` are over.
pub fn transition<A: Actor>(ctx: &mut Context<A>, from: &'static str, message: &'static str) {
    ctx.transition(from, message);
}

/// The id of an entity, of the type that its ids are of.
///
/// # Panics
/// If the text is no such id: only a raw envelope can name an entity by such a text.
pub fn id<I: Id>(id: &EntityId) -> I {
    match I::from_entity_id(id) {
        Ok(id) => id,
        Err(reason) => panic!("`{id}` is no id of this entity: {reason}"),
    }
}

/// Whether the state of the activation that starts was just made. It was not, if the activation has
/// moved here, or if the state was read from the store.
pub fn is_made_here<A: Actor>(ctx: &Context<A>) -> bool {
    ctx.is_made_here()
}

/// Starts a timer of the present state, unless it came along from another node. Leaving the state
/// cancels it.
pub fn after<A: Actor>(ctx: &mut Context<A>, time: Duration, make: fn() -> A::Message) {
    ctx.start_state_timer(time, None, make);
}

/// The same for a timer that comes again and again.
pub fn every<A: Actor>(ctx: &mut Context<A>, time: Duration, make: fn() -> A::Message) {
    ctx.start_state_timer(time, Some(time.into()), make);
}

/// Requires that a function that says how long a timer runs returns a `Duration`.
pub const fn duration(time: Duration) -> Duration {
    time
}

/// The first state and the common data, which is made if the state was.
pub fn both<A, S, C>(
    state: Result<S, HookError>,
    common: impl FnOnce() -> Result<C, HookError>,
) -> Result<A, HookError>
where
    A: From<(S, C)>,
{
    let state = state?;
    Ok(A::from((state, common()?)))
}

/// Ends the state machine, as the return type of its handler allows.
pub fn stop<A: Actor>(ctx: &mut Context<A>) {
    ctx.stop();
}

/// The answer of a state machine without a state. No asker ever gets it, since the runtime makes a
/// fresh state first.
pub fn no_state<A: Actor>() -> Handled<A> {
    Handled::Unhandled {
        state: A::NAME,
        silent: false,
    }
}

/// The answer of a state machine that was asked for the name of its state.
pub fn told<A: Actor>(name: &str, reply: fn(String) -> A::Reply) -> Handled<A> {
    Handled::Reply(reply(name.to_owned()))
}

/// A number of shards; the macros have checked that it is not zero.
pub const fn shards(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

/// The parts of a handler's `Result`, also behind an alias such as `io::Result<T>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result`, but is not one",
    label = "not an alias of `Result<T, E>`",
    note = "a handler's return type named `Result` must be one; give a type of your own another name"
)]
pub trait Fallible {
    /// The value that an ask returns.
    type Ok;
    /// The error that an ask returns in its place.
    type Err;
}

impl<T, E> Fallible for Result<T, E> {
    type Ok = T;
    type Err = E;
}

/// The fallback for `#[init]`: `Default`.
#[diagnostic::on_unimplemented(
    message = "casty cannot make the first state of `{Self}`",
    label = "has neither `Default` nor an `#[init]` function",
    note = "derive `Default`, or write one `#[init]` function in the annotated impl block"
)]
pub trait DefaultState: Sized {
    /// The first state.
    fn default_state() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> DefaultState for T {
    fn default_state() -> Self {
        T::default()
    }
}

/// The first state of a type without an `#[init]` function.
pub fn init_by_default<T: DefaultState>() -> Result<T, HookError> {
    Ok(T::default_state())
}

/// The fallback for the common data of a machine: `Default`.
#[diagnostic::on_unimplemented(
    message = "casty cannot make the common data `{Self}`",
    label = "has no `Default`, and no `#[init]` function makes it",
    note = "derive `Default`, or let the `#[init]` function of the initial state return both, `(Self, {Self})`"
)]
pub trait DefaultCommon: Sized {
    /// The common data of a machine that begins.
    fn default_common() -> Self;
}

#[diagnostic::do_not_recommend]
impl<T: Default> DefaultCommon for T {
    fn default_common() -> Self {
        T::default()
    }
}

/// The common data of a machine whose `#[init]` function does not make it.
pub fn common_by_default<T: DefaultCommon>() -> Result<T, HookError> {
    Ok(T::default_common())
}

/// The result of a fallible `#[init]` or other hook. Its error may travel to another node, so it
/// goes as text.
pub fn hook_result<T, E: fmt::Display>(made: Result<T, E>) -> Result<T, HookError> {
    made.map_err(|error| HookError(error.to_string()))
}

/// A value in place of code that was not generated, because a mistake is reported elsewhere.
///
/// # Panics
/// Always; but the crate that calls it does not compile.
pub fn not_compiled<T>() -> T {
    unreachable!("a macro reported an error here")
}
