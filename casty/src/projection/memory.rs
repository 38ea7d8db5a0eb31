//! A view in memory.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    id::Epoch,
    infra::mutants,
    projection::store::{ParkedEvent, ProjectedShard, ProjectionStore, ViewError},
};

/// A view in memory, for tests, with transactions as a database has them. Clones share the view, as
/// nodes share a database.
pub struct MemoryView<V>(Arc<Mutex<Kept<V>>>);

struct Kept<V> {
    view: V,
    offsets: BTreeMap<ProjectedShard, (Epoch, u64)>,
    parked: Vec<(ProjectedShard, ParkedEvent)>,
}

/// A transaction of a [`MemoryView`], which is the view as it will be: `*transaction` is a `V`.
pub struct MemoryTransaction<V> {
    kept: OwnedMutexGuard<Kept<V>>,
    view: V,
    parked: Vec<(ProjectedShard, ParkedEvent)>,
}

impl<V> MemoryView<V> {
    /// A view that begins as `view`.
    pub fn new(view: V) -> Self {
        let kept = Kept {
            view,
            offsets: BTreeMap::new(),
            parked: Vec::new(),
        };
        Self(Arc::new(Mutex::new(kept)))
    }

    /// Looks at the view.
    pub async fn look<R>(&self, look: impl FnOnce(&V) -> R) -> R {
        look(&self.0.lock().await.view)
    }

    /// The events that were parked.
    pub async fn parked(&self) -> Vec<(ProjectedShard, ParkedEvent)> {
        self.0.lock().await.parked.clone()
    }
}

impl<V: Default> Default for MemoryView<V> {
    fn default() -> Self {
        Self::new(V::default())
    }
}

impl<V> Clone for MemoryView<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> fmt::Debug for MemoryView<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryView").finish_non_exhaustive()
    }
}

impl<V> std::ops::Deref for MemoryTransaction<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.view
    }
}

impl<V> std::ops::DerefMut for MemoryTransaction<V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.view
    }
}

impl<V> fmt::Debug for MemoryTransaction<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransaction").finish_non_exhaustive()
    }
}

impl<V: Clone + Send + Sync + 'static> ProjectionStore for MemoryView<V> {
    type Transaction = MemoryTransaction<V>;

    fn describe(&self) -> String {
        "a view in memory".to_owned()
    }

    fn claim<'a>(
        &'a self,
        shard: &'a ProjectedShard,
        epoch: Epoch,
    ) -> BoxFuture<'a, Result<u64, ViewError>> {
        Box::pin(async move {
            let mut kept = self.0.lock().await;
            let offset = kept.offsets.entry(shard.clone()).or_default();
            if offset.0 > epoch {
                let reason = format!("{shard} is claimed under epoch {}", offset.0);
                return Err(ViewError::Stale { reason });
            }
            offset.0 = epoch;
            Ok(offset.1)
        })
    }

    fn begin(&self) -> BoxFuture<'_, Result<MemoryTransaction<V>, ViewError>> {
        Box::pin(async move {
            let kept = self.0.clone().lock_owned().await;
            Ok(MemoryTransaction {
                view: kept.view.clone(),
                kept,
                parked: Vec::new(),
            })
        })
    }

    fn commit<'a>(
        &'a self,
        transaction: MemoryTransaction<V>,
        shard: &'a ProjectedShard,
        epoch: Epoch,
        from: u64,
        to: u64,
    ) -> BoxFuture<'a, Result<(), ViewError>> {
        let MemoryTransaction {
            mut kept,
            view,
            parked,
        } = transaction;
        let (claimed, at) = kept.offsets.get(shard).copied().unwrap_or_default();
        let is_stale = claimed > epoch || at != from;
        if is_stale && !mutants::on("a_stale_runner_writes") {
            let reason = format!("{shard} is at {at}, claimed under epoch {claimed}");
            return Box::pin(std::future::ready(Err(ViewError::Stale { reason })));
        }
        kept.view = view;
        kept.parked.extend(parked);
        kept.offsets.insert(shard.clone(), (epoch, to));
        Box::pin(std::future::ready(Ok(())))
    }

    fn park<'a>(
        &'a self,
        transaction: &'a mut MemoryTransaction<V>,
        shard: &'a ProjectedShard,
        parked: &'a ParkedEvent,
    ) -> BoxFuture<'a, Result<(), ViewError>> {
        transaction.parked.push((shard.clone(), parked.clone()));
        Box::pin(std::future::ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> ProjectedShard {
        ProjectedShard {
            projection: "sums".to_owned(),
            version: 1,
            kind: "Account".to_owned(),
            shard: 3,
        }
    }

    async fn stale_runner() -> Result<(), ViewError> {
        let (view, shard) = (MemoryView::new(0), shard());
        assert_eq!(view.claim(&shard, Epoch(1)).await, Ok(0));
        let mut stale = view.begin().await.expect("a transaction");
        *stale += 1;
        drop(stale);
        assert_eq!(view.claim(&shard, Epoch(2)).await, Ok(0));
        let mut new = view.begin().await.expect("a transaction");
        *new += 10;
        assert_eq!(view.commit(new, &shard, Epoch(2), 0, 5).await, Ok(()));
        let mut stale = view.begin().await.expect("a transaction");
        *stale += 1;
        let late = view.commit(stale, &shard, Epoch(1), 5, 6).await;
        let sum = view.look(|sum| *sum).await;
        assert!(late.is_ok() || sum == 10);
        assert!(matches!(
            view.claim(&shard, Epoch(1)).await,
            Err(ViewError::Stale { .. }) | Ok(6)
        ));
        late
    }

    #[tokio::test]
    async fn a_runner_of_an_earlier_epoch_is_refused() {
        let late = stale_runner().await;
        assert!(matches!(late, Err(ViewError::Stale { .. })), "{late:?}");
    }

    #[test]
    fn a_stale_runner_would_write_if_it_were_not_refused() {
        mutants::breaking("a_stale_runner_writes", || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let late = runtime.expect("a runtime").block_on(stale_runner());
            assert_eq!(late, Ok(()));
        });
    }

    #[tokio::test]
    async fn an_offset_moves_only_from_where_it_is() {
        let (view, shard) = (MemoryView::new(0), shard());
        view.claim(&shard, Epoch(1)).await.expect("a claim");
        let skips = view.begin().await.expect("a transaction");
        let skips = view.commit(skips, &shard, Epoch(1), 4, 5).await;
        assert!(matches!(skips, Err(ViewError::Stale { .. })), "{skips:?}");
        let dropped = view.begin().await.expect("a transaction");
        view.roll_back(dropped).await;
        assert_eq!(view.claim(&shard, Epoch(1)).await, Ok(0));
    }
}
