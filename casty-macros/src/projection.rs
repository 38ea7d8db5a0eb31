//! `#[projection(of = Account)] impl Balances`: a type that handles the events of an entity type.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, FnArg, ImplItem, ImplItemFn, Item, ItemImpl, Pat, Path, ReceiverKind, ReturnType,
    Type, TypeReference, ext::IdentExt, spanned::Spanned,
};

use crate::{
    errors::{self, Errors},
    names,
    options::{Grammar, Known, Options},
    types,
};

static PROJECTION: Grammar = Grammar {
    attribute: "#[projection]",
    known: &[
        Known::new("of", "of = Account"),
        Known::new("name", "name = \"balances\""),
        Known::new("version", "version = 2"),
        Known::new("poisoned", "poisoned = \"park\""),
        Known::new("ignore_others", "ignore_others"),
        Known::new("crate", "crate = path::to::casty"),
    ],
    refused: &[(
        "shards",
        "a projection runs where the shards of its entity type are: `shards` is an option of `#[entity]`",
    )],
};

/// The attributes that have a meaning inside the block.
const HELPERS: [&str; 3] = ["on", "on_erased", "store"];

/// Attributes of `#[entity]`, and what is meant here.
const OF_ENTITIES: [&str; 3] = ["message", "event", "upcast"];

/// What a parameter of a handler gets.
enum Gets {
    /// A field of the event.
    Field(Ident, Span),
    /// The entity's id.
    Id(Span),
    Occurrence(Span),
    Transaction(Span),
}

/// An `#[on]` function, or `#[on_erased]`.
struct Handler {
    ident: Ident,
    gets: Vec<Gets>,
    is_async: bool,
    output: Span,
}

/// The `#[store]` function.
struct Store {
    ident: Ident,
    ty: Type,
}

struct Model {
    casty: Path,
    of: Type,
    name: String,
    version: u32,
    parks: bool,
    ignores_others: bool,
    store: Store,
    handlers: Vec<Handler>,
    erased: Option<Handler>,
}

