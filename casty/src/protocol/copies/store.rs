//! Names of stores.

use std::{fmt, num::NonZeroU16};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A directory of records that outlives its processes. A directory restored from a backup is
/// another store, with another id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StoreId(pub(crate) Uuid);

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
