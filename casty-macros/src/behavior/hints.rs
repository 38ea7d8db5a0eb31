//! What users of other state machines write first, and how it is written here.

use proc_macro2::Ident;
use syn::ImplItem;

use crate::errors::Errors;

/// Attributes that casty does not have, and what to write.
const HINTS: [(&str, &str); 9] = [
    (
        "transition",
        "a handler that takes `self` and returns the next state is a transition: write `#[message]`",
    ),
    (
        "entry",
        "what runs when a state is entered is `#[on_enter]`",
    ),
    (
        "enter",
        "what runs when a state is entered is `#[on_enter]`",
    ),
    ("exit", "what runs when a state is left is `#[on_exit]`"),
    (
        "guard",
        "a guard is a function without an attribute that the handler names: `#[message(guard = may_bid)]`",
    ),
    (
        "timeout",
        "the time after which a state ends is `#[message(internal, after = \"30s\")]`; \
         how long an asker waits is `#[message(timeout = \"2s\")]`",
    ),
    (
        "after",
        "a timer of the state is an option of its message: `#[message(internal, after = \"30s\")]`",
    ),
    (
        "every",
        "a timer of the state is an option of its message: `#[message(internal, every = \"1s\")]`",
    ),
    (
        "internal",
        "a message that only the actor itself sends is written as `#[message(internal)]`",
    ),
];

/// Takes these attributes off the functions of a state. Returns the functions that had one: their
/// meaning is unknown.
///
/// An attribute of another crate can be written with its path.
pub(super) fn take(items: &mut [ImplItem], errors: &mut Errors) -> Vec<Ident> {
    let mut unread = Vec::new();
    for item in items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let name = &function.sig.ident;
        function.attrs.retain(|attribute| {
            let path = attribute.path();
            let hint = HINTS.iter().find(|(written, _)| path.is_ident(written));
            let Some((written, instead)) = hint else {
                return true;
            };
            errors.at(
                attribute,
                format!("there is no `#[{written}]` in a block with `#[behavior]`: {instead}"),
            );
            unread.push(name.clone());
            false
        });
    }
    unread
}
