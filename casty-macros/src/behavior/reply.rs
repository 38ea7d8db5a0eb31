//! Reads the return type of a handler that stays in its state.

use syn::{ReturnType, Type};

use super::{
    model::{Outcome, Reply},
    scope::Scope,
};
use crate::{
    errors::Errors,
    self_type::ReplaceSelf,
    text,
    types::{self, Travels},
};

/// The reply, and whether it comes later.
pub(super) fn parse(
    scope: Scope<'_>,
    output: &ReturnType,
    errors: &mut Errors,
) -> (Reply, Outcome) {
    let Some(ty) = types::returned(output) else {
        return (Reply::Unit, Outcome::Reply);
    };
    if matches!(types::bare(ty), Type::ImplTrait(_)) && text::of(ty).contains("Future<") {
        errors.at(
            ty,
            "write an `async fn` that returns the answer itself, in place of a future",
        );
        return (Reply::Unit, Outcome::Reply);
    }
    match later(scope, ty, errors) {
        Some(reply) => (reply, Outcome::Later),
        None => (of(scope, ty, errors), Outcome::Reply),
    }
}

/// The reply that is promised, if `ty` is `Later<R>`.
pub(super) fn later(scope: Scope<'_>, ty: &Type, errors: &mut Errors) -> Option<Reply> {
    let last = types::last_segment(ty).filter(|last| last.ident == "Later")?;
    let [promised] = types::type_arguments(last)[..] else {
        errors.at(
            ty,
            "say what the asker will get: write `Later<R>`, with the type of the reply",
        );
        return Some(Reply::Unit);
    };
    Some(of(scope, promised, errors))
}

/// The reply that a value of this type makes.
pub(super) fn of(scope: Scope<'_>, ty: &Type, errors: &mut Errors) -> Reply {
    if types::is_unit(ty) {
        return Reply::Unit;
    }
    if let Some((place, reason)) = types::objection(ty, Travels::Wire) {
        errors.at(place, reason);
    }
    let whole = Box::new(ReplaceSelf(scope.this).in_type(ty));
    let Some(last) = types::last_segment(&whole).filter(|last| last.ident == "Result") else {
        return Reply::Value(whole);
    };
    let parts = match types::type_arguments(last).as_slice() {
        [ok, error] => Some(Box::new(((*ok).clone(), (*error).clone()))),
        _ => None,
    };
    Reply::Fallible { whole, parts }
}

/// The reply of a handler that may fail, from its reply and its error.
pub(super) fn fallible(scope: Scope<'_>, ok: &Type, error: &Type, errors: &mut Errors) -> Reply {
    if let Some((place, reason)) = types::objection(error, Travels::Wire) {
        errors.at(place, reason);
    }
    let mut replace = ReplaceSelf(scope.this);
    let (ok, error) = (replace.in_type(ok), replace.in_type(error));
    Reply::Fallible {
        whole: Box::new(syn::parse_quote!(::core::result::Result<#ok, #error>)),
        parts: Some(Box::new((ok, error))),
    }
}
