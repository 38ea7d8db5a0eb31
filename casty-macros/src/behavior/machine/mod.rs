//! `#[entity] mod` and `#[actor] mod`: a module of states becomes a state machine.

mod check;
mod clash;
mod dispatch;
mod docs;
mod expand;
mod one_of;
mod parse;
mod states;

pub(super) use self::{
    check::{check, every_state_is_reached},
    docs::table,
    expand::reexport,
    parse::parse,
};
