//! Reads the source of casty: which file uses which, which types and functions there are, and how
//! its comments are written. `tests/tidy.rs` keeps bounds on this, and `casty-count` prints it.
//!
//! The analysis sees syntax and no types. See [`uses`] for what it counts as a use.

pub mod circles;
pub mod prose;
pub mod surface;
pub mod uses;

use std::{
    collections::BTreeMap,
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use syn::{Item, spanned::Spanned, visit::Visit};

/// All Rust files below a folder, in order, without those that cargo wrote.
pub fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                if path.ends_with("target") {
                    continue;
                }
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A source file without its tests.
pub struct File {
    /// Its path below the root of the tree, with `/` between folders.
    pub name: String,
    /// The path of its module, from the crate's root.
    pub module: Vec<String>,
    /// The text, tests included.
    pub text: String,
    items: Vec<Item>,
    /// The lines of tests in `text`, from one.
    tests: Vec<RangeInclusive<usize>>,
}

/// A function, and how long it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Lines from its signature to its closing brace.
    pub lines: usize,
}

/// A struct, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struct {
    /// Its name.
    pub name: String,
    /// The number of its fields.
    pub fields: usize,
    /// The fields with a lock in their type.
    pub locks: usize,
}

impl File {
    fn parse(name: String, text: String) -> Result<Self, syn::Error> {
        let (mut items, mut tests) = (Vec::new(), Vec::new());
        for item in syn::parse_file(&text)?.items {
            if is_test(&item) {
                tests.push(item.span().start().line..=item.span().end().line);
            } else {
                items.push(item);
            }
        }
        let mut module: Vec<String> = name
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if module
            .last()
            .is_some_and(|last| last == "mod" || last == "lib")
        {
            module.pop();
        }
        Ok(Self {
            name,
            module,
            text,
            items,
            tests,
        })
    }

    /// The folder below the root that the file is in; empty for a file of the root.
    pub fn layer(&self) -> &str {
        self.name.split_once('/').map_or("", |(folder, _)| folder)
    }

    /// The lines that are no tests, with their numbers from one.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self
            .text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line));
        lines.filter(|(at, _)| !self.tests.iter().any(|tests| tests.contains(at)))
    }

    /// All functions that are no tests, methods included.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Functions(Vec::new());
        for item in &self.items {
            functions.visit_item(item);
        }
        functions.0
    }

    /// The structs with named fields.
    pub fn structs(&self) -> Vec<Struct> {
        let mut structs = Vec::new();
        self.each_item(&mut |item, _| {
            if let Item::Struct(item) = item {
                let fields = item.fields.iter();
                let locks = fields.filter(|field| is_lock(&field.ty)).count();
                structs.push(Struct {
                    name: item.ident.to_string(),
                    fields: item.fields.len(),
                    locks,
                });
            }
        });
        structs
    }

    /// The names of the types and traits defined here.
    pub fn types(&self) -> Vec<String> {
        let mut types = Vec::new();
        self.each_item(&mut |item, _| {
            let name = match item {
                Item::Struct(item) => &item.ident,
                Item::Enum(item) => &item.ident,
                Item::Union(item) => &item.ident,
                Item::Trait(item) => &item.ident,
                Item::Type(item) => &item.ident,
                _ => return,
            };
            types.push(name.to_string());
        });
        types
    }

    /// Calls `with` for each item of the file and of the modules that stand in it, with their
    /// depth.
    fn each_item(&self, with: &mut impl FnMut(&Item, usize)) {
        fn descend(items: &[Item], depth: usize, with: &mut impl FnMut(&Item, usize)) {
            for item in items.iter().filter(|item| !is_test(item)) {
                with(item, depth);
                if let Item::Mod(inner) = item
                    && let Some((_, items)) = &inner.content
                {
                    descend(items, depth + 1, with);
                }
            }
        }
        descend(&self.items, 0, with);
    }

    /// The modules of tests that stand in files of their own.
    fn test_modules(text: &str) -> Result<Vec<String>, syn::Error> {
        let items = syn::parse_file(text)?.items;
        let tests = items.iter().filter(|item| is_test(item));
        let modules = tests.filter_map(|item| match item {
            Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
            _ => None,
        });
        Ok(modules.collect())
    }
}

