//! From which voter a node watches the cluster map, and when it changes to another. Sends nothing
//! itself.
//!
//! A node whose own engine votes needs no source, unless that engine is behind. Every other node
//! watches one voter. It keeps that voter while it votes, is connected, and knows every version
//! that this node has heard of.

use std::time::Duration;

use tokio::time::Instant;

/// A source that is not connected, or is behind, for so long is exchanged for another.
const PATIENCE: Duration = Duration::from_millis(400);

/// How often a process that is told of no version asks its source whether it is still watched. A
/// voter that has restarted its engine has forgotten its watchers.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// A node's knowledge when it looks after its source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceView<'a, V> {
    /// The version of the map that this node has.
    pub(crate) version: u64,
    /// This node's own engine votes, and applies what is decided.
    pub(crate) votes: bool,
    /// The other voters.
    pub(crate) voters: &'a [V],
    /// Whether the present source is connected.
    pub(crate) is_connected: bool,
    /// Whether this process is told of versions by other messages: a member is, when it renews its
    /// lease.
    pub(crate) is_told: bool,
    /// The position at which a node without a source begins its search.
    pub(crate) random: u64,
}

/// The effect for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceEffect<V> {
    /// Ask the present source again: its connection may be new.
    WatchAgain,
    /// Watch this voter from now on.
    Watch(V),
    /// Watch no voter.
    Stop,
}

/// The choice of a source.
#[derive(Debug)]
pub(crate) struct SourceChoice<V> {
    source: Option<Chosen<V>>,
    /// The turn of the present source, among the voters.
    turn: Option<u64>,
    /// A map of this version exists.
    needed: u64,
}

#[derive(Debug)]
struct Chosen<V> {
    voter: V,
    /// Since when it has been of no use.
    useless: Option<Instant>,
    /// When it was asked, if it has not answered since.
    asked: Option<Instant>,
    /// When it is asked again, although nothing is amiss.
    ask_at: Instant,
}

impl<V> Default for SourceChoice<V> {
    fn default() -> Self {
        Self {
            source: None,
            turn: None,
            needed: 0,
        }
    }
}

impl<V: Clone + PartialEq> SourceChoice<V> {
    /// A map of this version exists.
    pub(crate) fn handle_version(&mut self, version: u64) {
        self.needed = self.needed.max(version);
    }

    /// The source has sent something of the map.
    pub(crate) fn handle_news(&mut self, now: Instant) {
        if let Some(source) = &mut self.source {
            source.asked = None;
            source.ask_at = now + ASK_EVERY;
        }
    }

    /// The effects that the source needs now.
    pub(crate) fn handle_tick(
        &mut self,
        view: &SourceView<'_, V>,
        now: Instant,
    ) -> Option<SourceEffect<V>> {
        let behind = self.needed > view.version;
        if view.votes && !behind {
            return self.stop();
        }
        if let Some(present) = &mut self.source {
            let votes = view.voters.contains(&present.voter);
            let is_silent = present.asked.is_some_and(|asked| asked + PATIENCE <= now);
            if votes && view.is_connected && !behind && !is_silent {
                present.useless = None;
                if view.is_told || present.asked.is_some() || now < present.ask_at {
                    return None;
                }
                present.asked = Some(now);
                return Some(SourceEffect::WatchAgain);
            }
            let since = *present.useless.get_or_insert(now);
            if votes && !is_silent && now.saturating_duration_since(since) < PATIENCE {
                return (!view.is_connected).then_some(SourceEffect::WatchAgain);
            }
        }
        if view.voters.is_empty() {
            return self.stop();
        }
        // Each node begins somewhere else, and goes round.
        let turn = self
            .turn
            .map_or(view.random >> 1, |turn| turn.wrapping_add(1));
        self.turn = Some(turn);
        let at = usize::try_from(turn % view.voters.len() as u64).unwrap_or(0);
        let voter = view.voters[at].clone();
        self.source = Some(Chosen {
            voter: voter.clone(),
            useless: None,
            asked: None,
            ask_at: now,
        });
        Some(SourceEffect::Watch(voter))
    }

