//! The decisions of a cluster, as pure state machines: no socket, no task, no clock, no global
//! randomness.
//!
//! Time and randomness are arguments, and effects are returned. So a test compares whole lists of
//! effects, and a simulation runs every decision under one seed.

pub(crate) mod admission;
pub(crate) mod allocation;
pub(crate) mod bootstrap;
pub(crate) mod commit;
pub(crate) mod copies;
pub(crate) mod facts;
pub(crate) mod failed_moves;
pub(crate) mod founder_vote;
pub(crate) mod home;
pub(crate) mod leader;
pub(crate) mod leader_client;
pub(crate) mod lease;
pub(crate) mod liveness;
pub(crate) mod loads;
pub(crate) mod map;
pub(crate) mod map_source;
pub(crate) mod membership;
pub(crate) mod new_voters;
pub(crate) mod outbox;
pub(crate) mod placement;
pub(crate) mod projection;
pub(crate) mod region;
pub(crate) mod reminders;
pub(crate) mod second_copy;
pub(crate) mod supervision;
pub(crate) mod tie;
