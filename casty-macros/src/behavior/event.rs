//! Reads one `#[event]` or `#[upcast]` function.

use proc_macro2::{Ident, Span};
use syn::{
    Attribute, Expr, ExprPath, FnArg, ImplItemFn, ReceiverKind, Signature, ext::IdentExt,
    spanned::Spanned,
};

use super::{
    handler,
    model::{Argument, Event, EventHandler, Message, Next, Parameter, Target, Upcast, Upcasts},
    scope::Scope,
    signature::{self, OneForm},
    transition::{self, By},
};
use crate::{
    context,
    errors::Errors,
    fallback, names,
    options::{Grammar, Known, Options},
    text,
    types::{self, Travels},
};

static EVENT: Grammar = Grammar {
    attribute: "#[event]",
    known: &[
        Known::new("name", "name = \"withdrawn\""),
        Known::new("version", "version = 2"),
    ],
    refused: &[(
        "from",
        "the function that reads events of an older version is another: write `#[upcast(from = 1)]` above it",
    )],
};

static UPCAST: Grammar = Grammar {
    attribute: "#[upcast]",
    known: &[
        Known::new("from", "from = 1"),
        Known::new("event", "event = withdrawn"),
        Known::new("removed", "removed = \"noted\""),
    ],
    refused: &[(
        "version",
        "the version that the function reads is `from = 1`; that of today is an option of `#[event]`",
    )],
};

const EVERY_BUILD: &str = "what one build has stored another has to read: keep the event in every build, \
    or put `#[cfg]` on the whole type";

/// The version of an event that does not say one.
const VERSION_DEFAULT: u32 = 1;

/// Reads an event function. An error in it leaves no event to generate.
pub(super) fn parse(
    scope: Scope<'_>,
    function: &ImplItemFn,
    attribute: &Attribute,
    errors: &mut Errors,
) -> Option<EventHandler> {
    let before = errors.count();
    let options = Options::of(&EVENT, attribute, errors);
    let sig = &function.sig;
    if !scope.is_event_sourced() {
        errors.at(
            attribute,
            format!(
                "only an event-sourced entity has events: write `#[entity(event_sourced)]`, \
                 or let `{}` be a function without an attribute",
                sig.ident
            ),
        );
        return None;
    }
    let name = options.stored_name("name", errors);
    let version = options.number("version", 1..=u32::MAX, errors);
    signature::no_conditions(&function.attrs, EVERY_BUILD, errors);
    signature::plain_function(sig, "an event function", OneForm::Event, errors);
    if let Some(asyncness) = &sig.asyncness {
        errors.at(
            asyncness,
            "an event is applied when it happens, and again whenever the entity is recovered: drop `async`. \
             What has to be awaited belongs in the command, or in `.then(..)` of its effect",
        );
    }
    let read = parameters(scope, sig, errors);
    let next = next(scope, sig, errors);
    read.map(|(parameters, arguments)| EventHandler {
        event: Event {
            form: form(function, name, arguments),
            version: version.unwrap_or(VERSION_DEFAULT),
            version_span: options
                .value_span("version")
                .unwrap_or_else(|| sig.ident.span()),
        },
        parameters,
        next,
        is_sound: errors.count() == before,
    })
}

/// The names and the arguments, as those of a message.
fn form(function: &ImplItemFn, name: Option<String>, arguments: Vec<Argument>) -> Message {
    let ident = &function.sig.ident;
    let name = name.unwrap_or_else(|| ident.unraw().to_string());
    Message {
        docs: fallback::copies_of("doc", &function.attrs),
        arguments,
        ..Message::bare(ident.clone(), names::variant(ident), name)
    }
}

/// The parameters after `self`, and the fields of the event. `None`: a field has no type.
fn parameters(
    scope: Scope<'_>,
    sig: &Signature,
    errors: &mut Errors,
) -> Option<(Vec<Parameter>, Vec<Argument>)> {
    let (mut parameters, mut arguments) = (Vec::new(), Vec::new());
    let (mut has_common, mut is_typed) = (false, true);
    for input in &sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if context::parameter(&input.ty, scope.actor()).is_some() {
            errors.at(
                input,
                "an event only changes the state, and is applied again whenever the entity is recovered: \
                 drop the context. What is done once belongs in the command, or in `.then(..)` of its effect",
            );
        } else if let Some(is_mutable) =
            signature::common(scope, input, &mut has_common, None, errors)
        {
            parameters.push(Parameter::Common { is_mutable });
        } else {
            let before = errors.count();
            let argument = handler::argument(scope, input, sig, Travels::Store, errors);
            is_typed &= errors.count() == before && argument.is_some();
            parameters.push(Parameter::Argument);
            arguments.extend(argument);
        }
    }
    is_typed.then_some((parameters, arguments))
}

