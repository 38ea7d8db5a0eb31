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
mod settings;

use proc_macro2::TokenStream;
use quote::quote;

use self::parse::Parsed;
use crate::errors;

pub(crate) use self::model::Kind;

/// Expands `#[entity(options)] item` or `#[actor(options)] item`.
pub(crate) fn derive(kind: Kind, options: TokenStream, item: TokenStream) -> TokenStream {
    errors::collect(|errors| match parse::parse(kind, options, item, errors) {
        Parsed::Other(item) => item,
        Parsed::Behavior(mut behavior, mut block) => {
            check::check(&mut behavior, errors);
            block.attrs.push(docs::table(&behavior));
            let items = expand::expand(&behavior);
            quote!(#block #items)
        }
    })
    .into_tokens()
}
