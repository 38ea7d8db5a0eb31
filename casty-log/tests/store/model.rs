//! What a store has to know, as simply as it can be said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use casty_log::{
    Change, Done, Head, LogId, Page, Reader, Record, Run, Snapshot, StoredEntity, Tidied,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    kinds: Vec<(Arc<str>, u32)>,
    logs: BTreeMap<LogId, Log>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Log {
    head: Head,
    records: BTreeMap<u64, Record>,
    snapshots: BTreeMap<Arc<str>, Snapshot>,
}

impl Model {
    /// Makes the changes of one commit.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Vec<Done> {
        let before = self.clone();
        let mut cut = Vec::new();
        let done = changes
            .iter()
            .map(|change| self.change(change, &before, &mut cut));
        done.collect()
    }

    fn change(&mut self, change: &Change, before: &Self, cut: &mut Vec<LogId>) -> Done {
        match change {
            Change::Kind { name, shards } => {
                let at = self.kinds.iter().position(|(known, _)| known == name);
                let at = at.unwrap_or_else(|| {
                    self.kinds.push((name.clone(), shards.get()));
                    self.kinds.len() - 1
                });
                Done::Kind(u32::try_from(at).expect("few"))
            }
            Change::Claim { log, epoch, owner } => {
                let head = &mut self.logs.entry(*log).or_default().head;
                let repeats = head.epoch == *epoch && head.owner == *owner;
                if head.epoch >= *epoch && !repeats {
                    let (epoch, owner) = (head.epoch, head.owner.clone());
                    return Done::Fenced { epoch, owner };
                }
                (head.epoch, head.owner) = (*epoch, owner.clone());
                let head = head.position;
                Done::Claimed { head }
            }
            Change::Append {
                log,
                epoch,
                records,
            } => self.on(*log, *epoch, |log| {
                let follows = records[0].position == log.head.position + 1;
                if follows {
                    log.head.position += records.len() as u64;
                    let records = records.iter().cloned();
                    log.records
                        .extend(records.map(|record| (record.position, record)));
                }
                follows
            }),
            Change::Cut { log, epoch, after } => self.on(*log, *epoch, |found| {
                if *after < found.head.trimmed {
                    return false;
                }
                if *after < found.head.position {
                    cut.push(*log);
                    found.head.position = *after;
                    found.records.split_off(&(after + 1));
                }
                true
            }),
            Change::Clear { log, epoch } => self.on(*log, *epoch, |found| {
                if found.head.trimmed > 0 {
                    return false;
                }
                cut.push(*log);
                found.head.position = 0;
                found.records.clear();
                found.snapshots.clear();
                true
            }),
            Change::Trim {
                log,
                epoch,
                through,
            } => {
                let durable = before.logs.get(log).map_or(0, |log| log.head.position);
                self.on(*log, *epoch, |found| {
                    if cut.contains(log) || *through > durable {
                        return false;
                    }
                    if *through > found.head.trimmed {
                        cut.push(*log);
                        found.head.trimmed = *through;
                        found.head.trimmed_epoch = found.records[through].epoch;
                        found.records = found.records.split_off(&(through + 1));
                    }
                    true
                })
            }
            Change::Save {
                log,
                epoch,
                entity,
                snapshot,
            } => self.on(*log, *epoch, |found| {
                let has_body = found.records.values().any(|it| {
                    it.entity == *entity && it.seq == snapshot.seq && !it.body.is_empty()
                });
                let stored = found.snapshots.get(entity).map_or(0, |stored| stored.seq);
                let saves = !cut.contains(log) && has_body && stored < snapshot.seq;
                if saves {
                    found.snapshots.insert(entity.clone(), snapshot.clone());
                }
                saves
            }),
            Change::Copy {
                log,
                epoch,
                entity,
                snapshot,
            } => self.on(*log, *epoch, |found| {
                let stored = found.snapshots.get(entity).map_or(0, |stored| stored.seq);
                let is_forgotten = found
                    .records
                    .values()
                    .any(|it| it.entity == *entity && it.seq == snapshot.seq && it.body.is_empty());
                let is_later = stored < snapshot.seq && !is_forgotten;
                if is_later {
                    found.snapshots.insert(entity.clone(), snapshot.clone());
                }
                is_later
            }),
            Change::Forget {
                log,
                epoch,
                entity,
                through,
                snapshot,
            } => self.on(*log, *epoch, |log| {
                for record in log.records.values_mut() {
                    if record.entity == *entity && record.seq <= *through {
                        record.body.clear();
                    }
                }
                let stored = log.snapshots.get(entity);
                if *snapshot && stored.is_some_and(|stored| stored.seq <= *through) {
                    log.snapshots.remove(entity);
                }
                true
            }),
            Change::ForgetContained {
                log,
                epoch,
                entity,
                through,
            } => self.on(*log, *epoch, |log| {
                let Some(stored) = log.snapshots.get(entity) else {
                    return false;
                };
                let through = stored.seq.min(*through);
                for record in log.records.values_mut() {
                    if record.entity == *entity && record.seq <= through {
                        record.body.clear();
                    }
                }
                true
            }),
        }
    }

    fn on(&mut self, log: LogId, epoch: u64, change: impl FnOnce(&mut Log) -> bool) -> Done {
        let Some(log) = self
            .logs
            .get_mut(&log)
            .filter(|log| epoch > 0 && log.head.epoch == epoch)
        else {
            return Done::Refused;
        };
        if change(log) {
            Done::Written
        } else {
            Done::Refused
        }
    }

    pub(crate) fn head(&self, log: LogId) -> Head {
        self.logs
            .get(&log)
            .map(|log| log.head.clone())
            .unwrap_or_default()
    }

    /// The number of the last record of an entity.
    pub(crate) fn last_seq(&self, log: LogId, entity: &str) -> u64 {
        let records = self.logs.get(&log).into_iter();
        let records = records.flat_map(|log| log.records.values());
        let mut seqs = records.filter_map(|it| (*it.entity == *entity).then_some(it.seq));
        seqs.next_back().unwrap_or_default()
    }

    /// Says how the store differs from the model.
    pub(crate) fn compare(&self, reader: &Reader) -> Result<(), String> {
        for (number, (name, shards)) in (0..).zip(&self.kinds) {
            equal(reader.kind(name), Some((number, *shards)), name)?;
        }
        let claimed = |log: &Log| log.head != Head::default();
        let logs: Vec<_> = self.logs.iter().filter(|(_, log)| claimed(log)).collect();
        let ids: Vec<_> = logs.iter().map(|(id, _)| **id).collect();
        equal(reader.logs(), ids, "the logs")?;
        let latest = logs.iter().map(|(_, log)| log.head.epoch).max();
        equal(reader.latest_epoch(), latest.unwrap_or(0), "the epochs")?;
        logs.iter()
            .try_for_each(|(id, log)| log.compare(**id, reader))
    }
}

