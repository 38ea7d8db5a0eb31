//! Reads the annotated impl block. Rules about one attribute or one function live here.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::{Attribute, GenericParam, ImplItem, ImplItemFn, Item, ItemImpl, Meta, Type};

use super::{
    handler, lifecycle,
    model::{Behavior, Kind, Turn},
    settings::Settings,
};
use crate::{errors::Errors, fallback, self_type::ReplaceSelf, types};

/// What came of the item under the attribute.
pub(super) enum Parsed {
    /// An impl block, without our attributes.
    Behavior(Box<Behavior>, Box<ItemImpl>),
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
            Some(behavior) => Parsed::Behavior(Box::new(behavior), Box::new(block)),
            None => Parsed::Other(block.into_token_stream()),
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
        Item::Mod(module) => {
            let mut place = module.mod_token.to_token_stream();
            module.ident.to_tokens(&mut place);
            errors.at(
                place,
                format!(
                    "`{attribute} mod` (states and transitions) is not supported yet: \
                     put `{attribute}` on an `impl` block"
                ),
            );
            return;
        }
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
            "`{attribute}` stands above the `impl` block with the `#[message]` functions, not above {found}: \
             write `{attribute} {example}`"
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
    let functions = take_functions(block);
    let head = head(kind, block, errors);
    // Without a type to speak of, the functions' own mistakes still deserve to be told.
    let (ident, actor) = head.clone().unwrap_or_else(|| {
        let unknown = Ident::new("Self", proc_macro2::Span::call_site());
        (unknown, syn::parse_quote!(Self))
    });
    let mut replace = ReplaceSelf(&actor);
    let mut behavior = Behavior {
        kind,
        settings,
        ident,
        generics: replace.in_generics(&block.generics),
        handlers: Vec::new(),
        init: Vec::new(),
        hooks: Vec::new(),
        has_messages: false,
        has_init: false,
        actor: actor.clone(),
    };
    for Annotated {
        function,
        helper,
        attribute,
    } in functions
    {
        behavior.has_messages |= helper == "message";
        behavior.has_init |= helper == "init";
        if more_parts(&function, helper, errors) {
            continue;
        }
        match helper {
            "message" => {
                let handler = handler::parse(kind, &function, &attribute, &actor, errors);
                behavior.handlers.extend(handler);
            }
            "init" => {
                behavior
                    .init
                    .extend(lifecycle::init(&function, &attribute, &actor, errors));
            }
            hook => {
                let turn = Turn::of(hook);
                behavior.hooks.extend(
                    turn.and_then(|turn| {
                        lifecycle::hook(turn, &function, &attribute, &actor, errors)
                    }),
                );
            }
        }
    }
    head.map(|_| behavior)
}

/// A function with one of our attributes, and nothing of them left on what is emitted.
struct Annotated {
    /// As written, without the attribute in `attribute`.
    function: ImplItemFn,
    helper: &'static str,
    attribute: Attribute,
}

fn take_functions(block: &mut ItemImpl) -> Vec<Annotated> {
    let mut annotated = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let written = function.clone();
        let mut helpers = fallback::take_helpers(function).into_iter();
        let Some((helper, attribute)) = helpers.next() else {
            continue;
        };
        if helper == "message" {
            fallback::strip_arguments(function);
            function.attrs.push(syn::parse_quote! {
                #[allow(
                    clippy::needless_pass_by_value,
                    clippy::unused_async,
                    clippy::unused_self,
                    reason = "the protocol says what a message function looks like"
                )]
            });
        }
        let mut function = written;
        if let Some(position) = function
            .attrs
            .iter()
            .position(|attribute| fallback::helper(attribute).is_some())
        {
            function.attrs.remove(position);
        }
        annotated.push(Annotated {
            function,
            helper,
            attribute,
        });
    }
    annotated
}

/// One function plays one part; says so of one that has more.
fn more_parts(function: &ImplItemFn, first: &str, errors: &mut Errors) -> bool {
    let before = errors.count();
    for attribute in &function.attrs {
        if let Some(second) = fallback::helper(attribute) {
            let message = if first == second {
                format!("`#[{second}]` is written twice above one function: keep one of them")
            } else {
                format!(
                    "`{}` is `#[{first}]` already, and a function has one part to play: \
                     write a function of its own for `#[{second}]`",
                    function.sig.ident
                )
            };
            errors.at(attribute, message);
        }
    }
    errors.count() > before
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

/// What stands in an attribute's parentheses.
pub(super) fn arguments(attribute: &Attribute, errors: &mut Errors) -> TokenStream {
    match &attribute.meta {
        Meta::Path(_) => quote!(),
        Meta::List(list) => list.tokens.clone(),
        Meta::NameValue(_) => {
            errors.at(
                attribute,
                "options stand in parentheses: write `#[message(name = \"..\")]`",
            );
            quote!()
        }
    }
}
