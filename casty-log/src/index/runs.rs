//! Which epoch the record at each position has.

use std::cmp::Ordering;

/// Records that follow each other and have one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
    epoch: u64,
}

/// The epochs of the records of a log. Many records share an epoch, so it is a few numbers, however
/// long the log is.
///
/// It is not part of the checkpoint of a segment: a log that has had many owners would make each
/// checkpoint longer for ever. It is built from the records when a store is opened, and these come
/// out of order then. So until all are read there may be gaps.
#[derive(Debug, Default)]
pub(crate) struct Runs(Vec<Span>);

impl Runs {
    /// Notes the epoch of a record.
    ///
    /// # Errors
    /// A text, if another epoch is known of this position.
    pub(super) fn set(&mut self, position: u64, epoch: u64) -> Result<(), String> {
        let at = self.0.partition_point(|span| span.last < position);
        if let Some(span) = self.0.get(at).filter(|span| span.first <= position) {
            if span.epoch == epoch {
                return Ok(());
            }
            let known = span.epoch;
            return Err(format!(
                "the record at {position} has epoch {known} and {epoch}"
            ));
        }
        let before = at.checked_sub(1);
        let joins_before = before
            .and_then(|before| self.0.get(before))
            .is_some_and(|span| span.last + 1 == position && span.epoch == epoch);
        let after = self.0.get(at).copied();
        let after = after.filter(|span| span.first == position + 1 && span.epoch == epoch);
        match (before.filter(|_| joins_before), after) {
            (Some(before), Some(after)) => {
                self.0[before].last = after.last;
                self.0.remove(at);
            }
            (Some(before), None) => self.0[before].last = position,
            (None, Some(_)) => self.0[at].first = position,
            (None, None) => {
                let (first, last) = (position, position);
                self.0.insert(at, Span { first, last, epoch });
            }
        }
        Ok(())
    }

    /// The records after a position are gone.
    pub(super) fn cut(&mut self, after: u64) {
        let kept = self.0.partition_point(|span| span.first <= after);
        self.0.truncate(kept);
        if let Some(span) = self.0.last_mut() {
            span.last = span.last.min(after);
        }
    }

    /// The records up to a position are gone.
    pub(super) fn trim(&mut self, through: u64) {
        let gone = self.0.partition_point(|span| span.last <= through);
        self.0.drain(..gone);
        if let Some(span) = self.0.first_mut() {
            span.first = span.first.max(through + 1);
        }
    }

    pub(super) fn epoch_at(&self, position: u64) -> Option<u64> {
        let found = self.0.binary_search_by(|span| {
            if span.last < position {
                Ordering::Less
            } else if span.first > position {
                Ordering::Greater
            } else {
                Ordering::Equal
            }
        });
        self.0.get(found.ok()?).map(|span| span.epoch)
    }

    /// The last position of each run, and its epoch.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().map(|span| (span.last, span.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(positions: impl IntoIterator<Item = (u64, u64)>) -> Runs {
        let mut runs = Runs::default();
        for (position, epoch) in positions {
            runs.set(position, epoch).expect("not known");
        }
        runs
    }

    /// The epochs of the first records.
    const EPOCHS: [u64; 8] = [1, 1, 3, 3, 3, 7, 3, 3];

    #[test]
    fn the_order_in_which_records_are_met_does_not_matter() {
        let all: Vec<_> = (1..).zip(EPOCHS).collect();
        let ends = [(2, 1), (5, 3), (6, 7), (8, 3)];
        for step in [1, 3, 5, 7] {
            for first in 0..all.len() {
                let order = (0..all.len()).map(|at| all[(first + at * step) % all.len()]);
                let runs = set(order);
                assert_eq!(runs.ends().collect::<Vec<_>>(), ends, "{step} from {first}");
            }
        }
    }

    #[test]
    fn a_record_of_two_epochs_is_an_error() {
        let mut runs = set((1..).zip(EPOCHS));
        assert_eq!(runs.set(3, 3), Ok(()));
        let error = runs.set(3, 4).expect_err("it has another one");
        assert_eq!(error, "the record at 3 has epoch 3 and 4");
    }

    #[test]
    fn what_is_cut_or_trimmed_has_no_epoch() {
        for at in 0..=9 {
            let (mut cut, mut trimmed) = (set((1..).zip(EPOCHS)), set((1..).zip(EPOCHS)));
            cut.cut(at);
            trimmed.trim(at);
            for (position, epoch) in (1..).zip(EPOCHS) {
                let kept = |is_kept: bool| is_kept.then_some(epoch);
                assert_eq!(cut.epoch_at(position), kept(position <= at));
                assert_eq!(trimmed.epoch_at(position), kept(position > at));
            }
            assert_eq!(cut.epoch_at(9).or(trimmed.epoch_at(0)), None);
        }
    }
}
