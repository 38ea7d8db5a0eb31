//! One connection: reads frames, writes what its outbox holds, notices silence.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{io::poll_read_buf, sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    check,
    frame::{self, Frame, FrameError, PREFIX_BYTES},
    identity::PeerRole,
    net::Stream,
    outbox::{Outbox, PutError},
};
use crate::{
    error::Failure,
    id::{Epoch, MemberId},
    infra::{sync::lock, timer_thread::TimerThread},
    message::{
        answer::{Credit, ReplyPath, Window},
        codec,
    },
};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Frames that a reader handles before it yields to other tasks.
const READ_BATCH: usize = 256;

/// Bytes of messages after which the receiver reports its totals. It also reports with every pong.
const CREDIT_BYTES: u64 = 64 * 1024;

/// How often a silent connection is probed, and when it counts as lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// How long this side waits at most for a peer that does not read the last words.
const CLOSING_MAX: Duration = Duration::from_secs(3);

/// How long the end of a connection may take that this side ends.
pub(crate) fn closing_limit(keepalive: Keepalive) -> Duration {
    keepalive.interval.min(CLOSING_MAX)
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionEnd {
    #[error("the other side closed it")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it broke the protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("it sent a frame that is not allowed here")]
    Unexpected,
    #[error("it sent what the certificate of a {0} does not allow")]
    Forbidden(PeerRole),
    #[error("the certificate of one of the two has ended")]
    Expired,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("it does not read its replies")]
    TooSlow,
    #[error("this side closed it")]
    Cancelled,
}

impl ConnectionEnd {
    /// Whether the peer, or the network before it, is at fault: worth a warning.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Unexpected | Self::Forbidden(_))
    }
}

/// The side of a connection that a node is on. The side that dialed probes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialed,
    Accepted,
}

/// A connection after its handshake.
pub(crate) struct Connection<'a> {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) side: Side,
    pub(crate) keepalive: Keepalive,
    /// Runs the keepalive.
    pub(crate) timer_thread: &'a TimerThread,
    /// How long its certificates last. `None`: for ever.
    pub(crate) lasts: Option<Duration>,
    pub(crate) outbox: &'a Outbox,
    pub(crate) cancel: &'a CancellationToken,
}

/// How a connection has ended that may be replaced.
pub(crate) enum Outcome<T> {
    Ended(ConnectionEnd),
    /// The next connection stands, and this one is read on until it is of no more use.
    Replaced(T, Retired),
}

/// What ends a pump from outside.
enum Cause<T> {
    End(ConnectionEnd),
    Next(T),
}

impl<'a> Connection<'a> {
    /// Runs until the connection ends. `handle` gets chunks of whole frames, see
    /// [`for_each_frame`]. Where this side ends the connection, `last` gives the bytes to write at
    /// the very end, when nothing is read any more.
    pub(crate) async fn run(
        self,
        handle: impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
        last: impl FnOnce() -> Bytes,
    ) -> ConnectionEnd {
        let never = std::future::pending::<std::convert::Infallible>();
        match self.run_until(never, handle, last).await {
            Outcome::Ended(end) => end,
            Outcome::Replaced(never, _) => match never {},
        }
    }

    /// The same, until `next` resolves to the next connection. By then this one must carry no
    /// message whose place is not known: see [`Outbox::settle`].
    pub(crate) async fn run_until<T>(
        self,
        next: impl Future<Output = T> + 'a,
        handle: impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
        last: impl FnOnce() -> Bytes,
    ) -> Outcome<T> {
        let Self {
            stream,
            side,
            keepalive,
            timer_thread,
            lasts,
            outbox,
            cancel,
        } = self;
        let heard = Arc::new(AtomicU64::new(0));
        let watching = watch(side, outbox.clone(), keepalive, heard.clone());
        let watching = AbortOnDropHandle::new(timer_thread.spawn(watching));
        let mut pump = Pump {
            stream,
            outbox,
            heard,
            read: BytesMut::with_capacity(READ_BYTES),
            writing: Writing::default(),
            handle,
        };
        let mut ended = OnlyWhenWoken::new(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Cause::End(ConnectionEnd::Cancelled),
                end = watching => Cause::End(end.unwrap_or(ConnectionEnd::Cancelled)),
                () = elapsed(lasts) => Cause::End(ConnectionEnd::Expired),
                next = next => Cause::Next(next),
            }
        });
        let cause = poll_fn(|cx| match ended.poll(cx) {
            Poll::Ready(cause) => Poll::Ready(cause),
            Poll::Pending => pump.poll(cx).map(Cause::End),
        })
        .await;
        let end = match cause {
            Cause::End(end) => end,
            Cause::Next(next) => {
                let Pump {
                    stream,
                    writing,
                    read,
                    ..
                } = pump;
                let retired = Retired {
                    stream,
                    writing,
                    read,
                };
                return Outcome::Replaced(next, retired);
            }
        };
        if matches!(end, ConnectionEnd::Cancelled) {
            let Pump {
                stream, writing, ..
            } = pump;
            let closing = close(stream, writing, outbox, side, last);
            // A peer that does not read keeps this side only for so long.
            let _ = tokio::time::timeout(closing_limit(keepalive), closing).await;
        }
        Outcome::Ended(end)
    }
}

