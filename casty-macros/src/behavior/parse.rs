//! Reads the annotated item.

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::{GenericParam, Item, ItemImpl, ItemMod, Type};

use super::{
    block,
    kind::Kind,
    machine,
    model::{Behavior, Form, State},
    scope::Scope,
    settings::Settings,
};
use crate::{errors::Errors, self_type::ReplaceSelf, types};

/// The parsed item under the attribute.
pub(super) enum Parsed {
    /// An impl block, without our attributes.
    Block(Box<Behavior>, Box<ItemImpl>),
    /// A module of states, without our attributes.
    Module(Box<Behavior>, Box<ItemMod>),
    /// Something with nothing to generate from, to be emitted all the same.
    Other(TokenStream),
}

pub(super) fn parse(
    kind: Kind,
    options: TokenStream,
    item: TokenStream,
    errors: &mut Errors,
) -> Parsed {
    let settings = Settings::parse(kind, options, errors);
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Impl(mut block)) => match behavior(kind, settings, &mut block, errors) {
            Some(behavior) => Parsed::Block(Box::new(behavior), Box::new(block)),
            None => Parsed::Other(block.into_token_stream()),
        },
        Ok(Item::Mod(mut module)) => match machine::parse(kind, settings, &mut module, errors) {
            Some(behavior) => Parsed::Module(Box::new(behavior), Box::new(module)),
            None => Parsed::Other(module.into_token_stream()),
        },
        Ok(other) => {
            not_an_impl(kind, &other, errors);
            Parsed::Other(item)
        }
        Err(error) => {
            errors.syntax(error);
            Parsed::Other(item)
        }
    }
}

fn not_an_impl(kind: Kind, item: &Item, errors: &mut Errors) {
    let attribute = kind.attribute();
    let (place, found, name): (TokenStream, _, Option<&Ident>) = match item {
        Item::Struct(item) => (item.ident.to_token_stream(), "a struct", Some(&item.ident)),
        Item::Enum(item) => (item.ident.to_token_stream(), "an enum", Some(&item.ident)),
        Item::Trait(item) => (item.ident.to_token_stream(), "a trait", None),
        Item::Fn(item) => (item.sig.ident.to_token_stream(), "a function", None),
        other => (other.to_token_stream(), "this item", None),
    };
    let example = name.map_or_else(
        || "impl YourType { .. }".to_owned(),
        |name| format!("impl {name} {{ .. }}"),
    );
    errors.at(
        place,
        format!(
            "`{attribute}` stands above the `impl` block with the `#[message]` functions, or above a module of states, \
             not above {found}: write `{attribute} {example}`"
        ),
    );
}

fn behavior(
    kind: Kind,
    settings: Settings,
    block: &mut ItemImpl,
    errors: &mut Errors,
) -> Option<Behavior> {
    settings.one_state(errors);
    let signatures = block::signatures(block);
    let functions = block::take_functions(&mut block.items);
    let head = head(kind, block, errors);
    // Without a type to speak of, the functions' own mistakes still deserve to be told.
    let (ident, actor) = head.clone().unwrap_or_else(|| {
        let unknown = Ident::new("Self", proc_macro2::Span::call_site());
        (unknown, syn::parse_quote!(Self))
    });
    let scope = Scope {
        kind,
        stored: settings.how(),
        this: &actor,
        machine: None,
        functions: &signatures,
    };
    let mut state = State::new(ident.clone(), actor.clone());
    block::functions(scope, functions, &mut state, errors);
    block::without_results(&mut block.items, &state.lost);
    let missing = State::missing_events(std::slice::from_ref(&state));
    block::without_bodies(&mut block.items, &missing);
    head.map(|_| Behavior {
        kind,
        settings,
        generics: ReplaceSelf(&actor).in_generics(&block.generics),
        messages: Vec::new(),
        one_ofs: Vec::new(),
        groups: Vec::new(),
        common: None,
        shared_policies: Vec::new(),
        events: Vec::new(),
        upcasts: Vec::new(),
        states: vec![state],
        form: Form::OneState,
        ident,
        actor: actor.clone(),
    })
}

/// The type that the block is for.
fn head(kind: Kind, block: &ItemImpl, errors: &mut Errors) -> Option<(Ident, Type)> {
    let attribute = kind.attribute();
    let before = errors.count();
    if let Some((path, _)) = &block.trait_ {
        errors.at(
            path,
            format!(
                "`{attribute}` stands above an inherent `impl`: \
                 move the `#[message]` functions to an `impl` block without a trait"
            ),
        );
    }
    for parameter in &block.generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            errors.at(
                lifetime,
                format!(
                    "{} outlives the code that started it, so its type cannot borrow: \
                     replace the references in it by owned values and drop this lifetime",
                    kind.a_noun()
                ),
            );
        }
    }
    let actor = types::bare(&block.self_ty);
    let Some(last) = types::last_segment(actor) else {
        errors.at(
            actor,
            format!(
                "`{attribute}` needs a type of your own, because the proxy and the messages are named after it: \
                 write a struct or an enum and `impl` that"
            ),
        );
        return None;
    };
    (errors.count() == before).then(|| (last.ident.clone(), actor.clone()))
}
