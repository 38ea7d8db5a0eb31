//! The reports of an [`Admin`](super::Admin). All of them can be serialized, for programs that read
//! them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use serde::{Serialize, Serializer};

use crate::{
    id::{Epoch, MemberId, NodeId, ShardId},
    system::MemberStatus,
};

/// A state of the cluster map. Of two states the later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[non_exhaustive]
pub struct MapVersion {
    /// Grows when the cluster is recovered.
    pub generation: u32,
    /// Counts the changes of the map, in their one order within a generation.
    pub version: u64,
}

/// The members of a cluster, by the most advanced map that a node showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Members {
    /// The map that the report was read from.
    pub map: MapVersion,
    /// The leader. `None` if no leader can be reached: then shards get no homes, and no member
    /// joins or leaves.
    pub leader: Option<MemberId>,
    /// In the order of their names.
    pub members: Vec<MemberReport>,
    /// Processes that answered and are no members by that map: they have not joined yet, or are
    /// about to join again.
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
    /// The stage of its life.
    pub status: MemberStatus,
    /// Whether it is a voter.
    pub votes: bool,
    /// Whether it is the leader.
    pub leads: bool,
    /// Whether it answered. If not, the fields that only the member itself can tell are `None`.
    pub answered: bool,
    /// The member's own map. `None` also if it has no map at the moment.
    pub map: Option<MapVersion>,
    /// Whether it holds a lease, and so its entities handle messages.
    pub serves: Option<bool>,
    /// Shards it owns, over all entity types.
    pub shards: usize,
    /// Entities alive on it: by its own answer, or else by its last report to another node.
    pub entities: Option<u64>,
    /// The roles it was started with: by its own answer, or else by its report to another node.
    /// `None` if no node that answered has heard of them.
    pub roles: Option<BTreeSet<String>>,
    /// Nodes whose gossip takes this member for dead.
    pub dead_to: Vec<NodeId>,
    /// When its certificate ends, in seconds since the Unix epoch. `None` without TLS, too.
    pub certificate_until: Option<u64>,
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
pub struct ShardHomes {
    /// The map that the report was read from.
    pub map: MapVersion,
    /// In the order of their names.
    pub kinds: Vec<KindReport>,
    /// How many shards each member owns, by entity type. Types of which a member owns none are left
    /// out.
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
    /// How its shards are kept in copies, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<CopiesReport>,
    /// The shards that have, or had, an owner. The others have never been used.
    pub homes: Vec<HomeReport>,
}

/// How the shards of an entity type are kept in copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CopiesReport {
    /// How many copies each shard is to have, if there are as many nodes.
    pub copies: usize,
    /// How many of them must have what is acknowledged, as of now.
    pub copies_min: usize,
}

/// Where the copies of one shard are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShardCopiesReport {
    /// The nodes that have all that was acknowledged.
    pub in_sync: Vec<NodeId>,
    /// The node that is to become one of them.
    pub wanted: Option<NodeId>,
    /// The nodes without which nothing is acknowledged now: their processes are gone. If the shard
    /// has an owner, each of them has to come back, unless it is replaced. Without an owner the
    /// first that is back is enough.
    pub waits_for: Vec<NodeId>,
}

/// Where one shard lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HomeReport {
    /// Which shard of its type.
    pub shard: ShardId,
    /// Its owner. `None` until a message needs the shard again.
    pub owner: Option<MemberId>,
    /// The epoch of the ownership. Serialized as text: it has more digits than JSON readers keep.
    #[serde(serialize_with = "as_text")]
    pub epoch: Epoch,
    /// The member that its owner hands it over to.
    pub moving_to: Option<MemberId>,
    /// Where its copies are, if it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<ShardCopiesReport>,
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
    /// Copies of shards that have yet to be made on another member.
    pub copies_left: usize,
    /// Shards of types that no other member hosts: they stay until the process stops.
    pub shards_kept: usize,
    /// Whether it still has a vote.
    pub votes: bool,
}

/// A shard that stayed on its node when it was to move. It is tried again, after longer and longer
/// pauses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StayingShard {
    /// The wire name of its entity type.
    pub kind: String,
    /// Which shard of the type.
    pub shard: ShardId,
    /// Why it stayed the last time.
    pub reason: String,
}

/// A drain that is done: the process may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Drained {
    /// The member that was drained.
    #[serde(flatten)]
    pub id: MemberId,
    /// Shards of types that no other member hosts. They end with the process.
    pub shards_kept: usize,
    /// Whether the member has left the map already, because its process was stopped meanwhile.
    pub left: bool,
}

/// A cluster that goes on in a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Recovered {
    /// The member that decides from now on, under its new incarnation.
    #[serde(flatten)]
    pub id: MemberId,
    /// The map that the new generation began with, or a later one.
    pub map: MapVersion,
    /// Nodes that were asked and did not answer in time: their names, or addresses. They may be
    /// frozen, or out of reach. What they know was not considered.
    pub silent: Vec<String>,
}

// serde calls it with a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(epoch)
}
