//! Whether the entities of this node may act: their node has to hold a lease, by its own clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Open until a deadline, which moves as the lease is renewed. Asked before each handler and before
/// each answer.
#[derive(Debug)]
pub(crate) struct Gate {
    born: Instant,
    /// Nanoseconds since `born`.
    until: AtomicU64,
    lapses: AtomicU64,
    opened: Notify,
    /// Told when the gate is closed ahead of its deadline.
    closed: Notify,
}

/// How often a [`Gate`] has been opened after it was closed. A gate that is open and whose lapses
/// are the same as before was open all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lapses(u64);

impl Gate {
    /// Closed.
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            until: AtomicU64::new(0),
            lapses: AtomicU64::new(0),
            opened: Notify::new(),
            closed: Notify::new(),
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

    #[inline]
    pub(crate) fn lapses(&self) -> Lapses {
        Lapses(self.lapses.load(Ordering::Relaxed))
    }

    /// Whether the gate is open, and was open ever since it had these lapses.
    pub(crate) fn is_open_since(&self, lapses: Lapses) -> bool {
        // In this order: a reader that sees the gate open again has seen the lapse before.
        self.is_open() && self.lapses() == lapses
    }

    /// Opens it until then, or for longer if it was open for longer already.
    pub(crate) fn open_until(&self, deadline: Instant) {
        let was_closed = |until| until <= self.nanos(Instant::now());
        let lapsed = was_closed(self.until.load(Ordering::Acquire));
        if lapsed {
            self.lapses.fetch_add(1, Ordering::Release);
        }
        let before = self.until.fetch_max(self.nanos(deadline), Ordering::AcqRel);
        // This thread may have stood still for longer than the gate was open.
        if !lapsed && was_closed(before) {
            self.lapses.fetch_add(1, Ordering::Release);
        }
        self.opened.notify_waiters();
    }

    /// Closes it at once: this process is no member any more.
    pub(crate) fn close(&self) {
        self.until.store(0, Ordering::Release);
        self.closed.notify_waiters();
    }

    /// Resolves when the gate is closed, or was closed since it had these lapses.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn lapsed(&self, since: Lapses) {
        loop {
            let mut closed = std::pin::pin!(self.closed.notified());
            // Before the look: a closing in between is not missed.
            closed.as_mut().enable();
            if !self.is_open_since(since) {
                return;
            }
            let until = self.until.load(Ordering::Acquire);
            let left = Duration::from_nanos(until.saturating_sub(self.nanos(Instant::now())));
            // A timer is no more exact than this.
            let left = left.max(Duration::from_millis(1));
            // The deadline may have moved by then.
            let _ = tokio::time::timeout(left, closed).await;
        }
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

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_is_open_again_was_not_open_all_the_time() {
        let (gate, second) = (Gate::new(), Duration::from_secs(1));
        gate.open_until(Instant::now() + second);
        let lapses = gate.lapses();
        tokio::time::advance(second / 2).await;
        gate.open_until(Instant::now() + second);
        assert!(gate.is_open_since(lapses), "it was renewed in time");
        tokio::time::advance(second).await;
        assert!(!gate.is_open_since(lapses));
        gate.open_until(Instant::now() + second);
        assert!(gate.is_open() && !gate.is_open_since(lapses));
        let lapses = gate.lapses();
        gate.close();
        gate.open_until(Instant::now() + second);
        assert!(gate.is_open() && !gate.is_open_since(lapses));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_lapse_hears_of_it_at_the_deadline_or_when_it_is_closed() {
        let (gate, second) = (Gate::new(), Duration::from_secs(1));
        let begun = Instant::now();
        gate.open_until(begun + second);
        tokio::join!(gate.lapsed(gate.lapses()), async {
            tokio::time::sleep(second / 2).await;
            gate.open_until(Instant::now() + second);
        });
        assert_eq!(begun.elapsed(), second * 3 / 2);
        gate.open_until(Instant::now() + second);
        tokio::join!(gate.lapsed(gate.lapses()), async {
            tokio::task::yield_now().await;
            gate.close();
        });
        assert_eq!(begun.elapsed(), second * 3 / 2);
    }
}
