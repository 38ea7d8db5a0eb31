//! One connection: reads frames, writes what its outbox holds, notices silence.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
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
    client_rate::ClientRate,
    frame::{self, Frame, FrameError, PREFIX_BYTES},
    handshake::Lane,
    identity::PeerRole,
    net::Stream,
    outbox::{MESSAGES_BYTES_MAX, Outbox, PutError, WINDOW_BYTES},
};
use crate::{
    error::Failure,
    id::{Epoch, MemberId},
    infra::{mutants, sync::lock, timer_thread::TimerThread},
    message::{
        answer::{ReplyPath, Window},
        caller::{Caller, CameFrom},
        codec,
    },
};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Frames that a reader handles before it yields to other tasks.
const READ_BATCH: usize = 256;

/// The same where requests and large messages come: some requests cost a thousand times what a
/// message does, and no peer has many of them under way.
const CONTROL_BATCH: usize = 4;

/// Frames of a lane that a reader handles before it yields to other tasks.
fn batch(lane: Lane) -> usize {
    match lane {
        Lane::Control | Lane::Bulk => CONTROL_BATCH,
        Lane::Messages | Lane::Copies => READ_BATCH,
    }
}

/// Bytes of messages after which the receiver reports its totals. It also reports with every pong.
const CREDIT_BYTES: u64 = 64 * 1024;

/// Bytes of answers that wait, besides those that are being written, while a dialer reads none of
/// them.
const BEHIND_BYTES: usize = 1024 * 1024;

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
    #[error("it sent more than the window allows")]
    Overrun,
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
        matches!(
            self,
            Self::Frame(_) | Self::Unexpected | Self::Overrun | Self::Forbidden(_)
        )
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
    pub(crate) lane: Lane,
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
            lane,
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
            side,
            batch: batch(lane),
            outbox,
            heard,
            read: BytesMut::with_capacity(READ_BYTES),
            writing: Writing::default(),
            is_behind: false,
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
            while let Progress::Yield = handle_complete(&mut self.read, READ_BATCH, &mut handle)? {
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
    side: Side,
    batch: usize,
    outbox: &'a Outbox,
    heard: Arc<AtomicU64>,
    read: BytesMut,
    /// Kept here, so that the last words follow a whole frame and do not begin in the middle of
    /// one.
    writing: Writing,
    /// Nothing is read until the peer has read what is written.
    is_behind: bool,
    handle: H,
}

