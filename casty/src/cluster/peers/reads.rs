//! What a reader asks a node about the entities of a type, and the answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::overview::NodeOverview;
use crate::{
    actor::cell::report::{Activity, CellReport},
    error::Delay,
    id::{EntityId, NodeId, ShardId},
    persistence::{
        backup::{LoggedRecord, LoggedSnapshot},
        projected::{ProjectionId, ShardProgress},
    },
};

/// A question about entities, or an erasure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Read {
    /// A page of the entities of a type.
    Entities {
        kind: String,
        filter: Filter,
        /// The shards to look at, each with the last entity that the reader knows already.
        shards: Vec<(ShardId, Option<EntityId>)>,
        /// How many entities.
        limit: u32,
    },
    /// A page of the records of an entity.
    History {
        kind: String,
        id: EntityId,
        /// The number of the last record that the reader knows already.
        after: u64,
        /// How many records.
        limit: u32,
    },
    /// What an entity does. It is not started for that.
    Look { kind: String, id: EntityId },
    /// Erases what is stored of an entity.
    Erase { kind: String, id: EntityId },
    /// A page of the log of a shard, as its owner has it.
    Log {
        kind: String,
        shard: ShardId,
        /// The position of the last record that the reader knows already.
        after: u64,
    },
    /// A page of the snapshots of a shard, as its owner has them.
    Snapshots {
        kind: String,
        shard: ShardId,
        /// The last entity that the reader has got to.
        after: Option<EntityId>,
    },
    /// What the flight recorder of an entity's node is to do, or to tell.
    Record {
        kind: String,
        id: EntityId,
        order: RecordOrder,
    },
    /// What the node counts and sees.
    Overview,
    /// What this node's entities have sent, and is not known to be taken.
    Outbox,
    /// Gives up what this node's entities have sent to one, and what waits longest: it is taken
    /// without being handled. Only what has failed.
    GiveUpSends { kind: String, id: EntityId },
    /// Gives up what a reminder is due for now. Only if it has failed.
    GiveUpReminder {
        kind: String,
        id: EntityId,
        name: String,
    },
    /// The pending reminders of this node's entities, of one type or of all.
    Reminders { kind: Option<String>, limit: usize },
    /// Records of shards, as their owner has them. Where there are none, the answer waits a moment
    /// for some.
    Events { kind: String, shards: Vec<Follows> },
    /// The positions of the last durable records of shards.
    Heads { kind: String, shards: Vec<ShardId> },
    /// How far a projection is. The answer waits a moment for the shards to get to the positions.
    Projected {
        kind: String,
        projection: ProjectionId,
        shards: Vec<(ShardId, u64)>,
    },
}

/// An order to the flight recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordOrder {
    /// Record it from now on, and keep so many messages; `None`: at least 256.
    Begin { turns: Option<u32> },
    /// Record it no more, unless its type says so.
    End,
    /// Tell what is recorded.
    Tell,
    /// Tell what was recorded when it failed last.
    TellFailed,
    /// Tell the snapshot of what is stored.
    TellSnapshot,
}

/// What the flight recorder has of an entity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecorderLook {
    /// How many messages it has, how many it keeps at least, and whether an operator asked for it.
    /// `None`: it does not record the entity.
    pub(crate) ring: Option<(u64, u64, bool)>,
    /// What was to be told, as a file has it.
    pub(crate) recording: Option<ByteBuf>,
    /// The number of the last record that the snapshot contains, and the snapshot.
    pub(crate) snapshot: Option<(u64, ByteBuf)>,
}

/// A shard that a reader follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Follows {
    pub(crate) shard: ShardId,
    /// The position of the last record that the reader knows already.
    pub(crate) after: u64,
    /// Whether the store is read in any case, not only if the owner knows of later records.
    pub(crate) looks: bool,
}

/// Which entities are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    pub(crate) which: Which,
    /// What their ids begin with.
    pub(crate) prefix: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    #[default]
    All,
    /// Those that are active. The store is not read.
    Active,
    /// Those that are stored.
    Stored,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ReadAnswer {
    /// Of each shard that the node got to.
    Entities(Vec<ShardEntities>),
    /// No records: there are no more.
    History(Vec<PastRecord>),
    Look(Box<EntityLook>),
    Record(Box<RecorderLook>),
    /// Whether there was anything to erase.
    Erased(bool),
    Log(LogPage),
    Snapshots(SnapshotPage),
    Overview(Box<NodeOverview>),
    Outbox(OutboxPage),
    Reminders(ReminderPage),
    GivenUp(Vec<GivenUpMessage>),
    /// The shard is not this node's.
    Elsewhere,
    /// Of some of the shards. A shard that is left out has none.
    Events(Vec<(ShardId, ShardNews)>),
    /// `None`: the shard is not this node's.
    Heads(Vec<(ShardId, Option<u64>)>),
    Projected(Vec<(ShardId, Projected)>),
}

/// What the owner of a shard knows of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EntityLook {
    pub(crate) shard: ShardId,
    /// For how long the node has owned the shard.
    pub(crate) owned_for: Duration,
    /// `None`: the entity is not active.
    pub(crate) active: Option<ActiveLook>,
    /// The last failure, as far as the node remembers: its reason, how long ago, and how many
    /// there were.
    pub(crate) failure: Option<(String, Duration, u64)>,
    /// The last moves of the shard, the latest first: how long ago, from where, to where, and
    /// whether the node that had it was Down.
    #[serde(default)]
    pub(crate) moves: Vec<(Duration, NodeId, NodeId, bool)>,
}

