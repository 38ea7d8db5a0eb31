//! Reads what is durable, while commits go on.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::{
    Head, LogId, Page, ReadError, Record, Run, Snapshot, StoredEntity, Tidied,
    disk::DiskFile,
    error::explain,
    files::Files,
    format::segment,
    index::{EntityIndex, Entry, Index, ShardIndex},
    place::{Place, read_in_order},
};

/// What a store and its readers share.
pub(crate) struct Shared {
    pub(crate) index: RwLock<Index>,
    pub(crate) files: Files,
}

impl Shared {
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a store. Its clones read the same one. It sees what is durable, and goes on when commits
/// fail.
///
/// Functions that return a [`ReadError`] read files: they may block for as long as the disk needs.
#[derive(Clone)]
pub struct Reader(pub(crate) Arc<Shared>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

fn tidied(shard: &ShardIndex, entity: &EntityIndex) -> Option<Tidied> {
    let forgotten = shard.forgotten(entity);
    let snapshot = entity.snapshot.map(|snapshot| snapshot.seq);
    (forgotten > 0 || snapshot.is_some()).then(|| Tidied {
        entity: entity.name.clone(),
        forgotten,
        snapshot,
    })
}

impl Reader {
    /// The number of an entity type, and how many shards it has.
    pub fn kind(&self, name: &str) -> Option<(u32, u32)> {
        let index = self.0.index();
        let kinds = (0..).zip(&index.kinds);
        let mut found = kinds.filter(|(_, kind)| *kind.name == *name);
        found
            .next()
            .map(|(number, kind)| (number, kind.shards.get()))
    }

    /// The names of the entity types, by their numbers.
    pub fn kinds(&self) -> Vec<Arc<str>> {
        let index = self.0.index();
        index.kinds.iter().map(|kind| kind.name.clone()).collect()
    }

    /// What is known of a log.
    pub fn head(&self, log: LogId) -> Head {
        self.0.index().head(log)
    }

    /// The logs of which something is known.
    pub fn logs(&self) -> Vec<LogId> {
        self.0.index().logs.keys().copied().collect()
    }

    /// The latest epoch under which any log is claimed, 0 if none is.
    pub fn latest_epoch(&self) -> u64 {
        let index = self.0.index();
        let epochs = index.logs.values().map(|log| log.head.epoch);
        epochs.max().unwrap_or_default()
    }

    /// The epoch of the record at a position; `None` if there is none. That of the last record that
    /// was trimmed is known too. It reads no file.
    pub fn epoch_at(&self, log: LogId, position: u64) -> Option<u64> {
        self.0.index().logs.get(&log)?.epoch_at(position)
    }

    /// Which epochs the records of a log have, in order. If records were trimmed, the first is the
    /// last one of them. It reads no file.
    pub fn runs(&self, log: LogId) -> Vec<Run> {
        let index = self.0.index();
        let Some(shard) = index.logs.get(&log) else {
            return Vec::new();
        };
        let trimmed = (shard.head.trimmed, shard.head.trimmed_epoch);
        let trimmed = (trimmed.0 > 0).then_some(trimmed);
        let ends = trimmed.into_iter().chain(shard.runs.ends());
        ends.map(|(last, epoch)| Run { last, epoch }).collect()
    }

    /// The records of a log after a position, in order: a page of them.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails, or a record is damaged.
    pub fn read_log(&self, log: LogId, after: u64, page: Page) -> Result<Vec<Record>, ReadError> {
        let places = {
            let index = self.0.index();
            let Some(shard) = index.logs.get(&log) else {
                return Ok(Vec::new());
            };
            self.page(log, shard, shard.after_position(after), page)?
        };
        read_in_order(&places)
    }

    /// The records of an entity after one of them, in order: a page of them.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails, or a record is damaged.
    pub fn read_entity(
        &self,
        log: LogId,
        entity: &str,
        after: u64,
        page: Page,
    ) -> Result<Vec<Record>, ReadError> {
        let places = {
            let index = self.0.index();
            let Some(shard) = index.logs.get(&log) else {
                return Ok(Vec::new());
            };
            let Some(entity) = shard.entity(entity) else {
                return Ok(Vec::new());
            };
            self.page(log, shard, shard.of_entity(entity, after), page)?
        };
        read_in_order(&places)
    }

    /// The latest snapshot of an entity.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails, or the snapshot is damaged.
    pub fn snapshot(&self, log: LogId, entity: &str) -> Result<Option<Snapshot>, ReadError> {
        let place = {
            let index = self.0.index();
            let Some(entity) = index.entity(log, entity) else {
                return Ok(None);
            };
            match self.place_of_snapshot(log, entity, true)? {
                Some(place) => place,
                None => return Ok(None),
            }
        };
        let read = place.read()?;
        Ok(Some(Snapshot {
            seq: read.seq,
            at: read.at,
            body: read.body,
        }))
    }

    /// The entities of a log that have a snapshot.
    pub fn with_snapshot(&self, log: LogId) -> Vec<Arc<str>> {
        let index = self.0.index();
        let Some(shard) = index.logs.get(&log) else {
            return Vec::new();
        };
        let entities = shard.entities_after(None);
        let with = entities.filter(|entity| entity.snapshot.is_some());
        with.map(|entity| entity.name.clone()).collect()
    }

    /// A sum over all records of a log that are forgotten, and all its snapshots. Stores that have
    /// the same records have the same sum if the same records are forgotten and their entities have
    /// the same snapshots, and else, but for one case in 2^64, another one. It reads no file.
    pub fn tidied(&self, log: LogId) -> u64 {
        let index = self.0.index();
        index.logs.get(&log).map_or(0, |shard| shard.tidied)
    }

    /// The entities of a log, after one of them, that have a snapshot or of which a record is
    /// forgotten, at most `limit`, in the order of their ids as bytes. It reads no file.
    pub fn tidied_after(&self, log: LogId, after: Option<&str>, limit: usize) -> Vec<Tidied> {
        let index = self.0.index();
        let Some(shard) = index.logs.get(&log) else {
            return Vec::new();
        };
        let entities = shard.entities_after(after);
        let tidied = entities.filter_map(|entity| tidied(shard, entity));
        tidied.take(limit).collect()
    }

    /// The same, of one entity.
    pub fn tidied_of(&self, log: LogId, entity: &str) -> Option<Tidied> {
        let index = self.0.index();
        let shard = index.logs.get(&log)?;
        tidied(shard, shard.entity(entity)?)
    }

    /// The entities of a log after one of them, in the order of their ids as bytes. An entity
    /// without a snapshot, and with empty records only, is left out.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails, or a record is damaged.
    pub fn entities(
        &self,
        log: LogId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredEntity>, ReadError> {
        let mut places = Vec::new();
        {
            let index = self.0.index();
            let Some(shard) = index.logs.get(&log) else {
                return Ok(Vec::new());
            };
            let stored = shard
                .entities_after(after)
                .filter(|entity| entity.is_stored());
            for entity in stored.take(limit) {
                let last = entity.records.back();
                let last = last.and_then(|at| Some((*at, shard.entry(*at)?)));
                // A copy may have the snapshot first.
                let snapshot = entity.snapshot.map_or(0, |snapshot| snapshot.seq);
                match last.filter(|(_, entry)| entry.seq >= snapshot) {
                    Some((position, entry)) => {
                        places.push(self.place(log, shard, position, entry, false)?);
                    }
                    None => places.extend(self.place_of_snapshot(log, entity, false)?),
                }
            }
        }
        let entities = read_in_order(&places)?.into_iter().map(|record| {
            let Record {
                entity, seq, at, ..
            } = record;
            StoredEntity { entity, seq, at }
        });
        Ok(entities.collect())
    }

    /// As many records as the page allows.
    fn page(
        &self,
        log: LogId,
        shard: &ShardIndex,
        records: impl Iterator<Item = (u64, Entry)>,
        page: Page,
    ) -> Result<Vec<Place>, ReadError> {
        let (mut bytes, mut places) = (0, Vec::new());
        for (position, entry) in records.take(page.records.max(1)) {
            bytes += entry.body as usize;
            if bytes > page.bytes && !places.is_empty() {
                break;
            }
            places.push(self.place(log, shard, position, entry, true)?);
        }
        Ok(places)
    }

    fn place(
        &self,
        log: LogId,
        shard: &ShardIndex,
        position: u64,
        entry: Entry,
        with_body: bool,
    ) -> Result<Place, ReadError> {
        let entity = shard.entity_of(entry);
        Ok(Place {
            file: self.file(entry.segment)?,
            segment: entry.segment,
            offset: entry.offset,
            log,
            position,
            entity: entity.map(|entity| entity.name.clone()).unwrap_or_default(),
            body: if with_body { entry.body } else { 0 },
        })
    }

    fn place_of_snapshot(
        &self,
        log: LogId,
        entity: &EntityIndex,
        with_body: bool,
    ) -> Result<Option<Place>, ReadError> {
        let Some(place) = entity.snapshot else {
            return Ok(None);
        };
        Ok(Some(Place {
            file: self.file(place.segment)?,
            segment: place.segment,
            offset: place.offset,
            log,
            position: 0,
            entity: entity.name.clone(),
            body: if with_body { place.body } else { 0 },
        }))
    }

    /// While the index is locked, no segment that it names goes away.
    fn file(&self, segment: u32) -> Result<Arc<dyn DiskFile>, ReadError> {
        let file = self.0.files.get(segment);
        file.map_err(|error| {
            let name = segment::name(segment);
            ReadError::Io(format!("opening {name}: {}", explain(&error)))
        })
    }
}