/// The source files of a crate, without tests.
pub struct Tree {
    /// In the order of their names.
    pub files: Vec<File>,
}

impl Tree {
    /// Reads all files below `root`, the folder of `lib.rs`.
    ///
    /// # Errors
    /// A file cannot be read, or is not Rust.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut sources = Vec::new();
        for path in files_below(root)? {
            let name = path.strip_prefix(root).unwrap_or(&path);
            let name = name.to_string_lossy().replace('\\', "/");
            sources.push((name, fs::read_to_string(&path)?));
        }
        Self::parse(sources).map_err(|(name, error)| {
            io::Error::other(format!("{name}:{}: {error}", error.span().start().line))
        })
    }

    /// Parses files given by name and text.
    ///
    /// # Errors
    /// A file is not Rust: its name, and what is wrong.
    pub fn parse(sources: Vec<(String, String)>) -> Result<Self, (String, syn::Error)> {
        let mut tests = Vec::new();
        for (name, text) in &sources {
            let modules = File::test_modules(text).map_err(|error| (name.clone(), error))?;
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let stem = name
                .rsplit('/')
                .next()
                .unwrap_or(name)
                .trim_end_matches(".rs");
            for module in modules {
                let inner = if matches!(stem, "mod" | "lib") {
                    format!("{folder}/{module}")
                } else {
                    format!("{folder}/{stem}/{module}")
                };
                tests.push(inner.trim_start_matches('/').to_owned());
            }
        }
        let is_test = |name: &str| {
            let name = name.trim_end_matches(".rs");
            let below = |test: &String| name.starts_with(&format!("{test}/"));
            tests.iter().any(|test| name == test || below(test))
        };
        let mut files = Vec::new();
        for (name, text) in sources {
            if !is_test(&name) {
                let parsed = File::parse(name.clone(), text);
                files.push(parsed.map_err(|error| (name, error))?);
            }
        }
        Ok(Self { files })
    }

    /// The layers, by name.
    pub fn layers(&self) -> Vec<&str> {
        let mut layers: Vec<&str> = self.files.iter().map(File::layer).collect();
        layers.sort_unstable();
        layers.dedup();
        layers.retain(|layer| !layer.is_empty());
        layers
    }

    /// Type names that are defined more than once within a layer, and the files that do so.
    pub fn doubles(&self, layer: &str) -> BTreeMap<String, Vec<&str>> {
        let mut types: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for file in self.files.iter().filter(|file| file.layer() == layer) {
            for name in file.types() {
                types.entry(name).or_default().push(&file.name);
            }
        }
        types.retain(|_, files| files.len() > 1);
        types
    }
}

struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, end: proc_macro2::Span) {
        self.0.push(Function {
            name: signature.ident.to_string(),
            lines: end.end().line + 1 - signature.span().start().line,
        });
    }
}

impl<'a> Visit<'a> for Functions {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.add(&function.sig, function.block.span());
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.add(&function.sig, function.block.span());
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block.span());
        }
        syn::visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !has_test_attribute(&module.attrs) {
            syn::visit::visit_item_mod(self, module);
        }
    }
}

fn is_lock(of: &syn::Type) -> bool {
    const LOCKS: [&str; 3] = ["Mutex", "RwLock", "RankedMutex"];
    let tokens = quote::quote!(#of).to_string();
    let mut words = tokens.split(|character: char| !character.is_alphanumeric());
    words.any(|word| LOCKS.contains(&word))
}

fn is_test(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        _ => return false,
    };
    has_test_attribute(attributes)
}

/// Whether there is `#[cfg(test)]`, or `#[cfg(all(test, ...))]`.
fn has_test_attribute(attributes: &[syn::Attribute]) -> bool {
    let mut attributes = attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            syn::Meta::List(list) if list.path.is_ident("cfg") => Some(list.tokens.to_string()),
            _ => None,
        });
    attributes.any(|condition| {
        let condition = condition.replace(' ', "");
        condition == "test" || condition.starts_with("all(test,")
    })
}
