//! Reads one `#[message]` function.

use syn::{
    Attribute, FnArg, GenericParam, ImplItemFn, Pat, PatType, Receiver, ReceiverKind, ReturnType,
    Signature, Type, ext::IdentExt,
};

use super::{
    model::{Argument, Handler, Kind, Parameter, Reply},
    parse,
};
use crate::{
    errors::Errors,
    fallback, names,
    options::{Grammar, Known, Options},
    self_type::ReplaceSelf,
    text,
    types::{self, ContextParameter, Travels},
};

static MESSAGE: Grammar = Grammar {
    attribute: "#[message]",
    known: &[
        Known {
            name: "name",
            example: "name = \"increment\"",
        },
        Known {
            name: "timeout",
            example: "timeout = \"2s\"",
        },
        Known {
            name: "internal",
            example: "internal",
        },
    ],
    refused: &[(
        "crate",
        "a message function takes casty from where its impl block does: write `crate = ..` in the attribute above that",
    )],
};

const NO_TIMEOUT: &str = "a timeout of zero would fail every ask: \
    write how long an asker should wait, or leave `timeout` out for the system's default";

/// `None` if the function has mistakes that leave no message to speak of.
pub(super) fn parse(
    kind: Kind,
    function: &ImplItemFn,
    attribute: &Attribute,
    actor: &Type,
    errors: &mut Errors,
) -> Option<Handler> {
    let tokens = parse::arguments(attribute, errors);
    let options = Options::parse(&MESSAGE, tokens, errors);
    let sig = &function.sig;
    let wire_name = options.wire_name("name", errors);
    let timeout = options.duration("timeout", Some(NO_TIMEOUT), errors);
    let internal = options.flag("internal", errors);

    let before = errors.count();
    if internal {
        internal_rules(&options, sig, errors);
    }
    attributes(&function.attrs, errors);
    plain_function(sig, "a message function", errors);
    receiver(kind, sig, errors);
    let travels = if internal {
        Travels::Memory
    } else {
        Travels::Wire
    };
    let parameters = parameters(sig, travels, actor, errors);
    let (reply, is_later) = if internal {
        (Reply::Unit, false)
    } else {
        reply(&sig.output, actor, errors)
    };
    if errors.count() > before {
        return None;
    }
    Some(Handler {
        variant: names::variant(&sig.ident),
        wire_name: wire_name.unwrap_or_else(|| sig.ident.unraw().to_string()),
        ident: sig.ident.clone(),
        docs: attributes_named("doc", &function.attrs),
        deprecated: attributes_named("deprecated", &function.attrs).pop(),
        vis: function.vis.clone(),
        is_async: sig.asyncness.is_some(),
        parameters,
        reply,
        is_later,
        timeout,
        internal,
    })
}

fn attributes_named(name: &str, attrs: &[Attribute]) -> Vec<Attribute> {
    attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident(name))
        .cloned()
        .collect()
}

fn attributes(attrs: &[Attribute], errors: &mut Errors) {
    for attribute in attrs {
        if attribute.path().is_ident("cfg") {
            errors.at(
                attribute,
                "a protocol cannot lack single messages in some builds, since nodes of different builds talk to \
                 each other: keep the message and put `#[cfg]` inside the function, or on the whole impl block",
            );
        }
    }
}

fn internal_rules(options: &Options, sig: &Signature, errors: &mut Errors) {
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
    if let Some(ty) = types::returned(&sig.output) {
        errors.at(
            ty,
            "nobody waits for the answer to an internal message: leave the return type out, or drop `internal`",
        );
    }
}

