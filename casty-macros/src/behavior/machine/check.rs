//! Rules across the states of a machine.

use std::fmt::Write;

use proc_macro2::{Ident, Span};
use syn::parse_quote;

use crate::{
    behavior::{
        docs,
        model::{
            Behavior, Hook, Message, Next, Otherwise, Outcome, Policy, Reply, State, Target, Turn,
        },
        union::Union,
    },
    errors::Errors,
    names, text,
};

/// Complains of states that no sequence of messages leads to.
pub(in crate::behavior) fn every_state_is_reached(behavior: &Behavior, errors: &mut Errors) {
    // A function that was not understood may lead anywhere.
    let all_read = behavior.states.iter().all(|state| {
        state.block.is_some()
            && state.handlers.len() == state.written.len()
            && state.events.len() == state.written_events.len()
            && state.events.iter().all(|handler| handler.is_sound)
    });
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
                    "nothing leads to `{0}`: let {2} that takes `self` return it, or drop this state. \
                     The machine starts in `{1}`",
                    state.ident,
                    initial.ident,
                    if behavior.settings.is_event_sourced() {
                        "an event"
                    } else {
                        "a handler"
                    }
                ),
            );
        }
    }
}

fn targets(state: &State) -> impl Iterator<Item = &Target> {
    let by_events = state
        .events
        .iter()
        .filter_map(|handler| handler.next.as_ref())
        .flat_map(Next::targets);
    let by_handlers = state
        .handlers
        .iter()
        .flat_map(|handler| match &handler.outcome {
            Outcome::Leaves(transition) => transition.next.targets(),
            Outcome::Reply | Outcome::Later | Outcome::Effect(_) => &[],
        });
    by_handlers.chain(by_events)
}

/// Makes one protocol of what the states handle, and complains where they differ or say nothing.
pub(in crate::behavior) fn check(behavior: &mut Behavior, errors: &mut Errors) {
    only_the_first_is_made(behavior, errors);
    let stashes = |state: &State| {
        let policies = [state.otherwise, state.internal].into_iter().flatten();
        let exceptions = state.exceptions.iter().map(|(_, otherwise)| *otherwise);
        let mut words = policies.map(|policy| policy.otherwise).chain(exceptions);
        words.any(|otherwise| otherwise == Otherwise::Stash)
    };
    if errors.count() == 0 && !behavior.states.iter().any(stashes) {
        behavior.settings.no_state_stashes(errors);
    }
    behavior.messages = union(&mut behavior.states, errors);
    for state in &behavior.states {
        exceptions(state, &behavior.messages, errors);
        total(state, behavior, errors);
    }
    shared_policies_are_needed(behavior, errors);
    add_state_name(behavior);
}

/// Adds the message `state_name`, which each state answers, unless there is one of that name.
fn add_state_name(behavior: &mut Behavior) {
    const NAME: &str = "state_name";
    let ident = Ident::new(NAME, Span::call_site());
    let variant = names::variant(&ident);
    let mut messages = behavior.messages.iter();
    if messages.any(|message| message.variant == variant || message.wire_name == NAME) {
        return;
    }
    behavior.messages.push(Message {
        docs: vec![parse_quote!(#[doc = " The name of the state that it is in."])],
        reply: Reply::Value(Box::new(parse_quote!(::std::string::String))),
        is_built_in: true,
        ..Message::bare(ident, variant, NAME.to_owned())
    });
}

/// The messages that a state says nothing of and that can reach it: those that it neither handles
/// nor excepts, without those that only a timer of another state sends.
fn unsaid<'a>(state: &State, behavior: &'a Behavior) -> Vec<&'a Message> {
    let says = |message: &Message| {
        state.written.contains(&message.ident)
            || state
                .exceptions
                .iter()
                .any(|(name, _)| *name == message.ident)
            || behavior.is_of_a_timer(message)
    };
    let messages = behavior.messages.iter();
    messages.filter(|message| !says(message)).collect()
}

