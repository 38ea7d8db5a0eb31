//! State machines: the types in the return types of their handlers, and the transition table.
//!
//! A handler that takes `self` by value leaves its state, and its return type names the next state.
//! [`OneOf`] names several possible next states, [`Stop`] ends the actor, and [`Stay`] is the error
//! of a transition that did not happen. [`Behavior`] is the table of all transitions.

mod diagram;

use std::{convert::Infallible, fmt};

/// One of several next states: `OneOf<Active, Empty>`, up to four. [`Stop`] is written last.
///
/// A value is made with `.into()`: the macros write `From` for each state that a function in the
/// module's `#[behavior]` blocks names in a `OneOf`. Elsewhere, write the variant:
/// `OneOf::First(active)`.
///
/// The present state may be one of them: the transition may then lead back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOf<A, B, C = Infallible, D = Infallible> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
    /// The third.
    Third(C),
    /// The fourth.
    Fourth(D),
}

/// The target of a transition that ends the actor. An entity starts afresh, in its initial state,
/// with the next message.
///
/// `#[on_stop]` does not run, because the handler has consumed the last state. It does run after
/// [`Context::stop`](crate::Context::stop), which keeps the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop;

impl<A> From<Stop> for OneOf<A, Stop> {
    fn from(stop: Stop) -> Self {
        Self::Second(stop)
    }
}

impl<A, B> From<Stop> for OneOf<A, B, Stop> {
    fn from(stop: Stop) -> Self {
        Self::Third(stop)
    }
}

impl<A, B, C> From<Stop> for OneOf<A, B, C, Stop> {
    fn from(stop: Stop) -> Self {
        Self::Fourth(stop)
    }
}

/// The error of a transition that did not happen, with the state to stay in:
/// `Err(Stay(self, error))`.
///
/// A handler that returns `Result<Next, Stay<Self, E>>` or `Result<(Next, R), Stay<Self, E>>`
/// answers its asker with `R`, or with `E` as [`AskError::Entity`](crate::AskError::Entity).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay<S, E>(
    /// The state, given back.
    pub S,
    /// The error that the asker gets.
    pub E,
);

/// The transition table of a state machine, as its `behavior()` returns it.
///
/// ```
/// use casty::prelude::*;
///
/// #[actor]
/// mod door {
///     use casty::prelude::*;
///
///     #[state(initial)]
///     pub struct Closed;
///
///     #[state]
///     pub struct Open;
///
///     #[behavior]
///     impl Closed {
///         #[message]
///         fn push(self) -> Open {
///             Open
///         }
///     }
///
///     #[behavior]
///     impl Open {
///         #[message]
///         fn push(self) -> OneOf<Closed, Stop> {
///             Closed.into()
///         }
///     }
/// }
///
/// assert_eq!(
///     Door::behavior().mermaid(),
///     "\
/// stateDiagram-v2
///     [*] --> Closed
///     Closed --> Open: push
///     Open --> Closed: push
///     Open --> [*]: push
/// "
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Behavior {
    /// The type's name.
    pub name: &'static str,
    /// Its states, the initial one first.
    pub states: &'static [State],
    /// What each state handles: by state, then in the order of the source.
    pub handlers: &'static [HandlerRow],
}

/// A state of a [`Behavior`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// Its type's name.
    pub name: &'static str,
    /// What happens to messages that it does not handle.
    pub otherwise: Option<Otherwise>,
    /// What happens to internal messages that it does not handle, where that is something else.
    pub internal: Option<Otherwise>,
}

/// What a state does with messages that it does not handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Otherwise {
    /// An asker gets [`AskError::Unhandled`](crate::AskError::Unhandled); a told message becomes a
    /// dead letter.
    Reject,
    /// An asker gets [`AskError::Unhandled`](crate::AskError::Unhandled); a told message is
    /// dropped.
    Ignore,
    /// The messages are kept, in order, until the next transition.
    Stash,
}

/// A message that a state handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerRow {
    /// The state's name.
    pub state: &'static str,
    /// The message's wire name.
    pub message: &'static str,
    /// The states that the handler may lead to; empty if it always stays. `Stop` ends the actor.
    pub targets: &'static [&'static str],
    /// The type of the reply, as the source writes it.
    pub reply: &'static str,
}

impl Behavior {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        states: &'static [State],
        handlers: &'static [HandlerRow],
    ) -> Self {
        Self {
            name,
            states,
            handlers,
        }
    }
}

impl State {
    #[doc(hidden)]
    pub const fn new(name: &'static str, otherwise: Option<Otherwise>) -> Self {
        Self {
            name,
            otherwise,
            internal: None,
        }
    }

    #[doc(hidden)]
    pub const fn with_internal(self, internal: Otherwise) -> Self {
        Self {
            internal: Some(internal),
            ..self
        }
    }
}

impl HandlerRow {
    #[doc(hidden)]
    pub const fn new(
        state: &'static str,
        message: &'static str,
        targets: &'static [&'static str],
        reply: &'static str,
    ) -> Self {
        Self {
            state,
            message,
            targets,
            reply,
        }
    }
}

impl fmt::Display for Otherwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reject => "reject",
            Self::Ignore => "ignore",
            Self::Stash => "stash",
        })
    }
}
