//! Makes the directory of a node from a backup.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use casty_log::{Change, Done, LogId, Options, Record, Snapshot, Store, disk::Folder};

use super::{BackupError, BackupPart, BackupReader, BackupSummary, LoggedRecord, LoggedSnapshot};
use crate::persistence::local::LOG_FOLDER;

/// Makes the directory `to`, with a new identity, from the backup in the directory `from`. All of
/// the backup is checked before.
///
/// # Errors
/// What is wrong with the backup, or with the directory. Then there is no directory `to`.
pub(crate) fn restore(from: &Path, to: &Path) -> Result<BackupSummary, BackupError> {
    let summary = BackupReader::check(from)?;
    if to.exists() {
        let mut there = fs::read_dir(to).map_err(BackupError::io("reading the directory", to))?;
        if there.next().is_some() {
            let path = to.to_owned();
            return Err(BackupError::NotEmpty { path });
        }
        fs::remove_dir(to).map_err(BackupError::io("removing the empty directory", to))?;
    }
    let part = part_of(to)?;
    if part.exists() {
        return Err(BackupError::NotEmpty { path: part });
    }
    let restored = write(from, &part);
    if restored.is_err() {
        // What was begun is of no use. The first error counts.
        let _ = fs::remove_dir_all(&part);
    }
    restored?;
    fs::rename(&part, to).map_err(BackupError::io("renaming", &part))?;
    let above = to.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    let synced = File::open(above).and_then(|above| above.sync_all());
    synced.map_err(BackupError::io("syncing", above))?;
    Ok(summary)
}

/// Where it is until it is whole: beside it, on the same disk.
fn part_of(to: &Path) -> Result<PathBuf, BackupError> {
    let name = to.file_name().ok_or_else(|| BackupError::Io {
        what: "restoring into",
        path: to.to_owned(),
        reason: "it has no name".to_owned(),
    })?;
    let mut name = name.to_owned();
    name.push(".part");
    Ok(to.with_file_name(name))
}

fn write(from: &Path, path: &Path) -> Result<(), BackupError> {
    let failed = |reason: &dyn ToString| BackupError::Store {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let log = path.join(LOG_FOLDER);
    fs::create_dir_all(&log).map_err(BackupError::io("making the directory", &log))?;
    let disk = Arc::new(Folder::new(log));
    let (store, _) = Store::open(disk, Options::default()).map_err(|error| failed(&error))?;
    let mut restoring = Restoring {
        path,
        store,
        kind: None,
        claimed: BTreeMap::new(),
    };
    let mut reader = BackupReader::open(from)?;
    loop {
        let offset = reader.offset();
        let Some(part) = reader.next()? else { break };
        if let Some(what) = restoring.take(part)? {
            return Err(reader.damaged(offset, what));
        }
    }
    restoring.store.close().map_err(|error| failed(&error))
}

struct Restoring<'a> {
    path: &'a Path,
    store: Store,
    /// The number of the last type.
    kind: Option<u32>,
    claimed: BTreeMap<LogId, u64>,
}

impl Restoring<'_> {
    /// Writes a part. Says what is wrong with it.
    fn take(&mut self, part: BackupPart) -> Result<Option<&'static str>, BackupError> {
        match part {
            BackupPart::Start { .. } | BackupPart::End { .. } => {}
            BackupPart::Kind { name, shards } => {
                let Some(shards) = NonZeroU32::new(shards) else {
                    return Ok(Some("a type has no shards"));
                };
                let name = name.into();
                let done = self.commit(&[Change::Kind { name, shards }])?;
                let [Done::Kind(number)] = done[..] else {
                    return Ok(Some("a type is there twice"));
                };
                self.kind = Some(number);
            }
            BackupPart::Page {
                shard,
                snapshots,
                records,
            } => {
                let Some(kind) = self.kind else {
                    return Ok(Some("a shard of no type"));
                };
                let log = LogId { kind, shard };
                let changes = self.changes(log, snapshots, records);
                let done = self.commit(&changes)?;
                let must = |change: &Change| {
                    matches!(change, Change::Claim { .. } | Change::Append { .. })
                };
                let is_refused = changes.iter().zip(&done).any(|(change, done)| {
                    must(change) && !matches!(done, Done::Written | Done::Claimed { .. })
                });
                if is_refused {
                    return Ok(Some("records do not follow each other"));
                }
            }
            BackupPart::Shard { shard, position } => {
                let kind = self.kind.unwrap_or(u32::MAX);
                let head = self.store.reader().head(LogId { kind, shard });
                if head.position != position {
                    return Ok(Some("a shard has not as many records as it says"));
                }
            }
        }
        Ok(None)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Vec<Done>, BackupError> {
        self.store
            .commit(changes)
            .map_err(|error| BackupError::Store {
                path: self.path.to_owned(),
                reason: error.to_string(),
            })
    }

    fn changes(
        &mut self,
        log: LogId,
        snapshots: Vec<LoggedSnapshot>,
        records: Vec<LoggedRecord>,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        // Epochs never decrease along a log. The next cluster begins after the last one.
        let last = records.last().map_or(1, |record| record.epoch.max(1));
        let claimed = self.claimed.entry(log).or_default();
        let epoch = last.max(*claimed);
        if epoch > *claimed {
            *claimed = epoch;
            let owner = Arc::from("");
            changes.push(Change::Claim { log, epoch, owner });
        }
        let mut stands = BTreeSet::new();
        for snapshot in snapshots {
            stands.insert(snapshot.entity.clone());
            let of = Snapshot {
                seq: snapshot.seq,
                at: snapshot.at,
                body: snapshot.body.into_vec().into(),
            };
            changes.push(Change::Copy {
                log,
                epoch,
                entity: snapshot.entity,
                snapshot: of,
            });
        }
        // Earlier ones of an entity may be whole in an earlier page.
        let mut forgotten = BTreeMap::new();
        for record in records.iter().filter(|record| record.body.is_empty()) {
            forgotten.insert(record.entity.clone(), record.seq);
        }
        let records: Vec<_> = records
            .into_iter()
            .map(|record| Record {
                position: record.position,
                epoch: record.epoch,
                entity: record.entity,
                seq: record.seq,
                at: record.at,
                body: record.body.into_vec().into(),
            })
            .collect();
        if !records.is_empty() {
            changes.push(Change::Append {
                log,
                epoch,
                records,
            });
        }
        for (entity, through) in forgotten {
            changes.push(if stands.contains(&entity) {
                Change::ForgetContained {
                    log,
                    epoch,
                    entity,
                    through,
                }
            } else {
                Change::Forget {
                    log,
                    epoch,
                    entity,
                    through,
                    snapshot: true,
                }
            });
        }
        changes
    }
}
