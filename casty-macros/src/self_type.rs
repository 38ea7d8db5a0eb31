//! Replaces `Self` by the type it stands for: in a generated item `Self` would be another type.

use quote::quote;
use syn::{
    ExprPath, Generics, Path, Type, TypePath,
    visit_mut::{self, VisitMut},
};

use crate::types::is_self;

/// Puts the actor's type in place of `Self`.
pub(crate) struct ReplaceSelf<'a>(pub(crate) &'a Type);

impl ReplaceSelf<'_> {
    pub(crate) fn in_type(&mut self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        self.visit_type_mut(&mut ty);
        ty
    }

    pub(crate) fn in_generics(&mut self, generics: &Generics) -> Generics {
        let mut generics = generics.clone();
        self.visit_generics_mut(&mut generics);
        generics
    }

    /// `Self::Item` as `<Counter>::Item`.
    fn qualified(&self, path: &Path) -> Option<TypePath> {
        let first = path.segments.first()?;
        if first.ident != "Self" || path.leading_colon.is_some() || path.segments.len() < 2 {
            return None;
        }
        let actor = self.0;
        let rest = path.segments.iter().skip(1);
        syn::parse2(quote!(<#actor> #(:: #rest)*)).ok()
    }
}

impl VisitMut for ReplaceSelf<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if is_self(ty) {
            *ty = self.0.clone();
        } else {
            visit_mut::visit_type_mut(self, ty);
        }
    }

    fn visit_type_path_mut(&mut self, path: &mut TypePath) {
        if path.qself.is_none()
            && let Some(qualified) = self.qualified(&path.path)
        {
            *path = qualified;
        }
        visit_mut::visit_type_path_mut(self, path);
    }

    fn visit_expr_path_mut(&mut self, path: &mut ExprPath) {
        if path.qself.is_none()
            && let Some(TypePath {
                qself, path: rest, ..
            }) = self.qualified(&path.path)
        {
            path.qself = qself;
            path.path = rest;
        }
        visit_mut::visit_expr_path_mut(self, path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    fn parse(source: &str) -> Type {
        syn::parse_str(source).expect("a type")
    }

    #[test]
    fn self_is_replaced_at_any_depth() {
        let actor = parse("Counter");
        let mut replace = ReplaceSelf(&actor);
        assert_eq!(
            text::of(replace.in_type(&parse("Vec<Self>"))),
            "Vec<Counter>"
        );
        assert_eq!(
            text::of(replace.in_type(&parse("Self::Item"))),
            "<Counter>::Item"
        );
        assert_eq!(
            text::of(replace.in_type(&parse("[u8; Self::N]"))),
            "[u8; <Counter>::N]"
        );
    }
}
