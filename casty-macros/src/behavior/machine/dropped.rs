//! Has the compiler warn of a repeated message whose timer no state ends.
//!
//! A timer that a handler begins outlives the state. One that its handle cannot cancel either goes
//! on in each later state.

use proc_macro2::Ident;
use quote::quote;
use syn::{
    Block, Expr, ExprMethodCall, FnArg, ImplItem, Item, Pat, PatIdent, Path, Signature, Stmt, Type,
    parse_quote_spanned,
    spanned::Spanned,
    visit::{self, Visit},
    visit_mut::{self, VisitMut},
};

use crate::{
    context::{self, ContextParameter},
    fallback, names,
};

/// The functions of a state that run at each visit, by their attributes.
const OF_A_VISIT: [&str; 3] = ["message", "on_enter", "on_exit"];

/// Marks such timers in the blocks of the states.
pub(super) fn mark(items: &mut [Item], actor: &Type, casty: &Path) {
    let blocks = items.iter_mut().filter_map(|item| match item {
        Item::Impl(block) if fallback::has_named("behavior", &block.attrs) => Some(block),
        _ => None,
    });
    for item in blocks.flat_map(|block| &mut block.items) {
        let ImplItem::Fn(function) = item else {
            continue;
        };
        let mut helpers = function.attrs.iter().filter_map(fallback::helper);
        if helpers.any(|helper| OF_A_VISIT.contains(&helper))
            && let Some(context) = context_of(&function.sig, actor)
            && !is_bound_again(context, &function.block)
        {
            Mark { context, casty }.visit_block_mut(&mut function.block);
        }
    }
}

/// The name of the parameter that is the context.
fn context_of<'a>(sig: &'a Signature, actor: &Type) -> Option<&'a Ident> {
    sig.inputs.iter().find_map(|input| match input {
        FnArg::Typed(input) => match (context::parameter(&input.ty, actor)?, &*input.pat) {
            (ContextParameter::Mutable, Pat::Ident(pat)) => Some(&pat.ident),
            _ => None,
        },
        FnArg::Receiver(_) => None,
    })
}

/// Whether the body gives the name to something else as well.
fn is_bound_again(name: &Ident, body: &Block) -> bool {
    struct Bindings<'a> {
        name: &'a Ident,
        is_found: bool,
    }
    impl Visit<'_> for Bindings<'_> {
        fn visit_pat_ident(&mut self, pat: &PatIdent) {
            self.is_found |= pat.ident == *self.name;
            visit::visit_pat_ident(self, pat);
        }
    }
    let mut bindings = Bindings {
        name,
        is_found: false,
    };
    bindings.visit_block(body);
    bindings.is_found
}

struct Mark<'a> {
    context: &'a Ident,
    casty: &'a Path,
}

impl Mark<'_> {
    fn begins_a_timer(&self, call: &ExprMethodCall) -> bool {
        let is_of_the_context =
            matches!(&*call.receiver, Expr::Path(path) if path.path.is_ident(self.context));
        is_of_the_context && call.method == "schedule_every"
    }
}

impl VisitMut for Mark<'_> {
    fn visit_block_mut(&mut self, block: &mut Block) {
        visit_mut::visit_block_mut(self, block);
        for statement in &mut block.stmts {
            if let Stmt::Expr(Expr::MethodCall(call), Some(_)) = statement
                && self.begins_a_timer(call)
            {
                let attributes = std::mem::take(&mut call.attrs);
                // There the compiler inserts the `let _ =` that it suggests.
                let (casty, span) = (self.casty, call.receiver.span());
                let marks = names::all_at(span, quote!(#casty::__private::schedule_every));
                *statement = parse_quote_spanned!(span=> #(#attributes)* #marks(#call););
            }
        }
    }

    fn visit_item_mut(&mut self, _: &mut Item) {
        // An item inside of a function is not the handler's code.
    }
}
