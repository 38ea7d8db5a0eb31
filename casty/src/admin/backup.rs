//! Backups of what the nodes of a cluster have in their directories, and the way back.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{Admin, AdminError};
pub use crate::persistence::backup::{BackupError, BackupSummary};
use crate::{
    cluster::{
        peers::reads::{LogPage, Read, ReadAnswer, Rest, SnapshotPage},
        reading::{nodes::Nodes, reader},
    },
    error::StoredError,
    id::ShardId,
    infra::wall_clock,
    persistence::{
        backup::{self, BackupPart, BackupWriter},
        local::blocking,
    },
};

/// How many pages of a shard are read beyond where it was, so that no snapshot contains more than
/// the records. A shard that is written to faster than it is read ends all the same.
const CHASED_MAX: u32 = 64;

/// How far a backup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupProgress {
    /// The wire name of the present type.
    pub kind: String,
    /// How many shards of all types are done.
    pub shards_done: u64,
    /// How many there are.
    pub shards: u64,
    /// How many bytes are written.
    pub bytes: u64,
}

/// What has been written.
struct Written {
    out: BackupWriter,
    shards: u64,
    records: u64,
    snapshots: u64,
}

impl Written {
    fn page(&mut self, shard: ShardId, page: LogPage) -> Result<(), AdminError> {
        self.records += page.records.len() as u64;
        self.snapshots += page.snapshots.len() as u64;
        let part = BackupPart::Page {
            shard: shard.0,
            snapshots: page.snapshots,
            records: page.records,
        };
        Ok(self.out.write(&part)?)
    }
}

impl Admin {
    /// Writes what is stored of entity types into a new directory: all that is durable, shard by
    /// shard, each up to one position of its log that is no earlier than where it was when the
    /// backup began. `kinds` are wire names; none means all types that are kept in copies.
    ///
    /// All that was acknowledged before the call is in the backup. What was erased before is not;
    /// an entity that is erased meanwhile may be in it. The nodes go on serving: pages are read one
    /// after the other, with pauses as long as the reads.
    ///
    /// [`restore`] makes the directory of a node from the backup. `progress` is called after each
    /// shard.
    ///
    /// # Errors
    /// [`AdminError::Backup`] if the directory is there and not empty, or cannot be written;
    /// [`AdminError::Stored`] if a type is not known or is kept in another store, or if a shard has
    /// no owner that answers; those of [`members`](Self::members). What was begun is recognised as
    /// unfinished.
    ///
    /// # Cancel safety
    /// A backup whose future is dropped is unfinished, and is recognised as such.
    pub async fn backup(
        &self,
        to: impl AsRef<Path>,
        kinds: &[String],
        mut progress: impl FnMut(&BackupProgress),
    ) -> Result<BackupSummary, AdminError> {
        let nodes = self.nodes().await?;
        let view = self.look(self.timeout).await?;
        let (map, cluster) = (view.map(), self.peers.setup.cluster.clone());
        let mut chosen: Vec<String> = map.copies.keys().cloned().collect();
        if let Some(unknown) = kinds.iter().find(|kind| !map.kinds.contains_key(*kind)) {
            return Err(AdminError::Stored(StoredError::UnknownEntity {
                name: unknown.clone(),
                known: map.kinds.keys().cloned().collect(),
            }));
        }
        if let Some(elsewhere) = kinds.iter().find(|kind| !chosen.contains(kind)) {
            return Err(AdminError::Stored(StoredError::NotInCopies {
                name: elsewhere.clone(),
            }));
        }
        chosen.retain(|kind| kinds.is_empty() || kinds.contains(kind));
        if chosen.is_empty() {
            let reason = "the cluster keeps no entity type in copies".to_owned();
            return Err(AdminError::Stored(StoredError::Unusable { reason }));
        }
        let counts = chosen.iter().map(|kind| map.kinds[kind].len() as u64);
        let all: u64 = counts.sum();
        let at = wall_clock::millis();
        let mut written = Written {
            out: BackupWriter::create(to.as_ref())?,
            shards: 0,
            records: 0,
            snapshots: 0,
        };
        let start = BackupPart::Start {
            cluster: cluster.clone(),
            at,
        };
        written.out.write(&start)?;
        for kind in &chosen {
            let shards = u32::try_from(map.kinds[kind].len()).unwrap_or(u32::MAX);
            let name = kind.clone();
            written.out.write(&BackupPart::Kind { name, shards })?;
            for shard in (0..shards).map(ShardId) {
                back_up(&nodes, kind, shard, &mut written).await?;
                progress(&BackupProgress {
                    kind: kind.clone(),
                    shards_done: written.shards,
                    shards: all,
                    bytes: written.out.bytes(),
                });
            }
        }
        let Written {
            mut out,
            shards,
            records,
            snapshots,
        } = written;
        out.write(&BackupPart::End {
            at: wall_clock::millis(),
            shards,
            records,
            snapshots,
        })?;
        let finished = blocking(move || out.finish()).await;
        let bytes = finished.map_err(StoredError::from)??;
        Ok(BackupSummary {
            cluster,
            at,
            kinds: chosen,
            shards,
            records,
            snapshots,
            bytes,
        })
    }
}