async fn elapsed(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// A connection that the next one has replaced. Answers to earlier messages still come by it.
pub(crate) struct Retired {
    stream: Box<dyn Stream>,
    writing: Writing,
    read: BytesMut,
}

impl Retired {
    /// Reads on until `is_done`, which is asked after each chunk and with each keepalive, or until
    /// the connection ends.
    pub(crate) async fn run(
        mut self,
        keepalive: Keepalive,
        cancel: &CancellationToken,
        mut handle: impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
        is_done: impl Fn() -> bool,
    ) -> Result<(), ConnectionEnd> {
        self.writing.finish(&mut self.stream).await?;
        let mut ticks = interval(keepalive.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = Duration::ZERO;
        loop {
            while let Progress::Yield = handle_complete(&mut self.read, &mut handle)? {
                tokio::task::yield_now().await;
            }
            if is_done() {
                break;
            }
            self.read.reserve(READ_BYTES / 2);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(ConnectionEnd::Cancelled),
                count = self.stream.read_buf(&mut self.read) => match count? {
                    0 => return Err(ConnectionEnd::Closed),
                    _ => silent = Duration::ZERO,
                },
                _ = ticks.tick() => {
                    if silent >= keepalive.timeout {
                        return Err(ConnectionEnd::Silent(silent));
                    }
                    silent += keepalive.interval;
                    let mut ping = BytesMut::new();
                    if Frame::Ping.put(&mut ping).is_ok() {
                        self.writing.urgent = ping.freeze();
                        self.writing.finish(&mut self.stream).await?;
                    }
                }
            }
        }
        let closing = self.stream.shutdown();
        // A peer that does not read keeps this side only for so long.
        let _ = tokio::time::timeout(closing_limit(keepalive), closing).await;
        Ok(())
    }
}

/// Writes the replies that are queued already and the last words, and closes the connection.
async fn close(
    mut stream: Box<dyn Stream>,
    mut writing: Writing,
    outbox: &Outbox,
    side: Side,
    last: impl FnOnce() -> Bytes,
) -> io::Result<()> {
    writing.finish(&mut stream).await?;
    (writing.urgent, writing.messages) = outbox.take();
    writing.finish(&mut stream).await?;
    writing.urgent = last();
    writing.finish(&mut stream).await?;
    stream.shutdown().await?;
    if side == Side::Accepted {
        // Closing a socket with unread bytes resets the connection, and the goodbye may be lost.
        // So this side reads on until the dialer has read the goodbye and closed its end.
        let mut unread = BytesMut::with_capacity(READ_BYTES);
        while stream.read_buf(&mut unread).await? > 0 {
            unread.clear();
        }
    }
    Ok(())
}

/// A future that is polled only after its own waker was called, and not each time that its task
/// runs. A connection's task runs with each message, its cancellation and keepalive hardly ever.
struct OnlyWhenWoken<F>(FuturesUnordered<F>);

impl<F: Future> OnlyWhenWoken<F> {
    fn new(future: F) -> Self {
        Self(std::iter::once(future).collect())
    }

    /// Must not be called again after it was ready.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.0.poll_next_unpin(cx) {
            Poll::Ready(Some(output)) => Poll::Ready(output),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Both directions of a connection in one task: most frames that are read lead to one that is
/// written.
struct Pump<'a, H> {
    stream: Box<dyn Stream>,
    outbox: &'a Outbox,
    heard: Arc<AtomicU64>,
    read: BytesMut,
    /// Kept here, so that the last words follow a whole frame and do not begin in the middle of
    /// one.
    writing: Writing,
    handle: H,
}

impl<H: FnMut(&Bytes) -> Result<(), ConnectionEnd>> Pump<'_, H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        if let Poll::Ready(end) = self.poll_read(cx) {
            return Poll::Ready(end);
        }
        self.poll_write(cx)
    }

    /// Pending when there is nothing to read, or when other tasks should run.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        loop {
            match handle_complete(&mut self.read, &mut self.handle) {
                Ok(Progress::Done { wanted }) => self.read.reserve(wanted.max(READ_BYTES / 2)),
                Ok(Progress::Yield) => {
                    // Wakes this task again after other tasks and the network driver have run.
                    if pin!(tokio::task::yield_now()).poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    continue;
                }
                Err(end) => return Poll::Ready(end),
            }
            match ready!(poll_read_buf(
                Pin::new(&mut self.stream),
                cx,
                &mut self.read
            )) {
                Ok(0) => return Poll::Ready(ConnectionEnd::Closed),
                Ok(_) => self.heard.fetch_add(1, Ordering::Relaxed),
                Err(error) => return Poll::Ready(error.into()),
            };
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        loop {
            if self.writing.is_empty() {
                (self.writing.urgent, self.writing.messages) = ready!(self.outbox.poll_take(cx));
            }
            if let Err(error) = ready!(self.writing.poll_finish(&mut self.stream, cx)) {
                return Poll::Ready(error.into());
            }
        }
    }
}

