//! The lints of clippy that the signature of a message function or hook sets off by design.
//!
//! An `allow` on a function holds in its body as well. So a function gets the `allow` only for
//! lints that its own signature can set off, and the user's lints apply to the rest of the body.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::quote;
use syn::{
    Attribute, FnArg, ImplItem, ImplItemFn, Meta, Receiver, ReceiverKind, Signature, Type,
    parse_quote,
};

use crate::{fallback, types};

/// Allows lints on a message function, whose signature is part of the protocol.
pub(super) fn of_a_message(function: &mut ImplItemFn) {
    of_a_form(&function.sig, &mut function.attrs, "it handles a message");
}

/// Allows lints on an event function or an upcaster, whose signature says what is stored.
pub(super) fn of_an_event(sig: &Signature, attrs: &mut Vec<Attribute>) {
    of_a_form(sig, attrs, "it takes what is stored");
}

fn of_a_form(sig: &Signature, attrs: &mut Vec<Attribute>, reason: &str) {
    let mut lints = of_the_receiver(sig.receiver());
    let is_moved = |input: &FnArg| matches!(input, FnArg::Typed(typed) if !matches!(*typed.ty, Type::Reference(_)));
    if sig.inputs.iter().any(is_moved) {
        lints.push(quote!(clippy::needless_pass_by_value));
    }
    if sig.asyncness.is_some() {
        lints.push(quote!(clippy::unused_async));
    }
    let wraps = types::returned(&sig.output).and_then(types::last_segment);
    if wraps.is_some_and(|last| last.ident == "Result" || last.ident == "Option") {
        lints.push(quote!(clippy::unnecessary_wraps));
    }
    allow(attrs, &lints, reason);
}

/// Allows lints on a hook, whose parameters casty determines.
pub(super) fn of_a_hook(function: &mut ImplItemFn) {
    let sig = &function.sig;
    let mut lints = of_the_receiver(sig.receiver());
    if sig
        .inputs
        .iter()
        .any(|input| matches!(input, FnArg::Typed(_)))
    {
        lints.push(quote!(clippy::needless_pass_by_value));
    }
    allow(
        &mut function.attrs,
        &lints,
        "a hook takes what casty gives it",
    );
}

/// Allows lints on a guard, or on a function that says how long a timer runs: casty determines how
/// they take the state and the arguments.
pub(super) fn of_a_helper(function: &mut ImplItemFn) {
    let mut lints = vec![
        quote!(clippy::trivially_copy_pass_by_ref),
        quote!(clippy::unused_self),
    ];
    if types::returned(&function.sig.output).is_some() {
        lints.push(quote!(clippy::unnecessary_wraps));
    }
    allow(
        &mut function.attrs,
        &lints,
        "a message function names this one in an option",
    );
}

/// The functions that options of message functions name: `guard = may_bid`, `after = Self::left`.
pub(super) fn named_by_options(items: &[ImplItem]) -> Vec<Ident> {
    let mut named = Vec::new();
    let functions = items.iter().filter_map(|item| match item {
        ImplItem::Fn(function) => Some(function),
        _ => None,
    });
    for attribute in functions.flat_map(|function| &function.attrs) {
        if let ("message", Meta::List(list)) = (
            fallback::helper(attribute).unwrap_or_default(),
            &attribute.meta,
        ) {
            let options = list.tokens.clone().into_iter().collect::<Vec<_>>();
            let options =
                options.split(|token| matches!(token, TokenTree::Punct(it) if it.as_char() == ','));
            named.extend(options.filter_map(named_by));
        }
    }
    named
}

/// The last name of one option.
fn named_by(option: &[TokenTree]) -> Option<Ident> {
    let (Some(TokenTree::Ident(key)), Some(TokenTree::Ident(name))) =
        (option.first(), option.last())
    else {
        return None;
    };
    let names = ["guard", "after", "every"].iter().any(|it| key == it);
    (names && option.len() > 2).then(|| name.clone())
}

fn of_the_receiver(receiver: Option<&Receiver>) -> Vec<TokenStream> {
    match receiver.map(|receiver| &receiver.kind) {
        None => Vec::new(),
        Some(ReceiverKind::Reference(_, _, mutability)) if mutability.is_none() => vec![
            quote!(clippy::trivially_copy_pass_by_ref),
            quote!(clippy::unused_self),
        ],
        Some(_) => vec![quote!(clippy::unused_self)],
    }
}

fn allow(attrs: &mut Vec<Attribute>, lints: &[TokenStream], reason: &str) {
    // One line each, as one writes a single lint.
    for lint in lints {
        attrs.push(parse_quote!(#[allow(#lint, reason = #reason)]));
    }
}
