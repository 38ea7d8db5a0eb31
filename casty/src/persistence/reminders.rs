//! Reminders, as records have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    id::EntityId,
    infra::mutants,
    protocol::reminders::{
        IndexChange, IndexPart, ReminderKey, SetReminder,
        timetable::{InvalidCron, Missed, Timetable},
    },
    trace::{self, TraceContext},
};

/// How many reminders an entity may have.
const REMINDERS_MAX: usize = 64;

/// The most bytes of the message of a reminder. It is written again each time it is due.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// A message to the entity itself, at a later time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenReminder {
    pub(crate) name: Arc<str>,
    /// Milliseconds since the Unix epoch.
    pub(crate) due: u64,
    pub(crate) timetable: Timetable,
    pub(crate) missed: Missed,
    /// The name of the message, for operators.
    pub(crate) message: String,
    pub(crate) bytes: ByteBuf,
    /// The span of the handler that has set it, if that is sampled and the reminder comes once.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "trace::written"
    )]
    pub(crate) trace: Option<Box<TraceContext>>,
}

impl WrittenReminder {
    /// Whether the other one is due at the same times, and says the same.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_once = self.timetable == Timetable::Once;
        self.timetable == other.timetable
            && (!is_once || self.due == other.due)
            && (self.missed, &self.message, &self.bytes)
                == (other.missed, &other.message, &other.bytes)
    }
}

/// What a record changes of the reminders of its entity. A reminder is written whole each time it
/// changes, so that no earlier record is needed to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReminderChange {
    Set(WrittenReminder),
    /// It was handled, and is not due again, or is forgotten.
    Gone(Arc<str>),
}

impl ReminderChange {
    pub(crate) fn name(&self) -> &Arc<str> {
        match self {
            Self::Set(reminder) => &reminder.name,
            Self::Gone(name) => name,
        }
    }

    pub(crate) fn for_index(self) -> IndexChange<Arc<WrittenReminder>> {
        match self {
            Self::Set(reminder) => IndexChange::Set {
                name: reminder.name.clone(),
                due: reminder.due,
                payload: Arc::new(reminder),
            },
            Self::Gone(name) => IndexChange::Gone(name),
        }
    }
}

/// What an entity learns of a reminder besides its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReminderTerms {
    pub(crate) name: Arc<str>,
    /// The number of the record that has set it.
    pub(crate) seq: u64,
    /// It is moved on without being handled: an operator wants that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) is_given_up: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(crate) const fn is_false(value: &bool) -> bool {
    !*value
}

/// A reminder of an entity, in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptReminder {
    pub(crate) seq: u64,
    pub(crate) reminder: WrittenReminder,
}

/// The reminders of an entity, as its last record has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnReminders(BTreeMap<Arc<str>, KeptReminder>);

/// What is to be done with a reminder that was carried to its entity.
pub(crate) enum ReminderJudged {
    /// It is handled for this time, and its record says this.
    Due { at: u64, change: ReminderChange },
    /// It is too late for it, and a record says this.
    Late(ReminderChange),
    /// The entity does not have it any more.
    Void,
}

impl OwnReminders {
    /// The record `seq` says this.
    pub(crate) fn apply(&mut self, seq: u64, change: ReminderChange) {
        match change {
            ReminderChange::Set(reminder) => {
                let kept = KeptReminder { seq, reminder };
                self.0.insert(kept.reminder.name.clone(), kept);
            }
            ReminderChange::Gone(name) => {
                self.0.remove(&name);
            }
        }
    }

    /// A snapshot says this.
    pub(crate) fn restore(&mut self, kept: Vec<KeptReminder>) {
        let kept = kept.into_iter();
        self.0 = kept.map(|it| (it.reminder.name.clone(), it)).collect();
    }

