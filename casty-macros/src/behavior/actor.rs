//! The actor itself: dispatch, life, registration.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};

use super::{
    docs,
    expand::Expansion,
    model::{Handler, Hook, HookParameter, Init, Kind, Parameter, Turn},
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
        let arms = behavior
            .handlers
            .iter()
            .map(|handler| self.dispatch(handler));
        let phantom = self.phantom_arm(quote!(#message));
        let policy = behavior.settings.policy(private);
        let hooks = Turn::ALL
            .into_iter()
            .filter_map(|turn| behavior.hooks.iter().find(|hook| hook.turn == turn))
            .map(|hook| self.hook(hook));
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
                    match __message { #(#arms)* #phantom }
                }

                #(#hooks)*
            },
        )
    }

    /// The arm that calls one handler.
    fn dispatch(&self, handler: &Handler) -> TokenStream {
        let Self {
            message, private, ..
        } = self;
        let Handler { ident, variant, .. } = handler;
        let mut fields = TokenStream::new();
        let mut arguments = vec![quote!(self)];
        for (index, parameter) in handler.parameters.iter().enumerate() {
            match parameter {
                Parameter::Context => arguments.push(quote!(__ctx)),
                Parameter::Argument(argument) => {
                    let (field, local) = (&argument.ident, names::argument(index));
                    fields.extend(quote!(#field: #local,));
                    arguments.push(quote!(#local));
                }
            }
        }
        let call = self.call(ident, handler.is_async, &arguments);
        let handled = if handler.is_later {
            quote!(#private::Handled::later(#call, __Reply::#variant))
        } else {
            quote!(#private::Handled::Reply(__Reply::#variant(#call)))
        };
        quote!(#message::#variant { #fields } => #handled,)
    }

    /// A call of one of the user's functions. A future that cannot change threads is an error at that function.
    fn call(&self, function: &Ident, is_async: bool, arguments: &[TokenStream]) -> TokenStream {
        let call = quote!(Self::#function(#(#arguments),*));
        if !is_async {
            return call;
        }
        let private = &self.private;
        names::all_at(
            names::at(function.span()),
            quote!(#private::sendable(#call).await),
        )
    }

    fn hook(&self, hook: &Hook) -> TokenStream {
        let private = &self.private;
        let name = Ident::new(hook.turn.name(), Span::call_site());
        let who = (hook.turn == Turn::Terminated).then(|| quote!(__who: #private::Terminated,));
        let ran = self.ran(hook);
        quote! {
            async fn #name(
                &mut self,
                #who
                __ctx: &mut #private::Context<Self>,
            ) -> ::core::result::Result<(), #private::HookError> {
                #ran
            }
        }
    }

    /// A call of a hook, and what came of it.
    fn ran(&self, hook: &Hook) -> TokenStream {
        let private = &self.private;
        let parameters = hook.parameters.iter().map(|parameter| match parameter {
            HookParameter::Context => quote!(__ctx),
            HookParameter::Terminated => quote!(__who),
        });
        let arguments: Vec<_> = [quote!(self)].into_iter().chain(parameters).collect();
        let call = self.call(&hook.ident, hook.is_async, &arguments);
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
        let made = match behavior.init.first() {
            Some(init) => self.made_by(init),
            // Whether the type has a `Default` is not what is wrong then.
            None if behavior.has_init => quote!(#private::not_compiled()),
            None if behavior.kind == Kind::Actor => return quote!(),
            None => {
                let span = names::at(behavior.ident.span());
                quote_spanned!(span=> #private::init_by_default::<#actor>())
            }
        };
        self.implement(
            quote!(#private::Init for #actor),
            quote! {
                async fn init(
                    __ctx: &mut #private::Context<Self>,
                ) -> ::core::result::Result<Self, #private::HookError> {
                    #made
                }
            },
        )
    }

    fn made_by(&self, init: &Init) -> TokenStream {
        let private = &self.private;
        let context = init.takes_context.then(|| quote!(__ctx));
        let arguments: Vec<_> = context.into_iter().collect();
        let call = self.call(&init.ident, init.is_async, &arguments);
        if init.is_fallible {
            let span = names::at(init.ident.span());
            names::all_at(span, quote!(#private::hook_result(#call)))
        } else {
            quote!(::core::result::Result::Ok(#call))
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
        self.implement(
            quote!(#private::Entity for #actor),
            quote!(const SHARDS: ::core::num::NonZeroU32 = #private::shards(#shards);),
        )
    }

    /// Lets every node whose binary links this code host the entity. Which instances of a generic one there
    /// are, only its users know.
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
