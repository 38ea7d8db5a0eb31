//! What reaches the store, as the shapes of its commits.

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

/// For each commit its logs, each with its number of records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batches {
    pub(crate) shapes: Vec<Vec<(u32, u64)>>,
    bytes: u64,
    running: usize,
    /// How many commits ran at once, at most.
    pub(crate) lanes: usize,
    is_on: bool,
}

impl Batches {
    pub(crate) fn commits(&self) -> u64 {
        self.shapes.len() as u64
    }

    pub(crate) fn records(&self) -> u64 {
        self.shapes
            .iter()
            .flatten()
            .map(|(_, records)| records)
            .sum()
    }

    /// The bytes of a body.
    pub(crate) fn body(&self) -> usize {
        usize::try_from(self.bytes / self.records().max(1)).unwrap_or_default()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Recording(Arc<Mutex<Batches>>);

impl Recording {
    fn with<T>(&self, look: impl FnOnce(&mut Batches) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn begin(&self) {
        self.with(|batches| batches.is_on = true);
    }

    pub(crate) fn end(&self) {
        self.with(|batches| batches.is_on = false);
    }

    pub(crate) fn take(&self) -> Batches {
        self.with(std::mem::take)
    }

    fn begins(&self, batch: &[Append]) {
        self.with(|batches| {
            if !batches.is_on {
                return;
            }
            let shape = batch
                .iter()
                .map(|part| (part.log.shard, part.records.len() as u64));
            batches.shapes.push(shape.collect());
            let records = batch.iter().flat_map(|part| &part.records);
            batches.bytes += records.map(|record| record.body.len() as u64).sum::<u64>();
            batches.running += 1;
            batches.lanes = batches.lanes.max(batches.running);
        });
    }

    fn ends(&self) {
        self.with(|batches| batches.running = batches.running.saturating_sub(1));
    }
}

/// A store whose commits are recorded.
pub(crate) struct Recorded {
    journal: Box<dyn Journal>,
    recording: Recording,
}

pub(crate) fn recorded(journal: Box<dyn Journal>) -> (Recorded, Recording) {
    let recording = Recording::default();
    let recorded = Recorded {
        journal,
        recording: recording.clone(),
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
        self.recording.begins(&batch);
        let append = self.journal.append(batch);
        Box::pin(async {
            let appended = append.await;
            self.recording.ends();
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
