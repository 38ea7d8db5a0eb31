//! What is done to the store beside the records of an activation: snapshots are saved, and what is
//! not kept is forgotten.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, Notify};

use crate::{
    id::EntityId,
    infra::wall_clock,
    message::codec::EncodeError,
    persistence::{JournalError, Page, Snapshot, record_body::RecordBody, shard_log::ShardLog},
};

/// What is kept of the records that a snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    Nothing,
    /// What is not older.
    Recent(Duration),
}

/// The upkeep of one activation: one thing at a time, in the background.
#[derive(Debug)]
pub(crate) struct Upkeep {
    log: Arc<ShardLog>,
    entity: EntityId,
    /// A snapshot is to be saved, or is being saved.
    is_saving: AtomicBool,
    /// Held by what is done. The number of the last record that was forgotten.
    forgotten: Mutex<u64>,
    /// How many things are being done, or wait for their turn.
    under_way: AtomicUsize,
    /// Notified when there is nothing of that any more.
    idle: Notify,
}

/// Something that is being done. Over once it is dropped, also with a task that has ended early.
struct UnderWay(Arc<Upkeep>);

impl UnderWay {
    fn new(upkeep: Arc<Upkeep>) -> Self {
        upkeep.under_way.fetch_add(1, Ordering::Relaxed);
        Self(upkeep)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Upkeep {
    /// The records up to `forgotten` were forgotten before.
    pub(super) fn new(log: Arc<ShardLog>, entity: EntityId, forgotten: u64) -> Arc<Self> {
        Arc::new(Self {
            log,
            entity,
            is_saving: AtomicBool::new(false),
            forgotten: Mutex::new(forgotten),
            under_way: AtomicUsize::new(0),
            idle: Notify::new(),
        })
    }

    pub(super) fn is_saving(&self) -> bool {
        self.is_saving.load(Ordering::Acquire)
    }

    /// Resolves once nothing is being done. What is held for later does not count.
    ///
    /// # Cancel safety
    /// Dropping it loses nothing.
    pub(crate) async fn idle(&self) {
        loop {
            let mut idle = pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(super) fn begin(&self) {
        self.is_saving.store(true, Ordering::Release);
    }

    /// The snapshot was saved, or will not be.
    pub(crate) fn done(&self) {
        self.is_saving.store(false, Ordering::Release);
    }

    /// Saves a snapshot that contains the records up to `seq`, all of which are durable. Forgets
    /// those that are not kept. Begun with the call, it is done by the future.
    pub(crate) fn save(
        self: Arc<Self>,
        seq: u64,
        body: RecordBody,
        keep: Keep,
    ) -> impl Future<Output = ()> + Send + 'static {
        let under_way = UnderWay::new(self);
        async move { under_way.0.save_now(seq, body, keep).await }
    }

    async fn save_now(&self, seq: u64, mut body: RecordBody, keep: Keep) {
        let mut forgotten = self.forgotten.lock().await;
        if seq <= *forgotten {
            // The entity was erased meanwhile.
            return self.done();
        }
        body.forgotten = *forgotten;
        let body = match body.encode() {
            Ok(body) => body,
            Err(EncodeError(reason)) => {
                tracing::warn!(reason, "no snapshot is saved");
                return self.done();
            }
        };
        let snapshot = Snapshot {
            seq,
            at: wall_clock::millis(),
            body,
        };
        let (log, epoch) = (self.log.log(), self.log.epoch());
        let journal = self.log.store().journal();
        let saved = async {
            journal.save(log, epoch, &self.entity, snapshot).await?;
            let through = self.not_kept(*forgotten, seq, keep).await?;
            if through > *forgotten {
                journal
                    .forget(log, epoch, &self.entity, through, false)
                    .await?;
                *forgotten = through;
            }
            Ok::<_, JournalError>(())
        };
        if let Err(error) = saved.await {
            tracing::warn!(
                %log,
                entity = %self.entity,
                %error,
                "a snapshot could not be saved; the next one will be tried",
            );
        }
        self.done();
    }

    /// The number of the last record up to `seq` that is not kept.
    async fn not_kept(&self, after: u64, seq: u64, keep: Keep) -> Result<u64, JournalError> {
        let age = match keep {
            Keep::All => return Ok(after),
            Keep::Nothing => return Ok(seq),
            Keep::Recent(age) => u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        };
        let (journal, log) = (self.log.store().journal(), self.log.log());
        let oldest = wall_clock::millis().saturating_sub(age);
        let mut through = after;
        loop {
            let page = Page::default();
            let records = journal
                .read_entity(log, &self.entity, through, page)
                .await?;
            let old = records
                .iter()
                .take_while(|record| record.seq <= seq && record.at < oldest);
            let Some(last) = old.last() else {
                return Ok(through);
            };
            let is_all = records.last().map(|record| record.seq) == Some(last.seq);
            through = last.seq;
            if !is_all {
                return Ok(through);
            }
        }
    }

    /// Erases what is stored of the entity up to its record `seq`. Begun with the call, it is done
    /// by the future.
    pub(crate) fn erase(self: Arc<Self>, seq: u64) -> impl Future<Output = ()> + Send + 'static {
        let under_way = UnderWay::new(self);
        async move { under_way.0.erase_now(seq).await }
    }

    async fn erase_now(&self, seq: u64) {
        let mut forgotten = self.forgotten.lock().await;
        let (log, epoch) = (self.log.log(), self.log.epoch());
        let journal = self.log.store().journal();
        match journal.forget(log, epoch, &self.entity, seq, true).await {
            Ok(()) => *forgotten = seq,
            // Recovery finds the record that erases, and erases again.
            Err(error) => tracing::warn!(
                %log,
                entity = %self.entity,
                %error,
                "what is stored of an erased entity is still there; it will be erased when the \
                 entity is read next",
            ),
        }
    }
}
