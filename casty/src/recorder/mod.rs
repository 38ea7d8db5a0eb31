//! The flight recorder: the last messages of an entity, kept while it runs, read when it has
//! failed, and replayed in a test.
//!
//! A recording has, of each message: when it came, from whom, its arguments, what became of it and
//! what it replied, how long its handler took, what the handler asked of other actors with the
//! answers, and the state afterwards; and from time to time a whole state, from which a test goes
//! on: see `testkit::replay`.
//!
//! # What is recorded
//! Nothing, unless it is asked for:
//!
//! - `#[entity(record = 256)]` records all entities of the type, at least the last 256 messages of
//!   each, as far as they fit. The state has to have a wire form, as for `migrate`;
//! - `casty record Account/alice`, or `Admin::record`, records one entity from now on, on the node
//!   where it lives. If its type says neither `record`, nor `migrate`, nor that it is stored, its
//!   state is not known: such a recording can be read, and not be replayed.
//!
//! # What becomes of it
//! When a recorded entity fails, what is recorded is kept: the last 16 of them in memory, where
//! `casty record Account/alice --failed --write FILE` finds them, and each as a file in the folder
//! that [`SystemBuilder::recordings`](crate::SystemBuilder::recordings) names. An entity that is
//! quarantined has failed.
//!
//! # What it costs
//! A recorded entity encodes each message, each reply and its state after each message. One entity
//! has about 2 MiB at most, all of a node 64 MiB, and a node has 1,024 entities; beyond that, the
//! recorder forgets the entity with the oldest last message. A node that records no entity pays
//! nothing.
//!
//! # What is in it
//! The arguments of messages, replies and states. Files are readable by their owner alone, and only
//! operators, and viewers of a dashboard, can ask a node for a recording.

pub(crate) mod answers;
#[cfg(feature = "testkit")]
pub(crate) mod difference;
pub(crate) mod recording;
pub(crate) mod ring;
pub(crate) mod rings;
mod value;

pub use recording::{RecordedTurn, Recording, RecordingError, Section};
