//! The macros of casty: [`macro@entity`], [`macro@actor`] and [`macro@message`].
//!
//! Use them through the crate `casty`, which re-exports them; what they write calls
//! `casty::__private`.
//!
//! For those who change them: `behavior` is `#[entity]` and `#[actor]`, `message` is `#[message]`
//! on a type. Each parses into a model that keeps the user's tokens, checks it, and expands what is
//! left of it. Every error that does not follow from another is reported, at the user's own token,
//! and the user's own item is emitted in any case.

mod behavior;
mod context;
mod errors;
mod fallback;
mod message;
mod names;
mod options;
mod self_type;
#[cfg(test)]
mod tests;
mod text;
mod types;

use proc_macro::TokenStream;

/// Makes entities of a type: addressed by type and id, each living on the node that owns its shard.
///
/// It stands above an inherent `impl` block. Functions marked `#[message]` in it are what others
/// can ask of the entity. Above a module it makes [a state machine](#state-machines).
///
/// ```ignore
/// use casty::prelude::*;
///
/// #[derive(Default)]
/// pub struct Counter {
///     value: i64,
/// }
///
/// #[entity(shards = 10)]
/// impl Counter {
///     /// Adds `amount`.
///     #[message]
///     fn increment(&mut self, amount: i64) {
///         self.value += amount;
///     }
///
///     /// The current value.
///     #[message]
///     async fn value(&self) -> i64 {
///         self.value
///     }
/// }
/// ```
///
/// # What is generated
///
/// - `enum CounterMsg { Increment { amount: i64 }, Value {} }`, the messages as values, with a wire
///   form;
/// - `struct CounterRef`, the typed proxy: for each message a method with the same name, arguments
///   and docs, which returns a [`Call`] to be told or awaited; besides, `entity_id()`;
/// - implementations of [`Actor`], [`Init`] and [`Entity`] for the type;
/// - for a type without generic parameters, a registration: every node whose binary links the code
///   can host it. A generic one is registered by hand, instance by instance.
///
/// # Options of `#[entity]`
///
/// | option | default | meaning |
/// |---|---|---|
/// | `shards = 10` | 100 | into how many shards the entities are divided, 1 to 65535; the same on every node |
/// | `name = "counter"` | the type's name | the wire name, the same on every node; at most 255 bytes |
/// | `mailbox = 256` | 1024 | how many messages wait in one entity's mailbox |
/// | `stash = 100` | 1024 | how many messages a state machine keeps for its next state; one more fails as `Full` |
/// | `overflow = reject` | `wait` | what becomes of one more: its sender waits (`wait`) or gets it back (`reject`), or a message becomes a dead letter, this one (`drop_newest`) or the one that waited longest (`drop_oldest`) |
/// | `on_failure = resume` | `restart` | after a failure go on with a fresh state (`restart`), with the one there was (`resume`), or not at all (`stop`) |
/// | `max_restarts = 3` | 10 | one failure more than that, within `within`, and it is not restarted again |
/// | `within = "30s"` | `"60s"` | how far back failures count; more than zero |
/// | `backoff = "1s"` | `"100ms"` | the pause before the second restart in a row, doubled with each, with jitter |
/// | `backoff_max = "1m"` | `"10s"` | the longest pause; no shorter than `backoff` |
/// | `children = all_for_one` | `one_for_one` | whether a child that fails is restarted alone, or all children with it |
/// | `passivate_after = "10m"` | never | an entity without messages for so long is put to sleep; its next message wakes it |
/// | `max_active = 10000` | no limit | with more entities of the type awake on a node, those used least recently are put to sleep |
/// | `migrate` | the state stays | the state moves with its shard, when that goes to another node as planned: a node joins or leaves. It has to be `Serialize` and `Deserialize`; [`macro@message`] on the type adds both. `#[on_stop]` runs before the move and `#[on_start]` after it; `#[init]` does not run. Without it, an entity starts afresh on its new node |
/// | `role = "storage"` | every node | only nodes started with `.role("storage")` host it; the others send to it all the same |
/// | `crate = path` | `::casty` | where the crate sees casty |
///
/// Durations are written `"250ms"`, `"2s"`, `"1m"` or `"1h"`.
///
/// # Message functions
///
/// A `#[message]` function takes `&self` or `&mut self`, then its arguments. It may be `async`, and
/// may take `&mut Context<Self>` at any position, which is not part of the message. The arguments'
/// names are the names of the message's fields. Arguments and replies are owned values that can
/// travel ([`Wire`]). A function that returns `Result<T, E>`, also by an alias whose name is
/// `Result`, answers an asker with `T`, or with `E` as `AskError::Entity`. One that returns
/// [`Later<R>`](https://docs.rs/casty/latest/casty/struct.Later.html) answers like one that returns
/// `R`, once the promise is kept.
///
/// An `async` function that takes `&self` needs a state that is `Sync`; with `&mut self` it needs
/// not.
///
/// Docs and `#[serde(..)]` attributes on an argument go to the message's field: with
/// `#[serde(default)]`, an argument can be added while older nodes still send without it.
///
/// | option | meaning |
/// |---|---|
/// | `name = "inc"` | the wire name; by default the function's name |
/// | `timeout = "2s"` | how long an asker waits by default; `ms`, `s`, `m` or `h` |
/// | `internal` | no method on the proxy and no wire form: a timer's tick, the result of background work. The arguments need only be `Send + 'static`; nothing is returned |
///
/// # Visibility
///
/// `CounterMsg` and `CounterRef` are `pub`, as visible as the module they are in. A proxy method is
/// as visible as its function where the function says so (`pub`, `pub(crate)`); a function that
/// says nothing makes a `pub` method, because a message is part of the protocol while its handler
/// is a detail.
///
/// # First state, and hooks
///
/// The first state is `Default::default()`, or what the one function marked `#[init]` returns:
/// `Self`, or `Result<Self, E>` where `E` is `Display`. It may be `async` and take `&mut
/// Context<Self>`.
///
/// | hook | runs |
/// |---|---|
/// | `#[on_start]` | before the first message of an activation |
/// | `#[on_stop]` | after its last; not after a failure |
/// | `#[on_restart]` | after a failure, once there is a state to go on with |
/// | `#[on_terminated]` | when an actor ends that this one watches; takes who it was, `who: Terminated` |
///
/// A hook takes `&self` or `&mut self`, may be `async` and may take `&mut Context<Self>`. It
/// returns nothing, or `Result<(), E>` where `E` is `Display`: an `Err` is a failure of the actor,
/// like a panic. There is at most one of each.
///
/// # State machines
///
/// ```ignore
/// use casty::prelude::*;
///
/// #[entity(shards = 100)]
/// pub mod cart {
///     use super::*;
///
///     #[state(initial)]
///     #[derive(Default)]
///     pub struct Empty;
///
///     #[state]
///     pub struct Active { items: Vec<Item> }
///
///     #[behavior(otherwise = reject)]
///     impl Empty {
///         #[message]
///         fn add_item(self, item: Item) -> Active { Active { items: vec![item] } }
///     }
///
///     #[behavior]
///     impl Active {
///         #[message]
///         fn add_item(&mut self, item: Item) { self.items.push(item); }
///
///         #[message]
///         fn checkout(self, ctx: &mut Context<Cart>) -> (Empty, Receipt) { /* .. */ }
///     }
/// }
///
/// let cart = node.entity::<Cart>("c-1");
/// ```
///
/// The module makes the types `Cart`, `CartMsg` and `CartRef`, named after it, inside it and, with
/// its visibility, beside it. `Cart` is opaque: made of the initial state by `From`, and in one of
/// the states ever after. `Cart::behavior()` is the transition table, which can be printed as a
/// diagram; it stands in the docs as well.
///
/// A struct or enum marked `#[state]` is a state, one is `#[state(initial)]`: its `Default`, or the
/// one `#[init]` function in its block, makes the first state. Each state has one `impl` block
/// marked `#[behavior]`, whose functions are as in any other block, save that the context is `&mut
/// Context<Cart>`. Hooks run in the state in whose block they are; `#[on_start]` is for the initial
/// one.
///
/// A handler that takes `&self` or `&mut self` stays in its state. One that takes `self` leaves it,
/// and returns one of
///
/// | return type | meaning |
/// |---|---|
/// | `Next` | the next state; the asker gets `()` |
/// | `(Next, R)` | and the reply; also `(Next, Later<R>)` |
/// | `Result<Next, Stay<Self, E>>` | `Err(Stay(self, error))` stays, and the asker gets `AskError::Entity(error)` |
/// | `Result<(Next, R), Stay<Self, E>>` | both |
///
/// where `Next` is a state of the module, `Self`, `Stop` for the end, or `OneOf<A, B, ..>` of two
/// to four of these, `Stop` last; its values are made with `.into()`. To return to the same state
/// is a transition as well: what was stashed is handled again. After `Stop` there is no state left,
/// so `#[on_stop]` does not run; after `ctx.stop()` it does. A handler that takes `self` and panics
/// leaves none either, and `on_failure = resume` then means `restart`.
///
/// The protocol is what the states handle, taken together. A message has the same arguments, reply
/// and options in every state; its docs are those of the first state that has some. Every state
/// handles every message, or says above its block what happens otherwise, internal messages
/// included:
///
/// | `#[behavior(..)]` | what happens to other messages |
/// |---|---|
/// | `otherwise = reject` | the asker gets `AskError::Unhandled`; one that was told becomes a dead letter |
/// | `otherwise = ignore` | the same for an asker; one that was told is dropped |
/// | `otherwise = stash` | they are kept, in order, until the next transition |
///
/// The macro goes by names: an alias of a state, of `OneOf`, `Stop`, `Stay`, `Later` or `Result` by
/// another name is not recognized.
///
/// [`Actor`]: https://docs.rs/casty/latest/casty/trait.Actor.html
/// [`Call`]: https://docs.rs/casty/latest/casty/struct.Call.html
/// [`Entity`]: https://docs.rs/casty/latest/casty/trait.Entity.html
/// [`Init`]: https://docs.rs/casty/latest/casty/trait.Init.html
/// [`Wire`]: https://docs.rs/casty/latest/casty/trait.Wire.html
#[proc_macro_attribute]
pub fn entity(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::derive(behavior::Kind::Entity, options.into(), item.into()).into()
}

