//! Stored entities from end to end. A binary of its own: a system of a program with stored types
//! needs a journal.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests: tasks of their own"
)]

mod cluster;
mod founded_anew;
mod keys;
mod local;
mod machines;
mod outputs;
mod types;
