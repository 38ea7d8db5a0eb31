//! Other names of a module for where a transition leads: `type Next = OneOf<Moving, Idle>;`.

use proc_macro2::Ident;
use syn::{
    Item, PathSegment, ReturnType, Type, TypePath,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

/// The type aliases that name states. casty reads what stands behind them.
#[derive(Default)]
pub(in crate::behavior) struct Aliases(Vec<(Ident, Type)>);

/// An alias of itself, which the compiler refuses, must not be followed for ever.
const DEPTH_MAX: usize = 8;

impl Aliases {
    pub(super) fn of(items: &[Item], states: &[Ident]) -> Self {
        let mut all: Vec<(Ident, Type)> = Vec::new();
        for item in items {
            if let Item::Type(item) = item
                && item.generics.params.is_empty()
            {
                all.push((item.ident.clone(), (*item.ty).clone()));
            }
        }
        let all = Self(all);
        let leads = |ty: &Type| {
            let mut names = Names {
                states,
                is_named: false,
            };
            names.visit_type(&all.resolve(ty));
            names.is_named
        };
        let read = all.0.iter().filter(|(_, ty)| leads(ty)).cloned().collect();
        Self(read)
    }

    /// The type with what its aliases stand for.
    pub(in crate::behavior) fn resolve(&self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        let mut replace = Replace {
            aliases: self,
            depth: 0,
        };
        replace.visit_type_mut(&mut ty);
        ty
    }

    pub(in crate::behavior) fn resolve_output(&self, output: &ReturnType) -> ReturnType {
        match output {
            ReturnType::Default => ReturnType::Default,
            ReturnType::Type(arrow, ty) => ReturnType::Type(*arrow, Box::new(self.resolve(ty))),
        }
    }
}

struct Replace<'a> {
    aliases: &'a Aliases,
    depth: usize,
}

impl VisitMut for Replace<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if self.depth >= DEPTH_MAX {
            return;
        }
        let stands_for = match ty {
            Type::Path(TypePath {
                qself: None, path, ..
            }) => path.get_ident().and_then(|name| {
                let mut aliases = self.aliases.0.iter();
                aliases.find(|(alias, _)| alias == name)
            }),
            _ => None,
        };
        if let Some((_, meant)) = stands_for {
            *ty = meant.clone();
            self.depth += 1;
            self.visit_type_mut(ty);
            self.depth -= 1;
        } else {
            visit_mut::visit_type_mut(self, ty);
        }
    }
}

/// Whether a type names where a transition leads.
struct Names<'a> {
    states: &'a [Ident],
    is_named: bool,
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_path_segment(&mut self, segment: &'ast PathSegment) {
        let name = &segment.ident;
        self.is_named |= ["OneOf", "Stay", "Stop"].iter().any(|it| name == it);
        self.is_named |= self.states.contains(name);
        visit::visit_path_segment(self, segment);
    }
}
