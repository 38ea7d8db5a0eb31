//! The macros of casty: [`macro@entity`], [`macro@actor`] and [`macro@message`].
//!
//! Use them through the crate `casty`, which re-exports them; what they write calls
//! `casty::__private`.
//!
//! For maintainers: the module `behavior` expands `#[entity]` and `#[actor]`, the module `message`
//! expands `#[message]` on a type. Each parses its item into a model that keeps the user's tokens,
//! checks the model, and expands the valid part of it. The macros report every independent error,
//! at the user's token, and always emit the user's own item.

mod behavior;
mod context;
mod errors;
mod fallback;
mod host;
mod message;
mod names;
mod options;
mod projection;
mod protocol;
mod self_type;
#[cfg(test)]
mod tests;
mod text;
mod transient;
mod types;

use proc_macro::TokenStream;

/// Makes a type an entity: an actor that is addressed by its type and an id, and lives on the node
/// that owns its shard.
///
/// The attribute stands above an inherent `impl` block. The functions marked `#[message]` in the
/// block are the messages of the entity. Above a module, the attribute makes [a state
/// machine](#state-machines).
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
/// - `enum CounterMsg { Increment { amount: i64 }, Value {} }`: the messages as values, with a wire
///   form;
/// - `struct CounterRef`: the typed proxy. It has a method for each message, with the same name,
///   arguments and docs, and the method `entity_id()`. A message's method returns a [`Call`], which
///   the caller tells or awaits;
/// - implementations of [`Actor`], [`Init`] and [`Entity`] for the type;
/// - a registration, for a type without generic parameters: every node whose binary links the code
///   can host the type. Each instance of a generic type is named by [`host!`](macro@host).
///
/// # Options of `#[entity]`
///
/// | option | default | meaning |
/// |---|---|---|
/// | `shards = 10` | 100 | number of shards that the entities are divided into, 1 to 65535; the same on every node |
/// | `name = "counter"` | the type's name | the wire name, the same on every node; at most 255 bytes |
/// | `mailbox = 256` | 1024 | capacity of one entity's mailbox, in messages |
/// | `stash = 100` | 1024 | how many messages a state machine keeps for its next state; any further message fails as `Full` |
/// | `overflow = reject` | `wait` | what happens to a message for a full mailbox: its sender waits (`wait`), its sender gets it back (`reject`), it becomes a dead letter (`drop_newest`), or the oldest message in the mailbox becomes a dead letter and makes room (`drop_oldest`) |
/// | `on_failure = resume` | `restart` | after a failure, the entity goes on with a fresh state (`restart`), goes on with the state it had (`resume`), or stops (`stop`) |
/// | `max_restarts = 3` | 10 | most restarts within `within`; the entity is not restarted after the next failure |
/// | `within = "30s"` | `"60s"` | the period over which failures are counted; more than zero |
/// | `backoff = "1s"` | `"100ms"` | the pause before the second restart in a row; it doubles with each further restart, and has jitter |
/// | `backoff_max = "1m"` | `"10s"` | the longest pause between restarts; at least `backoff` |
/// | `children = all_for_one` | `one_for_one` | whether the failure of a child restarts that child only, or all children |
/// | `passivate_after = "10m"` | never | an entity that gets no message for this long is passivated; the next message activates it again |
/// | `max_active = 10000` | no limit | number of active entities of the type on one node; above it, the least recently used are passivated |
/// | `migrate` | off | the state moves with its shard when nodes join or leave in an orderly way. The state must be `Serialize` and `Deserialize`; [`macro@message`] on the type derives both. `#[on_stop]` runs before the move and `#[on_start]` after it; `#[init]` does not run. Timers that message functions have begun go along with the time that is left, except for internal messages with arguments; those of `#[on_start]` are begun anew by it. Work of `ctx.pipe` ends: `ctx.ended_by_move()` says so in `#[on_start]`. Without this option, an entity starts with a fresh state on its new node |
/// | `record = 256` | off | the flight recorder keeps at least the last so many messages of each entity, 1 to 65536, with the state before the first of them: [`recorder`](https://docs.rs/casty/latest/casty/recorder/index.html). The state must be `Serialize` and `Deserialize`, as for `migrate` |
/// | `durable` | off | the state is stored: see [stored entities](#stored-entities) |
/// | `event_sourced` | off | the events that made the state are stored: see [stored entities](#stored-entities) |
/// | `snapshot_every = 50` | 100 | of a stored type: how many records follow a snapshot until the next one is made |
/// | `retain = "90d"` | `"all"` | of a stored type: what is kept of the records that a snapshot contains: `"all"`, nothing (`"snapshot"`), or those of a time, in `d`, `h`, `m`, `s` |
/// | `copies = 5` | the node's `Settings::copies` | of a stored type, where nodes keep copies of each other's shards (`SystemBuilder::data_dir`): how many nodes keep each shard, 1 to 7; the same on every node |
/// | `copies_min = 3` | the node's `Settings::copies_min` | of such a type: how many of these have to have stored what an entity does before anything of it gets out; at most `copies` |
/// | `role = "storage"` | every node | only nodes started with `.role("storage")` host the type; every node can send to it |
/// | `crate = path` | `::casty` | the path at which the crate sees casty |
///
/// Durations are written `"250ms"`, `"2s"`, `"1m"` or `"1h"`.
///
/// # Message functions
///
/// A `#[message]` function takes `&self` or `&mut self`, then its arguments. The function may be
/// `async`. It may also take `&mut Context<Self>`, at any position; the context is not part of the
/// message. The names of the arguments are the names of the message's fields. Arguments and replies
/// are owned values that can travel ([`Wire`]).
///
/// A function that returns `Result<T, E>`, or an alias named `Result`, answers its asker with `T`,
/// or with `E` as `AskError::Entity`. A function that returns
/// [`Later<R>`](https://docs.rs/casty/latest/casty/struct.Later.html) answers with `R` as soon as
/// the promise is fulfilled.
///
/// An `async` function that takes `&self` needs a state that is `Sync`. With `&mut self` the state
/// need not be `Sync`.
///
/// Docs and `#[serde(..)]` attributes of an argument are moved to the message's field. With
/// `#[serde(default)]`, an argument can be added while older nodes still send the message without
/// it. `#[serde(default)]` costs nothing; any other attribute of serde's makes the message enum use
/// serde's derives, which take longer to compile.
///
/// | option | meaning |
/// |---|---|
/// | `name = "inc"` | the wire name; by default the function's name |
/// | `timeout = "2s"` | how long an asker waits for the answer, unless the call says otherwise; `ms`, `s`, `m` or `h` |
/// | `internal` | the message has no method on the proxy and no wire form. It is for what an actor sends to itself: the tick of a timer, the result of background work. Its arguments need only be `Send + 'static`, and its function returns nothing |
///
/// # Visibility
///
/// `CounterMsg` and `CounterRef` are `pub`, within the module that they are in. A function with a
/// visibility (`pub`, `pub(crate)`) gives the proxy's method the same visibility. A function
/// without a visibility makes a `pub` method: the message is part of the protocol, and its handler
/// is a detail.
///
/// # First state, and hooks
///
/// The first state is made by `Default`, or by a function marked `#[init]`, of which there is at
/// most one. The function returns `Self`, or `Result<Self, E>` where `E` is `Display`. It may be
/// `async` and may take `&mut Context<Self>`.
///
/// | hook | runs |
/// |---|---|
/// | `#[on_start]` | before the first message of an activation |
/// | `#[on_stop]` | after the last message of an activation; not after a failure |
/// | `#[on_restart]` | after a failure, as soon as there is a state to go on with |
/// | `#[on_terminated]` | when a watched actor has ended; takes an argument `who: Terminated` that names it |
///
/// A hook takes `&self` or `&mut self`, may be `async`, and may take `&mut Context<Self>`. A hook
/// returns nothing, or `Result<(), E>` where `E` is `Display`. An `Err` is a failure of the actor,
/// like a panic. A type has at most one hook of each kind.
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
/// The macro names three types after the module `cart`: `Cart`, `CartMsg` and `CartRef`. They are
/// defined in the module, and re-exported beside it with the module's visibility. `Cart` is opaque:
/// `From` makes it from the initial state, and at any time it is in one of the states.
/// `Cart::behavior()` returns the transition table, which can be printed as a diagram. The table is
/// also part of the module's docs.
///
/// A state is a struct or enum marked `#[state]`. The state that the machine starts in is marked
/// `#[state(initial)]`. It is made by `Default`, or by an `#[init]` function in its block. Each
/// state has one `impl` block marked `#[behavior]`. The functions of the block are as described
/// above, but the context is `&mut Context<Cart>`. A hook runs in the state whose block it is in;
/// `#[on_start]` belongs to the initial state; with `migrate` each state may have one, which runs
/// after a move in that state.
///
/// A handler that takes `&self` or `&mut self` stays in its state. A handler that takes `self`
/// leaves its state, and returns one of these types:
///
/// | return type | meaning |
/// |---|---|
/// | `Next` | the next state; the asker gets `()` |
/// | `(Next, R)` | the next state and the reply; also `(Next, Later<R>)` |
/// | `Result<Next, Stay<Self, E>>` | the next state; `Err(Stay(self, error))` keeps the present state, and the asker gets `AskError::Entity(error)` |
/// | `Result<(Next, R), Stay<Self, E>>` | the next state and the reply, or the same error |
///
/// `Next` is a state of the module, `Self`, `Stop` to end the actor, or `OneOf<A, B, ..>` of two to
/// eight of these, with `Stop` last. `.into()` turns a state into a `OneOf`, and `.widen()` turns a
/// `OneOf` into a larger one. A state may hold a `OneOf` of others and return it, to go back where
/// it came from: a history state. A handler that returns the state it left has made a transition
/// too: the stashed messages are handled again. After `Stop` there is no state left, so
/// `#[on_stop]` does not run; after `ctx.stop()` it does. A handler that takes `self` and panics
/// leaves no state either; `on_failure = resume` then means `restart`.
///
/// The protocol of the machine is the union of the messages of its states. A message has the same
/// arguments, reply and options in every state. The docs of the first state that documents a
/// message become the message's docs. Every state handles every message, internal messages
/// included, or its `#[behavior]` says what happens to the messages that it does not handle:
///
/// | `#[behavior(..)]` | what happens to a message that the state does not handle |
/// |---|---|
/// | `otherwise = reject` | an asker gets `AskError::Unhandled`; a told message becomes a dead letter |
/// | `otherwise = ignore` | an asker gets `AskError::Unhandled`; a told message is dropped |
/// | `otherwise = stash` | the message is kept until the next transition; stashed messages stay in order |
/// | `internal = ..` | one of the three words, for internal messages; they are part of `otherwise` where this is left out |
/// | `reject(pay)`, `ignore(pay, view)`, `stash(pay)` | the same for single messages |
///
/// The results of `ctx.pipe` and of `ctx.schedule_once` often come when the state that began them
/// is left. `#[behavior(otherwise = reject, internal = ignore)]` drops them, and keeps rejecting
/// what others send. A timer that belongs to its state (below) does not come late.
///
/// Each machine answers the message `state_name` with the name of its state, unless it has a
/// message of that name. It is not part of the table.
///
/// The macro recognizes states, `OneOf`, `Stop`, `Stay`, `Later` and `Result` by their names, and
/// through aliases in the module: `type Next = OneOf<Open, Closed>;`.
///
/// ## What states share, and what belongs to each
///
/// ```ignore
/// #[entity]
/// #[states(Live = Open, Extended)]
/// pub mod auction {
///     use super::*;
///
///     #[state(common)]
///     #[derive(Default)]
///     pub struct Lot { bids: Vec<u64> }
///
///     #[state(initial)]
///     #[derive(Default)]
///     pub struct Open;
///
///     #[state]
///     pub struct Extended { times: u32 }
///
///     #[state]
///     pub struct Sold;
///
///     #[behavior(of(Live))]
///     impl _ {
///         fn may_bid(&self, cents: &u64, lot: &Lot) -> Result<(), BidError> { /* .. */ }
///
///         #[message(guard = may_bid)]
///         fn bid(self, cents: u64, lot: &mut Lot) -> Extended {
///             lot.bids.push(cents);
///             Extended { times: 1 }
///         }
///
///         #[message(internal, after = "30s")]
///         fn hammer(self) -> Sold { Sold }
///     }
///
///     #[behavior(of(all))]
///     impl _ {
///         #[message]
///         fn bids(&self, lot: &Lot) -> usize { lot.bids.len() }
///     }
///
///     #[behavior(otherwise = reject)]
///     impl Sold {
///         #[on_enter]
///         fn entered(&mut self, lot: &mut Lot, ctx: &mut Context<Auction>) { /* .. */ }
///     }
/// }
/// ```
///
/// | written | meaning |
/// |---|---|
/// | `#[behavior(of(Open, Extended))] impl _` | a block for several states; `of(all)` is for all of them. Each state has a copy of each function, unless its own block, or a block for fewer states, has one of that name. `otherwise` and `internal` hold for the states that do not say it themselves |
/// | `#[states(Live = Open, Extended)]` | above the module: a name for several states, for `of(Live)`, for groups that follow, and for the diagrams. Groups stand within each other, or beside each other |
/// | `#[state(common)]` | data that is there in every state. Handlers, hooks and guards take it by its type, `&mut Lot` or `&Lot`. It is made by `Default`, or with the first state by an `#[init]` function that returns `(Self, Lot)`; `From` makes the machine from such a pair. With `migrate` it moves too |
/// | `#[state(common, survives)]` | the same, and a restart after a failure keeps it |
/// | `#[message(internal, after = "30s")]` | a timer of the state: the message comes so long after the state was entered, unless the state is left before. A transition to the same state begins it anew. After a move the time that was left goes on |
/// | `#[message(internal, every = "1s")]` | the same, again and again while the state lasts |
/// | `after = Self::left` | the time is what `fn left(&self) -> Duration` says when the state is entered; it may take `&Lot` as well |
/// | `#[message(guard = may_bid)]` | `fn may_bid(&self, cents: &u64) -> Result<(), E>` is asked first. It takes arguments of the message by their names, and `&Lot`. With an error the handler is not called, the state stays, and the asker gets the error. The guard of an internal message returns `bool` |
/// | `Self::NAME` | the name of the state, also in a block for several states |
/// | `#[on_enter]` | a function that takes `&self` or `&mut self`, and at most the context and the common data. It runs when the state has been entered |
/// | `#[on_exit]` | a function without `self`, which a handler has taken. It runs when the state has been left |
///
/// Timers work in an `impl` block without states too: they begin with the activation.
///
/// A transition runs in this order: the guard, the handler, `#[on_exit]` of the old state; then the
/// next state is in place, `#[on_enter]` of that state runs, and its timers begin. Nothing of this
/// happens if the guard refuses, if the handler stays with `Stay`, or if it borrows its state. A
/// transition from a state to itself runs both hooks. `Stop` runs `#[on_exit]` only.
///
/// An activation runs `#[on_start]` first. Then `#[on_enter]` of the first state runs, but not
/// after a move with `migrate`, since that state was entered before. Then the timers begin.
///
/// In tests, `testkit::Machine` runs a machine as a plain value, with a clock that the test moves.
/// `Event::Transition` tells of each transition.
///
/// # Stored entities
///
/// The state of an entity ends with its activation, unless the type says otherwise.
///
/// With `#[entity(durable)]` the state is stored after each handler or hook that has changed it,
/// and before anything that the handler lets out, its reply included. Nothing else changes in the
/// type's code. The next activation, on any node, begins with the stored state; `#[init]` does not
/// run then. Only changed fields are written, and of a field that is a map or a struct only its
/// changed entries; a state that is new, or that has other fields than before, is written whole.
///
/// With `#[entity(event_sourced)]` the events are stored that made the state. Messages are
/// commands, which decide; events change.
///
/// ```ignore
/// use casty::prelude::*;
///
/// #[message]
/// #[derive(Default)]
/// pub struct Account {
///     balance: u64,
///     #[transient]
///     rates: Option<Rates>,
/// }
///
/// #[entity(event_sourced, snapshot_every = 100)]
/// impl Account {
///     #[message]
///     fn withdraw(&self, amount: u64) -> Result<Effect<Self, u64>, InsufficientFunds> {
///         if self.balance < amount {
///             return Err(InsufficientFunds { balance: self.balance });
///         }
///         Ok(Effect::persist(AccountEvent::Withdrawn { amount }).reply(|account| account.balance))
///     }
///
///     #[message]
///     fn balance(&self) -> u64 {
///         self.balance
///     }
///
///     /// The amount went out.
///     #[event]
///     fn withdrawn(&mut self, amount: u64) {
///         self.balance -= amount;
///     }
/// }
/// ```
///
/// A command takes `&self`, and what other message functions take; it may be `async`. It returns
/// `Effect<Self, R>`, or `Result<Effect<Self, R>, E>`; the asker gets `R`, or `E`. A command that
/// returns anything else only reads. An [`Effect`] names the events to persist, and what follows:
/// the reply, which is made of the state after the events.
///
/// An `#[event]` function takes `&mut self` (or `&self`) and the event's arguments, and returns
/// nothing. It is called when the event happens, and again whenever the entity is recovered: so it
/// does nothing but change the state. The functions make `enum AccountEvent { Withdrawn { amount:
/// u64 } }`. An event is stored with its name, its version, and its arguments by name, in
/// MessagePack. Docs and `#[serde(..)]` attributes of an argument are moved to the event's field.
///
/// The state before the first event is made by `Default` or `#[init]`, again at each recovery that
/// finds no snapshot: it has to be the same each time.
///
/// Hooks may take `&mut self` in a durable type. In an event-sourced one only `#[on_start]` and
/// `#[on_restart]` may, to prepare transient fields: what they change besides is in no event.
///
/// The state must be `Serialize` and `Deserialize`: of it a snapshot is made, so that not all
/// events have to be read again. Options `migrate` and `on_failure = resume` have no meaning for a
/// stored type: its state is where its shard is, and after a failure it is read again.
///
/// ## Event-sourced state machines
///
/// ```ignore
/// #[entity(event_sourced)]
/// pub mod cart {
///     // ..
///     #[behavior]
///     impl Active {
///         #[message]
///         fn checkout(&self) -> Effect<Cart, Receipt> {
///             let receipt = self.receipt();
///             Effect::persist(CartEvent::CheckedOut { receipt: receipt.clone() }).reply(|_| receipt)
///         }
///
///         #[event]
///         fn checked_out(self, receipt: Receipt) -> CheckedOut {
///             CheckedOut { receipt }
///         }
///     }
/// }
/// ```
///
/// Commands stand in each state, take `&self` and `&Lot`, and return an effect of the machine.
/// Transitions happen in events: an event function that takes `self` returns the next state, or a
/// `OneOf`. One that takes `&mut self` stays. It may also take `&mut Lot`. A state need not have
/// each event; one that is persisted in a state without it is a failure of the command.
///
/// After the events of a command that led to another state, `#[on_exit]` of the state where the
/// command began runs, then `#[on_enter]` of the state where they ended, and its timers begin.
/// These hooks take `&self` and `&Lot`. None of this happens when the entity is recovered: then
/// `#[on_start]` runs, which each state may have, and the timers begin.
///
/// ## Events of older versions
///
/// | written | meaning |
/// |---|---|
/// | `#[event(name = "withdrawn")]` | the stored name; by default the function's name. It is never changed |
/// | `#[event(version = 2)]` | the version of the arguments; by default 1 |
/// | `#[upcast(from = 1)] fn withdrawn_v1(euros: u64) -> AccountEvent` | makes today's event of one of version 1, whose arguments it takes. The event is named by the function, with the version behind it |
/// | `#[upcast(event = withdrawn, from = 1)]` | the same, for a function of any name |
/// | `#[upcast(removed = "noted", from = 1)]` | reads an event that there is no function for any more, by its stored name |
///
/// An upcaster returns an event, several as `Vec<AccountEvent>`, one or none as
/// `Option<AccountEvent>`, or nothing. It stands in the block of the type, or of a state; in a
/// module it may be a function by itself. Each older version has its own: version 1 is not read by
/// way of version 2. An argument that was added with `#[serde(default)]`, or dropped, needs no new
/// version.
///
/// ## Transient fields
///
/// A field marked `#[transient]` is made anew by `Default`, and is in no snapshot, record, move or
/// message: a cache, a handle. It works in types under [`macro@message`], and in states that derive
/// serde's traits themselves. In any other type that derives them, write `#[serde(skip)]`.
///
/// [`Actor`]: https://docs.rs/casty/latest/casty/trait.Actor.html
/// [`Call`]: https://docs.rs/casty/latest/casty/struct.Call.html
/// [`Effect`]: https://docs.rs/casty/latest/casty/struct.Effect.html
/// [`Entity`]: https://docs.rs/casty/latest/casty/trait.Entity.html
/// [`Init`]: https://docs.rs/casty/latest/casty/trait.Init.html
/// [`Wire`]: https://docs.rs/casty/latest/casty/trait.Wire.html
#[proc_macro_attribute]
pub fn entity(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::derive(behavior::Kind::Entity, options.into(), item.into()).into()
}