impl Log {
    fn runs(&self) -> Vec<Run> {
        let (last, epoch) = (self.head.trimmed, self.head.trimmed_epoch);
        let mut runs = Vec::from_iter((last > 0).then_some(Run { last, epoch }));
        for record in self.records.values() {
            let (last, epoch) = (record.position, record.epoch);
            let follows = |run: &&mut Run| run.epoch == epoch && run.last > self.head.trimmed;
            match runs.last_mut().filter(follows) {
                Some(run) => run.last = last,
                None => runs.push(Run { last, epoch }),
            }
        }
        runs
    }

    fn tidied(&self) -> BTreeMap<Arc<str>, Tidied> {
        let mut tidied: BTreeMap<Arc<str>, Tidied> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        let none = |entity: &Arc<str>| Tidied {
            entity: entity.clone(),
            forgotten: 0,
            snapshot: None,
        };
        for record in self.records.values() {
            let entity = &record.entity;
            if !record.body.is_empty() {
                kept.insert(entity.clone());
            } else if !kept.contains(entity) {
                let of_entity = tidied.entry(entity.clone()).or_insert_with(|| none(entity));
                of_entity.forgotten = record.seq;
            }
        }
        for (entity, snapshot) in &self.snapshots {
            let of_entity = tidied.entry(entity.clone()).or_insert_with(|| none(entity));
            of_entity.snapshot = Some(snapshot.seq);
        }
        tidied
    }

