//! The docs that generated items and the impl block get.

use std::fmt::Write;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, ext::IdentExt, parse_quote};

use super::model::{Behavior, Handler, Reply};
use crate::{names, text};

/// A table of the messages.
pub(super) fn table(behavior: &Behavior) -> Attribute {
    let mut table = "\n# Messages\n\n| message | arguments | reply |\n|---|---|---|\n".to_owned();
    for handler in behavior.public() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} |",
            handler.ident.unraw(),
            cell(&arguments(handler)),
            cell(&reply(handler)),
        );
    }
    parse_quote!(#[doc = #table])
}

fn cell(code: &str) -> String {
    if code.is_empty() {
        String::new()
    } else {
        format!("`{}`", code.replace('|', "\\|"))
    }
}

fn arguments(handler: &Handler) -> String {
    let arguments = handler.arguments().map(|argument| {
        let mut shown = String::new();
        for attribute in &argument.attrs {
            if attribute.path().is_ident("serde") {
                shown.push_str(&text::of(attribute));
                shown.push(' ');
            }
        }
        format!(
            "{shown}{}: {}",
            argument.ident.unraw(),
            text::of(&argument.ty)
        )
    });
    arguments.collect::<Vec<_>>().join(", ")
}

fn reply(handler: &Handler) -> String {
    match &handler.reply {
        Reply::Unit => "()".to_owned(),
        Reply::Value(ty) | Reply::Fallible { whole: ty, .. } => text::of(ty),
    }
}

/// The protocol as text, for nodes to compare.
pub(super) fn schema(behavior: &Behavior) -> String {
    let mut messages: Vec<_> = behavior
        .public()
        .map(|handler| {
            let (name, arguments, reply) = (&handler.wire_name, arguments(handler), reply(handler));
            (name, format!("{name}({arguments}) -> {reply}"))
        })
        .collect();
    messages.sort();
    messages
        .into_iter()
        .map(|(_, line)| line)
        .collect::<Vec<_>>()
        .join("; ")
}

/// What a message function's docs say, for the variant.
pub(super) fn of_variant(behavior: &Behavior, handler: &Handler) -> TokenStream {
    if handler.docs.is_empty() {
        let proxy = names::proxy(&behavior.ident);
        let text = format!(" What [`{proxy}::{}`] sends.", handler.ident.unraw());
        return quote!(#[doc = #text]);
    }
    let docs = &handler.docs;
    quote!(#(#docs)*)
}

/// The same for the proxy's method.
pub(super) fn of_method(behavior: &Behavior, handler: &Handler) -> TokenStream {
    let function = handler.ident.unraw();
    if handler.docs.is_empty() {
        let text = format!(" Calls `{function}` of the {}.", behavior.kind.noun());
        return quote!(#[doc = #text]);
    }
    let docs = &handler.docs;
    quote!(#(#docs)*)
}
