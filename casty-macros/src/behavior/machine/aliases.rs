//! Other names of a module for where a transition leads: `type Next = OneOf<Moving, Idle>;`.

use proc_macro2::Ident;
use syn::{
    Item, PathSegment, ReturnType, Type, TypePath,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

use crate::types;

/// The type aliases that name states. casty reads what stands behind them.
#[derive(Default)]
pub(in crate::behavior) struct Aliases(Vec<Alias>);

#[derive(Clone)]
struct Alias {
    ident: Ident,
    /// The `B` of `type Next<B> = OneOf<Closed<B>, Open<B>>;`.
    parameters: Vec<Ident>,
    ty: Type,
}

/// An alias of itself, which the compiler refuses, must not be followed for ever.
const DEPTH_MAX: usize = 8;

impl Aliases {
    pub(super) fn of(items: &[Item], states: &[Ident]) -> Self {
        let aliases = items.iter().filter_map(|item| match item {
            Item::Type(item) => Some(Alias {
                ident: item.ident.clone(),
                parameters: item
                    .generics
                    .type_params()
                    .map(|it| it.ident.clone())
                    .collect(),
                ty: (*item.ty).clone(),
            }),
            _ => None,
        });
        let all = Self(aliases.collect());
        let leads = |ty: &Type| {
            let mut names = Names {
                states,
                is_named: false,
            };
            names.visit_type(&all.resolve(ty));
            names.is_named
        };
        let read = all.0.iter().filter(|alias| leads(&alias.ty));
        Self(read.cloned().collect())
    }

    /// What stands behind a name, if it is that of an alias with as many parameters.
    fn meant(&self, ty: &Type) -> Option<Type> {
        let Type::Path(TypePath {
            qself: None, path, ..
        }) = ty
        else {
            return None;
        };
        let (name, 1) = (path.segments.first()?, path.segments.len()) else {
            return None;
        };
        let alias = self.0.iter().find(|alias| alias.ident == name.ident)?;
        let arguments = types::type_arguments(name);
        if arguments.len() != alias.parameters.len() {
            return None;
        }
        let mut meant = alias.ty.clone();
        let mut put = Put(alias.parameters.iter().zip(arguments).collect());
        put.visit_type_mut(&mut meant);
        Some(meant)
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
        if let Some(meant) = self.aliases.meant(ty) {
            *ty = meant;
            self.depth += 1;
            self.visit_type_mut(ty);
            self.depth -= 1;
        } else {
            visit_mut::visit_type_mut(self, ty);
        }
    }
}

/// Puts the arguments in place of the parameters of an alias.
struct Put<'a>(Vec<(&'a Ident, &'a Type)>);

impl VisitMut for Put<'_> {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        let argument = match ty {
            Type::Path(path) => path.path.get_ident().and_then(|name| {
                let mut all = self.0.iter();
                all.find(|(parameter, _)| *parameter == name)
            }),
            _ => None,
        };
        match argument {
            Some((_, argument)) => *ty = (*argument).clone(),
            None => visit_mut::visit_type_mut(self, ty),
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
