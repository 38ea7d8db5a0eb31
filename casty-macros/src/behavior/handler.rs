//! Reads one `#[message]` function.

use proc_macro2::Ident;
use syn::{
    Attribute, FnArg, ImplItemFn, Pat, PatType, Receiver, ReceiverKind, Signature, Token,
    ext::IdentExt, punctuated::Punctuated,
};

use super::{
    effect::{self, Decided},
    guard,
    model::{Argument, Handler, Message, Outcome, Parameter, Reply},
    reply,
    scope::Scope,
    signature::{self, OneForm},
    timer,
    transition::{self, By},
};
use crate::{
    errors::Errors,
    fallback, names,
    options::{Grammar, Known, Options},
    self_type::ReplaceSelf,
    types::{self, Travels},
};

static MESSAGE: Grammar = Grammar {
    attribute: "#[message]",
    known: &[
        Known::new("name", "name = \"increment\""),
        Known::new("timeout", "timeout = \"2s\""),
        Known::new("internal", "internal"),
        Known::new("after", "internal, after = \"30s\""),
        Known::new("every", "internal, every = \"1s\""),
        Known::new("guard", "guard = may_bid"),
    ],
    refused: &[(
        "crate",
        "a message function takes casty from where its impl block does: write `crate = ..` in the attribute above that",
    )],
};

const NO_TIMEOUT: &str = "a timeout of zero would fail every ask: \
    write how long an asker should wait, or leave `timeout` out for the system's default";

const EVERY_BUILD: &str = "a protocol cannot lack single messages in some builds, since nodes of different builds \
    talk to each other: keep the message and put `#[cfg]` inside the function, or on the whole impl block";

/// Why a function is no handler. The reason is reported.
pub(super) enum Wrong {
    /// It leaves the state, and its return type does not say for which; or it is a command that
    /// leaves it, or whose effect is wrong. The compiler would report the return type as well.
    IsLost,
    Otherwise,
}

/// Reads the function. An error in it leaves no message to generate.
pub(super) fn parse(
    scope: Scope<'_>,
    function: &ImplItemFn,
    attribute: &Attribute,
    errors: &mut Errors,
) -> Result<Handler, Wrong> {
    let options = Options::of(&MESSAGE, attribute, errors);
    let sig = &function.sig;
    let wire_name = options.wire_name("name", errors);
    let timeout = options.duration("timeout", Some(NO_TIMEOUT), errors);
    let internal = options.flag("internal", errors);

    let before = errors.count();
    if internal {
        internal_options(&options, errors);
    }
    signature::no_conditions(&function.attrs, EVERY_BUILD, errors);
    signature::plain_function(sig, "a message function", OneForm::Message, errors);
    receiver(scope, sig, errors);
    let (parameters, arguments) = parameters(scope, sig, internal, errors);
    let timer = timer::parse(scope, &options, &arguments, errors);
    let (reply, outcome) = returned(scope, sig, internal, errors)?;
    let (reply, guard) = guard::parse(
        &guard::Guarded {
            scope,
            arguments: &arguments,
            outcome: &outcome,
            internal,
        },
        &options,
        reply,
        errors,
    );
    if errors.count() > before {
        return Err(Wrong::Otherwise);
    }
    Ok(Handler {
        message: Message {
            variant: names::variant(&sig.ident),
            wire_name: wire_name.unwrap_or_else(|| sig.ident.unraw().to_string()),
            ident: sig.ident.clone(),
            docs: fallback::copies_of("doc", &function.attrs),
            deprecated: fallback::copies_of("deprecated", &function.attrs).pop(),
            vis: function.vis.clone(),
            arguments,
            reply,
            timeout,
            internal,
            is_built_in: false,
        },
        is_async: sig.asyncness.is_some(),
        changes: signature::changes(sig)
            || parameters.contains(&Parameter::Common { is_mutable: true }),
        parameters,
        outcome,
        timer,
        guard,
    })
}

