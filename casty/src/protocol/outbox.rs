//! The sends of one shard of stored entities, on the node that owns it.
//!
//! A send is part of a record, so it exists if and only if the record is durable. It is carried to
//! its receiver, again and again, until the receiver has it in a durable record of its own. The
//! receiver knows a send by its [`SendMark`] and keeps the mark of the last one that it has taken
//! from each shard. Sends to one receiver are carried in order, several at a time: each says which
//! one it follows, so that a receiver that has missed that one turns it away. The first says
//! nothing: all earlier ones are taken (rules S1 to S5 of the design).
//!
//! Time and randomness are passed in. What is to be done is returned.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    id::{EntityId, Epoch},
    infra::{backoff::pause_after, mutants},
};

/// The name of a send, within the log of its source. Marks grow along the log: epochs never fall,
/// and a log that is begun anew has later epochs than the one that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SendMark {
    pub(crate) epoch: Epoch,
    /// The position of the record.
    pub(crate) position: u64,
    /// Its place among the sends of the record.
    pub(crate) index: u32,
}

/// The entity that a send is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Receiver {
    /// The wire name of its type.
    pub(crate) kind: Arc<str>,
    pub(crate) entity: EntityId,
}

/// How much is under way at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxLimits {
    /// To one receiver.
    pub(crate) window: usize,
    /// In all.
    pub(crate) under_way: usize,
    /// The pause before the second try, and the longest one.
    pub(crate) pause: Duration,
    pub(crate) pause_max: Duration,
    /// The longest one while the receiver's handler fails. Each try ends its activation.
    pub(crate) pause_max_broken: Duration,
}

/// A send that is not known to be taken.
#[derive(Debug)]
struct UntakenSend<P> {
    mark: SendMark,
    payload: P,
    /// The receiver is to take it without handling it.
    is_given_up: bool,
}

/// The sends to one receiver, in the order of their marks.
#[derive(Debug)]
struct Queue<P> {
    sends: VecDeque<UntakenSend<P>>,
    /// How many of them are under way: the first ones.
    sent: usize,
    /// The number of the present try. An earlier one that fails is no news.
    round: u64,
    /// How many tries have failed since the last send was taken.
    failures: u32,
    again_at: Option<Instant>,
    reason: Option<String>,
}

impl<P> Queue<P> {
    const fn new() -> Self {
        Self {
            sends: VecDeque::new(),
            sent: 0,
            round: 0,
            failures: 0,
            again_at: None,
            reason: None,
        }
    }
}

/// A send that is to be carried now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Carry<P> {
    pub(crate) to: Receiver,
    pub(crate) mark: SendMark,
    /// The send to the same receiver before it, if that may not be taken yet.
    pub(crate) after: Option<SendMark>,
    /// To be given back with what becomes of it.
    pub(crate) round: u64,
    pub(crate) payload: P,
    /// The receiver is to take it without handling it.
    pub(crate) is_given_up: bool,
}

/// What became of a send that was carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// The receiver has it in a durable record, or had it before.
    Taken,
    /// The receiver knows nothing of it. Of a reminder: it was handled, or is forgotten.
    Void,
    /// It is not known whether it is taken, or it is not. It is tried again.
    Failed(String),
    /// The handler of the receiver has failed. It is tried again, less often.
    Broken(String),
}

/// What waits for one receiver, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingSends {
    pub(crate) to: Receiver,
    pub(crate) sends: usize,
    pub(crate) first: SendMark,
    pub(crate) failures: u32,
    pub(crate) reason: Option<String>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Outbox<P> {
    limits: OutboxLimits,
    /// The position of the last record whose sends it knows.
    through: u64,
    queues: BTreeMap<Receiver, Queue<P>>,
    /// How many sends of each record are not taken.
    positions: BTreeMap<u64, usize>,
    /// The sum of them.
    len: usize,
    under_way: usize,
    /// Receivers that have something to be sent.
    ready: BTreeSet<Receiver>,
    pauses: BTreeSet<(Instant, Receiver)>,
}

// ---- Inputs.

