//! The segment log in which a node of casty keeps its durable entities.
//!
//! It is one log for all shards of a node. Each commit is one frame in a file, and one sync before
//! it is acknowledged, whatever the number of shards and records in it. [`Log`] is a store with
//! threads of its own, and [`Store`] the same without; a [`Reader`] reads while commits go on.
//! Programs that use casty need none of this: they write `SystemBuilder::data_dir`.
//!
//! # What is on the disk
//!
//! | file | |
//! |---|---|
//! | `0000000007.segment` | a segment: a header, then frames, each of which is a commit |
//! | `store` | the identity of the store, a UUID |
//! | `home` | where the directory is, and which one: a copy is another one |
//! | `clean` | there if the store was closed: the number of its last commit |
//! | `lock` | locked by the process that has the store open |
//!
//! Segments have a fixed length, and are filled with zeros, by a thread, before they are used: a
//! sync of bytes that overwrite others is about twice as fast as one of a file that grows. A
//! segment that is not needed any more is used again under another number. The number is part of
//! the seed of each checksum in the segment, so nothing that a former segment has left is taken for
//! its own.
//!
//! Claims, cuts, trims and what is forgotten are operations too. Each segment begins with all that
//! is known of each log but its records. So the oldest segment can always be given up, once what is
//! needed of its records and snapshots is copied behind the others.
//!
//! Where a record stands is kept in memory: 32 to 64 bytes a record. It is built
//! from the segments when the store is opened.
//!
//! # What holds
//!
//! - What a commit has acknowledged is there after a crash, and nothing is there that was not
//!   committed. A commit is there as a whole or not at all.
//! - One commit is written at a time. So a crash can leave one frame unfinished, the last one; it
//!   is cut. Anything else that is not as it was written is [damage](Damage): an error with the
//!   file and the offset, when the store is opened or when a record is read. Each record and each
//!   frame has a CRC-32C.
//! - Whole commits that a disk loses at the very end, although it had confirmed them, are noticed
//!   only if the store was closed before. [`Opened::unclean`] says that it was not.
//! - After an error of the disk in a commit nothing more is written until the store is opened
//!   again. That writes its last commit once more: what a failed sync leaves in the memory of the
//!   operating system may not be on the disk.
//! - On a full disk what adds something is refused, and what makes room works.
//! - The files take at most [`Options::factor`] times what is needed, and five segments; and about
//!   half as much again while old segments are copied. Needed are records and snapshots, each with
//!   56 bytes and the id of its entity before the body. A record that is forgotten needs these
//!   bytes still, until the log is trimmed there.
//! - What was forgotten or trimmed stays on the disk until its segment was copied and written
//!   again.
//!
//! # Backups
//!
//! Copy the directory while the store is closed. The copy has the same identity: never open both.
//! [`Opened::copied`] says that a directory is a copy, and a copy is not opened while the original
//! is where it was. What lies on another machine, and a copy of a whole disk, cannot be noticed
//! here.

mod clean;
pub mod disk;
mod error;
mod files;
mod format;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod home;
mod index;
mod log;
mod options;
mod place;
mod reader;
mod record;
mod recover;
mod spares;
mod stage;
mod store;

pub use self::{
    error::{CommitError, Damage, OpenError, ReadError},
    log::Log,
    options::Options,
    reader::Reader,
    record::{Change, Done, Head, LogId, Page, Record, Run, Snapshot, StoredEntity, Tidied},
    store::{Opened, Store, Usage},
};
