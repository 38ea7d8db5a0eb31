//! The meaning of an annotated impl block or module. Keeps the user's tokens, for their spans.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use syn::{Attribute, Generics, Type, Visibility, ext::IdentExt};

use super::{kind::Kind, settings::Settings};
use crate::names;

/// An actor: its states, and the messages that can be sent to it.
pub(super) struct Behavior {
    pub(super) kind: Kind,
    pub(super) settings: Settings,
    /// The type's name, `Counter`.
    pub(super) ident: Ident,
    /// The type itself, `Counter` or `Store<T>`.
    pub(super) actor: Type,
    /// The generics of the impl block, without `Self`.
    pub(super) generics: Generics,
    pub(super) form: Form,
    /// The initial one first. Those of an impl block are one: the actor itself.
    pub(super) states: Vec<State>,
    /// The messages of all states together.
    pub(super) messages: Vec<Message>,
    /// The targets of each `OneOf` that the functions return.
    pub(super) one_ofs: Vec<Vec<Target>>,
    /// The states that share a name.
    pub(super) groups: Vec<Group>,
    /// The data that all states of a machine have in common.
    pub(super) common: Option<Common>,
    /// The policies that blocks for several states give them.
    pub(super) shared_policies: Vec<Policy>,
    /// The events of all states together, if the type is event-sourced.
    pub(super) events: Vec<Event>,
    /// What reads events of older versions.
    pub(super) upcasts: Vec<Upcast>,
}

/// States with a name of their own: `#[states(Live = Open, Extended)]`.
#[derive(Clone)]
pub(super) struct Group {
    pub(super) ident: Ident,
    /// In the order of the states.
    pub(super) members: Vec<Ident>,
}

/// The struct marked `#[state(common)]`.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) ident: Ident,
    pub(super) ty: Type,
    /// Whether it is still there after a failure.
    pub(super) survives: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An impl block: the type is the user's.
    OneState,
    /// A module: the type is generated, around the states.
    Machine {
        /// Whether the states had no error that would break the generated items.
        is_sound: bool,
    },
}

/// A state, and what it handles.
pub(super) struct State {
    pub(super) ident: Ident,
    pub(super) ty: Type,
    pub(super) handlers: Vec<Handler>,
    /// The message functions, valid or not.
    pub(super) written: Vec<Ident>,
    pub(super) init: Vec<Init>,
    /// Those of them whose next state is unknown.
    pub(super) lost: Vec<Ident>,
    /// Whether an `#[init]` was written, valid or not.
    pub(super) has_init: bool,
    pub(super) hooks: Vec<Hook>,
    pub(super) events: Vec<EventHandler>,
    /// The event functions, valid or not.
    pub(super) written_events: Vec<Ident>,
    pub(super) upcasts: Vec<Upcast>,
    /// What happens to messages that the state does not handle, where the attribute says so.
    pub(super) otherwise: Option<Policy>,
    /// The same for internal messages, where the attribute says so.
    pub(super) internal: Option<Policy>,
    /// The same for single messages.
    pub(super) exceptions: Vec<(Ident, Otherwise)>,
    /// Whether a block for several states, which was not read, may be for this one.
    pub(super) may_be_shared: bool,
    /// The `Active` of `impl Active`, if there is one.
    pub(super) block: Option<Ident>,
}

/// What happens to messages that a state does not handle, and where an attribute says so.
#[derive(Clone, Copy)]
pub(super) struct Policy {
    pub(super) otherwise: Otherwise,
    pub(super) span: Span,
    /// Whether a block for several states says so. Not each of them has to need it.
    pub(super) is_shared: bool,
}

/// A state's policy for messages that it does not handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Otherwise {
    Reject,
    Ignore,
    Stash,
}

/// A message of the protocol.
#[derive(Clone)]
pub(super) struct Message {
    /// The function's name.
    pub(super) ident: Ident,
    pub(super) variant: Ident,
    pub(super) wire_name: String,
    pub(super) docs: Vec<Attribute>,
    pub(super) deprecated: Option<Attribute>,
    pub(super) vis: Visibility,
    /// Its fields.
    pub(super) arguments: Vec<Argument>,
    pub(super) reply: Reply,
    pub(super) timeout: Option<Duration>,
    pub(super) internal: bool,
    /// Whether each state of a machine answers it, without a function of the user's.
    pub(super) is_built_in: bool,
}