/// Checks how the function takes the state and what it returns. Where it leads, if it leads to
/// another state.
fn next(scope: Scope<'_>, sig: &Signature, errors: &mut Errors) -> Option<Next> {
    let Some(receiver) = sig.receiver() else {
        let by_value = scope
            .machine
            .map_or("", |_| ", or with `self` to lead to another state");
        errors.at(
            &sig.ident,
            format!(
                "an event changes the state: start with `&mut self`{by_value} \
                 (what reads an older event is an `#[upcast]` function)"
            ),
        );
        return None;
    };
    let is_result = |ty| types::last_segment(ty).is_some_and(|last| last.ident == "Result");
    if let Some(ty) = types::returned(&sig.output).filter(|ty| is_result(ty)) {
        errors.at(
            ty,
            "an event has happened, and cannot fail: leave the `Result` out, \
             and check in the command before it persists the event",
        );
        return None;
    }
    if let (ReceiverKind::Value, Some(machine)) = (&receiver.kind, scope.machine) {
        let leaving = transition::Leaving {
            scope,
            machine,
            receiver,
            by: By::Event,
        };
        return leaving.of_event(&machine.aliases.resolve_output(&sig.output), errors);
    }
    let others = scope
        .machine
        .map_or("", |_| ", or `self` to lead to another state");
    signature::borrowed_self(
        receiver,
        "an event changes the state in place",
        ("`&mut self`", others),
        errors,
    );
    if let Some(ty) = types::returned(&sig.output) {
        let of_state = scope
            .machine
            .and_then(|machine| transition::target(scope.this, machine, ty));
        let message = match of_state {
            Some(Target::State(state)) => format!(
                "an event that borrows `{}` stays in it: take `self` by value to lead to `{state}`",
                text::of(scope.this)
            ),
            _ => "what an event function returns goes nowhere: leave the return type out. \
                  The command replies, with `.reply(|state| ..)` of its effect"
                .to_owned(),
        };
        errors.at(ty, message);
    }
    None
}

/// Reads an upcaster.
pub(super) fn upcast(
    scope: Scope<'_>,
    (sig, attrs): (&Signature, &[Attribute]),
    attribute: &Attribute,
    errors: &mut Errors,
) -> Option<Upcast> {
    let before = errors.count();
    let options = Options::of(&UPCAST, attribute, errors);
    if !scope.is_event_sourced() {
        errors.at(
            attribute,
            "only an event-sourced entity has events of older versions: write `#[entity(event_sourced)]`",
        );
        return None;
    }
    let from = options.number("from", 1..=u32::MAX, errors);
    if options.span("from").is_none() && errors.count() == before {
        errors.at(
            attribute,
            "an upcaster reads events of one older version: write which, `#[upcast(from = 1)]`",
        );
    }
    let of = of_event(&options, &sig.ident, from, errors);
    signature::plain_function(sig, "an upcaster", OneForm::Event, errors);
    signature::no_conditions(attrs, EVERY_BUILD, errors);
    if let Some(asyncness) = &sig.asyncness {
        errors.at(
            asyncness,
            "an upcaster runs whenever an old event is read, and only makes a new one of it: drop `async`",
        );
    }
    let mut arguments = Vec::new();
    for input in &sig.inputs {
        match input {
            FnArg::Receiver(receiver) => errors.at(
                receiver,
                "an upcaster knows the old event alone, not the state: drop this. \
                 Its arguments are those that the event had",
            ),
            FnArg::Typed(input) if context::parameter(&input.ty, scope.actor()).is_some() => {
                errors.at(
                    input,
                    "an upcaster knows the old event alone: drop the context. \
                     Its arguments are those that the event had",
                );
            }
            FnArg::Typed(input) => {
                arguments.extend(handler::argument(scope, input, sig, Travels::Store, errors));
            }
        }
    }
    let (of, from) = (of?, from?);
    (errors.count() == before).then(|| Upcast {
        ident: sig.ident.clone(),
        of_type: Some(scope.this.clone()),
        of,
        from,
        from_span: options
            .value_span("from")
            .unwrap_or_else(|| attribute.span()),
        arguments,
    })
}

/// Which event it reads: as an option says, or the function's name, `withdrawn_v1`.
fn of_event(
    options: &Options,
    function: &Ident,
    from: Option<u32>,
    errors: &mut Errors,
) -> Option<Upcasts> {
    if let (Some(_), Some(second)) = (options.span("event"), options.span("removed")) {
        errors.at_span(
            second,
            "an event is one of today, `event`, or `removed`: keep one of them",
        );
        return None;
    }
    if options.span("removed").is_some() {
        let name = options.stored_name("removed", errors)?;
        return Some(Upcasts::Removed(name, options.value_span("removed")?));
    }
    if options.span("event").is_some() {
        if let Some(Expr::Path(ExprPath {
            qself: None, path, ..
        })) = options.value("event")
            && let Some(name) = path.get_ident()
        {
            return Some(Upcasts::Present(name.clone()));
        }
        let place = options.value_span("event").or(options.span("event"));
        errors.at_span(
            place.unwrap_or_else(Span::call_site),
            "an event is named by its function: write `event = withdrawn`",
        );
        return None;
    }
    let from = from?;
    let name = function.unraw().to_string();
    let event = name.strip_suffix(&format!("_v{from}"));
    let Some(event) = event.and_then(|event| identifier(event, function.span())) else {
        errors.at(
            function,
            format!(
                "`{name}` does not say which event it reads: name it after the event and the version, \
                 such as `withdrawn_v{from}`, or write `#[upcast(event = withdrawn, from = {from})]`"
            ),
        );
        return None;
    };
    Some(Upcasts::Present(event))
}

/// A name that may be a keyword.
fn identifier(name: &str, span: Span) -> Option<Ident> {
    let plain = syn::parse_str::<Ident>(name);
    let mut ident = plain
        .or_else(|_| syn::parse_str(&format!("r#{name}")))
        .ok()?;
    ident.set_span(span);
    Some(ident)
}