enum Progress {
    /// No further frame is complete. `wanted` bytes are missing, as far as its prefix tells.
    Done {
        wanted: usize,
    },
    Yield,
}

fn handle_complete(
    buffer: &mut BytesMut,
    handle: &mut impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
) -> Result<Progress, ConnectionEnd> {
    let (mut end, mut count) = (0, 0);
    while count < READ_BATCH {
        let Some(length) = frame::complete(&buffer[end..])? else {
            break;
        };
        end += PREFIX_BYTES + length;
        count += 1;
    }
    if count > 0 {
        // Frozen, so that payloads can be kept without a copy.
        let chunk = buffer.split_to(end).freeze();
        handle(&chunk)?;
    }
    if count == READ_BATCH {
        return Ok(Progress::Yield);
    }
    let wanted = match buffer.first_chunk() {
        Some(prefix) => {
            PREFIX_BYTES + check::length(*prefix).map_err(FrameError::from)? - buffer.len()
        }
        None => 0,
    };
    Ok(Progress::Done { wanted })
}

/// Reads the frames of a chunk, each with the offset at which it begins. Those before a damaged one
/// are handled, as if the connection had ended behind them.
pub(crate) fn for_each_frame(
    chunk: &Bytes,
    mut handle: impl FnMut(usize, Frame<'_>) -> Result<(), ConnectionEnd>,
) -> Result<(), ConnectionEnd> {
    let mut at = 0;
    while let Some(length) = frame::complete(&chunk[at..])? {
        let end = at + PREFIX_BYTES + length;
        handle(at, frame::parse_checked(&chunk[at..end])?)?;
        at = end;
    }
    Ok(())
}

/// Frames that were taken from the outbox and are not written yet.
#[derive(Default)]
struct Writing {
    urgent: Bytes,
    messages: Bytes,
}

impl Writing {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.messages.is_empty()
    }

    /// Writes the rest. Cancel safe: bytes that were written are removed.
    async fn finish(&mut self, stream: &mut Box<dyn Stream>) -> io::Result<()> {
        poll_fn(|cx| self.poll_finish(stream, cx)).await
    }

    fn poll_finish(
        &mut self,
        stream: &mut Box<dyn Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let stream = Pin::new(&mut *stream);
            let written = match (&self.urgent[..], &self.messages[..]) {
                (urgent, []) => stream.poll_write(cx, urgent),
                ([], messages) => stream.poll_write(cx, messages),
                (urgent, messages) => {
                    let both = [IoSlice::new(urgent), IoSlice::new(messages)];
                    stream.poll_write_vectored(cx, &both)
                }
            };
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let urgent = written.min(self.urgent.len());
            self.urgent.advance(urgent);
            self.messages.advance(written - urgent);
        }
        // The outbox can use the buffers again only when no `Bytes` refers to them.
        *self = Self::default();
        Pin::new(stream).poll_flush(cx)
    }
}