/// A field of a message.
#[derive(Clone)]
pub(super) struct Argument {
    pub(super) ident: Ident,
    /// Without `Self`.
    pub(super) ty: Type,
    /// Docs and serde's, for the field.
    pub(super) attrs: Vec<Attribute>,
}

/// The value and the error that an ask returns.
#[derive(Clone)]
pub(super) enum Reply {
    Unit,
    Value(Box<Type>),
    Fallible {
        /// As written.
        whole: Box<Type>,
        /// The two arguments of `Result<T, E>`, if both are written.
        parts: Option<Box<(Type, Type)>>,
    },
}

/// An event of an event-sourced type.
#[derive(Clone)]
pub(super) struct Event {
    /// Its names and its arguments, as those of a message.
    pub(super) form: Message,
    pub(super) version: u32,
    /// Where the version is written, or the function's name.
    pub(super) version_span: Span,
}

/// A function that applies an event in one state.
pub(super) struct EventHandler {
    pub(super) event: Event,
    /// In the order of the function, after `self`.
    pub(super) parameters: Vec<Parameter>,
    /// Where it leads, if it takes the state.
    pub(super) next: Option<Next>,
    /// Whether the function can be called: an event with a mistake in its function still has its
    /// place in the enum.
    pub(super) is_sound: bool,
}

/// A function that makes today's events of one of an older version.
#[derive(Clone)]
pub(super) struct Upcast {
    pub(super) ident: Ident,
    /// The type that the function belongs to. `None`: it is a function of the module.
    pub(super) of_type: Option<Type>,
    pub(super) of: Upcasts,
    pub(super) from: u32,
    /// Where the version is written.
    pub(super) from_span: Span,
    pub(super) arguments: Vec<Argument>,
}

/// Which event an upcaster reads.
#[derive(Clone)]
pub(super) enum Upcasts {
    /// One of today, by its function.
    Present(Ident),
    /// One that has no function any more, by its stored name.
    Removed(String, Span),
}

/// A function that handles a message in one state.
pub(super) struct Handler {
    pub(super) message: Message,
    pub(super) is_async: bool,
    /// Whether it may change the state, or the common data.
    pub(super) changes: bool,
    /// In the order of the function, after `self`.
    pub(super) parameters: Vec<Parameter>,
    pub(super) outcome: Outcome,
    /// The timer that sends the message, while the state lasts.
    pub(super) timer: Option<Timer>,
    /// The function that says whether the handler may be called.
    pub(super) guard: Option<Guard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    /// The next of the message's fields.
    Argument,
    Context,
    /// The data that all states have in common, as `&mut Lot` or as `&Lot`.
    Common {
        is_mutable: bool,
    },
}

/// The timer of a state: `after = "30s"`, `every = Self::pace`.
#[derive(Clone)]
pub(super) struct Timer {
    /// Whether it goes on.
    pub(super) repeats: bool,
    pub(super) period: Period,
}

#[derive(Clone)]
pub(super) enum Period {
    Fixed {
        time: Duration,
        /// As written, `30s`.
        shown: String,
    },
    /// A function of the state.
    Function {
        ident: Ident,
        parameters: Vec<Parameter>,
    },
}

/// The guard of a handler: `guard = may_bid`.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) ident: Ident,
    pub(super) parameters: Vec<GuardParameter>,
    /// Whether the handler's own reply is the value of the `Result` that the asker gets.
    pub(super) wraps: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum GuardParameter {
    /// A field of the message, by its position, and where its type is written.
    Argument(usize, Span),
    Common,
}

/// The return type of a handler.
pub(super) enum Outcome {
    Reply,
    /// The reply comes from a promise, later.
    Later,
    /// The handler returns what is to be persisted, and the reply with it.
    Effect(Effect),
    /// The handler takes the state and returns the next one.
    Leaves(Transition),
}

