//! Which file uses which.
//!
//! A file uses another one if it
//! - imports an item that is defined there, or names it by a path. Re-exports are followed to the
//!   file that defines the item; a re-export itself is no use.
//! - calls a method that is defined there, in an `impl` of a type. Without types this is known for
//!   `self`, for fields of `self`, for `Type::method`, and for methods whose name is defined once
//!   in the crate and is none of the standard library's.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Item, UseTree};

use crate::source::{File, Tree, circles::Graph};

/// Methods of the standard library and of tokio, whose receiver may be any of their types.
const STANDARD: &[&str] = &[
    "abort",
    "accept",
    "add",
    "all",
    "any",
    "as_mut",
    "as_ref",
    "as_slice",
    "as_str",
    "await",
    "bytes",
    "cancel",
    "chain",
    "clear",
    "clone",
    "close",
    "cmp",
    "collect",
    "connect",
    "contains",
    "count",
    "default",
    "drain",
    "drop",
    "encode",
    "end",
    "entry",
    "eq",
    "extend",
    "filter",
    "find",
    "finish",
    "first",
    "flush",
    "fmt",
    "fold",
    "get",
    "get_mut",
    "hash",
    "id",
    "index",
    "insert",
    "into_inner",
    "is_closed",
    "is_empty",
    "is_none",
    "is_some",
    "iter",
    "iter_mut",
    "join",
    "keys",
    "kind",
    "last",
    "len",
    "link",
    "load",
    "lock",
    "map",
    "max",
    "min",
    "name",
    "new",
    "next",
    "notify",
    "now",
    "open",
    "parse",
    "peek",
    "poll",
    "pop",
    "position",
    "push",
    "put",
    "read",
    "record",
    "recv",
    "remove",
    "replace",
    "reset",
    "resize",
    "retain",
    "rev",
    "run",
    "send",
    "shutdown",
    "skip",
    "sort",
    "spawn",
    "split",
    "start",
    "stop",
    "store",
    "subscribe",
    "sum",
    "swap",
    "take",
    "then",
    "tick",
    "to_string",
    "truncate",
    "try_send",
    "turn",
    "update",
    "values",
    "wait",
    "wake",
    "watch",
    "with",
    "write",
    "zip",
];

/// The uses of a layer's files among each other.
pub fn within<'a>(tree: &'a Tree, layer: &str) -> Graph<'a> {
    let names = Names::of(tree);
    let mut graph = Graph::new();
    for (at, file) in tree.files.iter().enumerate() {
        if file.layer() != layer {
            continue;
        }
        let used = names.used_by(at).into_iter();
        let used = used.map(|used| &tree.files[used]);
        let used = used.filter(|used| used.layer() == layer && used.name != file.name);
        graph.insert(&file.name, used.map(|used| &*used.name).collect());
    }
    graph
}

/// What the names of a crate mean.
pub(super) struct Names<'a> {
    tree: &'a Tree,
    /// The file of each module.
    modules: BTreeMap<&'a [String], usize>,
    scopes: Vec<Scope>,
    /// The files with a method of this name, by the type it is of.
    methods: BTreeMap<String, BTreeSet<(String, usize)>>,
    /// The names of traits' methods.
    of_traits: BTreeSet<String>,
    /// The types that a field of a type names, by both names.
    fields: BTreeMap<(String, String), BTreeSet<String>>,
}

/// What a file calls by a name.
#[derive(Default)]
struct Scope {
    defined: BTreeSet<String>,
    /// Imports and re-exports, from the crate's root.
    imported: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    /// Imports that are no re-exports.
    private: Vec<Vec<String>>,
}

/// Where a path leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Module(usize),
    Item(usize),
}

