//! Those who decide, as far as this node knows, and its own part in that.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    cluster::{
        authority::{
            Voter,
            raft::{Disk, EngineStart, RaftEngine, StoredState},
        },
        node::Node,
    },
    id::{ClusterIdentity, MemberId},
    infra::{observe::sighted, sync::lock},
    protocol::map::{ClusterMap, Seat},
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

    /// A process before this one has kept this. Its cluster is this node's, though it is yet to
    /// join it.
    pub(crate) fn set_kept(&self, kept: StoredState) {
        self.set_identity(kept.identity);
        *lock(&self.kept) = Some(kept.seat);
        *lock(&self.kept_state) = Some(kept);
    }

    /// Decides again from the seat that was kept, if there is one.
    pub(crate) async fn sit_again(&self) -> Result<(), String> {
        let _one_at_a_time = self.engine_making.lock().await;
        let Some(kept) = lock(&self.kept_state).take() else {
            return Ok(());
        };
        tracing::info!(seat = ?kept.seat, uuid = %kept.identity.uuid, "goes on from what was kept");
        let kept = EngineStart::StoredState(Box::new(kept));
        self.start_engine(kept).await.map(drop)
    }

    /// This node's engine, if it sits there. It is made if it has none, and the seat was given to
    /// this very process: from any other it would have to have kept what was decided and voted
    /// there.
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
        let may_begin = self.is_me(given_to) && self.kept_seat().is_none();
        if !may_begin || known.is_some_and(|known| known != seat) {
            return Err(format!("nobody sits in {seat:?} here"));
        }
        let identity = self.identity().ok_or("it is in no cluster")?;
        self.start_engine(EngineStart::Taught(identity, seat)).await
    }

    /// The engine of a founder.
    pub(crate) async fn found_engine(
        &self,
        identity: ClusterIdentity,
        seat: Seat,
    ) -> Result<Arc<RaftEngine>, String> {
        let _one_at_a_time = self.engine_making.lock().await;
        let founder = EngineStart::Founder(identity, seat);
        self.start_engine(founder).await
    }

    async fn start_engine(&self, beginning: EngineStart) -> Result<Arc<RaftEngine>, String> {
        let (Some(me), session) = (self.me.upgrade(), self.session()) else {
            return Err("this node is shutting down".to_owned());
        };
        #[cfg(feature = "sim")]
        let kept = matches!(beginning, EngineStart::StoredState(_));
        let engine = RaftEngine::start(&me, beginning).await?;
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
            number: engine.seat().0,
            kept,
        });
        *lock(&self.engine) = Some(engine.clone());
        self.spawn(me.lead(engine.clone()));
        Ok(engine)
    }

    /// Where this node keeps what it decides, if anywhere.
    pub(crate) fn disk(&self) -> Option<&Arc<Disk>> {
        self.setup.disk.as_ref()
    }

    /// Ends its part. What it has kept stays, until it is forgotten or an engine begins anew.
    pub(in crate::cluster) fn drop_engine(&self) {
        *lock(&self.engine) = None;
        *lock(&self.kept) = None;
        if let Some(disk) = self.disk() {
            disk.end_tenancy();
        }
    }

    /// Forgets what it has kept: nobody is going to sit there again.
    pub(in crate::cluster) async fn forget_seat(&self) {
        let own_thread = self.runtime.upkeep().is_own_thread();
        if let Some(disk) = self.disk()
            && let Err(error) = disk.forget(own_thread).await
        {
            // The next process is told that the seat is gone.
            tracing::warn!(%error, "what was kept could not be removed");
        }
    }

    pub(crate) fn known_leader(&self) -> Option<Voter> {
        lock(&self.leader).clone()
    }

    pub(crate) fn set_leader(&self, leader: Option<Voter>) {
        *lock(&self.leader) = leader;
    }

    /// Those who decide, as far as this node knows. What a seed says goes before a map without this
    /// node: that may be of somebody who was cut off for long, and whoever it names may be gone.
    pub(crate) fn voters(&self) -> Vec<Voter> {
        let map = self.map();
        let of_map = map.iter().flat_map(|map| map.voters.iter());
        let of_map = of_map.map(|voter| self.present_voter(voter.into()));
        let me = self.member();
        let is_in = |map: &Arc<ClusterMap>| map.member(&me).is_some();
        if self.address().is_none() && map.is_some() || map.as_ref().is_some_and(is_in) {
            return of_map.collect();
        }
        let introduced = lock(&self.introduced).clone();
        let introduced = introduced.into_iter();
        let mut voters: Vec<_> = introduced.map(|voter| self.present_voter(voter)).collect();
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
        let is_mine = member.node == self.setup.member.node;
        if is_mine || known.is_some_and(|(known, _)| *known >= member.incarnation) {
            return;
        }
        if known.is_none() && successors.len() >= SUCCESSORS_MAX {
            successors.clear();
        }
        successors.insert(member.node.clone(), (member.incarnation, address));
    }

    /// Whether a process decides from a seat that the map says is another's yet.
    pub(crate) fn is_awaited(&self, member: &MemberId, map: &ClusterMap) -> bool {
        let mut voters = map.voters.keys();
        let before =
            |voter: &MemberId| voter.node == member.node && voter.incarnation < member.incarnation;
        let known = lock(&self.successors).get(&member.node).copied();
        known.is_some_and(|(incarnation, _)| incarnation == member.incarnation)
            && map.member(member).is_none()
            && voters.any(before)
    }

    /// Who sits in a seat that was given to this one, as far as is known here.
    pub(crate) fn voter_in(&self, seat: Seat, given_to: &Voter) -> Voter {
        let map = self.map();
        let mut voters = map.iter().flat_map(|map| map.voters.iter());
        let voter = voters.find(|(_, place)| place.seat == seat);
        self.present_voter(voter.map_or_else(|| given_to.clone(), Voter::from))
    }

    /// Who sits now where this one sat, as far as is known here.
    pub(crate) fn present_voter(&self, voter: Voter) -> Voter {
        if voter.member.node == self.setup.member.node && self.kept_seat().is_some() {
            return self.myself().unwrap_or(voter);
        }
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
