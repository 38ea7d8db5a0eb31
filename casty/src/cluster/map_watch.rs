//! The node's copy of the cluster map, and a way to wait for the next.
//!
//! Not `tokio::sync::watch`: that picks the waiters it wakes by global randomness, which a simulation cannot replay.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use crate::protocol::map::ClusterMap;

#[derive(Debug, Default)]
pub(crate) struct MapWatch {
    current: ArcSwapOption<ClusterMap>,
    changed: Notify,
}

impl MapWatch {
    /// `None` before this node has joined.
    pub(crate) fn get(&self) -> Option<Arc<ClusterMap>> {
        self.current.load_full()
    }

    pub(crate) fn set(&self, map: ClusterMap) {
        self.current.store(Some(Arc::new(map)));
        self.changed.notify_waiters();
    }

    /// Wakes everybody who waits, though the map is the same: something else that they look at has changed.
    pub(crate) fn poke(&self) {
        self.changed.notify_waiters();
    }

    /// Resolves with the first `Some` that `look` makes of a map, the present one included.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait<R>(
        &self,
        mut look: impl FnMut(Option<&Arc<ClusterMap>>) -> Option<R>,
    ) -> R {
        loop {
            // Before the look: a change in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = look(self.current.load().as_ref()) {
                return found;
            }
            changed.await;
        }
    }
}
