//! The typed proxy.

use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::quote;
use syn::{Visibility, ext::IdentExt, spanned::Spanned};

use super::{
    docs,
    expand::{self, Expansion},
    kind::Kind,
    model::{Message, Reply},
};
use crate::names;

impl Expansion<'_> {
    /// `struct CounterRef`.
    pub(super) fn proxy_struct(&self) -> TokenStream {
        let Self {
            behavior, proxy, ..
        } = self;
        let generics = self.generics();
        let (_, _, clause) = generics.split_for_impl();
        let address = self.visible_address();
        let docs = docs::of_proxy(behavior);
        let lints = expand::visible_lints();
        quote! {
            #docs
            #lints
            pub struct #proxy #generics (#address) #clause;
        }
    }

    /// One method a message, and what the address offers.
    pub(super) fn proxy_methods(&self) -> TokenStream {
        let Self {
            behavior,
            proxy,
            params,
            ..
        } = self;
        let methods = behavior.public().map(|sent| self.proxy_method(sent));
        let own = self.own_method();
        self.implement(quote!(#proxy #params), quote!(#(#methods)* #own))
    }

    fn proxy_method(&self, sent: &Message) -> TokenStream {
        let Self {
            message, private, ..
        } = self;
        let Message {
            ident,
            variant,
            deprecated,
            ..
        } = sent;
        let actor = self.actor();
        let docs = docs::of_method(self.behavior, sent);
        // A message is part of the protocol, however private the function that handles it.
        let vis = match &sent.vis {
            Visibility::Inherited => quote!(pub),
            written => quote!(#written),
        };
        let names: Vec<_> = sent
            .arguments
            .iter()
            .map(|argument| &argument.ident)
            .collect();
        let types = sent.arguments.iter().map(|argument| &argument.ty);
        let answer = if let Some((ok, error)) = sent.reply.parts(private) {
            quote!(#actor, #ok, #error)
        } else {
            let value = sent.reply.whole();
            quote!(#actor, #value)
        };
        let returned = at_alias(sent, quote!(#private::Call<#answer>));
        let call = self.call_of(
            sent,
            &quote!(&self.0),
            &quote!(#message::#variant { #(#names),* }),
        );
        quote! {
            #docs
            #deprecated
            #vis fn #ident(&self, #(#names: #types),*) -> #returned {
                #call
            }
        }
    }

    /// The call that sends a message.
    pub(super) fn call_of(
        &self,
        sent: &Message,
        to: &TokenStream,
        message: &TokenStream,
    ) -> TokenStream {
        let private = &self.private;
        let function = if sent.reply.parts(private).is_some() {
            quote!(fallible_call)
        } else {
            quote!(call)
        };
        let (codec, timeout) = (self.reply_codec(sent), timeout(sent));
        let function = at_alias(sent, quote!(#private::#function));
        let mut arguments = Group::new(Delimiter::Parenthesis, quote!(#to, #message, #codec));
        if let Some(place) = place_of_alias(sent) {
            // Not what stands in it: the names of arguments stay those of the user.
            arguments.set_span(place);
        }
        quote!(#function #arguments #timeout)
    }

    /// The method that is no message: `entity_id()` or `stop()`, unless a message has that name.
    fn own_method(&self) -> TokenStream {
        let private = &self.private;
        let (name, method) = match self.behavior.kind {
            Kind::Entity if self.behavior.settings.id.is_some() => {
                let id = self.id();
                (
                    "entity_id",
                    quote! {
                        /// The id of the entity.
                        pub fn entity_id(&self) -> #id {
                            #private::id(self.0.entity_id())
                        }
                    },
                )
            }
            Kind::Entity => (
                "entity_id",
                quote! {
                    /// The id of the entity.
                    pub fn entity_id(&self) -> &#private::EntityId {
                        self.0.entity_id()
                    }
                },
            ),
            Kind::Actor => (
                "stop",
                quote! {
                    /// Stops the actor: it takes no more messages, handles those in its mailbox,
                    /// and runs `#[on_stop]`.
                    ///
                    /// Resolves when the actor has stopped, at once if it had stopped before.
                    ///
                    /// # Cancel safety
                    /// Safe: the actor stops all the same.
                    pub async fn stop(&self) {
                        self.0.stop().await;
                    }
                },
            ),
        };
        let taken = self
            .behavior
            .public()
            .any(|message| message.ident.unraw() == name);
        if taken { quote!() } else { method }
    }

    /// From and to the untyped address, and what makes a proxy a value.
    pub(super) fn proxy_values(&self) -> TokenStream {
        let Self {
            proxy,
            private,
            params,
            ..
        } = self;
        let (address, generics) = (self.address(), self.of_generics());
        quote!(#private::proxy! { #proxy #params: #address #generics })
    }
}

/// What needs the parts of a type that is named `Result`, all at that name: a type that is none is
/// one error there.
fn at_alias(sent: &Message, tokens: TokenStream) -> TokenStream {
    match place_of_alias(sent) {
        Some(place) => names::all_at(place, tokens),
        None => tokens,
    }
}

fn place_of_alias(sent: &Message) -> Option<Span> {
    match &sent.reply {
        Reply::Fallible { whole, parts: None } => Some(names::at(whole.span())),
        _ => None,
    }
}

/// How long an asker of this message waits, if not the system's default.
fn timeout(message: &Message) -> Option<TokenStream> {
    let millis = u64::try_from(message.timeout?.as_millis()).unwrap_or(u64::MAX);
    Some(quote!(.timeout(::core::time::Duration::from_millis(#millis))))
}
