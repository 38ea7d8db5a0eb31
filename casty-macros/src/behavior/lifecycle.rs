//! Reads the functions that an actor's life calls: `#[init]`, `#[on_start]` and the other hooks.

use syn::{Attribute, FnArg, ImplItemFn, Meta, ReturnType, Type};

use super::{
    kind::Kind,
    model::{Hook, HookParameter, Init, Turn},
    scope::Scope,
    signature::{self, OneForm},
};
use crate::{errors::Errors, text, types};

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
    signature::plain_function(sig, "an `#[init]` function", OneForm::Call, errors);
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
    let made = made(&sig.output, scope);
    if made.is_none() {
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
    let Made {
        is_fallible,
        with_common,
    } = made.filter(|_| errors.count() == before)?;
    Some(Init {
        ident: sig.ident.clone(),
        is_async: sig.asyncness.is_some(),
        takes_context,
        is_fallible,
        makes_common: with_common,
    })
}

/// What an `#[init]` function returns.
struct Made {
    /// Whether it comes in a `Result`.
    is_fallible: bool,
    /// Whether the common data comes with the state.
    with_common: bool,
}

/// `None` if there is no state in it.
fn made(output: &ReturnType, scope: Scope<'_>) -> Option<Made> {
    let ReturnType::Type(_, ty) = output else {
        return None;
    };
    let is_state = |ty: &Type| types::is(ty, scope.this);
    let with_common = |ty: &Type| {
        let Type::Tuple(pair) = types::bare(ty) else {
            return is_state(ty).then_some(false);
        };
        let mut parts = pair.elems.iter();
        let (state, common, None) = (parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let named = &types::last_segment(common)?.ident;
        let is_common = scope.common().is_some_and(|common| common.ident == *named);
        (is_state(state) && is_common).then_some(true)
    };
    if let Some(with_common) = with_common(ty) {
        return Some(Made {
            is_fallible: false,
            with_common,
        });
    }
    let last = types::last_segment(ty).filter(|last| last.ident == "Result")?;
    let with_common = with_common(types::type_arguments(last).first()?)?;
    Some(Made {
        is_fallible: true,
        with_common,
    })
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
    let what = format!("an `#[{name}]` function");
    signature::plain_function(sig, &what, OneForm::Call, errors);
    // What runs before the first message may prepare what is not stored.
    let only_looks = (scope.is_event_sourced() && !matches!(turn, Turn::Start | Turn::Restart))
        .then(|| format!("what `#[{name}]` changes is in no event, so it would be lost"));
    let lent = match only_looks {
        None => signature::LENT,
        Some(_) => "`&self`",
    };
    match sig.receiver() {
        None if turn == Turn::Exit => {}
        Some(receiver) if turn == Turn::Exit => errors.at(
            receiver,
            "`#[on_exit]` runs when a handler has taken the state and led to another, so there is no state to run on: \
             drop this receiver. The function may take the context, and what all states have in common",
        ),
        None => errors.at(
            &sig.ident,
            format!("`#[{name}]` runs on a state: start with {lent}"),
        ),
        Some(receiver) => match &only_looks {
            Some(reason) if signature::is_changed(receiver) => errors.at(
                receiver,
                format!(
                    "{reason}: take `&self`. To change the state, let the hook send a message to `ctx.myself()`"
                ),
            ),
            _ => {
                let reason = "the state is lent to this function";
                signature::borrowed_self(receiver, reason, (lent, ""), errors);
            }
        },
    }
    let parameters = hook_parameters(turn, function, scope, only_looks.as_deref(), errors);
    of_a_machine(turn, scope, attribute, errors);
    let is_fallible = types::returned(&sig.output).is_some_and(|ty| {
        if matches!(turn, Turn::Enter | Turn::Exit) {
            errors.at(
                ty,
                format!(
                    "what `#[{name}]` returns goes nowhere: leave the return type out. \
                     What may fail belongs into the handler, which can stay"
                ),
            );
        } else if !is_result_of_nothing(ty) {
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
        changes: signature::changes(sig)
            || parameters.contains(&HookParameter::Common { is_mutable: true }),
        parameters,
        is_fallible,
    })
}

/// Reports hooks that only states have.
fn of_a_machine(turn: Turn, scope: Scope<'_>, attribute: &Attribute, errors: &mut Errors) {
    let instead = match turn {
        Turn::Enter => "on_start",
        Turn::Exit => "on_stop",
        _ => return,
    };
    if scope.machine.is_none() {
        errors.at(
            attribute,
            format!(
                "`#[{}]` belongs to a state of a state machine, and this {} has one state: \
                 write `#[{instead}]`",
                turn.name(),
                scope.kind.noun()
            ),
        );
    }
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
    only_looks: Option<&str>,
    errors: &mut Errors,
) -> Vec<HookParameter> {
    let (mut has_context, mut has_common) = (false, false);
    let mut parameters = Vec::new();
    for input in &function.sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if signature::is_context(scope, input, &mut has_context, errors) {
            parameters.push(HookParameter::Context);
            continue;
        }
        if let Some(is_mutable) =
            signature::common(scope, input, &mut has_common, only_looks, errors)
        {
            parameters.push(HookParameter::Common { is_mutable });
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
