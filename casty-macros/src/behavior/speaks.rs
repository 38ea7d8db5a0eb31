//! What an entity needs to speak protocols.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Path, PathArguments, ext::IdentExt, spanned::Spanned};

use super::{expand::Expansion, model::Message};
use crate::{names, protocol::name_as_type};

impl Expansion<'_> {
    /// Each message by its name, as a type; and a conversion for each protocol.
    pub(super) fn protocols(&self) -> TokenStream {
        let protocols = &self.behavior.settings.protocols;
        if protocols.is_empty() {
            return quote!();
        }
        let handles = self.behavior.public().map(|message| self.handles(message));
        let speaks = protocols.iter().map(|protocol| self.speaks(protocol));
        quote!(#(#handles)* #(#speaks)*)
    }

    fn handles(&self, sent: &Message) -> TokenStream {
        let Self {
            message, private, ..
        } = self;
        let actor = self.actor();
        let name = name_as_type(private, &sent.ident);
        let variant = &sent.variant;
        let types = sent.arguments.iter().map(|argument| &argument.ty);
        let fields = sent.arguments.iter().map(|argument| &argument.ident);
        let locals: Vec<_> = (0..sent.arguments.len()).map(names::argument).collect();
        let whole = sent.reply.whole();
        let (ok, error) = sent
            .reply
            .parts(private)
            .unwrap_or_else(|| (whole, quote!(::core::convert::Infallible)));
        let call = self.call_of(sent, &quote!(__to), &quote!(__message));
        self.implement(
            quote!(#private::Handles<#name> for #actor),
            quote! {
                type Arguments = (#(#types,)*);
                type Answer = #ok;
                type Error = #error;

                fn call(
                    __to: &#private::EntityRef<Self>,
                    (#(#locals,)*): Self::Arguments,
                ) -> #private::Call<Self, Self::Answer, Self::Error> {
                    let __message = #message::#variant { #(#fields: #locals,)* };
                    #call
                }
            },
        )
    }

    fn speaks(&self, protocol: &Path) -> TokenStream {
        let Self { proxy, params, .. } = self;
        let reference = reference(protocol);
        // What the entity lacks is an error at the name of the protocol.
        let span = names::at(protocol.span());
        let converted = names::all_at(span, quote!(::core::convert::From::from(__proxy.0)));
        self.implement(
            quote!(::core::convert::From<#proxy #params> for #reference),
            quote! {
                fn from(__proxy: #proxy #params) -> Self {
                    #converted
                }
            },
        )
    }

    /// The protocols, for the nodes that read references of them.
    pub(super) fn registered_protocols(&self) -> Option<TokenStream> {
        let private = &self.private;
        let protocols = &self.behavior.settings.protocols;
        let registrations = protocols.iter().map(|protocol| {
            let (actor, reference) = (self.actor(), reference(protocol));
            let registration = quote!(#private::ProtocolRegistration::of::<#actor, #reference>());
            names::all_at(names::at(protocol.span()), registration)
        });
        (!protocols.is_empty()).then(|| {
            quote! {
                const SPEAKS: &'static [#private::ProtocolRegistration] = &[#(#registrations),*];
            }
        })
    }
}

/// The reference of a protocol.
fn reference(protocol: &Path) -> Path {
    let mut reference = protocol.clone();
    if let Some(last) = reference.segments.last_mut() {
        last.ident = format_ident!("{}Ref", last.ident.unraw(), span = last.ident.span());
        last.arguments = PathArguments::None;
    }
    reference
}
