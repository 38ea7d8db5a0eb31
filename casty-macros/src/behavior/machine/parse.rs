//! Reads the annotated module: its states, and the block of each.

use proc_macro2::Ident;
use quote::ToTokens;
use syn::{FnArg, ImplItem, Item, ItemImpl, ItemMod, Type, spanned::Spanned};

use super::{
    aliases::Aliases, clash, functions::Functions, groups, one_of::OneOfs, shared, states,
};
use crate::{
    behavior::{
        block, event, hints,
        kind::Kind,
        lints,
        model::{Behavior, Form, Otherwise, Policy, State, Upcast},
        scope::{Machine, Scope},
        settings::Settings,
        stored::How,
    },
    context,
    errors::Errors,
    fallback, names,
    options::{Grammar, Known, Options},
    transient, types,
};

static BEHAVIOR: Grammar = Grammar {
    attribute: "#[behavior]",
    known: &[
        Known::new("otherwise", "otherwise = reject"),
        Known::new("internal", "internal = ignore"),
        Known::list("reject", "reject(pay)"),
        Known::list("ignore", "ignore(silent)"),
        Known::list("stash", "stash(command)"),
        Known::list("of", "of(Draft, InReview)"),
    ],
    refused: &[(
        "any",
        "a block for all states is written as `#[behavior(of(all))] impl _ { .. }`",
    )],
};

