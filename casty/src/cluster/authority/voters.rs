//! The voters and the leader, as far as this process knows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    cluster::{locks::Rank, map_watch::MapWatch, peers::LocalMember},
    id::{Incarnation, MemberId, NodeId, Voter},
    infra::sync::Ranked,
    protocol::map::{ClusterMap, Seat},
};

/// More successors are not remembered: there are five voters.
const SUCCESSORS_MAX: usize = 64;

/// Processes in the seats of previous processes of their nodes, as long as the map does not know
/// them.
///
/// This outlives a membership: it concerns other nodes.
pub(crate) struct Successors {
    known: Ranked<BTreeMap<NodeId, (Incarnation, SocketAddr)>>,
    /// Processes that are being asked whether they are successors.
    asked: Ranked<BTreeSet<MemberId>>,
}

impl Default for Successors {
    fn default() -> Self {
        Self {
            known: Rank::Successors.mutex(BTreeMap::new()),
            asked: Rank::Successors.mutex(BTreeSet::new()),
        }
    }
}

/// When to trust the map's list of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Once the map has this member: an older map may come from a node that was cut off for long,
    /// and its voters may be gone. What a seed says goes first until then.
    OnceListed,
    /// Always: this process is in no map.
    Always,
}

#[derive(Default)]
struct Known {
    leader: Option<Voter>,
    /// The voters that a seed named when this process began to join.
    introduced: Vec<Voter>,
}

/// The voters and the leader, as far as one incarnation knows them.
pub(crate) struct Voters {
    local: Arc<LocalMember>,
    map: Arc<MapWatch>,
    trust: Trust,
    known: Ranked<Known>,
    successors: Arc<Successors>,
}

impl Voters {
    pub(crate) fn new(
        local: Arc<LocalMember>,
        map: Arc<MapWatch>,
        trust: Trust,
        successors: Arc<Successors>,
    ) -> Self {
        Self {
            local,
            map,
            trust,
            known: Rank::Known.mutex(Known::default()),
            successors,
        }
    }

    pub(crate) fn successors(&self) -> &Arc<Successors> {
        &self.successors
    }

    /// Whether this process is a client, which no map names.
    pub(crate) fn is_in_no_map(&self) -> bool {
        self.trust == Trust::Always
    }

    pub(crate) fn leader(&self) -> Option<Voter> {
        self.known.lock().leader.clone()
    }

    pub(crate) fn set_leader(&self, leader: Option<Voter>) {
        self.known.lock().leader = leader;
    }

    pub(crate) fn set_introduced(&self, voters: Vec<Voter>) {
        self.known.lock().introduced = voters;
    }

    /// The voters to ask.
    pub(crate) fn all(&self) -> Vec<Voter> {
        let map = self.map.get();
        let of_map = map.iter().flat_map(|map| map.voters.iter());
        let of_map = of_map.map(|voter| self.present_voter(voter.into()));
        let trusted = map.as_ref().is_some_and(|map| match self.trust {
            Trust::Always => true,
            Trust::OnceListed => map.member(&self.local.member).is_some(),
        });
        if trusted {
            return of_map.collect();
        }
        let introduced = self.known.lock().introduced.clone();
        let introduced = introduced.into_iter();
        let mut voters: Vec<_> = introduced.map(|voter| self.present_voter(voter)).collect();
        for voter in of_map {
            if !voters.contains(&voter) {
                voters.push(voter);
            }
        }
        voters
    }

    /// A process of this cluster has reported that it keeps the seat of its node's previous
    /// process.
    pub(crate) fn handle_successor(&self, member: &MemberId, address: SocketAddr) {
        let mut successors = self.successors.known.lock();
        let known = successors.get(&member.node);
        let is_mine = member.node == self.local.member.node;
        if is_mine || known.is_some_and(|(known, _)| *known >= member.incarnation) {
            return;
        }
        if known.is_none() && successors.len() >= SUCCESSORS_MAX {
            successors.clear();
        }
        successors.insert(member.node.clone(), (member.incarnation, address));
    }

    /// Whether a process that claims to keep the seat of its node's previous process is to be asked
    /// now: it may be one, is not known as one, and is not being asked. Two processes that claim it
    /// would otherwise ask each other for ever, as each question makes the claim again.
    pub(crate) fn begin_asking(&self, member: &MemberId) -> bool {
        let known = self.successors.known.lock().get(&member.node).copied();
        let is_known = known.is_some_and(|(known, _)| known >= member.incarnation);
        if is_known || member.node == self.local.member.node {
            return false;
        }
        let mut asked = self.successors.asked.lock();
        asked.len() < SUCCESSORS_MAX && asked.insert(member.clone())
    }

    pub(crate) fn end_asking(&self, member: &MemberId) {
        self.successors.asked.lock().remove(member);
    }

    /// Whether a process votes from a seat that belongs to another process according to the map.
    pub(crate) fn is_awaited(&self, member: &MemberId, map: &ClusterMap) -> bool {
        let mut voters = map.voters.keys();
        let before =
            |voter: &MemberId| voter.node == member.node && voter.incarnation < member.incarnation;
        let known = self.successors.known.lock().get(&member.node).copied();
        known.is_some_and(|(incarnation, _)| incarnation == member.incarnation)
            && map.member(member).is_none()
            && voters.any(before)
    }

    /// The process in a seat now, as far as this process knows. `given_to`: the process that was
    /// given the seat.
    pub(crate) fn voter_in(&self, seat: Seat, given_to: &Voter) -> Voter {
        let map = self.map.get();
        let mut voters = map.iter().flat_map(|map| map.voters.iter());
        let voter = voters.find(|(_, place)| place.seat == seat);
        self.present_voter(voter.map_or_else(|| given_to.clone(), Voter::from))
    }

    /// The process now in this voter's seat, as far as this process knows.
    fn present_voter(&self, voter: Voter) -> Voter {
        if voter.member.node == self.local.member.node && self.local.keeps_seat() {
            return self.local.as_voter().unwrap_or(voter);
        }
        let successors = self.successors.known.lock();
        match successors.get(&voter.member.node) {
            Some((incarnation, address)) if *incarnation > voter.member.incarnation => Voter {
                member: MemberId {
                    incarnation: *incarnation,
                    ..voter.member
                },
                address: *address,
            },
            _ => voter,
        }
    }
}
