//! Names that a module defines and that are generated in it as well.

use proc_macro2::Ident;
use syn::{Item, UseTree, ext::IdentExt};

use crate::{errors::Errors, names};

/// Whether the module leaves the names free that are generated in it.
pub(super) fn is_free(
    ident: &Ident,
    has_events: bool,
    items: &[Item],
    errors: &mut Errors,
) -> bool {
    let mut generated = vec![
        ident.clone(),
        names::message_enum(ident),
        names::proxy(ident),
    ];
    generated.extend(has_events.then(|| names::event_enum(ident)));
    let mut names = Vec::new();
    for item in items {
        match item {
            Item::Struct(item) => names.push(&item.ident),
            Item::Enum(item) => names.push(&item.ident),
            Item::Union(item) => names.push(&item.ident),
            Item::Type(item) => names.push(&item.ident),
            Item::Trait(item) => names.push(&item.ident),
            Item::TraitAlias(item) => names.push(&item.ident),
            Item::Mod(item) => names.push(&item.ident),
            Item::Use(item) => imported(&item.tree, &mut names),
            _ => {}
        }
    }
    let before = errors.count();
    for name in names {
        if generated.iter().any(|made| made.unraw() == name.unraw()) {
            errors.at(
                name,
                format!(
                    "`{name}` is generated in this module, for the state machine as a whole: \
                     give this one another name"
                ),
            );
        }
    }
    errors.count() == before
}

fn imported<'a>(tree: &'a UseTree, names: &mut Vec<&'a Ident>) {
    match tree {
        UseTree::Path(path) => imported(&path.tree, names),
        UseTree::Name(name) => names.push(&name.ident),
        UseTree::Rename(rename) => names.push(&rename.rename),
        UseTree::Group(group) => {
            for tree in &group.items {
                imported(tree, names);
            }
        }
        UseTree::Glob(_) => {}
    }
}
