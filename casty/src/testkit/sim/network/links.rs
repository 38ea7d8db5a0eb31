//! The links between hosts, and their faults.

use std::collections::BTreeMap;

use super::HostId;

/// How a link treats a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    /// The segment waits until the link is healed.
    Held,
    /// The segment is lost.
    Cut,
}

/// The directions that have a fault; all others work. A host always reaches itself.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<(HostId, HostId), Fault>);

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
#[derive(Clone, Copy, Debug, Default)]
struct Fault {
    cut: bool,
    held: bool,
    /// Broken by the conditions.
    broken: bool,
    damages: bool,
}

impl Links {
    pub(super) fn passage(&self, from: HostId, to: HostId) -> Passage {
        match self.0.get(&(from, to)) {
            Some(fault) if fault.cut || fault.broken => Passage::Cut,
            Some(fault) if fault.held => Passage::Held,
            _ => Passage::Open,
        }
    }

    pub(super) fn cut(&mut self, from: HostId, to: HostId) {
        self.fault(from, to, |fault| fault.cut = true);
    }

    pub(super) fn hold(&mut self, from: HostId, to: HostId) {
        self.fault(from, to, |fault| fault.held = true);
    }

    /// Damages some of what is sent.
    pub(super) fn damage(&mut self, from: HostId, to: HostId) {
        self.fault(from, to, |fault| fault.damages = true);
    }

    pub(super) fn damages(&self, from: HostId, to: HostId) -> bool {
        self.0.get(&(from, to)).is_some_and(|fault| fault.damages)
    }

    pub(super) fn is_broken(&self, a: HostId, b: HostId) -> bool {
        self.0.get(&(a, b)).is_some_and(|fault| fault.broken)
    }

    /// The conditions break or repair both directions.
    pub(super) fn set_broken(&mut self, a: HostId, b: HostId, broken: bool) {
        for (from, to) in [(a, b), (b, a)] {
            self.fault(from, to, |fault| fault.broken = broken);
        }
    }

    pub(super) fn heal(&mut self) {
        self.0.clear();
    }

    fn fault(&mut self, from: HostId, to: HostId, change: impl FnOnce(&mut Fault)) {
        if from != to {
            change(self.0.entry((from, to)).or_default());
        }
    }
}
