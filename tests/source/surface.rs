//! The public names of a crate, and the paths by which they are reached.

use syn::{Attribute, Item, Visibility};

use crate::source::{Tree, uses::Names};

/// A public name in a public module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Export {
    /// The path of the module, without the crate's name; empty for the root.
    pub module: String,
    /// The name there; `*` for a glob, whose names this reader does not know.
    pub name: String,
    /// The definition behind the name: its file and its name there. For another crate's item, its
    /// path.
    pub definition: String,
}

impl Export {
    /// The path of the export, from the crate's root.
    pub fn path(&self) -> String {
        if self.module.is_empty() {
            return self.name.clone();
        }
        format!("{}::{}", self.module, self.name)
    }
}

/// The exports of a crate, without modules and without what its documentation hides.
pub fn exports(tree: &Tree) -> Vec<Export> {
    let mut reader = Reader {
        tree,
        names: Names::of(tree),
        exports: Vec::new(),
    };
    reader.file(&[]);
    reader.exports.sort();
    reader.exports
}

struct Reader<'a> {
    tree: &'a Tree,
    names: Names<'a>,
    exports: Vec<Export>,
}

impl Reader<'_> {
    fn file(&mut self, module: &[String]) {
        let tree = self.tree;
        let found = tree.files.iter().position(|file| file.module == module);
        if let Some(at) = found {
            self.items(at, module, &tree.files[at].items);
        }
    }

    fn items(&mut self, at: usize, module: &[String], items: &[Item]) {
        for item in items {
            let Some((attributes, visibility, name)) = parts(item) else {
                continue;
            };
            if !matches!(visibility, Visibility::Public(_)) || is_hidden(attributes) {
                continue;
            }
            match item {
                Item::Mod(inner) => {
                    let module = [module, &[inner.ident.to_string()]].concat();
                    match &inner.content {
                        Some((_, items)) => self.items(at, &module, items),
                        None => self.file(&module),
                    }
                }
                Item::Use(item) => {
                    let depth = module.len() - self.tree.files[at].module.len();
                    for (name, definition) in self.names.re_exports(at, &item.tree, depth) {
                        self.export(module, name, definition);
                    }
                }
                _ => {
                    let definition = format!("{}::{name}", self.tree.files[at].name);
                    self.export(module, name, definition);
                }
            }
        }
    }

    fn export(&mut self, module: &[String], name: String, definition: String) {
        self.exports.push(Export {
            module: module.join("::"),
            name,
            definition,
        });
    }
}

/// The attributes, the visibility and the name of an item that may be exported.
fn parts(item: &Item) -> Option<(&[Attribute], &Visibility, String)> {
    let (attributes, visibility, name) = match item {
        Item::Const(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Enum(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Fn(item) => (&item.attrs, &item.vis, item.sig.ident.to_string()),
        Item::Mod(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Static(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Struct(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Trait(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Type(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Union(item) => (&item.attrs, &item.vis, item.ident.to_string()),
        Item::Use(item) => (&item.attrs, &item.vis, String::new()),
        _ => return None,
    };
    Some((attributes, visibility, name))
}

/// Whether there is `#[doc(hidden)]`.
fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let hidden = attribute.meta.require_list();
        hidden.is_ok_and(|list| list.path.is_ident("doc") && list.tokens.to_string() == "hidden")
    })
}