    pub(crate) fn all(&self) -> Vec<KeptReminder> {
        self.0.values().cloned().collect()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&WrittenReminder> {
        self.0.get(name).map(|kept| &kept.reminder)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What a record is to say. `handled`: of the reminder by which it came about. `wishes`: what
    /// its handler wants. A reminder that is set just as it is goes on as before.
    ///
    /// # Errors
    /// There would be too many.
    pub(crate) fn changed(
        &self,
        handled: Option<ReminderChange>,
        wishes: Vec<ReminderChange>,
    ) -> Result<Vec<ReminderChange>, String> {
        if handled.is_none() && wishes.is_empty() {
            return Ok(Vec::new());
        }
        let mut changes: Vec<ReminderChange> = handled.into_iter().collect();
        for wish in wishes {
            let earlier = changes.iter().find(|it| it.name() == wish.name());
            let present = match earlier {
                Some(ReminderChange::Set(reminder)) => Some(reminder),
                Some(ReminderChange::Gone(_)) => None,
                None => self.get(wish.name()),
            };
            let is_news = match (&wish, present) {
                (ReminderChange::Set(new), Some(present)) => !new.is_same(present),
                (ReminderChange::Gone(_), None) => false,
                _ => true,
            };
            if is_news {
                changes.retain(|it| it.name() != wish.name());
                changes.push(wish);
            }
        }
        if self.len_after(&changes) > REMINDERS_MAX {
            return Err(format!("an entity may have {REMINDERS_MAX} reminders"));
        }
        Ok(changes)
    }

    /// How many there are once these changes are made.
    fn len_after(&self, changes: &[ReminderChange]) -> usize {
        let mut names: BTreeSet<&Arc<str>> = self.0.keys().collect();
        for change in changes {
            match change {
                ReminderChange::Set(reminder) => names.insert(&reminder.name),
                ReminderChange::Gone(name) => names.remove(name),
            };
        }
        names.len()
    }

    /// What is to be done with a reminder that was carried to the entity.
    ///
    /// # Errors
    /// It is not known when it is due next.
    pub(crate) fn judge(
        &self,
        terms: &ReminderTerms,
        now: u64,
    ) -> Result<ReminderJudged, InvalidCron> {
        let kept = self.0.get(&terms.name);
        let voids = !mutants::on("void_reminders_are_handled");
        let Some(kept) = kept.filter(|kept| kept.seq == terms.seq || !voids) else {
            return Ok(ReminderJudged::Void);
        };
        let reminder = &kept.reminder;
        let timetable = &reminder.timetable;
        let advance = timetable.advance(reminder.missed, reminder.due, now)?;
        let change = match advance.next {
            Some(due) => ReminderChange::Set(WrittenReminder {
                due,
                ..reminder.clone()
            }),
            None => ReminderChange::Gone(reminder.name.clone()),
        };
        Ok(if advance.is_handled {
            ReminderJudged::Due {
                at: advance.at,
                change,
            }
        } else {
            ReminderJudged::Late(change)
        })
    }
}

/// A pending reminder, in a part of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartReminder {
    /// The position of the record that has set it, and its number.
    pub(crate) at: u64,
    pub(crate) seq: u64,
    pub(crate) reminder: WrittenReminder,
}

/// The pending reminders of a range of ids, in a record of the shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReminderPart {
    pub(crate) after: Option<EntityId>,
    pub(crate) to: Option<EntityId>,
    pub(crate) entities: Vec<(EntityId, Vec<PartReminder>)>,
}

impl From<IndexPart<Arc<WrittenReminder>>> for ReminderPart {
    fn from(part: IndexPart<Arc<WrittenReminder>>) -> Self {
        let mut entities: Vec<(EntityId, Vec<PartReminder>)> = Vec::new();
        for (key, set) in part.reminders {
            let reminder = PartReminder {
                at: set.at,
                seq: set.seq,
                reminder: (*set.payload).clone(),
            };
            match entities.last_mut() {
                Some((entity, reminders)) if *entity == key.entity => reminders.push(reminder),
                _ => entities.push((key.entity, vec![reminder])),
            }
        }
        Self {
            after: part.after,
            to: part.to,
            entities,
        }
    }
}

impl From<ReminderPart> for IndexPart<Arc<WrittenReminder>> {
    fn from(part: ReminderPart) -> Self {
        let reminders = part.entities.into_iter().flat_map(|(entity, reminders)| {
            reminders.into_iter().map(move |it| {
                let key = ReminderKey {
                    entity: entity.clone(),
                    name: it.reminder.name.clone(),
                };
                let set = SetReminder {
                    at: it.at,
                    seq: it.seq,
                    due: it.reminder.due,
                    payload: Arc::new(it.reminder),
                };
                (key, set)
            })
        });
        Self {
            after: part.after,
            to: part.to,
            reminders: reminders.collect(),
        }
    }
}
