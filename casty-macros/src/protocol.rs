//! `#[protocol] trait Pausable`: messages that entities of several types understand, and
//! `PausableRef`, a reference to any of these.

use std::fmt::Write;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Attribute, FnArg, Item, ItemTrait, Pat, Path, ReceiverKind, ReturnType, TraitItem, TraitItemFn,
    Type, ext::IdentExt,
};

use crate::{
    behavior,
    errors::{self, Errors},
    fallback, names,
    options::{Grammar, Known, Options},
    text,
    types::{self, Travels},
};

static PROTOCOL: Grammar = Grammar {
    attribute: "#[protocol]",
    known: &[Known::new("crate", "crate = path::to::casty")],
    refused: &[],
};

/// A message of the protocol.
struct Message {
    ident: Ident,
    docs: Vec<Attribute>,
    arguments: Vec<(Ident, Type)>,
    /// The reply, as written.
    written: Type,
    ok: Type,
    error: Type,
}

pub(crate) fn derive(options: TokenStream, item: TokenStream) -> TokenStream {
    errors::collect(|errors| {
        let casty = Options::parse(&PROTOCOL, options, errors).casty(errors);
        match syn::parse2::<Item>(item.clone()) {
            Ok(Item::Trait(protocol)) => {
                let messages = messages(&protocol, errors);
                expand(&casty, &protocol, &messages)
            }
            Ok(_) => {
                errors.at(
                    &item,
                    "`#[protocol]` stands above a trait, whose functions are the messages: \
                     write `#[protocol] trait Pausable { #[message] fn pause(&self) -> bool; }`",
                );
                item
            }
            Err(error) => {
                errors.syntax(error);
                item
            }
        }
    })
    .into_tokens()
}

fn messages(protocol: &ItemTrait, errors: &mut Errors) -> Vec<Message> {
    if let Some(parameter) = protocol.generics.params.first() {
        errors.at(
            parameter,
            "a protocol cannot be generic, since its messages have one form on the wire: write the concrete types",
        );
    }
    if let Some(bound) = protocol.supertraits.first() {
        errors.at(
            bound,
            "a protocol is what its messages are: write the messages of the other protocol here as well",
        );
    }
    if protocol.items.is_empty() {
        errors.at(
            &protocol.ident,
            "a protocol without messages says nothing: write `#[message] fn pause(&self) -> bool;` in it",
        );
    }
    let messages = protocol.items.iter().filter_map(|item| match item {
        TraitItem::Fn(function) => message(function, errors),
        other => {
            errors.at(other, "a protocol has message functions only: drop this");
            None
        }
    });
    messages.collect()
}

fn message(function: &TraitItemFn, errors: &mut Errors) -> Option<Message> {
    let before = errors.count();
    let sig = &function.sig;
    let is_message = |attribute: &&Attribute| fallback::helper(attribute) == Some("message");
    match function.attrs.iter().find(is_message) {
        None => errors.at(
            &sig.ident,
            "the functions of a protocol are messages: write `#[message]` above this one",
        ),
        Some(attribute) if attribute.meta.require_path_only().is_err() => errors.at(
            attribute,
            "a message of a protocol has no options: they belong to the entities that handle it",
        ),
        Some(_) => {}
    }
    if let Some(body) = &function.default {
        errors.at(
            body,
            "the entities handle the messages of a protocol, each in its own way: write `;` in place of this body",
        );
    }
    behavior::plain_function(
        sig,
        "a message of a protocol",
        behavior::OneForm::Message,
        errors,
    );
    let borrows = sig
        .receiver()
        .is_some_and(|receiver| matches!(receiver.kind, ReceiverKind::Reference(..)));
    if !borrows {
        errors.at(
            &sig.ident,
            "the sender of a message has a reference: start with `&self`, however the entities take their state",
        );
    }
    let mut arguments = Vec::new();
    for input in &sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        if let Some((place, reason)) = types::objection(&input.ty, Travels::Wire) {
            errors.at(place, reason);
        }
        for attribute in &input.attrs {
            errors.at(
                attribute,
                "the form of a field is for the entities to say that handle the message: drop this attribute",
            );
        }
        match &*input.pat {
            Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => {
                arguments.push((pat.ident.clone(), (*input.ty).clone()));
            }
            pattern => errors.at(
                pattern,
                "an argument of a message has a name: write one here",
            ),
        }
    }
    let (ok, error) = reply(&sig.output, errors);
    (errors.count() == before).then(|| Message {
        ident: sig.ident.clone(),
        docs: fallback::copies_of("doc", &function.attrs),
        arguments,
        written: types::returned(&sig.output).map_or_else(|| syn::parse_quote!(()), Type::clone),
        ok,
        error,
    })
}

