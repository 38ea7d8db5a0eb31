//! The macros of casty: `#[entity]`, `#[actor]` and `#[message]`.
//!
//! Use them through the crate `casty`, which re-exports them.

mod behavior;
mod errors;
mod fallback;
mod message;
mod names;
mod options;
mod text;
mod types;

use proc_macro::TokenStream;

/// entity
#[proc_macro_attribute]
pub fn entity(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::derive(behavior::Kind::Entity, options.into(), item.into()).into()
}

/// actor
#[proc_macro_attribute]
pub fn actor(options: TokenStream, item: TokenStream) -> TokenStream {
    behavior::derive(behavior::Kind::Actor, options.into(), item.into()).into()
}

/// message
#[proc_macro_attribute]
pub fn message(options: TokenStream, item: TokenStream) -> TokenStream {
    message::derive(options.into(), item.into()).into()
}
