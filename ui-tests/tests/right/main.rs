//! What the macros make of right code. One crate: each binary of its own is linked with all of casty. Only a test that
//! starts a system is apart from these, since a system has all types of its binary.

pub mod all_visibilities;
pub mod cart;
pub mod counter;
pub mod durable;
pub mod event_sourced;
pub mod event_sourced_states;
pub mod from_macro_rules;
pub mod generic_entity;
pub mod hooks;
pub mod internal_messages;
pub mod later;
pub mod migrating_states;
pub mod no_implicit_prelude;
pub mod options;
pub mod pinned_names;
pub mod result_replies;
pub mod self_in_signatures;
pub mod state_machine;
pub mod state_machine_in_a_private_module;
pub mod state_machine_no_implicit_prelude;
pub mod states_in_groups;
pub mod stored_no_implicit_prelude;
pub mod strict_lints;