impl<'a> Names<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        let files = tree.files.iter().enumerate();
        let mut names = Self {
            tree,
            modules: files.map(|(at, file)| (&*file.module, at)).collect(),
            scopes: Vec::new(),
            methods: BTreeMap::new(),
            of_traits: BTreeSet::new(),
            fields: BTreeMap::new(),
        };
        for (at, file) in tree.files.iter().enumerate() {
            let mut scope = Scope::default();
            file.each_item(&mut |item, depth| {
                names.define(&mut scope, at, item, depth);
            });
            names.scopes.push(scope);
        }
        names
    }

    fn define(&mut self, scope: &mut Scope, at: usize, item: &Item, depth: usize) {
        let file = &self.tree.files[at];
        let name = match item {
            Item::Use(item) => {
                let exported = !matches!(item.vis, syn::Visibility::Inherited);
                let mut paths = Vec::new();
                flatten(&item.tree, &mut Vec::new(), &mut paths);
                for (path, name) in paths {
                    self.import(scope, file, path, &name, exported, depth);
                }
                return;
            }
            Item::Impl(item) if item.trait_.is_none() => {
                let of = type_name(&item.self_ty);
                for inner in &item.items {
                    if let syn::ImplItem::Fn(method) = inner {
                        let methods = self.methods.entry(method.sig.ident.to_string());
                        methods.or_default().insert((of.clone(), at));
                    }
                }
                return;
            }
            Item::Struct(item) => {
                for (index, field) in item.fields.iter().enumerate() {
                    let name = field.ident.as_ref();
                    let name = name.map_or_else(|| index.to_string(), ToString::to_string);
                    let types = words(&field.ty.to_token_stream());
                    let key = (item.ident.to_string(), name);
                    self.fields.entry(key).or_default().extend(types);
                }
                &item.ident
            }
            Item::Trait(item) => {
                for inner in &item.items {
                    if let syn::TraitItem::Fn(method) = inner {
                        self.of_traits.insert(method.sig.ident.to_string());
                    }
                }
                &item.ident
            }
            Item::Enum(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Const(item) => &item.ident,
            Item::Static(item) => &item.ident,
            Item::Macro(item) => match &item.ident {
                Some(name) => name,
                None => return,
            },
            _ => return,
        };
        scope.defined.insert(name.to_string());
    }

    fn import(
        &self,
        scope: &mut Scope,
        file: &File,
        path: Vec<String>,
        name: &str,
        exported: bool,
        depth: usize,
    ) {
        let Some(path) = self.absolute(file, &path, depth) else {
            return;
        };
        if name == "*" {
            scope.globs.push(path);
            return;
        }
        if !exported {
            scope.private.push(path.clone());
        }
        scope.imported.insert(name.to_owned(), path);
    }

    /// A path as seen from the crate's root; `None` where it leads out of the crate, or is a name
    /// of the file itself.
    fn absolute(&self, file: &File, path: &[String], depth: usize) -> Option<Vec<String>> {
        let first = path.first()?;
        let supers = path.iter().take_while(|part| *part == "super").count();
        if first == "crate" {
            return Some(path[1..].to_vec());
        }
        if first == "self" {
            return Some([&file.module, &path[1..]].concat());
        }
        if supers > 0 {
            // Of these, some lead out of modules that stand in the file.
            let up = supers.saturating_sub(depth);
            let left = file.module.len().checked_sub(up)?;
            return Some([&file.module[..left], &path[supers..]].concat());
        }
        let child = [&file.module, std::slice::from_ref(first)].concat();
        let is_child = self.modules.contains_key(&*child);
        is_child.then(|| [&file.module, path].concat())
    }

    /// Follows a path through modules and re-exports. Returns where it ends, and how many of its
    /// parts are behind that.
    fn follow(&self, path: &[String], patience: usize) -> Option<(Target, usize)> {
        let mut module = self.modules.get(&path[..0]).copied();
        for (at, part) in path.iter().enumerate() {
            if let Some(&inner) = self.modules.get(&path[..=at]) {
                module = Some(inner);
                continue;
            }
            // A name within the module so far.
            let here = module?;
            if self.modules.get(&path[..at]) != Some(&here) {
                return None;
            }
            let rest = path.len() - at - 1;
            let scope = &self.scopes[here];
            if scope.defined.contains(part) {
                return Some((Target::Item(here), rest));
            }
            let patience = patience.checked_sub(1)?;
            if let Some(import) = scope.imported.get(part) {
                let whole = [import, &path[at + 1..]].concat();
                return self.follow(&whole, patience);
            }
            return scope.globs.iter().find_map(|glob| {
                let whole = [glob, &path[at..]].concat();
                self.follow(&whole, patience)
            });
        }
        module.map(|module| (Target::Module(module), 0))
    }

    /// The names that a `pub use` of a file gives, each with the definition behind it: its file and
    /// its name there, or its path if it is another crate's.
    pub(super) fn re_exports(
        &self,
        at: usize,
        tree: &UseTree,
        depth: usize,
    ) -> Vec<(String, String)> {
        let file = &self.tree.files[at];
        let mut paths = Vec::new();
        flatten(tree, &mut Vec::new(), &mut paths);
        let re_exports = paths.into_iter().map(|(path, name)| {
            let within = self.absolute(file, &path, depth);
            let definition = within.and_then(|within| match self.follow(&within, PATIENCE) {
                Some((Target::Item(of), 0)) => {
                    let file = &self.tree.files[of].name;
                    within.last().map(|last| format!("{file}::{last}"))
                }
                _ => None,
            });
            (name, definition.unwrap_or_else(|| path.join("::")))
        });
        re_exports.collect()
    }

    /// The files that a file uses.
    fn used_by(&self, at: usize) -> BTreeSet<usize> {
        let file = &self.tree.files[at];
        let mut used = BTreeSet::new();
        for path in &self.scopes[at].private {
            // A module that is imported is used by the paths that begin with its name.
            if let Some((Target::Item(of), _)) = self.follow(path, PATIENCE) {
                used.insert(of);
            }
        }
        file.each_item(&mut |item, depth| {
            let own = match item {
                // What stands in it is visited on its own.
                Item::Use(_) | Item::Mod(_) => return,
                Item::Impl(item) => Some(type_name(&item.self_ty)),
                _ => None,
            };
            let mut parts = Vec::new();
            flat(item.to_token_stream(), &mut parts);
            self.paths(at, &parts, depth, &mut used);
            self.calls(&parts, own.as_deref(), &mut used);
        });
        used.remove(&at);
        used
    }

    /// The paths among the tokens.
    fn paths(&self, at: usize, parts: &[Part], depth: usize, used: &mut BTreeSet<usize>) {
        let file = &self.tree.files[at];
        let mut from = 0;
        while from < parts.len() {
            let mut path = Vec::new();
            let mut next = from;
            while let Some(Part::Word(word)) = parts.get(next) {
                path.push(word.clone());
                next += 1;
                if !matches!(parts.get(next), Some(Part::Path)) {
                    break;
                }
                next += 1;
            }
            from = next.max(from + 1);
            if path.len() < 2 {
                continue;
            }
            let whole = self.absolute(file, &path, depth).or_else(|| {
                let import = self.scopes[at].imported.get(&path[0])?;
                Some([import, &path[1..]].concat())
            });
            if let Some((Target::Item(of), rest)) =
                whole.and_then(|whole| self.follow(&whole, PATIENCE))
            {
                used.insert(of);
                if rest == 1 {
                    let (of, method) = (&path[path.len() - 2], &path[path.len() - 1]);
                    used.extend(self.method_of(of, method));
                }
            }
        }
    }

    /// The calls of methods among the tokens, in an `impl` of `own` or nowhere.
    fn calls(&self, parts: &[Part], own: Option<&str>, used: &mut BTreeSet<usize>) {
        for at in 1..parts.len() {
            let (Part::Dot, Some(Part::Word(method))) = (&parts[at - 1], parts.get(at)) else {
                continue;
            };
            if !matches!(parts.get(at + 1), Some(Part::Call | Part::Path)) {
                continue;
            }
            let receiver = receiver(&parts[..at - 1]);
            match (own, &*receiver) {
                (Some(own), ["self"]) => used.extend(self.method_of(own, method)),
                (Some(own), ["self", field]) => {
                    let key = (own.to_owned(), (*field).to_owned());
                    for of in self.fields.get(&key).into_iter().flatten() {
                        used.extend(self.method_of(of, method));
                    }
                }
                _ if self.of_traits.contains(method) || STANDARD.contains(&&**method) => {}
                _ => {
                    let mut all = self.methods.get(method).into_iter().flatten();
                    if let (Some((_, only)), None) = (all.next(), all.next()) {
                        used.insert(*only);
                    }
                }
            }
        }
    }

    /// The file with this method of this type, if there is one such file.
    fn method_of(&self, of: &str, method: &str) -> Option<usize> {
        let all = self.methods.get(method)?;
        let mut files = all.iter().filter(|(name, _)| name == of);
        match (files.next(), files.next()) {
            (Some((_, only)), None) => Some(*only),
            _ => None,
        }
    }
}

