//! Writes the items that only a machine has: its type, its conversions from states, its table.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{ItemMod, ext::IdentExt};

use crate::{
    behavior::{
        docs,
        expand::{self, Expansion},
        model::{Behavior, Outcome, State, Target},
    },
    names,
};

pub(super) const VARIANTS: [&str; 4] = ["First", "Second", "Third", "Fourth"];

/// The generated types, beside the module.
pub(in crate::behavior) fn reexport(module: &ItemMod, behavior: &Behavior) -> TokenStream {
    let ItemMod { ident, vis, .. } = module;
    let conditions = module
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let actor = &behavior.ident;
    let (message, proxy) = (names::message_enum(actor), names::proxy(actor));
    // Not `self::cart`: the module may stand in a function, as in a doctest.
    quote! {
        #(#conditions)*
        #[allow(unreachable_pub, unused_imports)]
        #vis use #ident::{#actor, #message, #proxy};
    }
}

impl Expansion<'_> {
    /// `__CartState`, the enum of the states.
    pub(in crate::behavior) fn state_enum(&self) -> Ident {
        format_ident!(
            "__{}State",
            self.behavior.ident.unraw(),
            span = Span::call_site()
        )
    }

    /// `struct Cart`, and what it is made of.
    pub(in crate::behavior) fn machine_struct(&self) -> TokenStream {
        if !self.behavior.is_machine() {
            return quote!();
        }
        let states = self.sound_states();
        let Self { behavior, .. } = self;
        let (actor, state_enum) = (&behavior.ident, self.state_enum());
        let summary = match behavior.initial() {
            Some(initial) => format!(
                " {} with states, which starts in `{}`; the module has a \
                  [table](self#states-and-transitions) of its transitions.",
                capitalized(behavior.kind.a_noun()),
                initial.ident
            ),
            None => format!(" {} with states.", capitalized(behavior.kind.a_noun())),
        };
        let lints = expand::visible_lints();
        let names = states.iter().map(|state| &state.ident);
        quote! {
            #[doc = #summary]
            #lints
            pub struct #actor(#state_enum);

            #[allow(clippy::all, clippy::pedantic, dead_code)]
            enum #state_enum {
                #(#names(#names),)*
                /// A handler has taken the state, and has not returned the next one.
                __Taken,
            }
        }
    }

    /// The impls that make a machine of the states, and the table.
    pub(in crate::behavior) fn machine_impls(&self) -> TokenStream {
        if !self.behavior.is_machine() {
            return quote!();
        }
        let states = self.sound_states();
        let (actor, state_enum) = (self.actor(), self.state_enum());
        let from = states.first().map(|State { ident, .. }| {
            self.implement(
                quote!(::core::convert::From<#ident> for #actor),
                quote! {
                    fn from(__state: #ident) -> Self {
                        Self(#state_enum::#ident(__state))
                    }
                },
            )
        });
        let names = states.iter().map(|State { ident, .. }| {
            let name = ident.unraw().to_string();
            quote!(Self::#ident(_) => #name,)
        });
        let shown = format!("{}({{}})", self.behavior.ident.unraw());
        let methods = quote! {
            impl #state_enum {
                fn take(&mut self) -> Self {
                    ::core::mem::replace(self, Self::__Taken)
                }

                fn name(&self) -> &'static ::core::primitive::str {
                    match *self {
                        #(#names)*
                        Self::__Taken => "none",
                    }
                }
            }
        };
        let debug = self.implement(
            quote!(::core::fmt::Debug for #actor),
            quote! {
                fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::write!(__f, #shown, self.0.name())
                }
            },
        );
        let one_ofs = self.one_ofs();
        let table = self.table();
        quote!(#from #methods #debug #(#one_ofs)* #table)
    }

    /// `From<Active> for OneOf<Active, Empty>`, for each such type that a function returns.
    fn one_ofs(&self) -> Vec<TokenStream> {
        let private = &self.private;
        let mut conversions = Vec::new();
        for targets in &self.behavior.one_ofs {
            let types: Vec<_> = targets
                .iter()
                .map(|target| match target {
                    Target::State(ident) => quote!(#ident),
                    Target::Stop => quote!(#private::Stop),
                })
                .collect();
            for (target, variant) in targets.iter().zip(VARIANTS) {
                // `Stop` converts by itself.
                let Target::State(ident) = target else {
                    continue;
                };
                let variant = Ident::new(variant, Span::call_site());
                conversions.push(self.implement(
                    quote!(::core::convert::From<#ident> for #private::OneOf<#(#types),*>),
                    quote! {
                        fn from(__state: #ident) -> Self {
                            Self::#variant(__state)
                        }
                    },
                ));
            }
        }
        conversions
    }

    /// `Cart::behavior()`.
    fn table(&self) -> TokenStream {
        let private = &self.private;
        let actor = self.actor();
        let name = self.behavior.ident.unraw().to_string();
        let states = self.behavior.states.iter().map(|state| {
            let name = state.ident.unraw().to_string();
            let otherwise = match state.otherwise {
                None => quote!(::core::option::Option::None),
                Some((otherwise, _)) => {
                    let variant = Ident::new(otherwise.variant(), Span::call_site());
                    quote!(::core::option::Option::Some(#private::Otherwise::#variant))
                }
            };
            let internal = state.internal.map(|(internal, _)| {
                let variant = Ident::new(internal.variant(), Span::call_site());
                quote!(.with_internal(#private::Otherwise::#variant))
            });
            quote!(#private::State::new(#name, #otherwise) #internal)
        });
        let rows = self.behavior.states.iter().flat_map(|state| {
            let name = state.ident.unraw().to_string();
            state.handlers.iter().map(move |handler| {
                let message = &handler.message.wire_name;
                let targets = match &handler.outcome {
                    Outcome::Leaves(transition) => transition.next.targets(),
                    Outcome::Reply | Outcome::Later => &[],
                };
                let targets = targets.iter().map(Target::name);
                let reply = docs::reply(&handler.message.reply);
                quote!(#private::HandlerRow::new(#name, #message, &[#(#targets),*], #reply))
            })
        });
        self.implement(
            quote!(#actor),
            quote! {
                /// The transition table: each state, its messages, and where they lead.
                pub const fn behavior() -> #private::Behavior {
                    const STATES: &[#private::State] = &[#(#states),*];
                    const HANDLERS: &[#private::HandlerRow] = &[#(#rows),*];
                    #private::Behavior::new(#name, STATES, HANDLERS)
                }
            },
        )
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
