//! Rules across the events of a type, and across their versions.

use proc_macro2::Ident;
use syn::ext::IdentExt;

use super::{
    model::{Behavior, State, Upcast, Upcasts},
    union::{self, Union},
};
use crate::{errors::Errors, names};

/// Collects the events and the upcasters, and reports those that contradict each other.
pub(super) fn check(behavior: &mut Behavior, errors: &mut Errors) {
    let mut all = Union::new();
    for State { ident, events, .. } in &mut behavior.states {
        events.retain(|handler| all.admits(&handler.event, ident, errors));
    }
    behavior.events = all.into_found();
    has_events(behavior, errors);
    union::names(&behavior.events, errors);
    let mut written = std::mem::take(&mut behavior.upcasts);
    for state in &mut behavior.states {
        written.append(&mut state.upcasts);
    }
    let mut upcasts: Vec<Upcast> = Vec::new();
    for upcast in written {
        if is_single(&upcast, &upcasts, errors) && is_of_an_older_version(&upcast, behavior, errors)
        {
            upcasts.push(upcast);
        }
    }
    behavior.upcasts = upcasts;
    if errors.count() == 0 {
        no_gaps(behavior, errors);
    }
}

fn has_events(behavior: &Behavior, errors: &mut Errors) {
    let mut states = behavior.states.iter();
    if states.all(|state| state.written_events.is_empty()) && !behavior.states.is_empty() {
        errors.at(
            &behavior.actor,
            "an event-sourced entity changes by its events alone, and this one has none: write `#[event]` above \
             the functions that change the state, such as `fn withdrawn(&mut self, amount: u64)`",
        );
    }
}

/// Whether no other upcaster reads the same version of the same event. A function of a block for
/// several states is there once for each.
fn is_single(upcast: &Upcast, others: &[Upcast], errors: &mut Errors) -> bool {
    let same = others
        .iter()
        .find(|other| other.from == upcast.from && other.of.name() == upcast.of.name());
    let Some(first) = same else { return true };
    if first.ident != upcast.ident {
        errors.at(
            &upcast.ident,
            format!(
                "`{}` reads version {} of `{}` already: keep one of them",
                first.ident,
                upcast.from,
                upcast.of.name()
            ),
        );
    }
    false
}

/// Whether there is an event that the upcaster can be for.
fn is_of_an_older_version(upcast: &Upcast, behavior: &Behavior, errors: &mut Errors) -> bool {
    match &upcast.of {
        Upcasts::Removed(name, span) => {
            let mut events = behavior.events.iter();
            let present = events.find(|event| event.form.wire_name == *name);
            if let Some(present) = present {
                errors.at_span(
                    *span,
                    format!(
                        "`{name}` is an event of today: write `#[upcast(event = {}, from = {})]`",
                        present.form.ident, upcast.from
                    ),
                );
            }
            present.is_none()
        }
        Upcasts::Present(function) => {
            let mut events = behavior.events.iter();
            let Some(event) = events.find(|it| it.form.ident.unraw() == function.unraw()) else {
                unknown(upcast, function, behavior, errors);
                return false;
            };
            if upcast.from >= event.version {
                errors.at_span(
                    upcast.from_span,
                    format!(
                        "version {} of `{function}` is not older than that of today, {}: an upcaster reads older \
                         ones. If the arguments have changed, count on: `#[event(version = {})]`",
                        upcast.from,
                        event.version,
                        upcast.from.saturating_add(1)
                    ),
                );
                return false;
            }
            true
        }
    }
}

fn unknown(upcast: &Upcast, function: &Ident, behavior: &Behavior, errors: &mut Errors) {
    let written = || {
        behavior
            .states
            .iter()
            .flat_map(|state| &state.written_events)
    };
    if written().any(|event| event.unraw() == function.unraw()) {
        // It has a mistake of its own.
        return;
    }
    let removed = format!(
        "for one that is gone, write its stored name: `#[upcast(removed = \"{function}\", from = {})]`",
        upcast.from
    );
    let advice = names::did_you_mean(&function.to_string(), written())
        .map_or_else(|| removed.clone(), |meant| format!("{meant} ({removed})"));
    errors.at(
        function,
        format!("there is no event `{function}`: {advice}"),
    );
}

/// Reports older versions that nothing reads.
fn no_gaps(behavior: &Behavior, errors: &mut Errors) {
    for event in &behavior.events {
        let function = &event.form.ident;
        let is_read = |version: u32| {
            let mut upcasts = behavior.upcasts.iter();
            upcasts.any(|upcast| upcast.from == version && upcast.reads(function))
        };
        if let Some(missing) = (1..event.version).find(|version| !is_read(*version)) {
            errors.at_span(
                event.version_span,
                format!(
                    "nothing reads version {missing} of `{function}`, which may be stored: write a function that makes \
                     today's event of the arguments it had, \
                     `#[upcast(from = {missing})] fn {}_v{missing}(..) -> {}`",
                    function.unraw(),
                    names::event_enum(&behavior.ident)
                ),
            );
        }
    }
    for (index, upcast) in behavior.upcasts.iter().enumerate() {
        let Upcasts::Removed(name, span) = &upcast.of else {
            continue;
        };
        let of_this = || {
            behavior.upcasts.iter().enumerate().filter(
                |(_, other)| matches!(&other.of, Upcasts::Removed(other, _) if other == name),
            )
        };
        let is_first = of_this().all(|(other, _)| other >= index);
        let last = of_this().map(|(_, other)| other.from).max().unwrap_or(1);
        let is_read = |version: u32| of_this().any(|(_, other)| other.from == version);
        if let Some(missing) = (1..last)
            .find(|version| !is_read(*version))
            .filter(|_| is_first)
        {
            errors.at_span(
                *span,
                format!(
                    "nothing reads version {missing} of `{name}`, which may be stored: \
                     write `#[upcast(removed = \"{name}\", from = {missing})]` above a function that does"
                ),
            );
        }
    }
}

impl Upcast {
    fn reads(&self, event: &Ident) -> bool {
        matches!(&self.of, Upcasts::Present(function) if function.unraw() == event.unraw())
    }
}

impl Upcasts {
    /// As a message about it names the event.
    fn name(&self) -> String {
        match self {
            Self::Present(function) => function.unraw().to_string(),
            Self::Removed(name, _) => name.clone(),
        }
    }
}
