//! Pages of what is stored of a shard, as its owner has it: for a backup.

use std::{collections::BTreeMap, time::Duration};

use serde_bytes::ByteBuf;
use tokio::time::timeout;

use crate::{
    cluster::peers::reads::{LogPage, Rest, SnapshotPage},
    error::StoredError,
    id::EntityId,
    persistence::{
        Journal, JournalError, Log, Page, Record, Snapshot,
        backup::{LoggedRecord, LoggedSnapshot},
    },
};

/// How many bytes an answer has, about: it has at least one record or snapshot.
const BYTES_MAX: usize = 512 * 1024;

/// How many entities are looked at for one answer.
const ENTITIES_MAX: usize = 256;

/// An answer of the store.
pub(super) async fn in_time<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, JournalError>>,
) -> Result<T, StoredError> {
    match timeout(patience, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(StoredError::Unavailable {
            reason: format!("it has not answered within {patience:?}"),
        }),
    }
}

fn logged(entity: EntityId, snapshot: Snapshot) -> LoggedSnapshot {
    LoggedSnapshot {
        entity: entity.into_text(),
        seq: snapshot.seq,
        at: snapshot.at,
        body: ByteBuf::from(snapshot.body.to_vec()),
    }
}

/// The log of a shard that this node owns.
pub(super) struct OwnedLog<'a> {
    journal: &'a dyn Journal,
    log: Log,
    patience: Duration,
}

impl<'a> OwnedLog<'a> {
    pub(super) fn new(journal: &'a dyn Journal, log: Log, patience: Duration) -> Self {
        Self {
            journal,
            log,
            patience,
        }
    }

    async fn durable(&self) -> Result<u64, StoredError> {
        let durable = in_time(self.patience, self.journal.durable(&self.log)).await?;
        durable.ok_or_else(|| StoredError::Unusable {
            reason: format!(
                "{} is not kept in copies by the nodes of the cluster: use its own tools",
                self.journal.describe()
            ),
        })
    }

    /// The records after a position.
    pub(super) async fn page(&self, after: u64) -> Result<LogPage, StoredError> {
        let upto = self.durable().await?;
        let mut page = Page {
            records: 512,
            bytes: BYTES_MAX,
        };
        // Snapshots count too: with fewer records there are fewer of them.
        let (records, snapshots) = loop {
            let reading = self.journal.read_log(&self.log, after, page);
            let mut records = in_time(self.patience, reading).await?;
            records.retain(|record| record.position <= upto);
            let snapshots = self.standing(&records).await?;
            let bytes: usize = snapshots.iter().map(|it| it.body.len()).sum();
            if records.len() <= 1 || bytes <= BYTES_MAX {
                break (records, snapshots);
            }
            page.records = records.len() / 2;
        };
        // Later than all that was read.
        let durable = self.durable().await?;
        let records = records.into_iter().map(|record| LoggedRecord {
            position: record.position,
            epoch: record.epoch.0,
            entity: record.entity.into_text(),
            seq: record.seq,
            at: record.at,
            body: ByteBuf::from(record.body.to_vec()),
        });
        Ok(LogPage {
            durable,
            records: records.collect(),
            snapshots,
        })
    }

    /// The snapshots that stand for records that are forgotten. Without one its entity is erased.
    async fn standing(&self, records: &[Record]) -> Result<Vec<LoggedSnapshot>, StoredError> {
        let mut last = BTreeMap::new();
        for record in records.iter().filter(|record| record.body.is_empty()) {
            last.insert(&record.entity, record.seq);
        }
        let mut snapshots = Vec::with_capacity(last.len());
        for (entity, seq) in last {
            let loading = self.journal.load(&self.log, entity);
            let found = in_time(self.patience, loading).await?;
            if let Some(found) = found.filter(|found| found.seq >= seq) {
                snapshots.push(logged(entity.clone(), found));
            }
        }
        Ok(snapshots)
    }

    /// The snapshots of entities after one of them.
    pub(super) async fn snapshots(
        &self,
        after: Option<EntityId>,
    ) -> Result<SnapshotPage, StoredError> {
        let durable = self.durable().await?;
        let reading = self
            .journal
            .entities(&self.log, after.as_ref(), ENTITIES_MAX);
        let entities = in_time(self.patience, reading).await?;
        let is_all = entities.len() < ENTITIES_MAX;
        let mut rest = match entities.last() {
            Some(last) if !is_all => Rest::After(last.entity.clone()),
            _ => Rest::Nothing,
        };
        let (mut snapshots, mut bytes, mut before) = (Vec::new(), 0, after);
        for found in entities {
            let loading = self.journal.load(&self.log, &found.entity);
            let snapshot = in_time(self.patience, loading).await?;
            let entity = found.entity;
            if let Some(snapshot) = snapshot {
                bytes += snapshot.body.len();
                if bytes > BYTES_MAX
                    && !snapshots.is_empty()
                    && let Some(before) = before
                {
                    rest = Rest::After(before);
                    break;
                }
                snapshots.push(logged(entity.clone(), snapshot));
            }
            before = Some(entity);
        }
        Ok(SnapshotPage {
            durable,
            snapshots,
            rest,
        })
    }
}