pub(crate) fn derive(options: TokenStream, item: TokenStream) -> TokenStream {
    errors::collect(|errors| {
        let options = Options::parse(&PROJECTION, options, errors);
        let mut block = match syn::parse2::<Item>(item.clone()) {
            Ok(Item::Impl(block)) if block.trait_.is_none() => block,
            Ok(_) => {
                errors.at_span(
                    Span::call_site(),
                    "`#[projection]` stands above an `impl` block of the projection's own: \
                     write `#[projection(of = Account)] impl Balances { .. }`",
                );
                return item;
            }
            Err(error) => {
                errors.syntax(error);
                return item;
            }
        };
        let before = errors.count();
        let model = parse(&options, &mut block, errors);
        let expanded = model
            .filter(|_| errors.count() == before)
            .map(|model| expand(&model, &block));
        quote!(#block #expanded)
    })
    .into_tokens()
}

/// Takes the helpers off a function.
fn take_helpers(function: &mut ImplItemFn) -> Vec<(&'static str, Attribute)> {
    let mut helpers = Vec::new();
    function.attrs.retain(|attribute| {
        let mut known = HELPERS.into_iter();
        match known.find(|name| attribute.path().is_ident(name)) {
            Some(name) => {
                helpers.push((name, attribute.clone()));
                false
            }
            None => true,
        }
    });
    helpers
}

fn parse(options: &Options, block: &mut ItemImpl, errors: &mut Errors) -> Option<Model> {
    let casty = options.casty(errors);
    let of = options.ty("of", errors);
    if of.is_none() && options.span("of").is_none() {
        errors.at_span(
            Span::call_site(),
            "a projection is made of the events of one entity type: write `#[projection(of = Account)]`",
        );
    }
    if let Some(parameter) = block.generics.params.first() {
        errors.at(
            parameter,
            "a projection has one name and one view, so it cannot be generic: write the concrete types",
        );
    }
    let name = options.stored_name("name", errors);
    let version = options.number("version", 1..=i32::MAX.unsigned_abs(), errors);
    let parks = poisoned(options, errors);
    let ignores_others = options.flag("ignore_others", errors);
    let (mut store, mut handlers, mut erased) = (None, Vec::new(), None);
    for item in &mut block.items {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let helpers = take_helpers(function);
        refuse_entity_attributes(function, errors);
        let Some((helper, attribute)) = helpers.first() else {
            continue;
        };
        if let Some((_, second)) = helpers.get(1) {
            errors.at(
                second,
                "a function has one of `#[on]`, `#[on_erased]` and `#[store]`: drop this one",
            );
        }
        if attribute.meta.require_path_only().is_err() {
            errors.at(
                attribute,
                format!(
                    "`#[{helper}]` has no options: the event is the one that the function is named after"
                ),
            );
        }
        match *helper {
            "store" if store.is_some() => errors.at(
                &function.sig.ident,
                "a projection has one store, since its view and its offsets are written together: drop this one",
            ),
            "store" => store = Some(store_function(function, errors)),
            "on_erased" if erased.is_some() => errors.at(
                &function.sig.ident,
                "an erasure is handled by one function: drop this one",
            ),
            "on_erased" => erased = Some(handler(function, true, errors)),
            _ => handlers.push(handler(function, false, errors)),
        }
    }
    if store.is_none() {
        errors.at(
            &block.self_ty,
            "a projection says where its view and its offsets are: write \
             `#[store] fn views(&self) -> &SqliteViews { &self.views }` in its block",
        );
    }
    if handlers.is_empty() {
        errors.at(
            &block.self_ty,
            "a projection without `#[on]` functions handles no events: write one for each event, \
             such as `#[on] async fn withdrawn(&mut self, of: &EntityId, amount: u64, ..)`",
        );
    }
    let default = types::last_segment(&block.self_ty).map(|last| last.ident.unraw().to_string());
    Some(Model {
        casty,
        of: of?,
        name: name.or(default)?,
        version: version.unwrap_or(1),
        parks,
        ignores_others,
        store: store??,
        handlers: handlers.into_iter().flatten().collect(),
        erased: erased.flatten(),
    })
}

fn poisoned(options: &Options, errors: &mut Errors) -> bool {
    const WHAT: &str = "\"stop\" or \"park\"";
    let Some(literal) = options.string_of("poisoned", WHAT, errors) else {
        return false;
    };
    match &*literal.value() {
        "park" => true,
        "stop" => false,
        _ => {
            errors.at(
                literal,
                "`poisoned` says what becomes of an event that cannot be handled: with `\"stop\"` its \
                 shard tries it again and again, and with `\"park\"` the event is put aside after three tries",
            );
            false
        }
    }
}

/// `#[message]` and `#[event]` belong to entities.
fn refuse_entity_attributes(function: &mut ImplItemFn, errors: &mut Errors) {
    function.attrs.retain(|attribute| {
        let mut known = OF_ENTITIES.into_iter();
        let Some(name) = known.find(|name| attribute.path().is_ident(name)) else {
            return true;
        };
        errors.at(
            attribute,
            format!(
                "`#[{name}]` belongs to an entity; a projection handles events: write `#[on]` above a function \
                 that is named after the event"
            ),
        );
        false
    });
}

fn store_function(function: &ImplItemFn, errors: &mut Errors) -> Option<Store> {
    let sig = &function.sig;
    let what = "the store is looked up, and nothing more: write \
                `#[store] fn views(&self) -> &SqliteViews { &self.views }`";
    let borrows = sig.receiver().is_some_and(|it| {
        matches!(it.kind, ReceiverKind::Reference(..)) && it.mutability.is_none()
    });
    if sig.asyncness.is_some() || sig.inputs.len() != 1 || !borrows {
        errors.at(&sig.ident, what);
        return None;
    }
    match &sig.output {
        ReturnType::Type(_, ty) => {
            if let Type::Reference(TypeReference {
                elem,
                mutability: None,
                ..
            }) = &**ty
            {
                return Some(Store {
                    ident: sig.ident.clone(),
                    ty: (**elem).clone(),
                });
            }
            errors.at(ty, what);
        }
        ReturnType::Default => errors.at(&sig.ident, what),
    }
    None
}

fn handler(function: &mut ImplItemFn, is_erasure: bool, errors: &mut Errors) -> Option<Handler> {
    let before = errors.count();
    // The event says what it takes, and the projection how it is called.
    function.attrs.push(syn::parse_quote! {
        #[allow(clippy::unused_self, clippy::unused_async, clippy::needless_pass_by_value)]
    });
    let sig = &function.sig;
    if let Some(parameter) = sig.generics.params.first() {
        errors.at(
            parameter,
            "the arguments of an event have one type each, so its handler has no parameters in `<>`: \
             write the types, and `'_` for a lifetime",
        );
    }
    let borrows = sig
        .receiver()
        .is_some_and(|receiver| matches!(receiver.kind, ReceiverKind::Reference(..)));
    if !borrows {
        errors.at(
            &sig.ident,
            "a handler of events borrows the projection, which goes on after it: start with `&mut self`",
        );
    }
    let inputs: Vec<_> = sig
        .inputs
        .iter()
        .filter_map(|input| match input {
            FnArg::Typed(input) => Some(input),
            FnArg::Receiver(_) => None,
        })
        .collect();
    let mut gets = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let is_last = at + 1 == inputs.len();
        let Pat::Ident(pat) = &*input.pat else {
            errors.at(
                &input.pat,
                "an argument of a handler is named after that of the event: write its name here",
            );
            continue;
        };
        gets.extend(parameter(
            &pat.ident, &input.ty, is_last, is_erasure, errors,
        ));
    }
    let output = match &sig.output {
        ReturnType::Default => sig.ident.span(),
        ReturnType::Type(_, ty) => ty.span(),
    };
    (errors.count() == before).then(|| Handler {
        ident: sig.ident.clone(),
        gets,
        is_async: sig.asyncness.is_some(),
        output,
    })
}

