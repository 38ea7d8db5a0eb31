//! `#[entity]` and `#[actor]`: the protocol, the proxy and the actor that are generated from an
//! impl block with message functions, or from a module of states.
//!
//! `parse` reads the item, `check` compares its parts, and `expand` writes the generated items.
//! After an error the valid messages are still generated, so that the rest of the user's crate
//! finds the items it names.

mod actor;
mod block;
mod check;
mod docs;
mod effect;
mod event;
mod events;
mod expand;
mod guard;
mod handler;
mod hints;
mod kind;
mod lifecycle;
mod lints;
mod machine;
mod model;
mod parse;
mod protocol;
mod proxy;
mod reply;
mod scope;
mod settings;
mod signature;
mod speaks;
mod stored;
mod timer;
mod transition;
mod union;
mod versions;
mod wire_form;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{Item, parse_quote};

use self::parse::Parsed;
use crate::{errors, fallback};

pub(crate) use self::{
    kind::Kind,
    signature::{OneForm, plain_function},
};

/// Expands `#[entity(options)] item` or `#[actor(options)] item`.
pub(crate) fn derive(kind: Kind, options: TokenStream, item: TokenStream) -> TokenStream {
    errors::collect(|errors| match parse::parse(kind, options, item, errors) {
        Parsed::Other(item) => item,
        Parsed::Block(mut behavior, mut block) => {
            check::check(&mut behavior, errors);
            block.attrs.push(docs::table(&behavior));
            block.attrs.extend(docs::table_of_events(&behavior));
            let items = expand::expand(&behavior);
            quote!(#block #items)
        }
        Parsed::Module(mut behavior, mut module) => {
            check::check(&mut behavior, errors);
            module.attrs.push(machine::table(&behavior));
            module.attrs.push(parse_quote! {
                #[allow(
                    clippy::wildcard_imports,
                    reason = "the states of a machine are one with what surrounds their module"
                )]
            });
            if let Some((_, items)) = &mut module.content {
                items.push(Item::Verbatim(expand::expand(&behavior)));
            }
            let reexport = machine::reexport(&module, &behavior);
            quote!(#module #reexport)
        }
    })
    .into_tokens()
}

/// Moves `#[states(..)]` below the `#[entity]` or `#[actor]` that reads it; reports it elsewhere.
pub(crate) fn states(options: TokenStream, item: TokenStream) -> TokenStream {
    if let Ok(Item::Mod(mut module)) = syn::parse2::<Item>(item.clone())
        && ["entity", "actor"]
            .iter()
            .any(|name| fallback::has_named(name, &module.attrs))
    {
        module.attrs.push(parse_quote!(#[states(#options)]));
        return module.into_token_stream();
    }
    errors::collect(|errors| {
        errors.at_span(
            Span::call_site(),
            "`#[states]` gives several states of a machine a name: write it above a module of states, \
             with `#[entity]` or `#[actor]`",
        );
        item
    })
    .into_tokens()
}

/// Reports a `#[state]` or `#[behavior]` outside of a module of states. Inside of one, the macro of
/// the module removes these attributes before the compiler expands them.
pub(crate) fn misplaced(attribute: &str, item: TokenStream) -> TokenStream {
    errors::collect(|errors| {
        errors.at_span(
            Span::call_site(),
            format!(
                "`#[{attribute}]` has a meaning in a module of states only: write `#[entity]` or `#[actor]` above \
                 the module that this stands in, `#[entity] mod cart {{ .. }}`"
            ),
        );
        match syn::parse2::<Item>(item.clone()) {
            Ok(Item::Impl(mut block)) => {
                // Else each of its functions would be an error of its own.
                block::take_functions(&mut block.items);
                block.into_token_stream()
            }
            _ => item,
        }
    })
    .into_tokens()
}