/// Reads the return type: the reply, and the next state.
fn returned(
    scope: Scope<'_>,
    sig: &Signature,
    internal: bool,
    errors: &mut Errors,
) -> Result<(Reply, Outcome), Wrong> {
    let receiver = sig.receiver();
    let by_value = receiver.filter(|it| matches!(it.kind, ReceiverKind::Value));
    let borrows = receiver.is_some_and(|it| matches!(it.kind, ReceiverKind::Reference(..)));
    // That the receiver changes the state has been reported, and what to write.
    let is_wrong = scope.is_event_sourced() && signature::changes(sig);
    if let (Some(machine), Some(receiver)) = (scope.machine, by_value) {
        if is_wrong {
            return Err(Wrong::IsLost);
        }
        let from = transition::Leaving {
            scope,
            machine,
            receiver,
            by: if internal { By::Internal } else { By::Message },
        };
        let output = machine.aliases.resolve_output(&sig.output);
        let (reply, transition) = from.parse(&output, errors).ok_or(Wrong::IsLost)?;
        return Ok((reply, Outcome::Leaves(transition)));
    }
    match effect::parse(scope, &sig.output, errors) {
        Decided::Effect(reply, _) if internal && !matches!(reply, Reply::Unit) => {
            errors.at(
                types::returned(&sig.output),
                format!(
                    "an internal message has no asker: return an effect without a reply, `{}`",
                    scope.effect_of(None)
                ),
            );
            return Err(Wrong::Otherwise);
        }
        Decided::Effect(reply, effect) => return Ok((reply, Outcome::Effect(effect))),
        Decided::Wrong => return Err(Wrong::IsLost),
        Decided::Otherwise => {}
    }
    if let Some(ty) = types::returned(&sig.output) {
        if let Some(machine) = scope.machine
            && borrows
            && !is_wrong
            && transition::is_misplaced(scope, machine, &machine.aliases.resolve(ty), errors)
        {
            return Err(Wrong::Otherwise);
        }
        if internal {
            errors.at(
                ty,
                "an internal message has no asker: leave the return type out, or drop `internal`",
            );
            return Err(Wrong::Otherwise);
        }
    }
    Ok(reply::parse(scope, &sig.output, errors))
}

fn internal_options(options: &Options, errors: &mut Errors) {
    for option in ["name", "timeout"] {
        if let Some(span) = options.span(option) {
            errors.at_span(
                span,
                format!(
                    "an internal message never leaves the process and is never asked, \
                     so `{option}` means nothing here: leave it out"
                ),
            );
        }
    }
}

fn receiver(scope: Scope<'_>, sig: &Signature, errors: &mut Errors) {
    let Some(receiver) = sig.receiver() else {
        let (receivers, by_value) = match scope.machine {
            _ if scope.is_event_sourced() => ("`&self`", ""),
            None => (signature::LENT, ""),
            Some(_) => (signature::LENT, ", or with `self` to leave the state"),
        };
        let what = match scope.machine {
            None => "an `#[init]` function",
            Some(_) => "the `#[init]` function of the initial state",
        };
        errors.at(
            &sig.ident,
            format!(
                "`{}` does not say how it takes the state: a message function starts with {receivers}\
                 {by_value} (what makes the first state is {what})",
                sig.ident
            ),
        );
        return;
    };
    if scope.is_event_sourced() {
        decides(scope, receiver, errors);
        return;
    }
    match (&receiver.kind, scope.machine) {
        (ReceiverKind::Value, Some(_)) => {}
        (ReceiverKind::Value, None) => errors.at(
            receiver,
            format!(
                "a message leaves the {} where it is: write `&self` or `&mut self` \
                 (a handler that takes `self` leads to another state, in a state machine: `{} mod`)",
                scope.kind.noun(),
                scope.kind.attribute()
            ),
        ),
        (_, Some(_)) => signature::borrowed_self(
            receiver,
            "take the state as it is",
            (signature::LENT, ", or `self` to leave it"),
            errors,
        ),
        (_, None) => signature::borrowed_self(
            receiver,
            &format!("a message leaves the {} where it is", scope.kind.noun()),
            (signature::LENT, ""),
            errors,
        ),
    }
}

