//! The user's own item, as the macros emit it: complete, without casty's attributes, and also after
//! an error.
//!
//! The rest of the crate then still sees the functions, and the compiler adds no errors about
//! attributes that it does not know.

use syn::{Attribute, FnArg, ImplItemFn, Signature};

/// The attributes that have a meaning inside an annotated impl block.
pub(crate) const HELPERS: [&str; 10] = [
    "message",
    "event",
    "upcast",
    "init",
    "on_start",
    "on_stop",
    "on_restart",
    "on_terminated",
    "on_enter",
    "on_exit",
];

/// The helper's name, if an attribute is one: `#[message]`, `#[casty::message]`.
pub(crate) fn helper(attribute: &Attribute) -> Option<&'static str> {
    let path = attribute.path();
    let last = path.segments.last()?;
    let qualified = path.segments.len() > 1;
    HELPERS
        .into_iter()
        // Only `message` is a macro that can be named by a path.
        .filter(|name| !qualified || *name == "message")
        .find(|name| last.ident == name)
}

/// Whether an attribute is `#[state]` or `#[casty::state]`, for the name `state`.
fn is_named(name: &str, attribute: &Attribute) -> bool {
    let last = attribute.path().segments.last();
    last.is_some_and(|last| last.ident == name)
}

pub(crate) fn has_named(name: &str, attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| is_named(name, attribute))
}

/// The attributes of this name.
pub(crate) fn copies_of(name: &str, attributes: &[Attribute]) -> Vec<Attribute> {
    let named = attributes.iter();
    named
        .filter(|attribute| attribute.path().is_ident(name))
        .cloned()
        .collect()
}

/// Takes an attribute that is a macro of casty's off an item.
pub(crate) fn take_named(name: &str, attributes: &mut Vec<Attribute>) -> Vec<Attribute> {
    attributes
        .extract_if(.., |attribute| is_named(name, attribute))
        .collect()
}

/// Takes the helpers off a function.
pub(crate) fn take_helpers(function: &mut ImplItemFn) -> Vec<(&'static str, Attribute)> {
    let mut helpers = Vec::new();
    function.attrs.retain(|attribute| match helper(attribute) {
        Some(name) => {
            helpers.push((name, attribute.clone()));
            false
        }
        None => true,
    });
    helpers
}

/// Whether an attribute of an argument belongs to the message's field.
pub(crate) fn is_field_attribute(attribute: &Attribute) -> bool {
    attribute.path().is_ident("serde") || attribute.path().is_ident("doc")
}

/// Takes the attributes off a message function's arguments that only a field can have.
pub(crate) fn strip_arguments(function: &mut ImplItemFn) {
    strip_fields(&mut function.sig);
}

/// The same, for any function.
pub(crate) fn strip_fields(sig: &mut Signature) {
    for input in &mut sig.inputs {
        if let FnArg::Typed(argument) = input {
            argument
                .attrs
                .retain(|attribute| !is_field_attribute(attribute));
        }
    }
}
