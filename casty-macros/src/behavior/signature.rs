//! Rules for all functions that casty calls.

use quote::ToTokens;
use syn::{Attribute, GenericParam, PatType, Receiver, ReceiverKind, Signature, Type};

use super::scope::Scope;
use crate::{
    context::{self, ContextParameter},
    errors::Errors,
    names, text, types,
};

/// Why a function is not generic.
#[derive(Clone, Copy)]
pub(crate) enum OneForm {
    Message,
    Event,
    /// Nothing is made of its arguments.
    Call,
}

impl OneForm {
    fn reason(self) -> &'static str {
        match self {
            Self::Message => "a message has one form on the wire",
            Self::Event => "an event has one stored form",
            Self::Call => "casty calls it with the types that it has",
        }
    }
}

/// Reports what no function that casty calls may be: `const`, `unsafe`, `extern`, generic.
pub(crate) fn plain_function(sig: &Signature, what: &str, form: OneForm, errors: &mut Errors) {
    if let Some(constness) = &sig.constness {
        errors.at(
            constness,
            format!("{what} runs in an actor, at run time: drop `const`"),
        );
    }
    if !matches!(sig.safety, syn::Safety::Default) {
        errors.at(
            &sig.safety,
            format!("{what} is called by casty, which knows nothing of its preconditions: drop this and make it safe"),
        );
    }
    if let Some(abi) = &sig.abi {
        errors.at(
            abi,
            format!("{what} is called from Rust: drop `{}`", text::of(abi)),
        );
    }
    if let Some(variadic) = &sig.variadic {
        errors.at(
            variadic,
            format!("{what} has a fixed list of arguments: drop `...`"),
        );
    }
    for parameter in &sig.generics.params {
        let advice = match parameter {
            GenericParam::Lifetime(_) => "write owned types and drop this lifetime",
            GenericParam::Type(_) | GenericParam::Const(_) => {
                "write the concrete type, or make the whole type and its impl block generic"
            }
        };
        errors.at(
            parameter,
            format!(
                "{what} cannot be generic, since {}: {advice}",
                form.reason()
            ),
        );
    }
    if let Some(clause) = &sig.generics.where_clause {
        errors.at(
            clause,
            format!(
                "{what} cannot have bounds of its own: move the `where` clause to the impl block"
            ),
        );
    }
}

/// Reports that something is there in some builds only, with the reason why it cannot be.
pub(super) fn no_conditions(attrs: &[Attribute], reason: &str, errors: &mut Errors) {
    for attribute in attrs {
        if attribute.path().is_ident("cfg") {
            errors.at(attribute, reason);
        }
    }
}

/// Whether a type names a type or a lifetime that is a parameter of the function itself.
pub(super) fn names_own_generics(sig: &Signature, ty: &Type) -> bool {
    let mut parameters = sig.generics.params.iter();
    parameters.any(|parameter| {
        let name = match parameter {
            GenericParam::Lifetime(it) => &it.lifetime.ident,
            GenericParam::Type(it) => &it.ident,
            GenericParam::Const(it) => &it.ident,
        };
        names::occurs(name.to_string(), ty.to_token_stream())
    })
}

/// The receivers that lend the state.
pub(super) const LENT: &str = "`&self` or `&mut self`";

/// Requires a receiver that lends the state. `right` is how it is written here, and `others` names
/// further receivers that are allowed.
pub(super) fn borrowed_self(
    receiver: &Receiver,
    reason: &str,
    (right, others): (&str, &str),
    errors: &mut Errors,
) {
    match &receiver.kind {
        ReceiverKind::Reference(_, None, _) => {}
        ReceiverKind::Reference(_, Some(lifetime), _) => errors.at(
            lifetime,
            format!("the state is lent for the call only: write {right}, without a lifetime"),
        ),
        _ => errors.at(receiver, format!("{reason}: write {right}{others}")),
    }
}

/// Whether the function may change its state, or takes it.
pub(super) fn changes(sig: &Signature) -> bool {
    sig.receiver().is_some_and(is_changed)
}

/// The same of a receiver.
pub(super) fn is_changed(receiver: &Receiver) -> bool {
    match &receiver.kind {
        ReceiverKind::Reference(_, _, mutability) => mutability.is_some(),
        ReceiverKind::Value => true,
        _ => false,
    }
}

/// Whether a parameter is the context. Reports a second context, and a context that is not `&mut`.
pub(super) fn is_context(
    scope: Scope<'_>,
    input: &PatType,
    has_context: &mut bool,
    errors: &mut Errors,
) -> bool {
    let Some(taken) = context::parameter(&input.ty, scope.actor()) else {
        return false;
    };
    let right = scope.context();
    match taken {
        ContextParameter::Wrong => errors.at(
            &input.ty,
            format!("the context is taken by `&mut`: write `{right}`"),
        ),
        ContextParameter::Mutable if *has_context => errors.at(
            input,
            format!("there is one context: drop this second `{right}`"),
        ),
        ContextParameter::Mutable => of_the_state(scope, &input.ty, errors),
    }
    *has_context = true;
    true
}

/// Whether a parameter is the data that all states have in common, and whether it is lent to be
/// changed. Reports a second one, one that is taken by value, and one that is lent to be changed
/// where the function `only_looks`, with the reason.
pub(super) fn common(
    scope: Scope<'_>,
    input: &PatType,
    has_common: &mut bool,
    only_looks: Option<&str>,
    errors: &mut Errors,
) -> Option<bool> {
    let common = &scope.common()?.ident;
    let names = |ty: &Type| types::last_segment(ty).is_some_and(|last| last.ident == *common);
    let is_mutable = match types::bare(&input.ty) {
        Type::Reference(lent) if names(&lent.elem) => Some(lent.mutability.is_some()),
        ty if names(ty) => None,
        _ => return None,
    };
    if std::mem::replace(has_common, true) {
        errors.at(
            input,
            format!("there is one `{common}`: drop this second parameter"),
        );
    } else if is_mutable.is_none() {
        let right = match only_looks {
            None => format!("`&mut {common}`, or `&{common}`"),
            Some(_) => format!("`&{common}`"),
        };
        errors.at(
            &input.ty,
            format!("`{common}` belongs to the whole machine and is lent: write {right}"),
        );
    } else if let (Some(true), Some(reason)) = (is_mutable, only_looks) {
        errors.at(
            &input.ty,
            format!("{reason}: take this by `&`, without `mut`"),
        );
    }
    Some(is_mutable.unwrap_or(false))
}

/// Reports `Context<Self>` in a state: the context belongs to the machine.
fn of_the_state(scope: Scope<'_>, ty: &Type, errors: &mut Errors) {
    let Some(of) = context::of(ty).filter(|_| scope.machine.is_some()) else {
        return;
    };
    if types::is(of, scope.this) {
        errors.at(
            of,
            format!(
                "`{}` is a state here, and the context is the {}'s, whichever state it is in: write `{}`",
                text::of(of),
                scope.kind.noun(),
                scope.context()
            ),
        );
    }
}
