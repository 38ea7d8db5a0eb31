//! What a node answers to a reader.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde_bytes::ByteBuf;
use tokio::time::{Instant, timeout};

use super::{
    events::{HostedType, RECORD_BYTES_MAX},
    glance,
    logs::{OwnedLog, in_time},
    shard::{self, Shard},
};
use crate::{
    actor::runtime::Runtime,
    cluster::{
        node::Node,
        peers::reads::{
            ActiveLook, EntityLook, Filter, GivenUpMessage, OutboxPage, PastBody, PastRecord,
            PendingReminder, Read, ReadAnswer, RecordOrder, RecorderLook, ReminderPage, Rest,
            ShardEntities, WaitingReceiver, Which,
        },
        region::AnyRegion,
    },
    error::StoredError,
    id::{EntityId, ShardId},
    persistence::{Journal, Log, Page, Record, StoredEntity, store::Store},
    protocol::{map::ClusterMap, outbox::Receiver, reminders::ReminderKey},
    recorder::rings::TURNS_MAX,
};

/// The most entities, and records, of one answer.
pub(crate) const LIMIT_MAX: usize = 512;

/// How many bytes of ids, or of records, an answer has, about. It has at least one of them.
const BYTES_MAX: usize = 256 * 1024;

/// How long an entity may take to end and be erased: less, so that a node that asks learns the
/// reason.
const ERASED_WITHIN: Duration = Duration::from_secs(10);

/// How long one read of the store may take, and after how long an answer says what it has.
const STORE_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_AFTER: Duration = Duration::from_secs(1);

/// A node, for readers.
pub(crate) struct Answerer<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) regions: &'a [Arc<dyn AnyRegion>],
    /// The types that this node hosts.
    pub(crate) hosts: &'a (dyn Fn(&str) -> bool + Sync),
    /// `None` in a system without a network: it has all shards.
    pub(crate) map: Option<Arc<ClusterMap>>,
    /// `None` in a system without a network.
    pub(crate) node: Option<&'a Node>,
}

