//! Those who decide, as far as this node knows, and its own part in that.

use std::{net::SocketAddr, sync::Arc};

use super::Node;
use crate::{
    cluster::authority::{Voter, raft::RaftEngine},
    id::MemberId,
    observe::sighted,
    protocol::map::{ClusterMap, Seat},
    sync::lock,
};

/// More processes that follow others are not remembered: there are five that decide.
const SUCCESSORS_MAX: usize = 64;

impl Node {
    pub(crate) fn engine(&self) -> Option<Arc<RaftEngine>> {
        lock(&self.engine).clone()
    }

    /// Where this process sits as the one before it did, if it has kept all that counts of it.
    pub(crate) fn kept_seat(&self) -> Option<Seat> {
        *lock(&self.kept)
    }

    /// This node's engine, if it sits there. It is made if it has none, and the seat was given to this very process: from
    /// any other it would have to have kept what was decided and voted there.
    pub(crate) async fn engine_in(
        &self,
        seat: Seat,
        given_to: &MemberId,
    ) -> Result<Arc<RaftEngine>, String> {
        let _one_at_a_time = self.engine_making.lock().await;
        match self.engine() {
            Some(engine) if engine.seat() == seat => return Ok(engine),
            // One process has one seat for as long as it is one member.
            Some(engine) => return Err(format!("{:?} is here", engine.seat())),
            None => {}
        }
        let map = self.map();
        let known = map.and_then(|map| Some(map.member(&self.member())?.seat));
        if !self.is_me(given_to) || known.is_some_and(|known| known != seat) {
            return Err(format!("nobody sits in {seat:?} here"));
        }
        self.start_engine(seat).await
    }

    /// The engine of a founder.
    pub(crate) async fn found_engine(&self, seat: Seat) -> Result<Arc<RaftEngine>, String> {
        let _one_at_a_time = self.engine_making.lock().await;
        self.start_engine(seat).await
    }

    async fn start_engine(&self, seat: Seat) -> Result<Arc<RaftEngine>, String> {
        let (Some(me), session) = (self.me.upgrade(), self.session()) else {
            return Err("this node is shutting down".to_owned());
        };
        let engine = RaftEngine::start(&me, seat).await?;
        if session.is_cancelled() {
            engine.shutdown().await;
            return Err("this node is no member any more".to_owned());
        }
        sighted!(Numbered {
            member: self.member(),
            uuid: self
                .identity()
                .map_or(0, |identity| identity.uuid.as_u128()),
            generation: self.identity().map_or(0, |identity| identity.generation),
            number: seat.0,
        });
        *lock(&self.engine) = Some(engine.clone());
        self.spawn(me.lead(engine.clone()));
        Ok(engine)
    }

    pub(in crate::cluster) fn drop_engine(&self) {
        *lock(&self.engine) = None;
    }

    pub(crate) fn known_leader(&self) -> Option<Voter> {
        lock(&self.leader).clone()
    }

    pub(crate) fn set_leader(&self, leader: Option<Voter>) {
        *lock(&self.leader) = leader;
    }

    /// Those who decide, as far as this node knows. What a seed says goes before a map without this node: that may be of
    /// somebody who was cut off for long, and whoever it names may be gone.
    pub(crate) fn voters(&self) -> Vec<Voter> {
        let map = self.map();
        let of_map = map.iter().flat_map(|map| map.voters.iter());
        let of_map = of_map.map(|voter| self.now_there(voter.into()));
        let me = self.member();
        let is_in = |map: &Arc<ClusterMap>| map.member(&me).is_some();
        if self.address().is_none() && map.is_some() || map.as_ref().is_some_and(is_in) {
            return of_map.collect();
        }
        let introduced = lock(&self.introduced).clone();
        let introduced = introduced.into_iter();
        let mut voters: Vec<_> = introduced.map(|voter| self.now_there(voter)).collect();
        for voter in of_map {
            if !voters.contains(&voter) {
                voters.push(voter);
            }
        }
        voters
    }

    /// Whom a seed named as those who decide.
    pub(crate) fn set_introduced(&self, voters: Vec<Voter>) {
        *lock(&self.introduced) = voters;
    }

    /// A process of this cluster has said that it sits where another of its node sat before.
    pub(crate) fn handle_successor(&self, member: &MemberId, address: SocketAddr) {
        let mut successors = lock(&self.successors);
        let known = successors.get(&member.node);
        if known.is_some_and(|(known, _)| *known >= member.incarnation) {
            return;
        }
        if known.is_none() && successors.len() >= SUCCESSORS_MAX {
            successors.clear();
        }
        successors.insert(member.node.clone(), (member.incarnation, address));
    }

    /// Whether a process follows another that the map knows.
    pub(super) fn is_successor(&self, member: &MemberId) -> bool {
        let successors = lock(&self.successors);
        let known = successors.get(&member.node);
        known.is_some_and(|(incarnation, _)| *incarnation == member.incarnation)
    }

    /// Who sits in a seat that was given to this one, as far as is known here.
    pub(crate) fn in_seat(&self, seat: Seat, given_to: &Voter) -> Voter {
        let map = self.map();
        let mut voters = map.iter().flat_map(|map| map.voters.iter());
        let voter = voters.find(|(_, place)| place.seat == seat);
        self.now_there(voter.map_or_else(|| given_to.clone(), Voter::from))
    }

    /// Who sits now where this one sat, as far as is known here.
    pub(crate) fn now_there(&self, voter: Voter) -> Voter {
        let successors = lock(&self.successors);
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
