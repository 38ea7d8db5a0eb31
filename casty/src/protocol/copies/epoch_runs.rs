//! Which epoch the record at each position has, without the records.

use super::LogPoint;
use crate::id::Epoch;

/// The epochs of a log. They never decrease along it, so it is enough to know where each ends: a
/// few numbers, however long the log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EpochRuns {
    /// The last record that is trimmed, or that a snapshot stands for.
    base: LogPoint,
    /// The last position of each epoch that has records after the base, in order.
    runs: Vec<LogPoint>,
}

impl EpochRuns {
    /// A log of which nothing is left before and at `base`.
    pub(crate) fn after(base: LogPoint) -> Self {
        let runs = Vec::new();
        Self { base, runs }
    }

    /// A log whose epochs end at these points, in order. Nothing of it is trimmed.
    pub(crate) fn of(runs: impl IntoIterator<Item = LogPoint>) -> Self {
        Self {
            base: LogPoint::default(),
            runs: runs.into_iter().collect(),
        }
    }

    pub(crate) fn base(&self) -> LogPoint {
        self.base
    }

    /// The last record.
    pub(crate) fn last(&self) -> LogPoint {
        self.runs.last().copied().unwrap_or(self.base)
    }

    /// The position of the last record.
    pub(crate) fn head(&self) -> u64 {
        self.last().position
    }

    /// The epoch of the record at a position, if it is known.
    pub(crate) fn epoch_at(&self, position: u64) -> Option<Epoch> {
        if position == self.base.position {
            return Some(self.base.epoch);
        }
        if position < self.base.position {
            return None;
        }
        let run = self.runs.partition_point(|run| run.position < position);
        self.runs.get(run).map(|run| run.epoch)
    }

    /// The record at a position, if it is known.
    pub(crate) fn point(&self, position: u64) -> Option<LogPoint> {
        let epoch = self.epoch_at(position)?;
        Some(LogPoint { position, epoch })
    }

    pub(crate) fn has(&self, point: LogPoint) -> bool {
        self.epoch_at(point.position) == Some(point.epoch)
    }

    pub(crate) fn push(&mut self, epoch: Epoch) {
        let position = self.head() + 1;
        match self.runs.last_mut() {
            Some(run) if run.epoch == epoch => run.position = position,
            _ => self.runs.push(LogPoint { position, epoch }),
        }
    }

    /// Forgets what lies above a position.
    pub(crate) fn cut(&mut self, keep: u64) {
        let keep = keep.max(self.base.position);
        let runs = self.runs.partition_point(|run| run.position < keep);
        let last = self.runs.get(runs).map(|run| run.epoch);
        self.runs.truncate(runs);
        if let Some(epoch) = last
            && self.head() < keep
        {
            let position = keep;
            self.runs.push(LogPoint { position, epoch });
        }
    }

    /// Forgets what lies below a position and at it.
    pub(crate) fn trim(&mut self, upto: u64) {
        if let Some(base) = self.point(upto) {
            self.base = base;
            self.runs.retain(|run| run.position > upto);
        }
    }

    /// The first position above `start` whose record is older than an epoch.
    pub(crate) fn first_older(&self, start: u64, than: Epoch) -> Option<u64> {
        let first = start.max(self.base.position) + 1;
        self.epoch_at(first).filter(|epoch| *epoch < than)?;
        Some(first)
    }

    /// Where the epochs end, up to a position: the newest `max` of them.
    pub(crate) fn listed(&self, upto: u64, max: usize) -> Vec<LogPoint> {
        let mut below = self.clone();
        below.cut(upto);
        let mut listed = vec![below.base];
        listed.append(&mut below.runs);
        listed.split_off(listed.len().saturating_sub(max))
    }

