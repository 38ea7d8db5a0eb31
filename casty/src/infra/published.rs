//! A value that many threads read without a lock, and that is replaced now and then.

use std::{ops::Deref, sync::Arc};

use crate::infra::{
    concurrent::{ArcSwap, yield_thread},
    mutants,
};

/// A published value. Its readers never wait. The thread that replaces the value can wait for them.
pub(crate) struct Published<T>(ArcSwap<T>);

impl<T> Published<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ArcSwap::from_pointee(value))
    }

    /// The present value. A reader must drop the guard soon, and before any `.await`:
    /// [`wait_for_readers`](Self::wait_for_readers) spins until then.
    #[inline]
    pub(crate) fn load(&self) -> impl Deref<Target = Arc<T>> {
        self.0.load()
    }

    /// Replaces the value, and returns the earlier one without waiting for its readers.
    pub(crate) fn swap(&self, value: T) -> Arc<T> {
        self.0.swap(Arc::new(value))
    }

    /// Waits until no reader holds this earlier value. After that, whatever readers did because of
    /// the value is done.
    ///
    /// Spins, since a reader holds the value only for as long as it takes to queue one message.
    pub(crate) fn wait_for_readers(earlier: &Arc<T>) {
        while Arc::strong_count(earlier) > 1 && !mutants::on("readers_are_not_waited_for") {
            yield_thread();
        }
    }
}
