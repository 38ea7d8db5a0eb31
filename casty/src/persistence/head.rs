//! How far the log of a shard is durable, for readers that follow it.

use std::{
    pin::pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::Notify;

use crate::infra::mutants;

/// The position of the last durable record of a log, as far as this node knows: of each record that
/// it has written itself, and of what it found when it claimed the log.
#[derive(Debug, Default)]
pub(crate) struct Head {
    position: AtomicU64,
    /// How many readers wait. Most logs have none, and a record then notifies nothing.
    waiting: AtomicUsize,
    changed: Notify,
}

/// A reader that waits.
struct Waits<'a>(&'a Head);

impl<'a> Waits<'a> {
    fn new(head: &'a Head) -> Self {
        head.waiting.fetch_add(1, Ordering::SeqCst);
        Self(head)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Head {
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    /// The records up to `position` are durable.
    pub(super) fn rise(&self, position: u64) {
        self.position.fetch_max(position, Ordering::SeqCst);
        let wakes = self.waiting.load(Ordering::SeqCst) > 0;
        if wakes && !mutants::on("readers_are_not_woken") {
            self.changed.notify_waiters();
        }
    }

    /// Resolves once there is a durable record after `position`.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(crate) async fn after(&self, position: u64) {
        // Before the look: a record that comes after it notifies.
        let _waits = Waits::new(self);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.position() > position {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_waits_for_a_record_after_its_own() {
        let head = Head::default();
        head.rise(3);
        assert_eq!(head.after(2).now_or_never(), Some(()));
        let mut waits = Box::pin(head.after(3));
        assert_eq!((&mut waits).now_or_never(), None);
        head.rise(2);
        assert_eq!((&mut waits).now_or_never(), None, "a head never falls");
        head.rise(4);
        assert_eq!((&mut waits).now_or_never(), Some(()));
        drop(waits);
        assert_eq!(head.waiting.load(Ordering::SeqCst), 0);
        mutants::breaking("readers_are_not_woken", || {
            let mut waits = Box::pin(head.after(4));
            assert_eq!((&mut waits).now_or_never(), None);
            head.rise(5);
            assert_eq!((&mut waits).now_or_never(), None);
        });
    }
}
