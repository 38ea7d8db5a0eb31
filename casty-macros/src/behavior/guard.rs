//! Reads the guard of a handler: `#[message(guard = may_bid)]` and
//! `fn may_bid(&self, cents: &u64) -> Result<(), BidError>`.

use proc_macro2::Ident;
use syn::{Expr, ExprPath, FnArg, Pat, ReceiverKind, Signature, Type, spanned::Spanned};

use super::{
    handler::field_name,
    model::{Answer, Argument, Effect, Guard, GuardParameter, Outcome, Reply},
    reply,
    scope::Scope,
    signature,
};
use crate::{context, errors::Errors, options::Options, self_type::ReplaceSelf, text, types};

/// The handler that has a guard.
pub(super) struct Guarded<'a> {
    pub(super) scope: Scope<'a>,
    pub(super) arguments: &'a [Argument],
    pub(super) outcome: &'a Outcome,
    pub(super) internal: bool,
}

/// Reads the option `guard`. Returns the message's reply, which may be the guard's error.
pub(super) fn parse(
    guarded: &Guarded<'_>,
    options: &Options,
    reply: Reply,
    errors: &mut Errors,
) -> (Reply, Option<Guard>) {
    let before = errors.count();
    let Some(sig) = function(guarded, options, errors) else {
        return (reply, None);
    };
    let parameters = guarded.parameters(sig, errors);
    if guarded.internal {
        if types::returned(&sig.output).is_none_or(|ty| text::of(ty) != "bool") {
            errors.at(
                &sig.ident,
                "an internal message has no asker who could be told an error: let its guard return `bool`",
            );
        }
        let guard = Guard {
            ident: sig.ident.clone(),
            parameters,
            wraps: false,
        };
        return (reply, Some(guard).filter(|_| errors.count() == before));
    }
    let Some(error) = error(sig) else {
        errors.at(
            &sig.ident,
            format!(
                "`{}` is a guard, and its error is what the asker gets: let it return `Result<(), E>`",
                sig.ident
            ),
        );
        return (reply, None);
    };
    let (reply, wraps) = guarded.reply(reply, &sig.ident, error, errors);
    let guard = Guard {
        ident: sig.ident.clone(),
        parameters,
        wraps,
    };
    (reply, Some(guard).filter(|_| errors.count() == before))
}

/// The function that the option names.
fn function<'a>(
    guarded: &'a Guarded<'_>,
    options: &Options,
    errors: &mut Errors,
) -> Option<&'a Signature> {
    options.span("guard")?;
    let named = match options.value("guard") {
        Some(Expr::Path(ExprPath {
            qself: None, path, ..
        })) => {
            let last = path.segments.last()?;
            let is_own = path.segments.len() == 1
                || (path.segments.len() == 2 && path.segments[0].ident == "Self");
            is_own.then_some(&last.ident)
        }
        _ => None,
    };
    let Some(name) = named else {
        errors.at_span(
            options.value_span("guard").or(options.span("guard"))?,
            "a guard is a function of this block: write its name, `guard = may_bid`",
        );
        return None;
    };
    let Some(sig) = guarded.scope.function(name) else {
        errors.at(
            name,
            format!(
                "there is no function `{name}` in this block: write one, \
                 `fn {name}(&self) -> Result<(), E>`"
            ),
        );
        return None;
    };
    signature::plain_function(sig, "a guard", signature::OneForm::Call, errors);
    if let Some(asyncness) = &sig.asyncness {
        errors.at(
            asyncness,
            "a guard looks at what there is: drop `async`, or await inside of the handler",
        );
    }
    let borrows = sig.receiver().is_some_and(|receiver| {
        matches!(&receiver.kind, ReceiverKind::Reference(_, _, mutability) if mutability.is_none())
    });
    if !borrows {
        errors.at(
            &sig.ident,
            format!("`{name}` is a guard, and changes nothing: let it take `&self`"),
        );
    }
    Some(sig)
}

/// The `E` of `Result<(), E>`.
fn error(sig: &Signature) -> Option<&Type> {
    let last = types::last_segment(types::returned(&sig.output)?)?;
    match types::type_arguments(last)[..] {
        [ok, error] if last.ident == "Result" && types::is_unit(ok) => Some(error),
        _ => None,
    }
}

impl Guarded<'_> {
    /// What the guard takes: common data, and arguments of the message by their names.
    fn parameters(&self, sig: &Signature, errors: &mut Errors) -> Vec<GuardParameter> {
        let (mut parameters, mut has_common) = (Vec::new(), false);
        for input in &sig.inputs {
            let FnArg::Typed(input) = input else { continue };
            let only_looks = Some("a guard changes nothing");
            if signature::common(self.scope, input, &mut has_common, only_looks, errors).is_some() {
                parameters.push(GuardParameter::Common);
                continue;
            }
            if context::parameter(&input.ty, self.scope.actor()).is_some() {
                errors.at(
                    input,
                    "a guard only looks at what there is, and takes no context: drop this parameter",
                );
                continue;
            }
            let name: Option<Ident> = match &*input.pat {
                Pat::Ident(pat) => Some(field_name(&pat.ident, &sig.inputs)),
                _ => None,
            };
            let field = self
                .arguments
                .iter()
                .position(|argument| Some(&argument.ident) == name.as_ref());
            let is_lent = matches!(types::bare(&input.ty), Type::Reference(lent) if lent.mutability.is_none());
            match field {
                Some(field) if is_lent => {
                    parameters.push(GuardParameter::Argument(field, input.ty.span()));
                }
                Some(field) => {
                    let argument = &self.arguments[field];
                    errors.at(
                        &input.ty,
                        format!(
                            "a guard looks at an argument and leaves it to the handler: write `{}: &{}`",
                            argument.ident,
                            text::of(&argument.ty)
                        ),
                    );
                }
                None => errors.at(
                    input,
                    "a guard takes arguments of the message by their names, each by `&`: \
                     the message has none of this name",
                ),
            }
        }
        parameters
    }

    /// The reply of the message, and whether the handler's own is only its value.
    fn reply(
        &self,
        reply: Reply,
        name: &Ident,
        error: &Type,
        errors: &mut Errors,
    ) -> (Reply, bool) {
        let is_later = match self.outcome {
            Outcome::Later => true,
            Outcome::Leaves(transition) => transition.answer == Answer::Later,
            Outcome::Effect(effect) => *effect == Effect::Later,
            Outcome::Reply => false,
        };
        if is_later {
            errors.at(
                name,
                "a handler with a guard answers when it returns: write the reply without `Later`",
            );
            return (reply, false);
        }
        let ok: Type = match &reply {
            Reply::Unit => syn::parse_quote!(()),
            Reply::Value(ty) => (**ty).clone(),
            Reply::Fallible { parts, .. } => {
                let place = error;
                let error = ReplaceSelf(self.scope.this).in_type(error);
                let same = parts
                    .as_ref()
                    .is_some_and(|parts| text::of(&parts.1) == text::of(&error));
                if !same {
                    let own = parts.as_ref().map_or_else(
                        || "another error".to_owned(),
                        |parts| format!("`{}`", text::of(&parts.1)),
                    );
                    errors.at(
                        place,
                        format!(
                            "the guard `{name}` fails with `{}`, and the handler with {own}: \
                             an asker gets one type of error, so let both have the same",
                            text::of(&error)
                        ),
                    );
                }
                return (reply, false);
            }
        };
        (reply::fallible(self.scope, &ok, error, errors), true)
    }
}
