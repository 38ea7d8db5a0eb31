//! Where the records of one log stand.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use foldhash::fast::RandomState;

use super::{EntityIndex, Live, entity::SnapshotPlace, runs::Runs};
use crate::{
    Head,
    format::op::{Raw, raw_bytes},
};

/// A record in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    /// 0 while a store is opened and the record has not been met.
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// The length of its body; 0 once it is forgotten.
    pub(crate) body: u32,
    pub(crate) entity: u32,
}

// One stands in memory for each record, with 8 bytes more for its place among those of its entity.
const _: () = assert!(size_of::<Entry>() == 24);

impl Entry {
    const MISSING: Self = Self {
        seq: 0,
        segment: 0,
        offset: 0,
        body: 0,
        entity: u32::MAX,
    };

    fn is_missing(self) -> bool {
        self.segment == 0
    }
}

#[derive(Debug, Default)]
pub(crate) struct ShardIndex {
    pub(crate) head: Head,
    pub(crate) runs: Runs,
    /// From the first position that is not trimmed on.
    entries: VecDeque<Entry>,
    entities: Vec<EntityIndex>,
    /// Places in `entities` that are not used.
    free: Vec<u32>,
    numbers: HashMap<Arc<str>, u32, RandomState>,
    /// In the order of their ids.
    sorted: BTreeMap<Arc<str>, u32>,
    /// See [`Reader::tidied`](crate::Reader::tidied).
    pub(crate) tidied: u64,
}

/// What an empty record, or a snapshot, adds to the sum of a log: the finalizer of `SplitMix64`,
/// which spreads all bits. Stores compare the sums, so it never changes.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn mixed_snapshot(entity: &str, seq: u64) -> u64 {
    let name = entity.as_bytes().chunks(8).fold(0, |sum, chunk| {
        let number = chunk
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        mixed(sum ^ number)
    });
    mixed(name.wrapping_add(mixed(!seq)))
}

impl ShardIndex {
    /// The index of a log of which only the head is known so far.
    pub(super) fn after(head: Head) -> Self {
        let count = head.position.saturating_sub(head.trimmed);
        Self {
            entries: (0..count).map(|_| Entry::MISSING).collect(),
            head,
            ..Self::default()
        }
    }

    fn at(&self, position: u64) -> Option<usize> {
        let above = position.checked_sub(self.head.trimmed + 1)?;
        usize::try_from(above).ok()
    }

    pub(crate) fn entry(&self, position: u64) -> Option<Entry> {
        self.entries.get(self.at(position)?).copied()
    }

    /// The epoch of a record, or of the last one that was trimmed.
    pub(crate) fn epoch_at(&self, position: u64) -> Option<u64> {
        if position == self.head.trimmed && position > 0 {
            return Some(self.head.trimmed_epoch);
        }
        self.runs.epoch_at(position)
    }

