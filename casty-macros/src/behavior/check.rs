//! Rules across functions.

use proc_macro2::Ident;

use super::{
    machine,
    model::{Behavior, Turn},
    union, versions,
};
use crate::errors::Errors;

/// Reports functions that contradict each other, and removes those that would break the generated
/// items.
pub(super) fn check(behavior: &mut Behavior, errors: &mut Errors) {
    has_messages(behavior, errors);
    if behavior.is_machine() {
        machine::every_state_is_reached(behavior, errors);
    }
    for state in &mut behavior.states {
        union::distinct(&mut state.handlers, |handler| &handler.message, errors);
        union::distinct(&mut state.events, |handler| &handler.event, errors);
        only_one("init", state.init.iter().map(|init| &init.ident), errors);
        for turn in Turn::ALL {
            let hooks = state.hooks.iter().filter(|hook| hook.turn == turn);
            only_one(turn.name(), hooks.map(|hook| &hook.ident), errors);
        }
    }
    if behavior.is_machine() {
        machine::check(behavior, errors);
    } else {
        protocol(behavior);
    }
    union::names(&behavior.messages, errors);
    if behavior.settings.is_event_sourced() {
        versions::check(behavior, errors);
    }
}

fn has_messages(behavior: &Behavior, errors: &mut Errors) {
    let is_silent = behavior.states.iter().all(|state| state.written.is_empty());
    // A machine without states is reported elsewhere.
    if is_silent && !behavior.states.is_empty() {
        errors.at(
            &behavior.actor,
            format!(
                "{} without messages cannot be talked to: write `#[message]` above the functions that others may call",
                behavior.kind.a_noun()
            ),
        );
    }
}

/// Collects the messages of the only state.
fn protocol(behavior: &mut Behavior) {
    let handlers = behavior.states.iter().flat_map(|state| &state.handlers);
    behavior.messages = handlers.map(|handler| handler.message.clone()).collect();
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
