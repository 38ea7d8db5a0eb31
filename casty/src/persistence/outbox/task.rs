//! The task of an outbox. It begins when a shard comes to this node, to see whether there are
//! sends, and ends if there are none. The first record with sends begins it again.

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

use super::{CourierSlot, Letter, ShardOutbox};
use crate::{
    id::{EntityId, Epoch},
    infra::{deadline::passed, mutants, sync::lock, wall_clock},
    persistence::{
        Journal, JournalError, Log, Page, Record,
        head::Head,
        inbox::{Entry, Inbox, Input, Waiting},
        progress::Progress,
        record_body::RecordBody,
        sends::{Ledger, SendTerms},
    },
    protocol::{
        commit::{Claim, LogId},
        outbox::{Carried, Carry, Outbox, OutboxLimits, Receiver, SendMark},
        projection::check_dense,
    },
};

const LIMITS: OutboxLimits = OutboxLimits {
    window: 64,
    under_way: 1024,
    pause: Duration::from_millis(100),
    pause_max: Duration::from_secs(5),
    pause_max_broken: Duration::from_mins(1),
};

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
    /// Old ledgers are forgotten.
    Forgotten,
}

/// Why the task does not go on with what it knows.
enum Break {
    /// There are no sends, or the shard is not here any more.
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

