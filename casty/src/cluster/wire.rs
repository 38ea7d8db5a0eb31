//! What travels on the control lane.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    id::{MemberId, ShardId},
    protocol::{
        facts::{Digest, Facts},
        map::{ClusterMap, Command, Refused},
    },
};

/// From the one who dialed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A datagram of the gossip protocol.
    Gossip(ByteBuf),
    Digest {
        from: MemberId,
        digest: Digest,
    },
    Facts(BTreeMap<MemberId, Facts>),
    Propose {
        id: u64,
        proposal: Proposal,
    },
    /// Send the map, and every change from there on; nothing that `version` has already.
    Watch {
        version: u64,
    },
}

/// From the one who accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response {
    Proposed {
        id: u64,
        result: Result<(), Denied>,
    },
    Map(ClusterMap),
    /// Commands, each with the version it leads to.
    Changes(Vec<(u64, Command)>),
}

/// What is asked of the one who holds the map.
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
pub(crate) enum Denied {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("this node does not hold the cluster map")]
    NotTheVoter,
}
