//! Where durable entities are stored.
//!
//! A shard has one writer at a time, the node that owns it, under an epoch. So each shard of a
//! durable type has one log, a [`Log`]. Its owner claims it under its epoch, and from then on the
//! store refuses what an owner with an earlier epoch writes. Positions in a log are dense: the
//! first [`Record`] has position 1, and each other one follows the record before it.
//!
//! [`Journal`] is the trait of a store. [`Memory`] keeps all it is given in memory, for tests.
//! [`SystemBuilder::data_dir`](crate::SystemBuilder::data_dir) is the store of one node alone.

pub(crate) mod backup;
#[cfg(feature = "metrics")]
pub(crate) mod commit_meter;
mod committer;
mod engine;
#[cfg(feature = "testkit")]
pub mod faults;
pub(crate) mod head;
mod inbox;
mod journal;
pub(crate) mod keys;
pub(crate) mod local;
mod memory;
pub(crate) mod opened;
pub(crate) mod outbox;
mod position;
mod progress;
pub(crate) mod projected;
pub(crate) mod record_body;
pub(crate) mod reminder_clock;
pub(crate) mod reminders;
pub(crate) mod replicated;
pub(crate) mod sends;
pub(crate) mod shard_log;
pub(crate) mod store;
#[cfg(feature = "testkit")]
pub mod suite;
#[cfg(all(test, feature = "testkit"))]
mod tests;
pub(crate) mod turns;
pub(crate) mod upkeep;
pub(crate) mod writer;

pub use self::{
    journal::{
        Append, AppendError, Appended, BODY_BYTES_MAX, ClaimError, Journal, JournalError, Log,
        Page, Record, Snapshot, StoredEntity,
    },
    memory::Memory,
    position::Position,
};
