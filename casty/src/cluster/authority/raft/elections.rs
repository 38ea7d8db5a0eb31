//! The elections of voters, beside the processes that ask for the seats of earlier ones.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use super::store::MapMachine;
use crate::{
    cluster::{locks::Rank, peers::wire::ProposalError},
    id::MemberId,
    infra::sync::Ranked,
    protocol::{
        leader::Electorate,
        map::{ClusterMap, Command, Seat},
        new_voters::{NewVoters, seat_asked_for},
    },
};

/// What one engine knows of elections, while it leads.
pub(super) struct Elections(Ranked<NewVoters>);

impl Default for Elections {
    fn default() -> Self {
        Self(Rank::NewVoters.mutex(NewVoters::default()))
    }
}

impl Elections {
    /// A process joins, maybe in the seat of an earlier one.
    ///
    /// # Errors
    /// The seat is about to get a vote, so whether the process may have it is not known yet.
    pub(super) fn handle_join(
        &self,
        join: &Command,
        map: Option<&ClusterMap>,
    ) -> Result<(), ProposalError> {
        let asked_for = map.and_then(|map| seat_asked_for(join, map));
        match asked_for {
            Some((seat, by)) if !self.0.lock().handle_asked(seat, by, Instant::now()) => {
                let reason = "its seat is about to get a vote".to_owned();
                Err(ProposalError::Undecided(reason))
            }
            _ => Ok(()),
        }
    }

    /// Checks that no process leaves the seats which are to get a vote, and sees to it that none
    /// does until then. `within`: how long it may take.
    pub(super) fn begin(
        &self,
        voters: &BTreeSet<Seat>,
        electorate: &Electorate,
        machine: &MapMachine,
        within: Duration,
    ) -> Result<(), String> {
        let map = machine.map().ok_or("there is no map yet")?;
        let new = voters.difference(&electorate.voters).copied().collect();
        let coming = electorate.undecided.iter();
        let coming = coming.filter_map(|command| seat_asked_for(command, &map));
        let coming = coming.map(|(seat, _)| seat);
        let left = coming.chain(machine.left()).collect();
        let sits = |seat, process: &MemberId| {
            let member = map.member(process);
            member.is_some_and(|member| member.seat == seat)
        };
        let until = Instant::now() + within;
        let begun = self.0.lock().begin_election(new, &left, sits, until);
        begun.map_err(|seat| format!("{seat:?} is left by its process"))
    }

    /// The engine has decided.
    pub(super) fn end(&self) {
        self.0.lock().end_election();
    }
}
