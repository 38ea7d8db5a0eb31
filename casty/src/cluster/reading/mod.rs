//! Looks at the entities of a type, and at what is stored of them, wherever they are.
//!
//! A [`reader`] asks the owner of each shard, and for a shard without an owner some member that
//! hosts the type: each of those has the journal. [`answer`] is what a node answers.

pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod events;
pub(crate) mod findings;
mod glance;
mod logs;
pub(crate) mod nodes;
pub(crate) mod overview;
pub(crate) mod reader;
pub(crate) mod record;
mod shard;
pub(crate) mod why;
