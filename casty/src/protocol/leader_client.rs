//! How a node finds the leader of the cluster map for one proposal or renewal: which voter to ask,
//! how long to wait for it, when to ask another. Asks nothing itself.
//!
//! A voter that does not lead names the leader as far as it knows ("Consensus: Bridging Theory and
//! Practice", Ongaro 2014, section 6.2), and the named one is asked at once. Two voters that name
//! each other must not keep the search busy: after a few such hops it pauses before each next one.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::map::MapError;

/// How often the search follows a voter's word without a pause.
const HOPS_MAX: usize = 3;

/// Why nothing was decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaderError {
    /// The leader has decided against it.
    #[error(transparent)]
    Refused(#[from] MapError),
    /// No leader was reached in time. The proposal may have been applied all the same; every
    /// command may be proposed twice.
    #[error("the cluster map has no leader that can be reached: {0}")]
    Unreachable(String),
}

/// A node's knowledge of the leader at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Candidates<V> {
    /// This node, if it leads as far as its own engine knows.
    pub(crate) myself: Option<V>,
    /// The leader that this node's engine names.
    pub(crate) by_engine: Option<V>,
    /// The last leader that was reached, or named by another voter.
    pub(crate) known: Option<V>,
    pub(crate) voters: Vec<V>,
}

/// The answer of a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VoterReply<V> {
    /// Decided: the version of the map.
    Decided(u64),
    Refused(MapError),
    NotTheLeader {
        leader: Option<V>,
    },
    /// Not decided, or no answer. The proposal may be applied later.
    Undecided(String),
}

/// The effects for the shell, in order. When none is left, it chooses again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SearchEffect<V> {
    /// Ask this voter, and wait so long for its answer.
    Ask {
        voter: V,
        patience: Duration,
    },
    /// Take this voter for the leader from now on.
    Remember(Option<V>),
    /// Choose again then.
    PauseUntil(Instant),
    End(Result<u64, LeaderError>),
}

/// The search for a leader that answers, for one question.
#[derive(Debug)]
pub(crate) struct LeaderSearch<V> {
    until: Instant,
    /// Half of the time at most is given to one voter, so that some is left for another.
    patience_max: Duration,
    backoff: Duration,
    attempt: usize,
    asked: Option<V>,
    reason: String,
}

impl<V: Clone + PartialEq + fmt::Display> LeaderSearch<V> {
    pub(crate) fn new(limit: Duration, backoff: Duration, now: Instant) -> Self {
        Self {
            until: now + limit,
            patience_max: limit / 2,
            backoff,
            attempt: 0,
            asked: None,
            reason: "no voter is known".to_owned(),
        }
    }

    /// Chooses the next voter to ask. After the first choice the time may be up.
    pub(crate) fn choose(&mut self, candidates: &Candidates<V>, now: Instant) -> SearchEffect<V> {
        if self.attempt > 0 && now >= self.until {
            return self.give_up();
        }
        let attempt = self.attempt;
        self.attempt += 1;
        self.asked = candidate(candidates, attempt);
        match self.asked.clone() {
            Some(voter) => SearchEffect::Ask {
                voter,
                patience: self
                    .until
                    .saturating_duration_since(now)
                    .min(self.patience_max),
            },
            None => self.pause(now),
        }
    }

    /// The consequence of a voter's answer.
    pub(crate) fn handle_reply(
        &mut self,
        reply: VoterReply<V>,
        now: Instant,
    ) -> Vec<SearchEffect<V>> {
        let Some(voter) = self.asked.take() else {
            return Vec::new();
        };
        let leader = match reply {
            VoterReply::Decided(version) => {
                let remember = SearchEffect::Remember(Some(voter));
                return vec![remember, SearchEffect::End(Ok(version))];
            }
            VoterReply::Refused(refused) => {
                return vec![SearchEffect::End(Err(refused.into()))];
            }
            VoterReply::NotTheLeader { leader } => {
                self.reason = format!("`{voter}` does not lead");
                leader.filter(|leader| *leader != voter)
            }
            VoterReply::Undecided(reason) => {
                self.reason = format!("`{voter}`: {reason}");
                None
            }
        };
        let is_hop = leader.is_some() && self.attempt <= HOPS_MAX;
        let next = match is_hop {
            _ if now >= self.until => self.give_up(),
            // Chosen again at once.
            true => return vec![SearchEffect::Remember(leader)],
            false => self.pause(now),
        };
        vec![SearchEffect::Remember(leader), next]
    }