    /// The last position below `below` at which another log may have the same record, by what it
    /// lists of itself.
    pub(crate) fn common(&self, theirs: &[LogPoint], below: u64) -> u64 {
        let limit = below.saturating_sub(1);
        for (at, run) in theirs.iter().enumerate().rev() {
            let first = at.checked_sub(1).and_then(|before| theirs.get(before));
            let first = first.map_or(run.position, |before| before.position + 1);
            let own = self.last_of(run.epoch).unwrap_or(0);
            let position = run.position.min(own).min(limit);
            let point = LogPoint {
                position,
                epoch: run.epoch,
            };
            if position >= first && self.has(point) {
                return position;
            }
        }
        let oldest = theirs.first().map_or(0, |oldest| oldest.position);
        limit.min(oldest.saturating_sub(1))
    }

    fn last_of(&self, epoch: Epoch) -> Option<u64> {
        let base = (self.base.epoch == epoch).then_some(self.base.position);
        let run = self.runs.iter().rfind(|run| run.epoch == epoch);
        run.map(|run| run.position).or(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log whose records have these epochs.
    fn runs(epochs: &[u64]) -> EpochRuns {
        let mut runs = EpochRuns::default();
        for epoch in epochs {
            runs.push(Epoch(*epoch));
        }
        runs
    }

    fn epochs(runs: &EpochRuns) -> Vec<u64> {
        let positions = runs.base().position + 1..=runs.head();
        let epoch = |position| runs.epoch_at(position).expect("a record").0;
        positions.map(epoch).collect()
    }

    #[test]
    fn a_log_is_pushed_and_cut_at_any_place() {
        let all = [1, 1, 3, 3, 3, 7];
        for keep in 0..=8_usize {
            let mut log = runs(&all);
            log.cut(keep as u64);
            assert_eq!(
                epochs(&log),
                all.iter().copied().take(keep).collect::<Vec<_>>()
            );
            log.push(Epoch(7));
            assert_eq!(log.last().epoch, Epoch(7));
        }
    }

    #[test]
    fn a_trimmed_log_knows_the_epoch_of_the_last_record_that_is_gone() {
        for upto in 0..=6 {
            let mut log = runs(&[1, 1, 3, 3, 3, 7]);
            log.trim(upto);
            assert_eq!(log.head(), 6);
            assert_eq!(log.point(upto), Some(log.base()));
            assert_eq!(upto.checked_sub(1).and_then(|p| log.epoch_at(p)), None);
            log.cut(0);
            assert_eq!(log.head(), upto, "what is trimmed is not cut");
        }
    }

    #[test]
    fn the_first_older_record_above_the_start_is_found() {
        let log = runs(&[1, 1, 3, 3]);
        assert_eq!(log.first_older(0, Epoch(3)), Some(1));
        assert_eq!(log.first_older(1, Epoch(3)), Some(2));
        assert_eq!(log.first_older(2, Epoch(3)), None, "of the epoch itself");
        assert_eq!(log.first_older(2, Epoch(4)), Some(3));
        assert_eq!(log.first_older(4, Epoch(4)), None);
    }

    #[test]
    fn a_hint_leads_to_the_last_common_record_and_always_below() {
        let logs: [&[u64]; 6] = [
            &[],
            &[1],
            &[1, 1, 2],
            &[1, 1, 2, 2, 5],
            &[1, 1, 3, 3, 3],
            &[4, 4, 4, 4, 4, 4],
        ];
        for (own, theirs) in logs.iter().flat_map(|a| logs.iter().map(move |b| (a, b))) {
            let (ours, other) = (runs(own), runs(theirs));
            let same = own.iter().zip(*theirs).take_while(|(a, b)| a == b).count() as u64;
            for max in [1, 2, 10] {
                let (mut below, mut rounds) = (own.len() as u64 + 1, 0);
                // Ask, and follow the hint, as owner and copy do.
                loop {
                    let prev = below - 1;
                    let point = ours.point(prev).expect("own");
                    if other.has(point) {
                        break;
                    }
                    below = ours.common(&other.listed(prev, max), prev) + 1;
                    assert!(below <= prev, "it gets lower");
                    rounds += 1;
                }
                assert!(below > same.min(own.len() as u64) || max < 10);
                assert!(rounds <= 6);
            }
        }
    }
}
