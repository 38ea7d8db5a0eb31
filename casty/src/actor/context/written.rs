//! What a handler of a stored entity writes.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    actor::{Actor, context::Context},
    infra::sync::lock,
    persistence::{
        record_body::WrittenEvent,
        reminders::ReminderChange,
        sends::{WaitingSender, WrittenSend},
    },
};

/// What is done once the record of a handled message is durable.
pub(crate) type FollowUp<A> = Box<dyn FnOnce(&A, &mut Context<A>) + Send>;

/// What the handler of one message has changed, and what earlier ones have left to be done.
pub(crate) struct Written<A: Actor> {
    pub(crate) events: Vec<WrittenEvent>,
    /// The state may have changed, in a type that is stored as it is.
    pub(crate) changes: bool,
    /// What is stored of the entity is to be erased.
    pub(crate) erases: bool,
    pub(crate) then: Vec<FollowUp<A>>,
    /// What is sent to other entities.
    pub(crate) sends: Vec<WrittenSend>,
    pub(crate) reminders: Vec<ReminderChange>,
    /// The time for which the reminder came that is handled, in milliseconds since the Unix epoch.
    reminded_at: Option<u64>,
    came: CameBy,
    /// The sender of the message that is handled is told of the outcome later.
    is_promised: bool,
    /// Made by the first handler that leaves something to be done.
    due: Option<Arc<DueFollowUps<A>>>,
}

/// How the message has come that is handled now.
pub(crate) enum CameBy {
    /// By an ask, or from the activation itself.
    Asked,
    /// By a send whose sender is told of the outcome.
    SentFor(Box<WaitingSender>),
    /// By a send whose sender is not.
    Sent,
}

/// What is to be done now: its record is durable.
pub(crate) struct DueFollowUps<A: Actor>(Mutex<Vec<FollowUp<A>>>);

impl<A: Actor> DueFollowUps<A> {
    pub(crate) fn add(&self, then: FollowUp<A>) {
        lock(&self.0).push(then);
    }
}

impl<A: Actor> Default for Written<A> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            changes: false,
            erases: false,
            then: Vec::new(),
            sends: Vec::new(),
            reminders: Vec::new(),
            reminded_at: None,
            came: CameBy::Asked,
            is_promised: false,
            due: None,
        }
    }
}

/// For generated code.
impl<A: Actor> Context<A> {
    pub(crate) fn write_event(&mut self, event: WrittenEvent) {
        self.written().events.push(event);
    }

    pub(crate) fn erase(&mut self) {
        self.written().erases = true;
    }

    pub(crate) fn when_durable(&mut self, then: FollowUp<A>) {
        self.written().then.push(then);
    }

    pub(crate) fn write_send(&mut self, send: WrittenSend) {
        self.written().sends.push(send);
    }

    pub(crate) fn write_reminder(&mut self, change: ReminderChange) {
        self.written().reminders.push(change);
    }

    pub(crate) fn came(&mut self) -> &CameBy {
        &self.written().came
    }

    pub(crate) fn set_promised(&mut self) {
        self.written().is_promised = true;
    }

    /// The promises of this activation to askers, by their numbers.
    pub(crate) fn promises(&mut self) -> &mut BTreeMap<u64, Box<dyn Any + Send>> {
        &mut self.core.attached().promises
    }

    pub(crate) fn reminded_millis(&self) -> Option<u64> {
        self.written.as_ref()?.reminded_at
    }

    pub(crate) fn changes(&mut self) {
        self.written().changes = true;
    }
}

/// For the run.
impl<A: Actor> Context<A> {
    /// What the handler has changed.
    pub(crate) fn take_written(&mut self) -> Option<Written<A>> {
        let written = self.written.as_mut()?;
        let next = Written {
            due: written.due.clone(),
            ..Written::default()
        };
        Some(std::mem::replace(&mut **written, next))
    }

    /// The message that is handled next was sent. `sender`: if it is told of the outcome.
    pub(crate) fn is_sent(&mut self, sender: Option<WaitingSender>) {
        self.written().came =
            sender.map_or(CameBy::Sent, |sender| CameBy::SentFor(Box::new(sender)));
    }

    /// Whether the sender of the message that was handled is told of the outcome later.
    pub(crate) fn is_promised(&self) -> bool {
        self.written.as_ref().is_some_and(|it| it.is_promised)
    }

    /// The message that is handled next is that of a reminder, which came for this time.
    pub(crate) fn is_reminded(&mut self, at: Option<u64>) {
        self.written().reminded_at = at;
    }

    /// What the handler has changed is worth nothing: it has failed.
    pub(crate) fn forget_written(&mut self) {
        drop(self.take_written());
    }

    /// Where to put what is to be done once its record is durable.
    pub(crate) fn due(&mut self) -> Arc<DueFollowUps<A>> {
        let due = &mut self.written().due;
        due.get_or_insert_with(|| Arc::new(DueFollowUps(Mutex::default())))
            .clone()
    }

    /// What is to be done now.
    pub(crate) fn take_due(&mut self) -> Vec<FollowUp<A>> {
        let written = self.written.as_ref();
        let due = written.and_then(|written| written.due.as_ref());
        due.map_or_else(Vec::new, |due| std::mem::take(&mut *lock(&due.0)))
    }
}
