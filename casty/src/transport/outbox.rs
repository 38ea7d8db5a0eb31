//! An outbox holds the frames that wait to be written on a connection, and the messages that were
//! written and not confirmed yet.
//!
//! Senders append finished frames to one of two buffers; the connection's writer takes a whole
//! buffer and writes it at once. Messages are bounded, count against the receiver's window, and are
//! kept until the receiver has confirmed them, so that a lost connection loses none in silence.
//! Replies and control frames go first.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::{
    check,
    frame::{Frame, FrameLength, PREFIX_BYTES, TooLarge},
    lane_meter::LaneMeter,
};
use crate::{
    id::EntityId,
    infra::{mutants, sync::lock},
    message::answer::{Pending, RawAnswer},
};

/// Bytes of messages that may be under way before the receiver has put them into mailboxes.
pub(crate) const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of messages that may wait for the writer. Beyond them senders have to wait.
pub(crate) const MESSAGES_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of messages that the writer takes at a time. More of them wait only where they were
/// accepted before, and their home has become known all at once.
const TAKEN_BYTES_MAX: usize = 2 * MESSAGES_BYTES_MAX;

/// Bytes of urgent frames that may wait for the writer before large replies are refused.
const LARGE_REPLIES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The same, for small replies: an ask with a small answer does not fail because of large ones.
const REPLIES_BYTES_MAX: usize = LARGE_REPLIES_BYTES_MAX + 8 * 1024 * 1024;

/// The same, for all other frames, such as the failures of asks whose replies were refused. A peer
/// that lets so many wait does not read, and its connection is cut.
const URGENT_BYTES_MAX: usize = REPLIES_BYTES_MAX + 8 * 1024 * 1024;

/// Bytes of large replies that may wait in all outboxes of a process, before each further one is
/// refused to a connection that has its share waiting already.
const ALL_LARGE_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Bytes of large replies that wait for one connection, whatever other peers leave unread.
const LARGE_SHARE_BYTES: usize = 1024 * 1024;

/// Replies with more bytes are large.
const SMALL_REPLY_BYTES_MAX: usize = 16 * 1024;

/// The largest buffer that is kept for later messages. Each connection keeps at most one.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// Why a frame was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutError {
    Full,
    TooLarge { bytes: usize },
}

impl From<TooLarge> for PutError {
    fn from(TooLarge { bytes }: TooLarge) -> Self {
        Self::TooLarge { bytes }
    }
}

/// Whether a message may be turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Its sender waits where there is no room.
    New,
    /// The message was accepted before, and has waited for its home: it is taken beyond the bound.
    Accepted,
}

/// A place for one message in an outbox, which is locked until then.
#[must_use = "a message is appended by `put`"]
pub(crate) struct Place<'a> {
    state: MutexGuard<'a, State>,
    frame: &'a Frame<'a>,
    length: FrameLength,
}

impl Place<'_> {
    /// Appends the message. Where an asker waits for the answer, the frame gets a correlation of
    /// its own.
    pub(crate) fn put(mut self, pending: Option<Box<dyn Pending>>) {
        match pending {
            None => self
                .frame
                .put_checked(self.length, &mut self.state.messages),
            Some(pending) => self.put_ask(pending),
        }
        let writer = self.state.writer.take();
        drop(self.state);
        wake(writer);
    }

    fn put_ask(&mut self, pending: Box<dyn Pending>) {
        let state = &mut *self.state;
        state.last_correlation += 1;
        let number = state.last_correlation;
        let mut frame = *self.frame;
        let epoch = match &mut frame {
            Frame::Entity(frame) => {
                frame.correlation = number;
                frame.epoch
            }
            Frame::Actor { correlation, .. } => {
                *correlation = number;
                0
            }
            _ => 0,
        };
        state.pending.insert(number, (epoch, pending));
        frame.put_checked(self.length, &mut state.messages);
    }
}

/// A lost message: enough of it to write its dead letter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LostMessage {
    pub(crate) correlation: u64,
    pub(crate) to: LostTo,
    pub(crate) message: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LostTo {
    Entity { kind: u16, id: EntityId },
    Actor(u64),
}

/// The messages that were lost with a connection.
#[derive(Default)]
pub(crate) struct Lost {
    /// Tells that were written and never confirmed.
    pub(crate) told: Vec<LostMessage>,
    /// Asks without an answer.
    pub(crate) asked: Vec<Box<dyn Pending>>,
    /// Messages that the peer certainly did not read, since it left in order.
    pub(crate) returned: Vec<Returned>,
}

