//! Questions about a type that its tokens alone can answer.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{
    GenericArgument, Lifetime, PathArguments, PathSegment, ReturnType, Type, TypePath,
    TypeReference,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::text;

/// Without the parentheses and invisible groups around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        _ => ty,
    }
}

/// The last segment of a plain path: `Context<Self>` of `casty::Context<Self>`.
pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match bare(ty) {
        Type::Path(TypePath {
            qself: None, path, ..
        }) => path.segments.last(),
        _ => None,
    }
}

/// The types between the angle brackets of a path segment.
pub(crate) fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    arguments
        .args
        .iter()
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
        .collect()
}

pub(crate) fn is_unit(ty: &Type) -> bool {
    matches!(bare(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// The type written after `->`, if any but `()`.
pub(crate) fn returned(output: &ReturnType) -> Option<&Type> {
    match output {
        ReturnType::Type(_, ty) if !is_unit(ty) => Some(ty),
        _ => None,
    }
}

/// `Self`, and nothing after it.
pub(crate) fn is_self(ty: &Type) -> bool {
    matches!(bare(ty), Type::Path(TypePath { qself: None, path, .. }) if path.is_ident("Self"))
}

/// Whether `ty` is `Self`, or names the type `this` by the last part of its path: both `Cart` and
/// `super::Cart` name `Cart`.
pub(crate) fn is(ty: &Type, this: &Type) -> bool {
    let same = || Some(last_segment(ty)?.ident == last_segment(this)?.ident);
    is_self(ty) || same() == Some(true)
}

/// Whether a value of the type has to have a wire form.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Travels {
    Wire,
    /// Is stored, in an event.
    Store,
    /// Stays in this process.
    Memory,
}

impl Travels {
    /// What the value is a part of.
    pub(crate) fn part_of(self) -> &'static str {
        match self {
            Self::Wire | Self::Memory => "a message",
            Self::Store => "an event",
        }
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Wire | Self::Memory => "message",
            Self::Store => "event",
        }
    }

    /// What happens to the value.
    fn verb(self) -> &'static str {
        match self {
            Self::Wire | Self::Memory => "travel",
            Self::Store => "be stored",
        }
    }

    /// What is done with the value.
    fn done(self) -> &'static str {
        match self {
            Self::Wire | Self::Memory => "send",
            Self::Store => "store",
        }
    }

    /// What needs to know the type.
    fn reader(self) -> &'static str {
        match self {
            Self::Wire | Self::Memory => "the other side",
            Self::Store => "what reads it",
        }
    }

    /// Why it cannot borrow.
    fn outlives(self) -> &'static str {
        match self {
            Self::Wire | Self::Memory => "a message outlives the call that sends it",
            Self::Store => "an event is stored and outlives the command that persists it",
        }
    }
}

/// Why a type cannot be part of a message or an event, as far as its tokens show: the place and the
/// reason.
pub(crate) fn objection(ty: &Type, travels: Travels) -> Option<(TokenStream, String)> {
    let mut judge = Judge {
        travels,
        found: None,
    };
    judge.visit_type(ty);
    judge.found
}

struct Judge {
    travels: Travels,
    found: Option<(TokenStream, String)>,
}

impl Judge {
    fn object(&mut self, place: impl ToTokens, reason: impl Into<String>) {
        if self.found.is_none() {
            self.found = Some((place.to_token_stream(), reason.into()));
        }
    }
}

impl<'ast> Visit<'ast> for Judge {
    fn visit_type(&mut self, ty: &'ast Type) {
        let on_wire = self.travels != Travels::Memory;
        let (part, verb, done) = (
            self.travels.part_of(),
            self.travels.verb(),
            self.travels.done(),
        );
        match ty {
            Type::ImplTrait(_) => self.object(
                ty,
                format!(
                    "`impl Trait` has no name that {part} could be declared with: write the concrete type"
                ),
            ),
            Type::Infer(_) => {
                self.object(
                    ty,
                    format!("{part} needs the type written out: replace `_` by it"),
                );
            }
            Type::Never(_) => self.object(
                ty,
                format!(
                    "`!` has no value that could {verb}: leave the type out if there is nothing to {done}"
                ),
            ),
            Type::TraitObject(_) if on_wire => self.object(
                ty,
                format!(
                    "a trait object cannot {verb}: {} would not know which type to build. \
                     Write an enum of the possible types with `#[message]` above it; for an error, also `String`",
                    self.travels.reader()
                ),
            ),
            Type::FnPtr(_) if on_wire => self.object(
                ty,
                format!("a function cannot {verb}: {done} a value that says what to do"),
            ),
            Type::Ptr(_) => self.object(
                ty,
                format!("a pointer cannot {verb} in {part}: {done} the value itself"),
            ),
            _ => visit::visit_type(self, ty),
        }
    }

    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let is_static = reference
            .lifetime
            .as_ref()
            .is_some_and(|life| life.ident == "static");
        if is_static && self.travels == Travels::Memory {
            return visit::visit_type_reference(self, reference);
        }
        let shown = text::of(reference);
        let reason = if reference.mutability.is_some() && self.travels != Travels::Store {
            format!(
                "`{shown}` borrows, and what it borrows stays with the sender: \
                 take the value by itself and return the changed one"
            )
        } else {
            let owned = owned(&reference.elem);
            format!(
                "`{shown}` borrows, but {}: write the owned type, `{owned}`",
                self.travels.outlives()
            )
        };
        self.object(reference, reason);
    }

    fn visit_type_path(&mut self, path: &'ast TypePath) {
        let named = path.path.segments.last().map(|last| &last.ident);
        if self.travels != Travels::Memory && named.is_some_and(|name| name == "Cancellable") {
            let reason = "a `Cancellable` belongs to one activation on one node, so it cannot";
            let instead = match self.travels {
                Travels::Store => {
                    "leave it out of the event, and begin the timer in `#[on_start]`, \
                     which runs after a recovery as well"
                }
                Travels::Wire | Travels::Memory => {
                    "in a state that migrates, write `#[serde(skip)]` above a field of the type \
                     `Option<Cancellable>`, and begin the timer in `#[on_start]`, which runs after a move as well"
                }
            };
            self.object(path, format!("{reason} {}: {instead}", self.travels.verb()));
        }
        visit::visit_type_path(self, path);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.object(
                lifetime,
                format!(
                    "{}, so it cannot borrow: \
                     write a type without lifetimes (`'static` in place of this one may do)",
                    self.travels.outlives()
                ),
            );
        }
    }
}

