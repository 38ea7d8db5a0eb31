//! A time that may come.

use std::{future::pending, pin::Pin};

use tokio::time::{Instant, Sleep};

/// Resolves at a time, if there is one. `sleep` is set to it, and can be used again.
///
/// # Cancel safety
/// Safe.
pub(crate) async fn passed(deadline: Option<Instant>, mut sleep: Pin<&mut Sleep>) {
    let Some(deadline) = deadline else {
        return pending().await;
    };
    if sleep.deadline() != deadline {
        sleep.as_mut().reset(deadline);
    }
    sleep.await;
}
