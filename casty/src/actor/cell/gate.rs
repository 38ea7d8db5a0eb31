//! Whether the entities of this node may act: their node has to hold a lease, by its own clock.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::{sync::Notify, time::Instant};

/// Open until a deadline, which moves as the lease is renewed. Asked before each handler and before
/// each answer.
#[derive(Debug)]
pub(crate) struct Gate {
    born: Instant,
    /// Nanoseconds since `born`.
    until: AtomicU64,
    opened: Notify,
}

impl Gate {
    /// Closed.
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            until: AtomicU64::new(0),
            opened: Notify::new(),
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.born);
        // Not by `as_nanos`, whose 128 bits cost more than reading the clock. This check runs
        // before each handler.
        let seconds = since.as_secs().saturating_mul(1_000_000_000);
        seconds.saturating_add(u64::from(since.subsec_nanos()))
    }

    pub(crate) fn is_open(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until > 0 && self.nanos(Instant::now()) < until
            || crate::infra::mutants::on("serves_without_a_lease")
    }

    /// Opens it until then, or for longer if it was open for longer already.
    pub(crate) fn open_until(&self, deadline: Instant) {
        self.until.fetch_max(self.nanos(deadline), Ordering::AcqRel);
        self.opened.notify_waiters();
    }

    /// Closes it at once: this process is no member any more.
    pub(crate) fn close(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Resolves when it is open.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn opened(&self) {
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // Before the look: an opening in between is not missed.
            opened.as_mut().enable();
            if self.is_open() {
                return;
            }
            opened.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::actor::cell::gate::*;

    #[tokio::test(start_paused = true)]
    async fn a_gate_is_open_until_its_deadline_and_no_longer() {
        let (gate, second) = (Gate::new(), Duration::from_secs(1));
        let nearly = Duration::from_millis(999);
        assert!(!gate.is_open());
        gate.open_until(Instant::now() + second);
        gate.opened().await;
        // A shorter one does not close it.
        gate.open_until(Instant::now());
        tokio::time::advance(nearly).await;
        assert!(gate.is_open());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!gate.is_open());
        gate.open_until(Instant::now() + second);
        gate.close();
        assert!(!gate.is_open());
    }
}
