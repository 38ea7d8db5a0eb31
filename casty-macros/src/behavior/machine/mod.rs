//! `#[entity] mod` and `#[actor] mod`: a module of states becomes a state machine.

mod aliases;
mod check;
mod clash;
mod dispatch;
mod docs;
mod expand;
mod functions;
mod groups;
mod one_of;
mod parse;
mod shared;
mod states;
mod visit;

pub(super) use self::{
    aliases::Aliases,
    check::{check, every_state_is_reached},
    docs::table,
    expand::reexport,
    parse::parse,
};
