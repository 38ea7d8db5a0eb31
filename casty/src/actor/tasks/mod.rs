//! The tasks in which cells run: a pool that reuses them, runs that linger between bursts of
//! messages, and a throttle for CPU-bound work.

pub(crate) mod lingering;
pub(crate) mod pool;
pub(crate) mod throttle;
