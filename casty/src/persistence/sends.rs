//! Sends between stored entities, as records have them.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    persistence::reminders::{ReminderChange, ReminderPart, ReminderTerms, is_false},
    protocol::outbox::SendMark,
    trace::{self, TraceContext},
};

/// A message to another entity, part of the record of what its sender has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenSend {
    /// The wire name of the receiver's type.
    pub(crate) kind: Arc<str>,
    pub(crate) entity: Arc<str>,
    /// The name of the message, for operators.
    pub(crate) message: String,
    pub(crate) bytes: ByteBuf,
    /// The message that tells the sender of the outcome, if it wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Arc<AnswerForm>>,
    /// The span of the handler that has made it, if that is sampled.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "trace::written"
    )]
    pub(crate) trace: Option<Box<TraceContext>>,
}

/// A message of the sender, encoded but for the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AnswerForm {
    pub(crate) message: String,
    /// What stands before the outcome, and behind it.
    pub(crate) before: ByteBuf,
    pub(crate) after: ByteBuf,
}

/// The sender of a message, which is told of the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingSender {
    pub(crate) kind: Arc<str>,
    pub(crate) entity: Arc<str>,
    pub(crate) form: Arc<AnswerForm>,
}

/// What a receiver learns of a send besides its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SendTerms {
    /// The log of the sender.
    pub(crate) kind: Arc<str>,
    pub(crate) shard: u32,
    pub(crate) mark: SendMark,
    /// The send to the same receiver before it, if that may not be taken yet.
    pub(crate) after: Option<SendMark>,
    /// The sender.
    pub(crate) from: Arc<str>,
    pub(crate) answer: Option<Arc<AnswerForm>>,
    /// It is taken without being handled: an operator wants that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) is_given_up: bool,
}

/// What the receiver of a message learns that is to handle it once, however often it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OnceTerms {
    Send(SendTerms),
    Reminder(ReminderTerms),
}

impl OnceTerms {
    /// Whether what its handler returns goes back to a sender.
    pub(crate) fn wants_answer(&self) -> bool {
        matches!(self, Self::Send(terms) if terms.answer.is_some())
    }
}

/// What a record says to the owner of its shard, besides to its entity.
#[derive(Debug, Default)]
pub(crate) struct ShardNews {
    pub(crate) sends: Vec<WrittenSend>,
    pub(crate) reminders: Vec<ReminderChange>,
    /// The entity begins anew, and has no reminders.
    pub(crate) erases: bool,
}

impl ShardNews {
    /// Whether the log has to have a ledger before it.
    pub(crate) fn needs_ledger(&self) -> bool {
        !self.sends.is_empty() || !self.reminders.is_empty()
    }
}

/// The mark of a send that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TakenSend {
    pub(crate) kind: Arc<str>,
    pub(crate) shard: u32,
    pub(crate) mark: SendMark,
}

impl SendTerms {
    /// The sender, if it is told of the outcome.
    pub(crate) fn waiting_sender(&self) -> Option<WaitingSender> {
        Some(WaitingSender {
            kind: self.kind.clone(),
            entity: self.from.clone(),
            form: self.answer.clone()?,
        })
    }

    pub(crate) fn taken(&self) -> TakenSend {
        TakenSend {
            kind: self.kind.clone(),
            shard: self.shard,
            mark: self.mark,
        }
    }
}

/// What is noted of the sends and the reminders of a shard, in records of the shard itself: so an
/// owner that takes it over reads the records from there on, and not the whole log.
///
/// The first record with sends or reminders in a log follows such a record. A log without one has
/// neither.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// All sends of the records up to this position are taken,
    pub(crate) through: u64,
    /// but for those of these records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left: Vec<u64>,
    /// The number of the record of the shard from which on parts of the reminders count,
    #[serde(default)]
    pub(crate) first_part: u64,
    /// and the position from which on the records say what those do not.
    #[serde(default)]
    pub(crate) parts_through: u64,
    /// Reminders that are pending after all records up to `through`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<ReminderPart>,
}

impl Ledger {
    /// The first one of a log, the record `seq` of the shard: no record up to `through` has sends
    /// or reminders.
    pub(crate) fn first(seq: u64, through: u64) -> Self {
        Self {
            through,
            left: Vec::new(),
            first_part: seq,
            parts_through: through,
            part: None,
        }
    }
}

/// The last send that an entity has taken from each shard. It has one mark for each shard that has
/// ever sent to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastTaken(BTreeMap<Arc<str>, BTreeMap<u32, SendMark>>);

impl LastTaken {
    pub(crate) fn of(&self, kind: &str, shard: u32) -> Option<SendMark> {
        self.0.get(kind)?.get(&shard).copied()
    }

    pub(crate) fn add(&mut self, taken: TakenSend) {
        let TakenSend { kind, shard, mark } = taken;
        let last = self.0.entry(kind).or_default().entry(shard).or_insert(mark);
        *last = mark.max(*last);
    }

    pub(crate) fn all(&self) -> Vec<TakenSend> {
        let kinds = self.0.iter();
        let all = kinds.flat_map(|(kind, shards)| {
            shards.iter().map(|(shard, mark)| TakenSend {
                kind: kind.clone(),
                shard: *shard,
                mark: *mark,
            })
        });
        all.collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<TakenSend> for LastTaken {
    fn extend<I: IntoIterator<Item = TakenSend>>(&mut self, taken: I) {
        taken.into_iter().for_each(|it| self.add(it));
    }
}
