//! Who decides about the cluster map.
//!
//! [`Authority`] is the narrow trait; its engine is a Raft group of up to five members, in
//! [`raft`]. Whoever else wants something decided finds the leader by [`way`], and watches the map
//! by [`follow`](follow::MapSource). What the leader does with its power is decided in
//! `protocol/leader` and carried out by [`lead`].

pub(crate) mod leader_client;
pub(crate) mod leader_loop;
pub(crate) mod map_source;
pub(crate) mod raft;

use std::{fmt, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::wire::{Answer, Denied, Proposal, Response};
use crate::{
    id::MemberId,
    message::codec,
    protocol::{
        map::{ClusterMap, Command, VoterPlace},
        tie::{Report, Stamp},
    },
    transport::{connection::Inlet, frame::Frame, link::Peer},
};

/// A member that decides, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voter {
    pub(crate) member: MemberId,
    pub(crate) address: SocketAddr,
}

impl Voter {
    pub(crate) fn peer(&self) -> Peer {
        Peer {
            address: self.address,
            member: Some(self.member.clone()),
        }
    }
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.member.fmt(f)
    }
}

impl From<(&MemberId, &VoterPlace)> for Voter {
    fn from((member, place): (&MemberId, &VoterPlace)) -> Self {
        Self {
            member: member.clone(),
            address: place.address,
        }
    }
}

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

/// What becomes of a renewal.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    /// What the member is to echo; from a leader that has a tie-breaker.
    pub(crate) stamp: Option<Stamp>,
    /// The version of the map that the member may act on.
    pub(crate) result: Result<u64, Denied>,
}

impl From<Renewed> for Answer {
    fn from(Renewed { stamp, result }: Renewed) -> Self {
        match stamp {
            Some(stamp) => Self::Stamped(stamp, result),
            None => Self::Decided(result),
        }
    }
}

/// Decides about the cluster map, on a node that takes part in that.
///
/// A node may believe that it leads and be wrong; only what is answered here counts, since a quorum
/// stands behind it.
pub(crate) trait Authority: Send + Sync {
    /// Has a proposal decided and applied. `Ok` names the map's version then.
    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<u64, Denied>>;

    /// Lets a member act as owner for a while longer.
    fn renew(&self, member: MemberId, report: Option<Report>) -> BoxFuture<'_, Renewed>;

    /// The one who leads, as far as is known here.
    fn leader(&self) -> Option<Voter>;

    /// Sends a watcher what it lacks of the map, and every change from now on.
    fn add_watcher(&self, watcher: &Arc<Inlet>, version: u64);
}

/// Sends a response on the control lane.
pub(crate) fn respond(inlet: &Inlet, response: &Response) {
    match codec::to_vec(response) {
        Ok(bytes) => inlet.send(Frame::Control(&bytes)),
        Err(error) => tracing::error!(%error, "a response cannot be encoded"),
    }
}
