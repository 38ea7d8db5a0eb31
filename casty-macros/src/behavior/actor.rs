//! The actor itself: dispatch, life, registration.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;

use super::{
    docs,
    expand::Expansion,
    kind::Kind,
    model::{Handler, Hook, HookParameter, Init, Message, Outcome, Parameter, State, Turn},
};
use crate::names;

impl Expansion<'_> {
    /// `impl Actor for Counter`.
    pub(super) fn actor_impl(&self) -> TokenStream {
        let Self {
            behavior,
            message,
            proxy,
            private,
            params,
        } = self;
        let actor = self.actor();
        let address = self.address();
        let name = behavior.name();
        let schema = docs::schema(behavior);
        let body = self.handle_body();
        let policy = behavior.settings.policy(private);
        let machine_methods = self.machine_methods();
        let hooks = Turn::ALL.into_iter().filter_map(|turn| self.hook(turn));
        self.implement(
            quote!(#private::Actor for #actor),
            quote! {
                type Message = #message #params;
                type Ref = #proxy #params;
                type Address = #address;
                type Reply = __Reply #params;

                const NAME: &'static ::core::primitive::str = #name;
                const POLICY: #private::Policy = #policy;
                const SCHEMA: &'static ::core::primitive::str = #schema;

                fn proxy(__address: Self::Address) -> Self::Ref {
                    #proxy(__address)
                }

                async fn handle(
                    &mut self,
                    __message: Self::Message,
                    __ctx: &mut #private::Context<Self>,
                ) -> #private::Handled<Self> {
                    #body
                }

                #machine_methods

                #(#hooks)*
            },
        )
    }

    /// Finds the handler and calls it.
    fn handle_body(&self) -> TokenStream {
        if self.behavior.is_machine() {
            return self.machine_handle();
        }
        let message = &self.message;
        let handlers = self.behavior.initial().map(|state| &state.handlers);
        let arms = handlers.into_iter().flatten().map(|handler| {
            let stays = self.stays(&quote!(Self), &quote!(self), handler);
            self.arm(handler, &stays)
        });
        let phantom = self.phantom_arm(quote!(#message));
        quote!(match __message { #(#arms)* #phantom })
    }

    /// The arm of a message.
    pub(super) fn arm(&self, handler: &Handler, then: &TokenStream) -> TokenStream {
        let message = &self.message;
        let Message {
            variant, arguments, ..
        } = &handler.message;
        let fields = arguments.iter().enumerate().map(|(index, argument)| {
            let (field, local) = (&argument.ident, names::argument(index));
            quote!(#field: #local,)
        });
        quote!(#message::#variant { #(#fields)* } => #then,)
    }

    /// Calls a handler that does not leave its state.
    pub(super) fn stays(
        &self,
        of: &TokenStream,
        state: &TokenStream,
        handler: &Handler,
    ) -> TokenStream {
        let private = &self.private;
        let variant = &handler.message.variant;
        let call = self.handler_call(of, state, handler);
        if let Outcome::Later = handler.outcome {
            quote!(#private::Handled::later(#call, __Reply::#variant))
        } else {
            quote!(#private::Handled::Reply(__Reply::#variant(#call)))
        }
    }

    /// The call itself, of a function of the type `of`.
    pub(super) fn handler_call(
        &self,
        of: &TokenStream,
        state: &TokenStream,
        handler: &Handler,
    ) -> TokenStream {
        let mut arguments = vec![state.clone()];
        let mut fields = 0..;
        for parameter in &handler.parameters {
            arguments.push(match parameter {
                Parameter::Context => quote!(__ctx),
                Parameter::Argument => {
                    let local = names::argument(fields.next().unwrap_or_default());
                    quote!(#local)
                }
            });
        }
        self.call(of, &handler.message.ident, handler.is_async, &arguments)
    }

    /// A call of one of the user's functions. A future that cannot change threads is an error at
    /// that function.
    fn call(
        &self,
        of: &TokenStream,
        function: &Ident,
        is_async: bool,
        arguments: &[TokenStream],
    ) -> TokenStream {
        let call = quote!(#of::#function(#(#arguments),*));
        if !is_async {
            return call;
        }
        let private = &self.private;
        names::all_at(
            names::at(function.span()),
            quote!(#private::sendable(#call).await),
        )
    }

    /// The method of `Actor` for a turn, if a state has a hook for it.
    fn hook(&self, turn: Turn) -> Option<TokenStream> {
        let private = &self.private;
        let ran = if self.behavior.is_machine() {
            self.machine_hook(turn)?
        } else {
            let hooks = &self.behavior.initial()?.hooks;
            let hook = hooks.iter().find(|hook| hook.turn == turn)?;
            self.ran(&quote!(Self), &quote!(self), hook)
        };
        let name = Ident::new(turn.name(), Span::call_site());
        let who = (turn == Turn::Terminated).then(|| quote!(__who: #private::Terminated,));
        Some(quote! {
            async fn #name(
                &mut self,
                #who
                __ctx: &mut #private::Context<Self>,
            ) -> ::core::result::Result<(), #private::HookError> {
                #ran
            }
        })
    }

    /// A call of a hook, and what came of it.
    pub(super) fn ran(&self, of: &TokenStream, state: &TokenStream, hook: &Hook) -> TokenStream {
        let private = &self.private;
        let parameters = hook.parameters.iter().map(|parameter| match parameter {
            HookParameter::Context => quote!(__ctx),
            HookParameter::Terminated => quote!(__who),
        });
        let arguments: Vec<_> = [state.clone()].into_iter().chain(parameters).collect();
        let call = self.call(of, &hook.ident, hook.is_async, &arguments);
        if hook.is_fallible {
            let span = names::at(hook.ident.span());
            names::all_at(span, quote!(#private::hook_result(#call)))
        } else {
            quote!(#call; ::core::result::Result::Ok(()))
        }
    }

    /// `impl Init for Counter`: by the `#[init]` function or by `Default`. An actor needs neither.
    pub(super) fn init_impl(&self) -> TokenStream {
        let Self {
            behavior, private, ..
        } = self;
        let actor = self.actor();
        let initial = self.sound_states().first();
        let init = initial.and_then(|state| state.init.first());
        let made = match init {
            Some(init) => self.made_by(init),
            // Whether the type has a `Default` is not what is wrong then.
            None if initial.is_none_or(|state| state.has_init) => quote!(#private::not_compiled()),
            None if behavior.kind == Kind::Actor => return quote!(),
            None => self.made_by_default(),
        };
        let made = if init.is_some_and(|init| init.is_async) {
            quote!(#private::FirstState::later(async move { #made }))
        } else {
            quote!(#private::FirstState::Now(#made))
        };
        self.implement(
            quote!(#private::Init for #actor),
            quote! {
                fn init(__ctx: &mut #private::Context<Self>) -> #private::FirstState<'_, Self> {
                    #made
                }
            },
        )
    }

    fn made_by_default(&self) -> TokenStream {
        let private = &self.private;
        let Some(State { ident, ty, .. }) = self.behavior.initial() else {
            return quote!(#private::not_compiled());
        };
        let span = names::at(ident.span());
        let made = quote_spanned!(span=> #private::init_by_default::<#ty>());
        self.begun(&made)
    }

    fn made_by(&self, init: &Init) -> TokenStream {
        let private = &self.private;
        let of = match self.behavior.initial() {
            Some(State { ty, .. }) if self.behavior.is_machine() => quote!(#ty),
            _ => quote!(Self),
        };
        let context = init.takes_context.then(|| quote!(__ctx));
        let arguments: Vec<_> = context.into_iter().collect();
        let call = self.call(&of, &init.ident, init.is_async, &arguments);
        let made = if init.is_fallible {
            let span = names::at(init.ident.span());
            names::all_at(span, quote!(#private::hook_result(#call)))
        } else {
            quote!(::core::result::Result::Ok(#call))
        };
        self.begun(&made)
    }

    /// Makes the actor from its first state.
    fn begun(&self, made: &TokenStream) -> TokenStream {
        if self.behavior.is_machine() {
            quote!(::core::result::Result::map(#made, ::core::convert::From::from))
        } else {
            made.clone()
        }
    }

    pub(super) fn entity_impl(&self) -> TokenStream {
        let Self {
            behavior, private, ..
        } = self;
        if behavior.kind == Kind::Actor {
            return quote!();
        }
        let (actor, shards) = (self.actor(), behavior.settings.shards);
        let migration = behavior.settings.migrates.then(|| self.migration());
        let role = behavior.settings.role.as_ref().map(|role| {
            quote! {
                const ROLE: ::core::option::Option<&'static str> = ::core::option::Option::Some(#role);
            }
        });
        self.implement(
            quote!(#private::Entity for #actor),
            quote! {
                const SHARDS: ::core::num::NonZeroU32 = #private::shards(#shards);

                #role
                #migration
            },
        )
    }

    /// How the state is written on one node and read on another. The state of a machine travels
    /// with its name.
    fn migration(&self) -> TokenStream {
        let private = &self.private;
        let states = self.sound_states();
        let (frozen, thawed) = if self.behavior.is_machine() {
            let state_enum = self.state_enum();
            let frozen = states.iter().map(|State { ident, ty, .. }| {
                let (span, name) = (names::at(ident.span()), ident.unraw().to_string());
                let freeze = quote_spanned! {span=>
                    #private::freeze(&#private::moves::<#ty>(), #name, __state, __out)
                };
                quote!(#state_enum::#ident(ref __state) => #freeze,)
            });
            let thawed = states.iter().map(|State { ident, ty, .. }| {
                let (span, name) = (names::at(ident.span()), ident.unraw().to_string());
                let thaw = quote_spanned! {span=>
                    #private::thaw(&#private::moves::<#ty>(), __state)
                };
                quote! {
                    #name => ::core::result::Result::map(#thaw, |__state| Self(#state_enum::#ident(__state))),
                }
            });
            (
                quote! {
                    match self.0 {
                        #(#frozen)*
                        #state_enum::__Taken => #private::freeze_nothing(),
                    }
                },
                quote! {
                    match __name {
                        #(#thawed)*
                        _ => #private::thaw_unknown(__name),
                    }
                },
            )
        } else {
            let Some(State { ident, ty, .. }) = states.first() else {
                return quote!();
            };
            let span = names::at(ident.span());
            (
                quote_spanned! {span=>
                    #private::freeze(&#private::moves::<#ty>(), "", self, __out)
                },
                quote_spanned!(span=> #private::thaw(&#private::moves::<#ty>(), __state)),
            )
        };
        quote! {
            const MIGRATES: ::core::primitive::bool = true;

            fn freeze(
                &self,
                __out: &mut #private::Vec<::core::primitive::u8>,
            ) -> ::core::result::Result<&'static ::core::primitive::str, #private::EncodeError> {
                #frozen
            }

            fn thaw(
                __name: &::core::primitive::str,
                __state: &[::core::primitive::u8],
            ) -> ::core::result::Result<Self, #private::DecodeError> {
                let _ = __name;
                #thawed
            }
        }
    }

    /// Registers the entity, so that every node whose binary links this code can host it. A generic
    /// entity has to be registered by its user, who knows its instances.
    pub(super) fn registration(&self) -> TokenStream {
        let Self {
            behavior, private, ..
        } = self;
        if behavior.kind == Kind::Actor || self.is_generic() {
            return quote!();
        }
        let actor = self.actor();
        quote! {
            #private::inventory::submit! { #private::EntityRegistration::of::<#actor>() }
        }
    }
}
