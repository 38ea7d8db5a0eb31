//! What every layer may use and what decides nothing: locks, boxed futures, the timer thread,
//! switches for mutants and for observation by the simulation's checks.

pub(crate) mod boxed;
pub(crate) mod mutants;
pub(crate) mod observe;
pub(crate) mod panic;
pub(crate) mod sync;
pub(crate) mod timer_thread;
