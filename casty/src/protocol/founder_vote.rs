//! Founds a cluster with enough of the nodes, where not all seeds answer or not all nodes are known
//! yet: the setting `bootstrap_expect`.
//!
//! - Each seeker votes for one founder, and tells its vote to each process that asks. It votes only
//!   in a round in which `expect` seekers are present, itself included: for the least address of
//!   them.
//! - A seeker that has voted for itself founds once `expect` seekers vote for it, itself included.
//! - A seeker that has voted for itself, and has not founded, *yields* to a lesser address that is
//!   present: it votes for that one, and will never found.
//! - A seeker that has voted for another changes its vote only if that other has yielded. It
//!   follows the other's vote.
//!
//! If `expect` is more than half of all processes that seek, at most one of them founds. Two
//! founders would have a voter in common, which has changed its vote from the one to the other, in
//! one step or several. In the first of these steps the one had yielded, so it never founds. Votes
//! only change to lesser addresses, so in the end all that reach each other vote for the least.
//!
//! The proof is about processes. A process that is started again has forgotten its vote. So two
//! clusters can come to be if a node restarts between its vote and the end of the founding, and is
//! cut off from the founder at the same time. A voter waits for a founder that is gone for good:
//! then it has to be started again, and warns of that.

use std::{collections::BTreeSet, net::SocketAddr};

use crate::id::{FounderVote, Seeker};

/// One seeker's vote.
#[derive(Debug)]
pub(crate) struct Ballot {
    own: SocketAddr,
    expect: u32,
    vote: Option<SocketAddr>,
}

impl Ballot {
    /// `expect`: how many seekers have to vote for a founder.
    pub(crate) fn new(own: SocketAddr, expect: u32) -> Self {
        Self {
            own,
            expect,
            vote: None,
        }
    }

    /// What this seeker tells.
    pub(crate) fn vote(&self) -> Option<FounderVote> {
        let vote = |founder| FounderVote {
            founder,
            expect: self.expect,
        };
        self.vote.map(vote)
    }

    /// Learns from the other seekers that answer in one round, and says whether this process
    /// founds.
    pub(crate) fn handle_round(&mut self, others: &[&Seeker]) -> bool {
        let present: BTreeSet<SocketAddr> = others
            .iter()
            .map(|seeker| seeker.address)
            .chain([self.own])
            .collect();
        let enough = present.len() >= self.expect as usize;
        let least = present.first().copied().unwrap_or(self.own);
        self.vote = match self.vote {
            None => enough.then_some(least),
            Some(vote) if vote == self.own => Some(least.min(vote)),
            Some(vote) => {
                let founder = others.iter().find(|seeker| seeker.address == vote);
                let theirs = founder.and_then(|seeker| seeker.vote.as_ref());
                // A founder without a vote may be another process by now.
                Some(theirs.map_or(vote, |theirs| theirs.founder.min(vote)))
            }
        };
        let is_for_me = |seeker: &&&Seeker| {
            let vote = seeker.vote.as_ref();
            vote.is_some_and(|vote| vote.founder == self.own && vote.expect == self.expect)
        };
        let votes = others.iter().filter(is_for_me).count() + 1;
        self.vote == Some(self.own) && votes >= self.expect as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 100 + n))
    }

    /// A seeker, and for which other it votes.
    fn seeker(n: u16, votes_for: Option<u16>) -> Seeker {
        Seeker {
            address: address(n),
            known: BTreeSet::new(),
            vote: votes_for.map(|founder| FounderVote {
                founder: address(founder),
                expect: 3,
            }),
        }
    }

    fn round(ballot: &mut Ballot, others: &[(u16, Option<u16>)]) -> (Option<u16>, bool) {
        let others: Vec<Seeker> = others.iter().map(|(n, vote)| seeker(*n, *vote)).collect();
        let founds = ballot.handle_round(&others.iter().collect::<Vec<_>>());
        let vote = ballot.vote().map(|vote| vote.founder.port() - 100);
        (vote, founds)
    }

    #[test]
    fn a_seeker_votes_once_enough_are_present_and_founds_once_enough_vote_for_it() {
        let mut one = Ballot::new(address(1), 3);
        assert_eq!(round(&mut one, &[]), (None, false));
        assert_eq!(round(&mut one, &[(2, None)]), (None, false));
        assert_eq!(round(&mut one, &[(2, None), (3, None)]), (Some(1), false));
        assert_eq!(
            round(&mut one, &[(2, Some(1)), (3, Some(2))]),
            (Some(1), false)
        );
        // The votes count although a third is silent now.
        assert_eq!(
            round(&mut one, &[(2, Some(1)), (3, Some(1))]),
            (Some(1), true)
        );
        let mut alone = Ballot::new(address(1), 1);
        assert_eq!(round(&mut alone, &[]), (Some(1), true));
    }

    #[test]
    fn a_vote_for_another_number_does_not_count() {
        let mut one = Ballot::new(address(1), 2);
        // The others expect three.
        assert_eq!(round(&mut one, &[(2, Some(1))]), (Some(1), false));
    }

    #[test]
    fn a_vote_stays_until_its_founder_yields() {
        let mut four = Ballot::new(address(4), 3);
        assert_eq!(round(&mut four, &[(3, None), (5, None)]), (Some(3), false));
        let lesser_one = [(1, Some(1)), (3, Some(3)), (5, Some(3))];
        assert_eq!(round(&mut four, &lesser_one), (Some(3), false));
        // It is silent, or has started again.
        assert_eq!(
            round(&mut four, &[(1, Some(1)), (5, Some(3))]),
            (Some(3), false)
        );
        assert_eq!(
            round(&mut four, &[(1, Some(1)), (3, None)]),
            (Some(3), false)
        );
        assert_eq!(
            round(&mut four, &[(3, Some(1)), (5, Some(3))]),
            (Some(1), false)
        );
    }

    #[test]
    fn a_candidate_yields_to_a_lesser_address_and_never_founds_then() {
        let mut two = Ballot::new(address(2), 3);
        assert_eq!(round(&mut two, &[(3, None), (4, None)]), (Some(2), false));
        let all_for_two = [(1, None), (3, Some(2)), (4, Some(2))];
        assert_eq!(round(&mut two, &all_for_two), (Some(1), false));
        assert_eq!(round(&mut two, &all_for_two[1..]), (Some(1), false));
    }
}
