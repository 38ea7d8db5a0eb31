//! The type and the state that a function belongs to.

use proc_macro2::Ident;
use syn::{Generics, Signature, Type};

use super::{
    kind::Kind,
    machine::Aliases,
    model::{Common, Group},
    stored::How,
};

/// What `Self` means in a function, and which context the function may take.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) kind: Kind,
    /// How the state is stored, if it is.
    pub(super) stored: Option<How>,
    /// `Self`: the actor, or one of its states.
    pub(super) this: &'a Type,
    /// The machine that the state belongs to.
    pub(super) machine: Option<&'a Machine>,
    /// The functions of the block, which options name.
    pub(super) functions: &'a [Signature],
}

/// The names of a machine that its functions may use.
pub(super) struct Machine {
    /// How the state is stored, if it is.
    pub(super) stored: Option<How>,
    /// The module, `cart`.
    pub(super) module: Ident,
    /// The type that is generated, `Cart`.
    pub(super) actor: Type,
    pub(super) states: Vec<Ident>,
    pub(super) generics: Generics,
    /// The names for several states.
    pub(super) groups: Vec<Group>,
    /// The data that all states have in common.
    pub(super) common: Option<Common>,
    /// The types that the module gives another name.
    pub(super) aliases: Aliases,
    /// Whether none of the states was an error.
    pub(super) is_sound: bool,
}

impl Scope<'_> {
    /// `Counter`, `Cart`.
    pub(super) fn actor(&self) -> &Type {
        self.machine.map_or(self.this, |machine| &machine.actor)
    }

    /// Whether the state changes by events alone.
    pub(super) fn is_event_sourced(&self) -> bool {
        self.stored == Some(How::Events)
    }

    /// The type of effects, as it is written here.
    pub(super) fn effect(&self) -> String {
        self.effect_of(Some("R"))
    }

    /// The same, with this reply or without one.
    pub(super) fn effect_of(&self, reply: Option<&str>) -> String {
        let owner = match self.machine {
            None => "Self".to_owned(),
            Some(machine) => crate::text::of(&machine.actor),
        };
        let reply = reply.map(|reply| format!(", {reply}"));
        format!("Effect<{owner}{}>", reply.unwrap_or_default())
    }

    /// The data that all states have in common.
    pub(super) fn common(&self) -> Option<&Common> {
        self.machine?.common.as_ref()
    }

    /// The function of this name in the block.
    pub(super) fn function(&self, name: &Ident) -> Option<&Signature> {
        self.functions.iter().find(|sig| sig.ident == *name)
    }

    /// How the context is written here.
    pub(super) fn context(&self) -> String {
        match self.machine {
            None => "&mut Context<Self>".to_owned(),
            Some(machine) => format!("&mut Context<{}>", crate::text::of(&machine.actor)),
        }
    }
}
