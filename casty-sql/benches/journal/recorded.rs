//! What reaches the store, commit by commit.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use casty::{
    id::{EntityId, Epoch},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity,
    },
};
use futures_util::future::BoxFuture;

/// The commits of one store, in order.
#[derive(Default)]
pub(crate) struct Batches {
    all: Vec<Vec<Append>>,
    /// How many of them are not measured.
    warm: usize,
    running: usize,
    /// How many commits ran at once, at most.
    pub(crate) lanes: usize,
}

impl Batches {
    /// What the store held before.
    pub(crate) fn warm(&self) -> &[Vec<Append>] {
        self.all.get(..self.warm).unwrap_or_default()
    }

    pub(crate) fn measured(&self) -> &[Vec<Append>] {
        self.all.get(self.warm..).unwrap_or_default()
    }

    /// How many records were measured.
    pub(crate) fn records(&self) -> u64 {
        let parts = self.measured().iter().flatten();
        parts.map(|part| part.records.len() as u64).sum()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Recording(Arc<Mutex<Batches>>);

impl Recording {
    fn with<T>(&self, look: impl FnOnce(&mut Batches) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What follows is measured.
    pub(crate) fn begin(&self) {
        self.with(|batches| (batches.warm, batches.lanes) = (batches.all.len(), 0));
    }

    pub(crate) fn take(&self) -> Batches {
        self.with(std::mem::take)
    }

    fn begins(&self, batch: &[Append]) {
        // The bodies are not copied.
        let batch = batch.to_vec();
        self.with(|batches| {
            batches.all.push(batch);
            batches.running += 1;
            batches.lanes = batches.lanes.max(batches.running);
        });
    }

    fn ends(&self) {
        self.with(|batches| batches.running = batches.running.saturating_sub(1));
    }
}

/// A store whose commits may be recorded.
pub(crate) struct Recorded {
    journal: Box<dyn Journal>,
    recording: Option<Recording>,
}

/// A store whose commits are not recorded.
pub(crate) fn unrecorded(journal: Box<dyn Journal>) -> Recorded {
    Recorded {
        journal,
        recording: None,
    }
}

pub(crate) fn recorded(journal: Box<dyn Journal>) -> (Recorded, Recording) {
    let recording = Recording::default();
    let recorded = Recorded {
        journal,
        recording: Some(recording.clone()),
    };
    (recorded, recording)
}

impl Journal for Recorded {
    fn describe(&self) -> String {
        self.journal.describe()
    }

    fn lanes(&self) -> usize {
        self.journal.lanes()
    }

    fn lane_records(&self) -> usize {
        self.journal.lane_records()
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.journal.open(kinds)
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.journal.latest_epoch()
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        self.journal.claim(log, epoch, owner)
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        let Some(recording) = &self.recording else {
            return self.journal.append(batch);
        };
        recording.begins(&batch);
        let append = self.journal.append(batch);
        Box::pin(async {
            let appended = append.await;
            recording.ends();
            appended
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        self.journal.read_entity(log, entity, after, page)
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        self.journal.read_log(log, after, page)
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        self.journal.load(log, entity)
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.journal.save(log, epoch, entity, snapshot)
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.journal.forget(log, epoch, entity, through, snapshot)
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        self.journal.entities(log, after, limit)
    }
}
