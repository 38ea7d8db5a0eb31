//! One block for several states: `#[behavior(of(Draft, InReview))] impl _ { .. }`.
//!
//! Each of its functions is copied into the block of each state that has no function of that name.
//! So all that is checked and written for a state holds for the copy too.

use proc_macro2::{Ident, Span};
use quote::quote;
use syn::{Attribute, ImplItem, Item, ItemImpl, Type, parse_quote};

use super::{expand, functions::Functions, groups, parse};
use crate::{
    behavior::{
        block, hints,
        kind::Kind,
        model::{Policy, State},
        scope::{Machine, Scope},
    },
    errors::Errors,
    options::Options,
    types,
};

/// A block for several states, with casty's attributes on its functions.
pub(super) struct Shared {
    pub(super) block: ItemImpl,
    /// The states that it is for.
    pub(super) of: Vec<Ident>,
    /// Where the attribute names them.
    place: Span,
    otherwise: Option<Policy>,
    internal: Option<Policy>,
    /// Functions whose meaning is unknown.
    unread: Vec<Ident>,
}

/// A function that stands in a shared block, and the states that have it from there.
struct Given {
    function: Ident,
    of: Vec<Ident>,
    to: Vec<Ident>,
}

/// Whether the block is one for several states, `impl _`.
pub(super) fn is_shared(block: &ItemImpl) -> bool {
    matches!(types::bare(&block.self_ty), Type::Infer(_))
}

/// Reads the head of a shared block; its options may have had an error. `None` if an error leaves
/// no states to give it to.
pub(super) fn head(
    machine: &Machine,
    block: ItemImpl,
    (options, is_read): (&Options, bool),
    errors: &mut Errors,
) -> Option<Shared> {
    let before = errors.count();
    let mut block = block;
    parse::plain_block(machine, &block, errors);
    let Some(place) = options.span("of") else {
        if !is_read {
            return None;
        }
        errors.at(
            &block.self_ty,
            "`impl _` stands for several states: name them above it, \
             `#[behavior(of(Draft, InReview))]` or `#[behavior(of(all))]`",
        );
        return None;
    };
    let of = groups::members(options.list("of"), &machine.states, &machine.groups, errors);
    if errors.count() > before {
        return None;
    }
    parse::no_exceptions(options, errors);
    let unread = hints::take(&mut block.items, errors);
    let shared = |policy: Option<Policy>| {
        policy.map(|policy| Policy {
            is_shared: true,
            ..policy
        })
    };
    Some(Shared {
        of,
        place,
        otherwise: shared(parse::policy(options, "otherwise", errors)),
        internal: shared(parse::policy(options, "internal", errors)),
        block,
        unread,
    })
}

