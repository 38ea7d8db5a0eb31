//! Recognizes a parameter that is the context.

use syn::{GenericArgument, PathArguments, Type};

use crate::types::{bare, is, last_segment, type_arguments};

/// How a parameter takes the context, if it does.
pub(crate) enum ContextParameter {
    /// `&mut Context<..>`
    Mutable,
    /// `&Context<..>`, or by value.
    Wrong,
}

/// Whether a parameter is a context. A context by value counts only with the actor as its type
/// argument, since a user may have another type called `Context`.
pub(crate) fn parameter(ty: &Type, actor: &Type) -> Option<ContextParameter> {
    let is_context = |ty: &Type| last_segment(ty).is_some_and(|last| last.ident == "Context");
    match bare(ty) {
        Type::Reference(reference) if is_context(&reference.elem) => {
            Some(match reference.mutability {
                Some(_) => ContextParameter::Mutable,
                None => ContextParameter::Wrong,
            })
        }
        owned if is_context(owned) => {
            let arguments = last_segment(owned).map(type_arguments).unwrap_or_default();
            let of_self = arguments
                .first()
                .is_some_and(|argument| is(argument, actor));
            of_self.then_some(ContextParameter::Wrong)
        }
        _ => None,
    }
}

/// The `Cart` of `&mut Context<Cart>`.
pub(crate) fn of(ty: &Type) -> Option<&Type> {
    let Type::Reference(reference) = bare(ty) else {
        return None;
    };
    let last = last_segment(&reference.elem).filter(|last| last.ident == "Context")?;
    type_arguments(last).first().copied()
}

/// The `Cart` of `&mut Context<Cart>`, mutable.
pub(crate) fn of_mut(ty: &mut Type) -> Option<&mut Type> {
    let Type::Reference(reference) = ty else {
        return None;
    };
    let Type::Path(path) = &mut *reference.elem else {
        return None;
    };
    let last = path.path.segments.last_mut()?;
    let PathArguments::AngleBracketed(arguments) = &mut last.arguments else {
        return None;
    };
    let is_context = last.ident == "Context";
    arguments
        .args
        .iter_mut()
        .find_map(|argument| match argument {
            GenericArgument::Type(ty) if is_context => Some(ty),
            _ => None,
        })
}
