//! The times at which a reminder is due, and what becomes of those that were missed.
//!
//! Times are milliseconds since the Unix epoch.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::cron;
pub use super::cron::InvalidCron;

/// How late the latest time of a reminder may be handled that skips what it has missed.
const LATE_MAX: u64 = 60_000;

/// What becomes of the times of a reminder at which its entity could not be reminded: no node was
/// up, or the store did not answer.
///
/// A reminder that is late for another reason, such as a busy node, is handled likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Missed {
    /// However many times were missed, the entity is reminded once.
    #[default]
    Once,
    /// The entity is reminded of each, up to so many: the last ones. At least one.
    All(u32),
    /// The entity is reminded if the last time is at most a minute ago. What is older is skipped, a
    /// reminder that is due only once included.
    Skip,
}

/// When a reminder is due after the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Timetable {
    /// Not again.
    Once,
    /// Whenever so many milliseconds have passed since the time before.
    Every { millis: u64 },
    Cron {
        expression: Arc<str>,
        zone: Arc<str>,
    },
}

/// What follows from a reminder that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advance {
    /// Its message is handled.
    pub(crate) is_handled: bool,
    /// The time for which it is handled.
    pub(crate) at: u64,
    /// When it is due next, if at all.
    pub(crate) next: Option<u64>,
}

impl Timetable {
    /// What follows from a reminder that was due at `due`, and is about to be handled.
    ///
    /// # Errors
    /// The expression, or the zone, is unknown to this build.
    pub(crate) fn advance(
        &self,
        missed: Missed,
        due: u64,
        now: u64,
    ) -> Result<Advance, InvalidCron> {
        // A clock that was ahead has reminded too early.
        let now = now.max(due);
        let times = match missed {
            Missed::Once | Missed::Skip => 1,
            Missed::All(max) => max.max(1),
        };
        let at = self.first_of_last(due, now, times)?;
        let (is_handled, passed) = match missed {
            Missed::Once => (true, now),
            Missed::All(_) => (true, at),
            Missed::Skip => (now - at <= LATE_MAX, now),
        };
        let next = self.after(due, passed)?;
        Ok(Advance {
            is_handled,
            at,
            next,
        })
    }

    /// How often it is due, for operators. `None`: once.
    pub(crate) fn repeats(&self) -> Option<String> {
        match self {
            Self::Once => None,
            Self::Every { millis } => Some(format!("every {:?}", Duration::from_millis(*millis))),
            Self::Cron { expression, zone } => Some(format!("{expression} ({zone})")),
        }
    }

    /// The first time after `passed`. `due` is one of the times.
    fn after(&self, due: u64, passed: u64) -> Result<Option<u64>, InvalidCron> {
        Ok(match self {
            Self::Once => None,
            Self::Every { millis } => {
                let millis = (*millis).max(1);
                let times = passed.saturating_sub(due) / millis + 1;
                due.checked_add(millis.saturating_mul(times))
            }
            Self::Cron { expression, zone } => cron::after(expression, zone, passed)?,
        })
    }

    /// The first of the last `count` times up to `now`, from `due` on.
    fn first_of_last(&self, due: u64, now: u64, count: u32) -> Result<u64, InvalidCron> {
        Ok(match self {
            Self::Once => due,
            Self::Every { millis } => {
                let millis = (*millis).max(1);
                let times = (now - due) / millis;
                let back = times.saturating_sub(u64::from(count) - 1);
                due + back * millis
            }
            Self::Cron { expression, zone } => {
                let mut first = now.saturating_add(1);
                for _ in 0..count {
                    match cron::before(expression, zone, first)? {
                        Some(before) if before > due => first = before,
                        _ => return Ok(due),
                    }
                }
                first
            }
        })
    }
}