    /// The records after a position, with their positions.
    pub(crate) fn after_position(&self, after: u64) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let from = after.max(self.head.trimmed).min(self.head.position) + 1;
        let skipped = self.at(from).unwrap_or_default();
        (from..).zip(self.entries.iter().skip(skipped).copied())
    }

    /// The records of an entity after one of them, with their positions.
    pub(crate) fn of_entity<'a>(
        &'a self,
        entity: &'a EntityIndex,
        after: u64,
    ) -> impl Iterator<Item = (u64, Entry)> + 'a {
        let seq = |position: &u64| self.entry(*position).map_or(0, |entry| entry.seq);
        let first = entity.records.partition_point(|at| seq(at) <= after);
        let positions = entity.records.range(first..);
        positions.filter_map(|at| Some((*at, self.entry(*at)?)))
    }

    pub(crate) fn entity(&self, name: &str) -> Option<&EntityIndex> {
        let number = *self.numbers.get(name)?;
        self.entities.get(number as usize)
    }

    pub(crate) fn entity_of(&self, entry: Entry) -> Option<&EntityIndex> {
        self.entities.get(entry.entity as usize)
    }

    /// The entities after one of them, in the order of their ids.
    pub(crate) fn entities_after(
        &self,
        after: Option<&str>,
    ) -> impl Iterator<Item = &EntityIndex> + '_ {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.sorted.range::<str, _>((after, Bound::Unbounded));
        range.filter_map(|(_, number)| self.entities.get(*number as usize))
    }

    /// The number of the last record of an entity that is empty, with all before it.
    pub(crate) fn forgotten(&self, entity: &EntityIndex) -> u64 {
        let entries = entity.records.iter().filter_map(|at| self.entry(*at));
        // Those that are known to be forgotten are passed over.
        let known = entity.records.partition_point(|at| {
            let entry = self.entry(*at);
            entry.is_some_and(|entry| entry.seq <= entity.forgotten)
        });
        let first = known.saturating_sub(1);
        let empty = entries.skip(first).take_while(|entry| entry.body == 0);
        empty.last().map_or(0, |entry| entry.seq)
    }

    fn number_of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name: Arc<str> = Arc::from(name);
        let entity = EntityIndex::new(name.clone());
        let number = if let Some(number) = self.free.pop() {
            self.entities[number as usize] = entity;
            number
        } else {
            self.entities.push(entity);
            u32::try_from(self.entities.len() - 1).unwrap_or(u32::MAX)
        };
        self.sorted.insert(name.clone(), number);
        self.numbers.insert(name, number);
        number
    }

    fn drop_if_gone(&mut self, number: u32) {
        let Some(entity) = self.entities.get_mut(number as usize) else {
            return;
        };
        if entity.is_gone() && self.numbers.remove(&entity.name).is_some() {
            self.sorted.remove(&entity.name);
            *entity = EntityIndex::default();
            self.free.push(number);
        }
    }

    pub(super) fn append(
        &mut self,
        raw: &Raw<'_>,
        segment: u32,
        offset: u32,
        live: &mut Live,
    ) -> Result<(), String> {
        if raw.position != self.head.position + 1 {
            let head = self.head.position;
            return Err(format!("position {} follows {head}", raw.position));
        }
        self.head.position = raw.position;
        self.entries.push_back(Entry::MISSING);
        self.place(raw, segment, offset, live)
    }

    pub(super) fn moved(
        &mut self,
        raw: &Raw<'_>,
        segment: u32,
        offset: u32,
        live: &mut Live,
    ) -> Result<(), String> {
        if self.entry(raw.position).is_none() {
            return Err(format!("position {} is not in the log", raw.position));
        }
        self.place(raw, segment, offset, live)
    }

    /// Notes where a record stands from now on.
    fn place(
        &mut self,
        raw: &Raw<'_>,
        segment: u32,
        offset: u32,
        live: &mut Live,
    ) -> Result<(), String> {
        let Some(at) = self.at(raw.position) else {
            return Ok(());
        };
        self.runs.set(raw.position, raw.epoch)?;
        let number = self.number_of(raw.entity);
        let body = u32::try_from(raw.body.len()).unwrap_or(u32::MAX);
        let new = Entry {
            seq: raw.seq,
            segment,
            offset,
            body,
            entity: number,
        };
        let Some(entry) = self.entries.get_mut(at) else {
            return Ok(());
        };
        let old = std::mem::replace(entry, new);
        let Some(entity) = self.entities.get_mut(number as usize) else {
            return Ok(());
        };
        if old.is_missing() {
            entity.add(raw.position);
        } else {
            live.remove(old.segment, raw_bytes(raw.entity.len(), old.body as usize));
            entity.bodies -= u32::from(old.body > 0);
            if old.body == 0 {
                self.tidied = self.tidied.wrapping_sub(mixed(raw.position));
            }
        }
        if body == 0 {
            self.tidied = self.tidied.wrapping_add(mixed(raw.position));
        }
        entity.bodies += u32::from(body > 0);
        live.add(segment, raw_bytes(raw.entity.len(), raw.body.len()));
        Ok(())
    }

    pub(super) fn cut(&mut self, after: u64, live: &mut Live) {
        self.runs.cut(after);
        while self.head.position > after.max(self.head.trimmed) {
            let Some(entry) = self.entries.pop_back() else {
                return;
            };
            self.removed(self.head.position, entry, live);
            self.head.position -= 1;
        }
    }

    pub(super) fn trim(&mut self, through: u64, epoch: u64, live: &mut Live) {
        self.runs.trim(through);
        while self.head.trimmed < through {
            let Some(entry) = self.entries.pop_front() else {
                return;
            };
            self.head.trimmed += 1;
            self.removed(self.head.trimmed, entry, live);
        }
        self.head.trimmed_epoch = epoch;
    }

    /// A record is no longer in the log.
    fn removed(&mut self, position: u64, entry: Entry, live: &mut Live) {
        let Some(entity) = self.entities.get_mut(entry.entity as usize) else {
            return;
        };
        entity.remove(position);
        if entry.body == 0 {
            self.tidied = self.tidied.wrapping_sub(mixed(position));
        }
        entity.forgotten = entity.forgotten.min(entry.seq.saturating_sub(1));
        entity.bodies -= u32::from(entry.body > 0);
        let bytes = raw_bytes(entity.name.len(), entry.body as usize);
        live.remove(entry.segment, bytes);
        self.drop_if_gone(entry.entity);
    }

    pub(super) fn snapshot(&mut self, raw: &Raw<'_>, segment: u32, offset: u32, live: &mut Live) {
        let number = self.number_of(raw.entity);
        let Some(entity) = self.entities.get_mut(number as usize) else {
            return;
        };
        let new = SnapshotPlace {
            seq: raw.seq,
            segment,
            offset,
            body: u32::try_from(raw.body.len()).unwrap_or(u32::MAX),
        };
        self.tidied = self
            .tidied
            .wrapping_add(mixed_snapshot(raw.entity, raw.seq));
        if let Some(old) = entity.snapshot.replace(new) {
            self.tidied = self
                .tidied
                .wrapping_sub(mixed_snapshot(raw.entity, old.seq));
            live.remove(old.segment, raw_bytes(raw.entity.len(), old.body as usize));
        }
        live.add(segment, raw_bytes(raw.entity.len(), raw.body.len()));
    }

    pub(super) fn forget(&mut self, name: &str, through: u64, snapshot: bool, live: &mut Live) {
        let Some(&number) = self.numbers.get(name) else {
            return;
        };
        let Some(entity) = self.entities.get_mut(number as usize) else {
            return;
        };
        let trimmed = self.head.trimmed;
        let at = |position: u64| usize::try_from(position - trimmed - 1).unwrap_or(usize::MAX);
        let entries = &mut self.entries;
        let seq = |entries: &VecDeque<Entry>, position: u64| {
            entries.get(at(position)).map_or(0, |entry| entry.seq)
        };
        // In order, those that were forgotten before need not be looked at again.
        let first = if entity.is_mixed {
            0
        } else {
            let forgotten = entity.forgotten;
            let is_forgotten = |position: &u64| seq(entries, *position) <= forgotten;
            entity.records.partition_point(is_forgotten)
        };
        for position in entity.records.range(first..) {
            let Some(entry) = entries.get_mut(at(*position)) else {
                continue;
            };
            if entry.seq > through && !entity.is_mixed {
                break;
            }
            if entry.seq <= through && entry.body > 0 {
                live.remove(entry.segment, entry.body as usize);
                entry.body = 0;
                self.tidied = self.tidied.wrapping_add(mixed(*position));
                entity.bodies -= 1;
            }
        }
        if !entity.is_mixed {
            let last = entity.records.back().map_or(0, |last| seq(entries, *last));
            entity.forgotten = entity.forgotten.max(through.min(last));
        }
        let is_deleted = |place: &mut SnapshotPlace| place.seq <= through;
        if snapshot && let Some(old) = entity.snapshot.take_if(is_deleted) {
            self.tidied = self.tidied.wrapping_sub(mixed_snapshot(name, old.seq));
            live.remove(old.segment, raw_bytes(name.len(), old.body as usize));
        }
        self.drop_if_gone(number);
    }

    /// The position of a record that was never met, as an error.
    pub(super) fn finish(&mut self) -> Result<(), u64> {
        let missing = self.entries.iter().position(|entry| entry.is_missing());
        if let Some(missing) = missing {
            return Err(self.head.trimmed + 1 + missing as u64);
        }
        self.entities.iter_mut().for_each(EntityIndex::sort);
        Ok(())
    }
}
