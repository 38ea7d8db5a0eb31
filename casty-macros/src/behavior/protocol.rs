//! The message enum, the reply enum, and what is required of their fields.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::{
    docs,
    expand::Expansion,
    model::{Handler, Reply},
};
use crate::{names, text};

impl Expansion<'_> {
    /// `enum CounterMsg`, with its wire form.
    pub(super) fn message_enum(&self) -> TokenStream {
        let Self { behavior, message, private, .. } = self;
        let (_, _, clause) = self.generics().split_for_impl();
        let generics = self.generics();
        let serde = text::of(quote!(#private::serde));
        let bound = self.is_generic().then(|| quote!(#[serde(bound = "")]));
        let variants = behavior.handlers.iter().map(|handler| self.message_variant(handler));
        let phantom = self.phantom_variant(quote!(#[serde(skip)]));
        let summary = format!("The messages of `{}`.", behavior.ident);
        let table = docs::section(behavior);
        let lints = super::expand::lints();
        quote! {
            #[doc = #summary]
            #table
            #[derive(#private::serde::Serialize, #private::serde::Deserialize)]
            #[serde(crate = #serde)]
            #bound
            #lints
            pub enum #message #generics #clause {
                #(#variants)*
                #phantom
            }
        }
    }

    fn message_variant(&self, handler: &Handler) -> TokenStream {
        let Handler { variant, wire_name, .. } = handler;
        let docs = docs::of_variant(self.behavior, handler);
        let fields = handler.arguments().map(|argument| {
            let (ident, ty) = (&argument.ident, &argument.ty);
            // The variant as a whole stays off the wire.
            let attrs = argument
                .attrs
                .iter()
                .filter(|attribute| !handler.internal || !attribute.path().is_ident("serde"));
            quote!(#(#attrs)* #ident: #ty)
        });
        let wire = if handler.internal {
            quote!(#[serde(skip)] #[doc(hidden)])
        } else {
            quote!(#[serde(rename = #wire_name)])
        };
        quote! {
            #docs
            #wire
            #variant { #(#fields,)* },
        }
    }

    /// `impl Message for CounterMsg`: the wire names.
    pub(super) fn message_impl(&self) -> TokenStream {
        let Self { message, private, params, .. } = self;
        let arms = self.behavior.handlers.iter().map(|handler| {
            let Handler { variant, wire_name, .. } = handler;
            quote!(Self::#variant { .. } => #wire_name,)
        });
        let phantom = self.phantom_arm(quote!(Self));
        self.implement(
            quote!(#private::Message for #message #params),
            quote! {
                fn name(&self) -> &'static ::core::primitive::str {
                    match *self { #(#arms)* #phantom }
                }
            },
        )
    }

    /// Shows the name only: what a message contains is nobody's business.
    pub(super) fn message_debug(&self) -> TokenStream {
        let Self { message, private, params, .. } = self;
        self.implement(
            quote!(::core::fmt::Debug for #message #params),
            quote! {
                fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    __f.write_str(#private::Message::name(self))
                }
            },
        )
    }

    /// The answers, as the handlers return them.
    pub(super) fn reply_enum(&self) -> TokenStream {
        let generics = self.generics();
        let (_, _, clause) = generics.split_for_impl();
        let variants = self.behavior.handlers.iter().map(|handler| {
            let (variant, ty) = (&handler.variant, handler.reply.whole());
            quote!(#variant(#ty),)
        });
        let phantom = self.phantom_variant(quote!());
        quote! {
            pub enum __Reply #generics #clause { #(#variants)* #phantom }
        }
    }

    pub(super) fn reply_impl(&self) -> TokenStream {
        let Self { private, params, .. } = self;
        let arms = self.behavior.handlers.iter().map(|handler| {
            let variant = &handler.variant;
            quote!(Self::#variant(ref __reply) => #private::encode(__reply, __out),)
        });
        let phantom = self.phantom_arm(quote!(Self));
        self.implement(
            quote!(#private::Reply for __Reply #params),
            quote! {
                fn encode(
                    &self,
                    __out: &mut ::std::vec::Vec<::core::primitive::u8>,
                ) -> ::core::result::Result<(), #private::EncodeError> {
                    match *self { #(#arms)* #phantom }
                }
            },
        )
    }

    /// Requires of each argument and reply type that it can travel, with an error at the user's type.
    pub(super) fn assertions(&self) -> TokenStream {
        let private = &self.private;
        let assert = |function: TokenStream, ty: &syn::Type| {
            quote_spanned!(names::at(ty.span())=> #private::#function::<#ty>();)
        };
        let mut assertions = TokenStream::new();
        for handler in &self.behavior.handlers {
            let function = if handler.internal { quote!(in_memory) } else { quote!(wire) };
            for argument in handler.arguments() {
                assertions.extend(assert(function.clone(), &argument.ty));
            }
            match &handler.reply {
                Reply::Unit => {}
                Reply::Fallible { parts: Some((ok, error)), .. } => {
                    assertions.extend(assert(quote!(wire), ok));
                    assertions.extend(assert(quote!(wire), error));
                }
                Reply::Value(ty) | Reply::Fallible { whole: ty, .. } => {
                    assertions.extend(assert(quote!(wire), ty));
                }
            }
        }
        let generics = self.generics();
        let (params, _, clause) = generics.split_for_impl();
        let lints = super::expand::lints();
        quote! {
            #lints
            const _: () = {
                fn __types_can_travel #params () #clause { #assertions }
            };
        }
    }
}

impl Reply {
    /// The type that the handler returns.
    pub(super) fn whole(&self) -> TokenStream {
        match self {
            Self::Unit => quote!(()),
            Self::Value(ty) | Self::Fallible { whole: ty, .. } => quote!(#ty),
        }
    }

    /// What an asker gets, and what instead.
    pub(super) fn parts(&self, private: &TokenStream) -> Option<(TokenStream, TokenStream)> {
        match self {
            Self::Unit | Self::Value(_) => None,
            Self::Fallible { parts: Some((ok, error)), .. } => Some((quote!(#ok), quote!(#error))),
            Self::Fallible { whole, parts: None } => Some((
                quote!(<#whole as #private::Fallible>::Ok),
                quote!(<#whole as #private::Fallible>::Err),
            )),
        }
    }
}