/// A message that may be sent to another node.
pub(crate) struct Returned {
    /// The frame, without its prefix.
    pub(crate) frame: Bytes,
    pub(crate) pending: Option<Box<dyn Pending>>,
}

#[derive(Clone, Default)]
pub(crate) struct Outbox(Arc<Shared>);

/// Bytes of large replies that wait in all outboxes of a process, those that are being written
/// included: its peers could let each connection wait to its own bound.
#[derive(Clone, Default)]
pub(crate) struct LargeReplies(Arc<AtomicUsize>);

impl LargeReplies {
    fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Of its lane, if it is a link's.
    meter: Option<Arc<LaneMeter>>,
    /// The peer may have placed all that was written.
    confirmed: Notify,
    /// There may be room again.
    room: Notify,
}

/// The askers by correlation, each with the epoch of its message.
type Waiting = std::collections::HashMap<u64, (u64, Box<dyn Pending>), foldhash::fast::RandomState>;

#[derive(Default)]
struct State {
    urgent: BytesMut,
    messages: BytesMut,
    /// The sum over all outboxes, where this one is counted; and its share of it, by whether it
    /// waits for the writer or was taken by it.
    all_large: Option<LargeReplies>,
    large_waiting: usize,
    large_taken: usize,
    /// Totals of this connection, in bytes of messages.
    sent: u64,
    received: u64,
    granted: u64,
    /// The peer has sent its goodbye: `received` is final.
    goodbye: bool,
    /// Frames wait for the next connection.
    held: Option<Held>,
    /// Pings that were queued on this connection, and answers to them.
    pings: u64,
    pongs: u64,
    /// Askers up to this correlation wait for answers on a connection that was replaced.
    retired: u64,
    /// Chunks that were written and not confirmed, oldest first.
    unconfirmed: VecDeque<Bytes>,
    /// The next buffer for messages, once the writer takes the present one. It held messages that
    /// are confirmed by now, so that it need not grow again.
    spare: BytesMut,
    pending: Waiting,
    last_correlation: u64,
    /// The connection's writer, while there is nothing to write.
    writer: Option<Waker>,
}

/// What still goes out on a connection that is about to be replaced.
struct Held {
    /// The last frames, of which a ping is the very last.
    parting: Bytes,
    /// The number of that ping.
    ping: u64,
}

impl State {
    /// Everything that may be written now: urgent frames, then messages if the window is open.
    fn take(&mut self) -> (Bytes, Bytes) {
        if let Some(held) = &mut self.held {
            return (std::mem::take(&mut held.parting), Bytes::new());
        }
        if self.large_taken + self.large_waiting > 0 {
            self.take_large();
        }
        let urgent = if self.urgent.is_empty() {
            Bytes::new()
        } else {
            self.urgent.split().freeze()
        };
        let open = self.sent.saturating_sub(self.granted) < WINDOW_BYTES;
        if !open || self.messages.is_empty() {
            return (urgent, Bytes::new());
        }
        if self.messages.len() > TAKEN_BYTES_MAX {
            let first = self
                .messages
                .split_to(first_frames(&self.messages))
                .freeze();
            self.sent += first.len() as u64;
            self.unconfirmed.push_back(first.clone());
            return (urgent, first);
        }
        // The next messages go into the rest of this buffer, unless the rest is short and there is
        // a spare one.
        let rest = self.messages.capacity() - self.messages.len();
        let messages = if rest < self.messages.len() && self.spare.capacity() > 0 {
            let spare = std::mem::take(&mut self.spare);
            std::mem::replace(&mut self.messages, spare).freeze()
        } else {
            self.messages.split().freeze()
        };
        self.sent += messages.len() as u64;
        self.unconfirmed.push_back(messages.clone());
        (urgent, messages)
    }

    /// The writer has written what it took before, and takes the rest.
    #[cold]
    fn take_large(&mut self) {
        let written = std::mem::replace(&mut self.large_taken, self.large_waiting);
        self.large_waiting = 0;
        if let Some(all) = &self.all_large {
            all.0.fetch_sub(written, Ordering::Relaxed);
        }
    }

    /// Counts a large reply, if there is room for it.
    #[cold]
    fn add_large(&mut self, bytes: usize) -> Result<(), PutError> {
        let Some(all) = &self.all_large else {
            return Ok(());
        };
        let own = self.large_waiting + self.large_taken;
        let is_crowded = own >= LARGE_SHARE_BYTES && all.bytes() >= ALL_LARGE_BYTES_MAX;
        if is_crowded && !mutants::on("unread_answers_pile_up") {
            return Err(PutError::Full);
        }
        all.0.fetch_add(bytes, Ordering::Relaxed);
        self.large_waiting += bytes;
        Ok(())
    }

