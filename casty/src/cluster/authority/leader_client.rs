//! The search for the leader: a process proposes, follows the hints of voters, and repeats.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::{
        authority::{Authority as _, local_voter::LocalVoter, voters::Voters},
        map_watch::MapWatch,
        peers::{
            Peers,
            wire::{Answer, Call, Proposal, ProposalError},
        },
        tenure::Tenure,
    },
    config::Settings,
    id::Voter,
    protocol::leader_client::{Candidates, LeaderError, LeaderSearch, SearchEffect, VoterReply},
    transport::link::Peer,
};

/// The times of a search for the leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SearchTimes {
    /// The limit of a proposal.
    pub(crate) limit: Duration,
    /// The pause between two tries.
    pub(crate) backoff: Duration,
}

impl From<&Settings> for SearchTimes {
    fn from(settings: &Settings) -> Self {
        Self {
            limit: settings.decide_timeout,
            backoff: settings.backoff,
        }
    }
}

/// What a member adds to a search: its own voter, and what it reports.
pub(crate) struct Hosting {
    pub(crate) voter: Arc<LocalVoter>,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) map: Arc<MapWatch>,
    /// There is a tie-breaker: renewals carry a report.
    pub(crate) reports: bool,
}

/// One incarnation's client of the leader.
pub(crate) struct LeaderClient {
    pub(crate) peers: Arc<Peers>,
    pub(crate) voters: Arc<Voters>,
    pub(crate) times: SearchTimes,
    /// `None` for a process that is no member.
    pub(crate) hosting: Option<Hosting>,
}

impl LeaderClient {
    /// Proposes, and waits for the decision. `Ok` names the version of the map that includes it.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<u64, LeaderError> {
        self.ask(&Call::Propose(proposal), self.times.limit).await
    }

    /// Asks the leader, or a voter that may know it, until the time is up.
    pub(crate) async fn ask(&self, call: &Call, limit: Duration) -> Result<u64, LeaderError> {
        let mut search = LeaderSearch::new(limit, self.times.backoff, Instant::now());
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
                SearchEffect::Remember(leader) => self.voters.set_leader(leader),
                SearchEffect::PauseUntil(until) => tokio::time::sleep_until(until).await,
                SearchEffect::End(result) => return result,
            }
        }
    }

    /// The candidates for the leader, as known now.
    fn candidates(&self) -> Candidates<Voter> {
        let hosting = self.hosting.as_ref();
        let engine = hosting.and_then(|hosting| hosting.voter.engine());
        let leads = engine
            .as_ref()
            .is_some_and(|engine| engine.leads_in().is_some());
        Candidates {
            myself: self.peers.local().as_voter().filter(|_| leads),
            by_engine: engine.and_then(|engine| engine.leader()),
            known: self.voters.leader(),
            voters: self.voters.all(),
        }
    }

    async fn ask_voter(
        &self,
        voter: &Voter,
        call: &Call,
        patience: Duration,
    ) -> Result<u64, ProposalError> {
        let call = self.as_of_now(call)?;
        if let Some(hosting) = &self.hosting
            && self.peers.is_me(&voter.member)
        {
            return match hosting.voter.answer(call).await {
                Answer::Decided(result) | Answer::Stamped(_, result) => result,
                _ => Err(ProposalError::NotTheLeader { leader: None }),
            };
        }
        match self.peers.call(&Peer::from(voter), call, patience).await {
            Ok(Answer::Decided(result)) => result,
            Ok(Answer::Stamped(stamp, result)) => {
                if let Some(hosting) = &self.hosting {
                    hosting.tenure.handle_stamp(stamp);
                }
                result
            }
            Ok(_) => Err(ProposalError::Undecided("a confused answer".to_owned())),
            Err(error) => Err(ProposalError::Undecided(error.to_string())),
        }
    }

    /// The call as it is to be sent now: a renewal with the latest report.
    fn as_of_now(&self, call: &Call) -> Result<Call, ProposalError> {
        let mut call = call.clone();
        if let Call::Renew { report, .. } = &mut call
            && let Some(hosting) = self.hosting.as_ref().filter(|hosting| hosting.reports)
        {
            let version = || hosting.map.get().map_or(0, |map| map.version);
            let over = || ProposalError::Undecided("this membership has ended".to_owned());
            *report = Some(hosting.tenure.report(version).ok_or_else(over)?);
        }
        Ok(call)
    }
}

/// The answer of a voter, as the search takes it.
fn reply_of(result: Result<u64, ProposalError>) -> VoterReply<Voter> {
    match result {
        Ok(version) => VoterReply::Decided(version),
        Err(ProposalError::Refused(refused)) => VoterReply::Refused(refused),
        Err(ProposalError::NotTheLeader { leader }) => VoterReply::NotTheLeader { leader },
        Err(ProposalError::Undecided(reason)) => VoterReply::Undecided(reason),
    }
}