fn parameter(
    ident: &Ident,
    ty: &Type,
    is_last: bool,
    is_erasure: bool,
    errors: &mut Errors,
) -> Option<Gets> {
    const BORROWED: &str = "what a handler borrows is `of: &EntityId`, `at: &Occurrence`, or last \
         `tx: &mut Transaction<'_>`; the arguments of an event are values: drop the `&`";
    if let Type::Reference(reference) = ty {
        if reference.mutability.is_some() {
            if !is_last {
                errors.at(
                    ty,
                    "the transaction is the last argument of a handler: move it to the end",
                );
                return None;
            }
            return Some(Gets::Transaction(types::place(ty)));
        }
        let last = types::last_segment(&reference.elem).map(|last| last.ident.to_string());
        return match last.as_deref() {
            Some("EntityId") => Some(Gets::Id(types::place(ty))),
            Some("Occurrence") => Some(Gets::Occurrence(types::place(ty))),
            _ => {
                errors.at(ty, BORROWED);
                None
            }
        };
    }
    let last = types::last_segment(ty).map(|last| last.ident.to_string());
    let is_id = last.as_deref() == Some("EntityId") && ident == "of";
    if is_id || last.as_deref() == Some("Occurrence") {
        errors.at(
            ty,
            format!(
                "a handler borrows this: write `{ident}: &{}`",
                last.unwrap_or_default()
            ),
        );
        return None;
    }
    if is_erasure {
        errors.at(
            ident,
            "an erasure has no arguments of its own: a handler of it takes `of: &EntityId`, \
             `at: &Occurrence` and the transaction",
        );
        return None;
    }
    let name = ident.unraw().to_string();
    // As in the entity: the underscore says only that the argument is not used.
    let used = name.strip_prefix('_').filter(|rest| !rest.is_empty());
    let field = match used {
        Some(used) => syn::parse_str::<Ident>(used).unwrap_or_else(|_| ident.clone()),
        None => ident.clone(),
    };
    let field = Ident::new(&field.to_string(), ident.span());
    Some(Gets::Field(field, types::place(ty)))
}

