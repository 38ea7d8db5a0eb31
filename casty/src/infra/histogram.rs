//! Counts durations by ranges, without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How many ranges of durations are told apart. Each ends at four times the end of the one before,
/// the first at a microsecond.
const RANGES: usize = 14;

/// Durations, by ranges.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    ranges: [AtomicU64; RANGES],
    micros: AtomicU64,
}

/// The durations that a [`Histogram`] has counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Durations {
    ranges: [u64; RANGES],
    micros: u64,
}

impl Histogram {
    pub(crate) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        // Rounded up: a range contains its end.
        let range = micros
            .saturating_sub(1)
            .checked_ilog2()
            .map_or(0, |log| log / 2 + 1);
        let range = usize::try_from(range).unwrap_or(RANGES).min(RANGES - 1);
        self.ranges[range].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Durations {
        Durations {
            ranges: std::array::from_fn(|range| self.ranges[range].load(Ordering::Relaxed)),
            micros: self.micros.load(Ordering::Relaxed),
        }
    }
}

impl Durations {
    pub(crate) const NONE: Self = Self {
        ranges: [0; RANGES],
        micros: 0,
    };

    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (range, more) in self.ranges.iter_mut().zip(other.ranges) {
            *range += more;
        }
        self.micros = self.micros.saturating_add(other.micros);
        self
    }

    /// The end of each range, and how many fell into it. The last one has no end.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let mut micros = 1;
        let ends = std::iter::repeat_with(move || {
            let end = Duration::from_micros(micros);
            micros *= 4;
            end
        });
        let last = RANGES - 1;
        let ranges = ends.zip(self.ranges).enumerate();
        ranges.map(move |(at, (end, count))| ((at < last).then_some(end), count))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.ranges.iter().sum()
    }

    /// In seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum of durations need not be exact"
    )]
    pub(crate) fn sum(&self) -> f64 {
        self.micros as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_range_that_ends_at_it_or_later() {
        let histogram = Histogram::default();
        let times = [
            0,
            1,
            2,
            4,
            5,
            16,
            17,
            1_000_000,
            16_777_216,
            u64::from(u32::MAX),
        ];
        for micros in times {
            histogram.add(Duration::from_micros(micros));
        }
        let durations = histogram.read();
        let of = |micros| {
            let end = Some(Duration::from_micros(micros));
            let mut ranges = durations.ranges();
            ranges.find(|range| range.0 == end).map(|range| range.1)
        };
        assert_eq!(of(1), Some(2));
        assert_eq!(of(4), Some(2));
        assert_eq!(of(16), Some(2));
        assert_eq!(of(64), Some(1));
        assert_eq!(of(1_048_576), Some(1));
        assert_eq!(of(16_777_216), Some(1));
        assert_eq!(durations.ranges().count(), RANGES);
        assert_eq!(durations.ranges().last(), Some((None, 1)));
        let twice = Durations::NONE.plus(&durations).plus(&durations);
        let counts = |durations: &Durations| durations.ranges().map(|it| it.1).sum::<u64>();
        assert_eq!(counts(&twice), 2 * times.len() as u64);
        assert_eq!(twice.micros, 2 * times.iter().sum::<u64>());
    }
}
