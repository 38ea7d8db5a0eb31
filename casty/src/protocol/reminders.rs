//! The reminders of one shard of stored entities, on the node that owns it.
//!
//! A reminder is part of the record in which its entity set it, and is pending until a later record
//! of the entity says that it was handled, is due again, or is forgotten. So an entity and its log
//! decide, and this is an index over them: which reminders are pending, and which of those are due.
//! A reminder that is due is carried to its entity. The entity handles it if it still has that very
//! reminder, and says so in the record of that.
//!
//! A new owner does not read the whole log. Every now and then a *part* of the index is written:
//! the pending reminders of a range of ids. Parts take turns, so that all are written in the course
//! of a *round*, and then the next round begins. What the parts of a round say is complete up to
//! where the log was at the beginning of the round: from there on it is read.
//!
//! Time and randomness are passed in, the time as milliseconds since the Unix epoch. What is to be
//! done is returned.

pub(crate) mod cron;
pub(crate) mod timetable;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use super::outbox::Carried;
use crate::{
    id::EntityId,
    infra::{backoff::pause_after, mutants, wall_clock::whole_millis},
};

/// How much is under way at a time, and the pauses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReminderLimits {
    pub(crate) under_way: usize,
    /// Before the second try, and the longest one.
    pub(crate) pause: Duration,
    pub(crate) pause_max: Duration,
    /// The longest one while the entity's handler fails. Each try ends its activation.
    pub(crate) pause_max_broken: Duration,
    /// The entities of one part, and about how many bytes it has. It has at least one entity.
    pub(crate) part: usize,
    pub(crate) part_bytes: usize,
}

/// Which reminder of an entity this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReminderKey {
    pub(crate) entity: EntityId,
    pub(crate) name: Arc<str>,
}

/// A reminder as a record has set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetReminder<P> {
    /// The position of that record.
    pub(crate) at: u64,
    /// The number of it, among those of the entity. It tells this reminder from earlier and later
    /// ones of its name.
    pub(crate) seq: u64,
    pub(crate) due: u64,
    pub(crate) payload: P,
}

/// What a record says of a reminder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IndexChange<P> {
    Set {
        name: Arc<str>,
        due: u64,
        payload: P,
    },
    Gone(Arc<str>),
}

/// A reminder that is to be carried to its entity now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DueReminder<P> {
    pub(crate) key: ReminderKey,
    pub(crate) seq: u64,
    pub(crate) payload: P,
    /// Its entity is to move it on without handling it.
    pub(crate) is_given_up: bool,
}

/// The pending reminders of a range of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexPart<P> {
    /// The ids after this one,
    pub(crate) after: Option<EntityId>,
    /// and up to this one.
    pub(crate) to: Option<EntityId>,
    pub(crate) reminders: Vec<(ReminderKey, SetReminder<P>)>,
}

/// What is written of the index, and what of the earlier parts it makes needless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexNote<P> {
    pub(crate) part: Option<IndexPart<P>>,
    pub(crate) round: Round,
}

/// The last complete round of parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// The number of the record of its first part. Earlier ones are not needed.
    pub(crate) first: u64,
    /// What the parts say is complete up to this position: the log is read from there on.
    pub(crate) through: u64,
}

#[derive(Debug)]
struct Pending<P> {
    name: Arc<str>,
    set: SetReminder<P>,
    /// When it is carried. `None`: it is under way.
    wakes: Option<u64>,
}

/// Tries that have failed.
#[derive(Debug)]
struct Trouble {
    failures: u32,
    reason: String,
    is_given_up: bool,
}

