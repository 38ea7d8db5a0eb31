//! This process as a voter: its engine, if it has one, and the state that was stored for it.

use std::{sync::Arc, time::Duration};

use crate::{
    cluster::{
        authority::{
            Authority as _, Renewed, leader_loop,
            raft::{EngineParts, EngineStart, RaftEngine, StoredState},
            voters::Voters,
        },
        locks::Rank,
        peers::{
            LocalMember,
            wire::{Answer, Call, ProposalError},
        },
        process::Job,
        rumors::Rumors,
        tenure::Tenure,
    },
    id::{ClusterIdentity, MemberId},
    infra::{observe::sighted, sync::Ranked},
    protocol::{map::Seat, tie::Report},
    transport::link::Peer,
};

/// One incarnation as a voter on the cluster map.
pub(crate) struct LocalVoter {
    parts: Arc<EngineParts>,
    local: Arc<LocalMember>,
    voters: Arc<Voters>,
    tenure: Arc<Tenure>,
    rumors: Arc<Rumors>,
    /// The seat of the previous process, which this process keeps.
    kept_seat: Option<Seat>,
    /// The state stored for that seat, until the engine takes it.
    stored: Ranked<Option<StoredState>>,
    engine: Ranked<Option<Arc<RaftEngine>>>,
    /// Held while an engine is made: one at a time.
    making: tokio::sync::Mutex<()>,
}

