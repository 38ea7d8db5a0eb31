//! The clock by which reminders are due.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::infra::{
    sync::lock,
    wall_clock::{self, whole_millis},
};

/// The wall clock is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// How far the two monotonic clocks may be apart where tokio's is the machine's.
const APART_MAX: Duration = Duration::from_secs(1);

/// The wall clock of a node, as it was when the node started, and tokio's clock from there on: so
/// reminders are due exactly when they should be where a test pauses or advances that clock.
///
/// Each minute the wall clock is looked at again. A correction of it counts from then on. In a
/// simulation it is the simulated one.
pub(crate) struct ReminderClock(Mutex<Since>);

struct Since {
    wall: u64,
    instant: Instant,
    /// The machine's own clock, which no test pauses.
    machine: Duration,
}

impl Since {
    fn now() -> Self {
        Self {
            wall: wall_clock::millis(),
            instant: Instant::now(),
            machine: wall_clock::monotonic(),
        }
    }
}

impl ReminderClock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Since::now()))
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn millis(&self) -> u64 {
        if wall_clock::is_simulated() {
            return wall_clock::millis();
        }
        let since = &mut *lock(&self.0);
        let passed = since.instant.elapsed();
        if passed >= LOOK_AGAIN {
            let machine = wall_clock::monotonic().saturating_sub(since.machine);
            if machine >= LOOK_AGAIN && machine.abs_diff(passed) <= APART_MAX {
                *since = Since::now();
                return since.wall;
            }
        }
        since.wall.saturating_add(whole_millis(passed))
    }
}
