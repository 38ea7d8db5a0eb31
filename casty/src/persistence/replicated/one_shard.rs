//! One shard, with what the task has for all shards.

use std::sync::Arc;

use super::{
    changes::Written,
    message::{CopyEnvelope, StoreMessage},
    outlet::CopyOutlet,
    shard::Shard,
};
use crate::{persistence::local::OpenDirectory, protocol::copies::StoreId};

/// One shard, and the ways out of the task.
pub(super) struct OneShard<'a> {
    pub(super) me: StoreId,
    pub(super) directory: &'a Arc<OpenDirectory>,
    pub(super) outlet: &'a dyn CopyOutlet,
    pub(super) shard: &'a mut Shard,
    pub(super) written: &'a mut Written,
}

impl OneShard<'_> {
    pub(super) fn say(&self, to: StoreId, message: StoreMessage) {
        self.outlet.send(to, vec![self.envelope(to, message)]);
    }

    pub(super) fn envelope(&self, to: StoreId, message: StoreMessage) -> CopyEnvelope {
        CopyEnvelope {
            kind: self.shard.log.kind.clone(),
            shard: self.shard.log.shard,
            from: self.me,
            to,
            message,
        }
    }
}