/// Imports that are followed one after the other, at most.
const PATIENCE: usize = 16;

/// A token, as far as paths and calls need it.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Word(String),
    /// `::`
    Path,
    /// `.`
    Dot,
    /// An opening parenthesis.
    Call,
    Other,
}

fn flat(tokens: TokenStream, into: &mut Vec<Part>) {
    let mut colon = false;
    for token in tokens {
        let was_colon = std::mem::take(&mut colon);
        match token {
            TokenTree::Ident(word) => into.push(Part::Word(word.to_string())),
            TokenTree::Punct(mark) if mark.as_char() == ':' => {
                if was_colon {
                    into.pop();
                    into.push(Part::Path);
                } else {
                    colon = true;
                    into.push(Part::Other);
                }
            }
            TokenTree::Punct(mark) if mark.as_char() == '.' => into.push(Part::Dot),
            TokenTree::Group(group) => {
                into.push(match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => Part::Call,
                    _ => Part::Other,
                });
                flat(group.stream(), into);
                into.push(Part::Other);
            }
            TokenTree::Literal(literal) => {
                // The number of a field.
                into.push(Part::Word(literal.to_string()));
            }
            TokenTree::Punct(_) => into.push(Part::Other),
        }
    }
}

/// The words before a call that belong to its receiver: `self.field` of `self.field.method()`.
fn receiver(before: &[Part]) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = before;
    while let [earlier @ .., Part::Word(word)] = rest {
        words.push(&**word);
        match earlier {
            [earlier @ .., Part::Dot] => rest = earlier,
            _ => break,
        }
    }
    words.reverse();
    words
}

