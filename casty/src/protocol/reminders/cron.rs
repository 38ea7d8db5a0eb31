//! Times by a cron expression, in a time zone.

/// Why there is no such reminder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCron {
    /// The expression cannot be read.
    #[error(
        "`{expression}` is no cron expression: {reason}; it has minute, hour, day of the month, \
         month and day of the week, as `0 9 * * MON-FRI`, and may have seconds before them"
    )]
    Expression {
        /// As it was given.
        expression: String,
        /// The reason.
        reason: String,
    },
    /// There is no time zone of this name.
    #[error("there is no time zone `{zone}`; names are those of the IANA, as `Europe/Lisbon`")]
    Zone {
        /// As it was given.
        zone: String,
    },
    /// No time matches the expression.
    #[error("`{expression}` is never due")]
    Never {
        /// As it was given.
        expression: String,
    },
    /// The program is built without the feature `cron`, which the reminder needs.
    #[error("this program is built without casty's feature `cron`, which `{expression}` needs")]
    Unsupported {
        /// As it was given.
        expression: String,
    },
}

#[cfg(feature = "cron")]
mod supported {
    use std::str::FromStr;

    use croner::{Cron, errors::CronError};
    use jiff::{Timestamp, Zoned, tz::TimeZone};

    use super::InvalidCron;

    /// The expression, and a time in the zone.
    fn read(expression: &str, zone: &str, time: u64) -> Result<(Cron, Zoned), InvalidCron> {
        let cron = Cron::from_str(expression).map_err(|error| InvalidCron::Expression {
            expression: expression.to_owned(),
            reason: error.to_string(),
        })?;
        let tz = TimeZone::get(zone).map_err(|_| InvalidCron::Zone {
            zone: zone.to_owned(),
        })?;
        // Times beyond its calendar are in some thousand years.
        let time = i64::try_from(time).ok().map(Timestamp::from_millisecond);
        let time = time.and_then(Result::ok).unwrap_or(Timestamp::MAX);
        Ok((cron, time.to_zoned(tz)))
    }

    fn millis(
        expression: &str,
        found: Result<Zoned, CronError>,
    ) -> Result<Option<u64>, InvalidCron> {
        match found {
            Ok(time) => Ok(u64::try_from(time.timestamp().as_millisecond()).ok()),
            Err(CronError::TimeSearchLimitExceeded) => Ok(None),
            Err(error) => Err(InvalidCron::Expression {
                expression: expression.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    pub(in crate::protocol::reminders) fn after(
        expression: &str,
        zone: &str,
        time: u64,
    ) -> Result<Option<u64>, InvalidCron> {
        let (cron, time) = read(expression, zone, time)?;
        millis(expression, cron.find_next_occurrence(&time, false))
    }

    pub(in crate::protocol::reminders) fn before(
        expression: &str,
        zone: &str,
        time: u64,
    ) -> Result<Option<u64>, InvalidCron> {
        let (cron, time) = read(expression, zone, time)?;
        millis(expression, cron.find_previous_occurrence(&time, false))
    }
}

#[cfg(not(feature = "cron"))]
mod supported {
    use super::InvalidCron;

    pub(in crate::protocol::reminders) fn after(
        expression: &str,
        _: &str,
        _: u64,
    ) -> Result<Option<u64>, InvalidCron> {
        Err(InvalidCron::Unsupported {
            expression: expression.to_owned(),
        })
    }

    pub(in crate::protocol::reminders) use after as before;
}

/// The first time after this one, and the last one before it.
pub(super) use supported::{after, before};

/// The first time after `now`, where there has to be one.
#[cfg(feature = "cron")]
pub(crate) fn first(expression: &str, zone: &str, now: u64) -> Result<u64, InvalidCron> {
    after(expression, zone, now)?.ok_or_else(|| InvalidCron::Never {
        expression: expression.to_owned(),
    })
}
