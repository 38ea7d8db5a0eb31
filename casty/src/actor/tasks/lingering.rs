//! Runs that wait for their cell's next message instead of ending.
//!
//! Beginning a run costs more than handling a message, but a run that waits costs memory. So the
//! run of a cell that was busy several times within a short time lingers. A task that exists only
//! while there are such runs checks them: a run that has waited for a whole round ends. An idle
//! cell soon has no task again.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use crate::infra::concurrent::{AtomicU32, Mutex, lock, sleep, spawn_on};

/// The time between two checks.
const ROUND: Duration = Duration::from_millis(50);

/// After so many runs in successive rounds, the next run lingers.
const RUNS: u8 = 3;

/// How often a cell began to run lately.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecentRuns {
    round: u32,
    runs: u8,
}

impl RecentRuns {
    /// Records that a run begins. Returns whether it should linger.
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

/// A cell whose run may linger.
pub(crate) trait Lingers: Send + Sync {
    /// Ends the run if it has waited since the last call, or, `at_all`, if it waits. Returns
    /// whether there is a run yet.
    fn end_wait(&self, at_all: bool) -> bool;
}

/// The lingering runs of a system.
pub(crate) struct LingeringRuns {
    handle: tokio::runtime::Handle,
    round: AtomicU32,
    cells: Mutex<LingeringCells>,
}

#[derive(Default)]
struct LingeringCells {
    cells: Vec<Weak<dyn Lingers>>,
    watched: bool,
}

impl LingeringRuns {
    /// `handle`: the runtime on which they are checked.
    pub(crate) fn new(handle: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            handle,
            round: AtomicU32::new(0),
            cells: Mutex::default(),
        })
    }

    /// The number of the present round. It grows while there are lingering runs.
    pub(crate) fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    /// Adds the cell of a run that lingers.
    pub(crate) fn add(self: &Arc<Self>, cell: Weak<dyn Lingers>) {
        let mut lingering = lock(&self.cells);
        lingering.cells.push(cell);
        if !std::mem::replace(&mut lingering.watched, true) {
            drop(lingering);
            // Ends when no run is left.
            spawn_on(&self.handle, self.clone().watch());
        }
    }

    /// Ends all runs that wait.
    pub(crate) fn end(&self) {
        let cells = std::mem::take(&mut lock(&self.cells).cells);
        for cell in cells.iter().filter_map(Weak::upgrade) {
            cell.end_wait(true);
        }
    }

    async fn watch(self: Arc<Self>) {
        loop {
            sleep(ROUND).await;
            self.round.fetch_add(1, Ordering::Relaxed);
            let mut cells = std::mem::take(&mut lock(&self.cells).cells);
            cells.retain(|cell| cell.upgrade().is_some_and(|cell| cell.end_wait(false)));
            let mut lingering = lock(&self.cells);
            // Cells added meanwhile come last.
            cells.append(&mut lingering.cells);
            lingering.cells = cells;
            if lingering.cells.is_empty() {
                lingering.cells = Vec::new();
                lingering.watched = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::actor::tasks::lingering::*;

    #[test]
    fn the_run_of_a_cell_that_ran_often_lately_lingers() {
        let mut recent = RecentRuns::default();
        let lingers: Vec<bool> = (0..5).map(|_| recent.record(7)).collect();
        assert_eq!(lingers, [false, false, false, true, true]);
        assert!(recent.record(8));
        assert!(
            !recent.record(10),
            "the cell was idle for more than a round"
        );
    }
}
