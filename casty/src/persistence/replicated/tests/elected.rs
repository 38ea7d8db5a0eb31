//! A connection of the suite. In a cluster the map says where a log is written and read, so a
//! connection asks a map, and uses the process that the map names.

use std::{num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;

use super::world::World;
use crate::{
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Page, Record,
        Snapshot, StoredEntity, replicated::Replicated,
    },
};

/// A node whose claims are preceded by a decision of the map that it owns the shard.
pub(super) struct Elected {
    world: Arc<World>,
    store: Arc<Replicated>,
    node: usize,
}

impl Elected {
    pub(super) fn new(world: Arc<World>, node: usize) -> Self {
        let store = world.process(node).expect("it runs");
        Self { world, store, node }
    }
}

impl Elected {
    /// The process that owns a shard, or that of this connection.
    fn owner(&self, log: &Log) -> Arc<Replicated> {
        let home = lock(&self.world.state).homes.get(log).cloned();
        let owner = home.and_then(|home| self.world.process(home.owner?.0));
        owner.unwrap_or_else(|| self.store.clone())
    }

    /// The same, if it is the owner under this epoch.
    fn owner_under(&self, log: &Log, epoch: Epoch) -> Arc<Replicated> {
        let home = lock(&self.world.state).homes.get(log).cloned();
        if home.is_some_and(|home| home.epoch == epoch) {
            self.owner(log)
        } else {
            self.store.clone()
        }
    }
}

impl Journal for Elected {
    fn describe(&self) -> String {
        self.store.describe()
    }

    fn lanes(&self) -> usize {
        self.store.lanes()
    }

    fn lane_records(&self) -> usize {
        self.store.lane_records()
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            self.store.open(kinds).await?;
            self.world.open(kinds).await;
            Ok(())
        })
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.store.latest_epoch()
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        self.world.elect(log, epoch, self.node, owner);
        let home = lock(&self.world.state).homes.get(log).cloned();
        let (name, named) = home.map_or_else(Default::default, |home| (home.name, home.epoch));
        let store = self.owner_under(log, epoch);
        Box::pin(async move {
            // A process has one name in a cluster.
            if named == epoch && name != owner {
                return Err(ClaimError::Fenced { epoch, owner: name });
            }
            let claimed = store.claim(log, epoch, owner).await;
            claimed.map_err(|error| match error {
                ClaimError::Fenced { epoch, .. } => ClaimError::Fenced { epoch, owner: name },
                other @ ClaimError::Journal(_) => other,
            })
        })
    }

    /// What is not known is found out as the committer does.
    fn append(&self, batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for part in batch {
                let (log, epoch) = (part.log.clone(), part.epoch);
                let last = part.records.last().map_or(0, |record| record.position);
                let store = self.owner_under(&log, epoch);
                answers.push(match store.append(vec![part]).await {
                    Ok(mut answer) => answer.remove(0),
                    Err(AppendError::Unknown { reason }) => {
                        match store.claim(&log, epoch, "").await {
                            Ok(head) if head >= last => Appended::Written,
                            Ok(_) | Err(ClaimError::Fenced { .. }) => Appended::Refused,
                            Err(_) => return Err(AppendError::Unknown { reason }),
                        }
                    }
                    Err(error) => return Err(error),
                });
            }
            Ok(answers)
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        let store = self.owner(log);
        Box::pin(async move { store.read_entity(log, entity, after, page).await })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        let store = self.owner(log);
        Box::pin(async move { store.read_log(log, after, page).await })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        let store = self.owner(log);
        Box::pin(async move { store.load(log, entity).await })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let store = self.owner_under(log, epoch);
        Box::pin(async move { store.save(log, epoch, entity, snapshot).await })
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        let store = self.owner_under(log, epoch);
        Box::pin(async move { store.forget(log, epoch, entity, through, snapshot).await })
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        let store = self.owner(log);
        Box::pin(async move { store.entities(log, after, limit).await })
    }
}
