//! What one activation of a stored entity writes.

use std::sync::Arc;

use crate::{
    id::EntityId,
    infra::wall_clock,
    message::changed::ChangedFields,
    persistence::{
        keys::{KeyedReply, Keys},
        record_body::{RecordBody, Unwritable, WrittenState},
        reminders::{OwnReminders, ReminderChange},
        sends::{LastTaken, ShardNews, TakenSend},
        shard_log::{Entry, NotStored, Progress, ShardLog},
        upkeep::Upkeep,
    },
};

/// The records of one activation: which are written, and which of those are durable.
#[derive(Debug)]
pub(crate) struct Writer {
    log: Arc<ShardLog>,
    entity: EntityId,
    progress: Arc<Progress>,
    /// The number of the last record, durable or not, whose changes the state contains.
    applied: u64,
    /// The number of the last record that a snapshot contains, or will contain.
    snapshot: u64,
    /// The state as the last record has it, if the type is stored as it is.
    last: Option<WrittenState>,
    /// Whether what is stored gives exactly these bytes, so that the next record need only say what
    /// has changed in them.
    last_is_stored: bool,
    /// The answers that the entity remembers.
    keys: Keys,
    /// The sends that it has taken.
    taken: LastTaken,
    /// Its reminders.
    reminders: OwnReminders,
    upkeep: Arc<Upkeep>,
}

impl Writer {
    /// The entity was read up to its record `seq`, which has this position; the snapshot contains
    /// those up to `snapshot`, and those up to `forgotten` are forgotten.
    pub(crate) fn new(
        log: Arc<ShardLog>,
        entity: EntityId,
        (seq, position): (u64, u64),
        (snapshot, forgotten): (u64, u64),
        (keys, taken, reminders): (Keys, LastTaken, OwnReminders),
    ) -> Self {
        Self {
            upkeep: Upkeep::new(log.clone(), entity.clone(), forgotten),
            log,
            entity,
            progress: Progress::of(seq, position),
            applied: seq,
            snapshot,
            last: None,
            last_is_stored: false,
            keys,
            taken,
            reminders,
        }
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    pub(crate) fn upkeep(&self) -> &Arc<Upkeep> {
        &self.upkeep
    }

    /// The number of the last record whose changes the state contains.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether a record is neither durable nor taken back.
    pub(crate) fn is_writing(&self) -> bool {
        self.progress.durable() < self.applied
    }

    /// Whether the store has still to decide about a record. An entity must not be read before.
    pub(crate) fn is_undecided(&self) -> bool {
        let is_unknown = self.is_writing() && self.failed().is_none();
        is_unknown || !self.progress.is_settled()
    }

    /// Why a record was not stored. The state contains what it says, so it is worth nothing.
    pub(crate) fn failed(&self) -> Option<&NotStored> {
        self.progress.failed()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.log.has_room(&self.progress)
    }

    /// Resolves once there is room, or a record has failed.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + 'static {
        let (log, progress) = (self.log.clone(), self.progress.clone());
        async move { log.room(&progress).await }
    }

    /// The state as the last record has it.
    pub(crate) fn last(&self) -> Option<&WrittenState> {
        self.last.as_ref()
    }

    /// What the recovered state is written as. Code that has changed since may write it otherwise
    /// than it `is_stored`.
    pub(crate) fn set_last(&mut self, state: WrittenState, is_stored: bool) {
        self.last = Some(state);
        self.last_is_stored = is_stored;
    }

    /// What this state has changed of the last one, if that is known, and takes fewer bytes.
    pub(crate) fn changed(&self, state: &WrittenState) -> Option<ChangedFields> {
        let last = self.last.as_ref().filter(|last| last.name == state.name)?;
        let is_stored = self.last_is_stored;
        let changed = is_stored.then(|| ChangedFields::since(&last.bytes, &state.bytes));
        changed.flatten()
    }

    /// The answers that the entity remembers, that of the last record included.
    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The last record says what is to be remembered.
    pub(crate) fn remember(&mut self, reply: KeyedReply) {
        self.keys.add(reply);
    }

    /// The sends that the entity has taken, that of the last record included.
    pub(crate) fn taken(&self) -> &LastTaken {
        &self.taken
    }

    /// The last record came about by this send.
    pub(crate) fn take_send(&mut self, taken: TakenSend) {
        self.taken.add(taken);
    }

    /// The reminders that the entity has, as the last record has them.
    pub(crate) fn reminders(&self) -> &OwnReminders {
        &self.reminders
    }

    /// The last record says this of reminders.
    pub(crate) fn change_reminders(&mut self, changes: Vec<ReminderChange>) {
        for change in changes {
            self.reminders.apply(self.applied, change);
        }
    }

    /// What the clock of reminders shows.
    pub(crate) fn reminder_millis(&self) -> u64 {
        self.log.store().clock().millis()
    }

    /// Appends a record. Its sends leave once it is durable.
    pub(crate) fn append(&mut self, body: &mut RecordBody) -> Result<(), Unwritable> {
        if !body.sends.is_empty() {
            self.log.outbox().check_room(body.taken.is_some())?;
        }
        let encoded = body.encode()?;
        self.applied += 1;
        let entry = Entry {
            entity: self.entity.clone(),
            seq: self.applied,
            at: wall_clock::millis(),
            body: encoded,
            news: ShardNews {
                sends: std::mem::take(&mut body.sends),
                reminders: body.reminders.clone(),
                erases: body.erases,
            },
        };
        self.log.append(entry, &self.progress);
        Ok(())
    }

    /// The record before erases. What was taken of sends is written again, where there is
    /// something.
    pub(crate) fn keep_taken(&mut self) -> Result<(), Unwritable> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let mut body = RecordBody {
            last_taken: self.taken.all(),
            ..RecordBody::default()
        };
        self.append(&mut body)
    }

    /// Whether so many records came since the last snapshot that there should be another, and none
    /// is being saved.
    pub(crate) fn needs_snapshot(&self, every: u64) -> bool {
        self.applied - self.snapshot >= every && !self.upkeep.is_saving()
    }

    /// A snapshot as of the last record is to be saved.
    pub(crate) fn begin_snapshot(&mut self) -> u64 {
        self.snapshot = self.applied;
        self.upkeep.begin();
        self.applied
    }

    /// The entity begins anew after the last record: no snapshot contains anything of it.
    pub(crate) fn erased(&mut self) -> u64 {
        self.snapshot = self.applied;
        (self.last, self.last_is_stored) = (None, false);
        self.keys.clear();
        self.reminders.clear();
        self.applied
    }
}

/// A state as records and snapshots have it.
pub(crate) fn written_state(name: &str, bytes: Vec<u8>) -> WrittenState {
    WrittenState {
        name: name.to_owned(),
        bytes: bytes.into(),
    }
}
