//! What is counted of the appends to a journal. Once for each append, which has records of many
//! entities.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{infra::histogram::Histogram, protocol::commit::Ended};

/// What is counted of the appends of a node.
#[derive(Debug, Default)]
pub(crate) struct CommitMeter {
    /// How long appends took.
    pub(crate) took: Histogram,
    /// Records in appends that were written.
    records: AtomicU64,
    outcomes: [AtomicU64; AppendOutcome::ALL.len()],
}

/// How an append has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppendOutcome {
    Written,
    /// A later owner has claimed at least one of its logs.
    Fenced,
    /// Certainly not written.
    NotWritten,
    /// It may be written.
    Unknown,
    /// Too few copies of a shard have it.
    NotEnoughCopies,
}

impl AppendOutcome {
    /// Each with its name.
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Written, "written"),
        (Self::Fenced, "fenced"),
        (Self::NotWritten, "not_written"),
        (Self::Unknown, "unknown"),
        (Self::NotEnoughCopies, "not_enough_copies"),
    ];

    fn of(ended: &Ended) -> Self {
        match ended {
            Ended::Answered(answers) if answers.iter().all(|written| *written) => Self::Written,
            Ended::Answered(_) => Self::Fenced,
            Ended::NotWritten(_) => Self::NotWritten,
            Ended::Unknown(_) => Self::Unknown,
            Ended::NotEnoughCopies(_) => Self::NotEnoughCopies,
        }
    }
}

impl CommitMeter {
    pub(super) fn ended(&self, ended: &Ended, records: usize, took: Duration) {
        let outcome = AppendOutcome::of(ended);
        self.took.add(took);
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if outcome == AppendOutcome::Written {
            self.records.fetch_add(records as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    pub(crate) fn ended_as(&self, outcome: AppendOutcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }
}
