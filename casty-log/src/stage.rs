//! What changes become of a commit: the operations, and an answer for each change.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use crate::{
    Change, CommitError, Done, Head, LogId, Record, Snapshot,
    format::op::{Op, Raw},
    index::{Index, Kind},
};

/// The most bytes of one change.
const BYTES_MAX: usize = 1 << 30;

/// A commit that is being made. Nothing of it can be read before it is durable.
pub(crate) struct Stage<'a> {
    index: &'a Index,
    logs: BTreeMap<LogId, Staged>,
    kinds: Vec<Kind>,
    /// The records of this commit.
    appended: Vec<(LogId, &'a [Record])>,
    /// What this commit forgets.
    forgotten: Vec<Forgotten<'a>>,
    pub(crate) ops: Vec<u8>,
}

/// What is known of a log once the changes so far are made.
struct Staged {
    head: Head,
    /// Records or snapshots of it were removed.
    is_cut: bool,
    /// The numbers of snapshots that changed.
    snapshots: BTreeMap<Arc<str>, Option<u64>>,
}

/// The records of an entity up to a number, except for those that come later in the commit.
struct Forgotten<'a> {
    log: LogId,
    entity: &'a str,
    through: u64,
    /// How many appends of the commit come before.
    appended: usize,
}

/// Refuses what no commit can hold.
pub(crate) fn check(change: &Change) -> Result<(), CommitError> {
    let text = |text: &str| u16::try_from(text.len()).is_ok();
    let (texts, bytes) = match change {
        Change::Kind { name, .. } => (text(name), 0),
        Change::Claim { owner, .. } => (text(owner), 0),
        Change::Append { records, .. } => {
            let mut bytes = records.iter().map(|record| record.body.len());
            let texts = records.iter().all(|record| text(&record.entity));
            (
                texts,
                bytes.try_fold(0, usize::checked_add).unwrap_or(usize::MAX),
            )
        }
        Change::Save {
            entity, snapshot, ..
        }
        | Change::Copy {
            entity, snapshot, ..
        } => (text(entity), snapshot.body.len()),
        Change::Forget { entity, .. } | Change::ForgetContained { entity, .. } => (text(entity), 0),
        Change::Cut { .. } | Change::Clear { .. } | Change::Trim { .. } => (true, 0),
    };
    let reason = match (texts, bytes) {
        (false, _) => "a name is longer than 65,535 bytes".to_owned(),
        (true, bytes) if bytes > BYTES_MAX => {
            format!("{bytes} bytes at once are more than {BYTES_MAX}")
        }
        _ => return Ok(()),
    };
    Err(CommitError::NotWritten { reason })
}

