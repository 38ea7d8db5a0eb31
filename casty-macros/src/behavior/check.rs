//! Rules across functions.

use proc_macro2::Ident;

use super::model::{Behavior, Handler, Turn};
use crate::errors::Errors;

/// Reports what does not go together, and leaves out what would break the generated items.
pub(super) fn check(behavior: &mut Behavior, errors: &mut Errors) {
    messages(behavior, errors);
    wire_names(&behavior.handlers, errors);
    variants(&mut behavior.handlers, errors);
    only_one("init", behavior.init.iter().map(|init| &init.ident), errors);
    for turn in Turn::ALL {
        let hooks = behavior.hooks.iter().filter(|hook| hook.turn == turn);
        only_one(turn.name(), hooks.map(|hook| &hook.ident), errors);
    }
}

fn messages(behavior: &Behavior, errors: &mut Errors) {
    if !behavior.has_messages {
        errors.at(
            &behavior.actor,
            format!(
                "{} without messages cannot be talked to: write `#[message]` above the functions that others may call",
                behavior.kind.a_noun()
            ),
        );
    }
}

fn wire_names(handlers: &[Handler], errors: &mut Errors) {
    for (index, handler) in handlers.iter().enumerate() {
        let Some(first) = handlers[..index].iter().find(|first| {
            !first.internal && !handler.internal && first.wire_name == handler.wire_name
        }) else {
            continue;
        };
        let name = &handler.wire_name;
        errors.at(
            &first.ident,
            format!(
                "two messages have the wire name `{name}`, this one and `{}`",
                handler.ident
            ),
        );
        errors.at(
            &handler.ident,
            format!(
                "two messages have the wire name `{name}`, this one and `{}`: the receiver could not tell them apart. \
                 Give one of them another name with `#[message(name = \"..\")]`",
                first.ident
            ),
        );
    }
}

fn variants(handlers: &mut Vec<Handler>, errors: &mut Errors) {
    let mut kept: Vec<Handler> = Vec::with_capacity(handlers.len());
    for handler in handlers.drain(..) {
        let Some(first) = kept.iter().find(|first| first.variant == handler.variant) else {
            kept.push(handler);
            continue;
        };
        // Two functions of one name are the compiler's to complain of.
        if first.ident != handler.ident {
            errors.at(
                &handler.ident,
                format!(
                    "`{}` and `{}` both make the variant `{}` of the message enum: rename one of them",
                    first.ident, handler.ident, handler.variant
                ),
            );
        }
    }
    *handlers = kept;
}

fn only_one<'a>(name: &str, functions: impl Iterator<Item = &'a Ident>, errors: &mut Errors) {
    let mut functions = functions;
    let Some(first) = functions.next() else {
        return;
    };
    for second in functions {
        errors.at(
            second,
            format!("`{first}` is `#[{name}]` already, and there can be only one: put both into one function"),
        );
    }
}
