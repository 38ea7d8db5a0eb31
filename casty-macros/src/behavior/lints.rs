//! The lints of clippy that the signature of a message function or hook sets off by design.
//!
//! An `allow` on a function holds in its body as well. So a function gets the `allow` only for
//! lints that its own signature can set off, and the user's lints apply to the rest of the body.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{FnArg, ImplItemFn, Receiver, ReceiverKind, Type, parse_quote};

use crate::types;

/// Allows lints on a message function, whose signature is part of the protocol.
pub(super) fn of_a_message(function: &mut ImplItemFn) {
    let sig = &function.sig;
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
    allow(
        function,
        &lints,
        "the protocol says what a message function looks like",
    );
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
    allow(function, &lints, "a hook takes what casty gives it");
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

fn allow(function: &mut ImplItemFn, lints: &[TokenStream], reason: &str) {
    if !lints.is_empty() {
        function
            .attrs
            .push(parse_quote!(#[allow(#(#lints,)* reason = #reason)]));
    }
}
