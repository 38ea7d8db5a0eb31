//! casty from end to end: over real TCP, in one process and in several.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    unused_must_use,
    reason = "tests: small numbers, tasks of their own, and an answer that is not the point"
)]

mod access;
mod asks;
mod behaviors;
mod claims;
mod cluster;
mod configured;
mod conservation;
mod drops;
mod errors;
mod fairness;
mod findings;
mod growth;
mod if_active;
mod kept;
mod lapses;
mod limits;
mod local;
mod luggage;
mod metrics;
mod migration;
mod moves;
mod names;
mod passivation;
mod policies;
mod processes;
mod protocols;
mod recorder;
mod resources;
mod retry;
mod roles;
mod shutdown;
mod sim;
mod spying;
mod stand_ins;
mod states;
mod strict;
mod stuck;
mod supervision;
mod support;
mod termination;
mod tie;
mod time;
mod tls;
mod values;
mod watching;
mod why;
mod wire;

use casty_tests::raw;
