//! One incarnation of a node as a member. The next incarnation replaces it whole.
//!
//! What becomes of an incarnation is decided by the machine in
//! [`protocol::membership`](crate::protocol::membership). [`driver`] drives it; what takes time is
//! in [`operations`]; a node's way out is in [`leave`].

pub(crate) mod driver;
pub(crate) mod leave;
pub(crate) mod operations;

use std::sync::Arc;

use crate::cluster::{
    authority::{
        leader_client::{Hosting, LeaderClient, SearchTimes},
        local_voter::LocalVoter,
        raft::{EngineParts, StoredState},
        voters::{Successors, Trust, Voters},
    },
    contact::Contact,
    membership_inputs::MembershipInputs,
    peers::LocalMember,
    rumors::Rumors,
    tenure::Tenure,
};

/// One incarnation of a node.
pub(crate) struct Membership {
    pub(crate) contact: Arc<Contact>,
    pub(crate) voter: Arc<LocalVoter>,
    pub(crate) rumors: Arc<Rumors>,
}

impl Membership {
    /// `stored`: the state that the previous process has stored. `successors` outlive an
    /// incarnation, since they concern other nodes.
    pub(crate) fn new(
        parts: &Arc<EngineParts>,
        local: Arc<LocalMember>,
        inputs: Arc<MembershipInputs>,
        successors: Arc<Successors>,
        stored: Option<StoredState>,
    ) -> Self {
        let (process, map) = (parts.process.clone(), parts.map.clone());
        let voters = Voters::new(local.clone(), map.clone(), Trust::OnceListed, successors);
        let voters = Arc::new(voters);
        let (tenure, rumors) = (
            Arc::new(Tenure::new(&process, inputs)),
            Arc::new(Rumors::default()),
        );
        let voter = Arc::new(LocalVoter::new(
            parts.clone(),
            local.clone(),
            voters.clone(),
            tenure.clone(),
            rumors.clone(),
            stored,
        ));
        let leader = LeaderClient {
            peers: parts.peers.clone(),
            voters,
            times: SearchTimes::from(&parts.settings),
            hosting: Some(Hosting {
                voter: voter.clone(),
                tenure: tenure.clone(),
                map: map.clone(),
                reports: parts.breaker.is_some(),
            }),
        };
        Self {
            contact: Arc::new(Contact::new(process, map, local, tenure, leader)),
            voter,
            rumors,
        }
    }
}