/// Where a type that cannot travel is reported: at the `Price` of a `Vec<Price>`, which is the type
/// to change.
pub(crate) fn place(ty: &Type) -> Span {
    match parts(ty)[..] {
        [part] => part.span(),
        _ => ty.span(),
    }
}

/// The types that decide whether `ty` can travel: those inside the usual containers, or `ty`
/// itself.
pub(crate) fn parts(ty: &Type) -> Vec<&Type> {
    const CONTAINERS: [&str; 8] = [
        "Option", "Vec", "VecDeque", "Box", "HashMap", "BTreeMap", "HashSet", "BTreeSet",
    ];
    let inner: Vec<&Type> = match bare(ty) {
        Type::Tuple(tuple) => tuple.elems.iter().collect(),
        Type::Path(_) => match last_segment(ty) {
            // What has no size travels in its box, and not by itself.
            Some(last) if last.ident == "Box" => match type_arguments(last)[..] {
                [inner] => match bare(inner) {
                    Type::Slice(slice) => vec![&*slice.elem],
                    _ if is_unsized(inner) => Vec::new(),
                    _ => vec![inner],
                },
                _ => Vec::new(),
            },
            Some(last) if CONTAINERS.iter().any(|container| last.ident == container) => {
                type_arguments(last)
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    if inner.is_empty() {
        vec![ty]
    } else {
        inner.into_iter().flat_map(parts).collect()
    }
}

/// Whether it is a type of the standard library without a size, by its name.
fn is_unsized(ty: &Type) -> bool {
    const UNSIZED: [&str; 4] = ["str", "Path", "OsStr", "CStr"];
    last_segment(ty).is_some_and(|last| UNSIZED.iter().any(|name| last.ident == name))
}

/// The type to write instead of a reference to `ty`.
fn owned(ty: &Type) -> String {
    match bare(ty) {
        Type::Slice(slice) => format!("Vec<{}>", text::of(&slice.elem)),
        other => match text::of(other).as_str() {
            "str" => "String".to_owned(),
            "Path" => "PathBuf".to_owned(),
            "OsStr" => "OsString".to_owned(),
            "CStr" => "CString".to_owned(),
            shown => shown.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(source: &str) -> Type {
        syn::parse_str(source).expect("a type")
    }

    fn objects(source: &str, travels: Travels) -> bool {
        objection(&parse(source), travels).is_some()
    }

    #[test]
    fn owned_types_pass() {
        for source in [
            "i64",
            "Vec<Option<String>>",
            "[u8; 4]",
            "Cow<'static, str>",
            "Option<Option<u8>>",
            "Option<()>",
        ] {
            assert!(!objects(source, Travels::Wire), "{source}");
        }
    }

    #[test]
    fn the_parts_of_a_type_are_those_that_travel_by_themselves() {
        for (source, expected) in [
            ("Vec<Option<Price>>", "Price"),
            ("(Price, Box<Price>)", "Price Price"),
            ("Box<str>", "Box < str >"),
            ("Option<Box<[Price]>>", "Price"),
            ("Box<std::path::Path>", "Box < std :: path :: Path >"),
            ("Arc<str>", "Arc < str >"),
        ] {
            let ty = parse(source);
            let parts: Vec<String> = parts(&ty)
                .into_iter()
                .map(|part| part.to_token_stream().to_string())
                .collect();
            assert_eq!(parts.join(" "), expected, "{source}");
        }
    }

    #[test]
    fn what_cannot_travel_is_found_at_any_depth() {
        for source in [
            "&str",
            "Vec<&'static str>",
            "Cow<'_, str>",
            "Box<dyn Error>",
            "Option<casty::schedule::Cancellable>",
            "fn() -> u8",
            "*const u8",
            "Vec<_>",
            "impl Into<String>",
        ] {
            assert!(objects(source, Travels::Wire), "{source}");
        }
    }

    #[test]
    fn internal_messages_may_hold_what_stays_in_memory() {
        for source in ["&'static str", "Box<dyn Error>", "fn() -> u8"] {
            assert!(!objects(source, Travels::Memory), "{source}");
        }
        assert!(objects("&str", Travels::Memory));
    }
}
