//! How long asks of this process wait for their answers, by the type of what is asked: one of
//! [`SAMPLED`] is timed.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    actor::meter::SAMPLED,
    infra::{
        histogram::{Durations, Histogram},
        sync::lock,
    },
};

thread_local! {
    /// The asks of this thread. The first one is timed, so that rare ones are seen as well.
    static ASKS: Cell<u64> = const { Cell::new(0) };
}

/// Whether the ask that is made now is to be timed.
#[inline]
pub(super) fn is_sampled() -> bool {
    let asks = ASKS.get();
    ASKS.set(asks.wrapping_add(1));
    asks.is_multiple_of(SAMPLED)
}

/// The durations of asks, by the wire name of the type that was asked: the one in its definition,
/// which takes no memory of its own for each ask.
#[derive(Debug, Default)]
pub(crate) struct AskDurations(Mutex<BTreeMap<&'static str, Arc<Histogram>>>);

impl AskDurations {
    /// An ask had its answer, or none in time, after so long.
    #[cold]
    pub(super) fn took(&self, kind: &'static str, time: Duration) {
        let durations = lock(&self.0).entry(kind).or_default().clone();
        durations.add(time);
    }

    pub(crate) fn read(&self) -> Vec<(&'static str, Durations)> {
        let all = lock(&self.0);
        let all = all.iter();
        all.map(|(kind, durations)| (*kind, durations.read()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ask_of_sixty_four_is_timed_the_first_included() {
        let timed = std::thread::spawn(|| (0..129).filter(|_| is_sampled()).count());
        assert_eq!(timed.join().unwrap(), 3);
    }

    #[test]
    fn durations_are_kept_by_type() {
        let durations = AskDurations::default();
        for millis in [1, 2, 3] {
            durations.took("A", Duration::from_millis(millis));
        }
        durations.took("B", Duration::from_millis(4));
        let counts: Vec<_> = durations
            .read()
            .into_iter()
            .map(|(kind, it)| (kind, it.count()))
            .collect();
        assert_eq!(counts, [("A", 3), ("B", 1)]);
    }
}
