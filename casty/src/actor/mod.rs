//! Actors, complete on one node: mailbox, cell, context, references, asks.
//!
//! Nothing here knows of a cluster. How a message reaches an entity is the [`Route`]'s business,
//! how it reaches an actor on another node the [`Carrier`](runtime::Carrier)'s; `cluster`
//! implements both.
//!
//! | file | what |
//! |---|---|
//! | [`contract`], [`context`], [`cell`] | what an actor implements, what it is given, where it runs |
//! | [`message`], [`ask`] | messages and replies; calls, and the way back for their answers |
//! | [`handle`] | a cell whose type is not known |
//! | [`hold`] | what a handler of a stored entity lets out, and when |
//! | [`reference`](mod@reference) | entities and single actors, as those that send to them know them |
//! | [`runtime`], [`spawn`] | the state that all actors of a node share; how an actor starts |
//! | [`outcome`] | what the senders of sends are told |
//! | [`tasks`] | the tasks in which cells run |
//! | [`observer`], [`spy`] | observers of the messages that actors handle |
//! | [`resources`] | values that a program gives its actors |
//!
//! The first three name each other: `Actor` names `Context`, which names `Cell`, which names
//! `Actor`. What they need names no type of actor; what they do not need stands above them.

pub(crate) mod ask;
pub(crate) mod cell;
pub(crate) mod context;
pub(crate) mod contract;
pub(crate) mod effect;
pub(crate) mod failures;
pub(crate) mod handle;
pub(crate) mod hold;
#[cfg(feature = "metrics")]
pub(crate) mod hot;
pub(crate) mod message;
#[cfg(feature = "metrics")]
pub(crate) mod meter;
pub(crate) mod observer;
pub(crate) mod outcome;
pub(crate) mod reference;
pub(crate) mod remind;
pub(crate) mod resources;
pub(crate) mod runtime;
pub(crate) mod spawn;
pub(crate) mod spy;
pub(crate) mod storage;
pub(crate) mod stored_promise;
pub(crate) mod tally;
pub(crate) mod tasks;

pub use cell::hooks::HookError;
pub use contract::{Actor, FirstState, Handled, Init};
pub(crate) use contract::{Address, Envelope, Rejected};
#[cfg(feature = "testkit")]
pub(crate) use contract::{Only, Take};
pub use message::{Message, Reply, ReplyCodec, ReplyVisitor};
pub use reference::Entity;
pub(crate) use reference::Route;
