//! How a projection follows the log of one shard: what it handles next, what it does after a
//! failure, and how far behind it is. Reads and writes nothing itself.

use std::time::Duration;

use crate::infra::{backoff::Backoff, mutants};

/// The pauses after failures.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// So many failures of one event park it, if the projection parks.
pub(crate) const TRIES_BEFORE_PARKING: u32 = 3;

/// What the log says is not what a projection has seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Astray {
    /// Positions are dense, so a record is lost.
    #[error("record {expected} is missing: record {found} follows record {}", .expected - 1)]
    Hole { expected: u64, found: u64 },
    /// The log is shorter than it was, so it has lost records, or is another one.
    #[error("the log ends with record {head}, and record {position} was handled already")]
    Ahead { position: u64, head: u64 },
}

/// Checks that positions follow each other, and the position `after`.
pub(crate) fn check_dense(
    after: u64,
    positions: impl IntoIterator<Item = u64>,
) -> Result<(), Astray> {
    let mut last = after;
    for found in positions {
        let expected = last + 1;
        if found != expected && !mutants::on("a_hole_is_passed_over") {
            return Err(Astray::Hole { expected, found });
        }
        last = found;
    }
    Ok(())
}

/// Checks that the log has what was handled.
pub(crate) fn check_head(position: u64, head: u64) -> Result<(), Astray> {
    if position > head {
        return Err(Astray::Ahead { position, head });
    }
    Ok(())
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another try.
    Again,
    /// Another try, after a pause.
    Pause(Duration),
    /// The record at this position is parked, and the next one follows.
    Park(u64),
}

/// A projection with one shard.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// The last record that was handled, and is stored to be.
    position: u64,
    parks: bool,
    /// The record that has failed, and how often.
    suspect: Option<(u64, u32)>,
    backoff: Backoff,
}

impl Follower {
    /// `parks`: an event that fails again and again is parked.
    pub(crate) fn new(parks: bool) -> Self {
        Self {
            position: 0,
            parks,
            suspect: None,
            backoff: Backoff::new(PAUSE, PAUSE_MAX),
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// What the store has it at.
    pub(crate) fn handle_claimed(&mut self, position: u64) {
        self.position = position;
    }

    /// The last record of the next transaction, of those up to `last`. A record that has failed is
    /// alone in its transaction, so that it holds up none before it.
    pub(crate) fn end_of_batch(&self, last: u64) -> u64 {
        match self.suspect {
            Some((suspect, _)) if suspect == self.position + 1 => suspect,
            Some((suspect, _)) if suspect > self.position => last.min(suspect - 1),
            _ => last,
        }
    }

    /// The records up to `position` are handled, and that is stored.
    pub(crate) fn handle_done(&mut self, position: u64) {
        self.position = position;
        if self.suspect.is_none_or(|(suspect, _)| suspect <= position) {
            self.suspect = None;
            self.backoff.reset();
        }
    }

    /// The record at `position` could not be handled.
    pub(crate) fn handle_failed(&mut self, position: u64, jitter: f64) -> Next {
        let tries = match self.suspect {
            Some((suspect, tries)) if suspect == position => tries + 1,
            _ => 1,
        };
        self.suspect = Some((position, tries));
        if position > self.position + 1 {
            // Those before it first.
            return Next::Again;
        }
        if self.parks && tries >= TRIES_BEFORE_PARKING {
            return Next::Park(position);
        }
        Next::Pause(self.backoff.pause(jitter))
    }

    /// The store failed, which is no fault of any record.
    pub(crate) fn handle_unavailable(&mut self, jitter: f64) -> Duration {
        self.backoff.pause(jitter)
    }
}

/// How far behind a projection is with one shard.
pub(crate) fn behind(head: u64, position: u64, oldest: Option<u64>, now: u64) -> (u64, Duration) {
    let events = head.saturating_sub(position);
    let since = oldest.filter(|_| events > 0).unwrap_or(now);
    (events, Duration::from_millis(now.saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_an_error_that_names_what_is_missing() {
        assert_eq!(check_dense(3, [4, 5, 6]), Ok(()));
        let hole = check_dense(3, [4, 6]).expect_err("a hole");
        let expected = Astray::Hole {
            expected: 5,
            found: 6,
        };
        assert_eq!(hole, expected);
        assert_eq!(
            hole.to_string(),
            "record 5 is missing: record 6 follows record 4"
        );
        assert!(check_dense(0, [2]).is_err(), "the first one too");
        assert!(check_dense(3, [3]).is_err(), "a repetition too");
        mutants::breaking("a_hole_is_passed_over", || {
            assert_eq!(check_dense(3, [4, 6]), Ok(()));
        });
    }

    #[test]
    fn a_log_that_is_shorter_than_what_was_handled_is_an_error() {
        assert_eq!(check_head(3, 3), Ok(()));
        let ahead = check_head(4, 3).expect_err("ahead");
        assert_eq!(
            ahead.to_string(),
            "the log ends with record 3, and record 4 was handled already"
        );
    }

    #[test]
    fn a_record_that_fails_holds_up_none_before_it() {
        let mut follower = Follower::new(false);
        follower.handle_claimed(10);
        assert_eq!(follower.end_of_batch(20), 20);
        assert_eq!(follower.handle_failed(15, 1.0), Next::Again);
        assert_eq!(follower.end_of_batch(20), 14);
        follower.handle_done(14);
        assert_eq!(follower.end_of_batch(20), 15, "alone");
        assert_eq!(follower.handle_failed(15, 1.0), Next::Pause(PAUSE));
        assert_eq!(follower.handle_failed(15, 1.0), Next::Pause(PAUSE * 2));
        for _ in 0..20 {
            follower.handle_failed(15, 1.0);
        }
        assert_eq!(follower.handle_failed(15, 1.0), Next::Pause(PAUSE_MAX));
        follower.handle_done(15);
        assert_eq!(follower.end_of_batch(20), 20);
        assert_eq!(follower.handle_failed(16, 1.0), Next::Pause(PAUSE));
    }

    #[test]
    fn a_record_is_parked_after_its_third_failure_and_not_for_failures_of_the_store() {
        let mut follower = Follower::new(true);
        for _ in 0..20 {
            follower.handle_unavailable(1.0);
        }
        assert_eq!(follower.handle_failed(2, 1.0), Next::Again);
        follower.handle_done(1);
        assert!(matches!(follower.handle_failed(2, 1.0), Next::Pause(_)));
        assert_eq!(follower.handle_failed(2, 1.0), Next::Park(2));
        follower.handle_done(2);
        assert!(matches!(follower.handle_failed(3, 1.0), Next::Pause(_)));
    }

    #[test]
    fn lag_is_counted_in_events_and_from_the_first_event_that_waits() {
        let ms = Duration::from_millis;
        assert_eq!(behind(9, 7, Some(1_000), 1_250), (2, ms(250)));
        assert_eq!(behind(9, 9, Some(1_000), 1_250), (0, ms(0)));
        assert_eq!(behind(9, 7, None, 1_250), (2, ms(0)), "nothing is read yet");
        assert_eq!(
            behind(9, 7, Some(2_000), 1_250),
            (2, ms(0)),
            "clocks differ"
        );
    }
}
