//! The transition table, in the docs of the module and of the type.

use std::fmt::Write;

use syn::{Attribute, ext::IdentExt, parse_quote};

use crate::behavior::{
    docs::{cell, reply},
    model::{Behavior, Handler, Otherwise, Outcome, State},
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
                "| `{}` | `{}` | {} | {} |",
                state.ident,
                handler.message.ident.unraw(),
                next(state, handler),
                cell(&reply(&handler.message.reply)),
            );
        }
        for (which, policy) in [
            ("any other internal one", state.internal),
            ("any other", state.otherwise),
        ] {
            let Some((policy, _)) = policy else { continue };
            let what = match policy {
                Otherwise::Reject => "rejected",
                Otherwise::Ignore => "ignored",
                Otherwise::Stash => "kept for the next state",
            };
            let _ = writeln!(table, "| `{}` | {which} | | {what} |", state.ident);
        }
    }
    parse_quote!(#[doc = #table])
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
