//! Writes what a machine has beyond the items of any actor: its type, its dispatch by state, its table.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{ItemMod, ext::IdentExt};

use crate::{
    behavior::{
        docs,
        expand::{self, Expansion},
        model::{
            Answer, Behavior, Form, Handler, Next, Otherwise, Outcome, State, Target, Transition,
            Turn,
        },
    },
    names,
};

const VARIANTS: [&str; 4] = ["First", "Second", "Third", "Fourth"];

/// The generated types, beside the module.
pub(in crate::behavior) fn reexport(module: &ItemMod, behavior: &Behavior) -> TokenStream {
    let ItemMod { ident, vis, .. } = module;
    let conditions = module
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let actor = &behavior.ident;
    let (message, proxy) = (names::message_enum(actor), names::proxy(actor));
    quote! {
        #(#conditions)*
        #[allow(unreachable_pub, unused_imports)]
        #vis use self::#ident::{#actor, #message, #proxy};
    }
}

impl Expansion<'_> {
    fn machine(&self) -> Option<&[State]> {
        match self.behavior.form {
            Form::OneState => None,
            Form::Machine { is_sound: true } => Some(&self.behavior.states),
            Form::Machine { is_sound: false } => Some(&[]),
        }
    }

    /// `__CartState`, the enum of the states.
    fn state_enum(&self) -> Ident {
        format_ident!(
            "__{}State",
            self.behavior.ident.unraw(),
            span = Span::call_site()
        )
    }

    /// `struct Cart`, and what it is made of.
    pub(in crate::behavior) fn machine_struct(&self) -> TokenStream {
        let Some(states) = self.machine() else {
            return quote!();
        };
        let Self { behavior, .. } = self;
        let (actor, state_enum) = (&behavior.ident, self.state_enum());
        let summary = match behavior.initial() {
            Some(initial) => format!(
                " {} with states. It starts in [`{}`].",
                capitalized(behavior.kind.a_noun()),
                initial.ident
            ),
            None => format!(" {} with states.", capitalized(behavior.kind.a_noun())),
        };
        let table = super::table(behavior);
        let lints = expand::protocol_lints();
        let hidden = expand::hidden_lints();
        let names = states.iter().map(|state| &state.ident);
        quote! {
            #[doc = #summary]
            #table
            #lints
            pub struct #actor(#state_enum);

            #hidden
            enum #state_enum {
                #(#names(#names),)*
                /// A handler has the state, and did not bring back another.
                __Taken,
            }
        }
    }

    /// How states become a machine, and the table.
    pub(in crate::behavior) fn machine_impls(&self) -> TokenStream {
        let Some(states) = self.machine() else {
            return quote!();
        };
        let (actor, state_enum) = (self.actor(), self.state_enum());
        let private = &self.private;
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
        let shown = format!("{}({{}})", self.behavior.ident.unraw());
        let debug = self.implement(
            quote!(::core::fmt::Debug for #actor),
            quote! {
                fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    ::core::write!(__f, #shown, #private::Actor::state_name(self))
                }
            },
        );
        let one_ofs = self.one_ofs();
        let table = self.table();
        quote!(#from #debug #(#one_ofs)* #table)
    }

    /// `From<Active> for OneOf<Active, Empty>`, for each such type that a handler returns.
    fn one_ofs(&self) -> Vec<TokenStream> {
        let private = &self.private;
        let mut seen: Vec<Vec<String>> = Vec::new();
        let mut conversions = Vec::new();
        let handlers = self
            .behavior
            .states
            .iter()
            .flat_map(|state| &state.handlers);
        for handler in handlers {
            let Outcome::Leaves(Transition {
                next: Next::OneOf(targets),
                ..
            }) = &handler.outcome
            else {
                continue;
            };
            let key: Vec<_> = targets.iter().map(Target::name).collect();
            if seen.contains(&key) {
                continue;
            }
            seen.push(key);
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
            quote!(#private::State::new(#name, #otherwise))
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
                /// What each state does with each message, and where it leads.
                pub const fn behavior() -> #private::Behavior {
                    const STATES: &[#private::State] = &[#(#states),*];
                    const HANDLERS: &[#private::HandlerRow] = &[#(#rows),*];
                    #private::Behavior::new(#name, STATES, HANDLERS)
                }
            },
        )
    }

    /// `is_whole` and `state_name`, of `impl Actor for Cart`.
    pub(in crate::behavior) fn machine_methods(&self) -> TokenStream {
        let Some(states) = self.machine() else {
            return quote!();
        };
        let state_enum = self.state_enum();
        let arms = states.iter().map(|State { ident, .. }| {
            let name = ident.unraw().to_string();
            quote!(#state_enum::#ident(_) => #name,)
        });
        quote! {
            fn is_whole(&self) -> ::core::primitive::bool {
                !::core::matches!(self.0, #state_enum::__Taken)
            }

            fn state_name(&self) -> &'static ::core::primitive::str {
                match self.0 {
                    #(#arms)*
                    #state_enum::__Taken => Self::NAME,
                }
            }
        }
    }

    /// Finds the handler by state and message.
    pub(in crate::behavior) fn machine_handle(&self) -> TokenStream {
        let private = &self.private;
        let state_enum = self.state_enum();
        let states = self.machine().unwrap_or_default();
        if states.is_empty() {
            return quote!(#private::not_compiled());
        }
        let arms = states.iter().map(|state| {
            let ident = &state.ident;
            let handled = self.handled_in(state);
            quote!(#state_enum::#ident(ref mut __state) => #handled,)
        });
        quote! {
            match self.0 {
                #(#arms)*
                #state_enum::__Taken => #private::no_state(),
            }
        }
    }

    fn handled_in(&self, state: &State) -> TokenStream {
        let private = &self.private;
        let arms = state.handlers.iter().map(|handler| {
            let ident = &state.ident;
            let then = match &handler.outcome {
                Outcome::Leaves(transition) => self.leaves(ident, handler, transition),
                Outcome::Reply | Outcome::Later => {
                    self.stays(&quote!(#ident), &quote!(__state), handler)
                }
            };
            self.arm(handler, &then)
        });
        let name = state.ident.unraw().to_string();
        let unhandled =
            |silent: bool| quote!(#private::Handled::Unhandled { state: #name, silent: #silent });
        let is_total = state.handlers.len() == self.behavior.messages.len();
        let otherwise = match state.otherwise {
            _ if is_total => quote!(),
            None => quote!(_ => #private::not_compiled(),),
            Some((Otherwise::Reject, _)) => {
                let unhandled = unhandled(false);
                quote!(_ => #unhandled,)
            }
            Some((Otherwise::Ignore, _)) => {
                let unhandled = unhandled(true);
                quote!(_ => #unhandled,)
            }
            Some((Otherwise::Stash, _)) => {
                quote!(__message => #private::Handled::Stash(__message),)
            }
        };
        quote!(match __message { #(#arms)* #otherwise })
    }

    /// Takes the state, calls the handler, and puts in place what it gives.
    fn leaves(&self, state: &Ident, handler: &Handler, transition: &Transition) -> TokenStream {
        let private = &self.private;
        let state_enum = self.state_enum();
        let variant = &handler.message.variant;
        let call = self.handler_call(&quote!(#state), &quote!(__state), handler);
        let pattern = match transition.answer {
            Answer::Nothing => quote!(__next),
            Answer::Reply | Answer::Later => quote!((__next, __reply)),
        };
        let entered = self.entered(&transition.next);
        let reply = match transition.answer {
            Answer::Nothing => quote!(()),
            Answer::Reply | Answer::Later => quote!(__reply),
        };
        let outcome = if transition.may_stay {
            quote! {
                match #call {
                    ::core::result::Result::Ok(#pattern) => {
                        #entered
                        #private::Handled::Reply(__Reply::#variant(::core::result::Result::Ok(#reply)))
                    }
                    ::core::result::Result::Err(#private::Stay(__state, __error)) => {
                        self.0 = #state_enum::#state(__state);
                        #private::Handled::Reply(__Reply::#variant(::core::result::Result::Err(__error)))
                    }
                }
            }
        } else {
            let answered = match transition.answer {
                Answer::Later => quote!(#private::Handled::later(#reply, __Reply::#variant)),
                Answer::Nothing | Answer::Reply => {
                    quote!(#private::Handled::Reply(__Reply::#variant(#reply)))
                }
            };
            quote! {
                let #pattern = #call;
                #entered
                #answered
            }
        };
        quote! {
            {
                let #state_enum::#state(__state) =
                    ::core::mem::replace(&mut self.0, #state_enum::__Taken)
                else {
                    return #private::no_state();
                };
                #outcome
            }
        }
    }

    fn entered(&self, next: &Next) -> TokenStream {
        let private = &self.private;
        let state_enum = self.state_enum();
        let enter = |target: &Target| match target {
            Target::State(ident) => quote! {
                self.0 = #state_enum::#ident(__next);
                #private::transition(__ctx);
            },
            Target::Stop => quote! {
                let #private::Stop = __next;
                #private::stop(__ctx);
            },
        };
        match next {
            Next::One(target) => enter(target),
            Next::OneOf(targets) => {
                let arms = targets.iter().zip(VARIANTS).map(|(target, variant)| {
                    let variant = Ident::new(variant, Span::call_site());
                    let enter = enter(target);
                    quote!(#private::OneOf::#variant(__next) => { #enter })
                });
                quote!(match __next { #(#arms)* })
            }
        }
    }

    /// Runs the hook of the present state, if it has one; `None` if no state has.
    pub(in crate::behavior) fn machine_hook(&self, turn: Turn) -> Option<TokenStream> {
        let state_enum = self.state_enum();
        let arms: Vec<_> = self
            .machine()?
            .iter()
            .filter_map(|state| {
                let hook = state.hooks.iter().find(|hook| hook.turn == turn)?;
                let ident = &state.ident;
                let ran = self.ran(&quote!(#ident), &quote!(__state), hook);
                Some(quote!(#state_enum::#ident(ref mut __state) => { #ran }))
            })
            .collect();
        if arms.is_empty() {
            return None;
        }
        Some(quote! {
            match self.0 {
                #(#arms)*
                _ => ::core::result::Result::Ok(()),
            }
        })
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters).collect()
}
