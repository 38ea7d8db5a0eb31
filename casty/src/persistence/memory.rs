//! A store in memory.

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, ready};

use crate::{
    id::{EntityId, Epoch},
    infra::{mutants, sync::lock},
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity,
    },
};

/// A store that keeps all it is given in memory, for tests: what is stored ends with the last clone
/// of the value. Systems that are given clones of one value share the store, as they would share a
/// database.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    kinds: BTreeMap<Arc<str>, NonZeroU32>,
    logs: BTreeMap<Log, StoredLog>,
}

#[derive(Default)]
struct StoredLog {
    epoch: Epoch,
    owner: String,
    records: Vec<Record>,
    entities: BTreeMap<EntityId, Stock>,
}

/// What is stored of one entity.
#[derive(Default)]
struct Stock {
    /// The indices of its records in its log.
    records: Vec<usize>,
    snapshot: Option<Snapshot>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts what a log has after a position, as a restored backup would.
    #[cfg(test)]
    pub(super) fn cut(&self, log: &Log, head: usize) {
        self.with(log, |stored| stored.records.truncate(head));
    }

    fn with<R>(&self, log: &Log, look: impl FnOnce(&mut StoredLog) -> R) -> R {
        let mut stored = lock(&self.0);
        match stored.logs.get_mut(log) {
            Some(found) => look(found),
            None => look(stored.logs.entry(log.clone()).or_default()),
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl StoredLog {
    fn head(&self) -> u64 {
        self.records.len() as u64
    }

    fn append(&mut self, append: Append) -> Appended {
        let positions = append.records.iter().map(|record| record.position);
        let follows = !append.records.is_empty()
            && positions.eq((self.head() + 1..).take(append.records.len()));
        let is_owner = self.epoch == append.epoch || mutants::on("any_epoch_may_write");
        if !is_owner || !follows {
            return Appended::Refused;
        }
        for record in append.records {
            let stock = self.entities.entry(record.entity.clone()).or_default();
            stock.records.push(self.records.len());
            self.records.push(record);
        }
        Appended::Written
    }

    fn of_entity(&self, entity: &EntityId) -> impl Iterator<Item = &Record> {
        let stock = self.entities.get(entity);
        let indices = stock.into_iter().flat_map(|stock| &stock.records);
        indices.filter_map(|&index| self.records.get(index))
    }

    fn save(&mut self, entity: &EntityId, snapshot: Snapshot) {
        let Some(stock) = self.entities.get_mut(entity) else {
            return;
        };
        // It is one of the last.
        let latest = stock.records.iter().rev();
        let mut latest = latest.filter_map(|&index| self.records.get(index));
        let is_present = latest.any(|record| record.seq == snapshot.seq && !record.body.is_empty());
        let last = stock.snapshot.as_ref();
        if is_present && last.is_none_or(|last| last.seq < snapshot.seq) {
            stock.snapshot = Some(snapshot);
        }
    }

    fn forget(&mut self, entity: &EntityId, through: u64, snapshot: bool) {
        let Some(stock) = self.entities.get_mut(entity) else {
            return;
        };
        if snapshot {
            stock.snapshot.take_if(|snapshot| snapshot.seq <= through);
        }
        for &index in &stock.records {
            if let Some(record) = self.records.get_mut(index)
                && record.seq <= through
            {
                record.body = Bytes::new();
            }
        }
    }

    fn stored(&self, entity: &EntityId, stock: &Stock) -> Option<StoredEntity> {
        let last = self.records.get(*stock.records.last()?)?;
        // What is forgotten is always all up to a number, so the last record tells.
        let has_more = stock.snapshot.is_some() || !last.body.is_empty();
        has_more.then(|| StoredEntity {
            entity: entity.clone(),
            seq: last.seq,
            at: last.at,
        })
    }
}

/// Takes as many records as the page allows.
fn page_of<'a>(records: impl Iterator<Item = &'a Record>, page: Page) -> Vec<Record> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    for record in records.take(page.records.max(1)) {
        bytes += record.body.len();
        if bytes > page.bytes && !taken.is_empty() {
            break;
        }
        taken.push(record.clone());
    }
    taken
}

fn done<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(ready(value))
}

impl Journal for Memory {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let mut stored = lock(&self.0);
        for (kind, shards) in kinds {
            let present = stored.kinds.entry(kind.clone()).or_insert(*shards);
            if present != shards {
                let reason = format!(
                    "`{kind}` is stored in {present} shards and has {shards} now; give it its \
                     former number of shards back, since ids are spread over them"
                );
                return done(Err(JournalError::Unusable { reason }));
            }
        }
        done(Ok(()))
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        let stored = lock(&self.0);
        let epochs = stored.logs.values().map(|log| log.epoch);
        let latest = epochs.max().unwrap_or(Epoch::ZERO);
        drop(stored);
        done(Ok(latest))
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        done(self.with(log, |stored| {
            let repeats = stored.epoch == epoch && stored.owner == owner;
            if stored.epoch >= epoch && !repeats {
                return Err(ClaimError::Fenced {
                    epoch: stored.epoch,
                    owner: stored.owner.clone(),
                });
            }
            stored.epoch = epoch;
            owner.clone_into(&mut stored.owner);
            Ok(stored.head())
        }))
    }

    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        let mut stored = lock(&self.0);
        let appended = batch.into_iter().map(|append| {
            let log = stored.logs.entry(append.log.clone()).or_default();
            log.append(append)
        });
        let appended = appended.collect();
        drop(stored);
        done(Ok(appended))
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        done(Ok(self.with(log, |stored| {
            let records = stored.of_entity(entity);
            page_of(records.filter(|record| record.seq > after), page)
        })))
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        done(Ok(self.with(log, |stored| {
            let after = usize::try_from(after).unwrap_or(usize::MAX);
            page_of(stored.records.iter().skip(after), page)
        })))
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        done(Ok(self.with(log, |stored| {
            let stock = stored.entities.get(entity)?;
            stock.snapshot.clone()
        })))
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.with(log, |stored| {
            if stored.epoch == epoch {
                stored.save(entity, snapshot);
            }
        });
        done(Ok(()))
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        self.with(log, |stored| {
            if stored.epoch == epoch {
                stored.forget(entity, through, snapshot);
            }
        });
        done(Ok(()))
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        done(Ok(self.with(log, |stored| {
            let all = stored.entities.iter();
            let all = all.filter(|(id, _)| !id.is_of_shard());
            let later = all.filter(|(id, _)| after.is_none_or(|after| *id > after));
            let found = later.filter_map(|(id, stock)| stored.stored(id, stock));
            found.take(limit).collect()
        })))
    }
}