/// Reads a page, and rests for as long as that took.
async fn paced(
    nodes: &dyn Nodes,
    kind: &str,
    shard: ShardId,
    read: impl Fn() -> Read,
) -> Result<ReadAnswer, StoredError> {
    const REST_MAX: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    let answer = reader::of_owner(nodes, kind, shard, read).await?;
    sleep(begun.elapsed().min(REST_MAX)).await;
    Ok(answer)
}

fn other_answer() -> StoredError {
    StoredError::Unreachable {
        reason: "another answer".to_owned(),
    }
}

/// First the snapshots, so that the records that they contain are read afterwards. Where records
/// are forgotten meanwhile, what stands for them comes with their page, and it may contain later
/// ones: these are read, too.
async fn back_up(
    nodes: &dyn Nodes,
    kind: &str,
    shard: ShardId,
    written: &mut Written,
) -> Result<(), AdminError> {
    let (mut after, mut begun) = (None, None);
    loop {
        let read = || Read::Snapshots {
            kind: kind.to_owned(),
            shard,
            after: after.clone(),
        };
        let ReadAnswer::Snapshots(page) = paced(nodes, kind, shard, read).await? else {
            return Err(other_answer().into());
        };
        let SnapshotPage {
            durable,
            snapshots,
            rest,
        } = page;
        begun = begun.max(Some(durable));
        written.page(
            shard,
            LogPage {
                durable,
                records: Vec::new(),
                snapshots,
            },
        )?;
        match rest {
            Rest::After(last) => after = Some(last),
            Rest::Nothing | Rest::Elsewhere => break,
        }
    }
    let (mut position, mut needed) = (0, None);
    let mut chased = 0;
    loop {
        let read = || Read::Log {
            kind: kind.to_owned(),
            shard,
            after: position,
        };
        let ReadAnswer::Log(page) = paced(nodes, kind, shard, read).await? else {
            return Err(other_answer().into());
        };
        // What all snapshots so far contain is durable by now.
        let first = *needed.get_or_insert(page.durable.max(begun.unwrap_or(0)));
        if !page.snapshots.is_empty() && chased < CHASED_MAX {
            needed = Some(first.max(page.durable));
        }
        let end = page.records.last().map(|record| record.position);
        position = end.unwrap_or(position);
        let is_empty = end.is_none();
        if !is_empty {
            written.page(shard, page)?;
        }
        if needed.is_some_and(|needed| position >= needed) {
            break;
        }
        if is_empty {
            let reason = format!(
                "the log of shard {} of `{kind}` ends at {position}",
                shard.0
            );
            return Err(StoredError::Unreachable { reason }.into());
        }
        chased += u32::from(position >= first);
    }
    let shard = shard.0;
    written.out.write(&BackupPart::Shard { shard, position })?;
    written.shards += 1;
    Ok(())
}

/// Makes the directory of a node, for [`SystemBuilder::data_dir`], from a backup that
/// [`Admin::backup`] has made in the directory `from`. The directory `to` must not be there, or be
/// empty. It is a new store, with an identity of its own, and knows of no cluster.
///
/// All of the backup is checked before. Start one node alone with the directory: it founds a
/// cluster in which each entity is what it was, and takes all shards of which it has records.
/// Others may join it once its log says that all that is stored has owners: a shard that gets its
/// first owner later might get one without its records.
///
/// # Errors
/// What is wrong with the backup or the directories. Then there is no directory `to`.
///
/// [`SystemBuilder::data_dir`]: crate::SystemBuilder::data_dir
pub fn restore(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<BackupSummary, BackupError> {
    backup::restore(from.as_ref(), to.as_ref())
}

impl From<BackupError> for AdminError {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}
