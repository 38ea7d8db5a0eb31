//! The docs that generated items and the impl block get.

use std::fmt::Write;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, ext::IdentExt, parse_quote};

use super::model::{Behavior, Message, Reply};
use crate::{names, text};

/// A table of the messages.
pub(super) fn table(behavior: &Behavior) -> Attribute {
    let mut table = "\n# Messages\n\n| message | arguments | reply |\n|---|---|---|\n".to_owned();
    for message in behavior.public() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} |",
            message.ident.unraw(),
            cell(&arguments(message)),
            cell(&reply(&message.reply)),
        );
    }
    parse_quote!(#[doc = #table])
}

pub(super) fn cell(code: &str) -> String {
    if code.is_empty() {
        String::new()
    } else {
        format!("`{}`", code.replace('|', "\\|"))
    }
}

pub(super) fn arguments(message: &Message) -> String {
    let arguments = message.arguments.iter().map(|argument| {
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

/// What an asker gets, as one would write it.
pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Unit => "()".to_owned(),
        Reply::Fallible {
            parts: Some(parts), ..
        } => {
            let (ok, error) = &**parts;
            format!("Result<{}, {}>", text::of(ok), text::of(error))
        }
        Reply::Value(ty) | Reply::Fallible { whole: ty, .. } => text::of(ty),
    }
}

/// The protocol as text, for nodes to compare.
pub(super) fn schema(behavior: &Behavior) -> String {
    let mut messages: Vec<_> = behavior
        .public()
        .map(|message| {
            let name = &message.wire_name;
            let (arguments, reply) = (arguments(message), reply(&message.reply));
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
pub(super) fn of_variant(behavior: &Behavior, message: &Message) -> TokenStream {
    if message.docs.is_empty() {
        let proxy = names::proxy(&behavior.ident);
        let text = format!(" What [`{proxy}::{}`] sends.", message.ident.unraw());
        return quote!(#[doc = #text]);
    }
    let docs = &message.docs;
    quote!(#(#docs)*)
}

/// The same for the proxy's method.
pub(super) fn of_method(behavior: &Behavior, message: &Message) -> TokenStream {
    let function = message.ident.unraw();
    if message.docs.is_empty() {
        let text = format!(" Calls `{function}` of the {}.", behavior.kind.noun());
        return quote!(#[doc = #text]);
    }
    let docs = &message.docs;
    quote!(#(#docs)*)
}
