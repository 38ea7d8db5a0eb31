//! The typed proxy.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Visibility, ext::IdentExt};

use super::{
    docs,
    expand::{self, Expansion},
    kind::Kind,
    model::Message,
};

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
        let call = self.call_of(
            sent,
            &quote!(&self.0),
            &quote!(#message::#variant { #(#names),* }),
        );
        quote! {
            #docs
            #deprecated
            #vis fn #ident(&self, #(#names: #types),*) -> #private::Call<#answer> {
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
        quote!(#private::#function(#to, #message, #codec)#timeout)
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

    /// From and to the untyped address.
    pub(super) fn proxy_conversions(&self) -> TokenStream {
        let Self { proxy, params, .. } = self;
        let address = self.address();
        let from = self.implement(
            quote!(::core::convert::From<#address> for #proxy #params),
            quote! {
                fn from(__address: #address) -> Self {
                    Self(__address)
                }
            },
        );
        let as_ref = self.implement(
            quote!(::core::convert::AsRef<#address> for #proxy #params),
            quote! {
                fn as_ref(&self) -> &#address {
                    &self.0
                }
            },
        );
        quote!(#from #as_ref)
    }

    /// `Clone`, `Debug`, `PartialEq`, `Eq` and `Hash`. Derives would require the same traits of
    /// type parameters.
    pub(super) fn proxy_values(&self) -> TokenStream {
        let Self { proxy, params, .. } = self;
        let clone = self.implement(
            quote!(::core::clone::Clone for #proxy #params),
            quote! {
                fn clone(&self) -> Self {
                    Self(::core::clone::Clone::clone(&self.0))
                }
            },
        );
        let debug = self.implement(
            quote!(::core::fmt::Debug for #proxy #params),
            quote! {
                fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::fmt::Debug::fmt(&self.0, __f)
                }
            },
        );
        let partial_eq = self.implement(
            quote!(::core::cmp::PartialEq for #proxy #params),
            quote! {
                fn eq(&self, __other: &Self) -> ::core::primitive::bool {
                    ::core::cmp::PartialEq::eq(&self.0, &__other.0)
                }
            },
        );
        let eq = self.implement(quote!(::core::cmp::Eq for #proxy #params), quote!());
        let hash = self.implement(
            quote!(::core::hash::Hash for #proxy #params),
            quote! {
                fn hash<__H: ::core::hash::Hasher>(&self, __state: &mut __H) {
                    ::core::hash::Hash::hash(&self.0, __state);
                }
            },
        );
        quote!(#clone #debug #partial_eq #eq #hash)
    }

    /// The wire form of a proxy is that of the address in it.
    pub(super) fn proxy_serde(&self) -> TokenStream {
        let Self {
            proxy,
            private,
            params,
            ..
        } = self;
        let serde = quote!(#private::serde);
        let serialize = self.implement(
            quote!(#serde::Serialize for #proxy #params),
            quote! {
                fn serialize<__S: #serde::Serializer>(
                    &self,
                    __serializer: __S,
                ) -> ::core::result::Result<__S::Ok, __S::Error> {
                    #serde::Serialize::serialize(&self.0, __serializer)
                }
            },
        );
        let deserialize = self.implement_deserialize(
            quote!(#proxy #params),
            quote! {
                ::core::result::Result::map(
                    #serde::Deserialize::deserialize(__deserializer),
                    Self,
                )
            },
        );
        quote!(#serialize #deserialize)
    }
}

/// How long an asker of this message waits, if not the system's default.
fn timeout(message: &Message) -> Option<TokenStream> {
    let millis = u64::try_from(message.timeout?.as_millis()).unwrap_or(u64::MAX);
    Some(quote!(.timeout(::core::time::Duration::from_millis(#millis))))
}
