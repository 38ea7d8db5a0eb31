//! `#[transient]` on a field: it is made anew by `Default`, and is in no snapshot, move or copy.
//!
//! The attribute becomes serde's `skip`. Casty's macros read it, since a derive of serde's knows no
//! attribute of others.

use quote::quote;
use syn::{
    Attribute, Field, Item, LitStr, Meta, Path, Token, parse_quote,
    punctuated::Punctuated,
    spanned::Spanned,
    visit_mut::{self, VisitMut},
};

use crate::{errors::Errors, fallback, names, text};

/// Writes for serde what `#[transient]` says, in the fields of a struct or an enum.
pub(crate) struct Translate<'a> {
    pub(crate) casty: &'a Path,
    pub(crate) errors: &'a mut Errors,
}

impl VisitMut for Translate<'_> {
    fn visit_field_mut(&mut self, field: &mut Field) {
        let written = take(field);
        let Some(attribute) = written.first() else {
            return;
        };
        if !matches!(attribute.meta, Meta::Path(_)) {
            self.errors.at(
                attribute,
                "`#[transient]` takes no options: write just `#[transient]`",
            );
        }
        if let Some(second) = written.get(1) {
            self.errors.at(
                second,
                "`#[transient]` is written twice above one field: keep one of them",
            );
        }
        let is_serde = |attribute: &&Attribute| attribute.path().is_ident("serde");
        if let Some(form) = field.attrs.iter().find(is_serde) {
            self.errors.at(
                form,
                "a transient field is never written, so it has no form: drop this attribute, or `#[transient]`",
            );
            return;
        }
        let casty = self.casty;
        let made = text::of(quote!(#casty::__private::made_anew));
        // A type that cannot be made is an error at its name.
        let made = LitStr::new(&made, names::at(field.ty.span()));
        field
            .attrs
            .push(parse_quote!(#[serde(skip, default = #made)]));
    }
}

/// Drops `#[transient]`, where nothing is written.
struct Drop;

impl VisitMut for Drop {
    fn visit_field_mut(&mut self, field: &mut Field) {
        take(field);
    }
}

/// Drops what serde's derives would read, where they are left out after an error.
pub(crate) struct DropForms;

impl VisitMut for DropForms {
    fn visit_attributes_mut(&mut self, attributes: &mut Vec<Attribute>) {
        attributes.retain(|attribute| {
            let path = attribute.path();
            !path.is_ident("transient") && !path.is_ident("serde")
        });
    }
}

fn take(field: &mut Field) -> Vec<Attribute> {
    field
        .attrs
        .extract_if(.., |attribute| attribute.path().is_ident("transient"))
        .collect()
}

/// Reads the attribute in the states of a module. Where `#[message]` derives serde's traits, it
/// does so itself. Where nothing does, nothing is written.
pub(crate) fn in_states(casty: &Path, items: &mut [Item], errors: &mut Errors) {
    for item in items {
        let attributes = match item {
            Item::Struct(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            _ => continue,
        };
        let has = |name| fallback::has_named(name, attributes);
        if !has("state") || has("message") {
            continue;
        }
        if attributes.iter().any(|it| !serde_derives(it).is_empty()) {
            visit_mut::visit_item_mut(&mut Translate { casty, errors }, item);
        } else {
            visit_mut::visit_item_mut(&mut Drop, item);
        }
    }
}

/// The `Serialize` and `Deserialize` of a `#[derive(..)]`.
pub(crate) fn serde_derives(attribute: &Attribute) -> Vec<Path> {
    if !attribute.path().is_ident("derive") {
        return Vec::new();
    }
    let derives = attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated);
    let is_serde = |derive: &Path| {
        derive
            .segments
            .last()
            .is_some_and(|last| last.ident == "Serialize" || last.ident == "Deserialize")
    };
    derives.into_iter().flatten().filter(is_serde).collect()
}
