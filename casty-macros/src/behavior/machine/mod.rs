//! `#[entity] mod` and `#[actor] mod`: a module of states becomes a state machine.

mod check;
mod docs;
mod expand;
mod parse;

pub(super) use self::{
    check::{check, every_state_is_reached},
    docs::table,
    expand::reexport,
    parse::parse,
};
