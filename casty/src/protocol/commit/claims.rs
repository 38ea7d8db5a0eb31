//! Which logs are to be claimed next. Few claims run at once: hundreds of shards come together when
//! a node takes over from another.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// The log of a shard, as long as this node has it. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogId(pub(crate) u64);

/// Claims that wait, run, or pause after a failure. A log is in one of these at most.
#[derive(Debug)]
pub(super) struct Claims {
    /// How many may run at once.
    max: usize,
    /// How long one may run.
    patience: Duration,
    waiting: VecDeque<LogId>,
    /// Each with the time of its begin.
    running: BTreeMap<LogId, Instant>,
    paused: BTreeSet<(Instant, LogId)>,
}

impl Claims {
    pub(super) fn new(max: usize, patience: Duration) -> Self {
        Self {
            max,
            patience,
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            paused: BTreeSet::new(),
        }
    }

    pub(super) fn want(&mut self, log: LogId) {
        self.waiting.push_back(log);
    }

    pub(super) fn pause(&mut self, log: LogId, until: Instant) {
        self.paused.insert((until, log));
    }

    /// The claim that begins now, if one may.
    pub(super) fn begin(&mut self, now: Instant) -> Option<LogId> {
        if self.running.len() >= self.max {
            return None;
        }
        let log = self.waiting.pop_front()?;
        self.running.insert(log, now);
        Some(log)
    }

    /// Whether the claim was under way.
    pub(super) fn end(&mut self, log: LogId) -> bool {
        self.running.remove(&log).is_some()
    }

    /// The log is of no interest any more. Whether a claim was under way.
    pub(super) fn forget(&mut self, log: LogId) -> bool {
        self.waiting.retain(|waiting| *waiting != log);
        self.paused.retain(|(_, paused)| *paused != log);
        self.end(log)
    }

    /// Takes the logs whose pause is over into the queue.
    pub(super) fn handle_time(&mut self, now: Instant) {
        while let Some((until, log)) = self.paused.first().copied()
            && until <= now
        {
            self.paused.pop_first();
            self.waiting.push_back(log);
        }
    }

    /// Claims that have been running for too long.
    pub(super) fn overdue(&self, now: Instant) -> Vec<LogId> {
        let overdue = self.running.iter();
        let overdue = overdue.filter(|(_, since)| **since + self.patience <= now);
        overdue.map(|(log, _)| *log).collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let oldest = self.running.values().min();
        let overdue = oldest.map(|since| *since + self.patience);
        let pause = self.paused.first().map(|(until, _)| *until);
        overdue.into_iter().chain(pause).min()
    }
}