/// What no function that casty calls may be.
pub(super) fn plain_function(sig: &Signature, what: &str, errors: &mut Errors) {
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
            format!("{what} cannot be generic, since a message has one form on the wire: {advice}"),
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

fn receiver(kind: Kind, sig: &Signature, errors: &mut Errors) {
    match sig.receiver() {
        None => errors.at(
            &sig.ident,
            format!(
                "`{}` does not say how it takes the state: a message function starts with `&self` or `&mut self` \
                 (a function that makes the first state is marked `#[init]`)",
                sig.ident
            ),
        ),
        Some(receiver) => borrowed_self(
            receiver,
            &format!("a message leaves the {} where it is", kind.noun()),
            errors,
        ),
    }
}

/// Requires `&self` or `&mut self`.
pub(super) fn borrowed_self(receiver: &Receiver, reason: &str, errors: &mut Errors) {
    match &receiver.kind {
        ReceiverKind::Reference(_, None, _) => {}
        ReceiverKind::Reference(_, Some(lifetime), _) => errors.at(
            lifetime,
            "the state is lent for the call only: write `&self` or `&mut self`, without a lifetime",
        ),
        ReceiverKind::Value => errors.at(
            receiver,
            format!(
                "{reason}: write `&self` or `&mut self` (taking `self` by value is for state machines, \
                 which are not supported yet)"
            ),
        ),
        _ => errors.at(receiver, format!("{reason}: write `&self` or `&mut self`")),
    }
}

fn parameters(
    sig: &Signature,
    travels: Travels,
    actor: &Type,
    errors: &mut Errors,
) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    let mut has_context = false;
    for input in &sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if is_context(input, actor, &mut has_context, errors) {
            parameters.push(Parameter::Context);
        } else {
            parameters.extend(
                argument(input, travels, actor, errors)
                    .map(Box::new)
                    .map(Parameter::Argument),
            );
        }
    }
    parameters
}

/// Whether a parameter is the context; complains of a second one and of one that is not `&mut`.
pub(super) fn is_context(
    input: &PatType,
    actor: &Type,
    has_context: &mut bool,
    errors: &mut Errors,
) -> bool {
    match types::context(&input.ty, actor) {
        None => return false,
        Some(ContextParameter::Wrong) => errors.at(
            &input.ty,
            "the context is taken by `&mut`: write `&mut Context<Self>`",
        ),
        Some(ContextParameter::Mutable) if *has_context => errors.at(
            input,
            "there is one context: drop this second `&mut Context<Self>`",
        ),
        Some(ContextParameter::Mutable) => {}
    }
    *has_context = true;
    true
}

fn argument(
    input: &PatType,
    travels: Travels,
    actor: &Type,
    errors: &mut Errors,
) -> Option<Argument> {
    for attribute in &input.attrs {
        if attribute.path().is_ident("cfg") {
            errors.at(
                attribute,
                "a message has the same fields in every build: drop `#[cfg]` from the argument",
            );
        }
    }
    if let Some((place, reason)) = types::objection(&input.ty, travels) {
        errors.at(place, reason);
    }
    let ident = match &*input.pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => pat.ident.clone(),
        Pat::Wild(wild) => {
            errors.at(
                wild,
                "an argument's name is the name of the message's field: write a name in place of `_`, \
                 such as `_amount`",
            );
            return None;
        }
        pattern => {
            errors.at(
                pattern,
                "an argument's name is the name of the message's field: write one name here, \
                 and take the value apart inside the function",
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
        ty: ReplaceSelf(actor).in_type(&input.ty),
        attrs: attrs.collect(),
    })
}

/// The reply, and whether it comes later.
fn reply(output: &ReturnType, actor: &Type, errors: &mut Errors) -> (Reply, bool) {
    let Some(ty) = types::returned(output) else {
        return (Reply::Unit, false);
    };
    if matches!(types::bare(ty), Type::ImplTrait(_)) && text::of(ty).contains("Future<") {
        errors.at(
            ty,
            "write an `async fn` that returns the answer itself, in place of a future",
        );
        return (Reply::Unit, false);
    }
    let Some(later) = types::last_segment(ty).filter(|last| last.ident == "Later") else {
        return (reply_of(ty, actor, errors), false);
    };
    let [promised] = types::type_arguments(later)[..] else {
        errors.at(
            ty,
            "say what the asker will get: write `Later<R>`, with the type of the reply",
        );
        return (Reply::Unit, true);
    };
    (reply_of(promised, actor, errors), true)
}

/// The reply that a value of this type is.
fn reply_of(ty: &Type, actor: &Type, errors: &mut Errors) -> Reply {
    if types::is_unit(ty) {
        return Reply::Unit;
    }
    if let Some((place, reason)) = types::objection(ty, Travels::Wire) {
        errors.at(place, reason);
    }
    let whole = Box::new(ReplaceSelf(actor).in_type(ty));
    let Some(last) = types::last_segment(&whole).filter(|last| last.ident == "Result") else {
        return Reply::Value(whole);
    };
    let parts = match types::type_arguments(last).as_slice() {
        [ok, error] => Some(Box::new(((*ok).clone(), (*error).clone()))),
        _ => None,
    };
    Reply::Fallible { whole, parts }
}
