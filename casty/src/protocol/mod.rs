//! The decisions, as pure state machines: no socket, no task, no clock, no global randomness.
//!
//! Time and randomness are arguments; what should happen is returned. So each of them can be tested
//! by comparing whole lists of effects, and run in a simulation under one seed.

pub(crate) mod allocation;
pub(crate) mod bootstrap;
pub(crate) mod facts;
pub(crate) mod leader;
pub(crate) mod lease;
pub(crate) mod liveness;
pub(crate) mod map;
pub(crate) mod region;
pub(crate) mod second_copy;
pub(crate) mod supervision;
pub(crate) mod tie;