    fn has_messages(&self) -> bool {
        !self.messages.is_empty() || !self.urgent.is_empty()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(all) = &self.all_large {
            let own = self.large_waiting + self.large_taken;
            all.0.fetch_sub(own, Ordering::Relaxed);
        }
    }
}

/// The length of the first frames of a long buffer: as many as are taken at a time, and at least
/// one.
fn first_frames(buffer: &[u8]) -> usize {
    let mut end = 0;
    while let Some(Ok(length)) = buffer[end..].first_chunk().map(|at| check::length(*at)) {
        let next = end + PREFIX_BYTES + length;
        if end > 0 && next > TAKEN_BYTES_MAX {
            break;
        }
        end = next;
    }
    end
}

fn wake(writer: Option<Waker>) {
    if let Some(writer) = writer {
        writer.wake();
    }
}

impl Outbox {
    /// A place for a message in the queue for the writer.
    ///
    /// The outbox is locked until the place is filled or dropped: encode the message before.
    ///
    /// # Errors
    /// [`PutError::Full`] where there is no room for a new message, [`PutError::TooLarge`] for a
    /// frame that no peer accepts. A message with a place is certain to be appended.
    pub(crate) fn reserve<'a>(
        &'a self,
        frame: &'a Frame<'a>,
        admission: Admission,
    ) -> Result<Place<'a>, PutError> {
        let length = frame.check()?;
        let state = lock(&self.0.state);
        if state.messages.len() >= MESSAGES_BYTES_MAX && admission == Admission::New {
            return Err(PutError::Full);
        }
        Ok(Place {
            state,
            frame,
            length,
        })
    }

    /// Appends a frame that goes before all messages.
    ///
    /// # Errors
    /// [`PutError::Full`] where too many bytes wait for a frame of this kind,
    /// [`PutError::TooLarge`] for a frame that no peer accepts.
    pub(crate) fn put_urgent(&self, frame: Frame<'_>) -> Result<(), PutError> {
        let bytes_max = match &frame {
            Frame::Reply { payload, .. } if payload.len() > SMALL_REPLY_BYTES_MAX => {
                LARGE_REPLIES_BYTES_MAX
            }
            Frame::Reply { .. } => REPLIES_BYTES_MAX,
            _ => URGENT_BYTES_MAX,
        };
        let mut state = lock(&self.0.state);
        if state.urgent.len() >= bytes_max {
            return Err(PutError::Full);
        }
        if matches!(&frame, Frame::Reply { payload, .. } if payload.len() > SMALL_REPLY_BYTES_MAX) {
            frame.check()?;
            state.add_large(frame.wire_bytes())?;
        }
        frame.put(&mut state.urgent)?;
        if matches!(frame, Frame::Ping) {
            state.pings += 1;
        }
        let writer = state.writer.take();
        drop(state);
        wake(writer);
        Ok(())
    }

    /// Counts the large replies of this outbox in a sum over many.
    pub(crate) fn count_in(&self, all: LargeReplies) {
        lock(&self.0.state).all_large.get_or_insert(all);
    }

    /// Bytes of urgent frames that wait for the writer.
    pub(crate) fn urgent_bytes(&self) -> usize {
        lock(&self.0.state).urgent.len()
    }

    /// Everything that may be written now: urgent frames, then messages if the window is open.
    pub(crate) fn take(&self) -> (Bytes, Bytes) {
        let taken = lock(&self.0.state).take();
        self.count(&taken);
        self.tell_of_room(&taken.1);
        taken
    }

    /// As [`take`](Self::take), once there is something to write. Only one task may wait for it.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<(Bytes, Bytes)> {
        let mut state = lock(&self.0.state);
        let taken = state.take();
        if taken.0.is_empty() && taken.1.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.count(&taken);
        self.tell_of_room(&taken.1);
        Poll::Ready(taken)
    }

    /// One whose bytes are counted.
    pub(super) fn metered(meter: Arc<LaneMeter>) -> Self {
        Self(Arc::new(Shared {
            meter: Some(meter),
            ..Shared::default()
        }))
    }

    fn count(&self, (urgent, messages): &(Bytes, Bytes)) {
        if let Some(meter) = &self.0.meter {
            meter.writes(urgent.len() + messages.len());
        }
    }

    fn tell_of_room(&self, messages: &Bytes) {
        if !messages.is_empty() {
            self.0.room.notify_waiters();
        }
    }

    /// Resolves when there is something to write, whether or not the window is open.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn work(&self) {
        poll_fn(|cx| {
            let mut state = lock(&self.0.state);
            if state.has_messages() {
                return Poll::Ready(());
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Resolves when there may be room for a message that found none.
    pub(crate) async fn room(&self) {
        let notified = self.0.room.notified();
        if lock(&self.0.state).messages.len() < MESSAGES_BYTES_MAX {
            return;
        }
        notified.await;
    }

    /// The receiver's totals: the bytes of messages that it has read, and those that it has placed.
    pub(crate) fn confirm(&self, received: u64, granted: u64) {
        let mut state = lock(&self.0.state);
        let total = state.sent;
        state.granted = state.granted.max(granted.min(total));
        state.received = state.received.max(received.min(total));
        let mut unconfirmed: u64 = state
            .unconfirmed
            .iter()
            .map(|chunk| chunk.len() as u64)
            .sum();
        while let Some(front) = state.unconfirmed.front() {
            let start = total - unconfirmed;
            let end = start + front.len() as u64;
            if end > state.received {
                break;
            }
            unconfirmed -= front.len() as u64;
            let confirmed = state.unconfirmed.pop_front().map(Bytes::try_into_mut);
            if let Some(Ok(mut confirmed)) = confirmed
                && confirmed.capacity() > state.spare.capacity()
                && confirmed.capacity() <= SPARE_BYTES_MAX
            {
                confirmed.clear();
                state.spare = confirmed;
            }
        }
        let writer = state.writer.take();
        let is_waited_for = state.held.is_some();
        drop(state);
        wake(writer);
        if is_waited_for {
            self.0.confirmed.notify_waiters();
        }
    }

    /// The peer has answered a ping.
    pub(crate) fn handle_pong(&self) {
        let mut state = lock(&self.0.state);
        state.pongs += 1;
        let is_waited_for = state.held.is_some();
        drop(state);
        if is_waited_for {
            self.0.confirmed.notify_waiters();
        }
    }

    /// Keeps frames back until the peer has handled all that were written, and has placed all
    /// messages among them: then others can go on over another connection, and none overtakes
    /// another.
    ///
    /// # Cancel safety
    /// After a dropped future, frames are kept back until [`release`](Self::release) or the end of
    /// the connection.
    pub(crate) async fn settle(&self) {
        {
            let mut state = lock(&self.0.state);
            // The answer also tells what the peer has placed. A ping is never too large.
            let _ = Frame::Ping.put(&mut state.urgent);
            state.pings += 1;
            state.held = Some(Held {
                parting: state.urgent.split().freeze(),
                ping: state.pings,
            });
            let writer = state.writer.take();
            drop(state);
            wake(writer);
        }
        loop {
            let confirmed = self.0.confirmed.notified();
            {
                let state = lock(&self.0.state);
                let is_handled = |held: &Held| state.pongs >= held.ping;
                let is_placed = state.granted == state.sent && state.unconfirmed.is_empty();
                if mutants::on("replaced_at_once") {
                    return;
                }
                if is_placed && state.held.as_ref().is_none_or(is_handled) {
                    return;
                }
            }
            confirmed.await;
        }
    }

    /// Lets frames go on over this connection.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.0.state);
        if let Some(Held { parting, .. }) = state.held.take()
            && !parting.is_empty()
        {
            let later = state.urgent.split();
            state.urgent.extend_from_slice(&parting);
            state.urgent.unsplit(later);
        }
        let writer = state.writer.take();
        drop(state);
        wake(writer);
    }

    /// The next connection replaces one that has [settled](Self::settle). Askers of written
    /// messages go on waiting for answers on the old one: those up to the correlation that is
    /// returned.
    pub(crate) fn replace(&self) -> u64 {
        let mut state = lock(&self.0.state);
        let unsent = super::frame::frames(&state.messages)
            .filter_map(|frame| lost_message(&frame))
            .map(|message| message.correlation);
        let first = unsent.filter(|correlation| *correlation > 0).min();
        state.retired = first.map_or(state.last_correlation, |first| first - 1);
        (state.sent, state.received, state.granted) = (0, 0, 0);
        let held = state.held.take();
        // Those that wait go out on the next connection.
        state.pings -= held.map_or(0, |held| held.ping.min(state.pings));
        state.pongs = 0;
        state.retired
    }

    /// Whether an asker up to this correlation waits.
    pub(crate) fn waits_up_to(&self, last: u64) -> bool {
        let state = lock(&self.0.state);
        state.pending.keys().any(|asked| *asked <= last)
    }

    /// A connection that was replaced has ended. Returns the askers up to this correlation, which
    /// waited for its answers.
    pub(crate) fn end_retired(&self, last: u64) -> Lost {
        let mut state = lock(&self.0.state);
        if state.retired == last {
            state.retired = 0;
        }
        let over = state.pending.extract_if(|asked, _| *asked <= last);
        let over: Waiting = over.collect();
        drop(state);
        Lost {
            asked: in_order(over),
            ..Lost::default()
        }
    }

    /// The peer has read this many bytes of messages, and will read no more.
    pub(crate) fn goodbye(&self, received: u64) {
        self.confirm(received, received);
        lock(&self.0.state).goodbye = true;
    }

    /// Takes the asker that waits for this answer, with the epoch of its message.
    pub(crate) fn answered(&self, correlation: u64) -> Option<(u64, Box<dyn Pending>)> {
        lock(&self.0.state).pending.remove(&correlation)
    }

    /// Forgets the asks whose askers wait no more. Returns their correlations.
    pub(crate) fn forget_given_up(&self) -> Vec<u64> {
        let mut state = lock(&self.0.state);
        let over = state
            .pending
            .extract_if(|_, (_, asker)| asker.is_given_up());
        let over: Vec<_> = over.collect();
        drop(state);
        // The askers are dropped here, where nothing is locked.
        over.into_iter()
            .map(|(correlation, _)| correlation)
            .collect()
    }

    /// The connection is lost. Messages that were never written stay for the next connection.
    pub(crate) fn connection_lost(&self) -> Lost {
        let mut state = lock(&self.0.state);
        let mut lost = Lost::default();
        let unconfirmed = std::mem::take(&mut state.unconfirmed);
        let (received, sent) = (state.received, state.sent);
        let mut at = sent
            - unconfirmed
                .iter()
                .map(|chunk| chunk.len() as u64)
                .sum::<u64>();
        let goodbye = std::mem::take(&mut state.goodbye);
        for bytes in unconfirmed.into_iter().flat_map(super::frame::split) {
            at += (PREFIX_BYTES + bytes.len()) as u64;
            // A chunk may be confirmed in part.
            if at <= received {
                continue;
            }
            let Some(message) = super::frame::parse(&bytes)
                .ok()
                .and_then(|frame| lost_message(&frame))
            else {
                continue;
            };
            if goodbye {
                let pending = state.pending.remove(&message.correlation);
                let pending = pending.map(|(_, pending)| pending);
                // Without its asker, a message is not sent again.
                if message.correlation == 0 || pending.is_some() {
                    lost.returned.push(Returned {
                        frame: bytes,
                        pending,
                    });
                }
            } else if message.correlation == 0 {
                lost.told.push(message);
            }
        }
        let unsent: Vec<u64> = super::frame::frames(&state.messages)
            .filter_map(|frame| lost_message(&frame))
            .map(|message| message.correlation)
            .collect();
        let mut answered_never = std::mem::take(&mut state.pending);
        for correlation in unsent {
            if let Some(pending) = answered_never.remove(&correlation) {
                state.pending.insert(correlation, pending);
            }
        }
        let retired = state.retired;
        let waiting = answered_never.extract_if(|asked, _| *asked <= retired);
        state.pending.extend(waiting);
        lost.asked = in_order(answered_never);
        state.urgent.clear();
        (state.sent, state.received, state.granted) = (0, 0, 0);
        (state.held, state.pings, state.pongs) = (None, 0, 0);
        lost
    }

    /// Takes back the messages that were never written.
    pub(crate) fn take_back(&self) -> Lost {
        let mut state = lock(&self.0.state);
        let messages = state.messages.split().freeze();
        state.urgent.clear();
        let mut lost = Lost::default();
        for frame in super::frame::split(messages) {
            let correlation = super::frame::parse(&frame)
                .ok()
                .and_then(|frame| lost_message(&frame))
                .map_or(0, |message| message.correlation);
            let pending = state.pending.remove(&correlation);
            let pending = pending.map(|(_, pending)| pending);
            if correlation == 0 || pending.is_some() {
                lost.returned.push(Returned { frame, pending });
            }
        }
        lost.asked = in_order(std::mem::take(&mut state.pending));
        drop(state);
        self.0.room.notify_waiters();
        lost
    }

    /// Gives up the messages that were never written.
    pub(crate) fn give_up(&self) -> Lost {
        let mut state = lock(&self.0.state);
        let messages = state.messages.split().freeze();
        state.urgent.clear();
        let told = super::frame::frames(&messages)
            .filter_map(|frame| lost_message(&frame))
            .filter(|message| message.correlation == 0)
            .collect();
        let asked = in_order(std::mem::take(&mut state.pending));
        drop(state);
        self.0.room.notify_waiters();
        Lost {
            told,
            asked,
            returned: Vec::new(),
        }
    }
}

/// In the order of their correlations, so that equal runs fail in equal order.
fn in_order(pending: Waiting) -> Vec<Box<dyn Pending>> {
    let mut pending: Vec<_> = pending.into_iter().collect();
    pending.sort_unstable_by_key(|(correlation, _)| *correlation);
    let waiting = pending.into_iter();
    waiting.map(|(_, (_, pending))| pending).collect()
}

pub(crate) fn lost_message(frame: &Frame<'_>) -> Option<LostMessage> {
    let (correlation, to, payload) = match frame {
        Frame::Entity(frame) => {
            let to = LostTo::Entity {
                kind: frame.kind,
                id: EntityId::new(frame.id),
            };
            (frame.correlation, to, frame.payload)
        }
        Frame::Actor {
            actor,
            correlation,
            chain: _,
            payload,
        } => (*correlation, LostTo::Actor(*actor), *payload),
        _ => return None,
    };
    let message = crate::message::codec::variant_name(payload)
        .unwrap_or("?")
        .to_owned();
    Some(LostMessage {
        correlation,
        to,
        message,
    })
}

impl Lost {
    /// Fails all askers.
    pub(crate) fn fail_askers(&mut self, failure: &crate::error::Failure) {
        for pending in self.asked.drain(..) {
            pending.complete(RawAnswer::Failed(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Failure;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<&'static str>>>);

    struct Waits(&'static str, Log);

    impl Pending for Waits {
        fn complete(self: Box<Self>, _: RawAnswer) {
            lock(&self.1.0).push(self.0);
        }
    }

    fn tell(outbox: &Outbox, actor: u64) -> Result<(), PutError> {
        let frame = Frame::actor(actor, &[], b"\xa4ping");
        outbox.reserve(&frame, Admission::New)?.put(None);
        Ok(())
    }

    fn ask(outbox: &Outbox, name: &'static str, log: &Log) {
        let frame = Frame::actor(9, &[], b"");
        let waits = Box::new(Waits(name, log.clone()));
        let place = outbox.reserve(&frame, Admission::New).unwrap();
        place.put(Some(waits));
    }

    fn told(lost: &Lost) -> Vec<&LostTo> {
        lost.told.iter().map(|message| &message.to).collect()
    }

    #[test]
    fn only_unconfirmed_messages_are_lost_with_a_connection() {
        let outbox = Outbox::default();
        tell(&outbox, 1).unwrap();
        tell(&outbox, 2).unwrap();
        let (_, first) = outbox.take();
        tell(&outbox, 3).unwrap();
        outbox.take();
        tell(&outbox, 4).unwrap();
        // The receiver has read the first frame, half of the first chunk.
        outbox.confirm(first.len() as u64 / 2, 0);
        let lost = outbox.connection_lost();
        assert_eq!(told(&lost), [&LostTo::Actor(2), &LostTo::Actor(3)]);
        assert_eq!(lost.told[0].message, "ping");
        // The fourth was not written: it goes out on the next connection.
        assert_eq!(super::super::frame::frames(&outbox.take().1).count(), 1);
    }

    #[test]
    fn an_asker_is_found_with_the_epoch_it_asked_under_and_once() {
        let (outbox, log) = (Outbox::default(), Log::default());
        let frame = Frame::Entity(super::super::frame::EntityFrame {
            kind: 0,
            hops: 0,
            epoch: 7,
            correlation: 0,
            id: "x",
            chain: &[],
            payload: b"",
        });
        let waits = Box::new(Waits("asked", log.clone()));
        let place = outbox.reserve(&frame, Admission::New).unwrap();
        place.put(Some(waits));
        let (epoch, _) = outbox.answered(1).unwrap();
        assert_eq!(epoch, 7);
        assert!(outbox.answered(1).is_none());
    }

    #[test]
    fn askers_whose_message_was_not_written_go_on_waiting() {
        let (outbox, log) = (Outbox::default(), Log::default());
        ask(&outbox, "written", &log);
        outbox.take();
        ask(&outbox, "unwritten", &log);
        let failure = Failure::Stopped;
        outbox.connection_lost().fail_askers(&failure);
        assert_eq!(*lock(&log.0), ["written"]);
        outbox.give_up().fail_askers(&failure);
        assert_eq!(*lock(&log.0), ["written", "unwritten"]);
        assert!(!lock(&outbox.0.state).has_messages());
    }

    #[test]
    fn an_asker_is_lost_even_if_its_message_was_confirmed() {
        let (outbox, log) = (Outbox::default(), Log::default());
        ask(&outbox, "a", &log);
        let (_, chunk) = outbox.take();
        outbox.confirm(chunk.len() as u64, chunk.len() as u64);
        outbox.connection_lost().fail_askers(&Failure::Stopped);
        assert_eq!(*lock(&log.0), ["a"]);
    }

    #[test]
    fn messages_wait_while_the_window_is_shut_and_replies_do_not() {
        let outbox = Outbox::default();
        let big = vec![0; usize::try_from(WINDOW_BYTES).unwrap()];
        let frame = Frame::actor(1, &[], &big);
        outbox.reserve(&frame, Admission::New).unwrap().put(None);
        let sent = outbox.take().1.len() as u64;
        tell(&outbox, 2).unwrap();
        outbox.put_urgent(Frame::Ping).unwrap();
        let (urgent, messages) = outbox.take();
        assert!(!urgent.is_empty() && messages.is_empty());
        outbox.confirm(sent, sent);
        assert!(!outbox.take().1.is_empty());
    }

    #[test]
    fn a_full_buffer_refuses_new_messages_and_takes_accepted_ones() {
        let outbox = Outbox::default();
        let mut count = 0;
        while tell(&outbox, 1).is_ok() {
            count += 1;
        }
        assert!(count > 1000);
        assert_eq!(tell(&outbox, 1), Err(PutError::Full));
        let frame = Frame::actor(1, &[], b"");
        let waiting = lock(&outbox.0.state).messages.len();
        outbox
            .reserve(&frame, Admission::Accepted)
            .unwrap()
            .put(None);
        assert!(lock(&outbox.0.state).messages.len() > waiting);
    }

    #[test]
    fn large_replies_leave_room_for_small_ones_and_replies_for_failures() {
        let outbox = Outbox::default();
        let mib = vec![0; 1024 * 1024];
        let reply = |payload| {
            outbox.put_urgent(Frame::Reply {
                correlation: 1,
                epoch: 0,
                payload,
            })
        };
        let mut large = 0;
        while reply(&mib).is_ok() {
            large += 1;
        }
        assert_eq!(large, 64);
        assert_eq!(reply(&mib), Err(PutError::Full));
        let mut small = 0;
        while reply(&mib[..SMALL_REPLY_BYTES_MAX]).is_ok() {
            small += 1;
        }
        assert!(small > 400, "{small}");
        outbox.put_urgent(Frame::Ping).unwrap();
        // What waited is being written: there is room again.
        assert!(outbox.take().0.len() < URGENT_BYTES_MAX);
        reply(&mib).unwrap();
    }

    #[test]
    fn a_place_that_is_not_used_leaves_everything_as_it_was() {
        let (outbox, log) = (Outbox::default(), Log::default());
        let frame = Frame::actor(1, &[], b"");
        drop(outbox.reserve(&frame, Admission::New).unwrap());
        assert!(!lock(&outbox.0.state).has_messages());
        ask(&outbox, "first", &log);
        assert!(outbox.answered(1).is_some());
    }

    #[test]
    fn a_lying_confirmation_changes_nothing_beyond_what_was_sent() {
        let outbox = Outbox::default();
        outbox.confirm(u64::MAX, u64::MAX);
        tell(&outbox, 1).unwrap();
        outbox.take();
        assert_eq!(told(&outbox.connection_lost()), [&LostTo::Actor(1)]);
    }

    /// Polls once, without a waker.
    fn is_settled(settling: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        std::pin::Pin::new(settling).poll(&mut cx).is_ready()
    }

    #[test]
    fn nothing_goes_to_the_next_connection_before_all_on_this_one_is_placed() {
        let (outbox, log) = (Outbox::default(), Log::default());
        ask(&outbox, "first", &log);
        let written = outbox.take().1.len() as u64;
        let mut settling = Box::pin(outbox.settle());
        assert!(!is_settled(&mut settling));
        ask(&outbox, "second", &log);
        outbox.put_urgent(Frame::Control(b"later")).unwrap();
        // The ping goes out, and nothing after it.
        let (urgent, messages) = outbox.take();
        let urgent: Vec<_> = super::super::frame::frames(&urgent).collect();
        assert_eq!((urgent, messages.len()), (vec![Frame::Ping], 0));
        outbox.handle_pong();
        outbox.confirm(written, 0);
        assert!(!is_settled(&mut settling), "it has no place yet");
        outbox.confirm(written, written);
        assert!(is_settled(&mut settling));
        let asked = outbox.replace();
        assert_eq!(asked, 1);
        let (urgent, messages) = outbox.take();
        assert_eq!(super::super::frame::frames(&urgent).count(), 1);
        assert_eq!(super::super::frame::frames(&messages).count(), 1);
        // The first waits for the old connection, whatever becomes of the next.
        let mut lost = outbox.connection_lost();
        lost.fail_askers(&Failure::Stopped);
        assert_eq!(*lock(&log.0), ["second"]);
        assert!(outbox.waits_up_to(asked));
        outbox.end_retired(asked).fail_askers(&Failure::Stopped);
        assert_eq!(*lock(&log.0), ["second", "first"]);
        assert!(!outbox.waits_up_to(asked));
    }

    #[test]
    fn an_earlier_ping_does_not_answer_for_the_last_one() {
        let outbox = Outbox::default();
        outbox.put_urgent(Frame::Ping).unwrap();
        let mut settling = Box::pin(outbox.settle());
        assert!(!is_settled(&mut settling));
        outbox.handle_pong();
        assert!(!is_settled(&mut settling));
        outbox.handle_pong();
        assert!(is_settled(&mut settling));
    }

    #[test]
    fn what_was_held_back_goes_on_in_order_where_the_connection_stays() {
        let outbox = Outbox::default();
        outbox.put_urgent(Frame::Control(b"1")).unwrap();
        assert!(!is_settled(&mut Box::pin(outbox.settle())));
        outbox.put_urgent(Frame::Control(b"2")).unwrap();
        tell(&outbox, 1).unwrap();
        outbox.release();
        let (urgent, messages) = outbox.take();
        let urgent: Vec<_> = super::super::frame::frames(&urgent).collect();
        assert_eq!(
            urgent,
            [Frame::Control(b"1"), Frame::Ping, Frame::Control(b"2")]
        );
        assert_eq!(super::super::frame::frames(&messages).count(), 1);
    }

    #[test]
    fn a_peer_that_reads_nothing_leaves_room_for_the_replies_of_others() {
        let (all, mib) = (LargeReplies::default(), vec![0; 1024 * 1024]);
        let outbox = || {
            let outbox = Outbox::default();
            outbox.count_in(all.clone());
            outbox
        };
        let reply = |to: &Outbox| {
            to.put_urgent(Frame::Reply {
                correlation: 1,
                epoch: 0,
                payload: &mib,
            })
        };
        let (silent, other) = (outbox(), outbox());
        let count = (0..100).take_while(|_| reply(&silent).is_ok()).count();
        assert_eq!(count, ALL_LARGE_BYTES_MAX / mib.len());
        assert_eq!(reply(&other), Ok(()));
        assert_eq!(reply(&other), Err(PutError::Full));
        // Being written, they are in memory all the same.
        silent.take();
        assert_eq!(reply(&silent), Err(PutError::Full));
        silent.take();
        assert_eq!(reply(&silent), Ok(()));
        drop((silent, other));
        assert_eq!(all.bytes(), 0);
        mutants::breaking("unread_answers_pile_up", || {
            let silent = outbox();
            assert!((0..60).all(|_| reply(&silent).is_ok()));
        });
    }

    #[test]
    fn what_waits_beyond_the_bound_is_taken_in_parts() {
        let (outbox, payload) = (Outbox::default(), vec![0; 400 * 1024]);
        let frame = Frame::actor(1, b"", &payload);
        for _ in 0..20 {
            let place = outbox.reserve(&frame, Admission::Accepted);
            place.expect("it was accepted before").put(None);
        }
        let (mut all, mut parts) = (BytesMut::new(), 0);
        loop {
            let (_, part) = outbox.take();
            if part.is_empty() {
                break;
            }
            assert!(part.len() <= TAKEN_BYTES_MAX);
            assert!(super::super::frame::frames(&part).count() > 0);
            all.extend_from_slice(&part);
            outbox.confirm(all.len() as u64, all.len() as u64);
            parts += 1;
        }
        assert_eq!(super::super::frame::frames(&all).count(), 20);
        assert_eq!(parts, 4);
    }
}
