//! Stores that do something wrong, to see that the suite notices.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Append, AppendError, Appended, ClaimError, Journal, JournalError, Log, Memory, Page,
        Record, Snapshot, StoredEntity,
    },
};

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    TakesAnyNumberOfShards,
    SaysOtherOwnerOfTheFence,
    ClaimsForAnyOwner,
    ClaimsUnderAnyEpoch,
    ReturnsNoHead,
    ComparesEpochsSigned,
    ForgetsTheLatestEpoch,
    AppendsUnderAnyEpoch,
    AppendsAtAnyPosition,
    AppendsWithoutClaim,
    ChecksTheFirstPositionAlone,
    StopsAtARefusedPart,
    AnswersInOtherOrder,
    ChecksBeforeItWrites,
    WritesWhatWasGivenUp,
    LosesEmptyBodies,
    CutsIds,
    IgnoresCase,
    ReadsOneTooEarly,
    IgnoresRecordsOfAPage,
    IgnoresBytesOfAPage,
    SkipsLargeRecords,
    SnapshotsGoBack,
    SavesUnderAnyEpoch,
    SavesWhatIsForgotten,
    ForgetsUnderAnyEpoch,
    ForgetsRecords,
    ForgetsLaterSnapshots,
    ForgetsSnapshotsAlways,
    ListsWhatIsForgotten,
    ListsBackwards,
    ListsOneAgain,
    MixesShards,
}

/// A memory with a fault.
#[derive(Clone)]
pub(super) struct Broken {
    fault: Fault,
    memory: Memory,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    claims: BTreeMap<Log, (Epoch, String)>,
    /// Appends that were begun, and have not ended.
    unfinished: BTreeMap<u64, Vec<Append>>,
    begun: u64,
    snapshots: BTreeMap<(Log, EntityId), Snapshot>,
    known: BTreeMap<Log, Vec<StoredEntity>>,
}

impl Broken {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            fault,
            memory: Memory::new(),
            state: Arc::default(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn epoch_of(&self, log: &Log) -> Epoch {
        let state = lock(&self.state);
        state.claims.get(log).map_or(Epoch::ZERO, |claim| claim.0)
    }

    fn log(&self, log: &Log) -> Log {
        let shard = match self.fault {
            Fault::MixesShards => log.shard / 2,
            _ => log.shard,
        };
        let kind = log.kind.clone();
        Log { kind, shard }
    }

    fn entity(&self, entity: &EntityId) -> EntityId {
        let id = entity.as_str();
        match self.fault {
            Fault::CutsIds => EntityId::new(id.chars().take(255).collect::<String>()),
            Fault::IgnoresCase => EntityId::new(id.to_lowercase()),
            _ => entity.clone(),
        }
    }

    /// An epoch as this store orders it.
    fn epoch(&self, epoch: Epoch) -> Epoch {
        match self.fault {
            Fault::ComparesEpochsSigned => Epoch(epoch.0 ^ 1 << 63),
            _ => epoch,
        }
    }

    async fn head(&self, log: &Log) -> u64 {
        let page = Page {
            records: usize::MAX,
            bytes: usize::MAX,
        };
        let read = self.memory.read_log(log, 0, page).await;
        read.expect("memory never fails").len() as u64
    }

    /// Writes parts one by one, each as this store checks it.
    async fn write(&self, batch: Vec<Append>) -> Vec<Appended> {
        let mut answers = Vec::new();
        for mut part in batch {
            let is_refused = answers.last() == Some(&Appended::Refused);
            if is_refused && self.is(Fault::StopsAtARefusedPart) {
                answers.push(Appended::Refused);
                continue;
            }
            if self.is(Fault::AppendsWithoutClaim) && self.epoch_of(&part.log) == Epoch::ZERO {
                let _ = self.memory.claim(&part.log, part.epoch, "nobody").await;
            }
            if self.is(Fault::AppendsUnderAnyEpoch) {
                part.epoch = self.epoch_of(&part.log);
            }
            let renumbers_from = match (self.fault, part.records.first()) {
                (Fault::AppendsAtAnyPosition, _) => Some(self.head(&part.log).await + 1),
                (Fault::ChecksTheFirstPositionAlone, Some(first)) => Some(first.position),
                _ => None,
            };
            if let Some(first) = renumbers_from {
                for (record, position) in part.records.iter_mut().zip(first..) {
                    record.position = position;
                }
            }
            if self.is(Fault::LosesEmptyBodies) {
                for record in &mut part.records {
                    if record.body.is_empty() {
                        record.body = Bytes::from_static(b"null");
                    }
                }
            }
            let written = self.memory.append(vec![part]).await;
            answers.extend(written.expect("memory never fails"));
        }
        if self.is(Fault::AnswersInOtherOrder) {
            answers.reverse();
        }
        answers
    }

    /// What was given up in the middle is written now.
    async fn write_unfinished(&self) {
        let unfinished = std::mem::take(&mut lock(&self.state).unfinished);
        for batch in unfinished.into_values() {
            let _ = self.memory.append(batch).await;
        }
    }

    async fn append_late(&self, batch: Vec<Append>) -> Vec<Appended> {
        let number = {
            let mut state = lock(&self.state);
            state.begun += 1;
            let number = state.begun;
            state.unfinished.insert(number, batch.clone());
            number
        };
        tokio::task::yield_now().await;
        lock(&self.state).unfinished.remove(&number);
        self.write(batch).await
    }

    /// Looks at epoch and head first, and writes later, whatever happened in between.
    async fn append_unguarded(&self, batch: Vec<Append>) -> Vec<Appended> {
        let mut answers = Vec::new();
        for mut part in batch {
            let follows = part.records[0].position == self.head(&part.log).await + 1;
            if self.epoch_of(&part.log) != part.epoch || !follows {
                answers.push(Appended::Refused);
                continue;
            }
            tokio::task::yield_now().await;
            part.epoch = self.epoch_of(&part.log);
            let head = self.head(&part.log).await;
            for (record, position) in part.records.iter_mut().zip(head + 1..) {
                record.position = position;
            }
            let written = self.memory.append(vec![part]).await;
            answers.extend(written.expect("memory never fails"));
        }
        answers
    }

    fn page(&self, mut page: Page) -> Page {
        match self.fault {
            Fault::IgnoresRecordsOfAPage => page.records = 512,
            Fault::IgnoresBytesOfAPage => page.bytes = 1 << 20,
            _ => {}
        }
        page
    }

    fn found(&self, mut records: Vec<Record>, page: Page) -> Vec<Record> {
        match self.fault {
            Fault::ForgetsRecords => records.retain(|record| !record.body.is_empty()),
            Fault::SkipsLargeRecords => {
                records.retain(|record| record.body.len() <= page.bytes);
            }
            Fault::ComparesEpochsSigned => {
                for record in &mut records {
                    record.epoch = self.epoch(record.epoch);
                }
            }
            _ => {}
        }
        records
    }
}

impl Journal for Broken {
    fn describe(&self) -> String {
        format!("memory that {:?}", self.fault)
    }

