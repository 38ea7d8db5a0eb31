//! `Serialize` and `Deserialize` for the message enum, by means of casty's `message/form.rs`.
//!
//! Serde's derives generate two visitors for each message, and these visitors take longer to
//! compile than anything else that is generated for a type. So the enum uses the derives only if an
//! argument has an attribute of serde's other than `default`.

use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;
use syn::Type;

use super::{
    expand::Expansion,
    model::{Argument, Message},
};
use crate::{
    names, text,
    types::{self, Travels},
};

/// What `#[serde(..)]` says of an argument.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Serde {
    Nothing,
    /// `#[serde(default)]`.
    Default,
    /// Anything else: for serde's derives to read.
    More,
}

impl Argument {
    fn serde(&self) -> Serde {
        let written: Vec<_> = self
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("serde"))
            .collect();
        match written[..] {
            [] => Serde::Nothing,
            [attribute] => match attribute.meta.require_list() {
                Ok(list) if list.tokens.to_string() == "default" => Serde::Default,
                _ => Serde::More,
            },
            _ => Serde::More,
        }
    }
}

impl Argument {
    /// Whether only serde's derives can write it.
    pub(super) fn needs_derives(&self) -> bool {
        self.serde() == Serde::More
    }

    /// Whether functions of the user's write or read it, as `#[serde(with = "..")]` says. Its type
    /// then need not have a wire form.
    pub(super) fn has_own_form(&self) -> bool {
        let mut has = false;
        for attribute in &self.attrs {
            if attribute.path().is_ident("serde") {
                // Serde's derive reports what it cannot read.
                let _ = attribute.parse_nested_meta(|meta| {
                    has |= ["with", "serialize_with", "deserialize_with"]
                        .iter()
                        .any(|name| meta.path.is_ident(name));
                    if meta.input.peek(syn::Token![=]) {
                        meta.value()?.parse::<syn::Expr>()?;
                    } else if meta.input.peek(syn::token::Paren) {
                        meta.input.parse::<proc_macro2::Group>()?;
                    }
                    Ok(())
                });
            }
        }
        has
    }
}

/// An enum that is written as names and fields: of messages, of events, or of events of older
/// versions.
pub(super) struct Enumerated<'a> {
    pub(super) ident: &'a Ident,
    /// Those that are internal have no form.
    pub(super) variants: Vec<&'a Message>,
    /// Where its values go.
    pub(super) travels: Travels,
}