/// Makes actors of a type: each spawned by hand, living where it was spawned until it stops.
///
/// ```ignore
/// use casty::prelude::*;
///
/// struct Greeter {
///     greeting: String,
/// }
///
/// #[actor]
/// impl Greeter {
///     #[message]
///     fn greet(&self, name: String) -> String {
///         format!("{}, {name}!", self.greeting)
///     }
/// }
/// ```
///
/// It generates what [`macro@entity`] does, save what an id needs: `GreeterMsg`, `GreeterRef` with
/// a method for each message and `stop()`, and an implementation of `Actor`. An actor is spawned
/// with its first state, so it needs neither `Default` nor `#[init]`.
///
/// Above a module it makes a [state machine](macro@entity#state-machines), spawned as
/// `system.spawn(Door::from(Closed))`.
///
/// Message functions, `#[init]`, hooks and options are as for [`macro@entity`], save that an actor
/// has no `shards`, `passivate_after` or `max_active`, and that with `on_failure = escalate` it
/// stops and its parent fails of it.
#[proc_macro_attribute]
pub fn actor(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::derive(behavior::Kind::Actor, options.into(), item.into()).into()
}

/// Marks a message function, or makes a struct or an enum a type that can travel in a message.
///
/// On a function it belongs in an impl block annotated with [`macro@entity`] or [`macro@actor`],
/// and is explained there.
///
/// On a struct or an enum it derives serde's `Serialize` and `Deserialize` through casty, so that a
/// crate needs no dependency on serde. `#[serde(..)]` attributes work as ever. The only option is
/// `crate = path`, where the crate sees casty.
///
/// ```ignore
/// use casty::prelude::*;
///
/// #[message]
/// pub struct Item {
///     name: String,
///     #[serde(default)]
///     price: Option<u64>,
/// }
/// ```
#[proc_macro_attribute]
pub fn message(options: TokenStream, item: TokenStream) -> TokenStream {
    message::derive(options.into(), item.into()).into()
}

/// Marks a state, in a module annotated with [`macro@entity`] or [`macro@actor`]; explained there.
#[proc_macro_attribute]
pub fn state(_options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::misplaced("state", item.into()).into()
}

/// Marks the `impl` block of a state, in a module annotated with [`macro@entity`] or
/// [`macro@actor`]; explained there.
#[proc_macro_attribute]
pub fn behavior(_options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::misplaced("behavior", item.into()).into()
}