/// Reports exceptions for messages that there are not, or that the state handles.
fn exceptions(state: &State, messages: &[Message], errors: &mut Errors) {
    let mut seen: Vec<&Ident> = Vec::new();
    for (name, otherwise) in &state.exceptions {
        if state.written.contains(name) {
            errors.at(
                name,
                format!(
                    "`{}` handles `{name}`, so there is nothing left to {}: drop it here",
                    state.ident,
                    otherwise.verb()
                ),
            );
        } else if seen.contains(&name) {
            errors.at(name, format!("`{name}` is named already: name it once"));
        } else if errors.count() == 0 && !messages.iter().any(|message| message.ident == *name) {
            let known = messages.iter().map(|message| &message.ident);
            let advice = names::did_you_mean(&name.to_string(), known).unwrap_or_else(|| {
                "a state that handles it has a `#[message]` function of this name".to_owned()
            });
            errors.at(
                name,
                format!("`{name}` is no message of any state: {advice}"),
            );
        }
        seen.push(name);
    }
}

/// Reports a policy of a block for several states that none of them needs.
fn shared_policies_are_needed(behavior: &Behavior, errors: &mut Errors) {
    if errors.count() > 0 {
        return;
    }
    let same = |one: &Policy, other: &Option<Policy>| {
        other.is_some_and(|other| format!("{:?}", other.span) == format!("{:?}", one.span))
    };
    for policy in &behavior.shared_policies {
        let is_needed = behavior.states.iter().any(|state| {
            let unsaid = unsaid(state, behavior);
            let internal = unsaid.iter().any(|message| message.internal);
            let other = unsaid
                .iter()
                .any(|it| state.internal.is_none() || !it.internal);
            (same(policy, &state.internal) && internal) || (same(policy, &state.otherwise) && other)
        });
        if !is_needed {
            errors.at_span(
                policy.span,
                format!(
                    "these states say of every message what they do with it, so there is nothing left to {}: drop this",
                    policy.otherwise.verb()
                ),
            );
        }
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
        // After a move an activation begins in the state that came along, and after a recovery in
        // the one that was stored.
        let begins_anywhere = behavior.settings.migrates || behavior.settings.stored.is_some();
        let starts = |hook: &&Hook| hook.turn == Turn::Start && !begins_anywhere;
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
    let mut messages = Union::new();
    for State {
        ident, handlers, ..
    } in states
    {
        handlers.retain(|handler| messages.admits(&handler.message, ident, errors));
    }
    messages.into_found()
}

/// Whether every message is handled, or something said of it.
fn total(state: &State, behavior: &Behavior, errors: &mut Errors) {
    let Some(block) = &state.block else {
        return;
    };
    let mut missing = unsaid(state, behavior);
    if let Some(policy) = state.internal {
        let before = missing.len();
        missing.retain(|message| !message.internal);
        if missing.len() == before && !policy.is_shared && errors.count() == 0 {
            errors.at_span(
                policy.span,
                format!(
                    "`{block}` handles every internal message, so there is none left to {}: drop `internal`",
                    policy.otherwise.verb()
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
        Some(policy) if missing.is_empty() && !policy.is_shared && errors.count() == 0 => {
            errors.at_span(
                policy.span,
                format!(
                    "`{block}` handles {of_these}, so there is nothing left to {}: drop `otherwise`",
                    policy.otherwise.verb()
                ),
            );
        }
        None if !missing.is_empty() => {
            let names: Vec<_> = missing
                .iter()
                .map(|message| format!("`{}`", message.ident))
                .collect();
            let functions: Vec<_> = missing
                .iter()
                .map(|message| signature(message, behavior.settings.is_event_sourced()))
                .collect();
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
fn signature(message: &Message, is_event_sourced: bool) -> String {
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
    // A command only looks at the state.
    let receiver = if is_event_sourced {
        "&self"
    } else {
        "&mut self"
    };
    format!(
        "    {attribute}\n    fn {}({receiver}{arguments}){reply} {{ .. }}\n",
        message.ident
    )
}
