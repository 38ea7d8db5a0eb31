//! Finds the states among the types of a module.

use proc_macro2::{Ident, Span};
use syn::{Attribute, GenericParam, Generics, Item, Type};

use crate::{
    behavior::{
        model::{Common, State},
        settings::Settings,
    },
    errors::Errors,
    fallback,
    options::{Grammar, Known, Options},
};

static STATE: Grammar = Grammar {
    attribute: "#[state]",
    known: &[
        Known::new("initial", "initial"),
        Known::new("common", "common"),
        Known::new("survives", "common, survives"),
    ],
    refused: &[],
};

pub(super) struct Found {
    /// The initial one first.
    pub(super) states: Vec<State>,
    /// The data that all states have in common.
    pub(super) common: Option<Common>,
    pub(super) is_sound: bool,
}

pub(super) fn parse(
    module: &Ident,
    settings: &Settings,
    items: &mut [Item],
    errors: &mut Errors,
) -> Found {
    let generic = settings.generic.as_ref().map(|(generics, _)| generics);
    let mut found = Found {
        states: Vec::new(),
        common: None,
        is_sound: true,
    };
    let mut initial: Vec<Ident> = Vec::new();
    for item in items {
        let Some((attributes, declared)) = declared(item) else {
            continue;
        };
        let written = fallback::take_named("state", attributes);
        let Some(attribute) = written.first() else {
            continue;
        };
        let conditions: Vec<_> = attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .cloned()
            .collect();
        let options = Options::of(&STATE, attribute, errors);
        let is_initial = options.flag("initial", errors);
        let is_common = options.flag("common", errors);
        let survives = options.flag("survives", errors);
        if survives && !is_common {
            errors.at_span(
                options.span("survives").unwrap_or_else(Span::call_site),
                "a state ends with the activation that fails, since a handler may have taken it: \
                 only data that is `common` to all states can survive",
            );
        }
        if let (Some(span), true) = (options.span("survives"), settings.stored.is_some()) {
            errors.at_span(
                span,
                "what is stored is read from the store after a failure, the common data with it: leave `survives` out",
            );
        }
        if let Some(second) = written.get(1) {
            errors.at(
                second,
                "`#[state]` is written twice above one type: keep one of them",
            );
        }
        let Some((ident, generics)) = declared else {
            errors.at(
                attribute,
                "a state is a struct or an enum: write `#[state]` above one of these",
            );
            continue;
        };
        in_every_build(conditions, errors);
        found.is_sound &= is_sound(module, &ident, &generics, generic, errors);
        let (_, params, _) = generics.split_for_impl();
        let ty: Type = syn::parse_quote!(#ident #params);
        if is_common {
            common(&mut found, (ident, ty), (is_initial, survives), errors);
            continue;
        }
        let at = if is_initial && initial.is_empty() {
            0
        } else {
            found.states.len()
        };
        let state = State::new(ident.clone(), ty);
        found.states.insert(at, state);
        if is_initial {
            initial.push(ident);
        }
    }
    one_initial(module, &initial, &mut found, errors);
    found.is_sound &= !found.states.is_empty();
    found
}

/// Data of which there is one, whichever state the machine is in.
fn common(
    found: &mut Found,
    (ident, ty): (Ident, Type),
    (is_initial, survives): (bool, bool),
    errors: &mut Errors,
) {
    if is_initial {
        errors.at(
            &ident,
            format!("`{ident}` is there in every state, and so is none itself: drop `initial` or `common`"),
        );
    }
    if let Some(first) = &found.common {
        errors.at(
            &ident,
            format!(
                "`{}` is the common data already, and there is one: move these fields there",
                first.ident
            ),
        );
        return;
    }
    found.common = Some(Common {
        ident,
        ty,
        survives,
    });
}

fn in_every_build(conditions: Vec<Attribute>, errors: &mut Errors) {
    for condition in conditions {
        errors.at(
            condition,
            "a state machine has the same states in every build: drop `#[cfg]` from the state, \
             or put it on the whole module",
        );
    }
}

/// Whether items can be generated that name this state.
fn is_sound(
    module: &Ident,
    state: &Ident,
    generics: &Generics,
    generic: Option<&Generics>,
    errors: &mut Errors,
) -> bool {
    let before = errors.count();
    for parameter in &generics.params {
        let name = name_of(parameter);
        let mut known = generic.into_iter().flat_map(|generic| &generic.params);
        if known.any(|known| name_of(known) == name) {
            continue;
        }
        errors.at(
            parameter,
            format!(
                "`{module}` is made of all its states, and says nothing of `{name}`: \
                 write `generic({name}: ..)` in the attribute above the module, or a concrete type in the state"
            ),
        );
    }
    if state == "Stop" {
        errors.at(
            state,
            "`Stop` is the end of a state machine, in the return type of a handler: give this state another name",
        );
    }
    errors.count() == before
}

/// Requires that a machine starts in one state.
fn one_initial(module: &Ident, initial: &[Ident], found: &mut Found, errors: &mut Errors) {
    let Some((first, others)) = initial.split_first() else {
        let advice = match found.states.first() {
            Some(state) => format!("write `#[state(initial)]` above one, such as `{}`", state.ident),
            None => "write `#[state(initial)]` above a struct in it, and `#[state]` above the other states".to_owned(),
        };
        errors.at(
            module,
            format!("`{module}` does not say which state it starts in: {advice}"),
        );
        // The first state stands in for the initial one. Whether casty can make it is not the
        // mistake.
        if let Some(state) = found.states.first_mut() {
            state.has_init = true;
        }
        return;
    };
    for other in others {
        errors.at(
            other,
            format!("`{module}` starts in `{first}` already, and it starts in one state: write just `#[state]` here"),
        );
    }
}

/// An item's attributes, and its name if it is a type that can be a state.
#[expect(clippy::type_complexity, reason = "read in one place")]
fn declared(item: &mut Item) -> Option<(&mut Vec<Attribute>, Option<(Ident, Generics)>)> {
    Some(match item {
        Item::Struct(item) => {
            let named = (item.ident.clone(), item.generics.clone());
            (&mut item.attrs, Some(named))
        }
        Item::Enum(item) => {
            let named = (item.ident.clone(), item.generics.clone());
            (&mut item.attrs, Some(named))
        }
        Item::Union(item) => (&mut item.attrs, None),
        Item::Type(item) => (&mut item.attrs, None),
        Item::Trait(item) => (&mut item.attrs, None),
        Item::Fn(item) => (&mut item.attrs, None),
        Item::Impl(item) => (&mut item.attrs, None),
        Item::Mod(item) => (&mut item.attrs, None),
        Item::Use(item) => (&mut item.attrs, None),
        _ => return None,
    })
}

/// The name of a generic parameter.
pub(super) fn name_of(parameter: &GenericParam) -> String {
    match parameter {
        GenericParam::Type(parameter) => parameter.ident.to_string(),
        GenericParam::Const(parameter) => parameter.ident.to_string(),
        GenericParam::Lifetime(parameter) => parameter.lifetime.to_string(),
    }
}
