//! State machines: the types in the return types of their handlers, and the transition table.
//!
//! A handler that takes `self` by value leaves its state, and its return type names the next state.
//! [`OneOf`] names several possible next states, [`Stop`] ends the actor, and [`Stay`] is the error
//! of a transition that did not happen. [`Behavior`] is the table of all transitions.

mod diagram;

use std::{convert::Infallible, fmt};

pub use casty_macros::states;

/// One of several next states: `OneOf<Active, Empty>`, up to eight. [`Stop`] is written last.
///
/// A value is made with `.into()`: the macros write `From` for each state that a function of the
/// module names in a `OneOf`. Elsewhere, write the variant: `OneOf::First(active)`. A `OneOf` that
/// names fewer of the states, or the same in another order, becomes a larger one with
/// [`widen`](Self::widen).
///
/// The present state may be one of them: the transition may then lead back to it. A module may give
/// a `OneOf` a name, `type Next = OneOf<Active, Empty>;`, and its functions return that.
///
/// A state can hold a `OneOf` of others: `struct Paused { was: OneOf<Idle, Busy> }` goes back to
/// where it came from by `fn resume(self) -> OneOf<Idle, Busy> { self.was }`. Statecharts call this
/// a history state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOf<
    A,
    B,
    C = Infallible,
    D = Infallible,
    E = Infallible,
    F = Infallible,
    G = Infallible,
    H = Infallible,
> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
    /// The third.
    Third(C),
    /// The fourth.
    Fourth(D),
    /// The fifth.
    Fifth(E),
    /// The sixth.
    Sixth(F),
    /// The seventh.
    Seventh(G),
    /// The eighth.
    Eighth(H),
}

/// A conversion into a [`OneOf`] that names the same states, and maybe more of them, in any order.
///
/// The macros implement it for the `OneOf`s that the functions of a module name. `M` is the machine
/// that the states belong to; the compiler finds it.
///
/// ```
/// use casty::prelude::*;
///
/// #[actor]
/// mod lift {
///     use casty::prelude::*;
///
///     #[state(initial)]
///     pub struct Idle;
///
///     #[state]
///     pub struct Moving;
///
///     #[state]
///     pub struct Broken;
///
///     fn next(floor: u8) -> OneOf<Moving, Idle> {
///         if floor == 0 { Idle.into() } else { Moving.into() }
///     }
///
///     #[behavior(of(all))]
///     impl _ {
///         #[message]
///         fn call(self, floor: u8) -> OneOf<Idle, Moving, Broken> {
///             if floor > 9 { Broken.into() } else { next(floor).widen() }
///         }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not widen to what is expected here",
    label = "may be a state that is not expected here, or is named by no function of the module",
    note = "a `OneOf` widens to one that names all its states, in any order, and maybe more: name them all where it is to go, \
            as in `-> OneOf<A, B, C>`"
)]
pub trait Widen<T, M> {
    /// The same state, as one of those of `T`.
    fn widen(self) -> T;
}

impl<A, B, C, D, E, F, G, H> OneOf<A, B, C, D, E, F, G, H> {
    /// The same state, as one of those of a `OneOf` that names these states, in any order, and
    /// maybe more. See [`Widen`].
    pub fn widen<T, M>(self) -> T
    where
        Self: Widen<T, M>,
    {
        Widen::widen(self)
    }
}

/// The name of a state: `Self::NAME` in its block, or in one for several states.
///
/// The macros implement it for each state. From outside of a machine, its message `state_name`
/// answers with the name of the present state.
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
///     #[behavior(of(all))]
///     impl _ {
///         #[message]
///         fn describe(&self) -> String {
///             format!("it is {}", Self::NAME)
///         }
///     }
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
///         fn push(&self) {}
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let system = ActorSystem::local("app");
/// let door = system.spawn(Door::from(door::Closed));
/// assert_eq!(door.push().await, Ok(()));
/// assert_eq!(door.describe().await.as_deref(), Ok("it is Open"));
/// # }
/// ```
pub trait StateName {
    /// The name of its type.
    const NAME: &'static str;
}

