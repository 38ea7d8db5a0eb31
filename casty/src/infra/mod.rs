//! Tools that every layer may use and that decide nothing: locks, published values, boxed futures,
//! growing pauses, deadlines, durations by ranges, delays of tasks and timers, the timer thread,
//! the wall clock, switches for mutants and for observation by the simulation's checks.

pub(crate) mod apart;
pub(crate) mod backoff;
pub(crate) mod boxed;
pub(crate) mod cancel;
pub(crate) mod counter;
pub(crate) mod deadline;
#[cfg(feature = "metrics")]
pub(crate) mod histogram;
pub(crate) mod log_limit;
pub(crate) mod mutants;
pub(crate) mod observe;
pub(crate) mod panic;
pub(crate) mod printable;
#[cfg(feature = "metrics")]
pub(crate) mod pulse;
pub(crate) mod rate;
#[cfg(test)]
pub(crate) mod seeds;
pub(crate) mod sync;
pub(crate) mod timer_thread;
pub(crate) mod wall_clock;

pub(crate) mod coarse;
pub(crate) mod concurrent;
pub(crate) mod published;
