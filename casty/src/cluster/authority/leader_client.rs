//! The way to the leader, whoever that is just now.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::{
        authority::{Authority, Renewed, Voter},
        node::Node,
        wire::{Answer, Call, Denied, Proposal},
    },
    id::MemberId,
    protocol::{
        leader_client::{Candidates, LeaderError, LeaderSearch, SearchEffect, VoterReply},
        tie::Report,
    },
};

/// Calls of other nodes that are worked on at a time; more are refused. A peer has a handful under
/// way.
pub(crate) const CALLS_MAX: usize = 4096;

impl Node {
    /// Has something decided. `Ok` names the version of the map that has it.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<u64, LeaderError> {
        let limit = self.settings().decide_timeout;
        self.ask_leader(&Call::Propose(proposal), limit).await
    }

    /// Asks the leader, or a voter that may know it, until the time is up.
    pub(crate) async fn ask_leader(
        &self,
        call: &Call,
        limit: Duration,
    ) -> Result<u64, LeaderError> {
        let backoff = self.settings().backoff;
        let mut search = LeaderSearch::new(limit, backoff, Instant::now());
        let mut effects = VecDeque::new();
        loop {
            let effect = effects.pop_front();
            let effect =
                effect.unwrap_or_else(|| search.choose(&self.candidates(), Instant::now()));
            match effect {
                SearchEffect::Ask { voter, patience } => {
                    let reply = reply_of(self.ask_voter(&voter, call, patience).await);
                    effects.extend(search.handle_reply(reply, Instant::now()));
                }
                SearchEffect::Remember(leader) => self.set_leader(leader),
                SearchEffect::PauseUntil(until) => tokio::time::sleep_until(until).await,
                SearchEffect::End(result) => return result,
            }
        }
    }

    /// What is known of the leader now.
    fn candidates(&self) -> Candidates<Voter> {
        let engine = self.engine();
        let leads = engine
            .as_ref()
            .is_some_and(|engine| engine.leads_in().is_some());
        Candidates {
            myself: self.myself().filter(|_| leads),
            by_engine: engine.and_then(|engine| engine.leader()),
            known: self.known_leader(),
            voters: self.voters(),
        }
    }

    /// This node, as others would be told of it.
    pub(crate) fn myself(&self) -> Option<Voter> {
        Some(Voter {
            member: self.member(),
            address: self.address()?,
        })
    }

    async fn ask_voter(
        &self,
        voter: &Voter,
        call: &Call,
        patience: Duration,
    ) -> Result<u64, Denied> {
        let call = self.as_of_now(call)?;
        if voter.member == self.member() {
            return match self.decide_here(call).await {
                Answer::Decided(result) | Answer::Stamped(_, result) => result,
                _ => Err(Denied::NotTheLeader { leader: None }),
            };
        }
        match self.call(&voter.peer(), call, patience).await {
            Ok(Answer::Decided(result)) => result,
            Ok(Answer::Stamped(stamp, result)) => {
                self.renewing().handle_stamp(stamp);
                result
            }
            Ok(_) => Err(Denied::Undecided("a confused answer".to_owned())),
            Err(error) => Err(Denied::Undecided(error.to_string())),
        }
    }

    /// The call, as it is to be sent now: with the last that there is to report.
    fn as_of_now(&self, call: &Call) -> Result<Call, Denied> {
        let mut call = call.clone();
        if let Call::Renew { member, report, .. } = &mut call
            && self.tie_breaker().is_some()
        {
            let over = || Denied::Undecided("this membership has ended".to_owned());
            *report = Some(self.report(member).ok_or_else(over)?);
        }
        Ok(call)
    }

    /// Answers a call of another node.
    pub(crate) async fn answer(&self, call: Call) -> Answer {
        match call {
            Call::Inspect => Answer::Inspected(Box::new(self.inspect())),
            Call::Recover { force } => Answer::Recovered(self.recover(force).await),
            Call::Receive {
                kind,
                shard,
                epoch,
                first,
                parcel,
            } => Answer::Received(self.receive_parcel(&kind, shard, epoch, first, parcel)),
            call => self.decide_here(call).await,
        }
    }

    /// Answers what concerns the map, also for this node itself.
    async fn decide_here(&self, call: Call) -> Answer {
        let Some(engine) = (match &call {
            // The leader teaches this node, which may not have heard of its own seat yet.
            Call::Raft(call) => match self.engine_in(call.to, &call.given_to).await {
                Ok(engine) => Some(engine),
                Err(reason) => return Answer::Raft(Err(reason)),
            },
            _ => self.engine(),
        }) else {
            let leader = self.known_leader();
            return Answer::Decided(Err(Denied::NotTheLeader { leader }));
        };
        match call {
            Call::Propose(proposal) => Answer::Decided(engine.propose(proposal).await),
            Call::Renew {
                member,
                passed_on,
                report,
            } => self
                .renew_here(&*engine, member, passed_on, report)
                .await
                .into(),
            Call::Raft(call) => Answer::Raft(engine.answer(*call).await.map(Box::new)),
            Call::Inspect | Call::Recover { .. } | Call::Receive { .. } => {
                Answer::Decided(Err(Denied::NotTheLeader { leader: None }))
            }
        }
    }

    /// A member that cannot reach the leader may reach somebody who does.
    async fn renew_here(
        &self,
        engine: &dyn Authority,
        member: MemberId,
        passed_on: bool,
        report: Option<Report>,
    ) -> Renewed {
        let renewed = engine.renew(member.clone(), report).await;
        let Err(Denied::NotTheLeader {
            leader: Some(leader),
        }) = &renewed.result
        else {
            return renewed;
        };
        if passed_on || leader.member == self.member() || leader.member == member {
            return renewed;
        }
        let call = Call::Renew {
            member,
            passed_on: true,
            report,
        };
        let limit = self.settings().lease / 3;
        let (stamp, result) = match self.call(&leader.peer(), call, limit).await {
            Ok(Answer::Decided(result)) => (None, result),
            Ok(Answer::Stamped(stamp, result)) => (Some(stamp), result),
            _ => return renewed,
        };
        match result {
            Ok(_) | Err(Denied::Refused(_)) => Renewed { stamp, result },
            // What there is to echo is of use all the same.
            Err(_) => Renewed { stamp, ..renewed },
        }
    }
}

/// The answer of a voter, as the search takes it.
fn reply_of(result: Result<u64, Denied>) -> VoterReply<Voter> {
    match result {
        Ok(version) => VoterReply::Decided(version),
        Err(Denied::Refused(refused)) => VoterReply::Refused(refused),
        Err(Denied::NotTheLeader { leader }) => VoterReply::NotTheLeader { leader },
        Err(Denied::Undecided(reason)) => VoterReply::Undecided(reason),
    }
}