    fn stop(&mut self) -> Option<SourceEffect<V>> {
        self.source.take().map(|_| SourceEffect::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn view<'a>(voters: &'a [&'a str]) -> SourceView<'a, &'a str> {
        SourceView {
            version: 5,
            votes: false,
            voters,
            is_connected: true,
            is_told: true,
            random: 0,
        }
    }

    const A: Option<SourceEffect<&str>> = Some(SourceEffect::Watch("a"));
    const B: Option<SourceEffect<&str>> = Some(SourceEffect::Watch("b"));
    const C: Option<SourceEffect<&str>> = Some(SourceEffect::Watch("c"));

    #[test]
    fn a_source_is_kept_while_it_is_of_use() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        let all = view(&["a", "b"]);
        assert_eq!(choice.handle_tick(&all, now), A);
        assert_eq!(choice.handle_tick(&all, now), None);
        assert_eq!(choice.handle_tick(&all, now + 100 * PATIENCE), None);
    }

    #[test]
    fn a_source_that_does_not_answer_is_exchanged_where_nothing_else_tells_of_versions() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        let client = SourceView {
            is_told: false,
            ..view(&["a", "b"])
        };
        let again = Some(SourceEffect::WatchAgain);
        assert_eq!(choice.handle_tick(&client, now), A);
        assert_eq!(choice.handle_tick(&client, now), again);
        choice.handle_news(now);
        assert_eq!(choice.handle_tick(&client, now + ASK_EVERY - MS), None);
        // It has forgotten this process, whose connection stands.
        let asked = now + ASK_EVERY;
        assert_eq!(choice.handle_tick(&client, asked), again);
        assert_eq!(choice.handle_tick(&client, asked + PATIENCE - MS), None);
        assert_eq!(choice.handle_tick(&client, asked + PATIENCE), B);
        // The next one is asked at once.
        assert_eq!(choice.handle_tick(&client, asked + PATIENCE), again);
    }

    #[test]
    fn a_lost_source_is_asked_again_for_a_while_and_then_exchanged() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        let lost = SourceView {
            is_connected: false,
            ..view(&["a", "b"])
        };
        choice.handle_tick(&view(&["a", "b"]), now);
        let again = Some(SourceEffect::WatchAgain);
        assert_eq!(choice.handle_tick(&lost, now), again);
        assert_eq!(choice.handle_tick(&lost, now + PATIENCE - MS), again);
        assert_eq!(choice.handle_tick(&lost, now + PATIENCE), B);
        // The next one has as long.
        let later = now + PATIENCE + MS;
        assert_eq!(choice.handle_tick(&lost, later), again);
        assert_eq!(choice.handle_tick(&lost, later + PATIENCE), A);
    }

    #[test]
    fn a_source_that_was_lost_for_a_moment_has_all_of_the_patience_again() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        let all = view(&["a", "b"]);
        let lost = SourceView {
            is_connected: false,
            ..all
        };
        choice.handle_tick(&all, now);
        choice.handle_tick(&lost, now);
        choice.handle_tick(&all, now + PATIENCE / 2);
        let again = Some(SourceEffect::WatchAgain);
        assert_eq!(choice.handle_tick(&lost, now + PATIENCE), again);
    }

    #[test]
    fn a_source_that_is_behind_is_exchanged() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        let all = view(&["a", "b"]);
        choice.handle_tick(&all, now);
        choice.handle_version(6);
        choice.handle_version(4);
        assert_eq!(choice.handle_tick(&all, now), None);
        assert_eq!(choice.handle_tick(&all, now + PATIENCE), B);
        // Once the map has come, the new one is kept.
        let fresh = SourceView { version: 6, ..all };
        assert_eq!(choice.handle_tick(&fresh, now + 9 * PATIENCE), None);
    }

    #[test]
    fn a_source_that_votes_no_more_is_exchanged_at_once() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        choice.handle_tick(&view(&["a", "b"]), now);
        assert_eq!(choice.handle_tick(&view(&["b", "c"]), now), C);
        let stop = Some(SourceEffect::Stop);
        assert_eq!(choice.handle_tick(&view(&[]), now), stop);
        assert_eq!(choice.handle_tick(&view(&[]), now), None, "it is said once");
    }

    #[test]
    fn a_voter_watches_another_only_while_it_is_behind() {
        let (mut choice, now) = (SourceChoice::default(), Instant::now());
        let voter = SourceView {
            votes: true,
            ..view(&["a", "b"])
        };
        assert_eq!(choice.handle_tick(&voter, now), None);
        choice.handle_version(6);
        assert_eq!(choice.handle_tick(&voter, now), A);
        let fresh = SourceView {
            version: 6,
            ..voter
        };
        let stop = Some(SourceEffect::Stop);
        assert_eq!(choice.handle_tick(&fresh, now), stop);
    }

    #[test]
    fn nodes_begin_with_different_voters() {
        let now = Instant::now();
        let first = |random| {
            let all = SourceView {
                random,
                ..view(&["a", "b", "c"])
            };
            SourceChoice::default().handle_tick(&all, now)
        };
        assert_eq!([first(0), first(2), first(4)], [A, B, C]);
    }
}