impl<P: Clone> Outbox<P> {
    /// All sends of the records up to `through` are taken, but for those that
    /// [`handle_left`](Self::handle_left) tells of.
    pub(crate) fn new(through: u64, limits: OutboxLimits) -> Self {
        Self {
            limits,
            through,
            queues: BTreeMap::new(),
            positions: BTreeMap::new(),
            len: 0,
            under_way: 0,
            ready: BTreeSet::new(),
            pauses: BTreeSet::new(),
        }
    }

    /// A record up to [`through`](Self::through) whose sends may not be taken. In the order of the
    /// positions, before any later record.
    pub(crate) fn handle_left(
        &mut self,
        (epoch, position): (Epoch, u64),
        sends: Vec<(Receiver, P)>,
    ) {
        self.add((epoch, position), sends);
    }

    /// A durable record, the one after [`through`](Self::through).
    pub(crate) fn handle_record(
        &mut self,
        (epoch, position): (Epoch, u64),
        sends: Vec<(Receiver, P)>,
    ) {
        debug_assert_eq!(position, self.through + 1, "records come in order");
        self.through = position;
        self.add((epoch, position), sends);
    }

    fn add(&mut self, (epoch, position): (Epoch, u64), sends: Vec<(Receiver, P)>) {
        for (index, (to, payload)) in (0..).zip(sends) {
            let mark = SendMark {
                epoch,
                position,
                index: if mutants::on("sends_of_a_record_have_one_mark") {
                    0
                } else {
                    index
                },
            };
            let queue = self.queues.entry(to.clone()).or_insert_with(Queue::new);
            queue.sends.push_back(UntakenSend {
                mark,
                payload,
                is_given_up: false,
            });
            *self.positions.entry(position).or_default() += 1;
            self.len += 1;
            if queue.again_at.is_none() {
                self.ready.insert(to);
            }
        }
    }

    /// What became of a send.
    pub(crate) fn handle_carried(
        &mut self,
        to: &Receiver,
        mark: SendMark,
        round: u64,
        carried: Carried,
        (now, jitter): (Instant, f64),
    ) {
        self.under_way = self.under_way.saturating_sub(1);
        match carried {
            Carried::Taken => self.handle_taken(to, mark),
            Carried::Void => {
                let reason = "its receiver says that it is no send".to_owned();
                self.handle_failed(to, round, (reason, self.limits.pause_max), now, jitter);
            }
            Carried::Failed(reason) => {
                let max = self.limits.pause_max;
                self.handle_failed(to, round, (reason, max), now, jitter);
            }
            Carried::Broken(reason) => {
                let max = self.limits.pause_max_broken;
                self.handle_failed(to, round, (reason, max), now, jitter);
            }
        }
    }

    /// The receiver has this one, and so all before it.
    fn handle_taken(&mut self, to: &Receiver, mark: SendMark) {
        let Some(queue) = self.queues.get_mut(to) else {
            return;
        };
        let mut is_news = false;
        while let Some(taken) = queue.sends.pop_front_if(|first| first.mark <= mark) {
            is_news = true;
            queue.sent = queue.sent.saturating_sub(1);
            let position = taken.mark.position;
            self.len -= 1;
            if let Some(left) = self.positions.get_mut(&position) {
                *left -= 1;
                if *left == 0 {
                    self.positions.remove(&position);
                }
            }
        }
        if is_news {
            (queue.failures, queue.reason) = (0, None);
            if let Some(at) = queue.again_at.take() {
                self.pauses.remove(&(at, to.clone()));
            }
        }
        if queue.sends.is_empty() {
            self.queues.remove(to);
            self.ready.remove(to);
        } else if queue.again_at.is_none() {
            self.ready.insert(to.clone());
        }
    }

    fn handle_failed(
        &mut self,
        to: &Receiver,
        round: u64,
        (reason, pause_max): (String, Duration),
        now: Instant,
        jitter: f64,
    ) {
        let Some(queue) = self.queues.get_mut(to) else {
            return;
        };
        if queue.round != round {
            return;
        }
        // What was sent after it is turned away, unless it has arrived all the same.
        queue.round += 1;
        queue.sent = 0;
        queue.reason = Some(reason);
        let is_given_up = queue.sends.front().is_some_and(|it| it.is_given_up);
        let pause_max = if is_given_up {
            self.limits.pause
        } else {
            pause_max
        };
        let at = now + pause_after(queue.failures, self.limits.pause, pause_max, jitter);
        queue.failures += 1;
        queue.again_at = Some(at);
        self.pauses.insert((at, to.clone()));
        self.ready.remove(to);
    }

