//! A link sends this node's messages to one peer on one lane. It dials on demand, and again after
//! a connection was lost.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    connection::{self, Connection, ConnectionEnd, Keepalive, Outcome, Retired, Side},
    dial::{Dialed, dial},
    frame::{self, EntityFrame, FRAME_BYTES_MAX, Frame},
    handshake::{HandshakeError, HandshakeRefusal, Hello, Lane, Welcome},
    lane_meter::LaneMeter,
    net::{Net, Target},
    outbox::{Admission, Lost, LostMessage, Outbox, Place, PutError, Returned, lost_message},
    renewal,
};
use crate::{
    error::Failure,
    event::DeadLetterReason,
    id::{MemberId, Voter},
    infra::{backoff::Backoff, mutants, sync::lock, timer_thread::TimerThread, wall_clock},
    message::{
        answer::{Pending, RawAnswer},
        codec,
    },
};

/// The times of dialing and of the keepalive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkTimes {
    /// The limit of the connect and the handshake together.
    pub(crate) connect: Duration,
    pub(crate) keepalive: Keepalive,
    /// The first pause after a failed dial; doubled up to `backoff_max`, with jitter.
    pub(crate) backoff: Duration,
    pub(crate) backoff_max: Duration,
}

/// The node that a link belongs to, as the link sees it.
pub(crate) trait LinkOwner: Send + Sync + 'static {
    fn hello(&self, lane: Lane, to: Option<&MemberId>) -> Hello;

    /// Runs a task for as long as the process.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs the keepalive of the connections.
    fn timer_thread(&self) -> &TimerThread;

    /// A connection was opened.
    fn connected(&self, link: &Arc<Link>, welcome: &Welcome);

    /// A connection ended, or could not be made.
    fn disconnected(&self, link: &Arc<Link>, reason: &str);

    /// A connection to or from this peer was cut: what came over it makes no sense.
    fn cut_for(&self, peer: &dyn fmt::Display, lane: Lane, end: &ConnectionEnd);

    /// The peer refuses this node.
    fn refused(&self, link: &Arc<Link>, refusal: &HandshakeRefusal);

    /// A control message from the accepting side.
    fn control(&self, link: &Arc<Link>, payload: &[u8]) -> Result<(), String>;

    /// The peer sent a message back, since the epoch of the sender or of the peer is stale. Or the
    /// peer left before it read the message.
    fn bounced(
        &self,
        link: &Arc<Link>,
        epoch: u64,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    );

    /// A message without an asker is lost, or may be.
    fn dead_letter(&self, message: LostMessage, reason: DeadLetterReason);
}

/// The other end of a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The process that is meant. `None` accepts any process at the address.
    pub(crate) member: Option<MemberId>,
}

impl Peer {
    fn target(&self) -> Target {
        Target {
            address: self.address,
            expected: self.member.as_ref().map(|member| member.node.clone()),
        }
    }
}

