//! The store of a cluster without a database: the log of each shard is kept by several nodes, each
//! in a directory of its own.
//!
//! [`Replicated`] is a [`Journal`]. A claim is answered once the takeover of the shard is complete,
//! and an append once all copies in sync have its records. What that takes is decided by the
//! machines in `protocol::copies`; one task a node carries it out.
//!
//! ```text
//! committer ──claim, append──▶ Replicated ──▶ Driver ──▶ ShardCopy, one a shard
//! map of the cluster ──views──────▲            │  ▲
//! other stores ──envelopes────────┘            │  └─ synced, read
//!                                              ├─▶ casty-log: one commit for all shards
//!                                              └─▶ CopyOutlet: envelopes, proposals
//! ```
//!
//! Snapshots, and what is forgotten, are no positions of the log. The owner does both only with
//! what is durable, and tells the copies in sync until they have done the same ([`tidies`]). A copy
//! that comes into sync, and each one under a new owner, is compared with the owner. A record that
//! the owner has forgotten is copied with what stands for it.

pub(crate) mod body;
mod changes;
mod commits;
mod damaged;
mod driver;
mod held;
mod input;
pub(crate) mod message;
mod one_shard;
mod outgoing;
mod outlet;
mod pages;
mod shard;
#[cfg(all(test, feature = "sim"))]
mod tests;
mod tidies;
mod tidying;
mod unneeded;
pub(crate) mod wire;

