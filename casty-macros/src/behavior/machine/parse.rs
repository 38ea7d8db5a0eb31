//! Reads the annotated module: its states, and the block of each.

use proc_macro2::Ident;
use syn::{Attribute, Generics, Item, ItemImpl, ItemMod, UseTree, ext::IdentExt};

use crate::{
    behavior::{
        block,
        model::{Behavior, Form, Kind, Otherwise, State},
        scope::{Machine, Scope},
        settings::Settings,
    },
    errors::Errors,
    fallback, names,
    options::{Grammar, Known, Options},
    types,
};

static STATE: Grammar = Grammar {
    attribute: "#[state]",
    known: &[Known::new("initial", "initial")],
    refused: &[],
};

static BEHAVIOR: Grammar = Grammar {
    attribute: "#[behavior]",
    known: &[Known::new("otherwise", "otherwise = reject")],
    refused: &[],
};

/// `None` if nothing can be generated. In any case our attributes are taken off the module's items.
pub(in crate::behavior) fn parse(
    kind: Kind,
    settings: Settings,
    module: &mut ItemMod,
    errors: &mut Errors,
) -> Option<Behavior> {
    let ident = type_name(&module.ident, errors);
    let name = module.ident.clone();
    let Some((_, items)) = &mut module.content else {
        errors.at(
            &name,
            format!(
                "a macro does not see what is in another file: write the states here, `mod {name} {{ .. }}`"
            ),
        );
        return None;
    };
    let mut found = states(&name, items, errors);
    // Without a type to speak of, the functions' own mistakes still deserve to be told.
    let actor_ident = ident.clone().unwrap_or_else(|| name.clone());
    let machine = Machine {
        module: name,
        actor: syn::parse_quote!(#actor_ident),
        states: found
            .states
            .iter()
            .map(|state| state.ident.clone())
            .collect(),
    };
    for item in items.iter_mut() {
        if let Item::Impl(block) = item {
            impl_block(kind, &machine, block, &mut found.states, errors);
        }
    }
    for state in &found.states {
        if state.block.is_none() {
            errors.at(
                &state.ident,
                format!(
                    "`{0}` does not say what it does with messages: write a block `#[behavior] impl {0} {{ .. }}`",
                    state.ident
                ),
            );
        }
    }
    let ident = ident?;
    let is_free = is_free(&ident, items, errors);
    is_free.then(|| Behavior {
        kind,
        settings,
        actor: machine.actor,
        generics: Generics::default(),
        form: Form::Machine {
            is_sound: found.is_sound,
        },
        states: found.states,
        messages: Vec::new(),
        ident,
    })
}

/// The type that the module makes.
fn type_name(module: &Ident, errors: &mut Errors) -> Option<Ident> {
    let made = names::machine(module);
    if made.is_none() {
        errors.at(
            module,
            format!(
                "the module's name makes the type's: `shopping_cart` makes `ShoppingCart`. \
                 `{module}` makes no name of its own: choose one in snake_case that starts with a letter"
            ),
        );
    }
    made
}

struct Found {
    /// The initial one first.
    states: Vec<State>,
    is_sound: bool,
}

fn states(module: &Ident, items: &mut [Item], errors: &mut Errors) -> Found {
    let mut found = Found {
        states: Vec::new(),
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
        let options = Options::parse(&STATE, block::arguments(attribute, errors), errors);
        let is_initial = options.flag("initial", errors);
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
        for condition in conditions {
            errors.at(
                condition,
                "a state machine has the same states in every build: drop `#[cfg]` from the state, \
                 or put it on the whole module",
            );
        }
        if let Some(parameter) = generics.params.first() {
            errors.at(
                parameter,
                format!(
                    "a state cannot be generic, since `{module}` makes one type of all its states: \
                     write the concrete types in the state"
                ),
            );
            found.is_sound = false;
        }
        if ident == "Stop" {
            errors.at(
                &ident,
                "`Stop` is the end of a state machine, in the return type of a handler: give this state another name",
            );
            found.is_sound = false;
        }
        let at = if is_initial && initial.is_empty() {
            0
        } else {
            found.states.len()
        };
        found
            .states
            .insert(at, State::new(ident.clone(), syn::parse_quote!(#ident)));
        if is_initial {
            initial.push(ident);
        }
    }
    match &initial[..] {
        [] => {
            let advice = match found.states.first() {
                Some(state) => format!("write `#[state(initial)]` above one, such as `{}`", state.ident),
                None => "write `#[state(initial)]` above a struct in it, and `#[state]` above the other states".to_owned(),
            };
            errors.at(
                module,
                format!("`{module}` does not say which state it starts in: {advice}"),
            );
        }
        [first, others @ ..] => {
            for other in others {
                errors.at(
                    other,
                    format!("`{module}` starts in `{first}` already, and it starts in one state: write just `#[state]` here"),
                );
            }
        }
    }
    found.is_sound &= !found.states.is_empty();
    found
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

/// Reads `#[behavior] impl Active`; complains of our attributes in any other block.
fn impl_block(
    kind: Kind,
    machine: &Machine,
    block: &mut ItemImpl,
    states: &mut [State],
    errors: &mut Errors,
) {
    let named = types::last_segment(&block.self_ty).map(|last| last.ident.clone());
    let position = states
        .iter()
        .position(|state| Some(&state.ident) == named.as_ref());
    let written = fallback::take_named("behavior", &mut block.attrs);
    let Some(attribute) = written.first() else {
        let is_actor = ["entity", "actor"]
            .iter()
            .any(|name| fallback::has_named(name, &block.attrs));
        if !is_actor {
            not_annotated(block, position.is_some(), errors);
        }
        return;
    };
    let options = Options::parse(&BEHAVIOR, block::arguments(attribute, errors), errors);
    let words = Otherwise::ALL.map(|(word, _)| word);
    let otherwise = options
        .word("otherwise", &words, errors)
        .and_then(|index| Otherwise::ALL.get(index))
        .zip(options.value_span("otherwise"))
        .map(|((_, otherwise), span)| (*otherwise, span));
    let functions = block::take_functions(&mut block.items);

    let before = errors.count();
    if let Some(second) = written.get(1) {
        errors.at(
            second,
            "`#[behavior]` is written twice above one block: keep one of them",
        );
    }
    if let Some((path, _)) = &block.trait_ {
        errors.at(
            path,
            "`#[behavior]` stands above an inherent `impl`: \
             move the `#[message]` functions to an `impl` block without a trait",
        );
    }
    if let Some(parameter) = block.generics.params.first() {
        errors.at(
            parameter,
            "a state cannot be generic: write the concrete types, here and in the state",
        );
    }
    for condition in block
        .attrs
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
    {
        errors.at(
            condition,
            "a protocol is the same in every build: drop `#[cfg]` from the block, or put it on the whole module",
        );
    }
    let (Some(ident), Some(position)) = (named, position) else {
        not_a_state(machine, block, errors);
        return;
    };
    let state = &mut states[position];
    if let Some(first) = &state.block {
        errors.at(
            &ident,
            format!("`{first}` has its `#[behavior]` already, and a state has one: move these functions there"),
        );
    }
    if errors.count() > before {
        // The functions are not read, and so not missed.
        state.block.get_or_insert(ident);
        state
            .written
            .extend(functions.into_iter().map(|it| it.function.sig.ident));
        return;
    }
    state.block = Some(ident);
    // What was written wrong still says that something happens otherwise.
    state.otherwise = otherwise.or_else(|| {
        let span = options.span("otherwise")?;
        Some((Otherwise::Reject, span))
    });
    let this = state.ty.clone();
    let scope = Scope {
        kind,
        this: &this,
        machine: Some(machine),
    };
    block::functions(scope, functions, state, errors);
}

fn not_a_state(machine: &Machine, block: &ItemImpl, errors: &mut Errors) {
    let shown = crate::text::of(&block.self_ty);
    let names: Vec<_> = machine.states.iter().map(ToString::to_string).collect();
    let advice = match names::nearest(&shown, names.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write `#[state]` above the definition of `{shown}`"),
    };
    errors.at(
        &block.self_ty,
        format!("`{shown}` is no state of `{}`: {advice}", machine.module),
    );
}

/// Complains of message functions in a block that nobody reads.
fn not_annotated(block: &mut ItemImpl, is_state: bool, errors: &mut Errors) {
    let ours = |block: &ItemImpl| {
        let mut helpers = block.items.iter().filter_map(|item| match item {
            syn::ImplItem::Fn(function) => function.attrs.iter().find_map(fallback::helper),
            _ => None,
        });
        helpers.any(|helper| is_state || helper == "message")
    };
    if !ours(block) {
        return;
    }
    for annotated in block::take_functions(&mut block.items) {
        errors.at(
            &annotated.attribute,
            format!(
                "casty reads the functions of blocks with `#[behavior]`: write `#[behavior]` above this `impl {}`",
                crate::text::of(&block.self_ty)
            ),
        );
    }
}

/// Whether the module leaves the names free that are generated in it.
fn is_free(ident: &Ident, items: &[Item], errors: &mut Errors) -> bool {
    let generated = [
        ident.clone(),
        names::message_enum(ident),
        names::proxy(ident),
    ];
    let mut names = Vec::new();
    for item in items {
        match item {
            Item::Struct(item) => names.push(&item.ident),
            Item::Enum(item) => names.push(&item.ident),
            Item::Union(item) => names.push(&item.ident),
            Item::Type(item) => names.push(&item.ident),
            Item::Trait(item) => names.push(&item.ident),
            Item::TraitAlias(item) => names.push(&item.ident),
            Item::Mod(item) => names.push(&item.ident),
            Item::Use(item) => imported(&item.tree, &mut names),
            _ => {}
        }
    }
    let before = errors.count();
    for name in names {
        if generated.iter().any(|made| made.unraw() == name.unraw()) {
            errors.at(
                name,
                format!(
                    "`{name}` is generated in this module, for the state machine as a whole: \
                     give this one another name"
                ),
            );
        }
    }
    errors.count() == before
}

fn imported<'a>(tree: &'a UseTree, names: &mut Vec<&'a Ident>) {
    match tree {
        UseTree::Path(path) => imported(&path.tree, names),
        UseTree::Name(name) => names.push(&name.ident),
        UseTree::Rename(rename) => names.push(&rename.rename),
        UseTree::Group(group) => {
            for tree in &group.items {
                imported(tree, names);
            }
        }
        UseTree::Glob(_) => {}
    }
}
