//! Reads the return type of a command: `Effect<Self, R>`, or a `Result` of it.

use syn::{ReturnType, Type};

use super::{
    model::{Effect, Reply},
    reply,
    scope::Scope,
};
use crate::{errors::Errors, text, types};

/// The parts of a return type that is an effect.
struct Returned<'a> {
    effect: &'a Type,
    /// What stands in its angle brackets.
    arguments: Vec<&'a Type>,
    /// Whether it is in a `Result`.
    is_fallible: bool,
    /// The error of that.
    error: Option<&'a Type>,
}

/// What a return type says.
pub(super) enum Decided {
    /// It is an effect, with this reply.
    Effect(Reply, Effect),
    /// It is one that is wrong.
    Wrong,
    /// It is something else.
    Otherwise,
}

/// Looks for an effect in the return type.
pub(super) fn parse(scope: Scope<'_>, output: &ReturnType, errors: &mut Errors) -> Decided {
    let Some(returned) = types::returned(output).and_then(returned) else {
        return Decided::Otherwise;
    };
    let owner = returned.arguments.first().copied();
    let is_own = |ty: &Type| types::is(ty, scope.actor());
    if !scope.is_event_sourced() {
        // A type of the user's may have this name.
        if !owner.is_some_and(is_own) {
            return Decided::Otherwise;
        }
        let instead = match scope.stored {
            Some(_) => {
                "this entity is stored as it is: take `&mut self`, change the state, and return the reply. \
                        For a history of events write `event_sourced` in place of `durable`"
            }
            None => {
                "an effect persists events, and this type has none: write `#[entity(event_sourced)]`, \
                     or take `&mut self`, change the state, and return the reply"
            }
        };
        errors.at(returned.effect, instead);
        return Decided::Wrong;
    }
    match of(scope, &returned, errors) {
        Some((reply, effect)) => Decided::Effect(reply, effect),
        None => Decided::Wrong,
    }
}

fn of(scope: Scope<'_>, returned: &Returned<'_>, errors: &mut Errors) -> Option<(Reply, Effect)> {
    let right = scope.effect();
    let (owner, written) = match returned.arguments[..] {
        [owner] => (owner, None),
        [owner, reply] => (owner, Some(reply)),
        _ => {
            errors.at(
                returned.effect,
                format!("an effect names the entity, and the type of the reply if there is one: write `{right}`"),
            );
            return None;
        }
    };
    let names_state = scope.machine.is_some() && types::is_self(owner);
    if names_state || !types::is(owner, scope.actor()) {
        let why = if names_state {
            format!(
                "`{}` is a state here, and an effect is the machine's",
                text::of(owner)
            )
        } else {
            "a command persists events of its own entity".to_owned()
        };
        errors.at(owner, format!("{why}: write `{right}`"));
        return None;
    }
    let later = written.and_then(|ty| reply::later(scope, ty, errors));
    let is_later = later.is_some();
    if !returned.is_fallible {
        let reply = later.or_else(|| written.map(|ty| reply::of(scope, ty, errors)));
        let effect = if is_later {
            Effect::Later
        } else {
            Effect::Plain
        };
        return Some((reply.unwrap_or(Reply::Unit), effect));
    }
    let Some(error) = returned.error else {
        errors.at(
            returned.effect,
            format!("casty reads the reply from here: write both arguments, `Result<{right}, E>`"),
        );
        return None;
    };
    if is_later {
        errors.at(
            written,
            "this command answers at once if it fails, so it has to if it does not: write the reply without `Later`",
        );
    }
    let ok = written.map_or_else(|| syn::parse_quote!(()), Type::clone);
    let reply = reply::fallible(scope, &ok, error, errors);
    Some((reply, Effect::Fallible))
}

/// Takes `Result<Effect<..>, E>` or `Effect<..>` apart.
fn returned(ty: &Type) -> Option<Returned<'_>> {
    let last = types::last_segment(ty)?;
    let arguments = types::type_arguments(last);
    if last.ident == "Effect" {
        return Some(Returned {
            effect: ty,
            arguments,
            is_fallible: false,
            error: None,
        });
    }
    if last.ident != "Result" {
        return None;
    }
    let effect = *arguments.first()?;
    let inner = types::last_segment(effect).filter(|inner| inner.ident == "Effect")?;
    Some(Returned {
        effect,
        arguments: types::type_arguments(inner),
        is_fallible: true,
        error: arguments.get(1).copied(),
    })
}
