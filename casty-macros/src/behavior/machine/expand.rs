//! Writes the items that only a machine has: its type, its conversions from states, its table.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Generics, ItemMod, ext::IdentExt};

use super::states;

use crate::{
    behavior::{
        docs,
        expand::{self, Expansion},
        model::{Behavior, Next, Otherwise, Outcome, Policy, State, Target},
        transition::ONE_OF_MAX,
    },
    names,
};

pub(super) const VARIANTS: [&str; ONE_OF_MAX] = [
    "First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth",
];

/// The generated types, beside the module.
pub(in crate::behavior) fn reexport(module: &ItemMod, behavior: &Behavior) -> TokenStream {
    let ItemMod { ident, vis, .. } = module;
    let conditions = module
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let actor = &behavior.ident;
    let (message, proxy) = (names::message_enum(actor), names::proxy(actor));
    let event = behavior.settings.is_event_sourced().then(|| {
        let event = names::event_enum(actor);
        quote!(, #event)
    });
    // Not `self::cart`: the module may stand in a function, as in a doctest.
    quote! {
        #(#conditions)*
        #[allow(unreachable_pub, unused_imports)]
        #vis use #ident::{#actor, #message, #proxy #event};
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
        let types = states.iter().map(|state| &state.ty);
        let generics = &behavior.generics;
        let (_, params, clause) = generics.split_for_impl();
        // After an error no state may be left that names them.
        let params_in_use: Vec<_> = behavior
            .generics
            .type_params()
            .map(|parameter| &parameter.ident)
            .collect();
        let unused = (!behavior.is_sound() && !params_in_use.is_empty())
            .then(|| quote!(__Unused(::core::marker::PhantomData<fn() -> (#(#params_in_use,)*)>),));
        let common = behavior.common.as_ref().map(|common| {
            let ty = &common.ty;
            quote!(, #ty)
        });
        let reference = format!(
            " [`{}`] has a method for each message.",
            names::proxy(actor)
        );
        quote! {
            #[doc = #summary]
            #[doc = ""]
            #[doc = #reference]
            #lints
            pub struct #actor #generics (#state_enum #params #common) #clause;

            #[allow(clippy::all, clippy::pedantic, dead_code)]
            enum #state_enum #generics #clause {
                #(#names(#types),)*
                #unused
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
        let from = states.first().map(|State { ident, ty, .. }| {
            let Some(common) = &self.behavior.common else {
                return self.implement(
                    quote!(::core::convert::From<#ty> for #actor),
                    quote! {
                        fn from(__state: #ty) -> Self {
                            Self(#state_enum::#ident(__state))
                        }
                    },
                );
            };
            let common = &common.ty;
            self.implement(
                quote!(::core::convert::From<(#ty, #common)> for #actor),
                quote! {
                    fn from((__state, __common): (#ty, #common)) -> Self {
                        Self(#state_enum::#ident(__state), __common)
                    }
                },
            )
        });
        let named = states.iter().map(|State { ident, .. }| {
            let name = ident.unraw().to_string();
            quote!(#ident = #name)
        });
        let shown = format!("{}({{}})", self.behavior.ident.unraw());
        let (private, params, generics) = (&self.private, &self.params, self.of_generics());
        let methods = quote! {
            #private::states! {
                #actor, #state_enum #params { #(#named),* } as #shown #generics
            }
        };
        let state_names = states.iter().map(|State { ident, ty, .. }| {
            let name = ident.unraw().to_string();
            let generics = expand::of_generics(&mentioned(self.generics(), &quote!(#ty)));
            quote!(#private::state_name! { #ty = #name #generics })
        });
        let or_stay = states
            .iter()
            .filter(|state| leaves_or_stays(state))
            .map(|state| {
                let ty = &state.ty;
                self.implement_for(quote!(#private::OrStay for #ty), quote!())
            });
        let one_ofs = self.one_ofs();
        let widened = self.widened();
        let table = self.table();
        quote!(#from #methods #(#state_names)* #(#or_stay)* #(#one_ofs)* #(#widened)* #table)
    }

    /// `Widen<OneOf<B, A, C>>` for `OneOf<A, B>`, for each pair of such types of which one names
    /// all that the other names.
    fn widened(&self) -> Vec<TokenStream> {
        let (private, actor) = (&self.private, self.actor());
        let sets = &self.behavior.one_ofs;
        let names_of = |targets: &[Target]| targets.iter().map(Target::name).collect::<Vec<_>>();
        let mut conversions = Vec::new();
        for (from, to) in sets
            .iter()
            .flat_map(|from| sets.iter().map(move |to| (from, to)))
        {
            let (narrow, wide) = (names_of(from), names_of(to));
            if narrow == wide || !narrow.iter().all(|name| wide.contains(name)) {
                continue;
            }
            let (from_type, to_type) = (self.one_of(from), self.one_of(to));
            let arms = narrow.iter().zip(VARIANTS).filter_map(|(name, variant)| {
                let place = wide.iter().position(|other| other == name)?;
                let variant = Ident::new(variant, Span::call_site());
                let other = Ident::new(VARIANTS.get(place)?, Span::call_site());
                Some(quote! {
                    #private::OneOf::#variant(__next) => #private::OneOf::#other(__next),
                })
            });
            conversions.push(self.implement(
                quote!(#private::Widen<#to_type, #actor> for #from_type),
                quote! {
                    fn widen(self) -> #to_type {
                        match self { #(#arms)* }
                    }
                },
            ));
        }
        conversions
    }

    /// The type of a state, with its parameters.
    pub(super) fn state_type(&self, ident: &Ident) -> TokenStream {
        let mut states = self.behavior.states.iter();
        let state = states.find(|state| state.ident == *ident);
        state.map_or_else(|| quote!(#ident), |State { ty, .. }| quote!(#ty))
    }

    /// As [`implement`](Self::implement), with those of the machine's parameters that the head
    /// names.
    fn implement_for(&self, head: TokenStream, body: TokenStream) -> TokenStream {
        let generics = mentioned(self.generics(), &head);
        let (params, _, clause) = generics.split_for_impl();
        quote! {
            #[automatically_derived]
            impl #params #head #clause { #body }
        }
    }

    /// `OneOf<Active, Empty>`.
    fn one_of(&self, targets: &[Target]) -> TokenStream {
        let private = &self.private;
        let types = targets.iter().map(|target| match target {
            Target::State(ident) => self.state_type(ident),
            Target::Stop => quote!(#private::Stop),
        });
        quote!(#private::OneOf<#(#types),*>)
    }

    /// `From<Active> for OneOf<Active, Empty>`, for each such type that a function returns.
    fn one_ofs(&self) -> Vec<TokenStream> {
        let private = &self.private;
        let mut conversions = Vec::new();
        for targets in &self.behavior.one_ofs {
            let one_of = self.one_of(targets);
            for (target, variant) in targets.iter().zip(VARIANTS) {
                // `Stop` converts by itself.
                let Target::State(ident) = target else {
                    continue;
                };
                let variant = Ident::new(variant, Span::call_site());
                let ty = self.state_type(ident);
                let mentioned = mentioned(self.generics(), &quote!(#ty #one_of));
                let generics = expand::of_generics(&mentioned);
                conversions.push(quote! {
                    #private::into_one_of! { #ty => #variant of #one_of #generics }
                });
            }
        }
        conversions
    }

    /// `Cart::behavior()`.
    fn table(&self) -> TokenStream {
        let private = &self.private;
        let actor = self.actor();
        let name = self.behavior.ident.unraw().to_string();
        let states = self
            .behavior
            .states
            .iter()
            .map(|state| self.state_row(state));
        let rows = self.behavior.states.iter().flat_map(|state| {
            let name = state.ident.unraw().to_string();
            state.handlers.iter().map(move |handler| {
                let message = &handler.message.wire_name;
                let targets = match &handler.outcome {
                    Outcome::Leaves(transition) => transition.next.targets(),
                    Outcome::Reply | Outcome::Later | Outcome::Effect(_) => &[],
                };
                let targets = targets.iter().map(Target::name);
                let reply = docs::reply(&handler.message.reply);
                let internal = handler.message.internal.then(|| quote!(.internal()));
                let timer = handler.timer.as_ref().map(|timer| {
                    let shown = timer.shown().replace('`', "");
                    quote!(.with_timer(#shown))
                });
                let guard = handler.guard.as_ref().map(|guard| {
                    let guard = guard.ident.unraw().to_string();
                    quote!(.with_guard(#guard))
                });
                quote! {
                    #private::HandlerRow::new(#name, #message, &[#(#targets),*], #reply)
                        #internal #timer #guard
                }
            })
        });
        let events = self.behavior.states.iter().flat_map(|state| {
            let name = state.ident.unraw().to_string();
            state.events.iter().map(move |handler| {
                let event = &handler.event.form.wire_name;
                let targets = handler.next.as_ref().map_or(&[][..], Next::targets);
                let targets = targets.iter().map(Target::name);
                quote!(#private::HandlerRow::new(#name, #event, &[#(#targets),*], "()").event())
            })
        });
        let rows = rows.chain(events);
        let groups = (!self.behavior.groups.is_empty()).then(|| {
            let groups = self.behavior.groups.iter().map(|group| {
                let name = group.ident.unraw().to_string();
                let members = group.members.iter().map(|state| state.unraw().to_string());
                quote!(#private::Group::new(#name, &[#(#members),*]))
            });
            quote!(const GROUPS: &[#private::Group] = &[#(#groups),*];)
        });
        let with_groups = groups.as_ref().map(|_| quote!(.with_groups(GROUPS)));
        self.implement(
            quote!(#actor),
            quote! {
                /// The transition table: each state, its messages, and where they lead.
                pub const fn behavior() -> #private::Behavior {
                    const STATES: &[#private::State] = &[#(#states),*];
                    const HANDLERS: &[#private::HandlerRow] = &[#(#rows),*];
                    #groups
                    #private::Behavior::new(#name, STATES, HANDLERS) #with_groups
                }
            },
        )
    }

    fn state_row(&self, state: &State) -> TokenStream {
        let private = &self.private;
        let name = state.ident.unraw().to_string();
        let word = |otherwise: Otherwise| {
            let variant = Ident::new(otherwise.variant(), Span::call_site());
            quote!(#private::Otherwise::#variant)
        };
        let policy = |policy: Option<Policy>| policy.map(|policy| word(policy.otherwise));
        let otherwise = match policy(state.otherwise) {
            None => quote!(::core::option::Option::None),
            Some(otherwise) => quote!(::core::option::Option::Some(#otherwise)),
        };
        let internal = policy(state.internal).map(|internal| quote!(.with_internal(#internal)));
        let exceptions = (!state.exceptions.is_empty()).then(|| {
            let exceptions = state.exceptions.iter().map(|(name, otherwise)| {
                let (name, otherwise) = (name.unraw().to_string(), word(*otherwise));
                quote!((#name, #otherwise))
            });
            quote!(.with_exceptions(&[#(#exceptions),*]))
        });
        quote!(#private::State::new(#name, #otherwise) #internal #exceptions)
    }
}

/// Those parameters that the tokens name.
pub(super) fn mentioned(generics: &Generics, tokens: &TokenStream) -> Generics {
    let mut generics = generics.clone();
    generics.params = generics
        .params
        .into_iter()
        .filter(|parameter| names::occurs(states::name_of(parameter), tokens.clone()))
        .collect();
    generics
}

/// Whether a handler of the state may stay in it after all.
fn leaves_or_stays(state: &State) -> bool {
    state.handlers.iter().any(
        |handler| matches!(&handler.outcome, Outcome::Leaves(transition) if transition.may_stay),
    )
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