    fn open<'a>(
        &'a self,
        kinds: &'a [(Arc<str>, NonZeroU32)],
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            if self.is(Fault::TakesAnyNumberOfShards) {
                return Ok(());
            }
            self.memory.open(kinds).await
        })
    }

    fn latest_epoch(&self) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        Box::pin(async move {
            let latest = self.memory.latest_epoch().await?;
            Ok(if self.is(Fault::ForgetsTheLatestEpoch) {
                Epoch::ZERO
            } else {
                latest
            })
        })
    }

    fn claim<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<u64, ClaimError>> {
        Box::pin(async move {
            let log = &self.log(log);
            let by = match self.fault {
                Fault::ClaimsForAnyOwner => "somebody",
                _ => owner,
            };
            let under = match self.fault {
                // One that the memory takes for the next.
                Fault::ClaimsUnderAnyEpoch => Epoch(self.epoch_of(log).0.max(epoch.0)),
                _ => self.epoch(epoch),
            };
            let claimed = self.memory.claim(log, under, by).await;
            if claimed.is_ok() {
                lock(&self.state)
                    .claims
                    .insert(log.clone(), (under, by.to_owned()));
            }
            match claimed {
                Ok(_) if self.is(Fault::ReturnsNoHead) => Ok(0),
                Err(ClaimError::Fenced { .. }) if self.is(Fault::ClaimsUnderAnyEpoch) => {
                    Ok(self.head(log).await)
                }
                Err(ClaimError::Fenced { epoch, owner }) => Err(ClaimError::Fenced {
                    epoch: self.epoch(epoch),
                    owner: match self.fault {
                        Fault::SaysOtherOwnerOfTheFence => by.to_owned(),
                        _ => owner,
                    },
                }),
                claimed => claimed,
            }
        })
    }

    fn append(&self, mut batch: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, AppendError>> {
        for part in &mut batch {
            part.log = self.log(&part.log);
            part.epoch = self.epoch(part.epoch);
            for record in &mut part.records {
                record.entity = self.entity(&record.entity);
                record.epoch = self.epoch(record.epoch);
            }
        }
        Box::pin(async move {
            Ok(match self.fault {
                Fault::WritesWhatWasGivenUp => self.append_late(batch).await,
                Fault::ChecksBeforeItWrites => self.append_unguarded(batch).await,
                _ => self.write(batch).await,
            })
        })
    }

    fn read_entity<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let (log, entity) = (&self.log(log), &self.entity(entity));
            let after = after.saturating_sub(self.is(Fault::ReadsOneTooEarly).into());
            let read = self.memory.read_entity(log, entity, after, self.page(page));
            Ok(self.found(read.await?, page))
        })
    }

    fn read_log<'a>(
        &'a self,
        log: &'a Log,
        after: u64,
        page: Page,
    ) -> BoxFuture<'a, Result<Vec<Record>, JournalError>> {
        Box::pin(async move {
            let log = &self.log(log);
            let after = after.saturating_sub(self.is(Fault::ReadsOneTooEarly).into());
            let read = self.memory.read_log(log, after, self.page(page)).await?;
            if self.is(Fault::WritesWhatWasGivenUp) {
                self.write_unfinished().await;
            }
            Ok(self.found(read, page))
        })
    }

    fn load<'a>(
        &'a self,
        log: &'a Log,
        entity: &'a EntityId,
    ) -> BoxFuture<'a, Result<Option<Snapshot>, JournalError>> {
        Box::pin(async move {
            let (log, entity) = (self.log(log), self.entity(entity));
            let key = (log, entity);
            let own = lock(&self.state).snapshots.get(&key).cloned();
            match (self.fault, own) {
                (Fault::SnapshotsGoBack, own) => Ok(own),
                (Fault::SavesWhatIsForgotten, Some(own)) => Ok(Some(own)),
                _ => self.memory.load(&key.0, &key.1).await,
            }
        })
    }

    fn save<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        snapshot: Snapshot,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let (log, entity) = (self.log(log), self.entity(entity));
            let stands = self.epoch_of(&log);
            let epoch = match self.fault {
                Fault::SavesUnderAnyEpoch => stands,
                _ => self.epoch(epoch),
            };
            if self.is(Fault::SnapshotsGoBack) && epoch == stands {
                let mut state = lock(&self.state);
                state.snapshots.insert((log, entity), snapshot);
                return Ok(());
            }
            self.memory
                .save(&log, epoch, &entity, snapshot.clone())
                .await?;
            let saved = self.memory.load(&log, &entity).await?;
            if self.is(Fault::SavesWhatIsForgotten) && saved.is_none() && epoch == stands {
                lock(&self.state).snapshots.insert((log, entity), snapshot);
            }
            Ok(())
        })
    }

    fn forget<'a>(
        &'a self,
        log: &'a Log,
        epoch: Epoch,
        entity: &'a EntityId,
        through: u64,
        snapshot: bool,
    ) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            let (log, entity) = (&self.log(log), &self.entity(entity));
            let before = self.memory.entities(log, None, usize::MAX).await?;
            lock(&self.state).known.entry(log.clone()).or_insert(before);
            let epoch = match self.fault {
                Fault::ForgetsUnderAnyEpoch => self.epoch_of(log),
                _ => self.epoch(epoch),
            };
            if self.is(Fault::ForgetsLaterSnapshots) && snapshot {
                let all = self.memory.forget(log, epoch, entity, through, false).await;
                lock(&self.state).snapshots.clear();
                let _ = self.memory.forget(log, epoch, entity, u64::MAX, true).await;
                return all;
            }
            let snapshot = snapshot || self.is(Fault::ForgetsSnapshotsAlways);
            self.memory
                .forget(log, epoch, entity, through, snapshot)
                .await
        })
    }

    fn entities<'a>(
        &'a self,
        log: &'a Log,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, JournalError>> {
        Box::pin(async move {
            let log = &self.log(log);
            let known = lock(&self.state).known.get(log).cloned();
            if self.is(Fault::ListsWhatIsForgotten)
                && let Some(known) = known
            {
                let later = known
                    .into_iter()
                    .filter(|known| after.is_none_or(|after| known.entity > *after));
                return Ok(later.take(limit).collect());
            }
            let mut found = self.memory.entities(log, after, limit).await?;
            match (self.fault, after) {
                (Fault::ListsBackwards, _) => found.reverse(),
                (Fault::ListsOneAgain, Some(after)) => {
                    let mut all = self.memory.entities(log, None, usize::MAX).await?;
                    all.retain(|found| found.entity >= *after);
                    all.truncate(limit);
                    return Ok(all);
                }
                _ => {}
            }
            Ok(found)
        })
    }
}