/// Makes a type a local actor: it is spawned by hand, and lives on that node until it stops.
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
/// The macro generates `GreeterMsg`, `GreeterRef` and an implementation of `Actor`, as
/// [`macro@entity`] does. The proxy has the method `stop()` in place of `entity_id()`. An actor is
/// spawned with its first state, so the type needs neither `Default` nor `#[init]`.
///
/// Above a module, the attribute makes a [state machine](macro@entity#state-machines), which is
/// spawned as `system.spawn(Door::from(Closed))`.
///
/// Message functions, `#[init]`, hooks and options are those of [`macro@entity`], with two
/// differences. An actor has no options `shards`, `passivate_after`, `max_active`, `migrate`,
/// `record`, `durable`, `event_sourced`, `snapshot_every`, `retain`, `copies`, `copies_min` and
/// `role`. With `on_failure = escalate`, an actor that fails stops, and the failure becomes one of
/// its parent.
#[proc_macro_attribute]
pub fn actor(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::derive(behavior::Kind::Actor, options.into(), item.into()).into()
}

/// Marks a message function, or makes a struct or an enum a type that can travel in a message.
///
/// A message function stands in an impl block annotated with [`macro@entity`] or [`macro@actor`];
/// [`macro@entity`] describes it.
///
/// On a struct or an enum, the attribute derives serde's `Serialize` and `Deserialize` through
/// casty, so that the crate needs no dependency on serde. `#[serde(..)]` attributes work as usual.
/// A field with `#[transient]` does not travel, and is made anew by `Default` where the value
/// arrives. The only option is `crate = path`, the path at which the crate sees casty.
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

