//! Rules across the states of a machine.

use std::fmt::Write;

use crate::{
    behavior::{
        docs,
        model::{Behavior, Hook, Message, Otherwise, Outcome, State, Target, Turn},
    },
    errors::Errors,
    text,
};

/// Complains of states that no sequence of messages leads to.
pub(in crate::behavior) fn every_state_is_reached(behavior: &Behavior, errors: &mut Errors) {
    // A function that was not understood may lead anywhere.
    let all_read = behavior
        .states
        .iter()
        .all(|state| state.block.is_some() && state.handlers.len() == state.written.len());
    let Some(initial) = behavior.initial().filter(|_| all_read) else {
        return;
    };
    let mut reached = vec![&initial.ident];
    let mut next = 0;
    while let Some(from) = reached.get(next) {
        let state = behavior.states.iter().find(|state| state.ident == **from);
        for target in state.into_iter().flat_map(targets) {
            if let Target::State(to) = target
                && !reached.contains(&to)
            {
                reached.push(to);
            }
        }
        next += 1;
    }
    for state in &behavior.states {
        if !reached.contains(&&state.ident) {
            errors.at(
                &state.ident,
                format!(
                    "nothing leads to `{0}`: let a handler that takes `self` return it, or drop this state. \
                     The machine starts in `{1}`",
                    state.ident, initial.ident
                ),
            );
        }
    }
}

fn targets(state: &State) -> impl Iterator<Item = &Target> {
    state
        .handlers
        .iter()
        .flat_map(|handler| match &handler.outcome {
            Outcome::Leaves(transition) => transition.next.targets(),
            Outcome::Reply | Outcome::Later => &[],
        })
}

/// Makes one protocol of what the states handle, and complains where they differ or say nothing.
pub(in crate::behavior) fn check(behavior: &mut Behavior, errors: &mut Errors) {
    only_the_first_is_made(behavior, errors);
    let stashes = |state: &State| {
        let mut policies = [state.otherwise, state.internal].into_iter().flatten();
        policies.any(|(policy, _)| policy == Otherwise::Stash)
    };
    if errors.count() == 0 && !behavior.states.iter().any(stashes) {
        behavior.settings.no_state_stashes(errors);
    }
    behavior.messages = union(&mut behavior.states, errors);
    for state in &behavior.states {
        total(state, &behavior.messages, errors);
    }
}

fn only_the_first_is_made(behavior: &Behavior, errors: &mut Errors) {
    let mut states = behavior.states.iter();
    let Some(initial) = states.next() else {
        return;
    };
    for state in states {
        for init in &state.init {
            errors.at(
                &init.ident,
                format!(
                    "`#[init]` makes the first state, and the machine starts in `{0}`: \
                     move this function to the block of `{0}`",
                    initial.ident
                ),
            );
        }
        // After a move an activation begins in the state that came along.
        let starts = |hook: &&Hook| hook.turn == Turn::Start && !behavior.settings.migrates;
        for hook in state.hooks.iter().filter(starts) {
            errors.at(
                &hook.ident,
                format!(
                    "`#[on_start]` runs before the first message, when the machine is in `{0}` \
                     (or after a move, with `migrate`): move this function to the block of `{0}`, or \
                     call it where a handler enters `{1}`",
                    initial.ident, state.ident
                ),
            );
        }
    }
}

/// Leaves out the handlers that do not fit.
fn union(states: &mut [State], errors: &mut Errors) -> Vec<Message> {
    // The messages, each with the state in which it was first seen.
    let mut messages: Vec<(Message, String)> = Vec::new();
    for state in states {
        let here = state.ident.to_string();
        state.handlers.retain(|handler| {
            let second = &handler.message;
            let known = messages
                .iter_mut()
                .find(|(first, _)| first.variant == second.variant);
            let Some((first, there)) = known else {
                messages.push((second.clone(), here.clone()));
                return true;
            };
            if first.ident != second.ident {
                errors.at(
                    &second.ident,
                    format!(
                        "`{}` and `{}` both make the variant `{}` of the message enum: rename one of them",
                        first.ident, second.ident, second.variant
                    ),
                );
                return false;
            }
            if let Some((what, one, other)) = difference(first, second) {
                errors.at(
                    &first.ident,
                    format!(
                        "`{}` has {what} {one} here, in `{there}`, and {other} in `{here}`",
                        first.ident
                    ),
                );
                errors.at(
                    &second.ident,
                    format!(
                        "`{}` has {what} {other} here, in `{here}`, and {one} in `{there}`: \
                         a message is the same in every state. Make them alike, or rename one",
                        second.ident
                    ),
                );
                return false;
            }
            if first.docs.is_empty() {
                first.docs.clone_from(&second.docs);
            }
            if first.deprecated.is_none() {
                first.deprecated.clone_from(&second.deprecated);
            }
            true
        });
    }
    messages.into_iter().map(|(message, _)| message).collect()
}

