//! What the engine is made of, and what its members say to each other.

use std::fmt;

use openraft::{
    alias::{SnapshotMetaOf, VoteOf},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::runtime::EngineRuntime;
use crate::{
    id::{MemberId, Voter},
    protocol::map::{ClusterMap, Command, MapError, Seat},
};

openraft::declare_raft_types!(
    /// What the engine is made of.
    pub(crate) Types:
        D = Decision,
        R = Applied,
        Node = Voter,
        // One leader a term, as in the paper; by default there may be several, in an order.
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = EngineRuntime,
);

/// What the authority decides, in one order for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Decision {
    /// The first of all: the map that the cluster begins with.
    Found(Box<ClusterMap>),
    Change(Command),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(map) => write!(f, "found {}", map.identity.uuid),
            Self::Change(command) => write!(f, "{command:?}"),
        }
    }
}

/// What became of a decision: the map's version, or why it changed nothing.
pub(crate) type Applied = Result<u64, MapError>;

/// What one member of the engine asks of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RaftCall {
    pub(crate) to: Seat,
    /// The process that was given that seat. Another process of its node may sit there since.
    pub(crate) given_to: MemberId,
    pub(crate) ask: RaftAsk,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RaftAsk {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Snapshot {
        vote: VoteOf<Types>,
        meta: SnapshotMetaOf<Types>,
        map: ByteBuf,
    },
    Transfer(TransferLeaderRequest<Types>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RaftAnswer {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    Snapshot(SnapshotResponse<Types>),
    Transfer(TransferLeaderResponse<Types>),
}

/// The seat that the engine knows by this number.
pub(super) fn seat(id: u64) -> Seat {
    Seat(u32::try_from(id).unwrap_or(u32::MAX))
}

pub(super) fn text(error: impl fmt::Display) -> String {
    error.to_string()
}