/// A pending reminder, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingReminder<P> {
    pub(crate) key: ReminderKey,
    pub(crate) due: u64,
    pub(crate) failures: u32,
    pub(crate) reason: Option<String>,
    pub(crate) payload: P,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Reminders<P> {
    limits: ReminderLimits,
    entities: BTreeMap<EntityId, Vec<Pending<P>>>,
    len: usize,
    /// Those that are not under way, by when they are carried.
    queue: BTreeSet<(u64, ReminderKey)>,
    troubles: BTreeMap<ReminderKey, Trouble>,
    under_way: usize,
    complete: Round,
    /// The round that is being written, and the last id of it.
    present: Option<(Round, EntityId)>,
    /// [`Round::through`] of the last complete round, once its last part is durable.
    covered: u64,
}

// ---- Inputs.

impl<P: Clone> Reminders<P> {
    /// Nothing is pending. `complete`: what the last note says.
    pub(crate) fn new(complete: Round, limits: ReminderLimits) -> Self {
        Self {
            limits,
            entities: BTreeMap::new(),
            len: 0,
            queue: BTreeSet::new(),
            troubles: BTreeMap::new(),
            under_way: 0,
            complete,
            present: None,
            covered: complete.through,
        }
    }

    /// A part that an earlier owner has written, in the order in which they were written, before
    /// any record. `through`: where the log was.
    pub(crate) fn handle_part(&mut self, part: IndexPart<P>, through: u64) {
        let after = part
            .after
            .as_ref()
            .map_or(Bound::Unbounded, Bound::Excluded);
        let to = part.to.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let named: BTreeSet<&ReminderKey> = part.reminders.iter().map(|(key, _)| key).collect();
        let mut gone = Vec::new();
        for (entity, pending) in self.entities.range::<EntityId, _>((after, to)) {
            for Pending { name, set, .. } in pending {
                let key = ReminderKey {
                    entity: entity.clone(),
                    name: name.clone(),
                };
                if set.at <= through && !named.contains(&key) {
                    gone.push(key);
                }
            }
        }
        for key in gone {
            self.remove(&key, |_| true);
        }
        for (key, set) in part.reminders {
            self.set(key, set);
        }
    }

    /// A durable record of an entity. In the order of the positions.
    pub(crate) fn handle_record(
        &mut self,
        at: u64,
        (entity, seq): (&EntityId, u64),
        changes: Vec<IndexChange<P>>,
        erases: bool,
    ) {
        if erases {
            self.handle_erased(at, entity);
            return;
        }
        for change in changes {
            match change {
                IndexChange::Set { name, due, payload } => {
                    let entity = entity.clone();
                    let set = SetReminder {
                        at,
                        seq,
                        due,
                        payload,
                    };
                    self.set(ReminderKey { entity, name }, set);
                }
                IndexChange::Gone(name) => {
                    let entity = entity.clone();
                    self.remove(&ReminderKey { entity, name }, |set| set.at <= at);
                }
            }
        }
    }

    fn handle_erased(&mut self, at: u64, entity: &EntityId) {
        let pending = self.entities.get(entity).into_iter().flatten();
        let names: Vec<_> = pending.map(|it| it.name.clone()).collect();
        for name in names {
            let entity = entity.clone();
            self.remove(&ReminderKey { entity, name }, |set| set.at <= at);
        }
    }

    fn set(&mut self, key: ReminderKey, set: SetReminder<P>) {
        let present = self
            .find(&key)
            .map(|known| (known.set.at, known.set.seq, known.wakes));
        if let Some((at, seq, wakes)) = present {
            if at > set.at || (at, seq) == (set.at, set.seq) {
                return;
            }
            if let Some(wakes) = wakes {
                self.queue.remove(&(wakes, key.clone()));
            }
            self.troubles.remove(&key);
        }
        let due = set.due;
        self.queue.insert((due, key.clone()));
        let pending = self.entities.entry(key.entity).or_default();
        let wakes = Some(due);
        if let Some(known) = pending.iter_mut().find(|it| it.name == key.name) {
            (known.set, known.wakes) = (set, wakes);
            return;
        }
        // Most entities have one.
        pending.reserve_exact(1);
        let name = key.name;
        pending.push(Pending { name, set, wakes });
        self.len += 1;
    }

