//! What is done to the store beside the records of an activation: snapshots are saved, and what is
//! not kept is forgotten.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify},
    time::timeout,
};

use crate::{
    id::EntityId,
    infra::wall_clock::{self, whole_millis},
    persistence::{JournalError, Page, Snapshot, record_body::RecordBody, shard_log::ShardLog},
};

/// How long an erasure waits until the receivers of an entity's sends have them.
const SENDS_MAX: Duration = Duration::from_secs(3);

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
    /// The last record that erases, until what it erases is gone; else 0. Recovery finds that
    /// record only as long as there is no later snapshot.
    erases: AtomicU64,
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
            erases: AtomicU64::new(0),
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
        async move {
            under_way.0.save_now(seq, body, keep).await;
            under_way.0.done();
        }
    }

    async fn save_now(&self, seq: u64, mut body: RecordBody, keep: Keep) {
        let mut forgotten = self.forgotten.lock().await;
        // Without it no snapshot is saved. That it has failed is logged.
        if self.erase_due(&mut forgotten).await.is_err() {
            return;
        }
        if seq <= *forgotten {
            // The entity was erased meanwhile.
            return;
        }
        body.forgotten = *forgotten;
        let body = match body.encode() {
            Ok(body) => body,
            Err(error) => {
                let (log, entity) = (self.log.log(), &self.entity);
                tracing::warn!(%log, %entity, %error, "no snapshot is saved");
                return;
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
            // Sends that are not taken, and some reminders, are in the records alone. Those go with
            // a later snapshot.
            let through = self.log.outbox().forgettable(&self.entity, through);
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
    }

    /// The number of the last record up to `seq` that is not kept.
    async fn not_kept(&self, after: u64, seq: u64, keep: Keep) -> Result<u64, JournalError> {
        let age = match keep {
            Keep::All => return Ok(after),
            Keep::Nothing => return Ok(seq),
            Keep::Recent(age) => whole_millis(age),
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
    pub(crate) fn erase(
        self: Arc<Self>,
        seq: u64,
    ) -> impl Future<Output = Result<(), JournalError>> + Send + 'static {
        self.erases.fetch_max(seq, Ordering::AcqRel);
        let under_way = UnderWay::new(self);
        async move {
            let upkeep = &under_way.0;
            let mut forgotten = upkeep.forgotten.lock().await;
            upkeep.erase_due(&mut forgotten).await
        }
    }

    /// Waits for a while until the receivers have what the records up to `seq` send.
    async fn wait_for_sends(&self, seq: u64) -> Result<(), JournalError> {
        let sent = self.log.outbox().sent(&self.entity, seq);
        if timeout(SENDS_MAX, sent).await == Ok(true) {
            return Ok(());
        }
        let (log, entity) = (self.log.log(), &self.entity);
        tracing::warn!(
            %log,
            %entity,
            "an erased entity has sent what its receivers have not taken yet; it will be erased \
             before its next snapshot, or when it is read next",
        );
        Err(JournalError::Unavailable {
            reason: "what the entity has sent is not taken yet".to_owned(),
        })
    }

    /// Erases what is to be erased, if there is something.
    async fn erase_due(&self, forgotten: &mut u64) -> Result<(), JournalError> {
        let seq = self.erases.load(Ordering::Acquire);
        if seq == 0 {
            return Ok(());
        }
        self.wait_for_sends(seq).await?;
        let (log, epoch) = (self.log.log(), self.log.epoch());
        let journal = self.log.store().journal();
        if let Err(error) = journal.forget(log, epoch, &self.entity, seq, true).await {
            tracing::warn!(
                %log,
                entity = %self.entity,
                %error,
                "what is stored of an erased entity is still there; it will be erased before its \
                 next snapshot, or when the entity is read next",
            );
            return Err(error);
        }
        *forgotten = seq.max(*forgotten);
        // Another record may have erased meanwhile.
        let _ = self
            .erases
            .compare_exchange(seq, 0, Ordering::AcqRel, Ordering::Relaxed);
        Ok(())
    }
}
