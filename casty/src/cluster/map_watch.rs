//! The node's copy of the cluster map, and a way to wait for the next.
//!
//! Not `tokio::sync::watch`: that picks the waiters it wakes by global randomness, which a
//! simulation cannot replay.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, time::Instant};

use crate::{cluster::locks::Rank, id::MemberId, infra::sync::Ranked, protocol::map::ClusterMap};

#[derive(Debug)]
pub(crate) struct MapWatch {
    current: ArcSwapOption<ClusterMap>,
    /// The map that was forgotten last.
    last: ArcSwapOption<ClusterMap>,
    /// Held while the map changes: news come from the engine here and from the watched voter.
    changing: Ranked<Gone>,
    changed: Notify,
}

/// Since when this process knows that stores have no process: by the last process of each.
#[derive(Debug, Default)]
struct Gone(BTreeMap<MemberId, Instant>);

impl Gone {
    fn note(&mut self, map: &ClusterMap) {
        let stores = map.stores.values().map(|place| &place.holder);
        let gone = stores.filter(|holder| !map.is_present(holder));
        let now = Instant::now();
        let before = std::mem::take(&mut self.0);
        let since = |holder: &MemberId| before.get(holder).copied().unwrap_or(now);
        self.0 = gone.map(|gone| (gone.clone(), since(gone))).collect();
    }
}

impl Default for MapWatch {
    fn default() -> Self {
        Self {
            current: ArcSwapOption::empty(),
            last: ArcSwapOption::empty(),
            changing: Rank::MapChange.mutex(Gone::default()),
            changed: Notify::new(),
        }
    }
}

impl MapWatch {
    /// `None` before this node has joined.
    pub(crate) fn get(&self) -> Option<Arc<ClusterMap>> {
        self.current.load_full()
    }

    /// Takes over a map, unless it is no newer than the present one.
    pub(crate) fn offer(&self, map: ClusterMap) -> bool {
        let mut one_at_a_time = self.changing.lock();
        let newer = self
            .current
            .load()
            .as_ref()
            .is_none_or(|known| known.age() < map.age());
        if newer {
            one_at_a_time.note(&map);
            self.current.store(Some(Arc::new(map)));
        }
        drop(one_at_a_time);
        if newer {
            self.changed.notify_waiters();
        }
        newer
    }

    /// Applies changes to a copy of the present map. `false` if there is none, or `change` says
    /// that they do not fit.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ClusterMap) -> bool) -> bool {
        let mut one_at_a_time = self.changing.lock();
        let Some(known) = self.get() else {
            return false;
        };
        let mut map = (*known).clone();
        if !change(&mut map) {
            return false;
        }
        let newer = map.version > known.version;
        if newer {
            one_at_a_time.note(&map);
            self.current.store(Some(Arc::new(map)));
        }
        drop(one_at_a_time);
        if newer {
            self.changed.notify_waiters();
        }
        true
    }

    /// The last processes of stores that have none now, and for how many milliseconds at least.
    pub(crate) fn gone(&self) -> BTreeMap<MemberId, u64> {
        let gone = self.changing.lock();
        let millis = |since: &Instant| u64::try_from(since.elapsed().as_millis());
        let gone = gone.0.iter();
        gone.map(|(holder, since)| (holder.clone(), millis(since).unwrap_or(u64::MAX)))
            .collect()
    }

    /// Forgets the map: this process begins anew.
    pub(crate) fn clear(&self) {
        let _one_at_a_time = self.changing.lock();
        if let Some(last) = self.current.swap(None) {
            self.last.store(Some(last));
        }
    }

    /// The present map, or the one that was forgotten last: an operator may have the node go on
    /// from there.
    pub(crate) fn latest(&self) -> Option<Arc<ClusterMap>> {
        self.get().or_else(|| self.last.load_full())
    }

    /// Wakes all waiters although the map is the same, because something else that they check has
    /// changed.
    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// Resolves with the first map that is newer than the one seen last, or another cluster's.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn newer_than(&self, seen: Option<&ClusterMap>) -> Arc<ClusterMap> {
        let is_news = |map: &&Arc<ClusterMap>| {
            seen.is_none_or(|seen| {
                seen.identity.uuid != map.identity.uuid || map.age() > seen.age()
            })
        };
        self.wait(|map| map.filter(is_news).cloned()).await
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
            // The wait begins before the check, so that no change in between is missed.
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
