//! The sends and the reminders of one shard: what its log says of them, and the task that carries
//! them.
//!
//! The machines are [`protocol::outbox`](Outbox) and [`protocol::reminders`](Reminders). They learn
//! of each durable record of a log that has sends or reminders. A new owner reads the log from
//! where the last [`Ledger`] of the shard says. A log without a ledger has neither, and costs its
//! owner one look.

mod task;

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) use self::task::{OutboxTask, ledger_entry};
use crate::{
    id::{EntityId, Epoch},
    infra::{mutants, sync::lock},
    persistence::{
        record_body::OutboxFull,
        reminders::{ReminderChange, WrittenReminder},
        sends::{OnceTerms, ShardNews, WrittenSend},
    },
    protocol::{
        outbox::{Carried, Outbox, Receiver, WaitingSends},
        reminders::{ReminderKey, Reminders, WaitingReminder},
    },
};

/// How many sends of a shard may wait for their receivers. A command that would send more fails.
const WAITING_MAX: usize = 4096;

/// The same for what came about by a send itself: circles of entities that send to each other must
/// not wait for room in each other's outboxes.
const WAITING_OF_SENDS_MAX: usize = 4 * WAITING_MAX;

/// Takes a send, or a reminder, to its receiver, wherever that lives. A layer above implements it.
pub(crate) trait Courier: Send + Sync {
    /// Resolves once it is known what became of the message, or after a while.
    fn carry(
        &self,
        to: Receiver,
        letter: Arc<Letter>,
        terms: OnceTerms,
    ) -> BoxFuture<'static, Carried>;
}

/// The courier of a node, once there is one.
pub(crate) type CourierSlot = Arc<OnceLock<Arc<dyn Courier>>>;

/// A send with its sender. That of a reminder is its receiver.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) from: EntityId,
    /// The number of the record, among those of the sender.
    pub(crate) seq: u64,
    pub(crate) send: WrittenSend,
}

impl Letter {
    fn all(from: &EntityId, seq: u64, sends: Vec<WrittenSend>) -> Vec<(Receiver, Arc<Self>)> {
        let letters = sends.into_iter().map(|send| {
            let to = Receiver {
                kind: send.kind.clone(),
                entity: EntityId::from_text(send.entity.clone()),
            };
            let from = from.clone();
            (to, Arc::new(Self { from, seq, send }))
        });
        letters.collect()
    }
}

/// A durable record, as the committer tells of it.
struct DurableRecord {
    at: (Epoch, u64),
    from: EntityId,
    seq: u64,
    news: ShardNews,
}

/// A pending reminder of a shard.
pub(crate) type ShardReminder = WaitingReminder<Arc<WrittenReminder>>;

/// The machines of a shard.
struct Carrying {
    sends: Outbox<Arc<Letter>>,
    reminders: Reminders<Arc<WrittenReminder>>,
}

impl Carrying {
    /// A durable record, the one after those that are known.
    fn handle_record(
        &mut self,
        (epoch, position): (Epoch, u64),
        from: &EntityId,
        seq: u64,
        news: ShardNews,
    ) {
        self.handle_reminders(position, from, seq, (news.reminders, news.erases));
        let letters = Letter::all(from, seq, news.sends);
        self.sends.handle_record((epoch, position), letters);
    }

    /// What a record says of reminders.
    fn handle_reminders(
        &mut self,
        position: u64,
        from: &EntityId,
        seq: u64,
        (changes, erases): (Vec<ReminderChange>, bool),
    ) {
        let changes = changes.into_iter().map(ReminderChange::for_index).collect();
        self.reminders
            .handle_record(position, (from, seq), changes, erases);
    }
}

/// The sends and the reminders of a shard that this node owns.
pub(crate) struct ShardOutbox {
    state: Mutex<OutboxState>,
    /// There is something for the task.
    changed: Notify,
    /// Notified when sends are taken, or it is known anew which are not.
    taken: Notify,
    /// The shard is not here any more.
    ended: CancellationToken,
    /// Sends of records that are not decided.
    undecided: AtomicUsize,
    /// Sends that are durable, and not known to be taken.
    waiting: AtomicUsize,
    /// The log has a ledger, or is about to: its durable records are told of.
    has_ledger: AtomicBool,
    is_ready: AtomicBool,
}