/// Requires that a command of an event-sourced type only looks at the state.
fn decides(scope: Scope<'_>, receiver: &Receiver, errors: &mut Errors) {
    if signature::is_changed(receiver) {
        errors.at(
            receiver,
            format!(
                "a command decides, and events change: take `&self`, return `{}`, \
                 and change the state in an `#[event]` function",
                scope.effect()
            ),
        );
    } else {
        signature::borrowed_self(
            receiver,
            "a command only looks at the state",
            ("`&self`", ""),
            errors,
        );
    }
}

/// The parameters after `self`, and the fields of the message.
fn parameters(
    scope: Scope<'_>,
    sig: &Signature,
    internal: bool,
    errors: &mut Errors,
) -> (Vec<Parameter>, Vec<Argument>) {
    let travels = if internal {
        Travels::Memory
    } else {
        Travels::Wire
    };
    let only_looks = scope
        .is_event_sourced()
        .then_some("a command decides, and an `#[event]` function changes");
    let (mut parameters, mut arguments) = (Vec::new(), Vec::new());
    let (mut has_context, mut has_common) = (false, false);
    for input in &sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if signature::is_context(scope, input, &mut has_context, errors) {
            parameters.push(Parameter::Context);
        } else if let Some(is_mutable) =
            signature::common(scope, input, &mut has_common, only_looks, errors)
        {
            parameters.push(Parameter::Common { is_mutable });
        } else if let Some(argument) = argument(scope, input, sig, travels, errors) {
            parameters.push(Parameter::Argument);
            arguments.push(argument);
        }
    }
    (parameters, arguments)
}

/// The name of the message's field. An argument that a function does not use begins with an
/// underscore, as the compiler advises; that says nothing of the message.
pub(super) fn field_name(argument: &Ident, inputs: &Punctuated<FnArg, Token![,]>) -> Ident {
    let name = argument.to_string();
    let Some(used) = name.strip_prefix('_') else {
        return argument.clone();
    };
    let is_taken = inputs.iter().any(|input| match input {
        FnArg::Typed(PatType { pat, .. }) => {
            matches!(&**pat, Pat::Ident(pat) if pat.ident == used)
        }
        FnArg::Receiver(_) => false,
    });
    match syn::parse_str::<Ident>(used) {
        Ok(mut field) if !is_taken && !used.starts_with('_') => {
            field.set_span(argument.span());
            field
        }
        _ => argument.clone(),
    }
}

/// One field of a message or of an event.
pub(super) fn argument(
    scope: Scope<'_>,
    input: &PatType,
    sig: &Signature,
    travels: Travels,
    errors: &mut Errors,
) -> Option<Argument> {
    let noun = travels.noun();
    let every_build = format!(
        "{} has the same fields in every build: drop `#[cfg]` from the argument",
        travels.part_of()
    );
    signature::no_conditions(&input.attrs, &every_build, errors);
    if signature::names_own_generics(sig, &input.ty) {
        // That the function has generics has been reported.
        return None;
    }
    if let Some((place, reason)) = types::objection(&input.ty, travels) {
        errors.at(place, reason);
    }
    let ident = match &*input.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {
            field_name(&pat.ident, &sig.inputs)
        }
        Pat::Wild(wild) => {
            errors.at(
                wild,
                format!(
                    "an argument's name is the name of the {noun}'s field: write a name in place of `_`, \
                     such as `_amount`"
                ),
            );
            return None;
        }
        pattern => {
            errors.at(
                pattern,
                format!(
                    "an argument's name is the name of the {noun}'s field: write one name here, \
                     and take the value apart inside the function"
                ),
            );
            return None;
        }
    };
    let attrs = input
        .attrs
        .iter()
        .filter(|attribute| fallback::is_field_attribute(attribute))
        .cloned();
    Some(Argument {
        ident,
        ty: ReplaceSelf(scope.this).in_type(&input.ty),
        attrs: attrs.collect(),
    })
}