    fn pause(&self, now: Instant) -> SearchEffect<V> {
        if now >= self.until {
            return self.give_up();
        }
        SearchEffect::PauseUntil((now + self.backoff).min(self.until))
    }

    fn give_up(&self) -> SearchEffect<V> {
        SearchEffect::End(Err(LeaderError::Unreachable(self.reason.clone())))
    }
}

/// The leader, as far as it is known, or else the voters in turn.
fn candidate<V: Clone>(candidates: &Candidates<V>, attempt: usize) -> Option<V> {
    let Candidates {
        myself,
        by_engine,
        known,
        voters,
    } = candidates;
    // The node's own engine is believed first. If that did not help, what other voters say.
    let by_engine = by_engine.as_ref().filter(|_| attempt == 0);
    let leader = myself.as_ref().or(by_engine).or(known.as_ref());
    let in_turn = || voters.get(attempt % voters.len().max(1));
    leader.or_else(in_turn).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::MemberId, protocol::map::tests::member};

    const MS: Duration = Duration::from_millis(1);
    const LIMIT: Duration = Duration::from_secs(1);
    const BACKOFF: Duration = Duration::from_millis(20);

    fn voter(name: &str) -> MemberId {
        member(name, 1)
    }

    fn candidates(known: Option<&str>, voters: &[&str]) -> Candidates<MemberId> {
        Candidates {
            myself: None,
            by_engine: None,
            known: known.map(voter),
            voters: voters.iter().map(|name| voter(name)).collect(),
        }
    }

    fn ask(name: &str, patience: Duration) -> SearchEffect<MemberId> {
        SearchEffect::Ask {
            voter: voter(name),
            patience,
        }
    }

    fn unreachable(reason: &str) -> SearchEffect<MemberId> {
        SearchEffect::End(Err(LeaderError::Unreachable(reason.to_owned())))
    }

    fn search(now: Instant) -> LeaderSearch<MemberId> {
        LeaderSearch::new(LIMIT, BACKOFF, now)
    }

    #[test]
    fn the_known_leader_is_asked_first_and_remembered_when_it_decides() {
        let (now, known) = (Instant::now(), candidates(Some("b"), &["a", "b"]));
        let mut search = search(now);
        assert_eq!(search.choose(&known, now), ask("b", LIMIT / 2));
        assert_eq!(
            search.handle_reply(VoterReply::Decided(7), now),
            [
                SearchEffect::Remember(Some(voter("b"))),
                SearchEffect::End(Ok(7))
            ]
        );
    }

    #[test]
    fn the_nodes_own_engine_is_believed_once() {
        let now = Instant::now();
        let known = Candidates {
            by_engine: Some(voter("c")),
            ..candidates(Some("b"), &["a", "b", "c"])
        };
        let mut search = search(now);
        assert_eq!(search.choose(&known, now), ask("c", LIMIT / 2));
        search.handle_reply(VoterReply::Undecided("no answer".into()), now);
        assert_eq!(search.choose(&known, now), ask("b", LIMIT / 2));
        // A node that leads asks no other node, however often its own attempt failed.
        let known = Candidates {
            myself: Some(voter("d")),
            ..known
        };
        search.handle_reply(VoterReply::Undecided("no answer".into()), now);
        assert_eq!(search.choose(&known, now), ask("d", LIMIT / 2));
    }

    #[test]
    fn a_leader_that_is_lost_is_forgotten_and_the_voters_are_asked_in_turn() {
        let now = Instant::now();
        let mut search = search(now);
        search.choose(&candidates(Some("a"), &["a", "b", "c"]), now);
        let later = now + LIMIT / 2;
        assert_eq!(
            search.handle_reply(VoterReply::Undecided("no answer".into()), later),
            [
                SearchEffect::Remember(None),
                SearchEffect::PauseUntil(later + BACKOFF)
            ]
        );
        let (later, nothing) = (later + BACKOFF, candidates(None, &["a", "b", "c"]));
        let left = (LIMIT / 2).saturating_sub(BACKOFF);
        assert_eq!(search.choose(&nothing, later), ask("b", left));
        search.handle_reply(VoterReply::NotTheLeader { leader: None }, later);
        assert_eq!(search.choose(&nothing, later), ask("c", left));
    }

    #[test]
    fn a_voters_word_is_followed_at_once_but_not_for_ever() {
        let now = Instant::now();
        let mut search = search(now);
        // Two voters that name each other.
        let mut names = ["a", "b"].into_iter().cycle();
        let mut asked = names.next().unwrap();
        let mut hops = 0;
        loop {
            let known = candidates(Some(asked), &["a", "b"]);
            assert_eq!(search.choose(&known, now), ask(asked, LIMIT / 2));
            asked = names.next().unwrap();
            let leader = Some(voter(asked));
            let reply = VoterReply::NotTheLeader {
                leader: leader.clone(),
            };
            let effects = search.handle_reply(reply, now);
            assert_eq!(effects[0], SearchEffect::Remember(leader));
            if effects[1..] == [SearchEffect::PauseUntil(now + BACKOFF)] {
                break;
            }
            assert_eq!(effects[1..], [], "chosen again at once");
            hops += 1;
        }
        assert_eq!(hops, HOPS_MAX);
    }

    #[test]
    fn a_voter_that_names_itself_is_not_believed() {
        let now = Instant::now();
        let mut search = search(now);
        search.choose(&candidates(Some("a"), &["a"]), now);
        let leader = Some(voter("a"));
        assert_eq!(
            search.handle_reply(VoterReply::NotTheLeader { leader }, now),
            [
                SearchEffect::Remember(None),
                SearchEffect::PauseUntil(now + BACKOFF)
            ]
        );
    }

    #[test]
    fn a_refusal_ends_the_search() {
        let now = Instant::now();
        let mut search = search(now);
        search.choose(&candidates(None, &["a"]), now);
        let refused = MapError::Superseded(voter("x"));
        assert_eq!(
            search.handle_reply(VoterReply::Refused(refused.clone()), now),
            [SearchEffect::End(Err(refused.into()))]
        );
    }

    #[test]
    fn the_search_ends_in_time_and_says_what_failed_last() {
        let now = Instant::now();
        let mut search = search(now);
        search.choose(&candidates(None, &["a"]), now);
        let late = now + LIMIT - 5 * MS;
        let reply = VoterReply::Undecided("no quorum".into());
        assert_eq!(
            search.handle_reply(reply, late),
            [
                SearchEffect::Remember(None),
                SearchEffect::PauseUntil(now + LIMIT)
            ]
        );
        let nothing = candidates(None, &["a"]);
        let reason = format!("`{}`: no quorum", voter("a"));
        assert_eq!(search.choose(&nothing, now + LIMIT), unreachable(&reason));
    }

    #[test]
    fn where_no_voter_is_known_the_search_waits_for_one() {
        let now = Instant::now();
        let mut search = search(now);
        let nothing = candidates(None, &[]);
        let pause = SearchEffect::PauseUntil(now + BACKOFF);
        assert_eq!(search.choose(&nothing, now), pause);
        let known = candidates(None, &["a"]);
        let later = now + BACKOFF;
        assert_eq!(search.choose(&known, later), ask("a", LIMIT / 2));
        let mut search = LeaderSearch::new(Duration::ZERO, BACKOFF, now);
        let nobody = unreachable("no voter is known");
        assert_eq!(search.choose(&nothing, now), nobody);
    }
}
