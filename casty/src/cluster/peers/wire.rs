//! The messages of the control lane.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    cluster::{
        authority::raft::types::{RaftAnswer, RaftCall},
        peers::reads::{Read, ReadAnswer},
        region::Piece,
    },
    error::StoredError,
    id::{Epoch, MemberId, ShardId, Voter},
    message::codec,
    persistence::replicated::HeldCopy,
    protocol::{
        facts::{Digest, Facts},
        map::{ClusterMap, Command, MapError},
        tie::{Report, Stamp},
    },
    transport::{connection::Inlet, frame::Frame},
};

/// A message from the node that dialed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A datagram of the gossip protocol.
    Gossip(ByteBuf),
    Digest {
        from: MemberId,
        digest: Digest,
    },
    Facts(BTreeMap<MemberId, Facts>),
    /// Asks for the map and every later change, without what `version` has already.
    Watch {
        version: u64,
    },
    /// This node has the map of that version. Watchers report this to a sole voter.
    Has {
        version: u64,
    },
    /// A call, answered under this number.
    Call {
        id: u64,
        call: Call,
    },
}

impl Request {
    /// Whether an encoded request is one that nodes in a cluster send each other all the time, and
    /// no process sends before it is in.
    pub(crate) fn is_gossip(payload: &[u8]) -> bool {
        let name = codec::variant_name(payload);
        matches!(name, Some("Gossip" | "Digest" | "Facts"))
    }
}

/// A message from the node that accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Answer {
        id: u64,
        answer: Answer,
    },
    Map(ClusterMap),
    /// Commands, each with the version it leads to.
    Changes(Vec<(u64, Command)>),
}

/// News of the cluster map.
#[derive(Debug)]
pub(crate) enum MapNews {
    Map(ClusterMap),
    /// Commands, each with the version it leads to.
    Changes(Vec<(u64, Command)>),
}

/// A call of one node to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    Propose(Proposal),
    /// Asks the leader to let this member act as owner for a while longer. Another voter passes it
    /// on, once.
    Renew {
        member: MemberId,
        passed_on: bool,
        /// In a cluster with a tie-breaker.
        report: Option<Report>,
    },
    Raft(Box<RaftCall>),
    /// States of a shard that is about to move to the node that is asked. The shard leaves its
    /// owner at `epoch`.
    Receive {
        kind: String,
        shard: ShardId,
        epoch: Epoch,
        /// Whether this is the first of several parts.
        first: bool,
        part: Vec<Piece>,
    },
    /// Asks for what the node knows.
    Inspect,
    /// Asks the node to begin a new generation from its own map: the other voters are lost.
    Recover {
        /// Recover even if other members seem alive.
        force: bool,
    },
    /// Asks about entities, or erases one.
    Read(Box<Read>),
    /// Asks what the node's store has of shards, whether it is in sync or not.
    Held {
        kind: String,
        shards: Vec<ShardId>,
    },
}

/// A node's knowledge of the cluster, and of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Inspection {
    pub(crate) member: MemberId,
    pub(crate) leader: Option<MemberId>,
    pub(crate) map: Option<ClusterMap>,
    /// Entities alive on members, as far as they have said.
    pub(crate) entities: BTreeMap<MemberId, u64>,
    /// Roles of members, as far as they have said.
    pub(crate) roles: BTreeMap<MemberId, BTreeSet<String>>,
    /// Members that gossip does not reach.
    pub(crate) dead: BTreeSet<MemberId>,
    /// Whether the node holds a lease, and serves its entities.
    pub(crate) serves: bool,
    /// Shards that stayed on the node when they were to move.
    pub(crate) kept: Vec<KeptShard>,
    /// The last processes of stores that have none now, and for how many milliseconds this node has
    /// known that.
    #[serde(default)]
    pub(crate) gone: BTreeMap<MemberId, u64>,
    /// When the node's certificate ends, since the Unix epoch.
    #[serde(default)]
    pub(crate) certificate_until: Option<Duration>,
}

/// A shard that stayed when it was to move.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptShard {
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    pub(crate) reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Inspected(Box<Inspection>),
    Recovered(Result<(), String>),
    /// Whether the shard is expected.
    Received(bool),
    /// The answer to a proposal and a renewal: the version of the map.
    Decided(Result<u64, ProposalError>),
    /// The answer to a renewal, from a leader with a tie-breaker, which wants to get the stamp
    /// back.
    Stamped(Stamp, Result<u64, ProposalError>),
    Raft(Result<Box<RaftAnswer>, String>),
    Read(Result<ReadAnswer, StoredError>),
    /// Shards of which the store has nothing are left out.
    Held(Result<Vec<HeldCopy>, String>),
}

/// A proposal to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Proposal {
    Apply(Command),
    /// Homes for those of the shards that have none.
    Allocate {
        kind: String,
        shards: Vec<ShardId>,
    },
}

/// Why a proposal was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ProposalError {
    /// The leader has decided against it.
    #[error(transparent)]
    Refused(#[from] MapError),
    #[error("this node does not lead")]
    NotTheLeader { leader: Option<Voter> },
    /// The proposal may still be applied later. All commands may be proposed twice.
    #[error("not decided: {0}")]
    Undecided(String),
}

/// Sends a response on the control lane.
pub(crate) fn respond(inlet: &Inlet, response: &Response) {
    match codec::to_vec(response) {
        Ok(bytes) => inlet.send(Frame::Control(&bytes)),
        Err(error) => tracing::error!(%error, "a response cannot be encoded"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::codec,
        protocol::map::{
            ClusterMap,
            tests::{
                copies::{founded_with, kept, up},
                founded, join, member,
            },
        },
    };

    #[test]
    fn gossip_is_told_by_its_name() {
        let said = |request: &Request| Request::is_gossip(&codec::to_vec(request).unwrap());
        assert!(said(&Request::Facts(BTreeMap::new())));
        assert!(said(&Request::Gossip(ByteBuf::new())));
        assert!(!said(&Request::Watch { version: 1 }));
    }

    #[test]
    fn a_map_survives_the_wire() {
        let (mut map, b) = (founded(4), member("b", 1));
        join(&mut map, &b);
        let mut with_copies = founded_with(&kept(4, 3, 2));
        up(&mut with_copies, &b, 2, kept(4, 3, 2));
        assert!(with_copies.store_of(&b).is_some());
        for map in [map, with_copies] {
            let bytes = codec::to_vec(&map).unwrap();
            assert_eq!(codec::decode::<ClusterMap>(&bytes).unwrap(), map);
        }
    }
}
