//! Finds every `OneOf<..>` that the functions of a machine return.

use syn::{
    ItemImpl, ReturnType, Type, TypePath,
    visit::{self, Visit},
};

use crate::{
    behavior::{model::Target, scope::Machine, transition},
    fallback, types,
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

    pub(super) fn collect(&mut self, block: &ItemImpl) {
        if !fallback::has_named("behavior", &block.attrs) {
            return;
        }
        let mut of_block = OfBlock {
            this: &block.self_ty,
            machine: self.machine,
            found: &mut self.found,
        };
        of_block.visit_item_impl(block);
    }
}

struct OfBlock<'a> {
    this: &'a Type,
    machine: &'a Machine,
    found: &'a mut Vec<Vec<Target>>,
}

impl<'ast> Visit<'ast> for OfBlock<'_> {
    fn visit_return_type(&mut self, output: &'ast ReturnType) {
        if let ReturnType::Type(_, ty) = output {
            self.visit_type(ty);
        }
    }

    fn visit_type_path(&mut self, path: &'ast TypePath) {
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
        visit::visit_type_path(self, path);
    }
}

impl OfBlock<'_> {
    /// Whether the conversions into it are still to be written, and can be.
    fn is_new(&self, targets: &[Target]) -> bool {
        let names = |targets: &[Target]| targets.iter().map(Target::name).collect::<Vec<_>>();
        let new = names(targets);
        let mut once = new.clone();
        once.sort();
        once.dedup();
        once.len() == new.len()
            && (2..=4).contains(&new.len())
            && self.found.iter().all(|found| names(found) != new)
    }
}
