//! Erases what is stored of an entity, at an operator's wish.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{ShardRegion, local::address};
use crate::{
    actor::handle::Signal,
    error::StoredError,
    id::{EntityId, ShardId},
    persistence::{
        Page, keys::Keys, record_body::RecordBody, reminders::OwnReminders, sends::LastTaken,
        shard_log::ShardLog, writer::Writer,
    },
};

impl ShardRegion {
    /// Has an entity end and what is stored of it erased, by its own run. `None`: the shard takes
    /// no messages here.
    ///
    /// It takes as long as the entity takes to end.
    pub(super) async fn erase_entity(
        &self,
        shard: ShardId,
        id: &EntityId,
    ) -> Option<Result<bool, StoredError>> {
        let mut closed = None;
        loop {
            let owned = || id.clone();
            let cell = self
                .local
                .cell(self, shard, None, (id.as_str(), &owned), closed)?;
            let (done, erased) = oneshot::channel();
            cell.clone().signal(Signal::Erase(done));
            if let Ok(erased) = erased.await {
                return Some(erased);
            }
            // A fresh cell takes the place of one that has closed.
            closed = cell.is_closed().then(|| address(&*cell));
        }
    }
}

/// What writes the record that erases an entity. `None`: nothing is stored of it. Its state is not
/// read, so that an entity that cannot be read can be erased.
pub(super) async fn writer(
    log: Result<Arc<ShardLog>, String>,
    id: &EntityId,
    patience: Duration,
) -> Result<Option<Writer>, StoredError> {
    let log = log.map_err(|reason| StoredError::Unavailable { reason })?;
    let finding = find(&log, id);
    let found = timeout_at(Instant::now() + patience, finding).await;
    let found = found.unwrap_or_else(|_| {
        let silent = || format!("it has not answered within {patience:?}");
        let reason = log.pending().unwrap_or_else(silent);
        Err(StoredError::Unavailable { reason })
    })?;
    // The entity that begins anew remembers no answers, and has no reminders.
    let (keys, reminders) = (Keys::default(), OwnReminders::default());
    Ok(found.map(|(last, taken)| {
        let remembered = (keys, taken, reminders);
        Writer::new(log, id.clone(), last, (last.0, 0), remembered)
    }))
}

/// The number and the position of the last record of an entity, unless all that was stored is
/// forgotten.
async fn find(
    log: &ShardLog,
    id: &EntityId,
) -> Result<Option<((u64, u64), LastTaken)>, StoredError> {
    let claimed = log.claimed().await;
    claimed.map_err(|reason| StoredError::Unavailable { reason })?;
    let store = log.store();
    let _turn = store.recovery(log.log()).await;
    let journal = store.journal();
    let snapshot = journal.load(log.log(), id).await?;
    // The position is of no use if nothing comes after the snapshot.
    let (mut seq, mut position) = (snapshot.as_ref().map_or(0, |snapshot| snapshot.seq), 0);
    let mut is_stored = snapshot.is_some();
    let mut taken = LastTaken::default();
    // What cannot be read says nothing of sends.
    let mut note = |body: &[u8]| {
        if let Ok(body) = RecordBody::decode(body) {
            taken.extend(body.last_taken);
            taken.extend(body.taken);
        }
    };
    if let Some(snapshot) = &snapshot {
        note(&snapshot.body);
    }
    loop {
        let page = journal.read_entity(log.log(), id, seq, Page::default());
        let page = page.await?;
        let Some(last) = page.last() else { break };
        (seq, position) = (last.seq, last.position);
        for record in &page {
            note(&record.body);
        }
        is_stored |= page.iter().any(|record| !record.body.is_empty());
    }
    if !is_stored && seq > 0 {
        // A snapshot may have been saved since, and what it contains forgotten.
        let snapshot = journal.load(log.log(), id).await?;
        is_stored = snapshot.is_some();
    }
    Ok(is_stored.then_some(((seq, position), taken)))
}
