//! `host!(Breaker<Postgres> as "breaker/postgres")`: hosts an instance of a generic entity.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{
    GenericArgument, LitStr, Path, PathArguments, Token, Type,
    parse::{Parse, ParseStream, Parser},
};

use crate::{errors, names, options, types};

struct Hosted {
    ty: Type,
    /// `None` where the program gives it one, by `SystemBuilder::entity_as`.
    name: Option<LitStr>,
    casty: Path,
}

impl Parse for Hosted {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        // `as` would be part of a cast, were this an expression.
        let ty = input.parse()?;
        let named = input.parse::<Option<Token![as]>>()?.is_some();
        let name = if named { Some(input.parse()?) } else { None };
        let mut casty = options::casty();
        if input.parse::<Option<Token![,]>>()?.is_some() && !input.is_empty() {
            input.parse::<Token![crate]>()?;
            input.parse::<Token![=]>()?;
            casty = input.parse()?;
        }
        Ok(Self { ty, name, casty })
    }
}

pub(crate) fn expand(tokens: TokenStream) -> TokenStream {
    errors::collect(|errors| match Hosted::parse.parse2(tokens) {
        Ok(hosted) => hosted.expand(errors),
        Err(error) => {
            errors.at_span(
                error.span(),
                "an instance of a generic entity is hosted under a name of its own on the wire: \
                 write `casty::host!(Breaker<Postgres> as \"breaker/postgres\");`",
            );
            TokenStream::new()
        }
    })
    .into_tokens()
}

impl Hosted {
    fn expand(&self, errors: &mut errors::Errors) -> TokenStream {
        let Self { ty, name, casty } = self;
        if name.as_ref().is_some_and(|name| name.value().is_empty()) {
            errors.at(
                name,
                "a wire name cannot be empty: nodes find each other's types and messages by it",
            );
        }
        let Some(last) = types::last_segment(ty) else {
            errors.at(
                ty,
                "an entity is a type with a name: write `Breaker<Postgres>`",
            );
            return TokenStream::new();
        };
        let PathArguments::AngleBracketed(arguments) = &last.arguments else {
            errors.at(
                ty,
                "this type has no parameters, so `#[entity]` hosts it already: drop this `host!`",
            );
            return TokenStream::new();
        };
        let first = arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(quote!(#ty)),
            _ => None,
        });
        let first = first.unwrap_or_else(|| quote!(()));
        let private = quote!(#casty::__private);
        let span = names::at(syn::spanned::Spanned::span(ty));
        let registration = name.as_ref().map(|name| {
            let registration = quote!(#private::EntityRegistration::named::<#ty>(#name));
            let registration = names::all_at(span, registration);
            quote!(#private::inventory::submit! { #registration })
        });
        quote! {
            const _: () = {
                #[automatically_derived]
                impl #private::Hosts<#ty> for #first {}

                #registration
            };
        }
    }
}
