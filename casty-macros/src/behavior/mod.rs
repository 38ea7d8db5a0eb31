//! `#[entity]` and `#[actor]`: an impl block with message functions becomes a protocol, a proxy and an actor.
//!
//! parse reads the block, check compares its parts, expand writes the items. After an error the valid messages
//! are still generated, so that the rest of the user's crate sees the items it names.

mod actor;
mod check;
mod docs;
mod expand;
mod handler;
mod lifecycle;
mod model;
mod parse;
mod protocol;
mod proxy;
#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::quote;

use crate::errors;
pub(crate) use model::Kind;

/// Expands `#[entity(options)] item` or `#[actor(options)] item`.
pub(crate) fn derive(kind: Kind, options: TokenStream, item: TokenStream) -> TokenStream {
    errors::collect(|errors| {
        let parsed = parse::parse(kind, options, item, errors);
        let Some(mut behavior) = parsed.behavior else { return parsed.item };
        check::check(&mut behavior, errors);
        let (item, docs) = (parsed.item, docs::section(&behavior));
        let items = expand::expand(&behavior);
        quote!(#docs #item #items)
    })
    .into_tokens()
}
