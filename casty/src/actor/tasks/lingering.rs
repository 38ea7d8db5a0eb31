//! Runs that wait for their cell's next message, instead of ending.
//!
//! To begin a run costs more than to handle a message; a run that waits costs memory. So the run of
//! a cell that was busy several times in a moment stays, and a task that is there only while such
//! runs are looks through them: who has waited for a whole round ends. An idle cell soon has no
//! task again.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{actor::cell::AnyCell, infra::sync::lock};

/// From one look to the next.
const ROUND: Duration = Duration::from_millis(50);

/// Runs within a moment after which the next one stays.
const RUNS: u8 = 3;

/// How often a cell had to run lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecentRuns {
    round: u32,
    runs: u8,
}

impl RecentRuns {
    /// A run begins: whether it should stay.
    pub(crate) fn record(&mut self, round: u32) -> bool {
        if round.wrapping_sub(self.round) > 1 {
            self.runs = 0;
        }
        (self.round, self.runs) = (round, self.runs.saturating_add(1));
        self.runs > RUNS
    }

    pub(crate) fn reset(&mut self) {
        self.runs = 0;
    }
}

/// The runs of a system that stay.
pub(crate) struct LingeringRuns {
    handle: tokio::runtime::Handle,
    round: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cells: Vec<Weak<dyn AnyCell>>,
    watched: bool,
}

impl LingeringRuns {
    /// `handle`: where they are looked at.
    pub(crate) fn new(handle: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            handle,
            round: AtomicU32::new(0),
            state: Mutex::default(),
        })
    }

    /// Counts while there are such runs.
    pub(crate) fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    /// A run that stays begins.
    pub(crate) fn add(self: &Arc<Self>, cell: Weak<dyn AnyCell>) {
        let mut state = lock(&self.state);
        state.cells.push(cell);
        if !std::mem::replace(&mut state.watched, true) {
            drop(state);
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends when there is nothing to look at"
            )]
            self.handle.spawn(self.clone().watch());
        }
    }

    /// Ends all that wait.
    pub(crate) fn end(&self) {
        let cells = std::mem::take(&mut lock(&self.state).cells);
        for cell in cells.iter().filter_map(Weak::upgrade) {
            cell.end_wait(true);
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ROUND).await;
            self.round.fetch_add(1, Ordering::Relaxed);
            let mut cells = std::mem::take(&mut lock(&self.state).cells);
            cells.retain(|cell| cell.upgrade().is_some_and(|cell| cell.end_wait(false)));
            let mut state = lock(&self.state);
            // What came meanwhile comes last.
            cells.append(&mut state.cells);
            state.cells = cells;
            if state.cells.is_empty() {
                state.cells = Vec::new();
                state.watched = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::actor::tasks::lingering::*;

    #[test]
    fn a_cell_that_ran_often_in_a_moment_is_warm() {
        let mut warmth = RecentRuns::default();
        let risen: Vec<bool> = (0..5).map(|_| warmth.record(7)).collect();
        assert_eq!(risen, [false, false, false, true, true]);
        assert!(warmth.record(8));
        assert!(!warmth.record(10), "it was idle for more than a round");
    }
}
