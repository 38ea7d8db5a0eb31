//! When a stored entity is reminded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_bytes::ByteBuf;

use crate::{
    actor::message::{self, Message},
    infra::wall_clock::whole_millis,
    message::codec::EncodeError,
    persistence::reminders::{MESSAGE_BYTES_MAX, ReminderChange, WrittenReminder},
    protocol::reminders::timetable::{Missed, Timetable},
    trace,
};
#[cfg(feature = "cron")]
use crate::{
    infra::wall_clock,
    protocol::reminders::{cron, timetable::InvalidCron},
};

/// The shortest period.
const PERIOD_MIN: Duration = Duration::from_secs(1);

/// The longest name of a reminder, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// When a reminder is due: see [`Context::remind`](crate::Context::remind).
///
/// A reminder comes at its time or shortly afterwards, by the wall clock of the node that owns the
/// entity's shard. Its resolution is a second.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it reminds of nothing until `ctx.remind`, or `Effect::remind`, is given it"]
pub struct Remind {
    first: First,
    timetable: Timetable,
    missed: Missed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum First {
    At(u64),
    After(Duration),
    #[cfg(feature = "cron")]
    ByCron,
}

impl Remind {
    const fn new(first: First, timetable: Timetable) -> Self {
        Self {
            first,
            timetable,
            missed: Missed::Once,
        }
    }

    /// Once, at this time. A time that has passed is due at once.
    pub fn at(time: SystemTime) -> Self {
        let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::new(First::At(whole_millis(time)), Timetable::Once)
    }

    /// Once, after so long.
    pub const fn after(delay: Duration) -> Self {
        Self::new(First::After(delay), Timetable::Once)
    }

    /// Again and again, first after one period. Periods are counted from there, whenever a
    /// reminder is handled. A period below a second is taken as one.
    pub fn every(period: Duration) -> Self {
        let period = period.max(PERIOD_MIN);
        let timetable = Timetable::Every {
            millis: whole_millis(period),
        };
        Self::new(First::After(period), timetable)
    }

    /// Whenever the time in a zone matches a cron expression: minute, hour, day of the month,
    /// month, and day of the week, as `0 9 * * MON-FRI`. A field of seconds may stand before them.
    /// The zone has a name of the IANA, as `Europe/Lisbon`.
    ///
    /// A time that a clock skips which is put forward is due right after the gap, if the expression
    /// names a time of the day; a time that it shows twice is due once.
    ///
    /// # Errors
    /// The expression cannot be read, is never due, or there is no such zone.
    ///
    /// ```
    /// use casty::remind::{Missed, Remind};
    ///
    /// let at_nine = Remind::cron("0 9 * * MON-FRI", "Europe/Lisbon")?.missed(Missed::Skip);
    /// assert!(Remind::cron("0 9 * * *", "Europe/Atlantis").is_err());
    /// assert!(Remind::cron("0 9 31 2 *", "UTC").is_err());
    /// # drop(at_nine);
    /// # Ok::<(), casty::remind::InvalidCron>(())
    /// ```
    #[cfg(feature = "cron")]
    pub fn cron(expression: &str, zone: &str) -> Result<Self, InvalidCron> {
        cron::first(expression, zone, wall_clock::millis())?;
        let timetable = Timetable::Cron {
            expression: expression.into(),
            zone: zone.into(),
        };
        Ok(Self::new(First::ByCron, timetable))
    }

    /// What becomes of the times that are missed. Default: [`Missed::Once`].
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = missed;
        self
    }

    /// When it is due first.
    #[cfg_attr(
        not(feature = "cron"),
        expect(clippy::unnecessary_wraps, reason = "a cron expression may be wrong")
    )]
    fn first(&self, now: u64) -> Result<u64, String> {
        Ok(match &self.first {
            First::At(time) => *time,
            First::After(delay) => now.saturating_add(whole_millis(*delay)),
            #[cfg(feature = "cron")]
            First::ByCron => match &self.timetable {
                Timetable::Cron { expression, zone } => {
                    cron::first(expression, zone, now).map_err(|error| error.to_string())?
                }
                Timetable::Once | Timetable::Every { .. } => now,
            },
        })
    }
}

/// The reminder, as a record has it. An error says why there can be none.
pub(crate) fn written<M: Message>(
    name: &str,
    remind: &Remind,
    message: &M,
    now: u64,
) -> Result<ReminderChange, String> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let bytes = name.len();
        return Err(format!(
            "the name of a reminder has 1 to {NAME_BYTES_MAX} bytes, and this one has {bytes}"
        ));
    }
    let bytes = message::stored_bytes(message).map_err(|EncodeError(reason)| {
        format!("the message of the reminder `{name}` cannot be encoded: {reason}")
    })?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        let bytes = bytes.len();
        return Err(format!(
            "the message of the reminder `{name}` has {bytes} bytes, and may have {MESSAGE_BYTES_MAX}"
        ));
    }
    let due = remind.first(now)?;
    Ok(ReminderChange::Set(WrittenReminder {
        name: name.into(),
        due,
        timetable: remind.timetable.clone(),
        missed: remind.missed,
        message: message.name().to_owned(),
        bytes: ByteBuf::from(bytes),
        trace: match remind.timetable {
            Timetable::Once => trace::here().map(Box::new),
            _ => None,
        },
    }))
}
