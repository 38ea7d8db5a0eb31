//! Reads the return type of a handler that takes `self` by value: the next states, and what the
//! asker gets.

use proc_macro2::Ident;
use syn::{Receiver, ReturnType, Type};

use super::{
    model::{Answer, Next, Reply, Target, Transition},
    reply,
    scope::{Machine, Scope},
};
use crate::{errors::Errors, names, text, types};

/// The most states that a `OneOf` names.
pub(super) const ONE_OF_MAX: usize = 8;

/// A handler that leaves its state.
pub(super) struct Leaving<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) machine: &'a Machine,
    pub(super) receiver: &'a Receiver,
    pub(super) by: By,
}

/// What the function handles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Message,
    /// A message without an asker.
    Internal,
    Event,
}

/// The return type of a handler that leaves the state.
struct Left<'a> {
    next: &'a Type,
    reply: Option<&'a Type>,
    /// The error that the asker gets if the handler stays.
    error: Option<&'a Type>,
}

impl Leaving<'_> {
    /// `None` if the return type does not say which states come next.
    pub(super) fn parse(
        &self,
        output: &ReturnType,
        errors: &mut Errors,
    ) -> Option<(Reply, Transition)> {
        let Some(ty) = types::returned(output) else {
            errors.at(
                self.receiver,
                format!(
                    "`self` by value leaves `{}`, and nothing says for which state: return it, as in `-> {}`, \
                     or `Stop` for the end. To stay, take `&self` or `&mut self`",
                    self.this(),
                    self.example()
                ),
            );
            return None;
        };
        let left = self.left(ty, errors)?;
        let next = self.next(left.next, errors)?;
        let (reply, answer) = self.reply(&left, errors);
        let transition = Transition {
            next,
            answer,
            may_stay: left.error.is_some(),
        };
        Some((reply, transition))
    }

    /// Where an event leads. It has no asker, and happens in any case.
    pub(super) fn of_event(&self, output: &ReturnType, errors: &mut Errors) -> Option<Next> {
        let Some(ty) = types::returned(output) else {
            errors.at(
                self.receiver,
                format!(
                    "`self` by value leaves `{}`, and nothing says for which state: return it, as in `-> {}`. \
                     To stay, take `&mut self`",
                    self.this(),
                    self.example()
                ),
            );
            return None;
        };
        if let Type::Tuple(_) = types::bare(ty) {
            errors.at(
                ty,
                "an event has no asker: return the next state only. \
                 The command replies, with `.reply(|state| ..)` of its effect",
            );
            return None;
        }
        let next = self.next(ty, errors)?;
        let ends = |target: &Target| matches!(target, Target::Stop);
        if next.targets().iter().any(ends) {
            errors.at(
                ty,
                "an event leads to a state, from which the entity is recovered: return one. \
                 A command ends the activation, with `.stop()` of its effect, or the entity, with `.erase()`",
            );
            return None;
        }
        Some(next)
    }

    fn this(&self) -> String {
        text::of(self.scope.this)
    }

    /// A state for an example in an error: if possible another than this.
    fn example(&self) -> &Ident {
        let states = &self.machine.states;
        let this = self.this();
        let other = states.iter().find(|state| **state != this);
        other.or(states.first()).unwrap_or(&self.machine.module)
    }

    /// Takes `Result<(Next, R), Stay<Self, E>>` apart. Each part of it but `Next` is optional.
    fn left<'t>(&self, ty: &'t Type, errors: &mut Errors) -> Option<Left<'t>> {
        let this = self.this();
        let last = types::last_segment(ty);
        let (happened, error) = match last.map(|last| (last, last.ident.to_string())) {
            Some((last, name)) if name == "Result" => {
                let [happened, error] = types::type_arguments(last)[..] else {
                    errors.at(
                        ty,
                        "casty reads from here where the function leads: \
                         write both arguments, `Result<Next, Stay<Self, E>>`",
                    );
                    return None;
                };
                (happened, Some(self.stay(error, errors)?))
            }
            Some((_, name)) if name == "Stay" => {
                errors.at(
                    ty,
                    format!(
                        "`Stay` is the error of a transition that did not happen: \
                         write `Result<{}, {}>`, or take `&mut self` if `{this}` is never left",
                        self.example(),
                        text::of(ty)
                    ),
                );
                return None;
            }
            Some((_, name)) if name == "Later" => {
                errors.at(
                    ty,
                    format!(
                        "`self` by value leaves `{this}` now, whenever the reply comes: \
                         write the next state before it, `({}, {})`",
                        self.example(),
                        text::of(ty)
                    ),
                );
                return None;
            }
            _ => (ty, None),
        };
        let (next, reply) = match types::bare(happened) {
            Type::Tuple(tuple) => {
                let mut parts = tuple.elems.iter();
                let (Some(next), Some(reply), None) = (parts.next(), parts.next(), parts.next())
                else {
                    errors.at(
                        happened,
                        format!(
                            "a handler that leaves `{this}` returns the next state, or a pair of it and the reply, \
                             as in `({}, u64)`",
                            self.example()
                        ),
                    );
                    return None;
                };
                (next, Some(reply))
            }
            _ => (happened, None),
        };
        Some(Left { next, reply, error })
    }

    /// The `E` of `Stay<Self, E>`.
    fn stay<'t>(&self, error: &'t Type, errors: &mut Errors) -> Option<&'t Type> {
        let this = self.this();
        let last = types::last_segment(error).filter(|last| last.ident == "Stay");
        let Some(last) = last else {
            let shown = text::of(error);
            errors.at(
                error,
                format!(
                    "`self` was taken by value, so this error would leave no state to go on with: \
                     write `Stay<Self, {shown}>`, and in the function `Err(Stay(self, error))`"
                ),
            );
            return None;
        };
        match types::type_arguments(last)[..] {
            [state, error] if types::is(state, self.scope.this) => {
                if self.by == By::Internal {
                    errors.at(
                        error,
                        "an internal message has no asker: \
                         write `OneOf<Self, ..>` for a transition that may not happen",
                    );
                    return None;
                }
                Some(error)
            }
            _ => {
                errors.at(
                    error,
                    format!(
                        "what stays is the state that was taken, `{this}`: write `Stay<Self, E>`"
                    ),
                );
                None
            }
        }
    }

    fn next(&self, ty: &Type, errors: &mut Errors) -> Option<Next> {
        let Some(several) = types::last_segment(ty).filter(|last| last.ident == "OneOf") else {
            return self.target(ty, errors).map(Next::One);
        };
        let written = types::type_arguments(several);
        if !(2..=ONE_OF_MAX).contains(&written.len()) {
            errors.at(
                ty,
                "`OneOf` names two to eight next states: write `OneOf<A, B>`, or the one state by itself",
            );
            return None;
        }
        let before = errors.count();
        let mut targets: Vec<Target> = Vec::new();
        for (index, ty) in written.iter().enumerate() {
            let Some(target) = self.target(ty, errors) else {
                continue;
            };
            let name = target.name();
            if targets.iter().any(|earlier| earlier.name() == name) {
                errors.at(
                    ty,
                    format!("`{name}` is named twice in this `OneOf`: name it once"),
                );
            } else if matches!(target, Target::Stop) && index + 1 < written.len() {
                errors.at(
                    ty,
                    "`Stop` is written last in a `OneOf`: move it behind the states",
                );
            }
            targets.push(target);
        }
        (errors.count() == before).then_some(Next::OneOf(targets))
    }

    fn target(&self, ty: &Type, errors: &mut Errors) -> Option<Target> {
        let target = target(self.scope.this, self.machine, ty);
        if target.is_none() {
            let (shown, this) = (text::of(ty), self.this());
            let states = &self.machine.states;
            let list: Vec<_> = states.iter().map(|state| format!("`{state}`")).collect();
            let is_common = self
                .machine
                .common
                .as_ref()
                .is_some_and(|common| *common.ident.to_string() == shown);
            let advice = match names::did_you_mean(&shown, states) {
                Some(meant) => meant,
                None if is_common => format!(
                    "it is there in every state. Return the next state, and take `&mut {shown}` to change it"
                ),
                None if types::last_segment(ty).is_some_and(|last| last.ident == "OneOf") => {
                    "name all states in one `OneOf`".to_owned()
                }
                None if self.by == By::Event => {
                    "return one of them. To stay, take `&mut self`".to_owned()
                }
                None => format!(
                    "return one of them, or `Stop`; with a reply, a pair such as `({}, {shown})`. \
                     To stay, take `&self` or `&mut self`",
                    self.example()
                ),
            };
            errors.at(
                ty,
                format!(
                    "`self` by value leaves `{this}` for another state, and `{shown}` is none: {advice}\n\
                     the states of `{}` are {}",
                    self.machine.module,
                    list.join(", ")
                ),
            );
        }
        target
    }

    fn reply(&self, left: &Left<'_>, errors: &mut Errors) -> (Reply, Answer) {
        if let (By::Internal, Some(reply)) = (self.by, left.reply) {
            errors.at(
                reply,
                "an internal message has no asker: return the next state only",
            );
            return (Reply::Unit, Answer::Reply);
        }
        let (reply, answer) = match left.reply {
            None => (Reply::Unit, Answer::Nothing),
            Some(ty) => match reply::later(self.scope, ty, errors) {
                Some(reply) => (reply, Answer::Later),
                None => (reply::of(self.scope, ty, errors), Answer::Reply),
            },
        };
        let Some(error) = left.error else {
            return (reply, answer);
        };
        if answer == Answer::Later {
            errors.at(
                left.reply,
                "this handler answers at once if it stays, so it has to if it leaves: write the reply without `Later`",
            );
        }
        let ok = left
            .reply
            .map_or_else(|| syn::parse_quote!(()), Type::clone);
        (reply::fallible(self.scope, &ok, error, errors), answer)
    }
}

