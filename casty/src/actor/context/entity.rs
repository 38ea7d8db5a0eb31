//! What the context of an entity offers besides.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    actor::{
        Entity,
        ask::{call::Call, sent},
        context::Context,
        handle::CellName,
        outcome::{self, AnswerOf, Outcome},
        reference::Stored,
        remind,
        remind::Remind,
    },
    id::{EntityId, Epoch, Id},
    infra::wall_clock,
    persistence::reminders::ReminderChange,
};

impl<E: Stored> Context<E> {
    /// Sends a message to another stored entity, effectively once: it is part of the record of what
    /// this handler changes, so it is sent if, and only if, that is stored; and again, also after a
    /// failover, until the receiver has what it has changed in a durable record of its own. The
    /// receiver handles it once. What one entity sends to another arrives in order.
    ///
    /// What the receiver returns is thrown away; [`send_for`](Self::send_for) brings it back. In a
    /// state without a handler for the message, it becomes a dead letter, unless that state ignores
    /// what it does not handle. A handler of an event-sourced entity sends by
    /// [`Effect::send`](crate::Effect::send).
    ///
    /// Up to 4,096 sends of a shard wait for their receivers. A message whose handler would send
    /// more fails as [`AskError::OutboxFull`](crate::AskError::OutboxFull).
    ///
    /// # Panics
    /// If the message cannot be encoded, or the id of the receiver is none.
    ///
    /// ```standalone_crate
    /// use casty::{persistence::Memory, prelude::*};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Stock {
    ///     pieces: u64,
    /// }
    ///
    /// #[entity(durable)]
    /// impl Stock {
    ///     #[message]
    ///     fn move_to(&mut self, other: StockRef, pieces: u64, ctx: &mut Context<Self>) {
    ///         let pieces = pieces.min(self.pieces);
    ///         self.pieces -= pieces;
    ///         ctx.send(other.put(pieces));
    ///     }
    ///
    ///     #[message]
    ///     fn put(&mut self, pieces: u64) {
    ///         self.pieces += pieces;
    ///     }
    /// }
    /// # fn main() {}
    /// ```
    #[track_caller]
    pub fn send<A: Stored, T, F>(&mut self, call: Call<A, T, F>) {
        match sent::written(call, None) {
            Ok(send) => self.write_send(send),
            Err(error) => panic!("{error}"),
        }
    }

