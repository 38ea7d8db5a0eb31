//! A node: its name and clock, and its process while it has one.

use std::sync::Arc;

use super::{
    TICK,
    clock::Clock,
    network::HostId,
    process::{Inbox, Process},
};

pub(super) struct SimNode {
    pub(super) name: String,
    pub(super) host: HostId,
    pub(super) inbox: Arc<Inbox>,
    pub(super) starts: u64,
    pub(super) start: Box<dyn Fn(u64) -> Process>,
    pub(super) process: Option<Process>,
    pub(super) is_paused: bool,
    pub(super) clock: Clock,
}

impl SimNode {
    /// Whether it answers.
    pub(super) fn runs(&self) -> bool {
        let process = self.process.as_ref();
        !self.is_paused && process.is_some_and(|process| !process.is_leaving())
    }

    /// One step of true time. Gives the outcome of its process once that has ended.
    pub(super) fn step(&mut self) -> Option<Result<(), String>> {
        if self.is_paused {
            self.clock.pass_paused(TICK);
            return None;
        }
        // A clock that nobody looks at needs not be right.
        let process = self.process.as_mut()?;
        process.run(self.clock.pass(TICK))
    }
}
