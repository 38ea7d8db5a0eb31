//! The actor itself: dispatch, life, registration.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;

use super::{
    docs,
    expand::{Expansion, of_generics},
    kind::Kind,
    model::{
        Common, GuardParameter, Handler, Hook, HookParameter, Init, Message, Outcome, Parameter,
        State, Turn,
    },
    stored::How,
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
            ..
        } = self;
        let actor = self.actor();
        let address = self.address();
        let name = behavior.name();
        let schema = docs::schema(behavior);
        let body = self.handle_body();
        let handle = if names::occurs("await", body.clone()) {
            quote!(async fn handle)
        } else {
            quote!(fn handle_now)
        };
        let policy = behavior.settings.policy(private);
        let stored = behavior.settings.stored.as_ref();
        let stored = stored.map(|stored| stored.constants(private));
        let machine_methods = self.machine_methods();
        let hooks = Turn::OF_ACTORS
            .into_iter()
            .filter_map(|turn| self.hook(turn));
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
                #stored

                fn proxy(__address: Self::Address) -> Self::Ref {
                    #proxy(__address)
                }

                #handle(
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
            arm(message, &handler.message, &stays)
        });
        let phantom = self.phantom_arm(quote!(#message));
        quote!(match __message { #(#arms)* #phantom })
    }

    /// Calls the handler, if its guard lets it.
    pub(super) fn guarded(
        &self,
        of: &TokenStream,
        state: &TokenStream,
        handler: &Handler,
        then: TokenStream,
    ) -> TokenStream {
        let private = &self.private;
        let Some(guard) = &handler.guard else {
            return then;
        };
        let (variant, ident) = (&handler.message.variant, &guard.ident);
        let parameters = guard.parameters.iter().map(|parameter| match parameter {
            GuardParameter::Argument(index, span) => {
                let local = names::argument(*index);
                names::all_at(names::at(*span), quote!(&#local))
            }
            GuardParameter::Common => common(false),
        });
        let arguments: Vec<_> = [state.clone()].into_iter().chain(parameters).collect();
        let call = self.call(of, ident, false, &arguments);
        if handler.message.internal {
            return quote!(if #call { #then } else { #private::Handled::Reply(__Reply::#variant(())) });
        }
        quote! {
            match #call {
                ::core::result::Result::Ok(()) => { #then }
                ::core::result::Result::Err(__error) => {
                    #private::Handled::Reply(__Reply::#variant(::core::result::Result::Err(__error)))
                }
            }
        }
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
        let then = if let Outcome::Later = handler.outcome {
            quote!(#private::Handled::later(#call, __Reply::#variant))
        } else if let Outcome::Effect(effect) = handler.outcome {
            self.carried_out(of, handler, &call, effect)
        } else if handler.wraps() {
            quote!(#private::Handled::Reply(__Reply::#variant(::core::result::Result::Ok(#call))))
        } else {
            quote!(#private::Handled::Reply(__Reply::#variant(#call)))
        };
        self.guarded(of, state, handler, self.with_changes(handler.changes, then))
    }

    /// Says that what follows may change a state that is stored as it is.
    pub(super) fn with_changes(&self, changes: bool, then: TokenStream) -> TokenStream {
        if !changes || self.behavior.settings.how() != Some(How::State) {
            return then;
        }
        let private = &self.private;
        quote!({ #private::changes(__ctx); #then })
    }

    /// The call itself, of a function of the type `of`.
    pub(super) fn handler_call(
        &self,
        of: &TokenStream,
        state: &TokenStream,
        handler: &Handler,
    ) -> TokenStream {
        let arguments = arguments(state, &handler.parameters);
        self.call(of, &handler.message.ident, handler.is_async, &arguments)
    }

    /// A call of one of the user's functions. A future that cannot change threads is an error at
    /// that function.
    pub(super) fn call(
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
            self.machine_hook(turn)
        } else {
            let hook = self.behavior.initial()?.hook(turn);
            hook.map(|hook| self.ran(&quote!(Self), &quote!(self), hook))
        };
        let starts = self.starts().filter(|_| turn == Turn::Start);
        let ran = match (ran, starts) {
            (None, None) => return None,
            (Some(ran), None) => ran,
            (ran, Some(starts)) => {
                let ran = ran.map(|ran| {
                    quote! {
                        if let ::core::result::Result::Err(__error) = { #ran } {
                            return ::core::result::Result::Err(__error);
                        }
                    }
                });
                quote!(#ran #starts ::core::result::Result::Ok(()))
            }
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
        let parameters = Self::hook_arguments(hook);
        let arguments: Vec<_> = [state.clone()].into_iter().chain(parameters).collect();
        let call = self.call(of, &hook.ident, hook.is_async, &arguments);
        let ran = if hook.is_fallible {
            let span = names::at(hook.ident.span());
            names::all_at(span, quote!(#private::hook_result(#call)))
        } else {
            quote!(#call; ::core::result::Result::Ok(()))
        };
        self.with_changes(hook.changes, ran)
    }

    /// What a hook takes besides the state.
    pub(super) fn hook_arguments(hook: &Hook) -> Vec<TokenStream> {
        let arguments = hook.parameters.iter().map(|parameter| match parameter {
            HookParameter::Context => quote!(__ctx),
            HookParameter::Terminated => quote!(__who),
            HookParameter::Common { is_mutable } => common(*is_mutable),
        });
        arguments.collect()
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
        self.begun(&made, false)
    }

    fn made_by(&self, init: &Init) -> TokenStream {
        let private = &self.private;
        let of = match self.behavior.initial() {
            Some(State { ty, .. }) if self.behavior.is_machine() => quote!(<#ty>),
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
        self.begun(&made, init.makes_common)
    }

    /// Makes the actor from its first state.
    fn begun(&self, made: &TokenStream, with_common: bool) -> TokenStream {
        let private = &self.private;
        if !self.behavior.is_machine() {
            return made.clone();
        }
        let from = quote!(::core::convert::From::from);
        let Some(Common { ident, ty, .. }) = self.behavior.common.as_ref().filter(|_| !with_common)
        else {
            return quote!(::core::result::Result::map(#made, #from));
        };
        let span = names::at(ident.span());
        let common = quote_spanned!(span=> #private::common_by_default::<#ty>());
        quote!(#private::both(#made, || #common))
    }

    /// The type of the entity's ids.
    pub(super) fn id(&self) -> TokenStream {
        let private = &self.private;
        let id = self.behavior.settings.id.as_ref();
        id.map_or_else(|| quote!(#private::EntityId), ToTokens::to_token_stream)
    }

    pub(super) fn entity_impl(&self) -> TokenStream {
        let Self {
            behavior, private, ..
        } = self;
        if behavior.kind == Kind::Actor {
            return quote!();
        }
        let (actor, shards) = (self.actor(), behavior.settings.shards);
        let id = self.id();
        let speaks = self.registered_protocols();
        let migrates = behavior.settings.migrates.then(|| {
            quote!(
                const MIGRATES: ::core::primitive::bool = true;
            )
        });
        let is_frozen = behavior.settings.is_frozen();
        let frozen = is_frozen.then(|| self.frozen());
        let replayed = self.is_event_sourced().then(|| {
            quote! {
                fn replay(
                    &mut self,
                    __name: &::core::primitive::str,
                    __version: ::core::primitive::u32,
                    __event: &[::core::primitive::u8],
                ) -> ::core::result::Result<(), #private::DecodeError> {
                    #private::replay(self, __name, __version, __event)
                }
            }
        });
        let role = behavior.settings.role.as_ref().map(|role| {
            quote! {
                const ROLE: ::core::option::Option<&'static str> = ::core::option::Option::Some(#role);
            }
        });
        self.implement(
            quote!(#private::Entity for #actor),
            quote! {
                type Id = #id;

                const SHARDS: ::core::num::NonZeroU32 = #private::shards(#shards);

                #role
                #speaks
                #migrates
                #frozen
                #replayed
            },
        )
    }

    /// How the state is written and read, for a move or for the store. The state of a machine goes
    /// with its name.
    fn frozen(&self) -> TokenStream {
        let private = &self.private;
        let codec = self.state_codec();
        let states = self.sound_states();
        let (frozen, thawed) = if self.behavior.is_machine() {
            let state_enum = self.state_enum();
            let frozen = states.iter().map(|State { ident, ty, .. }| {
                let (span, name) = (names::at(ident.span()), ident.unraw().to_string());
                let freeze = quote_spanned! {span=>
                    #private::freeze(&#private::#codec::<#ty>(), #name, __state, __out)
                };
                let freeze = self.with_frozen_common(freeze);
                quote!(#state_enum::#ident(ref __state) => #freeze,)
            });
            let thawed = states.iter().map(|State { ident, ty, .. }| {
                let (span, name) = (names::at(ident.span()), ident.unraw().to_string());
                let thaw = quote_spanned! {span=>
                    #private::thaw(&#private::#codec::<#ty>(), __state)
                };
                let thawed = quote!(|__state| #state_enum::#ident(__state));
                quote!(#name => ::core::result::Result::map(#thaw, #thawed),)
            });
            let thawed = self.with_thawed_common(quote! {
                match __name {
                    #(#thawed)*
                    _ => #private::thaw_unknown(__name),
                }
            });
            (
                quote! {
                    match self.0 {
                        #(#frozen)*
                        #state_enum::__Taken => #private::freeze_nothing(),
                    }
                },
                thawed,
            )
        } else {
            let Some(State { ident, ty, .. }) = states.first() else {
                return quote!();
            };
            let span = names::at(ident.span());
            (
                quote_spanned! {span=>
                    #private::freeze(&#private::#codec::<#ty>(), "", self, __out)
                },
                quote_spanned!(span=> #private::thaw(&#private::#codec::<#ty>(), __state)),
            )
        };
        quote! {
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

    /// What requires a wire form of the state, in the words of why it needs one.
    fn state_codec(&self) -> Ident {
        let settings = &self.behavior.settings;
        let name = if settings.migrates {
            "moves"
        } else if settings.stored.is_some() {
            "stores"
        } else {
            "records"
        };
        Ident::new(name, Span::call_site())
    }

    /// The common data goes before the state.
    fn with_frozen_common(&self, freeze: TokenStream) -> TokenStream {
        let (private, codec) = (&self.private, self.state_codec());
        let Some(Common { ident, ty, .. }) = &self.behavior.common else {
            return freeze;
        };
        let span = names::at(ident.span());
        let common = quote_spanned!(span=> &#private::#codec::<#ty>());
        quote!(#private::freeze_common(#common, &self.1, __out, |__out| #freeze))
    }

    fn with_thawed_common(&self, thawed: TokenStream) -> TokenStream {
        let (private, codec) = (&self.private, self.state_codec());
        let Some(Common { ident, ty, .. }) = &self.behavior.common else {
            return quote!(::core::result::Result::map(#thawed, Self));
        };
        let span = names::at(ident.span());
        let common = quote_spanned!(span=> &#private::#codec::<#ty>());
        quote! {
            {
                let (__common, __state) = #private::thaw_common(#common, __state)?;
                ::core::result::Result::map(#thawed, |__state| Self(__state, __common))
            }
        }
    }

    /// Registers the entity, so that every node whose binary links this code can host it. A generic
    /// entity has to be registered by its user, who knows its instances.
    pub(super) fn registration(&self) -> TokenStream {
        let Self {
            behavior, private, ..
        } = self;
        let actor = self.actor();
        if behavior.kind == Kind::Actor {
            return quote!();
        }
        let stored = behavior.settings.stored.is_some();
        let stored = stored.then(|| self.implement(quote!(#private::Stored for #actor), quote!()));
        let mut generics = self.generics().clone();
        if self.is_generic() {
            let first = self.type_parameters().next();
            let first = first.map_or_else(|| quote!(()), |first| quote!(#first));
            generics
                .make_where_clause()
                .predicates
                .push(syn::parse_quote!(#first: #private::Hosts<#actor>));
        }
        let generics = of_generics(&generics);
        quote! {
            #stored
            #private::hosted! { #actor #generics }
        }
    }
}

/// The arm of a message or an event, in a match on its enum.
pub(super) fn arm(of: &Ident, form: &Message, then: &TokenStream) -> TokenStream {
    let Message {
        variant, arguments, ..
    } = form;
    let fields = arguments.iter().enumerate().map(|(index, argument)| {
        let (field, local) = (&argument.ident, names::argument(index));
        quote!(#field: #local,)
    });
    quote!(#of::#variant { #(#fields)* } => #then,)
}

/// What a function takes that handles a message or applies an event: the state, then these.
pub(super) fn arguments(state: &TokenStream, parameters: &[Parameter]) -> Vec<TokenStream> {
    let mut fields = 0..;
    let parameters = parameters.iter().map(|parameter| match parameter {
        Parameter::Context => quote!(__ctx),
        Parameter::Common { is_mutable } => common(*is_mutable),
        Parameter::Argument => {
            let local = names::argument(fields.next().unwrap_or_default());
            quote!(#local)
        }
    });
    [state.clone()].into_iter().chain(parameters).collect()
}

/// The data that all states of a machine have in common.
pub(super) fn common(is_mutable: bool) -> TokenStream {
    if is_mutable {
        quote!(&mut self.1)
    } else {
        quote!(&self.1)
    }
}
