//! The end of the tokio runtime under a system that still has users, on another runtime.

use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;

use crate::{actor::runtime::Runtime, cluster::region::AnyRegion, error::Failure};

/// Ends a system with its tokio runtime: messages are refused, and asks end. Without that they
/// would wait for ever, since no task handles them and no timer ends them.
///
/// `stop` is cancelled when the system stops by itself.
pub(super) fn tie(
    runtime: &Arc<Runtime>,
    regions: &[Arc<dyn AnyRegion>],
    ending: &CancellationToken,
    stop: &CancellationToken,
) {
    let mut tether = Tether {
        runtime: Arc::downgrade(runtime),
        regions: regions.iter().map(Arc::downgrade).collect(),
        ending: ending.clone(),
        stop: stop.clone(),
        is_tied: true,
    };
    #[expect(clippy::disallowed_methods, reason = "it ends with the system")]
    runtime.handle().spawn(async move { tether.hold().await });
}

/// What a task holds that ends no earlier than its runtime, or its system.
struct Tether {
    runtime: Weak<Runtime>,
    regions: Vec<Weak<dyn AnyRegion>>,
    ending: CancellationToken,
    stop: CancellationToken,
    is_tied: bool,
}

impl Tether {
    /// Until the system stops by itself.
    async fn hold(&mut self) {
        self.stop.cancelled().await;
        self.is_tied = false;
    }
}

impl Drop for Tether {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        if !self.is_tied {
            return;
        }
        self.stop.cancel();
        for region in self.regions.iter().filter_map(Weak::upgrade) {
            region.abandon(&Failure::Stopped);
        }
        runtime.handle_lost_tokio();
        // The end is told once it has come.
        self.ending.cancel();
    }
}