/// The value and the error that an ask returns.
fn reply(output: &ReturnType, errors: &mut Errors) -> (Type, Type) {
    let never = || syn::parse_quote!(::core::convert::Infallible);
    let Some(ty) = types::returned(output) else {
        return (syn::parse_quote!(()), never());
    };
    if let Some((place, reason)) = types::objection(ty, Travels::Wire) {
        errors.at(place, reason);
    }
    let Some(last) = types::last_segment(ty).filter(|last| last.ident == "Result") else {
        return (ty.clone(), never());
    };
    let [ok, error] = types::type_arguments(last)[..] else {
        errors.at(
            ty,
            "the asker gets the value or the error: write both, `Result<T, E>`",
        );
        return (syn::parse_quote!(()), never());
    };
    (ok.clone(), error.clone())
}

/// The name of a message as a type: `(Letter<'p'>, Letter<'u'>, ..)`.
pub(crate) fn name_as_type(private: &TokenStream, ident: &Ident) -> TokenStream {
    let name = ident.unraw().to_string();
    let letters = name
        .chars()
        .map(|letter| quote!(#private::Letter<#letter>,));
    quote!((#(#letters)*))
}

fn expand(casty: &Path, protocol: &ItemTrait, messages: &[Message]) -> TokenStream {
    let private = quote!(#casty::__private);
    let ItemTrait {
        attrs, vis, ident, ..
    } = protocol;
    let reference = names::proxy(ident);
    let declared = messages.iter().map(|message| {
        let head = message.head(&private);
        let docs = &message.docs;
        quote!(#(#docs)* #head;)
    });
    let spoken = messages
        .iter()
        .map(|message| message.spoken(&private, ident));
    let bounds = messages.iter().map(Message::spoken_name);
    let bodies = messages.iter().map(|message| message.body(&private));
    let methods = messages.iter().map(|message| {
        let (head, docs, name) = (message.head(&private), &message.docs, &message.ident);
        let arguments = message.arguments.iter().map(|(argument, _)| argument);
        quote!(#(#docs)* pub #head { #ident::#name(&*self.0, #(#arguments),*) })
    });
    let summary = format!(" A reference to an entity of any type that speaks [`{ident}`].");
    let values = values(&private, &reference);
    quote! {
        #(#attrs)*
        #vis trait #ident: #private::Speaker {
            #(#declared)*
        }

        #[doc = #summary]
        #[derive(Clone)]
        #vis struct #reference(::std::sync::Arc<dyn #ident>);

        #[allow(
            clippy::all,
            clippy::pedantic,
            missing_docs,
            non_camel_case_types,
            private_bounds,
            unreachable_pub
        )]
        const _: () = {
            #(#spoken)*

            impl<__E> #ident for #private::EntityRef<__E>
            where
                __E: #private::Entity #(+ #bounds)*,
            {
                #(#bodies)*
            }

            impl<__E> ::core::convert::From<#private::EntityRef<__E>> for #reference
            where
                __E: #private::Entity,
                #private::EntityRef<__E>: #ident,
            {
                fn from(__entity: #private::EntityRef<__E>) -> Self {
                    Self(::std::sync::Arc::new(__entity))
                }
            }

            impl #reference {
                #(#methods)*
            }

            #values
        };
    }
}

impl Message {
    /// `fn pause(&self, secs: u64) -> AnyCall<bool, Infallible>`.
    fn head(&self, private: &TokenStream) -> TokenStream {
        let Self {
            ident, ok, error, ..
        } = self;
        let arguments = self.arguments.iter().map(|(name, ty)| quote!(#name: #ty));
        quote!(fn #ident(&self, #(#arguments),*) -> #private::AnyCall<#ok, #error>)
    }

    /// The trait of entities that handle the message. It says what an entity lacks in the words of
    /// the protocol.
    fn spoken(&self, private: &TokenStream, protocol: &Ident) -> TokenStream {
        let Self {
            ident, ok, error, ..
        } = self;
        let spoken = self.spoken_name();
        let name = name_as_type(private, ident);
        let types: Vec<_> = self.arguments.iter().map(|(_, ty)| ty).collect();
        let message = format!("`{{Self}}` does not speak `{protocol}`");
        let label = format!("has no message `{}`", self.shown());
        let note = format!(
            "a message of a protocol is a `#[message]` function of the same name, with the same arguments and reply: \
             write `{}` in the block of `{{Self}}`, or let the one that is there have these types",
            self.shown()
        );
        quote! {
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #note)]
            pub trait #spoken: #private::Entity {
                fn call(
                    __to: &#private::EntityRef<Self>,
                    __arguments: (#(#types,)*),
                ) -> #private::AnyCall<#ok, #error>;
            }

            #[diagnostic::do_not_recommend]
            impl<__E> #spoken for __E
            where
                __E: #private::Handles<#name, Arguments = (#(#types,)*), Answer = #ok, Error = #error>,
            {
                fn call(
                    __to: &#private::EntityRef<Self>,
                    __arguments: (#(#types,)*),
                ) -> #private::AnyCall<#ok, #error> {
                    #private::AnyCall::new(<__E as #private::Handles<#name>>::call(__to, __arguments))
                }
            }
        }
    }

    fn spoken_name(&self) -> Ident {
        let name = names::variant(&self.ident);
        format_ident!("__Handles{}", name, span = names::at(self.ident.span()))
    }

    /// `fn pause(&mut self, secs: u64) -> bool`.
    fn shown(&self) -> String {
        let mut shown = format!("fn {}(&mut self", self.ident.unraw());
        for (name, ty) in &self.arguments {
            // Writing to a string cannot fail.
            let _ = write!(shown, ", {}: {}", name.unraw(), text::of(ty));
        }
        shown.push(')');
        match text::of(&self.written).as_str() {
            "()" => {}
            reply => {
                let _ = write!(shown, " -> {reply}");
            }
        }
        shown
    }

    /// Sends the message to an entity of a known type.
    fn body(&self, private: &TokenStream) -> TokenStream {
        let (head, spoken) = (self.head(private), self.spoken_name());
        let arguments = self.arguments.iter().map(|(argument, _)| argument);
        quote!(#head { <__E as #spoken>::call(self, (#(#arguments,)*)) })
    }
}

/// What a reference is besides: an id, a value, and something that travels.
fn values(private: &TokenStream, reference: &Ident) -> TokenStream {
    let serde = quote!(#private::serde);
    let shown = format_ident!("__f");
    quote! {
        impl #reference {
            /// The id of the entity, within its type.
            pub fn entity_id(&self) -> &#private::EntityId {
                #private::Speaker::entity_id(&*self.0)
            }

            /// The type of the entity, and its id.
            pub fn path(&self) -> #private::ActorPath {
                #private::Speaker::path(&*self.0)
            }
        }

        impl ::core::fmt::Debug for #reference {
            fn fmt(&self, #shown: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(&self.path(), #shown)
            }
        }

        impl ::core::cmp::PartialEq for #reference {
            fn eq(&self, __other: &Self) -> ::core::primitive::bool {
                self.path() == __other.path()
            }
        }

        impl ::core::cmp::Eq for #reference {}

        impl ::core::hash::Hash for #reference {
            fn hash<__H: ::core::hash::Hasher>(&self, __state: &mut __H) {
                ::core::hash::Hash::hash(&self.path(), __state);
            }
        }

        impl #serde::Serialize for #reference {
            fn serialize<__S: #serde::Serializer>(
                &self,
                __serializer: __S,
            ) -> ::core::result::Result<__S::Ok, __S::Error> {
                #private::serialize_speaker(&*self.0, __serializer)
            }
        }

        impl<'__de> #serde::Deserialize<'__de> for #reference {
            fn deserialize<__D: #serde::Deserializer<'__de>>(
                __deserializer: __D,
            ) -> ::core::result::Result<Self, __D::Error> {
                #private::deserialize_speaker(__deserializer)
            }
        }
    }
}