/// The state that a type names, if it is one of the machine's, or `Stop`.
pub(super) fn target(this: &Type, machine: &Machine, ty: &Type) -> Option<Target> {
    if types::is_self(ty) {
        let this = types::last_segment(this)?;
        return Some(Target::State(this.ident.clone()));
    }
    let last = types::last_segment(ty)?;
    if let Some(state) = machine.states.iter().find(|state| **state == last.ident) {
        return Some(Target::State(state.clone()));
    }
    (last.ident == "Stop").then_some(Target::Stop)
}

/// Reports a transition from a state that is only borrowed.
pub(super) fn is_misplaced(
    scope: Scope<'_>,
    machine: &Machine,
    ty: &Type,
    errors: &mut Errors,
) -> bool {
    let result = types::last_segment(ty).filter(|last| last.ident == "Result");
    let arguments = result.map(types::type_arguments).unwrap_or_default();
    let happened = arguments.first().copied().unwrap_or(ty);
    let next = match types::bare(happened) {
        Type::Tuple(tuple) => tuple.elems.first().unwrap_or(happened),
        _ => happened,
    };
    let named = |ty: &Type, name: &str| types::last_segment(ty).is_some_and(|it| it.ident == name);
    let stays = [Some(ty), arguments.get(1).copied()];
    let place = if stays.into_iter().flatten().any(|ty| named(ty, "Stay")) {
        ty
    } else if target(scope.this, machine, next).is_some() || named(next, "OneOf") {
        next
    } else {
        return false;
    };
    let this = text::of(scope.this);
    let message = if scope.is_event_sourced() {
        format!(
            "a command stays in its state, `{this}`: return `{}`, and the state from an `#[event]` function \
             that takes `self`",
            scope.effect()
        )
    } else {
        format!(
            "a handler that borrows `{this}` stays in it, and a state is no reply: \
             take `self` by value to lead from `{this}` to another state"
        )
    };
    errors.at(place, message);
    true
}
