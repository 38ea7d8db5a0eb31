//! What an [`Admin`](super::Admin) reports. All of it can be serialized, for programs that read it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Serialize, Serializer};

use crate::{
    id::{Epoch, MemberId, NodeId, ShardId},
    system::MemberStatus,
};

/// Which state of the cluster map: the later of two is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct MapVersion {
    /// Grows when the cluster is recovered.
    pub generation: u32,
    /// Counts the changes; within a generation there is one order of them.
    pub version: u64,
}

/// The members of a cluster, by the most advanced map that a node showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Members {
    /// The map that this was read from.
    pub map: MapVersion,
    /// Who leads. `None`: nobody who can be reached does, so no home is given, and nobody joins or
    /// leaves.
    pub leader: Option<MemberId>,
    /// In the order of their names.
    pub members: Vec<MemberReport>,
    /// Processes that answered and are no members by that map: they have not joined yet, or are
    /// about to join anew.
    pub outside: Vec<Outsider>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemberReport {
    /// Its name and incarnation.
    #[serde(flatten)]
    pub id: MemberId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it is in its life.
    pub status: MemberStatus,
    /// Whether it has a vote in what becomes of the map.
    pub votes: bool,
    /// Whether it leads those who vote.
    pub leads: bool,
    /// Whether it answered. What only itself can tell is `None` otherwise.
    pub answered: bool,
    /// The map it has itself; `None` also if it has none just now.
    pub map: Option<MapVersion>,
    /// Whether it holds a lease, and its entities handle messages.
    pub serves: Option<bool>,
    /// Shards it owns, over all entity types.
    pub shards: usize,
    /// Entities alive on it: as it says itself, or else as it told another node last.
    pub entities: Option<u64>,
    /// The roles it was started with: as it says itself, or else as it told another node. `None` if
    /// nobody who answered has heard.
    pub roles: Option<BTreeSet<String>>,
    /// Nodes whose gossip takes it for dead.
    pub dead_to: Vec<NodeId>,
}

/// A process that belongs to the cluster and is no member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Outsider {
    /// Its name and incarnation.
    #[serde(flatten)]
    pub id: MemberId,
    /// Where it answered.
    pub address: SocketAddr,
}

/// The shards of a cluster, by the most advanced map that a node showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Shards {
    /// The map that this was read from.
    pub map: MapVersion,
    /// In the order of their names.
    pub kinds: Vec<KindReport>,
    /// How many shards each member owns, by entity type. A type of which it owns none is left out.
    pub members: Vec<ShardTotals>,
}

/// The shards of one entity type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KindReport {
    /// The wire name of the type.
    pub name: String,
    /// How many shards it has.
    pub shards: usize,
    /// Those that have, or had, an owner. The others have never been used.
    pub homes: Vec<HomeReport>,
}

/// Where one shard lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HomeReport {
    /// Which shard of its type.
    pub shard: ShardId,
    /// Its owner; `None` until somebody needs it again.
    pub owner: Option<MemberId>,
    /// Since which ownership. As text when serialized: it has more digits than JSON readers keep.
    #[serde(serialize_with = "as_text")]
    pub epoch: Epoch,
    /// Where its owner hands it over to.
    pub moving_to: Option<MemberId>,
}

/// How many shards one member owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShardTotals {
    /// Its name and incarnation.
    #[serde(flatten)]
    pub id: MemberId,
    /// By entity type.
    pub kinds: BTreeMap<String, usize>,
    /// Over all types.
    pub total: usize,
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DrainProgress {
    /// Shards that have yet to go to another member.
    pub shards_left: usize,
    /// Shards of types that no other member hosts: they stay until the process stops.
    pub shards_kept: usize,
    /// Whether it still has a vote.
    pub votes: bool,
}

/// A drain that is done: the process may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Drained {
    /// Who was drained.
    #[serde(flatten)]
    pub id: MemberId,
    /// Shards of types that no other member hosts. They go with the process.
    pub shards_kept: usize,
    /// It has left the map already: its process was stopped meanwhile.
    pub left: bool,
}

/// A cluster that goes on in a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Recovered {
    /// Who decides from here on, as the new member that it is now.
    #[serde(flatten)]
    pub id: MemberId,
    /// The map that the new generation began with, or a later one.
    pub map: MapVersion,
}

// By reference: that is what serde calls.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(epoch)
}
