//! Shards that stayed on this node when they were to move, and why.

use std::collections::BTreeMap;

use crate::{
    cluster::{locks::Rank, peers::wire::KeptShard},
    id::ShardId,
    infra::sync::Ranked,
    protocol::map::{ClusterMap, Slot},
};

/// Shards that a node tells of at a time.
const TOLD_MAX: usize = 100;

/// The reasons of one process, by entity type and shard. There are no more than shards.
pub(crate) struct KeptShards(Ranked<BTreeMap<(String, ShardId), String>>);

impl Default for KeptShards {
    fn default() -> Self {
        Self(Rank::KeptShards.mutex(BTreeMap::new()))
    }
}

impl KeptShards {
    /// A shard stays, for this reason.
    pub(crate) fn note(&self, kind: &str, shard: ShardId, reason: String) {
        self.0.lock().insert((kind.to_owned(), shard), reason);
    }

    /// A shard goes.
    pub(crate) fn forget(&self, kind: &str, shard: ShardId) {
        self.0.lock().remove(&(kind.to_owned(), shard));
    }

    /// The shards that are still on this node, some of them if there are many.
    pub(crate) fn of(&self, map: &ClusterMap, me: Slot) -> Vec<KeptShard> {
        let mut kept = self.0.lock();
        kept.retain(|(kind, shard), _| {
            let home = map
                .kinds
                .get(kind)
                .and_then(|table| table.get(shard.index()));
            home.is_some_and(|home| home.owner == Some(me))
        });
        let told = kept.iter().take(TOLD_MAX);
        told.map(|((kind, shard), reason)| KeptShard {
            kind: kind.clone(),
            shard: *shard,
            reason: reason.clone(),
        })
        .collect()
    }
}
