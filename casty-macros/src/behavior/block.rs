//! Reads the functions of an impl block.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::{Attribute, ImplItem, ImplItemFn, ItemImpl, ReceiverKind, Signature, parse_quote};

use super::{
    event,
    handler::{self, Wrong},
    lifecycle, lints,
    model::{State, Turn},
    scope::Scope,
};
use crate::{errors::Errors, fallback, names};

/// A function that had one of casty's attributes.
pub(super) struct Annotated {
    /// As written, without the attribute in `attribute`.
    pub(super) function: ImplItemFn,
    pub(super) helper: &'static str,
    pub(super) attribute: Attribute,
}

/// The functions of a block, which options of its messages may name.
pub(super) fn signatures(block: &ItemImpl) -> Vec<Signature> {
    block
        .items
        .iter()
        .filter_map(|item| match item {
            ImplItem::Fn(function) => Some(function.sig.clone()),
            _ => None,
        })
        .collect()
}

/// Removes casty's attributes from the functions of a block, and the attributes of their arguments
/// that only the field of a message can have.
pub(super) fn take_functions(items: &mut [ImplItem]) -> Vec<Annotated> {
    let mut annotated = Vec::new();
    let named = lints::named_by_options(items);
    for item in items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let written = function.clone();
        let mut helpers = fallback::take_helpers(function).into_iter();
        let Some((helper, attribute)) = helpers.next() else {
            if named.contains(&function.sig.ident) {
                lints::of_a_helper(function);
            }
            continue;
        };
        match (helper, Turn::of(helper)) {
            ("event" | "upcast", _) => {
                fallback::strip_arguments(function);
                lints::of_an_event(&function.sig, &mut function.attrs);
            }
            ("message", _) => {
                fallback::strip_arguments(function);
                lints::of_a_message(function);
            }
            (_, Some(_)) => lints::of_a_hook(function),
            _ => {}
        }
        let mut function = written;
        if let Some(position) = function
            .attrs
            .iter()
            .position(|attribute| fallback::helper(attribute).is_some())
        {
            function.attrs.remove(position);
        }
        annotated.push(Annotated {
            function,
            helper,
            attribute,
        });
    }
    annotated
}

/// Leaves these functions without a result, so that the compiler says nothing of what casty has
/// reported.
pub(super) fn without_results(items: &mut [ImplItem], functions: &[Ident]) {
    for item in items {
        if let ImplItem::Fn(function) = item
            && functions.contains(&function.sig.ident)
        {
            function.sig.output = parse_quote!(-> !);
            function.block = parse_quote!({ loop {} });
            function.attrs.push(parse_quote!(#[allow(unused)]));
        }
    }
}

/// The same of functions that make one of these events, which are not in the enum.
pub(super) fn without_bodies(items: &mut [ImplItem], missing_events: &[Ident]) {
    for item in items {
        if let ImplItem::Fn(function) = item
            && missing_events
                .iter()
                .any(|event| names::occurs(event.to_string(), function.block.to_token_stream()))
        {
            function.block = parse_quote!({ loop {} });
            function.attrs.push(parse_quote!(#[allow(unused)]));
        }
    }
}

/// Reports a function with more than one of casty's attributes.
fn more_parts(function: &ImplItemFn, first: &str, errors: &mut Errors) -> bool {
    let before = errors.count();
    for attribute in &function.attrs {
        if let Some(second) = fallback::helper(attribute) {
            let message = if first == second {
                format!("`#[{second}]` is written twice above one function: keep one of them")
            } else {
                format!(
                    "`{}` is `#[{first}]` already, and a function has one part to play: \
                     write a function of its own for `#[{second}]`",
                    function.sig.ident
                )
            };
            errors.at(attribute, message);
        }
    }
    errors.count() > before
}

/// The name of a function that takes its state, and does not say where that leads.
fn lost(scope: Scope<'_>, function: &ImplItemFn) -> Option<Ident> {
    let receiver = function.sig.receiver().map(|receiver| &receiver.kind);
    let takes = scope.machine.is_some() && matches!(receiver, Some(ReceiverKind::Value));
    takes.then(|| function.sig.ident.clone())
}

/// Adds to a state what its functions say.
pub(super) fn functions(
    scope: Scope<'_>,
    functions: Vec<Annotated>,
    state: &mut State,
    errors: &mut Errors,
) {
    for Annotated {
        function,
        helper,
        attribute,
    } in functions
    {
        match helper {
            "message" => state.written.push(function.sig.ident.clone()),
            "init" => state.has_init = true,
            "event" => state.written_events.push(function.sig.ident.clone()),
            _ => {}
        }
        if more_parts(&function, helper, errors) {
            continue;
        }
        match helper {
            "message" => match handler::parse(scope, &function, &attribute, errors) {
                Ok(handler) => state.handlers.push(handler),
                Err(Wrong::IsLost) => state.lost.push(function.sig.ident),
                Err(Wrong::Otherwise) => {}
            },
            "event" => {
                let event = event::parse(scope, &function, &attribute, errors);
                if event.as_ref().is_none_or(|event| !event.is_sound) {
                    state.lost.extend(lost(scope, &function));
                }
                state.events.extend(event);
            }
            "upcast" => {
                let upcast =
                    event::upcast(scope, (&function.sig, &function.attrs), &attribute, errors);
                state.upcasts.extend(upcast);
            }
            "init" => {
                let init = lifecycle::init(&function, &attribute, scope, errors);
                state.init.extend(init);
            }
            hook => {
                let hook = Turn::of(hook)
                    .and_then(|turn| lifecycle::hook(turn, &function, &attribute, scope, errors));
                state.hooks.extend(hook);
            }
        }
    }
}