/// Gives the states what their shared blocks say. Returns the blocks of the copies, and the
/// policies that stand in shared blocks.
pub(super) fn give(
    kind: Kind,
    machine: &Machine,
    blocks: Vec<Shared>,
    own: &Functions,
    states: &mut [State],
    errors: &mut Errors,
) -> (Vec<Item>, Vec<Policy>) {
    let mut blocks = blocks;
    // A block for fewer states says more about them. The sort keeps the order of the source.
    blocks.sort_by_key(|block| block.of.len());
    let mut given: Vec<Given> = Vec::new();
    let mut copies = Vec::new();
    let mut policies = Vec::new();
    for shared in blocks {
        policies.extend([shared.otherwise, shared.internal].into_iter().flatten());
        let mut functions: Vec<Given> = names(&shared.block)
            .map(|function| Given {
                function: function.clone(),
                of: shared.of.clone(),
                to: Vec::new(),
            })
            .collect();
        let (mut wrong, mut twice) = (Vec::new(), Vec::new());
        for state in states
            .iter_mut()
            .filter(|state| shared.of.contains(&state.ident))
        {
            let mut block = shared.block.clone();
            let ty = Ident::new(&state.ident.to_string(), shared.place);
            let this = &state.ty;
            block.self_ty = Box::new(parse_quote!(#this));
            block.generics = expand::mentioned(&machine.generics, &quote!(#this));
            block.items.retain(|item| match item {
                ImplItem::Fn(function) => {
                    let name = &function.sig.ident;
                    let is_free = !own.is_own(&state.ident, name)
                        && !is_given(name, &shared, &state.ident, &given, &mut twice, errors);
                    if (is_free || twice.contains(name))
                        && let Some(it) = functions.iter_mut().find(|it| it.function == *name)
                    {
                        it.to.push(state.ident.clone());
                    }
                    is_free
                }
                _ => true,
            });
            state.otherwise = state.otherwise.or(shared.otherwise);
            state.internal = state.internal.or(shared.internal);
            state.block.get_or_insert(ty);
            state.written.extend(shared.unread.iter().cloned());
            let scope = Scope {
                kind,
                stored: machine.stored,
                this: &state.ty.clone(),
                machine: Some(machine),
                functions: own.all(&state.ident.clone()),
            };
            copy(scope, machine, &mut block, state, &mut wrong, errors);
            copies.push(Item::Impl(block));
        }
        every_function_is_given(&functions, errors);
        given.extend(functions);
    }
    (copies, policies)
}

pub(super) fn names(block: &ItemImpl) -> impl Iterator<Item = &Ident> {
    block.items.iter().filter_map(|item| match item {
        ImplItem::Fn(function) => Some(&function.sig.ident),
        _ => None,
    })
}

/// Whether another block gives the state this function: a block for fewer states goes before one
/// that is for these and others. Where neither is, that is reported once.
fn is_given(
    function: &Ident,
    shared: &Shared,
    state: &Ident,
    given: &[Given],
    twice: &mut Vec<Ident>,
    errors: &mut Errors,
) -> bool {
    let before = given
        .iter()
        .find(|given| given.function == *function && given.to.contains(state));
    let Some(before) = before else { return false };
    let is_narrower = before.of.len() < shared.of.len()
        && before.of.iter().all(|state| shared.of.contains(state));
    if !is_narrower && !twice.contains(function) {
        twice.push(function.clone());
        errors.at(
            function,
            format!(
                "`{state}` gets a function `{function}` from two blocks, and neither is for fewer of the same states: \
                 write it in the block of `{state}`, or leave `{state}` out of one of them"
            ),
        );
    }
    true
}

/// Reads the functions of a copy. A mistake in one is told once, not for each state.
fn copy(
    scope: Scope<'_>,
    machine: &Machine,
    block: &mut ItemImpl,
    state: &mut State,
    wrong: &mut Vec<Ident>,
    errors: &mut Errors,
) {
    let functions = block::take_functions(&mut block.items);
    parse::contexts_of_the_machine(machine, block);
    for item in &mut block.items {
        if let ImplItem::Fn(function) = item {
            // Not each state has to need each of the helpers, and any may be a guard.
            let allow: Attribute = parse_quote! {
                #[allow(
                    dead_code,
                    clippy::trivially_copy_pass_by_ref,
                    clippy::unnecessary_wraps,
                    clippy::unused_self
                )]
            };
            function.attrs.push(allow);
        }
    }
    for function in functions {
        let name = function.function.sig.ident.clone();
        if wrong.contains(&name) {
            state.written.push(name.clone());
            state.lost.push(name);
            continue;
        }
        let before = errors.count();
        block::functions(scope, vec![function], state, errors);
        if errors.count() > before {
            wrong.push(name);
        }
    }
    block::without_results(&mut block.items, &state.lost);
}

fn every_function_is_given(functions: &[Given], errors: &mut Errors) {
    for given in functions.iter().filter(|given| given.to.is_empty()) {
        errors.at(
            &given.function,
            format!(
                "each of these states has a function `{0}` of its own, so this one is never called: drop it",
                given.function
            ),
        );
    }
}