async fn watch(
    side: Side,
    outbox: Outbox,
    keepalive: Keepalive,
    heard: Arc<AtomicU64>,
) -> ConnectionEnd {
    let mut ticks = interval(keepalive.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut silent) = (heard.load(Ordering::Relaxed), Duration::ZERO);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if heard.load(Ordering::Relaxed) == seen {
            silent += keepalive.interval;
            if silent >= keepalive.timeout {
                return ConnectionEnd::Silent(silent);
            }
        } else {
            (seen, silent) = (heard.load(Ordering::Relaxed), Duration::ZERO);
        }
        if side == Side::Dialed {
            // No room means that the writer is stuck, which the silence will show.
            let _ = outbox.put_urgent(Frame::Ping);
            for correlation in outbox.forget_given_up() {
                let _ = outbox.put_urgent(Frame::GiveUp { correlation });
            }
        }
    }
}

/// The accepting side of a connection: sends replies back, and counts the dialer's messages.
pub(crate) struct Inlet {
    pub(crate) peer: MemberId,
    pub(crate) outbox: Outbox,
    pub(crate) cancel: CancellationToken,
    received: AtomicU64,
    /// Bytes that found their place since the reader last granted them.
    placed: AtomicU64,
    granted: AtomicU64,
    reported: AtomicU64,
    /// Whether a reply has found no room. It is logged once a connection.
    has_refused: AtomicBool,
    /// Asks whose askers wait no more.
    given_up: Mutex<BTreeSet<u64>>,
}

/// How many asks an inlet knows to be given up. Most of them were answered long ago; the oldest are
/// forgotten.
const GIVEN_UP_MAX: usize = 4096;

impl Inlet {
    pub(crate) fn new(peer: MemberId, cancel: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            peer,
            outbox: Outbox::default(),
            cancel,
            received: AtomicU64::new(0),
            placed: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            has_refused: AtomicBool::new(false),
            given_up: Mutex::default(),
        })
    }

    /// The asker of this message waits no more.
    pub(crate) fn give_up(&self, correlation: u64) {
        let mut given_up = lock(&self.given_up);
        given_up.insert(correlation);
        if given_up.len() > GIVEN_UP_MAX {
            given_up.pop_first();
        }
    }

    /// Counts a message that was read. Its bytes are granted later.
    ///
    /// Only the connection's reader calls this, so a load and a store are enough.
    pub(crate) fn received(&self, bytes: usize) {
        let received = self.received.load(Ordering::Relaxed) + bytes as u64;
        self.received.store(received, Ordering::Relaxed);
    }

    /// Grants the bytes of all messages that have found their place so far.
    pub(crate) fn placed(&self) {
        let placed = self.placed.load(Ordering::Relaxed);
        if placed > 0 {
            self.placed.store(0, Ordering::Relaxed);
            self.grant(usize::try_from(placed).unwrap_or(usize::MAX));
        }
    }

    /// Sends the totals to the dialer.
    pub(crate) fn report(&self) {
        let granted = self.granted.load(Ordering::Relaxed);
        let received = self.received.load(Ordering::Relaxed);
        self.send(Frame::Credit { received, granted });
    }

    /// The last frame of this connection.
    pub(crate) fn goodbye(&self) -> Bytes {
        let received = self.received.load(Ordering::Relaxed);
        let mut out = BytesMut::new();
        match (Frame::Goodbye { received }).put(&mut out) {
            Ok(()) => out.freeze(),
            Err(_) => Bytes::new(),
        }
    }

    /// Sends a frame to the dialer. A dialer that does not read loses the connection.
    pub(crate) fn send(&self, frame: Frame<'_>) {
        if self.outbox.put_urgent(frame) == Err(PutError::Full) {
            tracing::warn!(peer = %self.peer, "{}", ConnectionEnd::TooSlow);
            self.cancel.cancel();
        }
    }

    /// Fails an ask whose reply found no room, and no other ask of the connection.
    #[cold]
    fn refuse_reply(&self, correlation: u64) {
        let bytes = self.outbox.urgent_bytes();
        if !self.has_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer = %self.peer,
                bytes,
                "replies wait for the connection faster than it carries them: further ones fail"
            );
        }
        let reason = format!("{bytes} bytes of other replies wait for the same connection");
        self.fail(correlation, &Failure::Reply { reason });
    }
}

