//! The wall clock: the system's, or that of a simulated node.

use std::{sync::LazyLock, time::Duration};

/// The time since the Unix epoch.
pub(crate) fn since_epoch() -> Duration {
    #[cfg(feature = "sim")]
    if let Some(shown) = simulated::shown() {
        return shown;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks for the wall clock"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

/// The same in milliseconds, as records have it.
pub(crate) fn millis() -> u64 {
    whole_millis(since_epoch())
}

/// The longest time that can be told comes for all that are longer.
pub(crate) fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a simulated node reads it here.
pub(crate) fn is_simulated() -> bool {
    #[cfg(feature = "sim")]
    return simulated::shown().is_some();
    #[cfg(not(feature = "sim"))]
    false
}

/// The time since some time in the past, by the machine's monotonic clock. No test pauses it.
pub(crate) fn monotonic() -> Duration {
    static FIRST: LazyLock<std::time::Instant> = LazyLock::new(now);
    now().saturating_duration_since(*FIRST)
}

#[expect(
    clippy::disallowed_methods,
    reason = "it is compared with tokio's clock, to see whether that one is paused"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(feature = "sim")]
pub(crate) mod simulated {
    use std::{cell::Cell, time::Duration};

    thread_local! {
        static SHOWN: Cell<Option<Duration>> = const { Cell::new(None) };
    }

    pub(super) fn shown() -> Option<Duration> {
        SHOWN.get()
    }

    /// Sets what the wall clock shows on this thread, until this is dropped.
    pub(crate) struct Shows(Option<Duration>);

    impl Shows {
        pub(crate) fn new(since_epoch: Duration) -> Self {
            Self(SHOWN.replace(Some(since_epoch)))
        }
    }

    impl Drop for Shows {
        fn drop(&mut self) {
            SHOWN.set(self.0);
        }
    }
}
