//! The docs of the generated items and of the impl block.

use std::fmt::Write;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Visibility, ext::IdentExt, parse_quote};

use super::model::{Behavior, Event, Message, Otherwise, Reply};
use crate::{names, text};

/// A table of the messages, each with a link to the method that sends it.
pub(super) fn table(behavior: &Behavior) -> Attribute {
    let proxy = names::proxy(&behavior.ident);
    let mut table = format!(
        "\n# Messages\n\n[`{proxy}`] has a method for each.\n\n\
         | message | arguments | reply |\n|---|---|---|\n"
    );
    for message in behavior.public() {
        let name = message.ident.unraw();
        let shown = match message.vis {
            // The method is public.
            Visibility::Inherited | Visibility::Public(_) => format!("[`{name}`]({proxy}::{name})"),
            Visibility::Restricted(_) => format!("`{name}`"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {shown} | {} | {} |",
            cell(&arguments(message)),
            cell(&reply(&message.reply)),
        );
    }
    parse_quote!(#[doc = #table])
}

/// A table of the events, if there are any.
pub(super) fn table_of_events(behavior: &Behavior) -> Option<Attribute> {
    if behavior.events.is_empty() {
        return None;
    }
    let events = names::event_enum(&behavior.ident);
    let mut table = format!(
        "\n# Events\n\n[`{events}`] has a variant for each.\n\n\
         | event | arguments | version |\n|---|---|---|\n"
    );
    for Event { form, version, .. } in &behavior.events {
        let (variant, name) = (&form.variant, &form.wire_name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| [`{name}`]({events}::{variant}) | {} | {version} |",
            cell(&arguments(form)),
        );
    }
    Some(parse_quote!(#[doc = #table]))
}

/// The docs of `CounterEvent`.
pub(super) fn of_events(behavior: &Behavior) -> TokenStream {
    let actor = &behavior.ident;
    let summary = format!(" The events of [`{actor}`], which its commands persist.");
    let table = behavior.is_machine().then(|| table_of_events(behavior));
    let table = table.flatten();
    quote!(#[doc = #summary] #table)
}

/// The docs of an event: those of its function, if it has any.
pub(super) fn of_event(event: &Message) -> TokenStream {
    if event.docs.is_empty() {
        let text = format!(" What `{}` applies to the state.", event.ident.unraw());
        return quote!(#[doc = #text]);
    }
    let docs = &event.docs;
    quote!(#(#docs)*)
}

/// The docs of `CounterMsg`. The table stands above the impl block, if there is one.
pub(super) fn of_enum(behavior: &Behavior) -> TokenStream {
    let actor = &behavior.ident;
    if behavior.is_machine() {
        let summary = format!(" The messages of [`{actor}`].");
        let table = table(behavior);
        return quote!(#[doc = #summary] #table);
    }
    let summary =
        format!(" The messages of [`{actor}`], which has a [table]({actor}#messages) of them.");
    quote!(#[doc = #summary])
}

/// The docs of `CounterRef`.
pub(super) fn of_proxy(behavior: &Behavior) -> TokenStream {
    let (kind, actor) = (behavior.kind.a_noun(), &behavior.ident);
    let summary = format!(" A reference to {kind} of type [`{actor}`]: each message is a method.");
    let usage = " A method returns a call, which `.tell().await` tells and `.await` asks. A reference is cheap to \
        clone, and may travel in a message to another node.";
    quote! {
        #[doc = #summary]
        #[doc = ""]
        #[doc = #usage]
    }
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

/// The type of the answer, as a user would write it.
pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Unit => "()".to_owned(),
        Reply::Fallible {
            parts: Some(parts), ..
        } => {
            let (ok, error) = &**parts;
            format!("Result<{}, {}>", text::of(ok), text::of(error))
        }
        Reply::Value(ty) | Reply::Fallible { whole: ty, .. } => {
            let shown = text::of(ty);
            let plain = shown.strip_prefix("::std::string::").map(str::to_owned);
            plain.unwrap_or(shown)
        }
    }
}

/// The protocol as text; nodes compare it to notice that they run different versions.
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

/// The docs of a variant: those of the message function, if it has any.
pub(super) fn of_variant(behavior: &Behavior, message: &Message) -> TokenStream {
    if message.docs.is_empty() {
        let proxy = names::proxy(&behavior.ident);
        let text = format!(" What [`{proxy}::{}`] sends.", message.ident.unraw());
        return quote!(#[doc = #text]);
    }
    let docs = &message.docs;
    quote!(#(#docs)*)
}

/// The docs of a proxy's method: those of the message function, if it has any, and the states in
/// which it is handled.
pub(super) fn of_method(behavior: &Behavior, message: &Message) -> TokenStream {
    let function = message.ident.unraw();
    let states = handled_in(behavior, message);
    if message.docs.is_empty() {
        let text = format!(" Calls `{function}` of the {}.", behavior.kind.noun());
        return quote!(#[doc = #text] #states);
    }
    let docs = &message.docs;
    quote!(#(#docs)* #states)
}

/// Which states handle the message, and what the others do with it.
fn handled_in(behavior: &Behavior, message: &Message) -> Option<TokenStream> {
    if !behavior.is_machine() || message.is_built_in {
        return None;
    }
    let (mut handled, mut stashed) = (Vec::new(), Vec::new());
    for state in &behavior.states {
        let mut handlers = state.handlers.iter();
        if handlers.any(|handler| handler.message.variant == message.variant) {
            handled.push(format!("`{}`", state.ident));
        } else if state.policy(message) == Some(Otherwise::Stash) {
            stashed.push(format!("`{}`", state.ident));
        }
    }
    let mut text = if handled.len() == behavior.states.len() {
        " Handled in every state.".to_owned()
    } else {
        format!(" Handled in {}.", handled.join(", "))
    };
    if !stashed.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(text, " Waits while the state is {}.", stashed.join(" or "));
    }
    Some(quote!(#[doc = ""] #[doc = #text]))
}
