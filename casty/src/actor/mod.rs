//! Actors, complete on one node: mailbox, cell, context, references, asks.
//!
//! Nothing here knows of a cluster. How a message reaches an entity is the [`Route`]'s business,
//! how it reaches an actor on another node the [`Carrier`](runtime::Carrier)'s; `cluster`
//! implements both.

pub(crate) mod ask;
pub(crate) mod cell;
pub(crate) mod context;
pub(crate) mod contract;
pub(crate) mod handle;
pub(crate) mod message;
pub(crate) mod observer;
pub(crate) mod reference;
pub(crate) mod resources;
pub(crate) mod runtime;
pub(crate) mod spawn;
pub(crate) mod spy;
pub(crate) mod tasks;

pub use cell::hooks::HookError;
pub use contract::{Actor, FirstState, Handled, Init};
pub(crate) use contract::{Address, Envelope, Rejected};
pub use message::{Message, Reply};
pub use reference::Entity;
pub(crate) use reference::Route;