impl Answerer<'_> {
    pub(crate) async fn answer(&self, read: Read) -> Result<ReadAnswer, StoredError> {
        match read {
            Read::Entities {
                kind,
                filter,
                shards,
                limit,
            } => self.entities(&kind, &filter, shards, limit).await,
            Read::History {
                kind,
                id,
                after,
                limit,
            } => self.history(&kind, &id, after, limit).await,
            Read::Look { kind, id } => self.look(&kind, &id),
            Read::Record { kind, id, order } => self.record(&kind, &id, order).await,
            Read::Erase { kind, id } => self.erase(&kind, &id).await,
            Read::Overview => {
                let hosted = self.regions.iter();
                let hosted = hosted.filter(|region| (self.hosts)(region.name()));
                let overview = glance::overview(self.runtime, self.node, hosted).await;
                Ok(ReadAnswer::Overview(Box::new(overview)))
            }
            Read::Outbox => Ok(ReadAnswer::Outbox(self.outbox())),
            Read::GiveUpSends { kind, id } => {
                Ok(ReadAnswer::GivenUp(self.give_up_sends(&kind, id)))
            }
            Read::GiveUpReminder { kind, id, name } => {
                let given_up = self.give_up_reminder(&kind, id, &name)?;
                Ok(ReadAnswer::GivenUp(given_up))
            }
            Read::Reminders { kind, limit } => {
                let page = self.reminders(kind.as_deref(), limit)?;
                Ok(ReadAnswer::Reminders(page))
            }
            Read::Log { kind, shard, after } => match self.owned(&kind, shard)? {
                Some(owned) => owned.page(after).await.map(ReadAnswer::Log),
                None => Ok(ReadAnswer::Elsewhere),
            },
            Read::Snapshots { kind, shard, after } => match self.owned(&kind, shard)? {
                Some(owned) => owned.snapshots(after).await.map(ReadAnswer::Snapshots),
                None => Ok(ReadAnswer::Elsewhere),
            },
            read => self.follow(read).await,
        }
    }

    fn look(&self, kind: &str, id: &EntityId) -> Result<ReadAnswer, StoredError> {
        let region = self.region(kind)?;
        id.check()?;
        let Some(looked) = region.look(id) else {
            return Ok(ReadAnswer::Elsewhere);
        };
        let failure = self.runtime.failures.last(kind, id.as_str());
        let moves = region.moves_of(region.shard(id)).into_iter();
        Ok(ReadAnswer::Look(Box::new(EntityLook {
            shard: region.shard(id),
            owned_for: looked.owned_for,
            active: looked.cell.map(ActiveLook::from),
            failure: failure.map(|it| (it.reason, it.ago, it.count)),
            moves: moves
                .map(|(ago, moved)| (ago, moved.from, moved.to, moved.by_failover))
                .collect(),
        })))
    }

    async fn record(
        &self,
        kind: &str,
        id: &EntityId,
        order: RecordOrder,
    ) -> Result<ReadAnswer, StoredError> {
        let region = self.region(kind)?;
        id.check()?;
        if region.look(id).is_none() {
            return Ok(ReadAnswer::Elsewhere);
        }
        let (recorder, node) = (&self.runtime.recorder, &self.runtime.node);
        let (mut recording, mut snapshot) = (None, None);
        match order {
            RecordOrder::Begin { turns } => {
                let turns = turns.map(|turns| turns.clamp(1, TURNS_MAX));
                if recorder.begin(kind, id, turns) {
                    self.runtime.observers.observe_always();
                }
            }
            RecordOrder::End => {
                if recorder.end(kind, id) {
                    self.runtime.observers.observe_no_more();
                }
            }
            RecordOrder::Tell => {
                let why = "it was asked for";
                let found = recorder.recording(node, kind, id.as_str(), why);
                recording = found.map(|found| found.to_bytes());
            }
            RecordOrder::TellFailed => {
                let found = recorder.last_failed(kind, id.as_str());
                recording = found.map(|found| found.to_bytes());
            }
            RecordOrder::TellSnapshot => {
                let (region, store) = self.store_of(kind)?;
                let log = log(kind, region.shard(id));
                let loading = store.journal().load(&log, id);
                let loaded = in_time(self.patience(), loading).await?;
                snapshot = loaded.map(|it| (it.seq, ByteBuf::from(it.body.to_vec())));
            }
        }
        let ring = recorder.report(kind, id);
        Ok(ReadAnswer::Record(Box::new(RecorderLook {
            ring: ring.map(|it| (it.turns as u64, it.turns_max as u64, it.is_asked)),
            recording: recording.map(ByteBuf::from),
            snapshot,
        })))
    }

    fn outbox(&self) -> OutboxPage {
        let mut receivers = Vec::new();
        for region in self.regions {
            for (shard, log) in region.logs_in_use() {
                let waiting = log.outbox().report().into_iter();
                receivers.extend(waiting.map(|it| WaitingReceiver {
                    kind: region.name().to_owned(),
                    shard,
                    to: (it.to.kind.to_string(), it.to.entity),
                    sends: it.sends as u64,
                    failures: it.failures,
                    reason: it.reason,
                }));
            }
        }
        let sends = receivers.iter().map(|it| it.sends).sum();
        receivers.sort_by_key(|it| std::cmp::Reverse((it.failures > 0, it.sends)));
        receivers.truncate(LIMIT_MAX);
        OutboxPage { receivers, sends }
    }

    fn give_up_sends(&self, kind: &str, id: EntityId) -> Vec<GivenUpMessage> {
        let to = Receiver {
            kind: kind.into(),
            entity: id,
        };
        let mut given_up = Vec::new();
        for region in self.regions {
            for (_, log) in region.logs_in_use() {
                let letter = log.outbox().give_up_send(&to);
                given_up.extend(letter.map(|letter| GivenUpMessage {
                    from: (region.name().to_owned(), letter.from.clone()),
                    message: letter.send.message.clone(),
                }));
            }
        }
        given_up
    }

    fn give_up_reminder(
        &self,
        kind: &str,
        id: EntityId,
        name: &str,
    ) -> Result<Vec<GivenUpMessage>, StoredError> {
        let (region, _) = self.store_of(kind)?;
        let of_it = region.shard(&id);
        let key = ReminderKey {
            entity: id,
            name: name.into(),
        };
        let mut given_up = Vec::new();
        for (_, log) in region.logs_in_use().into_iter().filter(|it| it.0 == of_it) {
            let now = log.store().clock().millis();
            let reminder = log.outbox().give_up_reminder(&key, now);
            given_up.extend(reminder.map(|reminder| GivenUpMessage {
                from: (kind.to_owned(), key.entity.clone()),
                message: reminder.message.clone(),
            }));
        }
        Ok(given_up)
    }

    fn reminders(&self, kind: Option<&str>, limit: usize) -> Result<ReminderPage, StoredError> {
        let limit = limit.min(LIMIT_MAX);
        if let Some(kind) = kind {
            self.store_of(kind)?;
        }
        let mut page = ReminderPage::default();
        let is_it = |region: &&Arc<dyn AnyRegion>| kind.is_none_or(|kind| region.name() == kind);
        for region in self.regions.iter().filter(is_it) {
            for (shard, log) in region.logs_in_use() {
                let (pending, waiting) = log.outbox().reminders(limit);
                page.pending += pending as u64;
                let waiting = waiting.into_iter().map(|it| PendingReminder {
                    kind: region.name().to_owned(),
                    shard,
                    entity: it.key.entity,
                    name: it.key.name.to_string(),
                    message: it.payload.message.clone(),
                    due: it.due,
                    repeats: it.payload.timetable.repeats(),
                    failures: it.failures,
                    reason: it.reason,
                });
                page.reminders.extend(waiting);
            }
        }
        page.reminders.sort_by_key(|it| (it.failures == 0, it.due));
        page.reminders.truncate(limit);
        Ok(page)
    }

    fn patience(&self) -> Duration {
        self.runtime.patience().min(STORE_WITHIN)
    }

    fn region(&self, kind: &str) -> Result<&dyn AnyRegion, StoredError> {
        let is_it = |region: &&Arc<dyn AnyRegion>| region.name() == kind && (self.hosts)(kind);
        let found = self.regions.iter().find(is_it);
        let region = found.ok_or_else(|| StoredError::UnknownEntity {
            name: kind.to_owned(),
            known: Vec::new(),
        })?;
        Ok(&**region)
    }

    /// The store of a type. `None` if the type is not stored.
    fn store(&self, region: &dyn AnyRegion) -> Option<&Store> {
        let store = self.runtime.store()?;
        region.is_stored().then_some(&**store)
    }

    /// The same, of a type that has to be stored.
    fn store_of(&self, kind: &str) -> Result<(&dyn AnyRegion, &Store), StoredError> {
        let region = self.region(kind)?;
        let store = self.store(region).ok_or_else(|| StoredError::NotStored {
            name: kind.to_owned(),
        })?;
        Ok((region, store))
    }

    /// A shard that this node owns. One without an owner gets one.
    fn owned(&self, kind: &str, shard: ShardId) -> Result<Option<OwnedLog<'_>>, StoredError> {
        let (region, store) = self.store_of(kind)?;
        if region.owns(shard) {
            let (journal, log) = (store.journal(), log(kind, shard));
            return Ok(Some(OwnedLog::new(journal, log, self.patience())));
        }
        self.find_owner(kind, shard)?;
        Ok(None)
    }

    /// For readers that follow shards.
    async fn follow(&self, read: Read) -> Result<ReadAnswer, StoredError> {
        let (Read::Events { kind, .. } | Read::Heads { kind, .. } | Read::Projected { kind, .. }) =
            &read
        else {
            return Ok(ReadAnswer::Elsewhere);
        };
        let (region, store) = self.store_of(kind)?;
        let hosted = HostedType {
            region,
            store,
            patience: self.patience(),
            // The type is known, so this does not fail.
            find_owner: &|shard| drop(self.find_owner(region.name(), shard)),
        };
        match read {
            Read::Events { shards, .. } => Ok(hosted.events(shards).await),
            Read::Heads { shards, .. } => hosted.heads(shards).await,
            Read::Projected {
                projection, shards, ..
            } => Ok(hosted.projected(&projection, shards).await),
            _ => Ok(ReadAnswer::Elsewhere),
        }
    }

    /// A shard without an owner gets one.
    fn find_owner(&self, kind: &str, shard: ShardId) -> Result<(), StoredError> {
        let owner = self.map.as_ref().and_then(|map| map.owner(kind, shard));
        if owner.is_none() {
            self.region(kind)?.find_owner(shard);
        }
        Ok(())
    }

    async fn entities(
        &self,
        kind: &str,
        filter: &Filter,
        shards: Vec<(ShardId, Option<EntityId>)>,
        limit: u32,
    ) -> Result<ReadAnswer, StoredError> {
        let region = self.region(kind)?;
        let store = self.store(region);
        if store.is_none() && filter.which == Which::Stored {
            let name = kind.to_owned();
            return Err(StoredError::NotStored { name });
        }
        let mut room = usize::try_from(limit).map_or(LIMIT_MAX, |limit| limit.clamp(1, LIMIT_MAX));
        let (mut answer, mut bytes) = (Vec::new(), 0);
        let begun = Instant::now();
        for (shard, after) in shards {
            let is_late = !answer.is_empty() && begun.elapsed() >= ANSWER_AFTER;
            if room == 0 || bytes >= BYTES_MAX || is_late {
                break;
            }
            let looked_at = LookedAt {
                region,
                journal: store.map(Store::journal),
                log: log(kind, shard),
                shard,
                patience: self.patience(),
            };
            let is_here = || self.has(region, kind, shard);
            // Ids are long enough for some to be over the bound.
            let limit = room.min((BYTES_MAX - bytes) / 128 + 1);
            let (mut entities, mut rest) = (Vec::new(), Rest::Elsewhere);
            if is_here() {
                (entities, rest) = shard::page(&looked_at, filter, after, limit).await?;
                // It may have left while the store was read.
                if !is_here() {
                    (entities, rest) = (Vec::new(), Rest::Elsewhere);
                }
            }
            room -= entities.len();
            bytes += entities
                .iter()
                .map(|it| it.id.as_str().len() + 32)
                .sum::<usize>();
            answer.push(ShardEntities {
                shard,
                entities,
                rest,
            });
        }
        Ok(ReadAnswer::Entities(answer))
    }

    /// Whether this node answers for a shard: it is the owner, or there is none.
    fn has(&self, region: &dyn AnyRegion, kind: &str, shard: ShardId) -> bool {
        region.owns(shard)
            || self
                .map
                .as_ref()
                .is_some_and(|map| map.owner(kind, shard).is_none())
    }

    async fn history(
        &self,
        kind: &str,
        id: &EntityId,
        after: u64,
        limit: u32,
    ) -> Result<ReadAnswer, StoredError> {
        let (region, store) = self.store_of(kind)?;
        id.check()?;
        let log = log(kind, region.shard(id));
        let page = Page {
            records: usize::try_from(limit).map_or(LIMIT_MAX, |limit| limit.clamp(1, LIMIT_MAX)),
            bytes: BYTES_MAX,
        };
        let reading = store.journal().read_entity(&log, id, after, page);
        let records = in_time(self.patience(), reading).await?;
        let mut bytes = 0;
        let fits = |record: &PastRecord| {
            let before = bytes;
            if let PastBody::Whole(body) = &record.body {
                bytes += body.len();
            }
            before == 0 || bytes <= RECORD_BYTES_MAX
        };
        let records = records.into_iter().map(past).take_while(fits);
        Ok(ReadAnswer::History(records.collect()))
    }

    async fn erase(&self, kind: &str, id: &EntityId) -> Result<ReadAnswer, StoredError> {
        let (region, _) = self.store_of(kind)?;
        id.check()?;
        let shard = region.shard(id);
        let erased = timeout(ERASED_WITHIN, region.erase(shard, id)).await;
        let erased = erased.map_err(|_| StoredError::Unreachable {
            reason: format!("the entity did not end within {ERASED_WITHIN:?}"),
        })?;
        if let Some(erased) = erased {
            return erased.map(ReadAnswer::Erased);
        }
        self.find_owner(kind, shard)?;
        Ok(ReadAnswer::Elsewhere)
    }
}

