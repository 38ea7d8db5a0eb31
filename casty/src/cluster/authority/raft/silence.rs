//! When to say that a voter does not answer: once it is worth it, and then ever more rarely.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{infra::backoff::Backoff, protocol::map::Seat};

/// How long a voter is silent before that is news. The pause before each next report doubles.
const FIRST: Duration = Duration::from_secs(1);

/// The longest pause between two reports.
const PAUSE_MAX: Duration = Duration::from_mins(5);

struct Silence {
    since: Instant,
    report_at: Instant,
    reported: bool,
    pauses: Backoff,
}

/// The voters that do not answer. There are as many as seats, at most.
#[derive(Default)]
pub(super) struct Silences(BTreeMap<Seat, Silence>);

impl Silences {
    /// A call was not answered. Returns for how long none was, if it is time to say so.
    pub(super) fn handle_failure(&mut self, seat: Seat, now: Instant) -> Option<Duration> {
        let silence = self.0.entry(seat).or_insert_with(|| {
            let mut pauses = Backoff::new(FIRST, PAUSE_MAX);
            Silence {
                since: now,
                report_at: now + pauses.pause(1.0),
                reported: false,
                pauses,
            }
        });
        if now < silence.report_at {
            return None;
        }
        silence.report_at = now + silence.pauses.pause(1.0);
        silence.reported = true;
        Some(now.duration_since(silence.since))
    }

    /// A call was answered. Returns for how long none was, if that was said.
    pub(super) fn handle_answer(&mut self, seat: Seat, now: Instant) -> Option<Duration> {
        let silence = self.0.remove(&seat)?;
        silence.reported.then(|| now.duration_since(silence.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_voter_is_reported_ever_more_rarely_and_once_when_it_answers() {
        let (mut silences, begun) = (Silences::default(), Instant::now());
        let mut reports = Vec::new();
        // Twenty calls a second, for ten minutes.
        for call in 0..12_000_u32 {
            let now = begun + Duration::from_millis(50) * call;
            reports.extend(silences.handle_failure(Seat(1), now));
        }
        let seconds: Vec<_> = reports.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 3, 7, 15, 31, 63, 127, 255, 511]);
        let end = begun + Duration::from_mins(10);
        assert_eq!(
            silences.handle_answer(Seat(1), end),
            Some(Duration::from_mins(10))
        );
        assert_eq!(silences.handle_answer(Seat(1), end), None);
        // A short silence is no news.
        assert_eq!(silences.handle_failure(Seat(2), end), None);
        assert_eq!(silences.handle_answer(Seat(2), end), None);
    }
}
