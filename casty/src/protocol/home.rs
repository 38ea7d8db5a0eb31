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

impl ShardHome {
    /// Whether the shard can be given to a new owner: its epoch is the expected one, and it has no
    /// owner, or one that is Down.
    pub(crate) fn is_free(&self, expected: Epoch, is_down: impl Fn(Slot) -> bool) -> bool {
        self.epoch == expected && self.owner.is_none_or(is_down)
    }

    /// The home of a shard that has been given to a member.
    pub(crate) fn given(to: Slot, epoch: Epoch) -> Self {
        Self {
            owner: Some(to),
            epoch,
            moving: None,
        }
    }

    /// The home once the owner has stopped. The epoch is the next one only if there is a new owner.
    pub(crate) fn released(self, to: Option<Slot>, next: Epoch) -> Self {
        let nobodys = Self {
            owner: None,
            moving: None,
            ..self
        };
        to.map_or(nobodys, |to| Self::given(to, next))
    }
}
