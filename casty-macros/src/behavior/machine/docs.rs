//! The transition table, in the docs of the module and of the type.

use std::fmt::Write;

use syn::{Attribute, ext::IdentExt, parse_quote};

use crate::behavior::{
    docs::{cell, reply},
    model::{Behavior, Handler, Next, Otherwise, Outcome, State},
};

/// The table of messages by state, with their targets.
pub(in crate::behavior) fn table(behavior: &Behavior) -> Attribute {
    let mut table =
        "\n# States and transitions\n\n| state | message | next states | reply |\n|---|---|---|---|\n"
            .to_owned();
    for state in &behavior.states {
        for handler in &state.handlers {
            // Writing to a string cannot fail.
            let _ = writeln!(
                table,
                "| `{}` | `{}`{} | {} | {} |",
                state.ident,
                handler.message.ident.unraw(),
                remarks(handler),
                next(state, handler),
                if handler.message.internal {
                    String::new()
                } else {
                    cell(&reply(&handler.message.reply))
                },
            );
        }
        for handler in &state.events {
            let targets = handler.next.as_ref().map_or(&[][..], Next::targets);
            let targets: Vec<_> = targets
                .iter()
                .map(|target| format!("`{}`", target.name()))
                .collect();
            let _ = writeln!(
                table,
                "| `{}` | event `{}` | {} | |",
                state.ident,
                handler.event.form.wire_name,
                targets.join(", "),
            );
        }
        for (name, policy) in &state.exceptions {
            let what = done(*policy);
            let _ = writeln!(table, "| `{}` | `{name}` | | {what} |", state.ident);
        }
        for (which, policy) in [
            ("any other internal one", state.internal),
            ("any other", state.otherwise),
        ] {
            let Some(policy) = policy else { continue };
            let what = done(policy.otherwise);
            let _ = writeln!(table, "| `{}` | {which} | | {what} |", state.ident);
        }
    }
    for group in &behavior.groups {
        let members = group.members.iter().map(|state| format!("`{state}`"));
        let members = members.collect::<Vec<_>>().join(", ");
        let _ = writeln!(table, "\n`{}` is {members}.", group.ident);
    }
    parse_quote!(#[doc = #table])
}

fn done(policy: Otherwise) -> &'static str {
    match policy {
        Otherwise::Reject => "rejected",
        Otherwise::Ignore => "ignored",
        Otherwise::Stash => "kept for the next state",
    }
}

/// Where the message comes from, if not from outside, and what its handler asks first.
fn remarks(handler: &Handler) -> String {
    let mut remarks = Vec::new();
    match &handler.timer {
        Some(timer) => remarks.push(timer.shown()),
        None if handler.message.internal => remarks.push("internal".to_owned()),
        None => {}
    }
    if let Some(guard) = &handler.guard {
        remarks.push(format!("if `{}`", guard.ident));
    }
    if remarks.is_empty() {
        return String::new();
    }
    format!(", {}", remarks.join(", "))
}

fn next(state: &State, handler: &Handler) -> String {
    let Outcome::Leaves(transition) = &handler.outcome else {
        return String::new();
    };
    let mut targets: Vec<_> = transition
        .next
        .targets()
        .iter()
        .map(|target| format!("`{}`", target.name()))
        .collect();
    if transition.may_stay {
        targets.push(format!("or stays `{}`", state.ident));
    }
    targets.join(", ")
}