/// What may fail before a transition, in a handler that takes its state: implemented for each state
/// that a handler may stay in, as its return type says with [`Stay`].
pub trait OrStay: Sized {
    /// Calls `f` with the state. An error of `f` is that of a transition which does not happen: `?`
    /// stays in the state and gives the asker the error.
    ///
    /// ```
    /// use casty::prelude::*;
    ///
    /// #[actor]
    /// mod purse {
    ///     use casty::prelude::*;
    ///
    ///     #[state(initial)]
    ///     pub struct Full { pub cents: u64 }
    ///
    ///     #[state]
    ///     pub struct Empty;
    ///
    ///     #[behavior]
    ///     impl Full {
    ///         #[message]
    ///         fn spend(self, cents: u64) -> Result<OneOf<Full, Empty>, Stay<Self, String>> {
    ///             let missing = || format!("{cents} is too much");
    ///             let (me, left) = self.or_stay(|me| me.cents.checked_sub(cents).ok_or_else(missing))?;
    ///             Ok(if left == 0 { Empty.into() } else { Full { cents: left }.into() })
    ///         }
    ///     }
    ///
    ///     #[behavior(otherwise = reject)]
    ///     impl Empty {}
    /// }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let system = ActorSystem::local("app");
    /// let purse = system.spawn(Purse::from(purse::Full { cents: 5 }));
    /// let refused = purse.spend(7).await;
    /// assert_eq!(refused, Err(AskError::Entity("7 is too much".to_owned())));
    /// assert_eq!(purse.spend(5).await, Ok(()));
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of `f`, with the state to stay in.
    fn or_stay<T, E>(
        self,
        f: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<(Self, T), Stay<Self, E>> {
        let mut state = self;
        match f(&mut state) {
            Ok(value) => Ok((state, value)),
            Err(error) => Err(Stay(state, error)),
        }
    }
}

/// The target of a transition that ends the actor. An entity starts afresh, in its initial state,
/// with the next message.
///
/// `#[on_stop]` does not run, because the handler has consumed the last state. It does run after
/// [`Context::stop`](crate::Context::stop), which keeps the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop;

/// `Stop` becomes the last of a `OneOf`.
macro_rules! stop_is_the_last {
    ($($variant:ident($($states:ident),*)),*) => {$(
        impl<$($states),*> From<Stop> for OneOf<$($states,)* Stop> {
            fn from(stop: Stop) -> Self {
                Self::$variant(stop)
            }
        }
    )*};
}

stop_is_the_last!(
    Second(A),
    Third(A, B),
    Fourth(A, B, C),
    Fifth(A, B, C, D),
    Sixth(A, B, C, D, E),
    Seventh(A, B, C, D, E, F),
    Eighth(A, B, C, D, E, F, G)
);

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

/// A state that an error alone gives back: there is none. It has the compiler say what to write for
/// a `?` in a handler that has taken its state. Of these texts, a `?` shows the label.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "an error alone does not give the state `{Self}` back",
    label = "this error has no state to stay in: write `let (me, value) = self.or_stay(|me| me.check())?`, \
             or `return Err(Stay(self, error))`"
)]
pub trait GivenBack {
    /// Never called.
    fn given_back() -> Self;
}

#[doc(hidden)]
impl<S: GivenBack, E> From<E> for Stay<S, E> {
    fn from(error: E) -> Self {
        Self(S::given_back(), error)
    }
}

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
    /// The states that share a name.
    pub groups: &'static [Group],
}

/// States that share a name: `#[states(Live = Open, Extended)]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// The name.
    pub name: &'static str,
    /// The names of the states.
    pub states: &'static [&'static str],
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
    /// What happens to single messages that it does not handle, where that is something else.
    pub exceptions: &'static [(&'static str, Otherwise)],
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
    /// The message's wire name, or the event's stored name.
    pub message: &'static str,
    /// The states that the handler may lead to; empty if it always stays. `Stop` ends the actor.
    pub targets: &'static [&'static str],
    /// The type of the reply, as the source writes it.
    pub reply: &'static str,
    /// Whether only the actor itself sends the message.
    pub internal: bool,
    /// The state's timer that sends it: `after 30s`.
    pub timer: Option<&'static str>,
    /// The function that says whether the handler may be called.
    pub guard: Option<&'static str>,
    /// Whether it is an event of an event-sourced machine. There transitions happen in events, and
    /// messages are commands that persist them.
    pub event: bool,
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
            groups: &[],
        }
    }

    #[doc(hidden)]
    pub const fn with_groups(self, groups: &'static [Group]) -> Self {
        Self { groups, ..self }
    }
}

impl Group {
    #[doc(hidden)]
    pub const fn new(name: &'static str, states: &'static [&'static str]) -> Self {
        Self { name, states }
    }
}

impl State {
    #[doc(hidden)]
    pub const fn new(name: &'static str, otherwise: Option<Otherwise>) -> Self {
        Self {
            name,
            otherwise,
            internal: None,
            exceptions: &[],
        }
    }

    #[doc(hidden)]
    pub const fn with_exceptions(self, exceptions: &'static [(&'static str, Otherwise)]) -> Self {
        Self { exceptions, ..self }
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
            internal: false,
            timer: None,
            guard: None,
            event: false,
        }
    }

    #[doc(hidden)]
    pub const fn event(self) -> Self {
        Self {
            event: true,
            ..self
        }
    }

    #[doc(hidden)]
    pub const fn internal(self) -> Self {
        Self {
            internal: true,
            ..self
        }
    }

    #[doc(hidden)]
    pub const fn with_timer(self, timer: &'static str) -> Self {
        Self {
            timer: Some(timer),
            ..self
        }
    }

    #[doc(hidden)]
    pub const fn with_guard(self, guard: &'static str) -> Self {
        Self {
            guard: Some(guard),
            ..self
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
