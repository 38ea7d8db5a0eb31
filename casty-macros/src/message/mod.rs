//! `#[message]` on a struct or enum makes a wire type. On a function, the attribute belongs to an
//! `#[entity]` or `#[actor]` block, whose macro removes it; expanded by itself, it is misplaced.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Attribute, Field, Generics, ImplItemFn, Item, Path, Type,
    spanned::Spanned,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

use crate::{
    errors::{self, Errors},
    fallback, names,
    options::{Grammar, Known, Options},
    self_type::ReplaceSelf,
    text,
    transient::{self, DropForms, Translate},
    types::{self, Travels},
};

static WIRE_TYPE: Grammar = Grammar {
    attribute: "#[message]",
    known: &[Known::new("crate", "crate = path::to::casty")],
    refused: &[
        ("name", OF_FUNCTIONS),
        ("timeout", OF_FUNCTIONS),
        ("internal", OF_FUNCTIONS),
    ],
};

const OF_FUNCTIONS: &str =
    "this is an option of `#[message]` functions: a struct or enum takes only `crate = ..`";

/// Expands `#[message(options)] item`.
pub(crate) fn derive(options: TokenStream, item: TokenStream) -> TokenStream {
    errors::collect(|errors| match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Struct(wire)) => {
            let found = Found { ident: &wire.ident, generics: &wire.generics, attrs: &wire.attrs };
            wire_type(options, &found, &wire, errors)
        }
        Ok(Item::Enum(wire)) => {
            let found = Found { ident: &wire.ident, generics: &wire.generics, attrs: &wire.attrs };
            wire_type(options, &found, &wire, errors)
        }
        Ok(Item::Fn(function)) => {
            misplaced(&function.sig.ident, errors);
            item
        }
        Ok(Item::Union(union)) => {
            errors.at(
                union.union_token,
                "a union does not say which of its fields it holds, so it cannot travel: write an enum",
            );
            item
        }
        Ok(Item::Impl(block)) => {
            errors.at(
                block.impl_token,
                "`#[message]` marks single functions: write `#[entity]` or `#[actor]` above the impl block, \
                 and `#[message]` above the functions in it",
            );
            item
        }
        Ok(other) => {
            elsewhere(&other, errors);
            item
        }
        // A function of an impl block or a trait may have no body or an odd receiver.
        Err(_) => {
            let Ok(mut function) = syn::parse2::<ImplItemFn>(item.clone()) else {
                elsewhere(&item, errors);
                return item;
            };
            misplaced(&function.sig.ident, errors);
            fallback::strip_arguments(&mut function);
            function.into_token_stream()
        }
    })
    .into_tokens()
}

fn misplaced(function: &Ident, errors: &mut Errors) {
    errors.at(
        function,
        "`#[message]` functions belong in an `impl` block annotated with `#[entity]` or `#[actor]`: \
         write one of these above the block. If the block has one, this function comes from a macro that is \
         called in the block, which is expanded too late to be read: write the function out",
    );
}

fn elsewhere(item: impl ToTokens, errors: &mut Errors) {
    errors.at(
        item,
        "`#[message]` stands above a struct or an enum, to make it a wire type, or above a function in an \
         `#[entity]` or `#[actor]` impl block",
    );
}

struct Found<'a> {
    ident: &'a Ident,
    generics: &'a Generics,
    attrs: &'a [Attribute],
}

fn wire_type(
    options: TokenStream,
    found: &Found<'_>,
    item: &(impl ToTokens + VisitFields + Clone),
    errors: &mut Errors,
) -> TokenStream {
    let before = errors.count();
    let casty = Options::parse(&WIRE_TYPE, options, errors).casty(errors);
    let mut item = item.clone();
    item.visit_fields_mut(&mut Translate {
        casty: &casty,
        errors,
    });
    let item = &item;
    if let Some(lifetime) = found.generics.lifetimes().next() {
        errors.at(
            lifetime,
            format!(
                "a message outlives the call that sends it, so `{}` cannot borrow: \
                 replace the references in it by owned values and drop this lifetime",
                found.ident
            ),
        );
    } else {
        let mut fields = Fields { errors };
        item.visit_fields(&mut fields);
    }
    serde_derives(found.attrs, errors);
    if errors.count() > before {
        // Serde's errors about the same mistake would only follow.
        let mut item = item.clone();
        item.visit_fields_mut(&mut DropForms);
        return item.to_token_stream();
    }
    derived(&casty, found, item)
}

