//! One connection: reads frames, writes what its outbox holds, notices silence.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    frame::{self, Frame, FrameError, PREFIX_BYTES},
    net::Stream,
    outbox::{Outbox, PutError},
};
use crate::{
    error::Failure,
    id::{Epoch, MemberId},
    message::{
        answer::{Credit, ReplyPath, Window},
        codec,
    },
};

/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;

/// Frames handled before a reader lets other tasks have the thread.
const READ_BATCH: usize = 256;

/// The receiver reports its totals after so many bytes, and with every pong.
const CREDIT_BYTES: u64 = 64 * 1024;

/// How often a silent connection is probed, and when it counts as lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
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
    #[error("it sent a frame that has no place here")]
    Unexpected,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("it does not read its replies")]
    TooSlow,
    #[error("this side closed it")]
    Cancelled,
}

/// Who dialed: that side asks for signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialed,
    Accepted,
}

/// Runs until the connection ends. `handle` gets chunks of whole frames, see [`for_each_frame`]. Where this side ends it, `last`
/// says what is written at the very end, when nothing is read any more.
pub(crate) async fn run(
    stream: Box<dyn Stream>,
    side: Side,
    outbox: &Outbox,
    keepalive: Keepalive,
    cancel: &CancellationToken,
    handle: impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
    last: impl FnOnce() -> Bytes,
) -> ConnectionEnd {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let heard = AtomicU64::new(0);
    // Outside of the loop that writes it: a frame that is cut in the middle would spoil the last words.
    let mut writing = Writing::default();
    let end = tokio::select! {
        biased;
        () = cancel.cancelled() => ConnectionEnd::Cancelled,
        end = read(&mut reader, &heard, handle) => end,
        end = write(&mut writer, outbox, &mut writing) => end,
        end = watch(side, outbox, keepalive, &heard) => end,
    };
    if matches!(end, ConnectionEnd::Cancelled) {
        // The last words: replies and a goodbye that are queued already.
        let _ = tokio::time::timeout(keepalive.interval, async {
            writing.finish(&mut writer).await?;
            (writing.urgent, writing.messages) = outbox.take();
            writing.finish(&mut writer).await?;
            writing.urgent = last();
            writing.finish(&mut writer).await?;
            writer.shutdown().await?;
            if side == Side::Accepted {
                // A socket that is closed with something unread resets the connection, and the goodbye may be lost
                // with it. So this waits until the dialer has read it, and closed its end.
                let mut unread = BytesMut::with_capacity(READ_BYTES);
                while reader.read_buf(&mut unread).await? > 0 {
                    unread.clear();
                }
            }
            io::Result::Ok(())
        })
        .await;
    }
    end
}

async fn read(
    reader: &mut ReadHalf<Box<dyn Stream>>,
    heard: &AtomicU64,
    mut handle: impl FnMut(&Bytes) -> Result<(), ConnectionEnd>,
) -> ConnectionEnd {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return ConnectionEnd::Closed,
            Ok(_) => {
                heard.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => return error.into(),
        }
        loop {
            match handle_complete(&mut buffer, &mut handle) {
                Ok(Progress::Done { wanted }) => {
                    buffer.reserve(wanted.max(READ_BYTES / 2));
                    break;
                }
                Ok(Progress::Yield) => tokio::task::yield_now().await,
                Err(end) => return end,
            }
        }
    }
}

enum Progress {
    /// No further frame is complete; so many bytes are missing, as far as one can tell.
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
    let wanted = buffer.first_chunk::<PREFIX_BYTES>().map_or(0, |prefix| {
        u32::from_le_bytes(*prefix) as usize + PREFIX_BYTES - buffer.len()
    });
    Ok(Progress::Done { wanted })
}

