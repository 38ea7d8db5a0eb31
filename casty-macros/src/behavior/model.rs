//! What an annotated impl block means. Keeps the user's tokens, for their spans.

use std::time::Duration;

use proc_macro2::Ident;
use syn::{Attribute, Generics, Type, Visibility};

use super::settings::Settings;

/// Which attribute stands above the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Addressed by type and id.
    Entity,
    /// Spawned by hand.
    Actor,
}

impl Kind {
    /// As the user writes it.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Entity => "#[entity]",
            Self::Actor => "#[actor]",
        }
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Actor => "actor",
        }
    }

    /// With its article.
    pub(crate) fn a_noun(self) -> &'static str {
        match self {
            Self::Entity => "an entity",
            Self::Actor => "an actor",
        }
    }
}

/// An actor with one state.
pub(super) struct Behavior {
    pub(super) kind: Kind,
    pub(super) settings: Settings,
    /// The type's name, `Counter`.
    pub(super) ident: Ident,
    /// The type itself, `Counter` or `Store<T>`.
    pub(super) actor: Type,
    /// Of the impl block, without `Self`.
    pub(super) generics: Generics,
    pub(super) handlers: Vec<Handler>,
    pub(super) init: Vec<Init>,
    pub(super) hooks: Vec<Hook>,
    /// Whether message functions were written, valid or not.
    pub(super) has_messages: bool,
    /// Whether an `#[init]` was written, valid or not.
    pub(super) has_init: bool,
}

/// A message and the function that handles it.
pub(super) struct Handler {
    pub(super) ident: Ident,
    pub(super) variant: Ident,
    pub(super) wire_name: String,
    pub(super) docs: Vec<Attribute>,
    pub(super) deprecated: Option<Attribute>,
    pub(super) vis: Visibility,
    pub(super) is_async: bool,
    /// In the order of the function, after `self`.
    pub(super) parameters: Vec<Parameter>,
    pub(super) reply: Reply,
    /// Whether the reply comes from a promise.
    pub(super) is_later: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) internal: bool,
}

pub(super) enum Parameter {
    Argument(Box<Argument>),
    Context,
}

/// A field of the message.
pub(super) struct Argument {
    pub(super) ident: Ident,
    /// Without `Self`.
    pub(super) ty: Type,
    /// Docs and serde's, for the field.
    pub(super) attrs: Vec<Attribute>,
}

pub(super) enum Reply {
    Unit,
    Value(Box<Type>),
    Fallible {
        /// As written.
        whole: Box<Type>,
        /// What the two arguments of `Result<T, E>` are, where both are written.
        parts: Option<Box<(Type, Type)>>,
    },
}

/// The function that makes the first state.
pub(super) struct Init {
    pub(super) ident: Ident,
    pub(super) is_async: bool,
    pub(super) takes_context: bool,
    pub(super) is_fallible: bool,
}

/// A function that runs at a turn of an actor's life.
pub(super) struct Hook {
    pub(super) turn: Turn,
    pub(super) ident: Ident,
    pub(super) is_async: bool,
    /// In the order of the function, after `self`.
    pub(super) parameters: Vec<HookParameter>,
    pub(super) is_fallible: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookParameter {
    Context,
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
}

impl Turn {
    pub(super) const ALL: [Self; 4] = [Self::Start, Self::Stop, Self::Restart, Self::Terminated];

    /// The attribute's name, and the name of the method of `Actor`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "on_start",
            Self::Stop => "on_stop",
            Self::Restart => "on_restart",
            Self::Terminated => "on_terminated",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|turn| turn.name() == name)
    }
}

impl Behavior {
    /// The type's wire name.
    pub(super) fn name(&self) -> String {
        use syn::ext::IdentExt;
        self.settings
            .name
            .clone()
            .unwrap_or_else(|| self.ident.unraw().to_string())
    }

    /// The messages that others can send.
    pub(super) fn public(&self) -> impl Iterator<Item = &Handler> {
        self.handlers.iter().filter(|handler| !handler.internal)
    }
}

impl Handler {
    /// The fields of its message.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.parameters
            .iter()
            .filter_map(|parameter| match parameter {
                Parameter::Argument(argument) => Some(&**argument),
                Parameter::Context => None,
            })
    }
}
