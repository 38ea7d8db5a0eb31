//! Writes the generated items. This cannot fail: `parse` and `check` have reported all errors.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{GenericParam, Generics, Path};

use super::{
    kind::Kind,
    model::{Behavior, Form, State},
};
use crate::names;

/// Everything but the user's own item.
pub(super) fn expand(behavior: &Behavior) -> TokenStream {
    Expansion::new(behavior).items()
}

/// The names that the generated items share.
pub(super) struct Expansion<'a> {
    pub(super) behavior: &'a Behavior,
    /// `CounterMsg`
    pub(super) message: Ident,
    /// `CounterRef`
    pub(super) proxy: Ident,
    /// `CounterEvent`, if the type is event-sourced.
    pub(super) event: Ident,
    /// The short name of `::casty::__private`, which the hidden items share.
    pub(super) private: TokenStream,
    /// The same, for the items that a user sees.
    pub(super) visible: TokenStream,
    /// The generic parameters of `CounterMsg` and the like, `<T>`.
    pub(super) params: TokenStream,
}

impl<'a> Expansion<'a> {
    fn new(behavior: &'a Behavior) -> Self {
        let casty: &Path = &behavior.settings.casty;
        let (_, params, _) = behavior.generics.split_for_impl();
        Self {
            behavior,
            message: names::message_enum(&behavior.ident),
            proxy: names::proxy(&behavior.ident),
            event: names::event_enum(&behavior.ident),
            private: quote!(__casty),
            visible: quote!(#casty::__private),
            params: quote!(#params),
        }
    }

    /// The table of contents.
    fn items(&self) -> TokenStream {
        let hidden = [
            // First, so that the user reads what cannot travel before what follows from it.
            self.assertions(),
            self.message_impl(),
            self.serde_of(&self.messages()),
            self.replies(),
            self.proxy_methods(),
            self.proxy_values(),
            self.machine_impls(),
            self.visits(),
            self.actor_impl(),
            self.init_impl(),
            self.entity_impl(),
            self.registration(),
            self.protocols(),
            self.events(),
        ];
        let machine_struct = self.machine_struct();
        let message_enum = self.message_enum();
        let proxy_struct = self.proxy_struct();
        let event_enum = self.event_enum();
        let (lints, private, visible) = (hidden_lints(), &self.private, &self.visible);
        quote! {
            #lints
            const _: () = {
                use #visible as #private;
                #(#hidden)*
            };
            #machine_struct
            #message_enum
            #proxy_struct
            #event_enum
        }
    }

    /// `Counter`, or `Store<T>`.
    pub(super) fn actor(&self) -> &syn::Type {
        &self.behavior.actor
    }

    /// The address that the proxy wraps: `EntityRef<Counter>`.
    pub(super) fn address(&self) -> TokenStream {
        self.address_at(&self.private)
    }

    /// The same, for the items that a user sees.
    pub(super) fn visible_address(&self) -> TokenStream {
        self.address_at(&self.visible)
    }

    fn address_at(&self, private: &TokenStream) -> TokenStream {
        let actor = self.actor();
        match self.behavior.kind {
            Kind::Entity => quote!(#private::EntityRef<#actor>),
            Kind::Actor => quote!(#private::ActorRef<#actor>),
        }
    }

    pub(super) fn generics(&self) -> &Generics {
        &self.behavior.generics
    }

    /// `impl<T: Wire> head where ..`, marked as ours.
    pub(super) fn implement(&self, head: TokenStream, body: TokenStream) -> TokenStream {
        let (params, _, clause) = self.generics().split_for_impl();
        quote! {
            #[automatically_derived]
            impl #params #head #clause { #body }
        }
    }

    /// What a macro of casty's `private/items.rs` is given for a generic type.
    pub(super) fn of_generics(&self) -> TokenStream {
        of_generics(self.generics())
    }

    /// The states, or none if one of them had an error that would break the generated items.
    pub(super) fn sound_states(&self) -> &[State] {
        match self.behavior.form {
            Form::Machine { is_sound: false } => &[],
            Form::Machine { .. } | Form::OneState => &self.behavior.states,
        }
    }

    pub(super) fn is_generic(&self) -> bool {
        !self.generics().params.is_empty()
    }

    /// A variant that cannot be constructed. It uses the type parameters that occur in no message.
    pub(super) fn phantom_variant(&self, attribute: TokenStream) -> TokenStream {
        let unused: Vec<_> = self.type_parameters().collect();
        if unused.is_empty() {
            return quote!();
        }
        quote! {
            #attribute
            #[doc(hidden)]
            __Phantom(
                ::core::convert::Infallible,
                ::core::marker::PhantomData<fn() -> (#(#unused,)*)>,
            ),
        }
    }

    /// The arm for that variant, in a match on `Self`.
    pub(super) fn phantom_arm(&self, path: TokenStream) -> TokenStream {
        if self.type_parameters().next().is_none() {
            return quote!();
        }
        quote!(#path::__Phantom(__never, _) => match __never {},)
    }

    pub(super) fn type_parameters(&self) -> impl Iterator<Item = &Ident> {
        self.generics()
            .params
            .iter()
            .filter_map(|parameter| match parameter {
                GenericParam::Type(parameter) => Some(&parameter.ident),
                _ => None,
            })
    }
}

/// The parameters of an impl, its where clause, and the type parameters, behind the other arguments
/// of a macro. Nothing, if there are no parameters.
pub(super) fn of_generics(generics: &Generics) -> TokenStream {
    if generics.params.is_empty() {
        return quote!();
    }
    let mut bare = generics.clone();
    for parameter in &mut bare.params {
        match parameter {
            GenericParam::Type(parameter) => parameter.default = None,
            GenericParam::Const(parameter) => parameter.default = None,
            GenericParam::Lifetime(_) => {}
        }
    }
    let (params, clause) = (&bare.params, &bare.where_clause);
    let types = bare.type_params().map(|parameter| &parameter.ident);
    quote!(, for [#params] [#clause] [#(#types,)*])
}

/// Lints for the items that a user sees. The user cannot change whether a private type appears in
/// them, or whether each field has docs.
pub(super) fn visible_lints() -> TokenStream {
    quote! {
        #[allow(clippy::all, clippy::pedantic)]
        #[allow(missing_docs, unreachable_pub, unused_qualifications)]
        #[allow(private_bounds, private_interfaces)]
        #[allow(rustdoc::broken_intra_doc_links, rustdoc::private_intra_doc_links)]
    }
}

/// Lints for the hidden items: casty's lints apply to generated code, not those of the user's
/// crate.
pub(super) fn hidden_lints() -> TokenStream {
    quote! {
        #[allow(clippy::all, clippy::pedantic)]
        #[allow(dead_code, deprecated, missing_docs, non_upper_case_globals)]
        #[allow(private_bounds, private_interfaces, rustdoc::broken_intra_doc_links)]
        #[allow(unreachable_code, unreachable_patterns, unreachable_pub, unused_qualifications)]
    }
}