/// How a command returns its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Plain,
    /// In a `Result`.
    Fallible,
    /// Its reply comes from a promise.
    Later,
}

/// The result of a handler that leaves its state.
pub(super) struct Transition {
    pub(super) next: Next,
    pub(super) answer: Answer,
    /// Whether it may hand the state back, with an error.
    pub(super) may_stay: bool,
}

/// The result besides the next state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Nothing,
    Reply,
    Later,
}

pub(super) enum Next {
    One(Target),
    /// As written in `OneOf<..>`.
    OneOf(Vec<Target>),
}

/// Where a transition leads.
#[derive(Clone)]
pub(super) enum Target {
    State(Ident),
    Stop,
}

/// The function that makes the first state.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its signature"
)]
pub(super) struct Init {
    pub(super) ident: Ident,
    pub(super) is_async: bool,
    pub(super) takes_context: bool,
    pub(super) is_fallible: bool,
    /// Whether it makes the common data as well.
    pub(super) makes_common: bool,
}

/// A function that runs at a turn of an actor's life.
pub(super) struct Hook {
    pub(super) turn: Turn,
    pub(super) ident: Ident,
    pub(super) is_async: bool,
    /// In the order of the function, after `self`.
    pub(super) parameters: Vec<HookParameter>,
    pub(super) is_fallible: bool,
    /// Whether it may change the state, or the common data.
    pub(super) changes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookParameter {
    Context,
    /// The data that all states have in common, as `&mut Lot` or as `&Lot`.
    Common {
        is_mutable: bool,
    },
    /// Which actor has ended.
    Terminated,
}

/// A turn of an actor's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Start,
    Stop,
    Restart,
    Terminated,
    /// The state is entered.
    Enter,
    /// The state has been left. The handler has taken it, so there is none to run on.
    Exit,
}

impl Turn {
    pub(super) const ALL: [Self; 6] = [
        Self::Start,
        Self::Stop,
        Self::Restart,
        Self::Terminated,
        Self::Enter,
        Self::Exit,
    ];

    /// Those that have a method of `Actor`.
    pub(super) const OF_ACTORS: [Self; 4] =
        [Self::Start, Self::Stop, Self::Restart, Self::Terminated];

    /// The attribute's name, and the name of the method of `Actor`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "on_start",
            Self::Stop => "on_stop",
            Self::Restart => "on_restart",
            Self::Terminated => "on_terminated",
            Self::Enter => "on_enter",
            Self::Exit => "on_exit",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|turn| turn.name() == name)
    }
}

impl Behavior {
    /// The type's wire name.
    pub(super) fn name(&self) -> String {
        self.settings
            .name
            .clone()
            .unwrap_or_else(|| self.ident.unraw().to_string())
    }

    /// The messages that others can send.
    pub(super) fn public(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| !message.internal)
    }

    /// The messages that a state has no valid handler for.
    pub(super) fn missing(&self, state: &State) -> Vec<&Message> {
        let handles = |message: &Message| {
            let mut handlers = state.handlers.iter();
            handlers.any(|handler| handler.message.variant == message.variant)
        };
        self.messages
            .iter()
            .filter(|message| !message.is_built_in && !handles(message))
            .collect()
    }

    /// The only state, or the initial state of a machine.
    pub(super) fn initial(&self) -> Option<&State> {
        self.states.first()
    }

    /// Whether no error would break the generated items.
    pub(super) fn is_sound(&self) -> bool {
        !matches!(self.form, Form::Machine { is_sound: false })
    }

    pub(super) fn is_machine(&self) -> bool {
        matches!(self.form, Form::Machine { .. })
    }

    /// Whether a timer of a state sends the message. It reaches no other state then.
    pub(super) fn is_of_a_timer(&self, message: &Message) -> bool {
        let mut timers = self.states.iter().flat_map(State::timers);
        timers.any(|(handler, _)| handler.message.variant == message.variant)
    }

    /// Whether a state has a timer.
    pub(super) fn has_timers(&self) -> bool {
        self.states
            .iter()
            .any(|state| state.timers().next().is_some())
    }

    /// Whether a state has a hook for the turn.
    pub(super) fn has_hook(&self, turn: Turn) -> bool {
        self.states.iter().any(|state| state.hook(turn).is_some())
    }
}