impl LocalVoter {
    /// `stored`: the state that the previous process has stored.
    pub(crate) fn new(
        parts: Arc<EngineParts>,
        local: Arc<LocalMember>,
        voters: Arc<Voters>,
        tenure: Arc<Tenure>,
        rumors: Arc<Rumors>,
        stored: Option<StoredState>,
    ) -> Self {
        Self {
            parts,
            local,
            voters,
            tenure,
            rumors,
            kept_seat: stored.as_ref().map(|stored| stored.seat),
            stored: Rank::StoredState.mutex(stored),
            engine: Rank::Engine.mutex(None),
            making: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn engine(&self) -> Option<Arc<RaftEngine>> {
        self.engine.lock().clone()
    }

    /// The seat of the previous process, if this process has kept everything that was decided and
    /// voted there.
    pub(crate) fn kept_seat(&self) -> Option<Seat> {
        self.kept_seat
    }

    /// Starts the engine in the kept seat, if there is one.
    pub(crate) async fn sit_again(&self) -> Result<(), String> {
        let _one_at_a_time = self.making.lock().await;
        let stored = self.stored.lock().take();
        let Some(stored) = stored else {
            return Ok(());
        };
        tracing::info!(seat = ?stored.seat, uuid = %stored.identity.uuid, "this node goes on from its stored state");
        let stored = EngineStart::StoredState(Box::new(stored));
        Box::pin(self.start_engine(stored)).await.map(drop)
    }

    /// This node's engine, if it is in that seat. It is made if there is none and the seat was
    /// given to this very process: another process would need everything that was decided and voted
    /// there.
    async fn engine_in(&self, seat: Seat, given_to: &MemberId) -> Result<Arc<RaftEngine>, String> {
        let _one_at_a_time = self.making.lock().await;
        match self.engine() {
            Some(engine) if engine.seat() == seat => return Ok(engine),
            // A process has one seat for as long as it is one member.
            Some(engine) => return Err(format!("{:?} is here", engine.seat())),
            None => {}
        }
        let map = self.parts.map.get();
        let known = map.and_then(|map| Some(map.member(&self.local.member)?.seat));
        let may_begin = self.local.member == *given_to && self.kept_seat.is_none();
        if !may_begin || known.is_some_and(|known| known != seat) {
            return Err(format!("no engine here has {seat:?}"));
        }
        let identity = self.local.identity().ok_or("it is in no cluster")?;
        let taught = EngineStart::Taught(identity, seat);
        // Rare, and the future is large.
        Box::pin(self.start_engine(taught)).await
    }

    /// The engine of a founder.
    pub(crate) async fn found(
        &self,
        identity: ClusterIdentity,
        seat: Seat,
    ) -> Result<Arc<RaftEngine>, String> {
        let _one_at_a_time = self.making.lock().await;
        let founder = EngineStart::Founder(identity, seat);
        Box::pin(self.start_engine(founder)).await
    }

    async fn start_engine(&self, start: EngineStart) -> Result<Arc<RaftEngine>, String> {
        #[cfg(feature = "sim")]
        let kept = matches!(start, EngineStart::StoredState(_));
        let member = self.local.member.clone();
        let (parts, voters) = (self.parts.clone(), self.voters.clone());
        let inputs = self.tenure.inputs.clone();
        let engine = RaftEngine::start(parts, member, voters, inputs, start).await?;
        if self.tenure.session.is_cancelled() {
            engine.shutdown().await;
            return Err("this node is no member any more".to_owned());
        }
        sighted!(Numbered {
            member: self.local.member.clone(),
            uuid: self
                .local
                .identity()
                .map_or(0, |identity| identity.uuid.as_u128()),
            generation: self
                .local
                .identity()
                .map_or(0, |identity| identity.generation.number()),
            number: engine.seat().0,
            kept,
        });
        *self.engine.lock() = Some(engine.clone());
        let (map, tenure) = (self.parts.map.clone(), self.tenure.clone());
        let leading = leader_loop::lead(engine.clone(), map, tenure, self.rumors.clone());
        self.parts.process.spawn(Job::Engine, leading);
        Ok(engine)
    }

    /// Stops the engine. The state on disk stays until it is forgotten, or another engine starts
    /// there.
    pub(crate) fn stop(&self) {
        *self.engine.lock() = None;
        if let Some(disk) = &self.parts.disk {
            disk.end_tenancy();
        }
    }

    /// Answers a call about the map, from a peer or from this node itself.
    pub(crate) async fn answer(&self, call: Call) -> Answer {
        let Some(engine) = (match &call {
            // The leader replicates to this node, which may not have heard of its own seat yet.
            Call::Raft(call) => match self.engine_in(call.to, &call.given_to).await {
                Ok(engine) => Some(engine),
                Err(reason) => return Answer::Raft(Err(reason)),
            },
            _ => self.engine(),
        }) else {
            let leader = self.voters.leader();
            return Answer::Decided(Err(ProposalError::NotTheLeader { leader }));
        };
        match call {
            Call::Propose(proposal) => Answer::Decided(engine.propose(proposal).await),
            Call::Renew {
                member,
                passed_on,
                report,
            } => {
                let renewed = self.renew(&engine, member, passed_on, report);
                renewed.await.into()
            }
            // The engine's futures are large.
            Call::Raft(call) => {
                let answered = Box::pin(engine.answer(*call));
                Answer::Raft(answered.await.map(Box::new))
            }
            Call::Inspect
            | Call::Recover { .. }
            | Call::Receive { .. }
            | Call::Read(_)
            | Call::Held { .. } => {
                Answer::Decided(Err(ProposalError::NotTheLeader { leader: None }))
            }
        }
    }

    /// Grants a lease, or passes the renewal on: a member that cannot reach the leader may reach
    /// another voter that does.
    async fn renew(
        &self,
        engine: &RaftEngine,
        member: MemberId,
        passed_on: bool,
        report: Option<Report>,
    ) -> Renewed {
        let renewed = engine.renew(member.clone(), report).await;
        let Err(ProposalError::NotTheLeader {
            leader: Some(leader),
        }) = &renewed.result
        else {
            return renewed;
        };
        if passed_on || leader.member == self.local.member || leader.member == member {
            return renewed;
        }
        let call = Call::Renew {
            member,
            passed_on: true,
            report,
        };
        let limit: Duration = self.parts.settings.lease / 3;
        let peer = Peer::from(leader);
        let (stamp, result) = match self.parts.peers.call(&peer, call, limit).await {
            Ok(Answer::Decided(result)) => (None, result),
            Ok(Answer::Stamped(stamp, result)) => (Some(stamp), result),
            _ => return renewed,
        };
        match result {
            Ok(_) | Err(ProposalError::Refused(_)) => Renewed { stamp, result },
            // The stamp is useful even so.
            Err(_) => Renewed { stamp, ..renewed },
        }
    }
}