/// `None` if nothing can be generated. casty's attributes are removed from the module's items in
/// any case.
pub(in crate::behavior) fn parse(
    kind: Kind,
    settings: Settings,
    module: &mut ItemMod,
    errors: &mut Errors,
) -> Option<Behavior> {
    let ident = type_name(&module.ident, errors);
    let name = module.ident.clone();
    if module.content.is_none() {
        errors.at(
            &name,
            format!(
                "a macro does not see what is in another file: write the states here, `mod {name} {{ .. }}`"
            ),
        );
        return None;
    }
    let grouped = fallback::take_named("states", &mut module.attrs);
    let Some((_, items)) = &mut module.content else {
        return None;
    };
    let generic = settings
        .generic
        .as_ref()
        .map(|(generics, _)| generics.clone());
    transient::in_states(&settings.casty, items, errors);
    let mut found = states::parse(&name, &settings, items, errors);
    found.is_sound &= every_parameter_is_used(&settings, &found, errors);
    let generics = generic.unwrap_or_default();
    let (_, params, _) = generics.split_for_impl();
    let states: Vec<_> = found
        .states
        .iter()
        .map(|state| state.ident.clone())
        .collect();
    // Without a type to speak of, the functions' own mistakes still deserve to be told.
    let actor_ident = ident.clone().unwrap_or_else(|| name.clone());
    let machine = Machine {
        stored: settings.how(),
        module: name,
        actor: syn::parse_quote!(#actor_ident #params),
        generics: generics.clone(),
        groups: groups::parse(&grouped, &states, errors),
        common: found.common.clone(),
        aliases: Aliases::of(items, &states),
        states,
        is_sound: found.is_sound,
    };
    let upcasts = upcasts(kind, &machine, items, errors);
    let shared_policies = blocks(kind, &machine, items, &mut found.states, errors);
    without_missing_events(&found.states, items);
    let mut one_ofs = OneOfs::new(&machine);
    for item in items.iter() {
        one_ofs.collect(item);
    }
    let one_ofs = one_ofs.found;
    for state in &found.states {
        if state.block.is_none() && !state.may_be_shared {
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
    let is_free = clash::is_free(&ident, settings.is_event_sourced(), items, errors);
    is_free.then(|| Behavior {
        kind,
        settings,
        actor: machine.actor,
        generics: machine.generics,
        form: Form::Machine {
            is_sound: found.is_sound,
        },
        states: found.states,
        messages: Vec::new(),
        one_ofs,
        groups: machine.groups,
        common: machine.common,
        shared_policies,
        events: Vec::new(),
        upcasts,
        ident,
    })
}

/// Reads the upcasters that are functions of the module, and removes casty's attributes from them.
fn upcasts(kind: Kind, machine: &Machine, items: &mut [Item], errors: &mut Errors) -> Vec<Upcast> {
    let scope = Scope {
        kind,
        stored: machine.stored,
        this: &machine.actor,
        machine: Some(machine),
        functions: &[],
    };
    let mut upcasts = Vec::new();
    for item in items {
        let Item::Fn(function) = item else { continue };
        let written = fallback::take_named("upcast", &mut function.attrs);
        let Some(attribute) = written.first() else {
            continue;
        };
        if let Some(second) = written.get(1) {
            errors.at(
                second,
                "`#[upcast]` is written twice above one function: keep one of them, \
                 and write a second function for the other event or version",
            );
        } else {
            let read = event::upcast(scope, (&function.sig, &function.attrs), attribute, errors);
            upcasts.extend(read.map(|upcast| Upcast {
                of_type: None,
                ..upcast
            }));
        }
        fallback::strip_fields(&mut function.sig);
        lints::of_an_event(&function.sig, &mut function.attrs);
    }
    upcasts
}

/// Reads the blocks of the states, and puts copies of their functions in place of those for several
/// states. Returns the policies of the latter.
fn blocks(
    kind: Kind,
    machine: &Machine,
    items: &mut Vec<Item>,
    states: &mut [State],
    errors: &mut Errors,
) -> Vec<Policy> {
    let mut shared = Vec::new();
    for item in std::mem::take(items) {
        match item {
            Item::Impl(mut block) if shared::is_shared(&block) => {
                let written = fallback::take_named("behavior", &mut block.attrs);
                let before = errors.count();
                let options = written.first().map_or_else(
                    || Options::none(&BEHAVIOR),
                    |attribute| Options::of(&BEHAVIOR, attribute, errors),
                );
                let functions: Vec<_> = shared::names(&block).cloned().collect();
                let is_read = errors.count() == before;
                let head = shared::head(machine, block, (&options, is_read), errors);
                if head.is_none() {
                    // Any state may have been meant, so none of them misses a function of this
                    // block.
                    for state in &mut *states {
                        state.written.extend(functions.iter().cloned());
                        state.may_be_shared = true;
                    }
                }
                shared.extend(head);
            }
            item => items.push(item),
        }
    }
    let functions = Functions::of(machine, items, &shared);
    for item in items.iter_mut() {
        if let Item::Impl(block) = item {
            impl_block(kind, machine, block, states, &functions, errors);
        }
    }
    let (copies, policies) = shared::give(kind, machine, shared, &functions, states, errors);
    items.extend(copies);
    policies
}

/// Takes the bodies from functions that make events which no state has, since casty has reported
/// the functions of these.
fn without_missing_events(states: &[State], items: &mut [Item]) {
    let missing = State::missing_events(states);
    for item in items {
        if let Item::Impl(block) = item {
            block::without_bodies(&mut block.items, &missing);
        }
    }
}

/// Requires that a state names each parameter of the machine. A parameter that the common data
/// alone names could be written in no handler, since a handler has the parameters of its state.
fn every_parameter_is_used(
    settings: &Settings,
    found: &states::Found,
    errors: &mut Errors,
) -> bool {
    let Some((generics, _)) = &settings.generic else {
        return true;
    };
    let before = errors.count();
    for parameter in &generics.params {
        let name = states::name_of(parameter);
        let names = |ty: &Type| names::occurs(&name, ty.to_token_stream());
        if found.states.iter().any(|state| names(&state.ty)) {
            continue;
        }
        if let Some(common) = &found.common
            && names(&common.ty)
        {
            errors.at(
                parameter,
                format!(
                    "`{0}` is generic over `{name}`, and no state is: a handler has the parameters of its state, so none \
                     could name `{0}<{name}>`. Write it at a state as well, such as `struct Idle<{name}>(PhantomData<{name}>);`",
                    common.ident
                ),
            );
            continue;
        }
        errors.at(
            parameter,
            format!(
                "no state is generic over `{name}`: write it at one that needs it, or drop it here"
            ),
        );
    }
    errors.count() == before
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

/// Reads `#[behavior] impl Active`; complains of our attributes in any other block.
fn impl_block(
    kind: Kind,
    machine: &Machine,
    block: &mut ItemImpl,
    states: &mut [State],
    functions_of: &Functions,
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
    let before = errors.count();
    let options = Options::of(&BEHAVIOR, attribute, errors);
    let unknown = (errors.count() > before).then(|| Policy {
        otherwise: Otherwise::Reject,
        span: attribute.span(),
        is_shared: true,
    });
    // After an error it is unknown what else was to be said.
    let otherwise = policy(&options, "otherwise", errors).or(unknown);
    let internal = policy(&options, "internal", errors);
    let unread = hints::take(&mut block.items, errors);
    let functions = block::take_functions(&mut block.items);
    contexts_of_the_machine(machine, block);

    let before = errors.count();
    if let Some(second) = written.get(1) {
        errors.at(
            second,
            "`#[behavior]` is written twice above one block: keep one of them",
        );
    }
    plain_block(machine, block, errors);
    if let Some(place) = options.span("of") {
        errors.at_span(
            place,
            format!(
                "this block is for `{0}` alone, as `impl {0}` says: write `impl _` for the states that `of` names, \
                 or drop `of`",
                crate::text::of(&block.self_ty)
            ),
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
        let unread = functions.into_iter().map(|it| it.function.sig.ident);
        state.written.extend(unread);
        return;
    }
    state.block = Some(ident);
    (state.otherwise, state.internal) = (otherwise, internal);
    state.exceptions = exceptions(&options);
    state.written.extend(unread);
    let this = state.ty.clone();
    let scope = Scope {
        kind,
        stored: machine.stored,
        this: &this,
        machine: Some(machine),
        functions: functions_of.all(&state.ident),
    };
    block::functions(scope, functions, state, errors);
    block::without_results(&mut block.items, &state.lost);
}

/// What an option says of messages that the state does not handle, and where. A wrong word still
/// says that something happens to them.
pub(super) fn policy(
    options: &Options,
    option: &'static str,
    errors: &mut Errors,
) -> Option<Policy> {
    let words = Otherwise::ALL.map(|(word, _)| word);
    let index = options.word(option, &words, errors);
    let meant = index.and_then(|index| Otherwise::ALL.get(index));
    let (otherwise, span) = match (meant, options.value_span(option)) {
        (Some((_, otherwise)), Some(span)) => (*otherwise, span),
        _ => (Otherwise::Reject, options.span(option)?),
    };
    Some(Policy {
        otherwise,
        span,
        is_shared: false,
    })
}

/// What happens to single messages that the state does not handle: `stash(command)`.
fn exceptions(options: &Options) -> Vec<(Ident, Otherwise)> {
    let of = |(word, otherwise)| {
        let named = options.list(word).iter();
        named.map(move |name| (name.clone(), otherwise))
    };
    Otherwise::ALL.into_iter().flat_map(of).collect()
}

/// Reports exceptions in a block for several states.
pub(super) fn no_exceptions(options: &Options, errors: &mut Errors) {
    for (name, _) in exceptions(options) {
        errors.at(
            &name,
            "single messages are excepted in the block of a state: write this there",
        );
    }
}

/// Complains of what the block of a state may not have.
pub(super) fn plain_block(machine: &Machine, block: &ItemImpl, errors: &mut Errors) {
    if let Some((path, _)) = &block.trait_ {
        errors.at(
            path,
            "`#[behavior]` stands above an inherent `impl`: \
             move the `#[message]` functions to an `impl` block without a trait",
        );
    }
    if let Some(parameter) = block.generics.params.first()
        && machine.is_sound
        && machine.generics.params.is_empty()
    {
        errors.at(
            parameter,
            format!(
                "`{}` has no parameters: write `generic(..)` in the attribute above the module, \
                 or the concrete types, here and in the state",
                machine.module
            ),
        );
    }
    for condition in &block.attrs {
        if condition.path().is_ident("cfg") {
            errors.at(
                condition,
                "a protocol is the same in every build: drop `#[cfg]` from the block, or put it on the whole module",
            );
        }
    }
}

/// Writes `Context<Cart>` where `Context<Self>` was an error: the compiler has nothing to add to
/// it.
pub(super) fn contexts_of_the_machine(machine: &Machine, block: &mut ItemImpl) {
    let this = block.self_ty.clone();
    let functions = block.items.iter_mut().filter_map(|item| match item {
        ImplItem::Fn(function) => Some(function),
        _ => None,
    });
    for input in functions.flat_map(|function| &mut function.sig.inputs) {
        if let FnArg::Typed(input) = input
            && let Some(of) = context::of_mut(&mut input.ty)
            && types::is(of, &this)
        {
            of.clone_from(&machine.actor);
        }
    }
}

fn not_a_state(machine: &Machine, block: &ItemImpl, errors: &mut Errors) {
    let shown = crate::text::of(&block.self_ty);
    if machine
        .common
        .as_ref()
        .is_some_and(|common| *common.ident.to_string() == shown)
    {
        let functions = match machine.stored {
            Some(How::Events) => "`#[event]` functions",
            _ => "functions",
        };
        errors.at(
            &block.self_ty,
            format!(
                "`{shown}` is there in every state, and handles nothing itself: write a block for all states, \
                 `#[behavior(of(all))] impl _`, whose {functions} take `&mut {shown}`"
            ),
        );
        return;
    }
    let advice = names::did_you_mean(&shown, &machine.states)
        .unwrap_or_else(|| format!("write `#[state]` above the definition of `{shown}`"));
    errors.at(
        &block.self_ty,
        format!("`{shown}` is no state of `{}`: {advice}", machine.module),
    );
}

/// Reports message functions in a block without `#[behavior]`, which the macro does not read.
fn not_annotated(block: &mut ItemImpl, is_state: bool, errors: &mut Errors) {
    let ours = |block: &ItemImpl| {
        let mut helpers = block.items.iter().filter_map(|item| match item {
            ImplItem::Fn(function) => function.attrs.iter().find_map(fallback::helper),
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
