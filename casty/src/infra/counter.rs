//! A count that several parts add to.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A count that only grows. A clone is the same count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
