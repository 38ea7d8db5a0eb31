//! Writes the events of an event-sourced type: the enum, its stored form, and how each is applied.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote};
use syn::ext::IdentExt;

use super::{
    actor::{arguments, arm},
    docs,
    expand::Expansion,
    model::{
        Argument, Effect, Event, EventHandler, Handler, Message, State, Target, Upcast, Upcasts,
    },
    wire_form::Enumerated,
};
use crate::{names, types::Travels};

impl Expansion<'_> {
    pub(super) fn is_event_sourced(&self) -> bool {
        self.behavior.settings.is_event_sourced()
    }

    /// `enum AccountEvent`.
    pub(super) fn event_enum(&self) -> TokenStream {
        if !self.is_event_sourced() {
            return quote!();
        }
        let docs = docs::of_events(self.behavior);
        self.enum_of(&self.enumerated_events(), docs, docs::of_event)
    }

    fn enumerated_events(&self) -> Enumerated<'_> {
        Enumerated {
            ident: &self.event,
            variants: self.behavior.events.iter().map(|it| &it.form).collect(),
            travels: Travels::Store,
        }
    }

    /// The hidden items of an event-sourced type.
    pub(super) fn events(&self) -> TokenStream {
        if !self.is_event_sourced() {
            return quote!();
        }
        let Self {
            event,
            private,
            params,
            ..
        } = self;
        let serde = self.serde_of(&self.enumerated_events());
        let old = self.old_events();
        let arms = self.behavior.events.iter().map(|event| {
            let (variant, name) = (&event.form.variant, &event.form.wire_name);
            quote!(Self::#variant { .. } => #name,)
        });
        let phantom = self.phantom_arm(quote!(Self));
        let debug = self.implement(
            quote!(::core::fmt::Debug for #event #params),
            quote! {
                fn fmt(&self, __f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    __f.write_str(match *self { #(#arms)* #phantom })
                }
            },
        );
        let (actor, written, read) = (self.actor(), self.written_event(), self.read_event());
        let events = self.implement(
            quote!(#private::Events for #event #params),
            quote! {
                fn write(
                    &self,
                    __out: &mut #private::Vec<::core::primitive::u8>,
                ) -> ::core::result::Result<
                    (&'static ::core::primitive::str, ::core::primitive::u32),
                    #private::EncodeError,
                > {
                    #written
                }

                fn read(
                    __name: &::core::primitive::str,
                    __version: ::core::primitive::u32,
                    __bytes: &[::core::primitive::u8],
                ) -> ::core::result::Result<#private::Vec<Self>, #private::DecodeError> {
                    #read
                }
            },
        );
        let of = self.implement(
            quote!(#private::EventOf<#actor> for #event #params),
            quote! {
                fn own(self) -> Self {
                    self
                }
            },
        );
        let applied = if self.behavior.is_machine() {
            self.applied_in_states()
        } else {
            self.applied()
        };
        let sourced = self.implement(
            quote!(#private::EventSourced for #actor),
            quote! {
                type Event = #event #params;

                fn apply(
                    &mut self,
                    __event: Self::Event,
                ) -> ::core::result::Result<::core::primitive::bool, #private::DecodeError> {
                    #applied
                }
            },
        );
        let named = self.behavior.events.iter().map(|it| {
            let number = names::number(&it.form.variant);
            let head = quote!(#private::EventNamed<#number> for #event #params);
            self.implement(head, quote!())
        });
        quote!(#serde #old #debug #events #of #(#named)* #sourced)
    }

    /// Writes the arguments, and gives the name and the version.
    fn written_event(&self) -> TokenStream {
        let private = &self.private;
        let pack = if self.enumerated_events().derives_serde() {
            quote!(pack_event)
        } else {
            quote!(pack)
        };
        let arms = self.behavior.events.iter().map(|event| {
            let (variant, name) = (&event.form.variant, &event.form.wire_name);
            let version = Literal::u32_suffixed(event.version);
            quote!(Self::#variant { .. } => (#name, #version),)
        });
        let phantom = self.phantom_arm(quote!(Self));
        quote! {
            #private::#pack(self, __out)?;
            ::core::result::Result::Ok(match *self { #(#arms)* #phantom })
        }
    }

    /// Reads an event of any version.
    fn read_event(&self) -> TokenStream {
        let private = &self.private;
        let events = &self.behavior.events;
        let is_derived = self.enumerated_events().derives_serde();
        let present = events.iter().enumerate().map(|(index, event)| {
            let name = &event.form.wire_name;
            let version = Literal::u32_suffixed(event.version);
            let read = self.unpacked(&quote!(Self), is_derived, index, name);
            quote!((#name, #version) => #read?,)
        });
        let mut arguments = self.behavior.upcasts.iter().flat_map(|it| &it.arguments);
        let is_derived = arguments.any(Argument::needs_derives);
        let old = self
            .behavior
            .upcasts
            .iter()
            .enumerate()
            .map(|(index, upcast)| {
                let (name, from) = (self.name_of(upcast), Literal::u32_suffixed(upcast.from));
                let params = &self.params;
                let read = self.unpacked(
                    &quote!(__Old #params),
                    is_derived,
                    index,
                    &format!("V{index}"),
                );
                quote!((#name, #from) => return ::core::result::Result::Ok(#read?.upcast()),)
            });
        let known = events.iter().map(|event| {
            let (name, version) = (&event.form.wire_name, Literal::u32_suffixed(event.version));
            quote!((#name, #version))
        });
        quote! {
            let __event: Self = match (__name, __version) {
                #(#present)*
                #(#old)*
                _ => return #private::unknown_event(__name, __version, &[#(#known),*]),
            };
            ::core::result::Result::Ok(#private::Becomes::<Self>::events(__event))
        }
    }

    fn unpacked(
        &self,
        of: &TokenStream,
        is_derived: bool,
        index: usize,
        name: &str,
    ) -> TokenStream {
        let private = &self.private;
        if is_derived {
            return quote!(#private::unpack_event::<#of>(#name, __bytes));
        }
        let index = Literal::usize_unsuffixed(index);
        quote!(#private::unpack_fields::<#of>(#index, __bytes))
    }

    /// The stored name of the event that an upcaster reads.
    fn name_of(&self, upcast: &Upcast) -> String {
        match &upcast.of {
            Upcasts::Removed(name, _) => name.clone(),
            Upcasts::Present(function) => {
                let mut events = self.behavior.events.iter();
                let event = events.find(|event| event.form.ident.unraw() == function.unraw());
                event.map_or_else(
                    || function.unraw().to_string(),
                    |event| event.form.wire_name.clone(),
                )
            }
        }
    }

    /// The events of older versions, each as a variant of an enum that is only read.
    fn with_old_events<R>(&self, then: impl FnOnce(&Enumerated<'_>) -> R) -> R {
        let upcasts = self.behavior.upcasts.iter().enumerate();
        let variants: Vec<_> = upcasts
            .map(|(index, upcast)| {
                let variant = format_ident!("V{index}", span = Span::call_site());
                let name = variant.to_string();
                Message {
                    arguments: upcast.arguments.clone(),
                    ..Message::bare(upcast.ident.clone(), variant, name)
                }
            })
            .collect();
        let ident = Ident::new("__Old", Span::call_site());
        then(&Enumerated {
            ident: &ident,
            variants: variants.iter().collect(),
            travels: Travels::Store,
        })
    }

    /// `enum __Old`, how it is read, and what becomes of each.
    fn old_events(&self) -> TokenStream {
        if self.behavior.upcasts.is_empty() {
            return quote!();
        }
        let Self {
            event,
            private,
            params,
            ..
        } = self;
        let declared = self.with_old_events(|old| {
            let declared = self.enum_of(old, quote!(), |_| quote!());
            let form = if old.derives_serde() {
                quote!()
            } else {
                self.form_of(old)
            };
            quote!(#declared #form)
        });
        let upcasts = self.behavior.upcasts.iter().enumerate();
        let arms = upcasts.map(|(index, upcast)| {
            let variant = format_ident!("V{index}", span = Span::call_site());
            let locals: Vec<_> = (0..upcast.arguments.len()).map(names::argument).collect();
            let fields = upcast.arguments.iter().map(|argument| &argument.ident);
            let function = &upcast.ident;
            let of = upcast.of_type.as_ref().map(|ty| quote!(<#ty>::));
            let span = names::at(function.span());
            let made = names::all_at(
                span,
                quote!(#private::Becomes::<#event #params>::events(#of #function(#(#locals),*))),
            );
            quote!(Self::#variant { #(#fields: #locals),* } => #made,)
        });
        let phantom = self.phantom_arm(quote!(Self));
        let upcast = self.implement(
            quote!(__Old #params),
            quote! {
                fn upcast(self) -> #private::Vec<#event #params> {
                    match self { #(#arms)* #phantom }
                }
            },
        );
        quote!(#declared #upcast)
    }

    /// Applies an event to the only state.
    fn applied(&self) -> TokenStream {
        let handlers = self.behavior.initial().map(|state| &state.events);
        let arms = handlers.into_iter().flatten().map(|handler| {
            let call = self.apply_call(&quote!(Self), &quote!(self), handler);
            arm(&self.event, &handler.event.form, &call)
        });
        let event = &self.event;
        let phantom = self.phantom_arm(quote!(#event));
        quote! {
            match __event { #(#arms)* #phantom }
            ::core::result::Result::Ok(false)
        }
    }

    /// Applies an event to the present state.
    fn applied_in_states(&self) -> TokenStream {
        let (private, event) = (&self.private, &self.event);
        let state_enum = self.state_enum();
        let states = self.sound_states();
        if states.is_empty() {
            return quote!(#private::not_compiled());
        }
        let arms = states.iter().map(|state| {
            let ident = &state.ident;
            let handlers = state.events.iter();
            let arms = handlers.map(|handler| {
                let then = self.applied_in(state, handler);
                arm(event, &handler.event.form, &then)
            });
            let phantom = self.phantom_arm(quote!(#event));
            let rest = self.events_that_are_not_of(state);
            quote! {
                #state_enum::#ident(ref mut __state) => match __event {
                    #(#arms)*
                    #phantom
                    #rest
                },
            }
        });
        quote! {
            match self.0 {
                #(#arms)*
                #state_enum::__Taken => #private::no_event_here("none", "any"),
            }
        }
    }

    fn applied_in(&self, state: &State, handler: &EventHandler) -> TokenStream {
        let private = &self.private;
        if !handler.is_sound {
            return quote!(#private::not_compiled());
        }
        let state_enum = self.state_enum();
        let ident = &state.ident;
        let call = self.apply_call(&quote!(#ident), &quote!(__state), handler);
        let Some(next) = &handler.next else {
            return quote!({ #call; ::core::result::Result::Ok(false) });
        };
        let put = |target: &Target| match target {
            Target::State(ident) => quote!(self.0 = #state_enum::#ident(__next);),
            Target::Stop => quote!(#private::not_compiled::<()>();),
        };
        let put = self.with_next(next, put);
        let (state, event) = (ident.unraw().to_string(), &handler.event.form.wire_name);
        quote! {
            {
                let #state_enum::#ident(__state) = self.0.take() else {
                    return #private::no_event_here(#state, #event);
                };
                let __next = #call;
                #put
                ::core::result::Result::Ok(true)
            }
        }
    }

    /// The arm for events that the state has no function for.
    fn events_that_are_not_of(&self, state: &State) -> Option<TokenStream> {
        let (private, event) = (&self.private, &self.event);
        let missing: Vec<_> = self
            .behavior
            .events
            .iter()
            .filter(|event| {
                let mut handlers = state.events.iter();
                !handlers.any(|handler| handler.event.form.variant == event.form.variant)
            })
            .collect();
        if missing.is_empty() {
            return None;
        }
        let name = state.ident.unraw().to_string();
        let arms = missing.iter().map(|Event { form, .. }| {
            let (variant, event_name) = (&form.variant, &form.wire_name);
            quote!(#event::#variant { .. } => #event_name,)
        });
        Some(quote! {
            __event => #private::no_event_here(#name, match __event {
                #(#arms)*
                _ => "",
            }),
        })
    }

    /// Carries out the effect that a command returns.
    pub(super) fn carried_out(
        &self,
        of: &TokenStream,
        handler: &Handler,
        call: &TokenStream,
        effect: Effect,
    ) -> TokenStream {
        let private = &self.private;
        let variant = &handler.message.variant;
        let carried = match self.leaves_by_event(of, handler) {
            None => quote!(let __reply = #private::carry_out(self, __ctx, __effect);),
            Some(then) => quote! {
                let (__reply, __left) = #private::carry_out_and_leave(self, __ctx, __effect);
                if __left { #then }
            },
        };
        let answered = if effect == Effect::Later {
            quote!(#private::Handled::later(__reply, __Reply::#variant))
        } else if effect == Effect::Fallible || handler.wraps() {
            let reply = quote!(::core::result::Result::Ok(__reply));
            quote!(#private::Handled::Reply(__Reply::#variant(#reply)))
        } else {
            quote!(#private::Handled::Reply(__Reply::#variant(__reply)))
        };
        if effect != Effect::Fallible {
            return quote!({ let __effect = #call; #carried #answered });
        }
        quote! {
            {
                let __decided = #call;
                match __decided {
                    ::core::result::Result::Ok(__effect) => { #carried #answered }
                    ::core::result::Result::Err(__error) => {
                        #private::Handled::Reply(__Reply::#variant(::core::result::Result::Err(__error)))
                    }
                }
            }
        }
    }

    /// What follows if events have led from the state `of` to another. `None`: none of them can.
    fn leaves_by_event(&self, of: &TokenStream, handler: &Handler) -> Option<TokenStream> {
        let private = &self.private;
        let name = of.to_string();
        let mut states = self.behavior.states.iter();
        let state = states.find(|state| state.ident == name)?;
        state.events.iter().find(|event| event.next.is_some())?;
        let left = self.left(state);
        let begins = self.begins();
        let (from, message) = (state.ident.unraw().to_string(), &handler.message.wire_name);
        Some(quote!(#left #private::transition(__ctx, #from, #message); #begins))
    }

    /// The call of an event function.
    fn apply_call(
        &self,
        of: &TokenStream,
        state: &TokenStream,
        handler: &EventHandler,
    ) -> TokenStream {
        if !handler.is_sound {
            let private = &self.private;
            return quote!(#private::not_compiled());
        }
        let arguments = arguments(state, &handler.parameters);
        let function = &handler.event.form.ident;
        self.call(of, function, false, &arguments)
    }
}
