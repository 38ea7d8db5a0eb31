//! What a cell shows of its run to others, while it runs.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use crate::actor::ask::chain::Chain;

/// The message that a run handles, as others may read it at any time: its index, how many of the
/// same batch wait behind it, and since when. Nothing: 0.
///
/// No clock is read for a message. The time is noted when its handler first awaits something, or
/// when the cell is first looked at.
#[derive(Debug, Default)]
pub(super) struct Present(AtomicU64);

impl Present {
    #[inline]
    pub(super) fn begin(&self, index: usize, behind: usize) {
        let index = (index as u64 & 0x7fff) | 0x8000;
        let packed = index << 48 | (behind as u64 & 0xffff) << 32;
        self.0.store(packed, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// The handler has failed or was dropped, and none follows for now: those behind it wait on.
    #[cold]
    pub(super) fn pause(&self) {
        self.0.fetch_and(0xffff << 32, Ordering::Relaxed);
    }

    /// Notes the time, in milliseconds of the coarse clock, if none is noted.
    #[cold]
    pub(super) fn note(&self, now: impl FnOnce() -> u32) {
        let packed = self.0.load(Ordering::Relaxed);
        if packed >> 63 == 1 && packed.trailing_zeros() >= 32 {
            let noted = packed | u64::from(now().max(1));
            // Otherwise it handles another message by now.
            let _ = self
                .0
                .compare_exchange(packed, noted, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The index of what is handled and since when, and how many wait behind it.
    pub(super) fn read(&self, now: u32) -> (Option<(usize, u32)>, usize) {
        self.note(|| now);
        let packed = self.0.load(Ordering::Relaxed);
        let index = usize::try_from(packed >> 48).unwrap_or_default();
        let behind = usize::try_from(packed >> 32 & 0xffff).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, reason = "it is the lower half")]
        let since = packed as u32;
        let handled = (index & 0x8000 != 0).then_some((index & 0x7fff, since));
        (handled, behind)
    }
}

/// How many asks of an actor are looked through at once for those that are over.
const LOOKED_THROUGH: usize = 8;

/// What others may see of a run, under the lock of its cell, until it rests.
#[derive(Default)]
pub(super) struct Shown {
    /// The name of the state that a state machine was in when it was given messages.
    pub(super) state: Option<&'static str>,
    /// The asks of its handlers that may be without an answer.
    asks: Vec<Weak<Chain>>,
}

impl Shown {
    pub(super) fn add(&mut self, ask: &Arc<Chain>) {
        let asks = &mut self.asks;
        if asks.len() >= LOOKED_THROUGH && asks.len() == asks.capacity() {
            asks.retain(|ask| ask.upgrade().is_some_and(|ask| !ask.is_over()));
        }
        asks.push(Arc::downgrade(ask));
    }

    /// Those without an answer.
    pub(super) fn asks(&self) -> Vec<Arc<Chain>> {
        let asks = self.asks.iter().filter_map(Weak::upgrade);
        asks.filter(|ask| !ask.is_over()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handled_is_read_as_it_was_written() {
        let present = Present::default();
        assert_eq!(present.read(5), (None, 0));
        present.begin(0, 0);
        assert_eq!(present.read(5), (Some((0, 5)), 0));
        assert_eq!(
            present.read(9),
            (Some((0, 5)), 0),
            "it was looked at before"
        );
        present.begin(37, 63);
        present.note(|| 11);
        present.note(|| 12);
        assert_eq!(present.read(20), (Some((37, 11)), 63));
        present.pause();
        present.note(|| 13);
        assert_eq!(present.read(20), (None, 63), "its batch still waits");
        present.begin(1, 62);
        present.end();
        present.note(|| 14);
        assert_eq!(present.read(20), (None, 0));
    }
}
