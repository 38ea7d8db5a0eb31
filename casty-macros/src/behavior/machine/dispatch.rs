//! Writes the dispatch of a machine: by its present state, then by the message or the hook.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;

use super::expand::VARIANTS;
use crate::behavior::{
    actor::arm,
    expand::Expansion,
    model::{Answer, Handler, Next, Otherwise, Outcome, State, Target, Transition, Turn},
};

impl Expansion<'_> {
    /// `is_whole` and `state_name`, of `impl Actor for Cart`.
    pub(in crate::behavior) fn machine_methods(&self) -> TokenStream {
        if !self.behavior.is_machine() {
            return quote!();
        }
        let state_enum = self.state_enum();
        let survives = self
            .behavior
            .common
            .as_ref()
            .filter(|common| common.survives);
        let survives = survives.map(|_| {
            quote! {
                const SURVIVES: ::core::primitive::bool = true;

                fn inherit(&mut self, __failed: Self) {
                    self.1 = __failed.1;
                }
            }
        });
        quote! {
            const IS_MACHINE: ::core::primitive::bool = true;

            #survives

            fn is_whole(&self) -> ::core::primitive::bool {
                !::core::matches!(self.0, #state_enum::__Taken)
            }

            fn state_name(&self) -> &'static ::core::primitive::str {
                self.0.name()
            }
        }
    }

    /// Finds the handler by state and message.
    pub(in crate::behavior) fn machine_handle(&self) -> TokenStream {
        let private = &self.private;
        let state_enum = self.state_enum();
        let states = self.sound_states();
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
        let arms = state.handlers.iter().map(|handler| {
            let ident = &state.ident;
            let then = match &handler.outcome {
                Outcome::Leaves(transition) => self.leaves(ident, handler, transition),
                Outcome::Reply | Outcome::Later | Outcome::Effect(_) => {
                    self.stays(&quote!(#ident), &quote!(__state), handler)
                }
            };
            arm(&self.message, &handler.message, &then)
        });
        let rest = self.unhandled(state);
        let built_in = self
            .behavior
            .messages
            .iter()
            .filter(|message| message.is_built_in);
        let told = built_in.map(|told| {
            let (private, message, variant) = (&self.private, &self.message, &told.variant);
            quote!(#message::#variant {} => #private::told(self.0.name(), __Reply::#variant),)
        });
        quote!(match __message { #(#arms)* #(#told)* #rest })
    }

    /// The arms of the messages that the state does not handle. The policy that most of them have
    /// is that of the last arm.
    fn unhandled(&self, state: &State) -> TokenStream {
        let private = &self.private;
        let name = state.ident.unraw().to_string();
        let arm = |pattern: TokenStream, policy: Option<Otherwise>| match policy {
            None => quote!(#pattern => #private::not_compiled(),),
            Some(policy @ (Otherwise::Reject | Otherwise::Ignore)) => {
                let silent = policy == Otherwise::Ignore;
                quote!(#pattern => #private::Handled::Unhandled { state: #name, silent: #silent },)
            }
            Some(Otherwise::Stash) => {
                quote!(__message @ #pattern => #private::Handled::Stash(__message),)
            }
        };
        let message = &self.message;
        let missing = self.behavior.missing(state);
        let policies: Vec<_> = missing
            .iter()
            .map(|missing| {
                // It comes from the timer of another state, which ends with that state.
                let is_late = || self.behavior.is_of_a_timer(missing);
                let late = || is_late().then_some(Otherwise::Ignore);
                (&missing.variant, late().or_else(|| state.policy(missing)))
            })
            .collect();
        let last = state.otherwise.map(|policy| policy.otherwise);
        let others = policies.iter().filter(|(_, policy)| *policy != last);
        let arms = others.map(|(variant, policy)| arm(quote!(#message::#variant { .. }), *policy));
        let has_rest = policies.iter().any(|(_, policy)| *policy == last);
        let rest = has_rest.then(|| match last {
            Some(Otherwise::Stash) => {
                quote!(__message => #private::Handled::Stash(__message),)
            }
            last => arm(quote!(_), last),
        });
        quote!(#(#arms)* #rest)
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
        let entered = self.entered(state, handler, &transition.next);
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
                Answer::Nothing | Answer::Reply if handler.wraps() => {
                    let reply = quote!(::core::result::Result::Ok(#reply));
                    quote!(#private::Handled::Reply(__Reply::#variant(#reply)))
                }
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
        let then = quote! {
            {
                let #state_enum::#state(__state) = self.0.take() else {
                    return #private::no_state();
                };
                #outcome
            }
        };
        let then = self.with_changes(handler.changes, then);
        self.guarded(&quote!(#state), &quote!(__state), handler, then)
    }

    /// Puts the next state in place, after the exit hook of the last one.
    fn entered(&self, from: &Ident, handler: &Handler, next: &Next) -> TokenStream {
        let private = &self.private;
        let state_enum = self.state_enum();
        let left = self
            .behavior
            .states
            .iter()
            .find(|state| state.ident == *from);
        let left = left.and_then(|state| self.left(state));
        let (from, message) = (from.unraw().to_string(), &handler.message.wire_name);
        let enter = |target: &Target| match target {
            Target::State(ident) => {
                let entered = self.begins_in(ident);
                quote! {
                    self.0 = #state_enum::#ident(__next);
                    #private::transition(__ctx, #from, #message);
                    #entered
                }
            }
            Target::Stop => quote! {
                let #private::Stop = __next;
                #private::stop(__ctx);
            },
        };
        let put = self.with_next(next, enter);
        quote!(#left #put)
    }

    /// Does something with the next state, `__next`, whichever of these it is.
    pub(in crate::behavior) fn with_next(
        &self,
        next: &Next,
        then: impl Fn(&Target) -> TokenStream,
    ) -> TokenStream {
        let private = &self.private;
        match next {
            Next::One(target) => then(target),
            Next::OneOf(targets) => {
                let arms = targets.iter().zip(VARIANTS).map(|(target, variant)| {
                    let variant = Ident::new(variant, Span::call_site());
                    let then = then(target);
                    quote!(#private::OneOf::#variant(__next) => { #then })
                });
                quote!(match __next { #(#arms)* })
            }
        }
    }

    /// Runs the hook of the present state, if that state has one. `None` if no state has one.
    pub(in crate::behavior) fn machine_hook(&self, turn: Turn) -> Option<TokenStream> {
        let state_enum = self.state_enum();
        let arms: Vec<_> = self
            .sound_states()
            .iter()
            .filter_map(|state| {
                let hook = state.hook(turn)?;
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