    /// An operator gives up the first send to a receiver: it is taken without being handled. What
    /// was sent after it goes on. Returns it. `None`: no try of it has failed.
    ///
    /// Whether it is given up is not stored. A later owner of the shard is to be told again.
    pub(crate) fn give_up(&mut self, to: &Receiver) -> Option<P> {
        let queue = self.queues.get_mut(to).filter(|it| it.failures > 0)?;
        let first = queue.sends.front_mut()?;
        first.is_given_up = true;
        let payload = first.payload.clone();
        if let Some(at) = queue.again_at.take() {
            self.pauses.remove(&(at, to.clone()));
            self.ready.insert(to.clone());
        }
        Some(payload)
    }

    pub(crate) fn handle_time(&mut self, now: Instant) {
        while let Some((at, _)) = self.pauses.first()
            && *at <= now
        {
            let Some((_, to)) = self.pauses.pop_first() else {
                return;
            };
            if let Some(queue) = self.queues.get_mut(&to) {
                queue.again_at = None;
                self.ready.insert(to);
            }
        }
    }
}

// ---- What follows.

impl<P: Clone> Outbox<P> {
    /// What is to be carried now.
    pub(crate) fn take_carries(&mut self) -> Vec<Carry<P>> {
        let mut carries = Vec::new();
        let mut rest = BTreeSet::new();
        for to in std::mem::take(&mut self.ready) {
            let Some(queue) = self.queues.get_mut(&to) else {
                continue;
            };
            // After a failure one goes first, to see whether it arrives.
            let window = if queue.failures > 0 {
                1
            } else {
                self.limits.window
            };
            while queue.sent < window.min(queue.sends.len()) {
                if self.under_way >= self.limits.under_way {
                    rest.insert(to.clone());
                    break;
                }
                let before = queue.sent.checked_sub(1).map(|it| queue.sends[it].mark);
                let UntakenSend {
                    mark,
                    payload,
                    is_given_up,
                } = &queue.sends[queue.sent];
                carries.push(Carry {
                    to: to.clone(),
                    mark: *mark,
                    after: before.filter(|_| !mutants::on("sends_say_nothing_of_earlier_ones")),
                    round: queue.round,
                    payload: payload.clone(),
                    is_given_up: *is_given_up,
                });
                queue.sent += 1;
                self.under_way += 1;
            }
        }
        self.ready = rest;
        carries
    }

    /// When [`handle_time`](Self::handle_time) is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pauses.first().map(|(at, _)| *at)
    }

    /// The position of the last record whose sends it knows.
    pub(crate) fn through(&self) -> u64 {
        self.through
    }

    /// The positions of the records with sends that are not known to be taken.
    pub(crate) fn left(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.positions.keys().copied()
    }

    /// Whether a send of this kind is not known to be taken.
    pub(crate) fn any_left(&self, is_it: impl Fn(&P) -> bool) -> bool {
        let mut sends = self.queues.values().flat_map(|queue| &queue.sends);
        sends.any(|send| is_it(&send.payload))
    }

    /// How many sends are not known to be taken.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What waits for each receiver.
    pub(crate) fn waiting(&self) -> Vec<WaitingSends> {
        let waiting = self.queues.iter().filter_map(|(to, queue)| {
            Some(WaitingSends {
                to: to.clone(),
                sends: queue.sends.len(),
                first: queue.sends.front()?.mark,
                failures: queue.failures,
                reason: queue.reason.clone(),
            })
        });
        waiting.collect()
    }
}

/// What a receiver does with a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// It is handled, and its record has its mark.
    New,
    /// It was handled. That is said once the record of it is durable.
    Repeat,
    /// One before it has not come.
    Gap,
}

/// S2: `known` is the mark of the last send that the receiver has taken from the same shard.
pub(crate) fn judge(known: Option<SendMark>, mark: SendMark, after: Option<SendMark>) -> Judged {
    if known.is_some_and(|known| mark <= known) && !mutants::on("repeated_sends_are_handled") {
        return Judged::Repeat;
    }
    if after.is_some_and(|after| known.is_none_or(|known| known < after)) {
        return Judged::Gap;
    }
    Judged::New
}

#[cfg(test)]
mod tests;
