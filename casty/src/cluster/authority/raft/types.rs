//! The engine's types, and the messages of its members.

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
    /// The engine's types.
    pub(crate) Types:
        D = Decision,
        R = Applied,
        Node = Voter,
        // One leader per term, as in the Raft paper; by default openraft allows several, in an
        // order.
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = EngineRuntime,
);

/// A decision of the authority. All members apply decisions in one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Decision {
    /// The first decision: the map that the cluster begins with.
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

/// The result of a decision: the map's version, or the reason why nothing changed.
pub(crate) type Applied = Result<u64, MapError>;

/// A call from one member of the engine to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RaftCall {
    pub(crate) to: Seat,
    /// The process that was given the seat. Another process of its node may be in it since.
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
