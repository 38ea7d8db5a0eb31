//! Where everything that is stored stands: in memory, built from the operations of the segments.

mod entity;
mod runs;
mod shard;

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

pub(crate) use self::{
    entity::EntityIndex,
    shard::{Entry, ShardIndex},
};
use crate::{Head, LogId, format::op::Op};

/// An entity type.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: Arc<str>,
    pub(crate) shards: NonZeroU32,
}

/// How many bytes of records and snapshots are needed, in each segment.
#[derive(Debug, Default)]
pub(crate) struct Live {
    segments: BTreeMap<u32, u64>,
    pub(crate) total: u64,
}

impl Live {
    fn add(&mut self, segment: u32, bytes: usize) {
        *self.segments.entry(segment).or_default() += bytes as u64;
        self.total += bytes as u64;
    }

    fn remove(&mut self, segment: u32, bytes: usize) {
        if let Some(live) = self.segments.get_mut(&segment) {
            *live = live.saturating_sub(bytes as u64);
        }
        self.total = self.total.saturating_sub(bytes as u64);
    }

    pub(crate) fn of(&self, segment: u32) -> u64 {
        self.segments.get(&segment).copied().unwrap_or_default()
    }

    fn forget_before(&mut self, segment: u32) {
        let kept = self.segments.split_off(&segment);
        let gone: u64 = std::mem::replace(&mut self.segments, kept).values().sum();
        self.total = self.total.saturating_sub(gone);
    }
}

/// What is stored.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By their numbers.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) logs: BTreeMap<LogId, ShardIndex>,
    pub(crate) live: Live,
    /// Segments before this one are not needed.
    pub(crate) oldest: u32,
}

impl Index {
    pub(crate) fn head(&self, log: LogId) -> Head {
        let found = self.logs.get(&log);
        found.map(|log| log.head.clone()).unwrap_or_default()
    }

    pub(crate) fn entity(&self, log: LogId, entity: &str) -> Option<&EntityIndex> {
        self.logs.get(&log)?.entity(entity)
    }

    /// A record of an entity.
    fn record(&self, log: LogId, entity: &str, seq: u64) -> Option<Entry> {
        let log = self.logs.get(&log)?;
        let entity = log.entity(entity)?;
        let (_, entry) = log.of_entity(entity, seq.saturating_sub(1)).next()?;
        (entry.seq == seq).then_some(entry)
    }

    /// Whether a record of an entity is there.
    pub(crate) fn has(&self, log: LogId, entity: &str, seq: u64) -> bool {
        self.record(log, entity, seq).is_some()
    }

    /// Whether a record of an entity is there and not forgotten.
    pub(crate) fn has_body(&self, log: LogId, entity: &str, seq: u64) -> bool {
        let record = self.record(log, entity, seq);
        record.is_some_and(|entry| entry.body > 0)
    }

    /// Takes one operation in, which stands at this offset of this segment.
    ///
    /// # Errors
    /// A text, if it does not follow from what is stored.
    pub(crate) fn apply(&mut self, segment: u32, offset: u32, op: &Op<'_>) -> Result<(), String> {
        let live = &mut self.live;
        match *op {
            Op::Kind {
                number,
                shards,
                name,
            } => self.kind(number, shards, name)?,
            Op::Head {
                log,
                epoch,
                owner,
                position,
                trimmed,
                trimmed_epoch,
            } => {
                let head = Head {
                    epoch,
                    owner: Arc::from(owner),
                    position,
                    trimmed,
                    trimmed_epoch,
                };
                match self.logs.get(&log) {
                    None => drop(self.logs.insert(log, ShardIndex::after(head))),
                    Some(known) if known.head == head => {}
                    Some(known) => return Err(format!("{:?} became {head:?}", known.head)),
                }
            }
            Op::Claim { log, epoch, owner } => {
                let log = self.logs.entry(log).or_default();
                log.head.epoch = epoch;
                log.head.owner = Arc::from(owner);
            }
            Op::Record(raw) => {
                let log = self.logs.entry(raw.log).or_default();
                log.append(&raw, segment, offset, live)?;
            }
            Op::Moved(raw) => {
                let log = self.logs.entry(raw.log).or_default();
                log.moved(&raw, segment, offset, live)?;
            }
            Op::Cut { log, after } => self.logs.entry(log).or_default().cut(after, live),
            Op::Trim {
                log,
                through,
                epoch,
            } => {
                let log = self.logs.entry(log).or_default();
                log.trim(through, epoch, live);
            }
            Op::Snapshot(raw) => {
                let log = self.logs.entry(raw.log).or_default();
                log.snapshot(&raw, segment, offset, live);
            }
            Op::Forget {
                log,
                entity,
                through,
                snapshot,
            } => {
                let log = self.logs.entry(log).or_default();
                log.forget(entity, through, snapshot, live);
            }
            Op::Oldest { segment } => {
                self.oldest = self.oldest.max(segment);
                live.forget_before(segment);
            }
        }
        Ok(())
    }

    fn kind(&mut self, number: u32, shards: u32, name: &str) -> Result<(), String> {
        let shards = NonZeroU32::new(shards).ok_or("a type of no shards")?;
        let kind = Kind {
            name: Arc::from(name),
            shards,
        };
        match self.kinds.get(number as usize) {
            None if number as usize == self.kinds.len() => self.kinds.push(kind),
            Some(known) if known.name == kind.name && known.shards == shards => {}
            known => return Err(format!("type {number} is {known:?} and {kind:?}")),
        }
        Ok(())
    }

    /// After all segments have been read: puts in order what came out of order, and checks that
    /// nothing is missing.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        for (id, log) in &mut self.logs {
            log.finish().map_err(|position| {
                let kind = self.kinds.get(id.kind as usize);
                let kind = kind.map_or("?", |kind| &kind.name);
                let shard = id.shard;
                format!("position {position} of shard {shard} of `{kind}` is in no segment")
            })?;
        }
        Ok(())
    }

    /// What a segment begins with.
    pub(crate) fn checkpoint(&self, out: &mut Vec<u8>) {
        for (number, kind) in (0..).zip(&self.kinds) {
            let (shards, name) = (kind.shards.get(), &*kind.name);
            let op = Op::Kind {
                number,
                shards,
                name,
            };
            op.put(out);
        }
        for (log, shard) in &self.logs {
            let head = &shard.head;
            let op = Op::Head {
                log: *log,
                epoch: head.epoch,
                owner: &head.owner,
                position: head.position,
                trimmed: head.trimmed,
                trimmed_epoch: head.trimmed_epoch,
            };
            op.put(out);
        }
        if self.oldest > 0 {
            Op::Oldest {
                segment: self.oldest,
            }
            .put(out);
        }
    }
}