/// Marks a state in a module annotated with [`macro@entity`] or [`macro@actor`]. See [state
/// machines](macro@entity#state-machines).
#[proc_macro_attribute]
pub fn state(_options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::misplaced("state", item.into()).into()
}

/// Gives several states of a machine a name: `#[states(Live = Open, Extended)]`, above a module
/// annotated with [`macro@entity`] or [`macro@actor`]. See [state
/// machines](macro@entity#state-machines).
#[proc_macro_attribute]
pub fn states(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::states(options.into(), item.into()).into()
}

/// Marks the `impl` block of a state in a module annotated with [`macro@entity`] or
/// [`macro@actor`]. See [state machines](macro@entity#state-machines).
#[proc_macro_attribute]
pub fn behavior(_options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::misplaced("behavior", item.into()).into()
}

/// Hosts an instance of a generic entity, under a name of its own on the wire.
///
/// An entity without type parameters is hosted by every node whose binary links it. Of a generic
/// one, each instance is named once, in the crate of the entity or of its first parameter. An
/// instance that is named nowhere has no references: `system.entity::<Breaker<Postgres>>("b")` does
/// not compile. Without a name, `host!(Breaker<Postgres>)` says that the program gives it one, with
/// `SystemBuilder::entity_as`.
///
/// ```ignore
/// use casty::prelude::*;
///
/// #[derive(Default)]
/// pub struct Shelf<T> {
///     things: Vec<T>,
/// }
///
/// #[entity]
/// impl<T: Wire + Default> Shelf<T> {
///     #[message]
///     fn put(&mut self, thing: T) {
///         self.things.push(thing);
///     }
/// }
///
/// casty::host!(Shelf<String> as "shelf/text");
/// ```
#[proc_macro]
pub fn host(tokens: TokenStream) -> TokenStream {
    host::expand(tokens.into()).into()
}

