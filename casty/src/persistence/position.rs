//! Places in logs.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// A place in the log of a shard: that of one record, or, if it is 0, that before the first.
///
/// Positions of one shard are ordered; those of different shards cannot be compared.
///
/// ```
/// use casty::persistence::Position;
///
/// let at = |shard, position| Position { kind: "Account".to_owned(), shard, position };
/// assert!(at(3, 17) < at(3, 18));
/// assert_eq!(at(3, 17).partial_cmp(&at(4, 18)), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The wire name of the entity type.
    pub kind: String,
    /// The number of the shard.
    pub shard: u32,
    /// The place in its log.
    pub position: u64,
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let is_same_log = self.kind == other.kind && self.shard == other.shard;
        is_same_log.then(|| self.position.cmp(&other.position))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.kind, self.shard, self.position)
    }
}