fn derived(casty: &Path, found: &Found<'_>, item: &(impl ToTokens + VisitFields)) -> TokenStream {
    let assertions = assertions(casty, found, item);
    let serde = quote!(#casty::__private::serde);
    let serde_path = text::of(&serde);
    quote! {
        // The assertions come before serde's own errors about the same fields.
        #assertions
        #[derive(#serde::Serialize, #serde::Deserialize)]
        #[serde(crate = #serde_path)]
        #item
    }
}

/// Requires of each field that it can travel, with an error at its type. Whether the fields of a
/// generic type can travel depends on its parameters, so the compiler checks them where the type is
/// used.
fn assertions(casty: &Path, found: &Found<'_>, item: &impl VisitFields) -> TokenStream {
    if !found.generics.params.is_empty() {
        return quote!();
    }
    let mut fields = FieldTypes { types: Vec::new() };
    item.visit_fields(&mut fields);
    let ident = found.ident;
    let whole: Type = syn::parse_quote!(#ident);
    let assertions = fields.types.into_iter().flat_map(types::parts).map(|ty| {
        let ty = ReplaceSelf(&whole).in_type(ty);
        let span = names::at(ty.span());
        let wire = names::all_at(span, quote!(#casty::__private::wire::<#ty>()));
        quote!(let _ = #wire;)
    });
    quote! {
        const _: () = {
            #[allow(dead_code, clippy::all, clippy::pedantic)]
            fn __fields_can_travel() { #(#assertions)* }
        };
    }
}

/// Whether a field has no attribute of serde's.
fn is_plain(field: &Field) -> bool {
    !field
        .attrs
        .iter()
        .any(|attribute| attribute.path().is_ident("serde"))
}

struct FieldTypes<'ast> {
    types: Vec<&'ast Type>,
}

impl<'ast> Visit<'ast> for FieldTypes<'ast> {
    fn visit_field(&mut self, field: &'ast Field) {
        if is_plain(field) {
            self.types.push(&field.ty);
        }
    }
}

/// Reports serde's derives: `#[message]` adds them already.
fn serde_derives(attrs: &[Attribute], errors: &mut Errors) {
    for derive in attrs.iter().flat_map(transient::serde_derives) {
        errors.at(
            &derive,
            format!(
                "`#[message]` derives `Serialize` and `Deserialize` already: drop `{}` here",
                text::of(&derive)
            ),
        );
    }
}

/// Says of each field whether its type can travel.
struct Fields<'a> {
    errors: &'a mut Errors,
}

impl<'ast> Visit<'ast> for Fields<'_> {
    fn visit_field(&mut self, field: &'ast Field) {
        if is_plain(field)
            && let Some((place, reason)) = types::objection(&field.ty, Travels::Wire)
        {
            self.errors.at(place, reason);
        }
    }
}

trait VisitFields {
    fn visit_fields<'ast>(&'ast self, visitor: &mut impl Visit<'ast>);
    fn visit_fields_mut(&mut self, visitor: &mut impl VisitMut);
}

impl VisitFields for syn::ItemStruct {
    fn visit_fields<'ast>(&'ast self, visitor: &mut impl Visit<'ast>) {
        visit::visit_item_struct(visitor, self);
    }

    fn visit_fields_mut(&mut self, visitor: &mut impl VisitMut) {
        visit_mut::visit_item_struct_mut(visitor, self);
    }
}

impl VisitFields for syn::ItemEnum {
    fn visit_fields<'ast>(&'ast self, visitor: &mut impl Visit<'ast>) {
        visit::visit_item_enum(visitor, self);
    }

    fn visit_fields_mut(&mut self, visitor: &mut impl VisitMut) {
        visit_mut::visit_item_enum_mut(visitor, self);
    }
}
