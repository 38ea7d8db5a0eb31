//! One incarnation's contact with its cluster: what a member and a client have in common.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    cluster::{
        authority::{leader_client::LeaderClient, map_source::MapSource, voters::Voters},
        map_watch::MapWatch,
        peers::{LocalMember, Peers},
        process::Process,
        tenure::Tenure,
    },
    id::Voter,
    protocol::membership::{Introduction, MembershipInput},
    transport::handshake::HandshakeRefusal,
};

/// One incarnation's contact with its cluster.
pub(crate) struct Contact {
    pub(crate) process: Arc<Process>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) map: Arc<MapWatch>,
    pub(crate) local: Arc<LocalMember>,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) voters: Arc<Voters>,
    pub(crate) leader: LeaderClient,
    pub(crate) source: MapSource,
}

impl Contact {
    pub(crate) fn new(
        process: Arc<Process>,
        map: Arc<MapWatch>,
        local: Arc<LocalMember>,
        tenure: Arc<Tenure>,
        leader: LeaderClient,
    ) -> Self {
        let (peers, voters) = (leader.peers.clone(), leader.voters.clone());
        let source = MapSource::new(process.clone(), peers.clone(), map.clone(), voters.clone());
        Self {
            process,
            peers,
            map,
            local,
            tenure,
            voters,
            leader,
            source,
        }
    }

    /// Takes this cluster for the process's own.
    pub(crate) fn meet(&self, cluster: Introduction) {
        self.local.set_identity(cluster.identity);
        let voters = cluster.voters.into_iter();
        let voters = voters.map(|(member, address)| Voter { member, address });
        self.voters.set_introduced(voters.collect());
    }

    /// A peer at this address refuses this process.
    pub(crate) fn handle_refusal(&self, address: SocketAddr, refusal: &HandshakeRefusal) {
        if let HandshakeRefusal::OtherMember {
            expected,
            found,
            keeps_seat: true,
        } = refusal
            && expected.node == found.node
        {
            self.voters.handle_successor(found, address);
        }
        let inputs = &self.tenure.inputs;
        match refusal {
            HandshakeRefusal::Down(member) => inputs.tell(MembershipInput::Down(member.clone())),
            // A client's cluster may be gone. Of a member, the map says what has become.
            HandshakeRefusal::OtherMember { .. } | HandshakeRefusal::OtherCluster { .. }
                if self.local.as_voter().is_none() =>
            {
                inputs.tell(MembershipInput::Stranger);
            }
            // The cluster was reborn without this node.
            HandshakeRefusal::Generation { ours, theirs } if ours < theirs => {
                inputs.tell(MembershipInput::Generation(*theirs, address));
            }
            _ => {}
        }
    }
}
