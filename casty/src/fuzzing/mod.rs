//! What has to hold of all bytes from outside: one function for each kind of them. It panics where
//! that does not hold.
//!
//! The targets in `fuzz/` call these functions with what a fuzzer makes up, and `tests/fuzzing`
//! with the committed corpora and changes of them. Of each kind of bytes holds:
//!
//! - They are refused, or read. What is read can be written, and what is written is read as the
//!   same.
//! - Reading allocates in proportion to what is read. A length that lies costs nothing.
//! - An error has fewer than 1,024 characters when it is shown.
//!
//! A program that counts allocations says so with [`count_allocations`]; else the second is not
//! checked.

mod check;
mod cluster;
#[cfg(feature = "config")]
mod config;
mod message;
mod persistence;
pub mod seeds;
mod transport;

#[cfg(feature = "config")]
pub use self::config::config;
#[cfg(feature = "tls")]
pub use self::transport::identity;
pub use self::{
    check::count_allocations,
    cluster::{gossip, map_command},
    message::{envelope, event, message},
    persistence::{journal_record, replicated, segment},
    transport::{frame, handshake},
};
