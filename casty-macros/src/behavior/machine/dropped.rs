//! Has the compiler warn of a repeated message whose timer no state ends.
//!
//! A timer that a handler begins outlives the state. One that its handle cannot cancel either goes
//! on in each later state.

use quote::quote;
use syn::{
    Block, Expr, ImplItem, Item, Path, Stmt, parse_quote_spanned,
    spanned::Spanned,
    visit_mut::{self, VisitMut},
};

use crate::{fallback, names};

/// The functions of a state that run at each visit, by their attributes.
const OF_A_VISIT: [&str; 3] = ["message", "on_enter", "on_exit"];

/// Marks such timers in the blocks of the states.
pub(super) fn mark(items: &mut [Item], casty: &Path) {
    let blocks = items.iter_mut().filter_map(|item| match item {
        Item::Impl(block) if fallback::has_named("behavior", &block.attrs) => Some(block),
        _ => None,
    });
    for item in blocks.flat_map(|block| &mut block.items) {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let mut helpers = function.attrs.iter().filter_map(fallback::helper);
        if helpers.any(|helper| OF_A_VISIT.contains(&helper)) {
            Mark { casty }.visit_block_mut(&mut function.block);
        }
    }
}

struct Mark<'a> {
    casty: &'a Path,
}

impl VisitMut for Mark<'_> {
    fn visit_block_mut(&mut self, block: &mut Block) {
        visit_mut::visit_block_mut(self, block);
        for statement in &mut block.stmts {
            if let Stmt::Expr(Expr::MethodCall(call), Some(_)) = statement
                && call.method == "schedule_every"
            {
                let (casty, span) = (self.casty, call.receiver.span());
                let marks = names::all_at(span, quote!(#casty::__private::repeats_in_each_state));
                *statement = parse_quote_spanned!(span=> #marks(#call););
            }
        }
    }

    fn visit_item_mut(&mut self, _: &mut Item) {
        // An item inside of a function is not the handler's code.
    }
}