impl<H: FnMut(&Bytes) -> Result<(), ConnectionEnd>> Pump<'_, H> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        loop {
            if let Poll::Ready(end) = self.poll_read(cx) {
                return Poll::Ready(end);
            }
            let was_behind = self.is_behind;
            if let Poll::Ready(end) = self.poll_write(cx) {
                return Poll::Ready(end);
            }
            if !was_behind || self.looks_behind() {
                return Poll::Pending;
            }
        }
    }

    /// Whether a dialer sends without reading. What it sends is answered: not to read it either is
    /// the only bound that costs an honest dialer nothing. The dialing side reads in any case, so
    /// that two nodes never wait for each other.
    fn looks_behind(&self) -> bool {
        self.side == Side::Accepted
            && !self.writing.is_empty()
            && self.outbox.urgent_bytes() >= BEHIND_BYTES
            && !mutants::on("unread_answers_pile_up")
    }

    /// Pending when there is nothing to read, or when other tasks should run.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        loop {
            // The socket wakes the task once the peer reads.
            self.is_behind = self.looks_behind();
            if self.is_behind {
                return Poll::Pending;
            }
            match handle_complete(&mut self.read, self.batch, &mut self.handle) {
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
            let before = self.writing.len();
            let finished = self.writing.poll_finish(&mut self.stream, cx);
            if self.is_behind && self.writing.len() < before {
                // A peer that reads is alive, although nothing is heard of it meanwhile.
                self.heard.fetch_add(1, Ordering::Relaxed);
            }
            if let Err(error) = ready!(finished) {
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
    batch: usize,
    handle: &mut impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
) -> Result<Progress, ConnectionEnd> {
    let (mut end, mut count) = (0, 0);
    while count < batch {
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
    if count == batch {
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
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.messages.len()
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

/// Bytes of messages that a dialer may have sent beyond those that were granted. A writer that
/// finds the window open takes what waits at once, so an honest one sends more than the window.
const OVERRUN_MAX: u64 = WINDOW_BYTES + 2 * MESSAGES_BYTES_MAX as u64;

/// The accepting side of a connection: sends replies back, and counts the dialer's messages.
pub(crate) struct Inlet {
    pub(crate) peer: MemberId,
    /// The same, as the network has verified it.
    caller: Option<Arc<Caller>>,
    /// How fast it may start entities. `None`: it is a node.
    pub(crate) client: Option<Arc<ClientRate>>,
    pub(crate) outbox: Outbox,
    pub(crate) cancel: CancellationToken,
    /// Its calls that are worked on.
    pub(crate) calls: Arc<AtomicUsize>,
    received: AtomicU64,
    /// Bytes that the dialer may have sent by the last count.
    allowed: AtomicU64,
    /// Bytes that found their place since the reader last granted them.
    placed: AtomicU64,
    granted: AtomicU64,
    reported: AtomicU64,
    /// Whether a reply has found no room. It is logged once a connection.
    has_refused: AtomicBool,
    /// Asks and watches without an answer.
    asks: AtomicUsize,
    /// Asks whose askers wait no more.
    given_up: Mutex<BTreeSet<u64>>,
}

/// How many asks an inlet knows to be given up. Most of them were answered long ago; the oldest are
/// forgotten.
const GIVEN_UP_MAX: usize = 4096;

impl Inlet {
    pub(crate) fn new(
        peer: MemberId,
        caller: Option<Arc<Caller>>,
        client: Option<Arc<ClientRate>>,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            caller,
            client,
            outbox: Outbox::default(),
            cancel,
            calls: Arc::default(),
            received: AtomicU64::new(0),
            allowed: AtomicU64::new(OVERRUN_MAX),
            placed: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            has_refused: AtomicBool::new(false),
            asks: AtomicUsize::new(0),
            given_up: Mutex::default(),
        })
    }

    /// How many asks and watches of this connection have no answer.
    pub(crate) fn asks(&self) -> usize {
        self.asks.load(Ordering::Relaxed)
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
    ///
    /// # Errors
    /// [`ConnectionEnd::Overrun`]: the window was closed before the message was sent.
    pub(crate) fn received(&self, bytes: usize) -> Result<(), ConnectionEnd> {
        let before = self.received.load(Ordering::Relaxed);
        self.received
            .store(before + bytes as u64, Ordering::Relaxed);
        if before < self.allowed.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Looked at only now and then: what was granted lies in a line that others write.
        let granted = self.granted.load(Ordering::Relaxed) + self.placed.load(Ordering::Relaxed);
        self.allowed.store(granted + OVERRUN_MAX, Ordering::Relaxed);
        if before < granted + OVERRUN_MAX || mutants::on("windows_are_not_enforced") {
            return Ok(());
        }
        Err(ConnectionEnd::Overrun)
    }

    /// Counts a message that has found its place. Only the connection's reader calls this.
    pub(super) fn has_placed(&self, bytes: usize) {
        let placed = self.placed.load(Ordering::Relaxed) + bytes as u64;
        self.placed.store(placed, Ordering::Relaxed);
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

    fn has_ended(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn begin(&self) {
        self.asks.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.asks.fetch_sub(1, Ordering::Relaxed);
    }

    fn came_from(&self) -> CameFrom {
        CameFrom::Peer(self.caller.clone())
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
        let inlet = Inlet::new(peer, None, None, CancellationToken::new());
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

    #[test]
    fn a_dialer_that_ignores_the_window_is_cut() {
        let peer = || MemberId {
            node: NodeId::new("peer"),
            incarnation: Incarnation(1),
        };
        let (inlet, frame) = (
            Inlet::new(peer(), None, None, CancellationToken::new()),
            64 * 1024,
        );
        let send = || {
            (0..1000)
                .take_while(|_| inlet.received(frame).is_ok())
                .count()
        };
        let most = usize::try_from(OVERRUN_MAX).unwrap() / frame;
        assert_eq!(send(), most);
        // Further ones as soon as earlier ones have found their places.
        inlet.grant(frame * (most + 1));
        assert_eq!(send(), most);
        mutants::breaking("windows_are_not_enforced", || assert_eq!(send(), 1000));
    }

    /// Reads what a dialer sends that reads nothing, and answers each frame with a kibibyte.
    /// Returns the bytes that wait when the dialer has sent all, or can send no more.
    async fn waiting_for_a_dialer_that_does_not_read() -> usize {
        let (stream, mut dialer) = tokio::io::duplex(4 * 1024);
        let (outbox, cancel) = (Outbox::default(), CancellationToken::new());
        let answers = outbox.clone();
        let mut pump = Pump {
            stream: Box::new(stream),
            side: Side::Accepted,
            batch: READ_BATCH,
            outbox: &outbox,
            heard: Arc::default(),
            read: BytesMut::new(),
            writing: Writing::default(),
            is_behind: false,
            handle: move |chunk: &Bytes| {
                for_each_frame(chunk, |_, _| {
                    let _ = answers.put_urgent(Frame::Control(&[0; 1024]));
                    Ok(())
                })
            },
        };
        let mut pings = BytesMut::new();
        for _ in 0..50_000 {
            Frame::Ping.put(&mut pings).unwrap();
        }
        let sending = async {
            let sent = tokio::time::timeout(Duration::from_secs(5), dialer.write_all(&pings));
            drop(sent.await);
            cancel.cancel();
        };
        let pumping = async {
            tokio::select! {
                end = poll_fn(|cx| pump.poll(cx)) => panic!("{end}"),
                () = cancel.cancelled() => {}
            }
        };
        tokio::join!(sending, pumping);
        outbox.urgent_bytes()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dialer_that_does_not_read_is_not_read() {
        let waiting = waiting_for_a_dialer_that_does_not_read().await;
        // What was read at once is answered.
        let most = BEHIND_BYTES + READ_BATCH * 1100;
        assert!((BEHIND_BYTES..most).contains(&waiting), "{waiting}");
    }
}
