//! The store of a node: claims, and the committer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use crate::{
    id::Epoch,
    infra::sync::lock,
    persistence::{
        Append, Appended, ClaimError, Journal, Log, Record,
        shard_log::{Claim, Entry, InFlight, NotStored, Progress, ShardLog},
    },
};

/// How many entities are read from the store at a time.
const RECOVERIES_MAX: usize = 64;

/// How many records one commit takes.
const BATCH_RECORDS_MAX: usize = 512;

pub(crate) struct Store {
    journal: Arc<dyn Journal>,
    /// This process, as claims name it.
    owner: String,
    recoveries: Semaphore,
    pub(super) in_flight: InFlight,
    /// Notified when fewer records are in flight.
    pub(super) freed: Notify,
    queue: Mutex<Vec<Queued>>,
    queued: Notify,
    handle: tokio::runtime::Handle,
}

struct Queued {
    log: Arc<ShardLog>,
    entry: Entry,
    progress: Arc<Progress>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.journal.describe())
    }
}

impl Store {
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(journal: Arc<dyn Journal>, owner: String) -> Arc<Self> {
        let handle = tokio::runtime::Handle::current();
        let store = Arc::new(Self {
            journal,
            owner,
            recoveries: Semaphore::new(RECOVERIES_MAX),
            in_flight: InFlight::default(),
            freed: Notify::new(),
            queue: Mutex::default(),
            queued: Notify::new(),
            handle,
        });
        let weak = Arc::downgrade(&store);
        crate::infra::concurrent::spawn_on(&store.handle, async move {
            while let Some(store) = weak.upgrade() {
                store.commit().await;
                let queued = store.queued.notified();
                if lock(&store.queue).is_empty() {
                    queued.await;
                }
            }
        });
        store
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    /// A turn to read an entity.
    pub(crate) async fn recovery(&self) -> Option<SemaphorePermit<'_>> {
        self.recoveries.acquire().await.ok()
    }

    /// The log of a shard that this node owns from now on. It is claimed in the background.
    pub(crate) fn open_log(self: &Arc<Self>, log: Log, epoch: Epoch) -> Arc<ShardLog> {
        let shard_log = Arc::new(ShardLog {
            store: self.clone(),
            log,
            epoch,
            claim: watch::Sender::new(Claim::Pending(None)),
            head: 0.into(),
        });
        let weak = Arc::downgrade(&shard_log);
        crate::infra::concurrent::spawn_on(&self.handle, async move {
            while let Some(log) = weak.upgrade() {
                let store = log.store.clone();
                let claim = match store.journal.claim(&log.log, epoch, &store.owner).await {
                    Ok(head) => {
                        log.head.store(head, Ordering::Relaxed);
                        Claim::Held
                    }
                    Err(ClaimError::Journal(error)) => Claim::Pending(Some(error.to_string())),
                    Err(fenced @ ClaimError::Fenced { .. }) => Claim::Refused(fenced.to_string()),
                };
                let is_settled = !matches!(claim, Claim::Pending(_));
                log.claim.send_replace(claim);
                if is_settled {
                    return;
                }
                drop(log);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        shard_log
    }

    pub(super) fn append(&self, log: Arc<ShardLog>, entry: Entry, progress: Arc<Progress>) {
        lock(&self.queue).push(Queued {
            log,
            entry,
            progress,
        });
        self.queued.notify_one();
    }

    fn ended(&self, bytes: usize, progress: &Progress) {
        self.in_flight.remove(bytes);
        progress.in_flight.remove(bytes);
        self.freed.notify_waiters();
    }

    /// Resolves once what was queued is durable, or has failed.
    pub(crate) async fn close(&self) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.in_flight.is_empty() {
                return;
            }
            freed.await;
        }
    }

    async fn commit(&self) {
        let mut queued = {
            let mut queue = lock(&self.queue);
            let count = queue.len().min(BATCH_RECORDS_MAX);
            queue.drain(..count).collect::<Vec<_>>()
        };
        queued.retain(|queued| {
            let failed = queued.progress.failed().is_some();
            if failed {
                self.ended(queued.entry.body.len(), &queued.progress);
            }
            !failed
        });
        let mut parts = BTreeMap::<Log, (Append, Vec<(u64, u64, usize, Arc<Progress>)>)>::new();
        for Queued {
            log,
            entry,
            progress,
        } in queued
        {
            let (append, confirms) = parts.entry(log.log.clone()).or_insert_with(|| {
                let append = Append {
                    log: log.log.clone(),
                    epoch: log.epoch,
                    records: Vec::new(),
                };
                (append, Vec::new())
            });
            let position = log.head.fetch_add(1, Ordering::Relaxed) + 1;
            confirms.push((entry.seq, position, entry.body.len(), progress));
            append.records.push(Record {
                position,
                epoch: log.epoch,
                entity: entry.entity,
                seq: entry.seq,
                at: entry.at,
                body: entry.body,
            });
        }
        if parts.is_empty() {
            return;
        }
        let (batch, confirms): (Vec<_>, Vec<_>) = parts.into_values().unzip();
        let appended = self.journal.append(batch).await;
        for (index, confirms) in confirms.into_iter().enumerate() {
            let part = appended.as_ref().map(|parts| parts.get(index));
            for (seq, position, bytes, progress) in confirms {
                self.ended(bytes, &progress);
                match part {
                    Ok(Some(Appended::Written)) => progress.confirm(seq, position),
                    Ok(_) => progress.fail(NotStored {
                        reason: "the log is claimed by another node".to_owned(),
                        possibly: false,
                    }),
                    Err(error) => progress.fail(NotStored {
                        reason: error.to_string(),
                        possibly: true,
                    }),
                }
            }
        }
    }
}
