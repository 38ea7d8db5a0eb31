//! What the shards of a store write, as changes of its log.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use casty_log::{Change, Done, LogId, Reader, Record, Snapshot};

use super::{
    body::{CopiedBody, Forgotten},
    message::{CopyEnvelope, Tidy},
};
use crate::{
    id::Epoch,
    protocol::copies::{CopyWrite, WriteMark},
};

/// The changes of one commit.
#[derive(Debug, Default)]
pub(super) struct Written {
    changes: Vec<Change>,
    /// For each change that has to be made: whose it is.
    needed: Vec<(usize, LogId)>,
    marks: BTreeMap<LogId, WriteMark>,
    is_touched: bool,
    /// What a copy says of what it was told to tidy, once it is durable.
    said: Vec<Said>,
    /// The erasures of shards that this store owns: the epoch of each, and its number.
    pub(super) erased: Vec<(LogId, Epoch, u64)>,
}

/// A change that another store is told of.
#[derive(Debug)]
pub(super) struct Said {
    at: usize,
    /// Records that are to be forgotten: up to which one.
    forgets: Option<(LogId, Arc<str>, u64)>,
    envelope: CopyEnvelope,
}

impl Written {
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.is_touched
    }

    /// A commit is made, even if nothing changes.
    pub(super) fn touch(&mut self) {
        self.is_touched = true;
    }

    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The last write of each shard.
    pub(super) fn marks(&self) -> impl Iterator<Item = (LogId, WriteMark)> + use<> {
        self.marks.clone().into_iter()
    }

    pub(super) fn shards(&self) -> BTreeSet<LogId> {
        self.marks.keys().copied().collect()
    }

    /// The shards of which a change was refused that had to be made.
    pub(super) fn refused(&self, done: &[Done]) -> BTreeSet<LogId> {
        let refused = self
            .needed
            .iter()
            .filter(|(at, _)| !matches!(done.get(*at), Some(Done::Written | Done::Claimed { .. })));
        refused.map(|(_, id)| *id).collect()
    }

    /// What is said to other stores now that all of it is done. Whatever was refused was done
    /// before, except that records may wait for the snapshot for which they are forgotten.
    pub(super) fn said(&mut self, done: &[Done], reader: &Reader) -> Vec<CopyEnvelope> {
        let is_done = |said: &Said| {
            let is_refused = matches!(done.get(said.at), None | Some(Done::Refused));
            let Some((log, entity, through)) = said.forgets.as_ref().filter(|_| is_refused) else {
                return true;
            };
            let tidied = reader.tidied_of(*log, entity);
            tidied.is_some_and(|tidied| tidied.forgotten >= *through)
        };
        let said = std::mem::take(&mut self.said).into_iter().filter(is_done);
        said.map(|said| said.envelope).collect()
    }

    /// What a machine writes. `promised`: the epoch that the store has promised then.
    pub(super) fn write(&mut self, log: LogId, promised: Epoch, write: CopyWrite) {
        let epoch = promised.0;
        self.marks.insert(log, write.mark);
        if write.promise.is_some() {
            let owner = Arc::from("");
            self.need(log, Change::Claim { log, epoch, owner });
        }
        if write.clear {
            self.need(log, Change::Clear { log, epoch });
        }
        if let Some(after) = write.cut {
            self.need(log, Change::Cut { log, epoch, after });
        }
        let (mut records, mut forgotten) = (Vec::with_capacity(write.records.len()), Vec::new());
        for (position, copied) in (write.after + 1..).zip(write.records) {
            // It was read when it came.
            let Ok(read) = CopiedBody::decode(copied.body) else {
                continue;
            };
            let (entity, seq) = (read.entity, read.seq);
            match read.forgotten {
                None | Some(Forgotten::Later) => {}
                Some(Forgotten::Snapshot(snapshot)) => {
                    let entity = entity.clone();
                    // Before the records: a snapshot of what is forgotten is not taken.
                    self.changes.push(Change::Copy {
                        log,
                        epoch,
                        entity: entity.clone(),
                        snapshot,
                    });
                    forgotten.push(contained(log, epoch, entity, seq));
                }
                Some(Forgotten::Erased) => {
                    forgotten.push(erased(log, epoch, entity.clone(), seq));
                }
            }
            records.push(Record {
                position,
                epoch: copied.epoch.0,
                entity,
                seq,
                at: read.at,
                body: read.body,
            });
        }
        if !records.is_empty() {
            let append = Change::Append {
                log,
                epoch,
                records,
            };
            self.need(log, append);
        }
        self.changes.append(&mut forgotten);
    }

    /// All of the log goes, with its snapshots.
    pub(super) fn clear_log(&mut self, log: LogId, promised: Epoch) {
        let epoch = promised.0;
        self.changes.push(Change::Clear { log, epoch });
    }

    /// What the owner does with what is durable.
    pub(super) fn tidy(&mut self, log: LogId, epoch: Epoch, tidy: Tidy) {
        let epoch = epoch.0;
        self.changes.push(match tidy {
            Tidy::Save {
                entity,
                seq,
                at,
                body,
            } => Change::Save {
                log,
                epoch,
                entity,
                snapshot: Snapshot { seq, at, body },
            },
            Tidy::Forget { entity, through } => Change::Forget {
                log,
                epoch,
                entity,
                through,
                snapshot: false,
            },
            Tidy::Erase { entity, through } => erased(log, epoch, entity, through),
        });
    }

    /// The same in a copy, which says it once it is done.
    pub(super) fn tidy_for(
        &mut self,
        log: LogId,
        epoch: Epoch,
        tidy: Tidy,
        envelope: CopyEnvelope,
    ) {
        let forgets = match &tidy {
            Tidy::Forget { entity, through } => Some((log, entity.clone(), *through)),
            Tidy::Save { .. } | Tidy::Erase { .. } => None,
        };
        self.said.push(Said {
            at: self.changes.len(),
            forgets,
            envelope,
        });
        self.tidy_copy(log, epoch, tidy);
    }

    /// The same where the snapshot for which records are forgotten may be missing.
    pub(super) fn tidy_copy(&mut self, log: LogId, epoch: Epoch, tidy: Tidy) {
        let epoch_number = epoch.0;
        match tidy {
            Tidy::Save {
                entity,
                seq,
                at,
                body,
            } => self.changes.push(Change::Copy {
                log,
                epoch: epoch_number,
                entity,
                snapshot: Snapshot { seq, at, body },
            }),
            Tidy::Forget { entity, through } => {
                self.changes
                    .push(contained(log, epoch_number, entity, through));
            }
            other @ Tidy::Erase { .. } => self.tidy(log, epoch, other),
        }
    }

    fn need(&mut self, log: LogId, change: Change) {
        self.needed.push((self.changes.len(), log));
        self.changes.push(change);
    }
}

fn contained(log: LogId, epoch: u64, entity: Arc<str>, through: u64) -> Change {
    Change::ForgetContained {
        log,
        epoch,
        entity,
        through,
    }
}

fn erased(log: LogId, epoch: u64, entity: Arc<str>, through: u64) -> Change {
    Change::Forget {
        log,
        epoch,
        entity,
        through,
        snapshot: true,
    }
}