    /// The same, and this entity is told of the outcome by a message of its own, effectively once
    /// as well. `tell` makes that message: it puts the [`Outcome`] that it is given into one of the
    /// arguments. Whatever else the message says is fixed now.
    ///
    /// # Panics
    /// As [`send`](Self::send), and if the message does not contain the outcome, or has more than
    /// 32 KiB besides it.
    #[track_caller]
    pub fn send_for<A: Stored, T, F, S>(
        &mut self,
        call: Call<A, T, F>,
        tell: impl FnOnce(Outcome<S>) -> E::Message,
    ) where
        S: AnswerOf<T, F>,
    {
        let form = outcome::answer_form::<E::Message, S>(tell);
        match form.and_then(|form| sent::written(call, Some(form))) {
            Ok(send) => self.write_send(send),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reminds this entity of something, by a message of its own, at a later time: a timer that
    /// outlives the activation, the node and the cluster. It is part of the record of what this
    /// handler changes, so it is set if, and only if, that is stored. The message is handled once
    /// for each time that it is due, and the record of that says so; until then it comes again,
    /// also after a failover.
    ///
    /// An entity has one reminder of each name, and up to 64 in all. A reminder that is set again
    /// takes the place of the earlier one, which does not come any more once this is acknowledged.
    /// One that is set again just as it is, with the same period or cron expression, goes on as
    /// before: so `#[on_start]` may set it each time.
    ///
    /// The message is stored, so it is a `#[message]`, or an internal one without arguments.
    ///
    /// What the handler of the message returns is thrown away. In a state without a handler for it,
    /// it becomes a dead letter, unless that state ignores what it does not handle. A handler that
    /// panics is tried again, at last once a minute.
    ///
    /// A handler of an event-sourced entity sets reminders by
    /// [`Effect::remind`](crate::Effect::remind).
    ///
    /// # Panics
    /// If the name is empty or longer than 255 bytes, or the message cannot be encoded, or has more
    /// than 16 KiB.
    ///
    /// ```standalone_crate
    /// use casty::{persistence::Memory, prelude::*, remind::Remind, testkit};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Meter {
    ///     readings: u32,
    /// }
    ///
    /// #[entity(durable)]
    /// impl Meter {
    ///     #[message]
    ///     fn begin(&mut self, ctx: &mut Context<Self>) {
    ///         let hourly = Remind::every(Duration::from_hours(1));
    ///         ctx.remind("reading", hourly, MeterMsg::Read {});
    ///     }
    ///
    ///     #[message(internal)]
    ///     fn read(&mut self) {
    ///         self.readings += 1;
    ///     }
    ///
    ///     #[message]
    ///     fn end(&mut self, ctx: &mut Context<Self>) -> u32 {
    ///         ctx.forget("reading");
    ///         self.readings
    ///     }
    /// }
    ///
    /// testkit::paused_with(
    ///     |builder| builder.journal(Memory::new()),
    ///     |system| async move {
    ///         let meter = system.entity::<Meter>("m-1");
    ///         meter.begin().await.unwrap();
    ///         tokio::time::sleep(Duration::from_mins(200)).await;
    ///         assert_eq!(meter.end().await, Ok(3));
    ///     },
    /// );
    /// ```
    #[track_caller]
    pub fn remind(&mut self, name: &str, remind: Remind, message: E::Message) {
        self.set_reminder(name, &remind, &message);
    }

    /// Forgets a reminder, if there is one of this name. Once this is acknowledged it does not come
    /// any more.
    pub fn forget(&mut self, name: &str) {
        self.forget_reminder(name);
    }

    /// The time for which the reminder came whose message is handled now: the time at which it was
    /// due, however late it is. `None` if the message came from somewhere else.
    ///
    /// A reminder that is late because no node was up is handled for the last time that has passed,
    /// and with [`Missed::All`](crate::remind::Missed::All) for each of them.
    pub fn reminded_at(&self) -> Option<SystemTime> {
        let at = Duration::from_millis(self.reminded_millis()?);
        UNIX_EPOCH.checked_add(at)
    }
}

impl<E: Entity> Context<E> {
    #[track_caller]
    pub(crate) fn set_reminder(&mut self, name: &str, remind: &Remind, message: &E::Message) {
        let store = self.cell.runtime().store();
        let now = store.map_or_else(wall_clock::millis, |store| store.clock().millis());
        match remind::written(name, remind, message, now) {
            Ok(change) => self.write_reminder(change),
            Err(reason) => panic!("{reason}"),
        }
    }

    pub(crate) fn forget_reminder(&mut self, name: &str) {
        self.write_reminder(ReminderChange::Gone(name.into()));
    }
}

impl<E: Entity> Context<E> {
    /// The number of the ownership under which this activation acts: a fencing token for effects on
    /// the outside world.
    ///
    /// It only grows, for each entity, wherever it lives. A store, a lock or a service that
    /// remembers the greatest token it has seen and refuses smaller ones is safe even from a
    /// process that was stopped for an hour and goes on without knowing it. Ask for it right before
    /// each effect: once this node has lost the lease under which the handler began, and the entity
    /// may live somewhere else, it is [`Epoch::ZERO`], and stays so for this handler.
    ///
    /// A handler that awaits something then is dropped where it awaits, its state with it, and its
    /// asker gets an error that says that the message may have been handled. Code that does not
    /// await cannot be stopped: nothing but the token keeps its effects from the outside world.
    ///
    /// ```standalone_crate
    /// # use casty::prelude::*;
    /// #[derive(Default)]
    /// struct Invoice;
    ///
    /// #[entity]
    /// impl Invoice {
    ///     #[message]
    ///     fn token(&self, ctx: &mut Context<Self>) -> u64 {
    ///         ctx.fencing_token().0
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let system = ActorSystem::local("app");
    /// assert!(system.entity::<Invoice>("i-1").token().await.unwrap() > 0);
    /// # }
    /// ```
    pub fn fencing_token(&self) -> Epoch {
        self.cell.epoch(self.core.since)
    }

    /// In `#[init]` and `#[on_start]` after a move: how many timers and futures of
    /// [`pipe`](Self::pipe) the move has ended. `None` if the activation begins afresh, and in all
    /// other functions.
    ///
    /// A type that says `migrate` takes its state and its timers along; work cannot travel. So this
    /// is the place to begin again what the state says is under way.
    ///
    /// ```standalone_crate
    /// # use casty::prelude::*;
    /// # async fn render(page: u32) -> u32 { page }
    /// #[message]
    /// #[derive(Default)]
    /// struct Printer {
    ///     page: u32,
    ///     printing: bool,
    /// }
    ///
    /// #[entity(name = "docs/printer", migrate)]
    /// impl Printer {
    ///     #[on_start]
    ///     fn started(&mut self, ctx: &mut Context<Self>) {
    ///         if self.printing && ctx.ended_by_move().is_some_and(|ended| ended > 0) {
    ///             ctx.pipe(render(self.page), |page| PrinterMsg::Printed { page });
    ///         }
    ///     }
    ///
    ///     #[message]
    ///     fn print(&mut self, page: u32, ctx: &mut Context<Self>) {
    ///         (self.page, self.printing) = (page, true);
    ///         ctx.pipe(render(page), |page| PrinterMsg::Printed { page });
    ///     }
    ///
    ///     #[message(internal)]
    ///     fn printed(&mut self, page: u32) {
    ///         self.printing = self.page != page;
    ///     }
    /// }
    /// ```
    pub fn ended_by_move(&self) -> Option<usize> {
        self.core.ended_by_move
    }

    /// This entity's id.
    ///
    /// # Panics
    /// Where [`Entity::Id`] reads the id otherwise than it did when the activation began.
    pub fn entity_id(&self) -> E::Id {
        match E::Id::from_entity_id(self.entity_name()) {
            Ok(id) => id,
            Err(reason) => panic!("`{}` is no id of this entity: {reason}", self.entity_name()),
        }
    }

    /// The same as text.
    pub(crate) fn entity_name(&self) -> &EntityId {
        match self.cell.name() {
            CellName::Entity(id) => id,
            CellName::Actor(_) => unreachable!("`Entity` types are addressed by `EntityRef` only"),
        }
    }

    /// Puts this entity to sleep as soon as it has handled what is in its mailbox: `#[on_stop]`
    /// runs, its memory is given back, and the next message starts a fresh activation. No message
    /// is lost by it.
    ///
    /// An entity that keeps messages for a later state does not sleep.
    pub fn passivate(&mut self) {
        self.core.requests.passivate = true;
    }
}