impl Handler {
    /// The call of the function, and what it came to.
    fn call(&self, private: &TokenStream) -> TokenStream {
        let Self { ident, output, .. } = self;
        let arguments = self.gets.iter().enumerate().map(|(at, gets)| match gets {
            Gets::Field(_, place) => {
                let argument = names::argument(at);
                names::all_at(names::at(*place), quote!(#argument))
            }
            Gets::Id(place) => names::all_at(names::at(*place), quote!(&__occurrence.of)),
            Gets::Occurrence(place) => names::all_at(names::at(*place), quote!(__occurrence)),
            Gets::Transaction(place) => names::all_at(names::at(*place), quote!(__transaction)),
        });
        let output = names::at(*output);
        let awaited = self.is_async.then(|| quote_spanned!(output=> .await));
        let outcome = names::all_at(output, quote!(#private::EventOutcome::outcome));
        let function = Ident::new(&ident.to_string(), output);
        let call = quote_spanned!(output=> Self::#function(self, #(#arguments),*) #awaited);
        quote_spanned!(output=> #outcome(#call))
    }

    /// The fields of the event, each with the name of a variable.
    fn fields(&self) -> TokenStream {
        let fields = self
            .gets
            .iter()
            .enumerate()
            .filter_map(|(at, gets)| match gets {
                Gets::Field(field, place) => {
                    let mut argument = names::argument(at);
                    argument.set_span(names::at(*place));
                    Some(quote!(#field: #argument,))
                }
                _ => None,
            });
        quote!(#(#fields)*)
    }
}

fn expand(model: &Model, block: &ItemImpl) -> TokenStream {
    let Model {
        casty,
        of,
        name,
        version,
        store,
        ..
    } = model;
    let private = quote!(#casty::__private);
    let me = &block.self_ty;
    let version = Literal::u32_suffixed(*version);
    let poisoned = if model.parks {
        quote!(Park)
    } else {
        quote!(Stop)
    };
    let (looks_up, views) = (&store.ident, &store.ty);
    let event = format_ident!("__Event");
    let arms = model.handlers.iter().map(|handler| {
        let variant = names::variant(&handler.ident);
        let (fields, call) = (handler.fields(), handler.call(&private));
        // With the user's own span: the compiler names a missing argument only to its own crate's
        // code.
        let event = Ident::new("__Event", handler.ident.span());
        let pattern = quote_spanned!(handler.ident.span()=> #event::#variant { #fields });
        quote!(#pattern => #call,)
    });
    let names = model.handlers.iter().map(|handler| {
        let number = names::number(&names::variant(&handler.ident));
        let place = names::at(handler.ident.span());
        let named = quote!(const _: () = #private::event_named::<__Event, #number>(););
        names::all_at(place, named)
    });
    let others = model.ignores_others.then(|| {
        quote! {
            #[allow(unreachable_patterns)]
            _ => ::core::result::Result::Ok(()),
        }
    });
    // An event without a handler is an error at the entity type.
    let place = names::at(of.span());
    let matched = quote_spanned!(place=> match __event { #(#arms)* #others });
    let erased = model.erased.as_ref().map(|handler| {
        let call = handler.call(&private);
        quote! {
            async fn erased(
                &mut self,
                __occurrence: &#casty::projection::Occurrence,
                __transaction: &mut #casty::projection::TransactionOf<Self>,
            ) -> ::core::result::Result<(), #casty::projection::HandlerError> {
                #call
            }
        }
    });
    let of = of.to_token_stream();
    let events = names::all_at(place, quote!(<#of as #private::EventSourced>::Event));
    quote! {
        #[allow(
            clippy::used_underscore_binding,
            clippy::unused_async,
            unused_variables,
            non_camel_case_types
        )]
        const _: () = {
            type #event = #events;

            #(#names)*

            #[automatically_derived]
            impl #casty::projection::Projection for #me {
                type Of = #of;
                type Store = #views;
                const NAME: &'static ::core::primitive::str = #name;
                const VERSION: ::core::primitive::u32 = #version;
                const POISONED: #casty::projection::Poisoned =
                    #casty::projection::Poisoned::#poisoned;

                fn store(&self) -> &Self::Store {
                    Self::#looks_up(self)
                }

                async fn handle(
                    &mut self,
                    __event: #event,
                    __occurrence: &#casty::projection::Occurrence,
                    __transaction: &mut #casty::projection::TransactionOf<Self>,
                ) -> ::core::result::Result<(), #casty::projection::HandlerError> {
                    #matched
                }

                #erased
            }
        };
    }
}
