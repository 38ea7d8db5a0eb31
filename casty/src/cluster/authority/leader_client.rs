//! The way to the leader, whoever that is just now.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cluster::{
        authority::{Authority, Renewed, Voter},
        node::Node,
        wire::{Answer, Call, Denied, Proposal},
    },
    id::MemberId,
    protocol::{map::MapError, tie::Report},
};

/// Why nothing was decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// Decided: no.
    #[error(transparent)]
    Refused(#[from] MapError),
    /// Nobody who decides could be reached. The proposal may have been applied all the same; all
    /// commands may be proposed twice.
    #[error("the cluster map has no leader that can be reached: {0}")]
    Unreachable(String),
}

/// Calls of other nodes that are worked on at a time; more are refused. A peer has a handful under
/// way.
pub(crate) const CALLS_MAX: usize = 4096;

impl Node {
    /// Has something decided. `Ok` names the version of the map that has it.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<u64, AuthorityError> {
        let limit = self.settings().decide_timeout;
        self.ask_leader(&Call::Propose(proposal), limit).await
    }

    /// Asks the leader, or whoever may know it, until the time is up.
    pub(crate) async fn ask_leader(
        &self,
        call: &Call,
        limit: Duration,
    ) -> Result<u64, AuthorityError> {
        let until = Instant::now() + limit;
        let mut reason = "nobody is known who decides".to_owned();
        for attempt in 0_usize.. {
            let mut redirected = false;
            if let Some(voter) = self.whom_to_ask(attempt) {
                // Half of the time at most, so that there is some left for another.
                let patience = until
                    .saturating_duration_since(Instant::now())
                    .min(limit / 2);
                match self.ask_voter(&voter, call, patience).await {
                    Ok(version) => {
                        self.set_leader(Some(voter));
                        return Ok(version);
                    }
                    Err(Denied::Refused(refused)) => return Err(refused.into()),
                    Err(Denied::NotTheLeader { leader }) => {
                        reason = format!("`{}` does not lead", voter.member);
                        let leader = leader.filter(|leader| *leader != voter);
                        redirected = leader.is_some() && attempt < 3;
                        self.set_leader(leader);
                    }
                    Err(Denied::Undecided(why)) => {
                        reason = format!("`{}`: {why}", voter.member);
                        self.set_leader(None);
                    }
                }
            }
            if Instant::now() >= until {
                break;
            }
            if !redirected {
                let pause = tokio::time::sleep(self.settings().backoff);
                if tokio::time::timeout_at(until, pause).await.is_err() {
                    break;
                }
            }
        }
        Err(AuthorityError::Unreachable(reason))
    }

    /// The leader, as far as it is known, or else the voters in turn.
    fn whom_to_ask(&self, attempt: usize) -> Option<Voter> {
        if let Some(engine) = self.engine() {
            if engine.leads_in().is_some() {
                return self.myself();
            }
            // What one's own engine knows is tried first; if that did not help, what others say.
            if attempt == 0
                && let Some(leader) = engine.leader()
            {
                return Some(leader);
            }
        }
        if let Some(leader) = self.known_leader() {
            return Some(leader);
        }
        let voters = self.voters();
        voters.get(attempt % voters.len().max(1)).cloned()
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
