//! Names of stores.

use std::{fmt, num::NonZeroU16};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A directory of records that outlives its processes. A directory restored from a backup is
/// another store, with another id. So is the memory of a process that keeps its records there: it
/// is gone with the process, and its id says that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoreId(pub(crate) Uuid);

/// The ids of stores in memory are UUIDs of this version, which is for uses of one's own. No other
/// store has one.
const VOLATILE: usize = 8;

impl StoreId {
    /// A new id of a store in memory.
    pub(crate) fn in_memory(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_custom_bytes(random).into_uuid())
    }

    /// Whether the store is gone for good when its process is.
    pub(crate) fn is_in_memory(self) -> bool {
        self.0.get_version_num() == VOLATILE
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A store's number in the map, so that the copies of a shard take little room. The map uses it
/// for one store as long as it knows that store. A command that adds or drops a copy names the
/// store by its id: by then the number may be another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoreNo(pub(crate) NonZeroU16);

impl StoreNo {
    /// The number after this one, from the first again after the last.
    pub(crate) fn next(self) -> Self {
        Self(self.0.checked_add(1).unwrap_or(NonZeroU16::MIN))
    }
}

impl fmt::Display for StoreNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_store_says_whether_it_is_in_memory() {
        assert!(StoreId::in_memory([7; 16]).is_in_memory());
        assert!(StoreId::in_memory([0xff; 16]).is_in_memory());
        assert!(!StoreId(Uuid::now_v7()).is_in_memory());
        assert!(!StoreId(Uuid::from_u128(3)).is_in_memory());
    }
}
