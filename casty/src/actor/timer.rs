//! Deadlines of asks, without a timer each.
//!
//! Starting a timer takes a lock and may wake the thread that drives the clock; pushing back one that runs is a
//! single atomic operation. Most asks are answered long before their deadline, so their timers are kept, running,
//! for the next ask on the same thread.

use std::{cell::RefCell, pin::Pin, time::Duration};

use tokio::{
    runtime::{Handle, Id},
    time::{Instant, Sleep},
};

/// Timers kept on a thread.
const KEPT_MAX: usize = 256;

struct Kept {
    /// The runtime whose clock drives them. Timers of another one may never fire.
    runtime: Option<Id>,
    timers: Vec<Pin<Box<Sleep>>>,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { runtime: None, timers: Vec::new() }) };
}

/// A timer that goes back to where it came from.
pub(crate) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// A deadline in `after`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(after: Duration) -> Self {
        let current = Handle::current().id();
        let kept = KEPT.with_borrow_mut(|kept| {
            if kept.runtime != Some(current) {
                kept.runtime = Some(current);
                kept.timers.clear();
            }
            kept.timers.pop()
        });
        Self(Some(match kept {
            Some(mut timer) => {
                timer.as_mut().reset(Instant::now() + after);
                timer
            }
            None => Box::pin(tokio::time::sleep(after)),
        }))
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        match &mut self.0 {
            Some(timer) => timer.as_mut().poll(cx),
            None => std::task::Poll::Ready(()),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Some(timer) = self.0.take().filter(|timer| !timer.is_elapsed()) else {
            return;
        };
        let Ok(current) = Handle::try_current() else {
            return;
        };
        // The thread may be ending, or may be dropping its kept timers.
        let _ = KEPT.try_with(|kept| {
            if let Ok(mut kept) = kept.try_borrow_mut()
                && kept.runtime == Some(current.id())
                && kept.timers.len() < KEPT_MAX
            {
                kept.timers.push(timer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kept_timer_fires_at_its_new_deadline() {
        let start = Instant::now();
        for millis in [50, 10, 2_000, 30] {
            let begun = Instant::now();
            // Kept while it still runs.
            let mut first = Deadline::new(Duration::from_secs(5));
            assert!(futures_util::poll!(&mut first).is_pending());
            drop(first);
            Deadline::new(Duration::from_millis(millis)).await;
            assert_eq!(begun.elapsed(), Duration::from_millis(millis));
        }
        assert!(start.elapsed() < Duration::from_secs(3));
    }

    #[test]
    fn timers_of_a_runtime_that_is_gone_are_not_used() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut unused = Deadline::new(Duration::from_mins(1));
                assert!(futures_util::poll!(&mut unused).is_pending());
                drop(unused);
                Deadline::new(Duration::from_millis(1)).await;
            });
        }
    }
}