impl State {
    pub(super) fn new(ident: Ident, ty: Type) -> Self {
        Self {
            ident,
            ty,
            handlers: Vec::new(),
            written: Vec::new(),
            lost: Vec::new(),
            init: Vec::new(),
            has_init: false,
            hooks: Vec::new(),
            events: Vec::new(),
            written_events: Vec::new(),
            upcasts: Vec::new(),
            otherwise: None,
            internal: None,
            exceptions: Vec::new(),
            may_be_shared: false,
            block: None,
        }
    }

    /// The variants of events that have a function, and are not read in any state.
    pub(super) fn missing_events(states: &[Self]) -> Vec<Ident> {
        let written = states.iter().flat_map(|state| &state.written_events);
        let variants = written.map(names::variant);
        let is_missing = |variant: &Ident| {
            let mut events = states.iter().flat_map(|state| &state.events);
            !events.any(|handler| handler.event.form.variant == *variant)
        };
        variants.filter(is_missing).collect()
    }

    /// The handlers that a timer calls.
    pub(super) fn timers(&self) -> impl Iterator<Item = (&Handler, &Timer)> {
        self.handlers
            .iter()
            .filter_map(|handler| Some((handler, handler.timer.as_ref()?)))
    }

    pub(super) fn hook(&self, turn: Turn) -> Option<&Hook> {
        self.hooks.iter().find(|hook| hook.turn == turn)
    }

    /// What happens to a message that the state does not handle.
    pub(super) fn policy(&self, message: &Message) -> Option<Otherwise> {
        let exception = self
            .exceptions
            .iter()
            .find(|(name, _)| *name == message.ident);
        let internal = self.internal.filter(|_| message.internal);
        exception
            .map(|(_, otherwise)| *otherwise)
            .or_else(|| internal.or(self.otherwise).map(|policy| policy.otherwise))
    }
}

impl Message {
    /// One without arguments and without an answer, which is not sent.
    pub(super) fn bare(ident: Ident, variant: Ident, wire_name: String) -> Self {
        Self {
            ident,
            variant,
            wire_name,
            docs: Vec::new(),
            deprecated: None,
            vis: Visibility::Inherited,
            arguments: Vec::new(),
            reply: Reply::Unit,
            timeout: None,
            internal: false,
            is_built_in: false,
        }
    }
}

impl Argument {
    /// The field's name on the wire.
    pub(super) fn name(&self) -> String {
        self.ident.unraw().to_string()
    }
}

impl Otherwise {
    /// As written, with the variant that it means.
    pub(super) const ALL: [(&'static str, Self); 3] = [
        ("reject", Self::Reject),
        ("ignore", Self::Ignore),
        ("stash", Self::Stash),
    ];

    /// What is done to a message.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Ignore => "ignore",
            Self::Stash => "stash",
        }
    }

    pub(super) fn variant(self) -> &'static str {
        match self {
            Self::Reject => "Reject",
            Self::Ignore => "Ignore",
            Self::Stash => "Stash",
        }
    }
}

impl Handler {
    /// Whether its own reply is only the value of the `Result` that the asker gets.
    pub(super) fn wraps(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.wraps)
    }
}

impl Timer {
    /// As a table shows it: `after 30s`.
    pub(super) fn shown(&self) -> String {
        let word = if self.repeats { "every" } else { "after" };
        match &self.period {
            Period::Fixed { shown, .. } => format!("{word} {shown}"),
            Period::Function { ident, .. } => format!("{word} `{ident}`"),
        }
    }
}

impl Next {
    pub(super) fn targets(&self) -> &[Target] {
        match self {
            Self::One(target) => std::slice::from_ref(target),
            Self::OneOf(targets) => targets,
        }
    }
}

impl Target {
    /// The state's name, or `Stop`.
    pub(super) fn name(&self) -> String {
        match self {
            Self::State(ident) => ident.to_string(),
            Self::Stop => "Stop".to_owned(),
        }
    }
}