    fn remove(&mut self, key: &ReminderKey, is_it: impl Fn(&SetReminder<P>) -> bool) {
        let Some(pending) = self.entities.get_mut(&key.entity) else {
            return;
        };
        let found = |it: &Pending<P>| it.name == key.name && is_it(&it.set);
        let Some(place) = pending.iter().position(found) else {
            return;
        };
        let removed = pending.swap_remove(place);
        if pending.is_empty() {
            self.entities.remove(&key.entity);
        }
        self.len -= 1;
        if let Some(wakes) = removed.wakes {
            self.queue.remove(&(wakes, key.clone()));
        }
        self.troubles.remove(key);
    }

    fn find(&self, key: &ReminderKey) -> Option<&Pending<P>> {
        let pending = self.entities.get(&key.entity)?;
        pending.iter().find(|it| it.name == key.name)
    }

    /// What became of a reminder that was carried.
    pub(crate) fn handle_reminded(
        &mut self,
        key: &ReminderKey,
        seq: u64,
        carried: Carried,
        (now, jitter): (u64, f64),
    ) {
        self.under_way = self.under_way.saturating_sub(1);
        let known = self.find(key);
        if known.is_none_or(|it| it.set.seq != seq || it.wakes.is_some()) {
            // A later record has changed it, and this is no news.
            return;
        }
        let (reason, pause_max) = match carried {
            Carried::Void => return self.remove(key, |_| true),
            // The record that says so is about to be told of. Were it not, the entity would answer
            // that there is no such reminder.
            Carried::Taken => {
                return self.wake(key, now.saturating_add(whole_millis(self.limits.pause_max)));
            }
            Carried::Failed(reason) => (reason, self.limits.pause_max),
            Carried::Broken(reason) => (reason, self.limits.pause_max_broken),
        };
        let trouble = self.troubles.entry(key.clone()).or_insert(Trouble {
            failures: 0,
            reason: String::new(),
            is_given_up: false,
        });
        trouble.reason = reason;
        let pause_max = if trouble.is_given_up {
            self.limits.pause
        } else {
            pause_max
        };
        let pause = pause_after(trouble.failures, self.limits.pause, pause_max, jitter);
        trouble.failures += 1;
        self.wake(key, now.saturating_add(whole_millis(pause)));
    }

    /// An operator gives up what a reminder is due for now: its entity moves it on without handling
    /// it. Returns it. `None`: there is none, or no try of it has failed.
    ///
    /// Whether it is given up is not stored. A later owner of the shard is to be told again.
    pub(crate) fn give_up(&mut self, key: &ReminderKey, now: u64) -> Option<P> {
        let trouble = self.troubles.get_mut(key)?;
        trouble.is_given_up = true;
        let pending = self.find(key)?;
        let (payload, wakes) = (pending.set.payload.clone(), pending.wakes);
        if let Some(at) = wakes {
            self.queue.remove(&(at, key.clone()));
            self.wake(key, now);
        }
        Some(payload)
    }

    /// It is carried again.
    fn wake(&mut self, key: &ReminderKey, at: u64) {
        let pending = self.entities.get_mut(&key.entity).into_iter().flatten();
        for pending in pending.filter(|it| it.name == key.name) {
            pending.wakes = Some(at);
            self.queue.insert((at, key.clone()));
        }
    }

    /// What [`note`](Self::note) has returned is durable.
    pub(crate) fn handle_noted(&mut self, round: Round) {
        self.covered = self.covered.max(round.through);
    }
}

// ---- What follows.