/// What a node answers.
pub(crate) async fn answer_of(node: &Node, read: Read) -> Result<ReadAnswer, StoredError> {
    let answerer = Answerer {
        runtime: &node.process.runtime,
        regions: &node.regions,
        hosts: &|kind| node.hosted.iter().any(|entry| entry.name == kind),
        map: node.map.get(),
        node: Some(node),
    };
    answerer.answer(read).await
}

fn log(kind: &str, shard: ShardId) -> Log {
    Log {
        kind: kind.into(),
        shard: shard.0,
    }
}

fn past(record: Record) -> PastRecord {
    let Record {
        position,
        seq,
        at,
        body,
        ..
    } = record;
    let body = if body.len() > RECORD_BYTES_MAX {
        PastBody::TooLarge(body.len() as u64)
    } else {
        PastBody::Whole(body.to_vec().into())
    };
    PastRecord {
        seq,
        position,
        at,
        body,
    }
}

/// One shard of a type, as this node has it.
struct LookedAt<'a> {
    region: &'a dyn AnyRegion,
    /// `None` if the type is not stored.
    journal: Option<&'a dyn Journal>,
    log: Log,
    shard: ShardId,
    patience: Duration,
}

impl Shard for LookedAt<'_> {
    fn active(&self, after: Option<&EntityId>, prefix: &str, limit: usize) -> Vec<EntityId> {
        self.region.active_in(self.shard, after, prefix, limit)
    }

    fn stored<'a>(
        &'a self,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, StoredError>> {
        Box::pin(async move {
            let Some(journal) = self.journal else {
                return Ok(Vec::new());
            };
            let reading = journal.entities(&self.log, after, limit);
            in_time(self.patience, reading).await
        })
    }
}