impl Enumerated<'_> {
    /// Whether serde's derives write the enum's form.
    pub(super) fn derives_serde(&self) -> bool {
        let mut arguments = self.public().flat_map(|sent| &sent.arguments);
        arguments.any(Argument::needs_derives)
    }

    pub(super) fn public(&self) -> impl Iterator<Item = &Message> {
        let variants = self.variants.iter().copied();
        variants.filter(|message| !message.internal)
    }

    /// What stands for the type of a field.
    fn field(&self, private: &TokenStream, ty: &Type) -> TokenStream {
        match self.travels {
            Travels::Wire | Travels::Memory => quote!(#private::wire::<#ty>()),
            Travels::Store => quote!(#private::in_event::<#ty>()),
        }
    }
}

impl Expansion<'_> {
    /// The enum of messages.
    pub(super) fn messages(&self) -> Enumerated<'_> {
        Enumerated {
            ident: &self.message,
            variants: self.behavior.messages.iter().collect(),
            travels: Travels::Wire,
        }
    }

    /// The derives, for the enum.
    pub(super) fn serde_derives(&self) -> TokenStream {
        let casty = &self.visible;
        let serde = text::of(quote!(#casty::serde));
        let bound = self.is_generic().then(|| quote!(#[serde(bound = "")]));
        quote! {
            #[derive(#casty::serde::Serialize, #casty::serde::Deserialize)]
            #[serde(crate = #serde)]
            #bound
        }
    }

    /// `Serialize` and `Deserialize` for the enum, and what they call.
    pub(super) fn serde_of(&self, of: &Enumerated<'_>) -> TokenStream {
        if of.derives_serde() {
            return quote!();
        }
        let Self {
            private, params, ..
        } = self;
        let (message, form, generics) = (of.ident, self.form_of(of), self.of_generics());
        quote! {
            #form
            #private::serde_by_form! { #message #params #generics }
        }
    }

    /// `impl MessageForm for CounterMsg`: the names, and how each message is read.
    pub(super) fn form_of(&self, of: &Enumerated<'_>) -> TokenStream {
        let Self {
            private, params, ..
        } = self;
        let message = of.ident;
        let name = message.to_string();
        let wire_names = of.public().map(|sent| &sent.wire_name);
        let fields = of.public().map(|sent| {
            let names = sent.arguments.iter().map(Argument::name);
            quote!(&[#(#names),*])
        });
        let packed = of.public().map(|sent| {
            let head = match of.travels {
                // The name stands beside the fields.
                Travels::Store => packed::count(sent.arguments.len()),
                _ => packed::head(&sent.wire_name, sent.arguments.len()),
            };
            let fields = sent
                .arguments
                .iter()
                .map(|argument| packed::name(&argument.name()));
            quote!(&[#head #(, #fields)*])
        });
        let read = of.public().enumerate().map(|(index, sent)| {
            let read = self.read(of, sent);
            let index = Literal::usize_unsuffixed(index);
            quote!(#index => #read,)
        });
        let written = self.written(of);
        self.implement(
            quote!(#private::MessageForm for #message #params),
            quote! {
                const FORM: #private::Form = #private::Form {
                    name: #name,
                    messages: &[#(#wire_names),*],
                    fields: &[#(#fields),*],
                    packed: &[#(#packed),*],
                };

                fn read<__R: #private::MessageReader>(
                    __index: ::core::primitive::usize,
                    __reader: __R,
                ) -> ::core::result::Result<Self, __R::Error> {
                    ::core::result::Result::Ok(match __index {
                        #(#read)*
                        _ => return __reader.no_message(),
                    })
                }

                fn write<__W: #private::MessageWriter>(
                    &self,
                    __writer: __W,
                ) -> ::core::result::Result<__W::Ok, __W::Error> {
                    #written
                }
            },
        )
    }

    /// Reads the fields of one message. An argument that cannot travel is an error at its type.
    fn read(&self, of: &Enumerated<'_>, sent: &Message) -> TokenStream {
        let private = &self.private;
        let variant = &sent.variant;
        if sent.arguments.is_empty() {
            return quote!(Self::#variant {});
        }
        let (mut slots, mut values) = (quote!(()), quote!(()));
        for (index, argument) in sent.arguments.iter().enumerate().rev() {
            let (ty, local) = (&argument.ty, names::argument(index));
            let field = of.field(private, ty);
            let field = match argument.serde() {
                Serde::Default => quote!(#private::or_default(#field)),
                Serde::Nothing | Serde::More => field,
            };
            // All at one place, so that a type that cannot travel is reported there, once.
            let span = names::at(types::place(ty));
            let slot = names::all_at(span, quote!(#private::slot::<__R, _>(#field)));
            slots = quote!((#slot, #slots));
            values = quote!((#local, #values));
        }
        let fields = sent.arguments.iter().enumerate().map(|(index, argument)| {
            let (field, local) = (&argument.ident, names::argument(index));
            quote!(#field: #local)
        });
        quote! {
            match __reader.fields(#slots) {
                ::core::result::Result::Ok(#values) => Self::#variant { #(#fields),* },
                ::core::result::Result::Err(__error) => return ::core::result::Result::Err(__error),
            }
        }
    }

    /// Writes the message that `self` is.
    fn written(&self, of: &Enumerated<'_>) -> TokenStream {
        let private = &self.private;
        let mut index = 0_usize..;
        let arms = of.variants.iter().map(|sent| {
            let variant = &sent.variant;
            if sent.internal {
                return quote!(Self::#variant { .. } => __writer.internal(),);
            }
            let index = Literal::usize_unsuffixed(index.next().unwrap_or_default());
            let locals: Vec<_> = (0..sent.arguments.len()).map(names::argument).collect();
            let fields = sent.arguments.iter().map(|argument| &argument.ident);
            let values = sent.arguments.iter().zip(&locals).map(|(argument, local)| {
                let ty = &argument.ty;
                let field = of.field(private, ty);
                names::all_at(
                    names::at(types::place(ty)),
                    quote!(#private::Field::put(#field, #local)),
                )
            });
            quote! {
                Self::#variant { #(#fields: ref #locals),* } => {
                    __writer.message::<Self>(#index, &[#(#values),*])
                }
            }
        });
        let phantom = self.phantom_arm(quote!(Self));
        quote!(match *self { #(#arms)* #phantom })
    }
}

/// Names as bytes of MessagePack, so that no program has to write their lengths when it runs.
mod packed {
    use proc_macro2::Literal;

    /// A map with one entry, its name, and the count of fields that follow.
    pub(super) fn head(message: &str, fields: usize) -> Literal {
        let mut bytes = vec![0x81];
        string(message, &mut bytes);
        map(fields, &mut bytes);
        Literal::byte_string(&bytes)
    }

    /// The count of fields that follow.
    pub(super) fn count(fields: usize) -> Literal {
        let mut bytes = Vec::new();
        map(fields, &mut bytes);
        Literal::byte_string(&bytes)
    }

    fn map(fields: usize, bytes: &mut Vec<u8>) {
        if let Ok(few @ 0..=15) = u8::try_from(fields) {
            bytes.push(0x80 | few);
        } else {
            // No function has more arguments than two bytes count.
            bytes.push(0xde);
            let count = u16::try_from(fields).unwrap_or(u16::MAX);
            bytes.extend(count.to_be_bytes());
        }
    }

    /// The name of a field.
    pub(super) fn name(field: &str) -> Literal {
        let mut bytes = Vec::new();
        string(field, &mut bytes);
        Literal::byte_string(&bytes)
    }

    fn string(text: &str, out: &mut Vec<u8>) {
        match (u8::try_from(text.len()), u16::try_from(text.len())) {
            (Ok(short @ 0..=31), _) => out.push(0xa0 | short),
            (Ok(byte), _) => out.extend([0xd9, byte]),
            (_, Ok(word)) => {
                out.push(0xda);
                out.extend(word.to_be_bytes());
            }
            _ => {
                out.push(0xdb);
                let long = u32::try_from(text.len()).unwrap_or(u32::MAX);
                out.extend(long.to_be_bytes());
            }
        }
        out.extend(text.as_bytes());
    }
}