impl<P: Clone> Reminders<P> {
    /// The reminders that are to be carried to their entities now.
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<DueReminder<P>> {
        let mut due = Vec::new();
        while self.under_way < self.limits.under_way
            && let Some((at, _)) = self.queue.first()
            && *at <= now
        {
            let Some((_, key)) = self.queue.pop_first() else {
                break;
            };
            let pending = self.entities.get_mut(&key.entity).into_iter().flatten();
            for pending in pending.filter(|it| it.name == key.name) {
                pending.wakes = None;
                self.under_way += 1;
                let trouble = self.troubles.get(&key);
                due.push(DueReminder {
                    is_given_up: trouble.is_some_and(|it| it.is_given_up),
                    key: key.clone(),
                    seq: pending.set.seq,
                    payload: pending.set.payload.clone(),
                });
            }
        }
        due
    }

    /// When [`take_due`](Self::take_due) has something next.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let has_room = self.under_way < self.limits.under_way;
        self.queue.first().filter(|_| has_room).map(|(at, _)| *at)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What is to be written now, in the record `seq` of the shard. All records up to `through`
    /// were told of.
    pub(crate) fn note(
        &mut self,
        seq: u64,
        through: u64,
        bytes: impl Fn(&P) -> usize,
    ) -> IndexNote<P> {
        let first = Round {
            first: seq,
            through,
        };
        let (round, after) = match self.present.take() {
            Some((round, after)) => (round, Some(after)),
            None => (first, None),
        };
        if self.entities.is_empty() {
            // A round of no parts.
            self.complete = first;
            return IndexNote {
                part: None,
                round: first,
            };
        }
        let bound = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut entities = self
            .entities
            .range::<EntityId, _>((bound, Bound::Unbounded));
        let (mut reminders, mut last) = (Vec::new(), None);
        let mut room = self.limits.part_bytes;
        for (entity, pending) in entities.by_ref().take(self.limits.part) {
            let sizes = pending.iter().map(|it| bytes(&it.set.payload));
            room = room.saturating_sub(sizes.sum());
            reminders.extend(pending.iter().map(|it| {
                let key = ReminderKey {
                    entity: entity.clone(),
                    name: it.name.clone(),
                };
                (key, it.set.clone())
            }));
            last = Some(entity.clone());
            if room == 0 {
                break;
            }
        }
        let to = last.filter(|_| entities.next().is_some());
        match &to {
            Some(to) => self.present = Some((round, to.clone())),
            None => self.complete = round,
        }
        if mutants::on("parts_of_reminders_are_empty") {
            reminders.clear();
        }
        let part = IndexPart {
            after,
            to,
            reminders,
        };
        IndexNote {
            part: Some(part),
            round: self.complete,
        }
    }

    /// Up to which of its records, at most `seq`, those of an entity may be forgotten. A reminder
    /// that no part has is found in its record alone.
    pub(crate) fn forgettable(&self, entity: &EntityId, seq: u64) -> u64 {
        let pending = self.entities.get(entity).into_iter().flatten();
        let needed = pending.filter(|it| it.set.at > self.covered);
        let first = needed.map(|it| it.set.seq.saturating_sub(1)).min();
        match first {
            Some(first) if !mutants::on("reminders_are_forgotten_early") => first.min(seq),
            _ => seq,
        }
    }

    /// The reminders that are due first, at most so many, and those in trouble before them.
    pub(crate) fn waiting(&self, limit: usize) -> Vec<WaitingReminder<P>> {
        let queued = self.queue.iter().map(|(_, key)| key);
        let queued = queued.filter(|key| !self.troubles.contains_key(key));
        let keys = self.troubles.keys().chain(queued).take(limit);
        let waiting = keys.filter_map(|key| {
            let pending = self.find(key)?;
            let trouble = self.troubles.get(key);
            Some(WaitingReminder {
                key: key.clone(),
                due: pending.set.due,
                failures: trouble.map_or(0, |trouble| trouble.failures),
                reason: trouble.map(|trouble| trouble.reason.clone()),
                payload: pending.set.payload.clone(),
            })
        });
        waiting.collect()
    }
}

#[cfg(test)]
mod tests;
