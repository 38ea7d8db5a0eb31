//! What a handler of a stored entity writes.

use crate::{
    actor::{Actor, context::Context},
    persistence::record_body::WrittenEvent,
};

/// What is done once the record of a handled message is durable.
pub(crate) type Then<A> = Box<dyn FnOnce(&A, &mut Context<A>) + Send>;

/// What the handler of one message has changed.
pub(crate) struct Written<A: Actor> {
    pub(crate) events: Vec<WrittenEvent>,
    /// The state may have changed, in a type that is stored as it is.
    pub(crate) changes: bool,
    /// What is stored of the entity is to be erased.
    pub(crate) erases: bool,
    pub(crate) then: Vec<Then<A>>,
}

impl<A: Actor> Default for Written<A> {
    fn default() -> Self {
        Self {
            events: Vec::new(),
            changes: false,
            erases: false,
            then: Vec::new(),
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

    pub(crate) fn when_durable(&mut self, then: Then<A>) {
        self.written().then.push(then);
    }

    pub(crate) fn changes(&mut self) {
        self.written().changes = true;
    }
}
