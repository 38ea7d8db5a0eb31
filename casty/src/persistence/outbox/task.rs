//! The task of an outbox. It begins when a shard comes to this node, to see whether there are sends
//! or reminders, and ends if there are none. The first record with one begins it again.

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rand::{RngExt, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{Carrying, CourierSlot, DurableRecord, Letter, ShardOutbox};
use crate::{
    id::{EntityId, Epoch},
    infra::{deadline::passed, mutants, sync::lock, wall_clock},
    persistence::{
        Journal, JournalError, Log, Page, Record,
        head::Head,
        inbox::{Entry, Inbox, Input, Waiting},
        progress::Progress,
        record_body::RecordBody,
        reminder_clock::ReminderClock,
        reminders::{ReminderPart, ReminderTerms, WrittenReminder},
        sends::{Ledger, OnceTerms, SendTerms, ShardNews, WrittenSend},
    },
    protocol::{
        commit::{Claim, LogId},
        outbox::{Carried, Carry, Outbox, OutboxLimits, Receiver, SendMark},
        projection::check_dense,
        reminders::{DueReminder, IndexNote, ReminderKey, ReminderLimits, Reminders, Round},
    },
};

const LIMITS: OutboxLimits = OutboxLimits {
    window: 64,
    under_way: 1024,
    pause: Duration::from_millis(100),
    pause_max: Duration::from_secs(5),
    pause_max_broken: Duration::from_mins(1),
};

/// A part of the reminders takes some bytes for each record that is written between it and the next
/// one: about those of two reminders.
const REMINDER_LIMITS: ReminderLimits = ReminderLimits {
    under_way: LIMITS.under_way,
    pause: LIMITS.pause,
    pause_max: LIMITS.pause_max,
    pause_max_broken: LIMITS.pause_max_broken,
    part: 128,
    part_bytes: 512 * 1024,
};

/// The clock of the reminders is looked at after so long at the latest: it may have been corrected.
const CLOCK_MAX: Duration = Duration::from_secs(30);

/// After so many records a ledger is written again: so many a new owner reads.
const LEDGER_EVERY: u64 = 64;

/// The pause after an error of the store.
const PAUSE: Duration = Duration::from_millis(500);

/// The same if what is stored does not fit. Each time it is said, and seldom another try helps.
const PAUSE_OF_DAMAGE: Duration = Duration::from_secs(30);

/// What became of something that was under way.
enum Over {
    Carried {
        to: Receiver,
        mark: SendMark,
        round: u64,
        carried: Carried,
    },
    Reminded {
        key: ReminderKey,
        seq: u64,
        carried: Carried,
    },
    /// A ledger was written, and older ones are forgotten. This is the round that it tells of, if
    /// the ledger is durable.
    Noted(Option<Round>),
}

/// What the records of the shard itself say.
#[derive(Default)]
struct Ledgers {
    /// The number of the last one.
    seq: u64,
    last: Option<Ledger>,
    /// The parts of the reminders, each with the number of its record, and where the log was.
    parts: Vec<(u64, u64, ReminderPart)>,
}

/// Why the task does not go on with what it knows.
enum Break {
    /// There are no sends and no reminders, or the shard is not here any more.
    End,
    /// It reads again what is stored.
    Again,
}

/// The task, and what it needs of its log.
pub(in crate::persistence) struct OutboxTask {
    pub(in crate::persistence) outbox: Arc<ShardOutbox>,
    pub(in crate::persistence) journal: Arc<dyn Journal>,
    pub(in crate::persistence) inbox: Arc<Inbox>,
    pub(in crate::persistence) head: Arc<Head>,
    pub(in crate::persistence) courier: CourierSlot,
    pub(in crate::persistence) id: LogId,
    pub(in crate::persistence) log: Log,
    pub(in crate::persistence) epoch: Epoch,
    pub(in crate::persistence) clock: Arc<ReminderClock>,
    pub(in crate::persistence) claim: watch::Receiver<Claim>,
    pub(in crate::persistence) rng: StdRng,
}

impl OutboxTask {
    /// Ends at once when the shard is not here any more, whatever it waits for.
    pub(in crate::persistence) async fn run(mut self) {
        let outbox = self.outbox.clone();
        outbox.ended.run_until_cancelled(self.work()).await;
    }

    async fn work(&mut self) {
        loop {
            let flow = match self.read().await {
                Ok(noted) => self.carry_on(noted).await,
                Err(flow) => flow,
            };
            match flow {
                Break::End => return,
                Break::Again => {}
            }
        }
    }

    /// Waits until the log is claimed, and no record of the shard is undecided.
    async fn settled(&mut self) -> Result<(), Break> {
        loop {
            let held = self
                .claim
                .wait_for(|claim| !matches!(claim, Claim::Pending(_)));
            match held.await.as_deref() {
                Ok(Claim::Held) => {}
                _ => return Err(Break::End),
            }
            let changed = self.outbox.changed.notified();
            if lock(&self.outbox.state).noting == 0 {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Reads what is stored of the sends and the reminders. Returns what the last ledger said.
    async fn read(&mut self) -> Result<u64, Break> {
        self.settled().await?;
        // From here on what is durable is news.
        {
            let state = &mut *lock(&self.outbox.state);
            state.news.clear();
            (state.is_in_doubt, state.machine) = (false, None);
            self.outbox.has_ledger.store(true, Ordering::Release);
        }
        match self.read_ledgers().await {
            Ok(Ledgers { seq, last, parts }) => {
                self.know(seq, last.is_some());
                match last {
                    Some(ledger) => self.read_records(ledger, parts).await,
                    None => Err(Break::End),
                }
            }
            Err(error) => Err(self.pause(error).await),
        }
    }

    /// It is known which number the next record of the shard has, and whether the log has sends.
    fn know(&self, seq: u64, has_ledger: bool) {
        let outbox = &self.outbox;
        {
            let state = &mut *lock(&outbox.state);
            (state.ledger_seq, state.is_noted) = (Some(seq), has_ledger);
            if !has_ledger {
                state.news.clear();
            }
            outbox.has_ledger.store(has_ledger, Ordering::Release);
            outbox.is_ready.store(true, Ordering::Release);
        }
        outbox.taken.notify_waiters();
        self.inbox.freed.notify_waiters();
    }

    /// Waits before the store is asked again. It does not tell when it is back.
    async fn pause(&self, error: JournalError) -> Break {
        let log = &self.log;
        let pause = match error {
            JournalError::Unusable { reason } => {
                tracing::error!(%log, reason, "the sends and reminders of a shard cannot be read");
                PAUSE_OF_DAMAGE
            }
            JournalError::Unavailable { reason } => {
                tracing::debug!(%log, reason, "the sends and reminders of a shard cannot be read now");
                PAUSE
            }
        };
        sleep(pause).await;
        Break::Again
    }

    /// What the records of the shard itself say.
    async fn read_ledgers(&self) -> Result<Ledgers, JournalError> {
        const PAGE: Page = Page {
            records: 4096,
            bytes: 1024 * 1024,
        };
        let shard = EntityId::of_shard();
        let mut ledgers = Ledgers::default();
        loop {
            let page = self
                .journal
                .read_entity(&self.log, &shard, ledgers.seq, PAGE)
                .await?;
            let Some(record) = page.last() else {
                return Ok(ledgers);
            };
            ledgers.seq = record.seq;
            for record in page.iter().filter(|record| !record.body.is_empty()) {
                let mut ledger = body(&self.log, record)?.ledger.unwrap_or_default();
                if let Some(part) = ledger.part.take() {
                    ledgers.parts.push((record.seq, ledger.through, part));
                }
                ledgers.last = Some(ledger);
            }
        }
    }

    /// Reads the records of which some sends are possibly not taken yet, and those that say of
    /// reminders what no part says.
    async fn read_records(
        &mut self,
        ledger: Ledger,
        parts: Vec<(u64, u64, ReminderPart)>,
    ) -> Result<u64, Break> {
        let round = Round {
            first: ledger.first_part,
            through: ledger.parts_through,
        };
        let mut machine = Carrying {
            sends: Outbox::new(ledger.through, LIMITS),
            reminders: Reminders::new(round, REMINDER_LIMITS),
        };
        let parts = parts.into_iter().filter(|(seq, ..)| *seq >= round.first);
        for (_, through, part) in parts {
            machine.reminders.handle_part(part.into(), through);
        }
        let one = Page {
            records: 1,
            bytes: 1,
        };
        for position in ledger.left {
            let read = self.journal.read_log(&self.log, position - 1, one).await;
            let found = match read {
                Ok(found) => found,
                Err(error) => return Err(self.pause(error).await),
            };
            for record in found.into_iter().filter(|it| it.position == position) {
                let news = match news(&self.log, &record) {
                    Ok(news) => news,
                    Err(error) => return Err(self.pause(error).await),
                };
                let letters = Letter::all(&record.entity, record.seq, news.sends);
                machine.sends.handle_left((record.epoch, position), letters);
            }
        }
        let from = round.through.min(ledger.through);
        if let Err(error) = self.scan(&mut machine, from, None).await {
            return Err(self.pause(error).await);
        }
        self.outbox.set_machine(machine);
        Ok(ledger.through)
    }

    /// Reads the log on, up to a position, or to what is durable. Of records that the machine of
    /// the sends knows, only reminders count.
    async fn scan(
        &self,
        machine: &mut Carrying,
        mut from: u64,
        to: Option<u64>,
    ) -> Result<(), JournalError> {
        let durable = self.journal.durable(&self.log).await?;
        let to = [to, durable].into_iter().flatten().min();
        let to = to.unwrap_or(u64::MAX);
        while from < to {
            let page = Page::default();
            let read = self.journal.read_log(&self.log, from, page).await?;
            if read.is_empty() {
                break;
            }
            check_dense(from, read.iter().map(|record| record.position)).map_err(|astray| {
                JournalError::Unusable {
                    reason: format!("{} has lost records: {astray}", self.log),
                }
            })?;
            for record in read.into_iter().take_while(|record| record.position <= to) {
                let news = news(&self.log, &record)?;
                let (epoch, position) = (record.epoch, record.position);
                let (entity, seq) = (&record.entity, record.seq);
                if position > machine.sends.through() {
                    machine.handle_record((epoch, position), entity, seq, news);
                } else {
                    let changes = (news.reminders, news.erases);
                    machine.handle_reminders(position, entity, seq, changes);
                }
                from = position;
            }
        }
        Ok(())
    }

    /// Carries what there is, and what comes. `noted`: up to where the last ledger goes.
    async fn carry_on(&mut self, mut noted: u64) -> Break {
        let outbox = self.outbox.clone();
        let mut running = FuturesUnordered::<BoxFuture<'static, Over>>::new();
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            match self.handle_news().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(flow) => return flow,
            }
            let (carries, due, deadline) = {
                let state = &mut *lock(&outbox.state);
                let Some(machine) = &mut state.machine else {
                    return Break::Again;
                };
                let carries = machine.sends.take_carries();
                outbox.waiting.store(machine.sends.len(), Ordering::Release);
                let due = machine.reminders.take_due(self.clock.millis());
                let next = machine.reminders.deadline().map(|at| self.instant(at));
                let deadlines = [machine.sends.deadline(), next];
                (carries, due, deadlines.into_iter().flatten().min())
            };
            let carries = carries.into_iter().map(|carry| self.carry(carry));
            running.extend(carries);
            let due = due.into_iter().map(|reminder| self.remind(reminder));
            running.extend(due);
            running.extend(self.note(&mut noted));
            tokio::select! {
                biased;
                Some(over) = running.next() => self.handle_over(over),
                () = outbox.changed.notified() => {}
                () = passed(deadline, timer.as_mut()) => {
                    if let Some(machine) = &mut lock(&outbox.state).machine {
                        machine.sends.handle_time(Instant::now());
                    }
                }
            }
        }
    }

    /// When the clock of the reminders shows this, or when it is to be looked at again.
    fn instant(&self, at: u64) -> Instant {
        let left = Duration::from_millis(at.saturating_sub(self.clock.millis()));
        Instant::now() + left.min(CLOCK_MAX)
    }

    fn handle_over(&mut self, over: Over) {
        match over {
            Over::Carried {
                to,
                mark,
                round,
                carried,
            } => {
                if let Carried::Failed(reason) | Carried::Broken(reason) = &carried {
                    let (log, kind, entity) = (&self.log, &to.kind, &to.entity);
                    tracing::debug!(%log, %kind, %entity, reason, "a send was not taken; it is tried again");
                }
                let jitter = self.rng.random();
                if let Some(machine) = &mut lock(&self.outbox.state).machine {
                    let now = (Instant::now(), jitter);
                    machine.sends.handle_carried(&to, mark, round, carried, now);
                }
                self.outbox.taken.notify_waiters();
            }
            Over::Reminded { key, seq, carried } => {
                if let Carried::Failed(reason) | Carried::Broken(reason) = &carried {
                    let (log, entity, name) = (&self.log, &key.entity, &*key.name);
                    tracing::debug!(%log, %entity, name, reason, "a reminder was not handled; it is tried again");
                }
                let now = (self.clock.millis(), self.rng.random());
                if let Some(machine) = &mut lock(&self.outbox.state).machine {
                    machine.reminders.handle_reminded(&key, seq, carried, now);
                }
            }
            Over::Noted(round) => {
                let machine = &mut lock(&self.outbox.state).machine;
                if let Some((machine, round)) = machine.as_mut().zip(round) {
                    machine.reminders.handle_noted(round);
                }
            }
        }
    }

    /// Hands records that are durable to the machine. Returns whether there may be more.
    async fn handle_news(&mut self) -> Result<bool, Break> {
        let hole = {
            let state = &mut *lock(&self.outbox.state);
            if state.is_in_doubt {
                return Err(Break::Again);
            }
            let Some(machine) = &mut state.machine else {
                return Err(Break::Again);
            };
            let mut hole = None;
            while let Some(record) = state.news.pop_front() {
                let (epoch, position) = record.at;
                if position <= machine.sends.through() {
                    continue;
                }
                if position > machine.sends.through() + 1 {
                    hole = Some(position - 1);
                    state.news.push_front(record);
                    break;
                }
                let DurableRecord {
                    from, seq, news, ..
                } = record;
                machine.handle_record((epoch, position), &from, seq, news);
            }
            hole.map(|to| (to, state.machine.take()))
        };
        let Some((to, machine)) = hole else {
            return Ok(false);
        };
        // Records of which it was not known that they would be stored, or whose writers did not
        // know of the outbox.
        let Some(mut machine) = machine else {
            return Err(Break::Again);
        };
        let from = machine.sends.through();
        let read = self.scan(&mut machine, from, Some(to)).await;
        let is_read = machine.sends.through() >= to;
        self.outbox.set_machine(machine);
        match read {
            Ok(()) if is_read => Ok(true),
            Ok(()) => {
                sleep(PAUSE).await;
                Err(Break::Again)
            }
            Err(error) => Err(self.pause(error).await),
        }
    }

    fn carry(&self, carry: Carry<Arc<Letter>>) -> BoxFuture<'static, Over> {
        let Carry {
            to,
            mark,
            after,
            round,
            payload,
            is_given_up,
        } = carry;
        let terms = SendTerms {
            kind: self.log.kind.clone(),
            shard: self.log.shard,
            mark,
            after,
            from: payload.from.clone().into_text(),
            answer: payload.send.answer.clone(),
            is_given_up,
        };
        let carried = self.post(to.clone(), payload, OnceTerms::Send(terms));
        Box::pin(async move {
            Over::Carried {
                carried: carried.await,
                to,
                mark,
                round,
            }
        })
    }

    fn remind(&self, reminder: DueReminder<Arc<WrittenReminder>>) -> BoxFuture<'static, Over> {
        let DueReminder {
            key,
            seq,
            payload,
            is_given_up,
        } = reminder;
        let to = Receiver {
            kind: self.log.kind.clone(),
            entity: key.entity.clone(),
        };
        let letter = Letter {
            from: key.entity.clone(),
            seq,
            send: WrittenSend {
                kind: to.kind.clone(),
                entity: key.entity.clone().into_text(),
                message: payload.message.clone(),
                bytes: payload.bytes.clone(),
                answer: None,
                trace: payload.trace.clone(),
            },
        };
        let name = key.name.clone();
        let terms = OnceTerms::Reminder(ReminderTerms {
            name,
            seq,
            is_given_up,
        });
        let carried = self.post(to, Arc::new(letter), terms);
        Box::pin(async move {
            let carried = carried.await;
            Over::Reminded { key, seq, carried }
        })
    }

    fn post(
        &self,
        to: Receiver,
        letter: Arc<Letter>,
        terms: OnceTerms,
    ) -> BoxFuture<'static, Carried> {
        if let Some(courier) = self.courier.get() {
            return courier.carry(to, letter, terms);
        }
        let reason = "the node has not started yet".to_owned();
        Box::pin(std::future::ready(Carried::Failed(reason)))
    }

    /// Writes a ledger, if it is time. What it makes needless is forgotten then.
    fn note(&self, noted: &mut u64) -> Option<BoxFuture<'static, Over>> {
        let (seq, round, ledger) = {
            let state = &mut *lock(&self.outbox.state);
            let machine = state.machine.as_mut()?;
            let through = machine.sends.through();
            // What it says is not to be most of what is written.
            let pause = LEDGER_EVERY.max(machine.sends.left().len() as u64);
            if state.noting > 0 || through < *noted + pause {
                return None;
            }
            let mut left: Vec<u64> = machine.sends.left().collect();
            if mutants::on("ledgers_leave_nothing") {
                left.clear();
            }
            let seq = state.ledger_seq.unwrap_or(0) + 1;
            let IndexNote { part, round } = machine
                .reminders
                .note(seq, through, |it| it.bytes.len() + 64);
            let ledger = Ledger {
                through,
                left,
                first_part: round.first,
                parts_through: round.through,
                part: part.map(Into::into),
            };
            (state.next_seq(), round, ledger)
        };
        *noted = ledger.through;
        let entry = ledger_entry(seq, ledger);
        let progress = Progress::of(seq - 1, 0);
        let outbox = Some(self.outbox.clone());
        let inbox = self.inbox.clone();
        let head = self.head.clone();
        let waiting = Waiting::new(entry, self.epoch, progress.clone(), inbox, outbox, head);
        self.inbox.put(Input::Record(self.id, waiting));
        let (journal, log, epoch) = (self.journal.clone(), self.log.clone(), self.epoch);
        Some(Box::pin(async move {
            progress.settled().await;
            if progress.failed().is_some() {
                return Over::Noted(None);
            }
            if round.first > 1 {
                let (shard, needless) = (EntityId::of_shard(), round.first - 1);
                let forgotten = journal.forget(&log, epoch, &shard, needless, true).await;
                if let Err(error) = forgotten {
                    tracing::debug!(%log, %error, "old ledgers stay until the next one");
                }
            }
            Over::Noted(Some(round))
        }))
    }
}

/// The record of the shard that says this.
pub(in crate::persistence) fn ledger_entry(seq: u64, ledger: Ledger) -> Entry {
    let body = RecordBody {
        ledger: Some(ledger),
        ..RecordBody::default()
    };
    let body = match body.encode() {
        Ok(body) => body,
        // Some thousand numbers, and a part of the reminders, which is bounded.
        Err(error) => unreachable!("a ledger is written: {error}"),
    };
    Entry {
        entity: EntityId::of_shard(),
        seq,
        at: wall_clock::millis(),
        body,
        news: ShardNews::default(),
    }
}

fn body(log: &Log, record: &Record) -> Result<RecordBody, JournalError> {
    RecordBody::decode(&record.body).map_err(|error| JournalError::Unusable {
        reason: format!("{log}, record at position {}: {error}", record.position),
    })
}

/// What a record says to the owner of its shard.
fn news(log: &Log, record: &Record) -> Result<ShardNews, JournalError> {
    if record.body.is_empty() {
        return Ok(ShardNews::default());
    }
    let body = body(log, record)?;
    Ok(ShardNews {
        sends: body.sends,
        reminders: body.reminders,
        erases: body.erases,
    })
}