/// Reads the frames of a chunk.
pub(crate) fn for_each_frame(
    chunk: &Bytes,
    mut handle: impl FnMut(Frame<'_>) -> Result<(), ConnectionEnd>,
) -> Result<(), ConnectionEnd> {
    let mut rest = &chunk[..];
    while let Some(length) = frame::complete(rest)? {
        let (bytes, behind) = rest[PREFIX_BYTES..].split_at(length);
        handle(frame::parse(bytes)?)?;
        rest = behind;
    }
    Ok(())
}

/// What was taken from the outbox and is not written yet.
#[derive(Default)]
struct Writing {
    urgent: Bytes,
    messages: Bytes,
}

impl Writing {
    /// Writes the rest. Cancel safe: what is written is taken off.
    async fn finish(&mut self, writer: &mut WriteHalf<Box<dyn Stream>>) -> io::Result<()> {
        for bytes in [&mut self.urgent, &mut self.messages] {
            while bytes.has_remaining() {
                if writer.write_buf(bytes).await? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
            }
        }
        writer.flush().await
    }
}

async fn write(
    writer: &mut WriteHalf<Box<dyn Stream>>,
    outbox: &Outbox,
    writing: &mut Writing,
) -> ConnectionEnd {
    loop {
        (writing.urgent, writing.messages) = outbox.take();
        if writing.urgent.is_empty() && writing.messages.is_empty() {
            outbox.work().await;
            continue;
        }
        if let Err(error) = writing.finish(writer).await {
            return error.into();
        }
    }
}

async fn watch(
    side: Side,
    outbox: &Outbox,
    keepalive: Keepalive,
    heard: &AtomicU64,
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
        }
    }
}

/// The accepting side of a connection: where replies go back, and what is known of the dialer.
pub(crate) struct Inlet {
    pub(crate) peer: MemberId,
    pub(crate) outbox: Outbox,
    pub(crate) cancel: CancellationToken,
    received: AtomicU64,
    /// Granted by the reader since it last said so.
    placed: AtomicU64,
    granted: AtomicU64,
    reported: AtomicU64,
}

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
        })
    }

    /// A message was read; it will be granted later.
    ///
    /// Only the connection's reader says so, so it needs no atomic addition.
    pub(crate) fn received(&self, bytes: usize) {
        let received = self.received.load(Ordering::Relaxed) + bytes as u64;
        self.received.store(received, Ordering::Relaxed);
    }

    /// What was read has found its place, as far as that is known.
    pub(crate) fn placed(&self) {
        let placed = self.placed.load(Ordering::Relaxed);
        if placed > 0 {
            self.placed.store(0, Ordering::Relaxed);
            self.grant(usize::try_from(placed).unwrap_or(usize::MAX));
        }
    }

    /// Tells the dialer the totals.
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

    /// Sends a frame to the dialer; one that does not read what it is sent loses the connection.
    pub(crate) fn send(&self, frame: Frame<'_>) {
        if self.outbox.put_urgent(frame) == Err(PutError::Full) {
            tracing::warn!(peer = %self.peer, "{}", ConnectionEnd::TooSlow);
            self.cancel.cancel();
        }
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
            Err(PutError::Full) => self.cancel.cancel(),
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
        match codec::to_vec(failure) {
            Ok(payload) => self.send(Frame::Fail {
                correlation,
                payload: &payload,
            }),
            Err(error) => tracing::error!(%error, "a failure cannot be encoded"),
        }
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

/// Room in the window that a message takes while its place is looked for: given back when this is dropped, which
/// costs less than a [`Credit`] that outlives the look.
pub(crate) struct Grant<'a> {
    inlet: &'a Arc<Inlet>,
    bytes: usize,
}

impl<'a> Grant<'a> {
    pub(crate) fn new(inlet: &'a Arc<Inlet>, bytes: usize) -> Self {
        Self { inlet, bytes }
    }

    /// For a message that has to wait.
    pub(crate) fn keep(mut self) -> Credit {
        let bytes = std::mem::take(&mut self.bytes);
        Credit::new(self.inlet.clone(), bytes)
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        // Only the connection's reader has one, and says so after each chunk: one atomic addition for many messages.
        if self.bytes > 0 {
            let placed = self.inlet.placed.load(Ordering::Relaxed) + self.bytes as u64;
            self.inlet.placed.store(placed, Ordering::Relaxed);
        }
    }
}