#[derive(Default)]
struct OutboxState {
    /// The number of the last record of the shard itself. `None` before that is known.
    ledger_seq: Option<u64>,
    /// A ledger is durable.
    is_noted: bool,
    /// How many records of the shard are not decided.
    noting: usize,
    /// Something may be stored of which nothing is known.
    is_in_doubt: bool,
    news: VecDeque<DurableRecord>,
    machine: Option<Carrying>,
}

impl fmt::Debug for ShardOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardOutbox")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

/// What goes with a record.
pub(super) struct Appending {
    /// The number of a record of the shard that is to go before it: no ledger is known to be
    /// durable, and the record has sends or reminders.
    pub(super) ledger: Option<u64>,
    /// The task is to begin.
    pub(super) begins: bool,
    /// Learns what becomes of it.
    pub(super) outbox: Option<Arc<ShardOutbox>>,
}

impl ShardOutbox {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Notify::new(),
            taken: Notify::new(),
            ended: CancellationToken::new(),
            undecided: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            has_ledger: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
        })
    }

    /// Whether records may be written: it is known whether the log has a ledger.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Whether a record with sends may be written. `by_send`: it came about by one.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn check_room(&self, by_send: bool) -> Result<(), OutboxFull> {
        let waiting = self.waiting.load(Ordering::Acquire) + self.undecided.load(Ordering::Acquire);
        let max = if by_send {
            WAITING_OF_SENDS_MAX
        } else {
            WAITING_MAX
        };
        if waiting >= max || !self.is_ready() {
            return Err(OutboxFull { waiting });
        }
        Ok(())
    }

    /// A record is about to be appended that says this.
    pub(super) fn handle_appending(self: &Arc<Self>, news: &ShardNews) -> Appending {
        let (mut ledger, mut begins) = (None, false);
        if news.needs_ledger() {
            self.undecided.fetch_add(news.sends.len(), Ordering::AcqRel);
            let mut state = lock(&self.state);
            begins = !self.has_ledger.swap(true, Ordering::AcqRel);
            // Each writer has its own, until one is durable: another one's may fail.
            ledger = (!state.is_noted).then(|| state.next_seq());
        }
        let hears = self.has_ledger.load(Ordering::Acquire);
        Appending {
            ledger,
            begins,
            outbox: hears.then(|| self.clone()),
        }
    }

    /// A record is durable.
    pub(super) fn handle_durable(
        &self,
        at: (Epoch, u64),
        from: &EntityId,
        seq: u64,
        news: ShardNews,
    ) {
        self.undecided.fetch_sub(news.sends.len(), Ordering::AcqRel);
        let mut state = lock(&self.state);
        if from.is_of_shard() {
            state.noting -= 1;
            state.is_noted = true;
        }
        let from = from.clone();
        state.news.push_back(DurableRecord {
            at,
            from,
            seq,
            news,
        });
        drop(state);
        self.changed.notify_one();
    }

    /// A record has failed.
    pub(super) fn handle_failed(&self, is_ledger: bool, news: &ShardNews, possibly: bool) {
        self.undecided.fetch_sub(news.sends.len(), Ordering::AcqRel);
        let mut state = lock(&self.state);
        if is_ledger {
            state.noting -= 1;
            if !state.is_noted {
                // It has to be seen first whether there is one.
                self.is_ready.store(false, Ordering::Release);
            }
        }
        if is_ledger || possibly && news.needs_ledger() {
            state.is_in_doubt = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Whether each send of an entity up to its record `seq` is known to be taken. Until then the
    /// records must not be forgotten: a later owner finds them there.
    pub(super) fn has_sent(&self, from: &EntityId, seq: u64) -> bool {
        if !self.has_ledger.load(Ordering::Acquire) {
            return self.is_ready();
        }
        let state = lock(&self.state);
        let Some(machine) = &state.machine else {
            return false;
        };
        // All of them are durable, so they are known, or are news.
        let is_of =
            |it: &DurableRecord| it.from == *from && it.seq <= seq && !it.news.sends.is_empty();
        !state.news.iter().any(is_of)
            && !machine
                .sends
                .any_left(|letter| letter.from == *from && letter.seq <= seq)
    }

    /// Up to which of its records, at most `seq`, those of an entity may be forgotten: a later
    /// owner has to find what it sends there, and its reminders, unless they are noted elsewhere.
    pub(super) fn forgettable(&self, from: &EntityId, seq: u64) -> u64 {
        if !self.has_sent(from, seq) && !mutants::on("sends_are_forgotten_early") {
            return 0;
        }
        let state = lock(&self.state);
        let Some(machine) = &state.machine else {
            // The log has no ledger.
            return seq;
        };
        let is_of = |it: &&DurableRecord| it.from == *from && !it.news.reminders.is_empty();
        let news = state.news.iter().find(is_of);
        let seq = news.map_or(seq, |news| seq.min(news.seq - 1));
        machine.reminders.forgettable(from, seq)
    }

    /// Resolves once [`has_sent`](Self::has_sent), or when the shard is not here any more: then it
    /// returns `false`.
    pub(super) async fn sent(&self, from: &EntityId, seq: u64) -> bool {
        let sent = async {
            loop {
                // From here on a change is not missed.
                let taken = self.taken.notified();
                if self.has_sent(from, seq) {
                    return;
                }
                taken.await;
            }
        };
        self.ended.run_until_cancelled(sent).await.is_some()
    }

    /// It is known which sends are not taken, and which reminders are pending.
    fn set_machine(&self, machine: Carrying) {
        lock(&self.state).machine = Some(machine);
        self.taken.notify_waiters();
    }

    /// What waits for each receiver.
    pub(crate) fn report(&self) -> Vec<WaitingSends> {
        let state = lock(&self.state);
        state
            .machine
            .as_ref()
            .map_or_else(Vec::new, |machine| machine.sends.waiting())
    }

    /// How many sends wait, and how many reminders are pending.
    #[cfg(feature = "metrics")]
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        state.machine.as_ref().map_or((0, 0), |machine| {
            (machine.sends.len(), machine.reminders.len())
        })
    }

    /// How many reminders are pending, and those that are due first: at most `limit`.
    pub(crate) fn reminders(&self, limit: usize) -> (usize, Vec<ShardReminder>) {
        let state = lock(&self.state);
        let Some(machine) = &state.machine else {
            return (0, Vec::new());
        };
        let reminders = &machine.reminders;
        (reminders.len(), reminders.waiting(limit))
    }

    /// An operator gives up the first send to a receiver, if a try of it has failed. Returns it.
    pub(crate) fn give_up_send(&self, to: &Receiver) -> Option<Arc<Letter>> {
        let given_up = lock(&self.state).machine.as_mut()?.sends.give_up(to);
        self.changed.notify_one();
        given_up
    }

    /// An operator gives up what a reminder is due for now, if a try of it has failed. `now`: by
    /// the clock of reminders. Returns it.
    pub(crate) fn give_up_reminder(
        &self,
        key: &ReminderKey,
        now: u64,
    ) -> Option<Arc<WrittenReminder>> {
        let given_up = lock(&self.state)
            .machine
            .as_mut()?
            .reminders
            .give_up(key, now);
        self.changed.notify_one();
        given_up
    }

    pub(super) fn close(&self) {
        self.ended.cancel();
    }
}

impl OutboxState {
    /// The number of the record of the shard that is written now.
    fn next_seq(&mut self) -> u64 {
        let seq = self.ledger_seq.unwrap_or(0) + 1;
        self.ledger_seq = Some(seq);
        self.noting += 1;
        seq
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
