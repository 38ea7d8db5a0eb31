//! The functions that each state of a machine has, wherever they are written.

use proc_macro2::Ident;
use syn::{Item, Signature};

use super::shared::Shared;
use crate::{
    behavior::{block, scope::Machine},
    types,
};

/// By state: the functions that options of its messages may name.
pub(super) struct Functions(Vec<OfState>);

struct OfState {
    state: Ident,
    /// Those of its own blocks first.
    all: Vec<Signature>,
    /// How many are of its own blocks.
    own: usize,
}

impl Functions {
    pub(super) fn of(machine: &Machine, items: &[Item], shared: &[Shared]) -> Self {
        let of_state = |state: &Ident| {
            let blocks = items.iter().filter_map(|item| match item {
                Item::Impl(block) if block.trait_.is_none() => Some(block),
                _ => None,
            });
            let own = blocks.filter(|block| {
                types::last_segment(&block.self_ty).is_some_and(|last| last.ident == *state)
            });
            let mut all: Vec<_> = own.flat_map(block::signatures).collect();
            let own = all.len();
            let given = shared.iter().filter(|shared| shared.of.contains(state));
            all.extend(given.flat_map(|shared| block::signatures(&shared.block)));
            OfState {
                state: state.clone(),
                all,
                own,
            }
        };
        Self(machine.states.iter().map(of_state).collect())
    }

    pub(super) fn all(&self, state: &Ident) -> &[Signature] {
        let of_state = self.0.iter().find(|of_state| of_state.state == *state);
        of_state.map_or(&[], |of_state| &of_state.all)
    }

    /// Whether the state's own blocks have a function of this name.
    pub(super) fn is_own(&self, state: &Ident, name: &Ident) -> bool {
        let of_state = self.0.iter().find(|of_state| of_state.state == *state);
        let own = of_state.map_or(&[][..], |of_state| &of_state.all[..of_state.own]);
        own.iter().any(|sig| sig.ident == *name)
    }
}
