//! Whether and how a type is stored.

use std::time::Duration;

/// How the state of a type is stored.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// It is not.
    None,
    /// As it is after each handler that has changed it.
    State,
    /// As the events that made it.
    Events,
}

/// What is kept of the records that a snapshot contains.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    All,
    /// Nothing.
    Snapshot,
    /// The records of so long.
    For(Duration),
}