    fn compare(&self, id: LogId, reader: &Reader) -> Result<(), String> {
        let text = |error: casty_log::ReadError| error.to_string();
        equal(reader.head(id), self.head.clone(), "a head")?;
        let small = Page {
            records: 7,
            bytes: 300,
        };
        let mut after = 0;
        let mut records = Vec::new();
        loop {
            let page = reader.read_log(id, after, small).map_err(text)?;
            let Some(last) = page.last() else { break };
            after = last.position;
            records.extend(page);
        }
        let expected: Vec<_> = self.records.values().cloned().collect();
        equal(records, expected, "a log")?;
        let trimmed = (self.head.trimmed > 0).then_some(self.head.trimmed_epoch);
        let epoch = reader.epoch_at(id, self.head.trimmed);
        equal(epoch, trimmed, "the epoch of the last trimmed record")?;
        equal(reader.runs(id), self.runs(), "the epochs of a log")?;
        for record in self.records.values() {
            let epoch = reader.epoch_at(id, record.position);
            equal(epoch, Some(record.epoch), "the epoch of a record")?;
        }

        let mut entities: BTreeMap<Arc<str>, Vec<Record>> = BTreeMap::new();
        for record in self.records.values() {
            let of_entity = entities.entry(record.entity.clone()).or_default();
            of_entity.push(record.clone());
        }
        for (entity, records) in &entities {
            for after in [0, records[records.len() / 2].seq] {
                let page = Page {
                    records: usize::MAX,
                    bytes: usize::MAX,
                };
                let read = reader.read_entity(id, entity, after, page).map_err(text)?;
                let expected = records.iter().filter(|it| it.seq > after).cloned();
                equal(read, expected.collect(), entity)?;
            }
        }
        for entity in self.snapshots.keys().chain(entities.keys()) {
            let read = reader.snapshot(id, entity).map_err(text)?;
            equal(read, self.snapshots.get(entity).cloned(), entity)?;
        }
        let mut stored: BTreeMap<Arc<str>, StoredEntity> = BTreeMap::new();
        for (entity, snapshot) in &self.snapshots {
            let (entity, seq, at) = (entity.clone(), snapshot.seq, snapshot.at);
            stored.insert(entity.clone(), StoredEntity { entity, seq, at });
        }
        for (entity, records) in entities {
            let has_body = records.iter().any(|record| !record.body.is_empty());
            let last = records.last().expect("one record");
            let snapshot = stored.get(&entity).map(|snapshot| snapshot.seq);
            if snapshot.map_or(has_body, |snapshot| snapshot <= last.seq) {
                let (seq, at) = (last.seq, last.at);
                stored.insert(entity.clone(), StoredEntity { entity, seq, at });
            }
        }
        let tidied: Vec<_> = self.tidied().into_values().collect();
        equal(
            reader.tidied_after(id, None, 1000),
            tidied.clone(),
            "what is tidied",
        )?;
        if let Some(last) = tidied.last() {
            let found = reader.tidied_of(id, &last.entity);
            equal(found.as_ref(), Some(last), "what is tidied of an entity")?;
        }
        let stored: Vec<_> = stored.into_values().collect();
        let read = reader.entities(id, None, 1000).map_err(text)?;
        equal(read, stored.clone(), "the entities")?;
        if let Some(first) = stored.first() {
            let read = reader.entities(id, Some(&first.entity), 2).map_err(text)?;
            let expected = stored.iter().skip(1).take(2).cloned().collect();
            equal(read, expected, "some entities")?;
        }
        Ok(())
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T, what: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let text = |value: T| format!("{value:?}").chars().take(1500).collect::<String>();
    let (found, expected) = (text(found), text(expected));
    Err(format!("{what}: {found} instead of {expected}"))
}