/// Makes a trait a protocol: messages that entities of several types understand.
///
/// For `trait Pausable` the macro generates `PausableRef`, a reference to an entity of any type
/// that speaks the protocol. An entity says that it does: `#[entity(protocols(Pausable))]`, and the
/// compiler compares its messages with those of the protocol. Its own reference becomes a
/// `PausableRef` with `.into()`. That travels in messages like any other reference.
///
/// ```ignore
/// use casty::prelude::*;
///
/// #[casty::protocol]
/// pub trait Pausable {
///     /// Pauses it. Whether it ran.
///     #[message]
///     fn pause(&self) -> bool;
/// }
///
/// #[derive(Default)]
/// pub struct Game {
///     paused: bool,
/// }
///
/// #[entity(protocols(Pausable))]
/// impl Game {
///     #[message]
///     fn pause(&mut self) -> bool {
///         !std::mem::replace(&mut self.paused, true)
///     }
/// }
///
/// let anything: PausableRef = node.entity::<Game>("g-1").into();
/// let ran = anything.pause().await?;
/// ```
///
/// The only option is `crate = path`, the path at which the crate sees casty.
#[proc_macro_attribute]
pub fn protocol(options: TokenStream, item: TokenStream) -> TokenStream {
    protocol::derive(options.into(), item.into()).into()
}

