//! A store whose steps a test lets through.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::{
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Memory, Page,
        Record, Snapshot, StoredEntity,
    },
};

/// A store whose commits, and failures, a test decides about, and the node that uses it.
#[derive(Clone)]
pub(super) struct Gated(pub(super) Arc<Gates>, usize);

/// A step that a test may hold up.
pub(super) struct Gate {
    /// Each step takes one.
    open: Semaphore,
    /// A permit for each step that has begun since the gate was closed.
    pub(super) begun: Semaphore,
}

impl Gate {
    fn new() -> Self {
        Self {
            open: Semaphore::new(Semaphore::MAX_PERMITS),
            begun: Semaphore::new(0),
        }
    }

    pub(super) fn close(&self) {
        self.open.forget_permits(Semaphore::MAX_PERMITS);
        self.begun.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(super) fn open(&self) {
        let permits = self.open.available_permits();
        self.open.add_permits(Semaphore::MAX_PERMITS - permits);
    }

    async fn pass(&self) {
        self.begun.add_permits(1);
        drop(self.open.acquire().await);
    }
}

pub(super) struct Gates {
    pub(super) memory: Memory,
    /// A commit takes one.
    pub(super) commits: Semaphore,
    /// A permit for each commit that has begun.
    pub(super) begun: Semaphore,
    /// How many records each commit had.
    pub(super) sizes: Mutex<Vec<usize>>,
    /// How the next commit fails.
    pub(super) fault: Mutex<Option<Fault>>,
    pub(super) is_down: AtomicBool,
    /// Which nodes have read snapshots, and of which entities.
    pub(super) loads: Mutex<Vec<(usize, EntityId)>>,
    /// Passed by each read of an entity's records.
    pub(super) pages: Gate,
    /// Passed by each snapshot that is saved.
    pub(super) saves: Gate,
}

#[derive(Clone, Copy)]
pub(super) enum Fault {
    NotWritten,
    /// It is written, and the answer is lost.
    Written,
}

impl Gated {
    pub(super) fn new(commits: usize) -> Self {
        let gates = Gates {
            memory: Memory::new(),
            commits: Semaphore::new(commits),
            begun: Semaphore::new(0),
            sizes: Mutex::default(),
            fault: Mutex::default(),
            is_down: AtomicBool::new(false),
            loads: Mutex::default(),
            pages: Gate::new(),
            saves: Gate::new(),
        };
        Self(Arc::new(gates), 0)
    }

    /// The same store, used by this node.
    pub(super) fn of(&self, node: usize) -> Self {
        Self(self.0.clone(), node)
    }

    /// Lets a commit that waits end, with this fault.
    pub(super) fn commit(&self, fault: Option<Fault>) {
        *lock(&self.0.fault) = fault;
        self.0.commits.add_permits(1);
    }

    pub(super) fn up(&self) -> Result<&Memory, JournalError> {
        if self.0.is_down.load(Ordering::Relaxed) {
            let reason = "it is down".to_owned();
            return Err(JournalError::Unavailable { reason });
        }
        Ok(&self.0.memory)
    }
}

impl Journal for Gated {
    fn describe(&self) -> String {
        "a gated store".to_owned()
    }

    fn only_one_host(&self) -> Option<&'static str> {
        Some("use another one")
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.memory.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(async move { self.up()?.latest_epoch().await })
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move { self.up()?.claim(log, epoch, owner).await })
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        Box::pin(async move {
            let size = batch.iter().map(|append| append.records.len()).sum();
            lock(&self.0.sizes).push(size);
            self.0.begun.add_permits(1);
            self.0.commits.acquire().await.unwrap().forget();
            let reason = "as the test wants".to_owned();
            let fault = lock(&self.0.fault).take();
            match fault {
                Some(Fault::NotWritten) => return Err(AppendError::NotWritten { reason }),
                Some(Fault::Written) => {}
                None => return self.0.memory.append(batch).await,
            }
            self.0.memory.append(batch).await?;
            Err(AppendError::Unknown { reason })
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            self.0.pages.pass().await;
            self.up()?.read_entity(log, entity, after, page).await
        })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move { self.up()?.read_log(log, after, page).await })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        lock(&self.0.loads).push((self.1, entity.clone()));
        Box::pin(async move { self.up()?.load(log, entity).await })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            self.0.saves.pass().await;
            self.0.memory.save(log, epoch, entity, snapshot).await
        })
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.0.memory.forget(log, epoch, entity, through, snapshot)
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move { self.up()?.entities(log, after, limit).await })
    }
}

pub(super) async fn take(from: &Semaphore, permits: u32) {
    let taken = tokio::time::timeout(Duration::from_mins(1), from.acquire_many(permits));
    taken.await.expect("in time").unwrap().forget();
}