impl ReplyPath for Inlet {
    fn reply(&self, correlation: u64, epoch: Epoch, payload: &[u8]) {
        match self.outbox.put_urgent(Frame::Reply {
            correlation,
            epoch: epoch.0,
            payload,
        }) {
            Ok(()) => {}
            Err(PutError::Full) => self.refuse_reply(correlation),
            Err(PutError::TooLarge { bytes }) => {
                let reason = format!(
                    "the reply has {bytes} bytes, a frame at most {}",
                    frame::FRAME_BYTES_MAX
                );
                self.fail(correlation, &Failure::Reply { reason });
            }
        }
    }

    fn fail(&self, correlation: u64, failure: &Failure) {
        // The peer has forgotten the ask.
        if lock(&self.given_up).remove(&correlation) {
            return;
        }
        match codec::to_vec(failure) {
            Ok(payload) => self.send(Frame::Fail {
                correlation,
                payload: &payload,
            }),
            Err(error) => tracing::error!(%error, "a failure cannot be encoded"),
        }
    }

    fn is_given_up(&self, correlation: u64) -> bool {
        // Also where the connection, and with it the asker, is gone.
        self.cancel.is_cancelled() || lock(&self.given_up).contains(&correlation)
    }
}

impl Window for Inlet {
    fn grant(&self, bytes: usize) {
        let granted = self.granted.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let reported = self.reported.load(Ordering::Relaxed);
        if granted.saturating_sub(reported) >= CREDIT_BYTES
            && self
                .reported
                .compare_exchange(reported, granted, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.report();
        }
    }
}

/// Room in the window that a message takes while the reader looks for its place. Dropping this
/// gives the room back, which is cheaper than a [`Credit`].
pub(crate) struct Grant<'a> {
    inlet: &'a Arc<Inlet>,
    bytes: usize,
}

impl<'a> Grant<'a> {
    pub(crate) fn new(inlet: &'a Arc<Inlet>, bytes: usize) -> Self {
        Self { inlet, bytes }
    }

    /// Returns the bytes of a message that finds its place a little later, to be granted then.
    pub(crate) fn hold(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// The credit of a message that has to wait.
    pub(crate) fn keep(mut self) -> Credit {
        let bytes = std::mem::take(&mut self.bytes);
        Credit::new(self.inlet.clone(), bytes)
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        // Only the connection's reader has a `Grant`. It calls `Inlet::placed` after each chunk:
        // one atomic addition for many messages.
        if self.bytes > 0 {
            let placed = self.inlet.placed.load(Ordering::Relaxed) + self.bytes as u64;
            self.inlet.placed.store(placed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId};

    #[test]
    fn a_reply_without_room_fails_its_own_ask_and_leaves_the_connection() {
        let peer = MemberId {
            node: NodeId::new("peer"),
            incarnation: Incarnation(1),
        };
        let inlet = Inlet::new(peer, CancellationToken::new());
        let mib = vec![0; 1024 * 1024];
        for correlation in 0..100 {
            inlet.reply(correlation, Epoch::ZERO, &mib);
        }
        inlet.reply(100, Epoch::ZERO, b"small");
        assert!(!inlet.cancel.is_cancelled());
        let (mut replied, mut failed) = (Vec::new(), Vec::new());
        for frame in frame::frames(&inlet.outbox.take().0) {
            match frame {
                Frame::Reply { correlation, .. } => replied.push(correlation),
                Frame::Fail {
                    correlation,
                    payload,
                } => {
                    let failure: Failure = codec::decode(payload).unwrap();
                    assert!(
                        matches!(&failure, Failure::Reply { reason } if reason.contains("wait")),
                        "{failure}"
                    );
                    failed.push(correlation);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(replied, (0..64).chain([100]).collect::<Vec<u64>>());
        assert_eq!(failed, (64..100).collect::<Vec<u64>>());
    }
}