/// Makes a type a projection: it handles the events of an entity type, and keeps a view.
///
/// The attribute stands above an inherent `impl` block of a type that is `Clone`. A function marked
/// `#[on]` handles the event that it is named after; its arguments are those of the event, by name
/// and type. It also takes `of: &EntityId` and `at: &Occurrence` if it wants to, and last the
/// transaction of its store. It returns nothing, or a `Result<(), E>`, and may be `async`.
///
/// ```ignore
/// #[projection(of = Account)]
/// impl Balances {
///     #[store]
///     fn views(&self) -> &SqliteViews {
///         &self.views
///     }
///
///     /// In the transaction that also stores the offset: exactly once.
///     #[on]
///     async fn withdrawn(
///         &mut self,
///         of: &EntityId,
///         amount: u64,
///         tx: &mut Transaction<'_>,
///     ) -> Result<(), sqlx::Error> {
///         /* .. */
///     }
///
///     /// Nothing of the entity is to stay.
///     #[on_erased]
///     async fn erased(
///         &mut self,
///         of: &EntityId,
///         tx: &mut Transaction<'_>,
///     ) -> Result<(), sqlx::Error> {
///         /* .. */
///     }
/// }
/// ```
///
/// Each event of the entity has a function, or the attribute says `ignore_others`. `#[store]` marks
/// the function that says where the view and the offsets are. Without an `#[on_erased]` function,
/// what the view has of an entity stays when the entity is erased.
///
/// # Options
///
/// | option | default | meaning |
/// |---|---|---|
/// | `of = Account` | | the entity type; it is `event_sourced` |
/// | `name = "balances"` | the type's name | the name of its offsets in the store |
/// | `version = 2` | 1 | a version begins with the first event, beside the earlier ones: write its view to tables of its own |
/// | `poisoned = "park"` | `"stop"` | what becomes of an event that cannot be handled: its shard tries it again, after growing pauses, or it is put aside after three tries |
/// | `ignore_others` | | events without a function are passed over |
#[proc_macro_attribute]
pub fn projection(options: TokenStream, item: TokenStream) -> TokenStream {
    projection::derive(options.into(), item.into()).into()
}