fn type_name(of: &syn::Type) -> String {
    match of {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        _ => None,
    }
    .unwrap_or_default()
}

/// The words of tokens that begin with a capital letter.
fn words(tokens: &TokenStream) -> BTreeSet<String> {
    let mut parts = Vec::new();
    flat(tokens.clone(), &mut parts);
    let words = parts.into_iter().filter_map(|part| match part {
        Part::Word(word) if word.starts_with(char::is_uppercase) => Some(word),
        _ => None,
    });
    words.collect()
}

/// The paths of a `use`, each with the name that it gives to what it leads to.
fn flatten(tree: &UseTree, path: &mut Vec<String>, into: &mut Vec<(Vec<String>, String)>) {
    let depth = path.len();
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            flatten(&inner.tree, path, into);
        }
        UseTree::Name(name) if name.ident == "self" => {
            let last = path.last().cloned().unwrap_or_default();
            into.push((path.clone(), last));
        }
        UseTree::Name(name) => {
            path.push(name.ident.to_string());
            into.push((path.clone(), name.ident.to_string()));
        }
        UseTree::Rename(rename) => {
            if rename.ident != "self" {
                path.push(rename.ident.to_string());
            }
            into.push((path.clone(), rename.rename.to_string()));
        }
        UseTree::Glob(_) => into.push((path.clone(), "*".to_owned())),
        UseTree::Group(group) => {
            for inner in &group.items {
                flatten(inner, path, into);
            }
        }
    }
    path.truncate(depth);
}