/// In what two handlers of one message differ, and how.
fn difference(first: &Message, second: &Message) -> Option<(&'static str, String, String)> {
    let of = |what: &'static str, show: &dyn Fn(&Message) -> String| {
        let (one, other) = (show(first), show(second));
        (one != other).then_some((what, one, other))
    };
    of("the arguments", &|message| {
        let shown = docs::arguments(message);
        if shown.is_empty() {
            "()".to_owned()
        } else {
            format!("`{shown}`")
        }
    })
    .or_else(|| {
        of("the reply", &|message| {
            format!("`{}`", docs::reply(&message.reply))
        })
    })
    .or_else(|| {
        of("the wire name", &|message| {
            format!("`{}`", message.wire_name)
        })
    })
    .or_else(|| {
        of("the timeout", &|message| match message.timeout {
            None => "of the system".to_owned(),
            Some(timeout) => format!("of {timeout:?}"),
        })
    })
    .or_else(|| {
        of("the visibility of", &|message| {
            if message.internal {
                "an internal message"
            } else {
                "a public one"
            }
            .to_owned()
        })
    })
}

/// Whether every message is handled, or something said of it.
fn total(state: &State, messages: &[Message], errors: &mut Errors) {
    let Some(block) = &state.block else {
        return;
    };
    let mut missing: Vec<_> = messages
        .iter()
        .filter(|message| !state.written.contains(&message.ident))
        .collect();
    if let Some((policy, span)) = state.internal {
        let before = missing.len();
        missing.retain(|message| !message.internal);
        if missing.len() == before && errors.count() == 0 {
            errors.at_span(
                span,
                format!(
                    "`{block}` handles every internal message, so there is none left to {}: drop `internal`",
                    policy.verb()
                ),
            );
        }
    }
    let of_these = if state.internal.is_some() {
        "every message that is not internal"
    } else {
        "every message"
    };
    match state.otherwise {
        Some((otherwise, span)) if missing.is_empty() && errors.count() == 0 => {
            errors.at_span(
                span,
                format!(
                    "`{block}` handles {of_these}, so there is nothing left to {}: drop `otherwise`",
                    otherwise.verb()
                ),
            );
        }
        None if !missing.is_empty() => {
            let names: Vec<_> = missing
                .iter()
                .map(|message| format!("`{}`", message.ident))
                .collect();
            let functions: Vec<_> = missing.iter().map(|message| signature(message)).collect();
            errors.at(
                block,
                format!(
                    "`{block}` does not say what it does with {}: handle what is missing in this block,\n\n{}\n\
                     or write above the block what happens otherwise: `#[behavior(otherwise = reject)]` \
                     (`AskError::Unhandled`, or a dead letter), `ignore` (the same, without the dead letter), \
                     or `stash` (kept for the next state)",
                    names.join(", "),
                    functions.concat()
                ),
            );
        }
        _ => {}
    }
}

/// A handler for the message, as one would begin to write it.
fn signature(message: &Message) -> String {
    let mut arguments = String::new();
    for argument in &message.arguments {
        // Writing to a string cannot fail.
        let _ = write!(
            arguments,
            ", {}: {}",
            argument.ident,
            text::of(&argument.ty)
        );
    }
    let reply = match docs::reply(&message.reply).as_str() {
        "()" => String::new(),
        reply => format!(" -> {reply}"),
    };
    let attribute = if message.internal {
        "#[message(internal)]"
    } else {
        "#[message]"
    };
    format!(
        "    {attribute}\n    fn {}(&mut self{arguments}){reply} {{ .. }}\n",
        message.ident
    )
}