/// Writes the operations of a change that stores something. It is most of the work of a commit, and
/// needs nothing but the change, so it can be done before.
pub(crate) fn encode(change: &Change, out: &mut Vec<u8>) {
    match change {
        Change::Append { log, records, .. } => {
            for record in records {
                let raw = Raw {
                    log: *log,
                    position: record.position,
                    epoch: record.epoch,
                    seq: record.seq,
                    at: record.at,
                    entity: &record.entity,
                    body: &record.body,
                };
                Op::Record(raw).put(out);
            }
        }
        Change::Save {
            log,
            entity,
            snapshot,
            ..
        }
        | Change::Copy {
            log,
            entity,
            snapshot,
            ..
        } => {
            let raw = Raw {
                log: *log,
                position: 0,
                epoch: 0,
                seq: snapshot.seq,
                at: snapshot.at,
                entity,
                body: &snapshot.body,
            };
            Op::Snapshot(raw).put(out);
        }
        _ => {}
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(index: &'a Index, ops: Vec<u8>) -> Self {
        Self {
            index,
            logs: BTreeMap::new(),
            kinds: Vec::new(),
            appended: Vec::new(),
            forgotten: Vec::new(),
            ops,
        }
    }

    fn log(&mut self, log: LogId) -> &mut Staged {
        self.logs.entry(log).or_insert_with(|| Staged {
            head: self.index.head(log),
            is_cut: false,
            snapshots: BTreeMap::new(),
        })
    }

    /// The log, if it is claimed under this epoch. Epoch 0 is no claim.
    fn claimed(&mut self, log: LogId, epoch: u64) -> Option<&mut Staged> {
        let staged = self.log(log);
        (epoch > 0 && staged.head.epoch == epoch).then_some(staged)
    }

    /// Makes a change that was [checked](check), and that may have been [encoded](encode).
    pub(crate) fn change(&mut self, change: &'a Change, encoded: Option<&[u8]>) -> Done {
        let done = self.decide(change);
        if done == Done::Written {
            match encoded {
                Some(encoded) => self.ops.extend_from_slice(encoded),
                None => encode(change, &mut self.ops),
            }
        }
        done
    }

    fn decide(&mut self, change: &'a Change) -> Done {
        match change {
            Change::Kind { name, shards } => self.kind(name, *shards),
            Change::Claim { log, epoch, owner } => self.claim(*log, *epoch, owner),
            Change::Append {
                log,
                epoch,
                records,
            } => self.append(*log, *epoch, records),
            Change::Cut { log, epoch, after } => self.cut(*log, *epoch, *after),
            Change::Clear { log, epoch } => self.clear(*log, *epoch),
            Change::Trim {
                log,
                epoch,
                through,
            } => self.trim(*log, *epoch, *through),
            Change::Save {
                log,
                epoch,
                entity,
                snapshot,
            } => self.save(*log, *epoch, entity, snapshot),
            Change::Copy {
                log,
                epoch,
                entity,
                snapshot,
            } => {
                let seq = snapshot.seq;
                if self.has(*log, entity, seq) && !self.has_body(*log, entity, seq) {
                    return Done::Refused;
                }
                self.copy(*log, *epoch, entity, snapshot)
            }
            Change::Forget {
                log,
                epoch,
                entity,
                through,
                snapshot,
            } => self.forget(*log, *epoch, entity, *through, *snapshot),
            Change::ForgetContained {
                log,
                epoch,
                entity,
                through,
            } => match self.snapshot_of(*log, entity) {
                Some(last) => self.forget(*log, *epoch, entity, last.min(*through), false),
                None => Done::Refused,
            },
        }
    }

    fn kind(&mut self, name: &Arc<str>, shards: NonZeroU32) -> Done {
        let known = self.index.kinds.iter().chain(&self.kinds);
        if let Some((number, kind)) = (0..).zip(known).find(|(_, kind)| kind.name == *name) {
            return if kind.shards == shards {
                Done::Kind(number)
            } else {
                Done::OtherShards(kind.shards)
            };
        }
        let count = self.index.kinds.len() + self.kinds.len();
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        self.kinds.push(Kind {
            name: name.clone(),
            shards,
        });
        let shards = shards.get();
        let op = Op::Kind {
            number,
            shards,
            name,
        };
        op.put(&mut self.ops);
        Done::Kind(number)
    }

    fn claim(&mut self, log: LogId, epoch: u64, owner: &Arc<str>) -> Done {
        let head = &mut self.log(log).head;
        if head.epoch == epoch && head.owner == *owner {
            return Done::Claimed {
                head: head.position,
            };
        }
        if head.epoch >= epoch {
            return Done::Fenced {
                epoch: head.epoch,
                owner: head.owner.clone(),
            };
        }
        head.epoch = epoch;
        head.owner = owner.clone();
        let done = Done::Claimed {
            head: head.position,
        };
        Op::Claim { log, epoch, owner }.put(&mut self.ops);
        done
    }

    fn append(&mut self, log: LogId, epoch: u64, records: &'a [Record]) -> Done {
        let Some(staged) = self.claimed(log, epoch) else {
            return Done::Refused;
        };
        let first = staged.head.position + 1;
        let follow = (first..).zip(records);
        if records.is_empty() || follow.clone().any(|(at, record)| record.position != at) {
            return Done::Refused;
        }
        staged.head.position += records.len() as u64;
        self.appended.push((log, records));
        Done::Written
    }

    /// Whether this commit appends a record of an entity.
    fn appends(&self, log: LogId, entity: &str) -> bool {
        let of_log = self
            .appended
            .iter()
            .filter(|(appended, _)| *appended == log);
        let mut records = of_log.flat_map(|(_, records)| *records);
        records.any(|record| *record.entity == *entity)
    }

    /// Whether a record of an entity is there, forgotten or not.
    fn has(&self, log: LogId, entity: &str, seq: u64) -> bool {
        let of_log = self
            .appended
            .iter()
            .filter(|(appended, _)| *appended == log);
        let mut records = of_log.flat_map(|(_, records)| *records);
        self.index.has(log, entity, seq)
            || records.any(|record| record.seq == seq && *record.entity == *entity)
    }

    /// Whether a record of an entity is there and not forgotten.
    fn has_body(&self, log: LogId, entity: &str, seq: u64) -> bool {
        let is_forgotten = |appended: usize| {
            let mut forgotten = self.forgotten.iter();
            forgotten.any(|gone| {
                (gone.log, gone.entity) == (log, entity)
                    && gone.through >= seq
                    && gone.appended >= appended
            })
        };
        if self.index.has_body(log, entity, seq) && !is_forgotten(0) {
            return true;
        }
        let mut appended = (1..).zip(&self.appended);
        appended.any(|(number, (appended, records))| {
            let is_it = |record: &Record| record.seq == seq && *record.entity == *entity;
            let mut records = records.iter().filter(|record| !record.body.is_empty());
            *appended == log && records.any(is_it) && !is_forgotten(number)
        })
    }

    fn cut(&mut self, log: LogId, epoch: u64, after: u64) -> Done {
        let Some(staged) = self.claimed(log, epoch) else {
            return Done::Refused;
        };
        if after < staged.head.trimmed {
            return Done::Refused;
        }
        if after < staged.head.position {
            staged.head.position = after;
            staged.is_cut = true;
            Op::Cut { log, after }.put(&mut self.ops);
        }
        Done::Written
    }

    /// It is a cut, and each snapshot is forgotten: no operation of its own is needed for it.
    fn clear(&mut self, log: LogId, epoch: u64) -> Done {
        if self.cut(log, epoch, 0) == Done::Refused {
            return Done::Refused;
        }
        let index = self.index;
        let known = index.logs.get(&log).into_iter();
        let known = known.flat_map(|shard| shard.entities_after(None));
        let stored = known.filter(|entity| entity.snapshot.is_some());
        let staged = self.log(log);
        staged.is_cut = true;
        for entity in stored {
            let seq = entity.snapshot.map(|snapshot| snapshot.seq);
            staged.snapshots.entry(entity.name.clone()).or_insert(seq);
        }
        let mut cleared = Vec::new();
        for (entity, snapshot) in &mut staged.snapshots {
            if snapshot.take().is_some() {
                cleared.push(entity.clone());
            }
        }
        for entity in &cleared {
            let op = Op::Forget {
                log,
                entity,
                through: u64::MAX,
                snapshot: true,
            };
            op.put(&mut self.ops);
        }
        Done::Written
    }

    fn trim(&mut self, log: LogId, epoch: u64, through: u64) -> Done {
        let durable = self.index.logs.get(&log);
        let of_record = durable.and_then(|log| log.epoch_at(through));
        let Some(staged) = self.claimed(log, epoch) else {
            return Done::Refused;
        };
        if staged.is_cut {
            return Done::Refused;
        }
        if through <= staged.head.trimmed {
            return Done::Written;
        }
        let Some(of_record) = of_record else {
            return Done::Refused;
        };
        staged.head.trimmed = through;
        staged.head.trimmed_epoch = of_record;
        staged.is_cut = true;
        let op = Op::Trim {
            log,
            through,
            epoch: of_record,
        };
        op.put(&mut self.ops);
        Done::Written
    }

    fn save(&mut self, log: LogId, epoch: u64, entity: &Arc<str>, snapshot: &Snapshot) -> Done {
        let is_cut = self.log(log).is_cut;
        if is_cut || !self.has_body(log, entity, snapshot.seq) {
            return Done::Refused;
        }
        self.copy(log, epoch, entity, snapshot)
    }

    fn copy(&mut self, log: LogId, epoch: u64, entity: &Arc<str>, snapshot: &Snapshot) -> Done {
        let known = self.index.entity(log, entity);
        let stored = known.and_then(|known| Some(known.snapshot?.seq));
        let Some(staged) = self.claimed(log, epoch) else {
            return Done::Refused;
        };
        let stored = staged.snapshots.get(entity).copied().unwrap_or(stored);
        if stored.is_some_and(|stored| stored >= snapshot.seq) {
            return Done::Refused;
        }
        staged.snapshots.insert(entity.clone(), Some(snapshot.seq));
        Done::Written
    }

    /// The number of the last record that an entity's snapshot contains.
    fn snapshot_of(&mut self, log: LogId, entity: &str) -> Option<u64> {
        let known = self.index.entity(log, entity);
        let stored = known.and_then(|known| Some(known.snapshot?.seq));
        let staged = self.log(log).snapshots.get(entity).copied();
        staged.unwrap_or(stored)
    }

    fn forget(
        &mut self,
        log: LogId,
        epoch: u64,
        entity: &'a Arc<str>,
        through: u64,
        snapshot: bool,
    ) -> Done {
        let known = self.index.entity(log, entity);
        let stored = known.and_then(|known| Some(known.snapshot?.seq));
        let is_known = known.is_some() || self.appends(log, entity);
        let Some(staged) = self.claimed(log, epoch) else {
            return Done::Refused;
        };
        if !is_known && !staged.snapshots.contains_key(entity) {
            return Done::Refused;
        }
        let stored = staged.snapshots.get(entity).copied().unwrap_or(stored);
        if snapshot && stored.is_some_and(|stored| stored <= through) {
            staged.snapshots.insert(entity.clone(), None);
        }
        self.forgotten.push(Forgotten {
            log,
            entity,
            through,
            appended: self.appended.len(),
        });
        let op = Op::Forget {
            log,
            entity,
            through,
            snapshot,
        };
        op.put(&mut self.ops);
        Done::Written
    }
}
