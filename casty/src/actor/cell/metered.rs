//! Counts what happens to an actor, where the feature `metrics` is on.

#[cfg(feature = "metrics")]
use tokio::time::Instant;

use crate::actor::{cell::host::Host, tally::Tally};
#[cfg(feature = "metrics")]
use crate::actor::{handle::CellName, meter::TypeMeter};

#[cfg(feature = "metrics")]
pub(super) fn tally(host: &dyn Host, what: Tally) {
    if let Some(meter) = host.meter() {
        meter.tally(what);
    }
}

#[cfg(not(feature = "metrics"))]
pub(super) fn tally(_: &dyn Host, _: Tally) {}

/// Messages that a run has handled, and that are not counted yet: those of one kind that followed
/// each other.
#[cfg(feature = "metrics")]
pub(super) struct Uncounted {
    index: usize,
    count: u64,
    /// The next handler is to be timed.
    times: bool,
}

#[cfg(feature = "metrics")]
impl Uncounted {
    pub(super) fn new(host: &dyn Host) -> Self {
        Self {
            index: 0,
            count: 0,
            times: host.meter().is_some_and(TypeMeter::take_owed),
        }
    }

    /// The run rests, and another one does the timing: else entities with one message a run would
    /// never be timed.
    #[inline]
    pub(super) fn rest(&self, host: &dyn Host) {
        if self.times
            && let Some(meter) = host.meter()
        {
            meter.owe();
        }
    }

    /// One more is handled. Returns the time, if its handler is to be timed.
    #[inline]
    pub(super) fn add(&mut self, index: usize, host: &dyn Host) -> Option<Instant> {
        if index != self.index {
            self.flush(host);
            self.index = index;
        }
        self.count += 1;
        self.times.then(|| self.begin_timing())
    }

    #[cold]
    fn begin_timing(&mut self) -> Instant {
        self.times = false;
        Instant::now()
    }

    /// Counts them.
    #[inline]
    pub(super) fn flush(&mut self, host: &dyn Host) {
        let count = std::mem::take(&mut self.count);
        if count > 0
            && let Some(meter) = host.meter()
        {
            self.times = meter.handled_more(self.index, count);
        }
    }
}

/// A handler that was timed took so long.
#[cfg(feature = "metrics")]
#[cold]
pub(super) fn timed(host: &dyn Host, name: &CellName, took: std::time::Duration) {
    let Some(meter) = host.meter() else { return };
    match name {
        CellName::Entity(id) => meter.took_by(id, took, host.runtime().coarse_millis()),
        CellName::Actor(_) => meter.took(took),
    }
}
