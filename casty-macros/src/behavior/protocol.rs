//! The message enum, the reply enum, and what is required of their fields.

use proc_macro2::{Literal, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Type, spanned::Spanned};

use super::{
    docs,
    expand::{self, Expansion},
    model::{Message, Reply},
    wire_form::Enumerated,
};
use crate::{names, types};

impl Expansion<'_> {
    /// `enum CounterMsg`, with its wire form.
    pub(super) fn message_enum(&self) -> TokenStream {
        let behavior = self.behavior;
        self.enum_of(&self.messages(), docs::of_enum(behavior), |message| {
            docs::of_variant(behavior, message)
        })
    }

    /// An enum of messages or events.
    pub(super) fn enum_of(
        &self,
        of: &Enumerated<'_>,
        docs: TokenStream,
        docs_of: impl Fn(&Message) -> TokenStream,
    ) -> TokenStream {
        let ident = of.ident;
        let (_, _, clause) = self.generics().split_for_impl();
        let generics = self.generics();
        let derives = of.derives_serde().then(|| self.serde_derives());
        let variants = of
            .variants
            .iter()
            .map(|message| variant(of, message, docs_of(message)));
        let skip = derives.is_some().then(|| quote!(#[serde(skip)]));
        let phantom = self.phantom_variant(quote!(#skip));
        let lints = expand::visible_lints();
        quote! {
            #docs
            #derives
            #lints
            pub enum #ident #generics #clause {
                #(#variants)*
                #phantom
            }
        }
    }

    /// `Message` and `Debug` of `CounterMsg`: the wire names.
    pub(super) fn message_impl(&self) -> TokenStream {
        let Self {
            message,
            private,
            params,
            ..
        } = self;
        let messages = self.behavior.messages.iter().enumerate();
        let messages = messages.map(|(index, sent)| {
            let (name, variant) = (&sent.wire_name, &sent.variant);
            let index = Literal::usize_unsuffixed(index);
            quote!(#index = #name #variant)
        });
        // Where serde's derives write the form, they also read it.
        let packed = (!self.messages().derives_serde()).then(|| quote!([packed]));
        // Only timers that move, reminders and recordings need messages that cannot be written.
        let bare = |sent: &&Message| sent.internal && sent.arguments.is_empty();
        let bare: Vec<_> = self.behavior.messages.iter().filter(bare).collect();
        let settings = &self.behavior.settings;
        let is_kept = settings.is_frozen();
        let named = (is_kept && !bare.is_empty()).then(|| {
            let named = bare.iter().map(|sent| {
                let (variant, name) = (&sent.variant, &sent.wire_name);
                quote!(#name => #variant)
            });
            quote!({ #(#named),* })
        });
        let generics = self.of_generics();
        quote! {
            #private::message! { #message #params { #(#messages),* } #packed #named #generics }
        }
    }

    /// `__Reply`, the answers, as the handlers return them, and how each travels.
    pub(super) fn replies(&self) -> TokenStream {
        let Self {
            private, params, ..
        } = self;
        let replies = self.behavior.messages.iter().map(|message| {
            let (variant, ty) = (&message.variant, message.reply.whole());
            let codec = match &message.reply {
                Reply::Fallible { whole, parts: None } => {
                    let codec = self.reply_codec(message);
                    names::all_at(names::at(whole.span()), quote!(#codec.of_alias::<#whole>()))
                }
                _ => self.reply_codec(message),
            };
            quote!(#variant(#ty) => #codec)
        });
        let generics = self.of_generics();
        quote! {
            #private::replies! { __Reply #params { #(#replies),* } #generics }
        }
    }

    /// How a reply travels. One that cannot is an error here: the same error, at one place,
    /// wherever this is written.
    pub(super) fn reply_codec(&self, message: &Message) -> TokenStream {
        let private = &self.private;
        let span = names::at(message.reply.span().unwrap_or_else(|| message.ident.span()));
        let placed: Vec<_> = message.reply.types().into_iter().map(placed).collect();
        match (message.reply.parts(private), &placed[..]) {
            (Some(_), [ok, error]) => {
                quote_spanned!(span=> #private::fallible_reply::<#ok, #error>())
            }
            (Some((ok, error)), _) => {
                quote_spanned!(span=> #private::fallible_reply::<#ok, #error>())
            }
            (None, [whole]) => quote_spanned!(span=> #private::reply::<#whole>()),
            (None, _) => quote_spanned!(span=> #private::reply::<()>()),
        }
    }

    /// Requires that the states can move between threads and that the arguments can travel. The
    /// error points at the user's type: at the `Price` of a `Vec<Price>`. It is the same as where
    /// the message is read and written, so it is reported once.
    pub(super) fn assertions(&self) -> TokenStream {
        let private = &self.private;
        let mut assertions = TokenStream::new();
        for state in self.sound_states() {
            let (span, ty) = (names::at(state.ident.span()), &state.ty);
            assertions.extend(quote_spanned!(span=> #private::in_memory::<#ty>();));
        }
        let mut assert = |function: TokenStream, ty: &Type| {
            let span = names::at(types::place(ty));
            let called = names::all_at(span, quote!(#private::#function::<#ty>()));
            assertions.extend(quote!(let _ = #called;));
        };
        for event in &self.behavior.events {
            for argument in &event.form.arguments {
                if argument.has_own_form() {
                    assert(quote!(in_memory), &argument.ty);
                } else {
                    assert(quote!(in_event), &argument.ty);
                }
            }
        }
        for message in &self.behavior.messages {
            for argument in &message.arguments {
                if message.internal || argument.has_own_form() {
                    assert(quote!(in_memory), &argument.ty);
                } else {
                    assert(quote!(wire), &argument.ty);
                }
            }
            // A reply is required to travel where it is read.
        }
        let (params, _, clause) = self.generics().split_for_impl();
        quote!(fn __types_can_travel #params () #clause { #assertions })
    }
}

fn variant(of: &Enumerated<'_>, message: &Message, docs: TokenStream) -> TokenStream {
    let Message {
        variant,
        wire_name,
        internal,
        ..
    } = message;
    let derives = of.derives_serde();
    let fields = message.arguments.iter().map(|argument| {
        let (ident, ty) = (&argument.ident, &argument.ty);
        let attrs = argument.attrs.iter().filter(|attribute| {
            let is_serde = attribute.path().is_ident("serde");
            !is_serde || (derives && !internal)
        });
        // The variant stays off the wire as a whole; but serde would take a `&'static str` in
        // it for borrowed.
        let skip = (derives && *internal).then(|| quote!(#[serde(skip)]));
        quote!(#(#attrs)* #skip #ident: #ty)
    });
    let hidden = internal.then(|| quote!(#[doc(hidden)]));
    let wire = match (derives, internal) {
        (false, _) => quote!(),
        (true, true) => quote!(#[serde(skip)]),
        (true, false) => quote!(#[serde(rename = #wire_name)]),
    };
    quote! {
        #docs
        #wire
        #hidden
        #variant { #(#fields,)* },
    }
}

/// The type, at the place where it is reported if it cannot travel.
fn placed(ty: &Type) -> TokenStream {
    names::all_at(names::at(types::place(ty)), quote!(#ty))
}

impl Reply {
    /// The type that the handler returns.
    pub(super) fn whole(&self) -> TokenStream {
        match self {
            Self::Unit => quote!(()),
            Self::Value(ty) | Self::Fallible { whole: ty, .. } => quote!(#ty),
        }
    }

    /// The types that have to travel.
    fn types(&self) -> Vec<&Type> {
        match self {
            Self::Unit => Vec::new(),
            Self::Fallible {
                parts: Some(parts), ..
            } => vec![&parts.0, &parts.1],
            Self::Value(ty) | Self::Fallible { whole: ty, .. } => vec![ty],
        }
    }

    fn span(&self) -> Option<Span> {
        self.types().first().map(Spanned::span)
    }

    /// The two arguments of the `Result`: what an asker gets, and its error.
    pub(super) fn parts(&self, private: &TokenStream) -> Option<(TokenStream, TokenStream)> {
        match self {
            Self::Unit | Self::Value(_) => None,
            Self::Fallible {
                parts: Some(parts), ..
            } => {
                let (ok, error) = &**parts;
                Some((quote!(#ok), quote!(#error)))
            }
            Self::Fallible { whole, parts: None } => Some((
                names::all_at(
                    names::at(whole.span()),
                    quote!(<#whole as #private::Fallible>::Ok),
                ),
                names::all_at(
                    names::at(whole.span()),
                    quote!(<#whole as #private::Fallible>::Err),
                ),
            )),
        }
    }
}
