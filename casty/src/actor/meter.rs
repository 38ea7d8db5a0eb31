//! What is counted of the entities of one type on one node.
//!
//! A run counts the messages of a kind that follow each other, and adds their number here: one
//! relaxed addition, in a part of the counts that no other thread uses as a rule. One handler of
//! [`SAMPLED`] is timed.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    hot::{HotEntities, HotEntity},
    tally::Tally,
};
use crate::{
    id::EntityId,
    infra::{
        histogram::{Durations, Histogram},
        sync::lock,
    },
};

/// How many parts the counts have.
const PARTS: usize = 8;

/// One handler of so many is timed, of each message and in each part.
pub(crate) const SAMPLED: u64 = 64;

/// What is counted of the entities of one type on one node.
#[derive(Debug)]
pub(crate) struct TypeMeter {
    names: &'static [&'static str],
    parts: Box<[Part]>,
    hot: Mutex<HotEntities>,
    /// How long shards took that this node has given to others.
    pub(crate) moves: Histogram,
    /// The bytes of states that went along.
    pub(crate) moved_bytes: AtomicU64,
}

/// The counts of some threads, in cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Part {
    handled: Box<[AtomicU64]>,
    tallies: [AtomicU64; Tally::ALL.len()],
    durations: Histogram,
    /// The next handler that a run begins with is to be timed.
    owed: AtomicBool,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PART: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
}

impl TypeMeter {
    /// `names`: those of the messages.
    pub(crate) fn new(names: &'static [&'static str]) -> Self {
        let part = |_| Part {
            handled: names.iter().map(|_| AtomicU64::new(0)).collect(),
            tallies: Default::default(),
            durations: Histogram::default(),
            owed: AtomicBool::new(false),
        };
        Self {
            names,
            parts: (0..PARTS).map(part).collect(),
            hot: Mutex::default(),
            moves: Histogram::default(),
            moved_bytes: AtomicU64::new(0),
        }
    }

    #[inline]
    fn part(&self) -> Option<&Part> {
        // A thread that ends has no part any more, and counts in the first one.
        self.parts.get(PART.try_with(|part| *part).unwrap_or(0))
    }

    /// So many messages of a kind were handled. Returns whether the next handler is to be timed.
    pub(crate) fn handled_more(&self, index: usize, more: u64) -> bool {
        let count = self.part().and_then(|part| part.handled.get(index));
        count.is_some_and(|count| {
            let before = count.fetch_add(more, Ordering::Relaxed);
            before == 0 || (before + more) / SAMPLED > before / SAMPLED
        })
    }

    /// A run that was to time its next handler has ended before.
    #[cold]
    pub(crate) fn owe(&self) {
        if let Some(part) = self.part() {
            part.owed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a run is to time its first handler: an earlier one could not.
    #[inline]
    pub(crate) fn take_owed(&self) -> bool {
        self.part().is_some_and(|part| {
            part.owed.load(Ordering::Relaxed) && part.owed.swap(false, Ordering::Relaxed)
        })
    }

    /// A handler that is timed took so long.
    #[cold]
    pub(crate) fn took(&self, time: Duration) {
        if let Some(part) = self.part() {
            part.durations.add(time);
        }
    }

    /// The same, and it was this entity's. `now`: on the runtime's coarse clock.
    #[cold]
    pub(crate) fn took_by(&self, id: &EntityId, time: Duration, now: u32) {
        self.took(time);
        // One of many samples: no thread waits to give it.
        if let Ok(mut hot) = self.hot.try_lock() {
            hot.took(id, time, now);
        }
    }

    /// The entities that have handled most lately, and for how long they were counted.
    pub(crate) fn hottest(&self, now: u32) -> (Duration, Vec<HotEntity>) {
        lock(&self.hot).hottest(now)
    }

    pub(crate) fn tally(&self, what: Tally) {
        if let Some(part) = self.part() {
            part.tallies[what as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum<'a>(&'a self, count: impl Fn(&'a Part) -> Option<&'a AtomicU64>) -> u64 {
        let counts = self.parts.iter().filter_map(count);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// How often each message was handled.
    pub(crate) fn handled(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = self.names.iter().enumerate();
        names.map(|(index, name)| (*name, self.sum(|part| part.handled.get(index))))
    }

    pub(crate) fn tallied(&self, what: Tally) -> u64 {
        self.sum(|part| part.tallies.get(what as usize))
    }

    /// How long sampled handlers took.
    pub(crate) fn durations(&self) -> Durations {
        let parts = self.parts.iter();
        parts.fold(Durations::NONE, |sum, part| {
            sum.plus(&part.durations.read())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_one_sum() {
        let meter = TypeMeter::new(&["add", "get"]);
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        meter.handled_more(1, 2);
                    }
                    meter.tally(Tally::Failed);
                });
            }
        });
        let handled: Vec<_> = meter.handled().collect();
        assert_eq!(handled, [("add", 0), ("get", 20_000)]);
        assert_eq!(meter.tallied(Tally::Failed), 20);
        assert_eq!(meter.tallied(Tally::Full), 0);
        assert!(!meter.handled_more(2, 1), "there is no such message");
    }

    #[test]
    fn one_handler_of_sixty_four_is_timed() {
        let meter = TypeMeter::new(&["add"]);
        let timed = (0..640).filter(|_| meter.handled_more(0, 1)).count();
        assert_eq!(timed, 11, "the second one, too");
        let timed = (0..10).filter(|_| meter.handled_more(0, 64)).count();
        assert_eq!(timed, 10);
    }

    #[test]
    fn what_a_run_did_not_time_another_one_does() {
        let meter = TypeMeter::new(&["add"]);
        assert!(!meter.take_owed());
        meter.owe();
        assert!(meter.take_owed());
        assert!(!meter.take_owed());
    }
}