impl From<&Voter> for Peer {
    fn from(voter: &Voter) -> Self {
        Self {
            address: voter.address,
            member: Some(voter.member.clone()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => member.node.fmt(f),
            None => self.address.fmt(f),
        }
    }
}

pub(crate) struct Link {
    pub(crate) peer: Peer,
    pub(crate) lane: Lane,
    outbox: Outbox,
    meter: Arc<LaneMeter>,
    status: Mutex<Status>,
    /// Whether `status` is [`Status::Open`], to be read for each message without the lock.
    open: AtomicBool,
    connected: AtomicBool,
    cancel: CancellationToken,
}

#[derive(Clone, Debug)]
enum Status {
    /// Connected, or about to dial: frames are taken.
    Open,
    /// The last dial failed. Frames are refused until the pause is over.
    Down { reason: Arc<str>, until: Instant },
    /// The link is never used again. `left`: the peer has left the cluster in order.
    Dead { reason: Arc<str>, left: bool },
}

impl Link {
    pub(crate) fn new(
        peer: Peer,
        lane: Lane,
        meter: Arc<LaneMeter>,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            lane,
            outbox: Outbox::metered(meter.clone()),
            meter,
            status: Mutex::new(Status::Open),
            open: AtomicBool::new(true),
            connected: AtomicBool::new(false),
            cancel,
        })
    }

    /// A place for a message to an entity or an actor, for its finished frame. See
    /// [`Outbox::reserve`].
    ///
    /// # Errors
    /// [`Failure::Unreachable`], [`Failure::Full`], [`Failure::TooLarge`].
    pub(crate) fn reserve<'a>(
        &'a self,
        frame: &'a Frame<'a>,
        admission: Admission,
    ) -> Result<Place<'a>, Failure> {
        self.check()?;
        self.outbox.reserve(frame, admission).map_err(failure)
    }

    /// Queues a control message.
    pub(crate) fn send_control(&self, payload: &[u8]) -> Result<(), Failure> {
        self.check()?;
        self.outbox
            .put_urgent(Frame::Control(payload))
            .map_err(failure)
    }

    /// Bytes of control messages that wait to be written.
    pub(crate) fn control_bytes(&self) -> usize {
        self.outbox.urgent_bytes()
    }

    /// Resolves when a message that found no room may try again.
    pub(crate) async fn room(&self) {
        self.outbox.room().await;
    }

    fn is_dead(&self) -> bool {
        matches!(*lock(&self.status), Status::Dead { .. })
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    fn set_status(&self, status: Status) {
        let mut current = lock(&self.status);
        self.open
            .store(matches!(status, Status::Open), Ordering::Release);
        *current = status;
    }

    fn check(&self) -> Result<(), Failure> {
        if self.open.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = match &*lock(&self.status) {
            Status::Open => return Ok(()),
            Status::Down { until, .. } if Instant::now() >= *until => return Ok(()),
            Status::Down { reason, .. } | Status::Dead { reason, .. } => reason.clone(),
        };
        Err(self.unreachable(&reason, false))
    }

    fn unreachable(&self, reason: &str, maybe_handled: bool) -> Failure {
        Failure::Unreachable {
            node: self.peer.to_string(),
            reason: reason.to_owned(),
            maybe_handled,
        }
    }

    /// Ends the link for good, since the peer is no member any more. Every asker gets an error.
    pub(crate) fn kill(&self, reason: &str) {
        self.set_status(Status::Dead {
            reason: reason.into(),
            left: false,
        });
        self.cancel.cancel();
    }

    /// Accepts no more messages, since the peer has left in order. Its answers still arrive until
    /// it closes the connection.
    pub(crate) fn retire(&self, reason: &str) {
        self.set_status(Status::Dead {
            reason: reason.into(),
            left: true,
        });
        if !self.is_connected() {
            self.cancel.cancel();
        }
    }

    /// Dials, runs the connection, and dials again, until the link is killed or the node stops.
    pub(crate) async fn run(
        self: Arc<Self>,
        net: Arc<dyn Net>,
        owner: Arc<dyn LinkOwner>,
        times: LinkTimes,
        seed: u64,
    ) {
        let mut backoff = Backoff::new(times.backoff, times.backoff_max);
        let mut rng = StdRng::seed_from_u64(seed);
        while !self.is_dead()
            && self
                .connect_once(&*net, &owner, &times, (&mut backoff, &mut rng))
                .await
                .is_some()
        {}
        self.end(&*owner);
    }

    /// Waits until there is something to write, dials, and runs the connection to its end. After a
    /// failed dial, waits for the pause. `None`: the link was cancelled.
    async fn connect_once(
        self: &Arc<Self>,
        net: &dyn Net,
        owner: &Arc<dyn LinkOwner>,
        times: &LinkTimes,
        (backoff, rng): (&mut Backoff, &mut StdRng),
    ) -> Option<()> {
        self.unless_cancelled(self.outbox.work()).await?;
        let target = self.peer.target();
        let hello = || owner.hello(self.lane, self.peer.member.as_ref());
        let dialing = dial(net, &target, hello, times.connect);
        match self.unless_cancelled(dialing).await? {
            Ok(dialed) => {
                backoff.reset();
                self.run_connections(dialed, net, owner, times, rng).await;
            }
            Err(error) => {
                let until = Instant::now() + backoff.pause(rng.random());
                self.not_connected(&**owner, &error, until);
                self.unless_cancelled(tokio::time::sleep_until(until))
                    .await?;
            }
        }
        Some(())
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            output = work => Some(output),
        }
    }

    /// Runs a connection to its end, and those that replace it before its certificates end.
    async fn run_connections(
        self: &Arc<Self>,
        mut dialed: Dialed,
        net: &dyn Net,
        owner: &Arc<dyn LinkOwner>,
        times: &LinkTimes,
        rng: &mut StdRng,
    ) {
        self.set_status(Status::Open);
        self.connected.store(true, Ordering::Relaxed);
        let end = loop {
            self.meter.connected();
            let Dialed {
                stream,
                welcome,
                until,
            } = dialed;
            owner.connected(self, &welcome);
            let connection = Connection {
                stream,
                side: Side::Dialed,
                lane: self.lane,
                keepalive: times.keepalive,
                timer_thread: owner.timer_thread(),
                // The accepting side ends it.
                lasts: None,
                outbox: &self.outbox,
                cancel: &self.cancel,
            };
            let handle = |chunk: &Bytes| {
                connection::for_each_frame(chunk, |_, frame| self.handle(&**owner, chunk, frame))
            };
            let renewing = self.next_connection(net, &**owner, times, until, rng);
            let outcome = connection.run_until(renewing, handle, Bytes::new).await;
            self.meter.ended();
            match outcome {
                Outcome::Ended(end) => break end,
                Outcome::Replaced(successor, retired) => {
                    tracing::debug!(peer = %self.peer, lane = ?self.lane, "connection renewed");
                    let asked = self.outbox.replace();
                    let reading =
                        self.clone()
                            .read_on((retired, asked), owner.clone(), times.keepalive);
                    owner.spawn(reading);
                    dialed = successor;
                }
            }
        };
        if end.is_fault() {
            owner.cut_for(&self.peer, self.lane, &end);
        } else {
            tracing::debug!(peer = %self.peer, lane = ?self.lane, %end, "connection ended");
        }
        self.connected.store(false, Ordering::Relaxed);
        self.connection_lost(&**owner, &end.to_string());
        owner.disconnected(self, &end.to_string());
    }

    /// The connection that replaces one whose certificates last until then. Resolves when nothing
    /// is under way on the old one but answers.
    async fn next_connection(
        &self,
        net: &dyn Net,
        owner: &dyn LinkOwner,
        times: &LinkTimes,
        until: Option<Duration>,
        rng: &mut StdRng,
    ) -> Dialed {
        let renews = !mutants::on("connections_are_not_renewed");
        let Some(until) = until.filter(|_| renews) else {
            return std::future::pending().await;
        };
        loop {
            let left = until.saturating_sub(wall_clock::since_epoch());
            tokio::time::sleep(renewal::renew_after(left, rng.random())).await;
            let target = self.peer.target();
            let hello = || owner.hello(self.lane, self.peer.member.as_ref());
            match dial(net, &target, hello, times.connect).await {
                Ok(dialed) => {
                    let settling = self.outbox.settle();
                    if tokio::time::timeout(renewal::SETTLE_MAX, settling)
                        .await
                        .is_ok()
                    {
                        return dialed;
                    }
                    self.outbox.release();
                }
                Err(error) => {
                    tracing::debug!(peer = %self.peer, lane = ?self.lane, %error, "connection not renewed");
                }
            }
        }
    }

    /// Reads what still comes by a connection that was replaced. `asked`: the last correlation that
    /// went out on it.
    fn read_on(
        self: Arc<Self>,
        (retired, asked): (Retired, u64),
        owner: Arc<dyn LinkOwner>,
        keepalive: Keepalive,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let until = Instant::now() + renewal::RETIRED_MIN;
            let handle = |chunk: &Bytes| {
                connection::for_each_frame(chunk, |_, frame| match frame {
                    // Of a connection whose frames were all handled before.
                    Frame::Credit { .. } | Frame::Pong => Ok(()),
                    Frame::Goodbye { .. } => Err(ConnectionEnd::Closed),
                    frame => self.handle(&*owner, chunk, frame),
                })
            };
            let is_done = || {
                let is_over = Instant::now() >= until && !self.outbox.waits_up_to(asked);
                is_over || mutants::on("replaced_connections_are_not_read_on")
            };
            let ended = retired.run(keepalive, &self.cancel, handle, is_done).await;
            let mut lost = self.outbox.end_retired(asked);
            if let Err(end) = ended {
                if end.is_fault() {
                    owner.cut_for(&self.peer, self.lane, &end);
                }
                lost.fail_askers(&self.unreachable(&end.to_string(), true));
            }
        })
    }

    /// A dial failed. Messages are refused until the pause is over.
    fn not_connected(
        self: &Arc<Self>,
        owner: &dyn LinkOwner,
        error: &HandshakeError,
        until: Instant,
    ) {
        let reason = error.to_string();
        tracing::debug!(peer = %self.peer, lane = ?self.lane, reason, "not connected");
        self.set_status(Status::Down {
            reason: reason.as_str().into(),
            until,
        });
        self.give_up(owner, &reason);
        owner.disconnected(self, &reason);
        if let HandshakeError::Refused(refusal) = error {
            owner.refused(self, refusal);
        }
    }

    /// The link is used no more: nothing stays in its outbox.
    fn end(self: &Arc<Self>, owner: &dyn LinkOwner) {
        let (reason, left) = match &*lock(&self.status) {
            Status::Dead { reason, left } => (reason.to_string(), *left),
            _ => ("this node is shutting down".to_owned(), false),
        };
        self.set_status(Status::Dead {
            reason: reason.as_str().into(),
            left,
        });
        if left {
            self.take_back(owner, &reason);
        } else {
            self.give_up(owner, &reason);
        }
        owner.disconnected(self, &reason);
    }

    fn handle(
        self: &Arc<Self>,
        owner: &dyn LinkOwner,
        buffer: &Bytes,
        frame: Frame<'_>,
    ) -> Result<(), ConnectionEnd> {
        match frame {
            Frame::Reply {
                correlation,
                epoch,
                payload,
            } => {
                // Without an asker, the ask has timed out, or was answered before.
                if let Some((asked, pending)) = self.outbox.answered(correlation) {
                    pending.complete(if epoch == asked {
                        RawAnswer::Encoded(buffer.slice_ref(payload))
                    } else {
                        tracing::warn!(peer = %self.peer, asked, epoch, "an answer of another ownership");
                        let reason = "it answered under another epoch than it was asked under";
                        RawAnswer::Failed(self.unreachable(reason, true))
                    });
                }
            }
            Frame::Fail {
                correlation,
                payload,
            } => {
                if let Some((_, pending)) = self.outbox.answered(correlation) {
                    let failure = codec::decode(payload).unwrap_or_else(|error| Failure::Reply {
                        reason: format!("the peer reported a failure unknown here: {error}"),
                    });
                    pending.complete(RawAnswer::Failed(failure));
                }
            }
            Frame::Bounce { epoch, frame } => {
                let pending = match frame.correlation {
                    0 => None,
                    correlation => match self.outbox.answered(correlation) {
                        Some((_, pending)) => Some(pending),
                        // Without its asker, the message is not sent again.
                        None => return Ok(()),
                    },
                };
                owner.bounced(self, epoch, frame, buffer, pending);
            }
            Frame::Credit { received, granted } => self.outbox.confirm(received, granted),
            Frame::Control(payload) => {
                if let Err(reason) = owner.control(self, payload) {
                    tracing::warn!(peer = %self.peer, reason, "bad control message");
                    return Err(ConnectionEnd::Unexpected);
                }
            }
            Frame::Pong => self.outbox.handle_pong(),
            Frame::Goodbye { received } => {
                self.outbox.goodbye(received);
                return Err(ConnectionEnd::Closed);
            }
            Frame::Ping | Frame::GiveUp { .. } | Frame::Entity(_) | Frame::Actor { .. } => {
                return Err(ConnectionEnd::Unexpected);
            }
        }
        Ok(())
    }

    fn connection_lost(self: &Arc<Self>, owner: &dyn LinkOwner, reason: &str) {
        let mut lost = self.outbox.connection_lost();
        lost.fail_askers(&self.unreachable(reason, true));
        self.return_all(owner, std::mem::take(&mut lost.returned));
        let reason = DeadLetterReason::ConnectionLost {
            node: self.peer.to_string(),
        };
        Self::dead_letters(owner, lost, &reason);
    }

    /// The peer has left in order: messages that it never read may be sent to another node.
    fn take_back(self: &Arc<Self>, owner: &dyn LinkOwner, reason: &str) {
        let mut lost = self.outbox.take_back();
        lost.fail_askers(&self.unreachable(reason, true));
        self.return_all(owner, lost.returned);
    }

    fn return_all(self: &Arc<Self>, owner: &dyn LinkOwner, all: Vec<Returned>) {
        for Returned { frame, pending } in all {
            match frame::parse(&frame) {
                Ok(Frame::Entity(entity)) => {
                    owner.bounced(self, entity.epoch, entity, &frame, pending);
                }
                // An actor ends with its node.
                Ok(other) => match pending {
                    Some(pending) => pending.complete(RawAnswer::Failed(Failure::Stopped)),
                    None => {
                        if let Some(message) = lost_message(&other) {
                            owner.dead_letter(message, DeadLetterReason::Stopped);
                        }
                    }
                },
                Err(error) => tracing::error!(%error, "a frame of our own cannot be read"),
            }
        }
    }

    fn give_up(&self, owner: &dyn LinkOwner, reason: &str) {
        let mut lost = self.outbox.give_up();
        lost.fail_askers(&self.unreachable(reason, false));
        let (node, reason) = (self.peer.to_string(), reason.to_owned());
        Self::dead_letters(owner, lost, &DeadLetterReason::Unreachable { node, reason });
    }

    fn dead_letters(owner: &dyn LinkOwner, lost: Lost, reason: &DeadLetterReason) {
        for message in lost.told {
            owner.dead_letter(message, reason.clone());
        }
    }
}

fn failure(error: PutError) -> Failure {
    match error {
        PutError::Full => Failure::Full,
        PutError::TooLarge { bytes } => Failure::TooLarge {
            bytes,
            bytes_max: FRAME_BYTES_MAX,
        },
    }
}