    /// Reads what is stored of the sends. Returns what the last ledger said.
    async fn read(&mut self) -> Result<u64, Break> {
        self.settled().await?;
        // From here on what is durable is news.
        {
            let state = &mut *lock(&self.outbox.state);
            state.news.clear();
            (state.is_in_doubt, state.machine) = (false, None);
            self.outbox.has_ledger.store(true, Ordering::Release);
        }
        match self.read_ledger().await {
            Ok((seq, ledger)) => {
                self.know(seq, ledger.is_some());
                match ledger {
                    Some(ledger) => self.read_sends(ledger).await,
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
                tracing::error!(%log, reason, "the sends of a shard cannot be read");
                PAUSE_OF_DAMAGE
            }
            JournalError::Unavailable { reason } => {
                tracing::debug!(%log, reason, "the sends of a shard cannot be read now");
                PAUSE
            }
        };
        sleep(pause).await;
        Break::Again
    }

    /// The number of the last record of the shard itself, and what it says.
    async fn read_ledger(&self) -> Result<(u64, Option<Ledger>), JournalError> {
        const PAGE: Page = Page {
            records: 4096,
            bytes: 1024 * 1024,
        };
        let shard = EntityId::of_shard();
        let (mut last, mut ledger) = (0, None);
        loop {
            let page = self
                .journal
                .read_entity(&self.log, &shard, last, PAGE)
                .await?;
            let Some(record) = page.last() else {
                return Ok((last, ledger));
            };
            last = record.seq;
            for record in page.iter().filter(|record| !record.body.is_empty()) {
                ledger = Some(body(&self.log, record)?.ledger.unwrap_or_default());
            }
        }
    }

    /// Reads the records of which some sends are possibly not taken yet.
    async fn read_sends(&mut self, ledger: Ledger) -> Result<u64, Break> {
        let mut machine = Outbox::new(ledger.through, LIMITS);
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
                let letters = match letters(&self.log, &record) {
                    Ok(letters) => letters,
                    Err(error) => return Err(self.pause(error).await),
                };
                machine.handle_left((record.epoch, position), letters);
            }
        }
        if let Err(error) = self.scan(&mut machine, None).await {
            return Err(self.pause(error).await);
        }
        self.outbox.set_machine(machine);
        Ok(ledger.through)
    }

    /// Reads the log on, up to a position, or to what is durable.
    async fn scan(
        &self,
        machine: &mut Outbox<Arc<Letter>>,
        to: Option<u64>,
    ) -> Result<(), JournalError> {
        let durable = self.journal.durable(&self.log).await?;
        let to = [to, durable].into_iter().flatten().min();
        let to = to.unwrap_or(u64::MAX);
        while machine.through() < to {
            let page = Page::default();
            let read = self
                .journal
                .read_log(&self.log, machine.through(), page)
                .await?;
            if read.is_empty() {
                break;
            }
            check_dense(machine.through(), read.iter().map(|record| record.position)).map_err(
                |astray| JournalError::Unusable {
                    reason: format!("{} has lost records: {astray}", self.log),
                },
            )?;
            for record in read.into_iter().take_while(|record| record.position <= to) {
                let letters = letters(&self.log, &record)?;
                machine.handle_record((record.epoch, record.position), letters);
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
            let (carries, deadline) = {
                let state = &mut *lock(&outbox.state);
                let Some(machine) = &mut state.machine else {
                    return Break::Again;
                };
                let carries = machine.take_carries();
                outbox.waiting.store(machine.len(), Ordering::Release);
                (carries, machine.deadline())
            };
            let carries = carries.into_iter().map(|carry| self.carry(carry));
            running.extend(carries);
            running.extend(self.note(&mut noted));
            tokio::select! {
                biased;
                Some(over) = running.next() => self.handle_over(over),
                () = outbox.changed.notified() => {}
                () = passed(deadline, timer.as_mut()) => {
                    if let Some(machine) = &mut lock(&outbox.state).machine {
                        machine.handle_time(Instant::now());
                    }
                }
            }
        }
    }

    fn handle_over(&mut self, over: Over) {
        let Over::Carried {
            to,
            mark,
            round,
            carried,
        } = over
        else {
            return;
        };
        if let Carried::Failed(reason) | Carried::Broken(reason) = &carried {
            let (log, kind, entity) = (&self.log, &to.kind, &to.entity);
            tracing::debug!(%log, %kind, %entity, reason, "a send was not taken; it is tried again");
        }
        let jitter = self.rng.random();
        if let Some(machine) = &mut lock(&self.outbox.state).machine {
            machine.handle_carried(&to, mark, round, carried, (Instant::now(), jitter));
        }
        self.outbox.taken.notify_waiters();
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
                if position <= machine.through() {
                    continue;
                }
                if position > machine.through() + 1 {
                    hole = Some(position - 1);
                    state.news.push_front(record);
                    break;
                }
                let letters = Letter::all(&record.from, record.seq, record.sends);
                machine.handle_record((epoch, position), letters);
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
        let read = self.scan(&mut machine, Some(to)).await;
        let is_read = machine.through() >= to;
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
        } = carry;
        let terms = SendTerms {
            kind: self.log.kind.clone(),
            shard: self.log.shard,
            mark,
            after,
            from: payload.from.clone().into_text(),
            answer: payload.send.answer.clone(),
        };
        let carried = if let Some(courier) = self.courier.get() {
            courier.carry(to.clone(), payload, terms)
        } else {
            let reason = "the node has not started yet".to_owned();
            Box::pin(std::future::ready(Carried::Failed(reason)))
        };
        Box::pin(async move {
            Over::Carried {
                carried: carried.await,
                to,
                mark,
                round,
            }
        })
    }

    /// Writes a ledger, if it is time. The earlier ones are forgotten then.
    fn note(&self, noted: &mut u64) -> Option<BoxFuture<'static, Over>> {
        let (seq, ledger) = {
            let state = &mut *lock(&self.outbox.state);
            let machine = state.machine.as_ref()?;
            let through = machine.through();
            // What it says is not to be most of what is written.
            let pause = LEDGER_EVERY.max(machine.left().len() as u64);
            if state.noting > 0 || through < *noted + pause {
                return None;
            }
            let mut left: Vec<u64> = machine.left().collect();
            if mutants::on("ledgers_leave_nothing") {
                left.clear();
            }
            (state.next_seq(), Ledger { through, left })
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
            if progress.failed().is_none() && seq > 1 {
                let shard = EntityId::of_shard();
                let forgotten = journal.forget(&log, epoch, &shard, seq - 1, true).await;
                if let Err(error) = forgotten {
                    tracing::debug!(%log, %error, "old ledgers stay until the next one");
                }
            }
            Over::Forgotten
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
        // Some thousand numbers.
        Err(error) => unreachable!("a ledger is written: {error}"),
    };
    Entry {
        entity: EntityId::of_shard(),
        seq,
        at: wall_clock::millis(),
        body,
        sends: Vec::new(),
    }
}

fn body(log: &Log, record: &Record) -> Result<RecordBody, JournalError> {
    RecordBody::decode(&record.body).map_err(|error| JournalError::Unusable {
        reason: format!("{log}, record at position {}: {error}", record.position),
    })
}

fn letters(log: &Log, record: &Record) -> Result<Vec<(Receiver, Arc<Letter>)>, JournalError> {
    if record.body.is_empty() {
        return Ok(Vec::new());
    }
    let body = body(log, record)?;
    Ok(Letter::all(&record.entity, record.seq, body.sends))
}
