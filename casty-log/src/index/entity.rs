//! Where the records of one entity stand.

use std::{collections::VecDeque, sync::Arc};

/// A snapshot in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotPlace {
    pub(crate) seq: u64,
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) body: u32,
}

#[derive(Debug, Default)]
pub(crate) struct EntityIndex {
    pub(crate) name: Arc<str>,
    /// The positions of its records.
    pub(crate) records: VecDeque<u64>,
    /// While a store is opened: they are not in order.
    pub(super) is_mixed: bool,
    /// The records up to this number have no body. There may be more of them.
    pub(super) forgotten: u64,
    /// How many of its records have a body.
    pub(crate) bodies: u32,
    pub(crate) snapshot: Option<SnapshotPlace>,
}

impl EntityIndex {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, position: u64) {
        self.is_mixed |= self.records.back().is_some_and(|last| *last > position);
        self.records.push_back(position);
    }

    /// Records are removed from one of the ends, once they are in order.
    pub(super) fn remove(&mut self, position: u64) {
        if self.records.back() == Some(&position) {
            self.records.pop_back();
        } else if self.records.front() == Some(&position) {
            self.records.pop_front();
        } else if let Some(at) = self.records.iter().position(|found| *found == position) {
            self.records.remove(at);
        }
    }

    pub(super) fn sort(&mut self) {
        if self.is_mixed {
            self.records.make_contiguous().sort_unstable();
            self.is_mixed = false;
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.records.is_empty() && self.snapshot.is_none()
    }

    /// Whether there is more of it than empty records.
    pub(crate) fn is_stored(&self) -> bool {
        self.bodies > 0 || self.snapshot.is_some()
    }
}