/// What an active entity does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ActiveLook {
    pub(crate) activity: Activity,
    pub(crate) state: Option<String>,
    pub(crate) queued: u64,
    /// The message whose handler runs, and for how long.
    pub(crate) handling: Option<(String, Duration)>,
    /// What the handler waits for: the type and the id of the target, the message, since when.
    pub(crate) asks: Vec<(String, String, String, Duration)>,
}

impl From<CellReport> for ActiveLook {
    fn from(report: CellReport) -> Self {
        let CellReport {
            activity,
            state,
            queued,
            handling,
            awaits: _,
            asks,
        } = report;
        let asks = asks.into_iter().map(|ask| {
            let message = ask.message.to_owned();
            (ask.to.kind, ask.to.id, message, ask.since)
        });
        Self {
            activity,
            state: state.map(str::to_owned),
            queued: queued as u64,
            handling: handling.map(|(message, since)| (message.to_owned(), since)),
            asks: asks.collect(),
        }
    }
}

impl ActiveLook {
    /// What holds an ask of this entity up. `node`: that of the entity.
    pub(crate) fn delay(self, node: NodeId) -> Delay {
        let (handler, running_for) = self.handling.unzip();
        let waits_for = self.asks.into_iter().next();
        Delay {
            node,
            waiting: self.queued,
            handler,
            running_for: running_for.unwrap_or_default(),
            waits_for: waits_for.map(|(kind, id, ..)| format!("{kind}/{id}")),
        }
    }
}

/// What there is of one shard, for a reader that follows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ShardNews {
    /// At least one, in order.
    Records(Vec<SeenRecord>),
    /// The shard is not this node's.
    Elsewhere,
    /// The store fails, or is still being asked for the shard.
    Unavailable(String),
}

/// A record, for a reader that follows its shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenRecord {
    pub(crate) position: u64,
    pub(crate) entity: EntityId,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) body: PastBody,
}

/// What a node knows of a projection and a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Projected {
    /// The shard is not this node's.
    Elsewhere,
    /// The node owns the shard, and has not been given the projection.
    NotHere,
    Here(ShardProgress),
}

/// What waits in the outboxes of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OutboxPage {
    /// The most sends of all, for how many receivers.
    pub(crate) receivers: Vec<WaitingReceiver>,
    /// How many sends wait in all.
    pub(crate) sends: u64,
}

/// A receiver that has not taken what a shard has sent to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WaitingReceiver {
    /// The shard of the senders.
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    /// The type of the receiver, and its id.
    pub(crate) to: (String, EntityId),
    pub(crate) sends: u64,
    /// How many tries have failed since one was taken.
    pub(crate) failures: u32,
    pub(crate) reason: Option<String>,
}

/// A message that an operator has given up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GivenUpMessage {
    /// The type of its sender, and the id.
    pub(crate) from: (String, EntityId),
    pub(crate) message: String,
}

/// The pending reminders of a node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReminderPage {
    /// Those in trouble, and those that are due first.
    pub(crate) reminders: Vec<PendingReminder>,
    /// How many are pending in all.
    pub(crate) pending: u64,
}

/// A reminder that is pending.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingReminder {
    pub(crate) kind: String,
    pub(crate) shard: ShardId,
    pub(crate) entity: EntityId,
    pub(crate) name: String,
    pub(crate) message: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) due: u64,
    /// Its period or its cron expression, if it is due again.
    pub(crate) repeats: Option<String>,
    pub(crate) failures: u32,
    pub(crate) reason: Option<String>,
}

/// Records of a log, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogPage {
    /// The position of the last durable record, after all of the page was read.
    pub(crate) durable: u64,
    pub(crate) records: Vec<LoggedRecord>,
    /// What stands for those that are forgotten.
    pub(crate) snapshots: Vec<LoggedSnapshot>,
}

/// Snapshots of a shard, in the order of the ids of their entities.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotPage {
    /// The position of the last durable record, before any of them was read.
    pub(crate) durable: u64,
    pub(crate) snapshots: Vec<LoggedSnapshot>,
    pub(crate) rest: Rest,
}

/// Entities of one shard, in the order of their ids as bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ShardEntities {
    pub(crate) shard: ShardId,
    pub(crate) entities: Vec<SeenEntity>,
    pub(crate) rest: Rest,
}

/// What there is of a shard besides the entities of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rest {
    Nothing,
    /// What comes after this entity, which need not exist.
    After(EntityId),
    /// The shard is not this node's.
    Elsewhere,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenEntity {
    pub(crate) id: EntityId,
    /// Whether it is active on the node that answers.
    pub(crate) active: bool,
    pub(crate) stored: Option<Newest>,
}

/// The last record of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newest {
    pub(crate) seq: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PastRecord {
    pub(crate) seq: u64,
    pub(crate) position: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) body: PastBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PastBody {
    /// Empty once it was forgotten.
    Whole(ByteBuf),
    /// It has so many bytes, which is more than a node sends.
    TooLarge(u64),
}
