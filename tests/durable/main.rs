//! Stored entities from end to end. A binary of its own: a system of a program with stored types
//! needs a journal.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    unused_must_use,
    reason = "tests: tasks of their own, and an answer that is not the point"
)]

mod accounts;
mod backups;
mod changed_fields;
mod cluster;
mod copies;
mod cut_records;
mod directory;
mod erasure;
mod figures;
mod founded_anew;
mod given_up;
mod history;
mod in_memory;
mod keys;
mod kills;
mod kills_of_a_cluster;
mod lengths;
mod listing;
mod local;
mod machines;
mod noted;
mod outputs;
mod passed;
mod projections;
mod promises;
mod recorder;
mod reminders;
mod sends;
mod streams;
mod too_few;
mod types;
mod unhandled;
