//! Where the copies of shards are: the stores that the map knows, and the copies of each type.

use std::{net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::{CopySettings, MemberId},
    protocol::copies::{CopyPlaces, StoreId},
};

/// Where a process is, and what it brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) zone: Option<String>,
    pub(crate) store: Option<StoreId>,
}

/// A store that the map knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StorePlace {
    pub(crate) id: StoreId,
    /// The process that has it, or the last one that had it.
    pub(crate) holder: MemberId,
    /// The entity types in copies that this process hosts, or hosted.
    pub(crate) kinds: Vec<String>,
    /// Whether a process of the store is expected back if there is none: the last one was declared
    /// Down, it has not left, and its node has no other store.
    pub(crate) is_expected: bool,
}

/// The copies of an entity type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KindCopies {
    pub(crate) settings: CopySettings,
    /// How many copies must have what leaves, and how many stay in each set, as of now. It follows
    /// the size of the cluster up to the setting: see
    /// [`copies_min_goal`](super::ClusterMap::copies_min_goal).
    pub(crate) min: u8,
    /// By shard. Versions of the map share them: a command copies only the table that it changes.
    pub(crate) shards: Arc<Vec<CopyPlaces>>,
}
