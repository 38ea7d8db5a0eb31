//! A simulated node: its name, its clock, and its process while one runs.

use std::sync::Arc;

use casty_log::disk::SimDisk;

use super::{
    TICK,
    clock::{Clock, WallClock, true_time},
    network::HostId,
    process::{Inbox, Process},
};
use crate::infra::wall_clock::simulated::Shows;

pub(super) struct SimNode {
    pub(super) name: String,
    pub(super) host: HostId,
    pub(super) inbox: Arc<Inbox>,
    pub(super) starts: u64,
    pub(super) start: Box<dyn Fn(u64) -> Process>,
    pub(super) process: Option<Process>,
    pub(super) is_paused: bool,
    /// It has what its processes have stored.
    pub(super) disk: SimDisk,
    pub(super) clock: Clock,
    pub(super) wall_clock: WallClock,
    /// Its process is no node: an operator's, or a stranger's.
    pub(super) is_outside: bool,
}

impl SimNode {
    /// Whether the node runs its tasks and takes part in the cluster.
    pub(super) fn runs(&self) -> bool {
        let process = self.process.as_ref();
        !self.is_outside && !self.is_paused && process.is_some_and(|process| !process.is_leaving())
    }

    /// Advances by one step of true time. Returns the outcome of the process once it has ended.
    pub(super) fn step(&mut self) -> Option<Result<(), String>> {
        if self.is_paused {
            self.clock.pass_paused(TICK);
            return None;
        }
        // Without a process, nothing reads the clock.
        let process = self.process.as_mut()?;
        let now = true_time().unwrap_or_default();
        let _shows = Shows::new(self.wall_clock.at(now));
        process.run(self.clock.pass(TICK))
    }
}
