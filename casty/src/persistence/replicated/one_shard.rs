//! One shard, with what the task has for all shards.

use std::sync::Arc;

use super::{
    changes::Written,
    message::{CopyEnvelope, StoreMessage},
    outgoing::Outgoing,
    outlet::CopyOutlet,
    shard::Shard,
};
use crate::{persistence::local::OpenDirectory, protocol::copies::StoreId};

/// One shard, and the ways out of the task.
pub(super) struct OneShard<'a> {
    pub(super) me: StoreId,
    pub(super) directory: &'a Arc<OpenDirectory>,
    pub(super) outlet: &'a dyn CopyOutlet,
    pub(super) outgoing: &'a mut Outgoing,
    pub(super) shard: &'a mut Shard,
    pub(super) written: &'a mut Written,
}

impl OneShard<'_> {
    pub(super) fn say(&mut self, to: StoreId, message: StoreMessage) {
        self.outgoing.add(self.envelope(to, message));
    }

    pub(super) fn envelope(&self, to: StoreId, message: StoreMessage) -> CopyEnvelope {
        self.shard.envelope(self.me, to, message)
    }
}
