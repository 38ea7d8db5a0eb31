//! Reads the functions that an actor's life calls: `#[init]`, `#[on_start]` and the other hooks.

use syn::{Attribute, FnArg, ImplItemFn, Meta, ReturnType, Type};

use super::{
    kind::Kind,
    model::{Hook, HookParameter, Init, Turn},
    scope::Scope,
    signature,
};
use crate::{
    errors::Errors,
    text,
    types::{self, is_self},
};

fn no_options(attribute: &Attribute, name: &str, errors: &mut Errors) {
    if !matches!(attribute.meta, Meta::Path(_)) {
        errors.at(
            attribute,
            format!("`#[{name}]` takes no options: write just `#[{name}]`"),
        );
    }
}

/// How a function gets what it cannot take as an argument.
const RESOURCE: &str = "a resource of the node is `ctx.resource::<T>()`";

pub(super) fn init(
    function: &ImplItemFn,
    attribute: &Attribute,
    scope: Scope<'_>,
    errors: &mut Errors,
) -> Option<Init> {
    let sig = &function.sig;
    let before = errors.count();
    no_options(attribute, "init", errors);
    signature::plain_function(sig, "an `#[init]` function", errors);
    if let Some(receiver) = sig.receiver() {
        errors.at(
            receiver,
            "`#[init]` makes the first state, so there is no `self` yet: drop it",
        );
    }
    let reason = match scope.kind {
        Kind::Entity => {
            "the entity's id is `ctx.entity_id()`, a resource of its node is `ctx.resource::<T>()`"
        }
        Kind::Actor => RESOURCE,
    };
    let takes_context = only_context(function, scope, reason, errors);
    let is_fallible = made(&sig.output, scope.this);
    if is_fallible.is_none() {
        let message = format!(
            "`#[init]` makes the first state: let it return `Self`, or `Result<Self, E>` if it can fail \
             (`Self` is `{}`)",
            text::of(scope.this)
        );
        match &sig.output {
            ReturnType::Default => errors.at(&sig.ident, message),
            ReturnType::Type(_, ty) => errors.at(ty, message),
        }
    }
    let is_fallible = is_fallible.filter(|_| errors.count() == before)?;
    Some(Init {
        ident: sig.ident.clone(),
        is_async: sig.asyncness.is_some(),
        takes_context,
        is_fallible,
    })
}

/// Whether the state comes in a `Result`; `None` if there is none.
fn made(output: &ReturnType, actor: &Type) -> Option<bool> {
    let ReturnType::Type(_, ty) = output else {
        return None;
    };
    let is_state = |ty: &Type| is_self(ty) || text::of(ty) == text::of(actor);
    if is_state(ty) {
        return Some(false);
    }
    let last = types::last_segment(ty)?;
    let holds_state = types::type_arguments(last)
        .first()
        .is_some_and(|first| is_state(first));
    (last.ident == "Result" && holds_state).then_some(true)
}

pub(super) fn hook(
    turn: Turn,
    function: &ImplItemFn,
    attribute: &Attribute,
    scope: Scope<'_>,
    errors: &mut Errors,
) -> Option<Hook> {
    let name = turn.name();
    let sig = &function.sig;
    let before = errors.count();
    no_options(attribute, name, errors);
    signature::plain_function(sig, &format!("an `#[{name}]` function"), errors);
    match sig.receiver() {
        None => errors.at(
            &sig.ident,
            format!("`#[{name}]` runs on a state: start with `&self` or `&mut self`"),
        ),
        Some(receiver) => {
            signature::borrowed_self(receiver, "the state is lent to this function", "", errors);
        }
    }
    let parameters = hook_parameters(turn, function, scope, errors);
    let is_fallible = types::returned(&sig.output).is_some_and(|ty| {
        if !is_result_of_nothing(ty) {
            errors.at(
                ty,
                format!(
                    "what `#[{name}]` returns goes nowhere: leave the return type out, \
                     or write `Result<(), E>` if it can fail"
                ),
            );
        }
        true
    });
    (errors.count() == before).then(|| Hook {
        turn,
        ident: sig.ident.clone(),
        is_async: sig.asyncness.is_some(),
        parameters,
        is_fallible,
    })
}

/// `Result<(), E>`, `io::Result<()>`, `fmt::Result`.
fn is_result_of_nothing(ty: &Type) -> bool {
    types::last_segment(ty).is_some_and(|last| {
        let arguments = types::type_arguments(last);
        last.ident == "Result" && arguments.first().is_none_or(|ok| types::is_unit(ok))
    })
}

fn hook_parameters(
    turn: Turn,
    function: &ImplItemFn,
    scope: Scope<'_>,
    errors: &mut Errors,
) -> Vec<HookParameter> {
    let mut has_context = false;
    let mut parameters = Vec::new();
    for input in &function.sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if signature::is_context(scope, input, &mut has_context, errors) {
            parameters.push(HookParameter::Context);
            continue;
        }
        let is_who = types::last_segment(&input.ty).is_some_and(|last| last.ident == "Terminated");
        let is_first = !parameters.contains(&HookParameter::Terminated);
        match turn {
            Turn::Terminated if is_who && is_first => parameters.push(HookParameter::Terminated),
            Turn::Terminated => errors.at(
                input,
                format!(
                    "`#[on_terminated]` takes one `Terminated`, and at most `ctx: {}` besides: \
                     {RESOURCE}",
                    scope.context()
                ),
            ),
            _ => errors.at(
                input,
                format!(
                    "this function takes at most `ctx: {}`: {RESOURCE}",
                    scope.context()
                ),
            ),
        }
    }
    if turn == Turn::Terminated && !parameters.contains(&HookParameter::Terminated) {
        errors.at(
            &function.sig.ident,
            "`#[on_terminated]` is told who has ended: take it as an argument, `who: Terminated`",
        );
    }
    parameters
}

/// Requires that a function takes nothing but the context. Whether it takes the context.
fn only_context(
    function: &ImplItemFn,
    scope: Scope<'_>,
    reason: &str,
    errors: &mut Errors,
) -> bool {
    let mut has_context = false;
    for input in &function.sig.inputs {
        if let FnArg::Typed(input) = input
            && !signature::is_context(scope, input, &mut has_context, errors)
        {
            errors.at(
                input,
                format!(
                    "this function takes at most `ctx: {}`: {reason}",
                    scope.context()
                ),
            );
        }
    }
    has_context
}
