//! Finds every `OneOf<..>` that the functions of a machine return.

use syn::{
    Item, ReturnType, Type, TypePath, parse_quote,
    visit::{self, Visit},
};

use crate::{
    behavior::{model::Target, scope::Machine, transition},
    types,
};

/// Collects them, each once: also those of functions that handle nothing, or that have a mistake.
pub(super) struct OneOfs<'a> {
    machine: &'a Machine,
    pub(super) found: Vec<Vec<Target>>,
}

impl<'a> OneOfs<'a> {
    pub(super) fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            found: Vec::new(),
        }
    }

    pub(super) fn collect(&mut self, item: &Item) {
        let none: Type = parse_quote!(_);
        let this = match item {
            Item::Impl(block) => &block.self_ty,
            // A type is what it names, not what returns it.
            Item::Fn(_) => &none,
            _ => return,
        };
        let mut of_item = OfItem {
            this,
            machine: self.machine,
            found: &mut self.found,
        };
        of_item.visit_item(item);
    }
}

struct OfItem<'a> {
    this: &'a Type,
    machine: &'a Machine,
    found: &'a mut Vec<Vec<Target>>,
}

impl<'ast> Visit<'ast> for OfItem<'_> {
    fn visit_return_type(&mut self, output: &'ast ReturnType) {
        if let ReturnType::Type(_, ty) = output {
            let ty = self.machine.aliases.resolve(ty);
            for path in paths(&ty) {
                self.add(path);
            }
        }
    }
}

impl OfItem<'_> {
    fn add(&mut self, path: &TypePath) {
        if let Some(last) = path
            .path
            .segments
            .last()
            .filter(|last| last.ident == "OneOf")
        {
            let targets: Option<Vec<_>> = types::type_arguments(last)
                .into_iter()
                .map(|ty| transition::target(self.this, self.machine, ty))
                .collect();
            self.found
                .extend(targets.filter(|targets| self.is_new(targets)));
        }
    }

    /// Whether the conversions into it are still to be written, and can be.
    fn is_new(&self, targets: &[Target]) -> bool {
        let names = |targets: &[Target]| targets.iter().map(Target::name).collect::<Vec<_>>();
        let new = names(targets);
        let mut once = new.clone();
        once.sort();
        once.dedup();
        once.len() == new.len()
            && (2..=transition::ONE_OF_MAX).contains(&new.len())
            && self.found.iter().all(|found| names(found) != new)
    }
}

/// All paths in a type.
fn paths(ty: &Type) -> Vec<&TypePath> {
    struct Paths<'a>(Vec<&'a TypePath>);
    impl<'ast> Visit<'ast> for Paths<'ast> {
        fn visit_type_path(&mut self, path: &'ast TypePath) {
            self.0.push(path);
            visit::visit_type_path(self, path);
        }
    }
    let mut paths = Paths(Vec::new());
    paths.visit_type(ty);
    paths.0
}