use std::{
    future::ready,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::{
    driver::Driver,
    input::CopyInput,
    shard::{Part, Unwritten, WaitingClaim},
};
pub(crate) use self::{
    held::HeldCopy,
    message::{CopyEnvelope, Tidy},
    outlet::CopyOutlet,
};
use crate::{
    id::{EntityId, Epoch, ShardId},
    infra::concurrent::spawn_on,
    persistence::{
        Append, AppendError, Appended, BODY_BYTES_MAX, ClaimError, Journal, JournalError, Log,
        Page, Record, Snapshot, StoredEntity, local::Local,
    },
    protocol::copies::{CopiesView, CopyLimits, StoreId},
};

/// How long a claim waits before it says what it waits for. It is tried again.
const CLAIM_MAX: Duration = Duration::from_secs(2);

/// How many bytes of messages of other stores wait to be handled. What comes beyond that is
/// dropped: it is sent again.
const QUEUED_MAX: usize = 64 << 20;

/// The bounds of the protocol. Those of time are a balance: a copy that is dropped too early has to
/// be added again, and while one that does not answer is in sync, records wait for it.
pub(crate) const LIMITS: CopyLimits = CopyLimits {
    in_flight_bytes: 1 << 20,
    page_bytes: 256 << 10,
    undurable_bytes: 4 << 20,
    resend_after: Duration::from_millis(500),
    drop_after: Duration::from_secs(2),
    propose_again: Duration::from_secs(1),
    keep_dropped: Duration::from_mins(10),
};

/// The store of one node, as a part of the store of its cluster.
pub(crate) struct Replicated {
    local: Arc<Local>,
    me: StoreId,
    inputs: mpsc::UnboundedSender<CopyInput>,
    queued: Arc<AtomicUsize>,
}

impl Replicated {
    /// Opens the directory, and starts the task, which ends with the last handle or once it is
    /// closed.
    ///
    /// # Errors
    /// What is wrong with the directory.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) async fn open(
        local: Arc<Local>,
        limits: CopyLimits,
        outlet: Arc<dyn CopyOutlet>,
    ) -> Result<Arc<Self>, JournalError> {
        let directory = local.opened().await?;
        let me = StoreId(directory.store);
        let (inputs, queue) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let driver = Driver::new(directory, limits, outlet, (queue, queued.clone()));
        spawn_on(&tokio::runtime::Handle::current(), driver.run());
        Ok(Arc::new(Self {
            local,
            me,
            inputs,
            queued,
        }))
    }

    /// The identity of this node's store.
    pub(crate) fn store(&self) -> StoreId {
        self.me
    }

    /// What a version of the map says of some shards. Those that are left out are as before. No
    /// version is older than the one before.
    pub(crate) fn see(&self, views: Vec<(Log, CopiesView)>) {
        self.put(CopyInput::Views(views));
    }

    /// What this store has of these shards, in sync or not. Those of which it has nothing are left
    /// out.
    pub(crate) async fn held(
        &self,
        kind: &str,
        shards: Vec<ShardId>,
    ) -> Result<Vec<HeldCopy>, JournalError> {
        held::held(&self.local, kind, shards).await
    }

    /// Messages of another store. While too much waits, they are dropped.
    pub(crate) fn deliver(&self, envelopes: Vec<CopyEnvelope>) {
        let weight = envelopes.iter().map(CopyEnvelope::weight).sum();
        if self.queued.fetch_add(weight, Ordering::Relaxed) + weight > QUEUED_MAX {
            self.queued.fetch_sub(weight, Ordering::Relaxed);
            tracing::debug!("too many messages of other stores wait");
            return;
        }
        self.put(CopyInput::Messages(envelopes));
    }

    fn put(&self, input: CopyInput) {
        // Once the store is closed, nobody waits for what becomes of it.
        let _ = self.inputs.send(input);
    }

    /// The shards of which this store has records.
    pub(crate) fn with_records(&self) -> Vec<Log> {
        self.local.with_records()
    }

    async fn tidy(&self, log: &Log, epoch: Epoch, tidy: Tidy) -> Result<(), JournalError> {
        let (answer, answered) = oneshot::channel();
        let log = log.clone();
        self.put(CopyInput::Tidy {
            log,
            epoch,
            tidy,
            answer,
        });
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Replicated {
    /// A read of this store. If it finds damage, the shard is served by another node.
    async fn read<T>(
        &self,
        log: &Log,
        read: impl Future<Output = Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        match read.await {
            Err(JournalError::Unusable { reason }) => {
                tracing::error!(%log, reason, "a shard is damaged in the store of this node");
                self.put(CopyInput::Damaged(log.clone()));
                let reason = format!("{reason}; other nodes have copies, and go on");
                Err(JournalError::Unavailable { reason })
            }
            other => other,
        }
    }

    /// Why a takeover is not complete.
    async fn why(&self, log: &Log) -> JournalError {
        let (answer, answered) = oneshot::channel();
        let log = log.clone();
        self.put(CopyInput::Why { log, answer });
        match answered.await {
            Ok(reason) => JournalError::Unavailable { reason },
            Err(_) => closed(),
        }
    }
}

#[cfg(all(test, feature = "sim"))]
impl Replicated {
    /// The sum over what is tidied of a shard in this store.
    fn local_sum(&self, log: &Log) -> u64 {
        self.local.sum(log)
    }
}

/// What cannot be copied is not written.
fn too_large(bytes: usize) -> String {
    format!("a body has {bytes} bytes, and at most {BODY_BYTES_MAX} are stored")
}

fn closed() -> JournalError {
    let reason = "it was closed when its node ended".to_owned();
    JournalError::Unavailable { reason }
}

impl Journal for Replicated {
    fn describe(&self) -> String {
        format!("{}, and its copies on other nodes", self.local.describe())
    }

    /// Each shard is waited for by itself: its copies may be slow, and those of others not.
    fn lanes(&self) -> usize {
        1024
    }

    fn lane_records(&self) -> usize {
        1
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.local.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.local.latest_epoch()
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        _: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let claim = WaitingClaim {
                epoch,
                answer,
                head: None,
            };
            let input = CopyInput::Claim {
                log: log.clone(),
                claim,
            };
            self.put(input);
            match timeout(CLAIM_MAX, answered).await {
                Ok(answered) => answered.unwrap_or_else(|_| Err(closed().into())),
                Err(_) => Err(self.why(log).await.into()),
            }
        })
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        let mut bodies = batch.iter().flat_map(|part| &part.records);
        if let Some(record) = bodies.find(|record| record.body.len() > BODY_BYTES_MAX) {
            let reason = too_large(record.body.len());
            return Box::pin(ready(Err(AppendError::NotWritten { reason })));
        }
        let mut answers = Vec::with_capacity(batch.len());
        let mut parts = Vec::with_capacity(batch.len());
        for Append {
            log,
            epoch,
            records,
        } in batch
        {
            let (answer, answered) = oneshot::channel();
            answers.push(answered);
            let part = Part {
                epoch,
                records,
                answer,
            };
            parts.push((log, part));
        }
        self.put(CopyInput::Appends(parts));
        Box::pin(async move {
            let ended = |_| Err(Unwritten::new("the store was closed", true));
            let answers = join_all(answers).await.into_iter();
            let answers: Vec<_> = answers.map(|it| it.unwrap_or_else(ended)).collect();
            let is_written = |it: &Result<Appended, Unwritten>| {
                matches!(
                    it,
                    Ok(Appended::Written) | Err(Unwritten { possibly: true, .. })
                )
            };
            let is_any_written = answers.iter().any(is_written);
            let answers: Result<Vec<_>, Unwritten> = answers.into_iter().collect();
            answers.map_err(|unwritten| {
                let Unwritten {
                    reason, missing, ..
                } = unwritten;
                if !missing.is_empty() {
                    AppendError::NotEnoughCopies { missing }
                } else if is_any_written {
                    AppendError::Unknown { reason }
                } else {
                    AppendError::NotWritten { reason }
                }
            })
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(self.read(log, self.local.read_entity(log, entity, after, page)))
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(self.read(log, self.local.read_log(log, after, page)))
    }

    fn durable<'a>(&'a self, log: &'a Log) -> BoxFuture<'a, Result<Option<u64>, JournalError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let log = log.clone();
            self.put(CopyInput::Durable { log, answer });
            match answered.await {
                Ok(Ok(durable)) => Ok(Some(durable)),
                Ok(Err(reason)) => Err(JournalError::Unavailable { reason }),
                Err(_) => Err(closed()),
            }
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(self.read(log, self.local.load(log, entity)))
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let bytes = snapshot.body.len();
        if bytes > BODY_BYTES_MAX {
            let reason = too_large(bytes);
            return Box::pin(ready(Err(JournalError::Unusable { reason })));
        }
        let tidy = Tidy::Save {
            entity: entity.clone().into_text(),
            seq: snapshot.seq,
            at: snapshot.at,
            body: snapshot.body,
        };
        Box::pin(self.tidy(log, epoch, tidy))
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let entity = entity.clone().into_text();
        let tidy = if snapshot {
            Tidy::Erase { entity, through }
        } else {
            Tidy::Forget { entity, through }
        };
        Box::pin(self.tidy(log, epoch, tidy))
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(self.read(log, self.local.entities(log, after, limit)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (closed, is_closed) = oneshot::channel();
            self.put(CopyInput::Close(closed));
            // An error: the task has ended before.
            let _ = is_closed.await;
            self.local.close().await;
        })
    }
}
