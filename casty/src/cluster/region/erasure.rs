//! Erases what is stored of an entity, at an operator's wish.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::ShardRegion;
use crate::{
    actor::handle::Signal,
    error::StoredError,
    id::{EntityId, ShardId},
    persistence::{JournalError, Page, keys::Keys, shard_log::ShardLog, writer::Writer},
};

/// How often a cell may close before it is told.
const CELLS_MAX: usize = 100;

impl ShardRegion {
    /// Has an entity end and what is stored of it erased, by its own run. `None`: the shard takes
    /// no messages here.
    pub(super) async fn erase_entity(
        &self,
        shard: ShardId,
        id: &EntityId,
    ) -> Option<Result<bool, StoredError>> {
        for _ in 0..CELLS_MAX {
            let cell = self
                .local
                .cell(self, shard, None, (id.as_str(), &|| id.clone()), None)?;
            let (done, erased) = oneshot::channel();
            cell.signal(Signal::Erase(done));
            if let Ok(erased) = erased.await {
                return Some(erased);
            }
            // It closes, and another one takes its place.
            tokio::task::yield_now().await;
        }
        let reason = "the entity ends again and again".to_owned();
        Some(Err(StoredError::Unreachable { reason }))
    }
}

/// What writes the record that erases an entity. `None`: nothing is stored of it. Its state is not
/// read, so that an entity that cannot be read can be erased.
pub(super) async fn writer(
    log: Option<Arc<ShardLog>>,
    id: &EntityId,
    patience: Duration,
) -> Result<Option<Writer>, StoredError> {
    let Some(log) = log else {
        let reason = "the shard of the entity is on another node now".to_owned();
        return Err(StoredError::Unreachable { reason });
    };
    let finding = find(&log, id);
    let found = timeout_at(Instant::now() + patience, finding).await;
    let found = found.unwrap_or_else(|_| {
        let silent = || format!("it has not answered within {patience:?}");
        let reason = log.pending().unwrap_or_else(silent);
        Err(StoredError::Unavailable { reason })
    })?;
    // The entity that begins anew remembers no answers.
    let keys = Keys::default();
    Ok(found.map(|last| Writer::new(log, id.clone(), last, (last.0, 0), keys)))
}

/// The number and the position of the last record of an entity, unless all that was stored is
/// forgotten.
async fn find(log: &ShardLog, id: &EntityId) -> Result<Option<(u64, u64)>, StoredError> {
    let claimed = log.claimed().await;
    claimed.map_err(|reason| StoredError::Unavailable { reason })?;
    let store = log.store();
    let _turn = store.recovery().await;
    let journal = store.journal();
    let snapshot = journal.load(log.log(), id).await.map_err(failed)?;
    // The position is of no use if nothing comes after the snapshot.
    let (mut seq, mut position) = (snapshot.as_ref().map_or(0, |snapshot| snapshot.seq), 0);
    let mut is_stored = snapshot.is_some();
    loop {
        let page = journal.read_entity(log.log(), id, seq, Page::default());
        let page = page.await.map_err(failed)?;
        let Some(last) = page.last() else {
            return Ok(is_stored.then_some((seq, position)));
        };
        (seq, position) = (last.seq, last.position);
        is_stored |= page.iter().any(|record| !record.body.is_empty());
    }
}

fn failed(error: JournalError) -> StoredError {
    match error {
        JournalError::Unavailable { reason } => StoredError::Unavailable { reason },
        JournalError::Unusable { reason } => StoredError::Unusable { reason },
    }
}
