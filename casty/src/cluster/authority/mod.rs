//! The authority over the cluster map: its voters, and the clients that reach them.
//!
//! [`Authority`] is the narrow trait; its engine is a Raft group of up to five members, in
//! [`raft`]. A process that proposes a change finds the leader by [`leader_client`], and watches
//! the map by [`map_source`]. The leader's decisions are made in `protocol/leader` and carried out
//! by [`leader_loop`].

pub(crate) mod leader_client;
mod leader_loop;
pub(crate) mod local_voter;
pub(crate) mod map_source;
pub(crate) mod raft;
pub(crate) mod voters;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    cluster::peers::wire::{Answer, Proposal, ProposalError},
    id::{MemberId, Voter},
    protocol::tie::{Report, Stamp},
    transport::connection::Inlet,
};

/// The outcome of a renewal.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    /// A stamp that the member echoes, if the leader has a tie-breaker.
    pub(crate) stamp: Option<Stamp>,
    /// The version of the map that the member may act on.
    pub(crate) result: Result<u64, ProposalError>,
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
/// A node may believe that it leads and be wrong. Only an answer of these functions counts, since a
/// quorum stands behind it.
pub(crate) trait Authority: Send + Sync {
    /// Proposes, and waits until the decision is applied. `Ok` names the map's version then.
    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<u64, ProposalError>>;

    /// Lets a member act as owner for a while longer.
    fn renew(&self, member: MemberId, report: Option<Report>) -> BoxFuture<'_, Renewed>;

    /// The leader, as far as is known here.
    fn leader(&self) -> Option<Voter>;

    /// Sends a watcher what it lacks of the map, and every change from now on.
    fn add_watcher(&self, watcher: &Arc<Inlet>, version: u64);
}
