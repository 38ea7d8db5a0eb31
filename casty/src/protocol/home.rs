//! Who owns a shard.

use serde::{Deserialize, Serialize};

use crate::id::Epoch;

/// A member's number in the shard tables. Never used twice in a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Slot(pub(crate) u32);

/// The owner of a shard, and the epoch of the ownership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardHome {
    pub(crate) owner: Option<Slot>,
    /// The epoch of the present owner, or of the last owner.
    pub(crate) epoch: Epoch,
    /// The member that the shard is to move to: the owner hands it over.
    pub(crate) moving: Option<Slot>,
}
