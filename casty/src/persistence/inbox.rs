//! What a node hands over to its committer.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

#[cfg(feature = "metrics")]
use crate::persistence::commit_meter::CommitMeter;
use crate::{
    id::{EntityId, Epoch},
    infra::sync::lock,
    persistence::{
        Log, Record,
        head::Head,
        outbox::ShardOutbox,
        progress::{InFlight, NODE_MAX, NotStored, Progress},
        sends::ShardNews,
    },
    protocol::commit::{Claim, LogId, Ticket},
};

/// A record that is to be appended.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) entity: EntityId,
    pub(crate) seq: u64,
    /// Milliseconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) body: Bytes,
    /// What the body says to the owner of the shard.
    pub(crate) news: ShardNews,
}

/// A record in flight. Dropped before it is decided, it fails.
pub(super) struct Waiting {
    entry: Entry,
    epoch: Epoch,
    progress: Arc<Progress>,
    inbox: Arc<Inbox>,
    /// Learns what becomes of it, if the log has sends or reminders.
    outbox: Option<Arc<ShardOutbox>>,
    /// Of the log that it goes to.
    head: Arc<Head>,
    is_decided: bool,
}

impl Waiting {
    pub(super) fn new(
        entry: Entry,
        epoch: Epoch,
        progress: Arc<Progress>,
        inbox: Arc<Inbox>,
        outbox: Option<Arc<ShardOutbox>>,
        head: Arc<Head>,
    ) -> Self {
        let bytes = entry.body.len();
        inbox.in_flight.add(bytes);
        progress.in_flight.add(bytes);
        Self {
            entry,
            epoch,
            progress,
            inbox,
            outbox,
            head,
            is_decided: false,
        }
    }

    /// The activation is notified by `news`.
    pub(super) fn confirm(mut self, position: u64, news: &mut News) {
        self.decide(Ok(position));
        self.head.rise(position);
        news.concern(&self.progress);
    }

    pub(super) fn fail(mut self, why: NotStored) {
        self.decide(Err(why));
        self.progress.changed().notify_waiters();
    }

    /// What the record has come to is known before it is in flight no more, and all of it when the
    /// activation is notified. A reason alone comes after: as long as there is none, the records
    /// that are not durable are undecided.
    fn decide(&mut self, outcome: Result<u64, NotStored>) {
        self.is_decided = true;
        let (bytes, progress) = (self.entry.body.len(), &self.progress);
        let is_ledger = self.entry.entity.is_of_shard();
        match outcome {
            Ok(position) => {
                if let Some(outbox) = &self.outbox {
                    let news = std::mem::take(&mut self.entry.news);
                    let from = &self.entry.entity;
                    outbox.handle_durable((self.epoch, position), from, self.entry.seq, news);
                }
                // A record of the shard may go before one of the activation.
                if !is_ledger {
                    progress.confirm(self.entry.seq, position);
                }
                progress.in_flight.remove(bytes);
            }
            Err(why) => {
                if let Some(outbox) = &self.outbox {
                    outbox.handle_failed(is_ledger, &self.entry.news, why.possibly);
                }
                progress.doubt(why.possibly);
                progress.in_flight.remove(bytes);
                progress.fail(why);
            }
        }
        self.inbox.in_flight.remove(bytes);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.is_decided {
            self.decide(Err(NotStored::new("the node has ended", true)));
            self.progress.changed().notify_waiters();
            self.inbox.freed.notify_waiters();
        }
    }
}

/// The activations that are still to be notified of what is durable: once for all records of one
/// that follow each other, since each notification wakes a task.
#[derive(Default)]
pub(super) struct News(Option<Arc<Progress>>);

impl News {
    fn concern(&mut self, progress: &Arc<Progress>) {
        if let Some(last) = &self.0 {
            if Arc::ptr_eq(last, progress) {
                return;
            }
            last.changed().notify_waiters();
        }
        self.0 = Some(progress.clone());
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some(last) = &self.0 {
            last.changed().notify_waiters();
        }
    }
}

impl Ticket for Waiting {
    type Record = Record;

    fn record(&self, position: u64) -> Record {
        Record {
            position,
            epoch: self.epoch,
            entity: self.entry.entity.clone(),
            seq: self.entry.seq,
            at: self.entry.at,
            body: self.entry.body.clone(),
        }
    }

    fn bytes(&self) -> usize {
        self.entry.body.len()
    }

    fn writer(&self) -> usize {
        Arc::as_ptr(&self.progress).addr()
    }

    fn has_failed(&self) -> bool {
        self.progress.failed().is_some()
    }
}

pub(super) enum Input {
    /// This node owns a shard from now on.
    Opened {
        id: LogId,
        log: Log,
        epoch: Epoch,
        claim: watch::Sender<Claim>,
        head: Arc<Head>,
    },
    /// It has given the shard up.
    Gone(LogId),
    Record(LogId, Waiting),
}

/// The inputs that the committer has not taken yet, and how much is in flight.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    pub(super) queued: Notify,
    pub(super) in_flight: InFlight,
    /// Notified when fewer records are in flight.
    pub(super) freed: Notify,
    /// Cancelled once the committer has ended.
    pub(super) ended: CancellationToken,
    #[cfg(feature = "metrics")]
    pub(super) meter: CommitMeter,
}

#[derive(Default)]
struct InboxState {
    inputs: Vec<Input>,
    /// How many of the inputs are records.
    records: usize,
    /// So many records wake the committer.
    wakes_at: usize,
    logs: u64,
    is_closing: bool,
    has_ended: bool,
}

impl Inbox {
    pub(super) fn put(&self, input: Input) {
        let mut state = lock(&self.state);
        if state.has_ended {
            drop(state);
            refuse(input);
            return self.freed.notify_waiters();
        }
        let is_record = matches!(input, Input::Record(..));
        state.inputs.push(input);
        state.records += usize::from(is_record);
        // At fewer the committer has no use for it, and with more it has been woken.
        let wakes = !is_record || state.records == state.wakes_at.max(1);
        drop(state);
        if wakes {
            self.queued.notify_one();
        }
    }

    /// So many records wake the committer from now on: it can begin nothing with fewer.
    pub(super) fn wake_at(&self, records: usize) {
        let mut state = lock(&self.state);
        state.wakes_at = records.max(1);
        if state.records >= state.wakes_at {
            self.queued.notify_one();
        }
    }

    /// The number of a further log.
    pub(super) fn next_log(&self) -> LogId {
        let mut state = lock(&self.state);
        state.logs += 1;
        LogId(state.logs)
    }

    /// What was put since the last call, and whether the node shuts down.
    pub(super) fn take(&self, into: &mut Vec<Input>) -> bool {
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.inputs, into);
        state.records = 0;
        state.is_closing
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.is_below(&NODE_MAX)
    }

    /// What is queued is written. What comes later fails.
    pub(super) fn close(&self) {
        lock(&self.state).is_closing = true;
        self.queued.notify_one();
    }

    /// The committer ends: nothing is taken any more.
    pub(super) fn end(&self) {
        let left = {
            let mut state = lock(&self.state);
            state.has_ended = true;
            std::mem::take(&mut state.inputs)
        };
        left.into_iter().for_each(refuse);
        self.freed.notify_waiters();
        self.ended.cancel();
    }
}

fn refuse(input: Input) {
    if let Input::Record(_, record) = input {
        record.fail(NotStored::new("the node shuts down", false));
    }
}
