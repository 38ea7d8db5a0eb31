//! Messages that came over a connection, and messages that the machine kept until their shard came
//! to this node.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    actor::{
        Entity, Envelope, Message as _, Reply,
        ask::{
            reply::{ReplyTo, undecodable},
            terms,
        },
        cell::{Arrived, Cell, Refusal, RefusalReason, policy::Overflow},
    },
    cluster::region::{
        FENCE, HOPS_MAX, ShardRegion, gone,
        parked::{Decoded, Origin, Parked, ParkedFrame, Peer, received},
    },
    error::Failure,
    id::{EntityId, Epoch, ShardId, shard_of},
    infra::{mutants, sync::lock},
    message::{
        answer::{Credit, Pending},
        codec::{self, DecodeError},
    },
    protocol::region::{Effect, Home, Region},
    transport::{
        connection::Inlet,
        frame::{self, EntityFrame, Frame},
        grant::Grant,
    },
};

/// Reads the messages of one connection from another node, for the entities of one type.
pub(crate) trait Inward: Send {
    /// Handles a message, which begins `at` so many bytes into the chunk. The runtime has been
    /// entered. The message may be held until [`flush`](Self::flush).
    fn handle(
        &mut self,
        inlet: &Arc<Inlet>,
        frame: EntityFrame<'_>,
        chunk: &Bytes,
        at: usize,
        grant: Grant<'_>,
    );

    /// Queues the messages that are held. To be called before any other frame of the connection is
    /// handled, and at the end of the chunk.
    fn flush(&mut self, inlet: &Arc<Inlet>, chunk: &Bytes);
}

/// Upper bound on the messages for one entity that are queued together.
const HELD_MAX: usize = 64;

/// Remembers the target of the last message: the next message is often for the same entity.
pub(super) struct Incoming<E: Entity> {
    region: Arc<ShardRegion>,
    last: Last<E>,
    /// Messages for the remembered cell, in order. Its mailbox is locked once for all of them.
    held: Vec<Arrived<E>>,
}

/// The target of the last message, and its cell if the message before had the same target.
///
/// A shard closes its cells before it moves. So a cell that still accepts a message belongs to the
/// present epoch.
struct Last<E: Entity> {
    id: String,
    epoch: Epoch,
    cell: Option<Arc<Cell<E>>>,
}

impl<E: Entity> Last<E> {
    fn is(&self, id: &str, epoch: Epoch) -> bool {
        self.epoch == epoch && self.id == id
    }

    fn set(&mut self, id: &str, epoch: Epoch) {
        self.epoch = epoch;
        self.id.clear();
        self.id.push_str(id);
        self.cell = None;
    }
}

impl<E: Entity> Incoming<E> {
    pub(super) fn new(region: Arc<ShardRegion>) -> Self {
        Self {
            region,
            last: Last {
                id: String::new(),
                epoch: Epoch::ZERO,
                cell: None,
            },
            held: Vec::new(),
        }
    }

    /// Puts a message into its mailbox, or sends it back. `again`: the previous message had the
    /// same target, so the cell is remembered.
    fn place(
        &mut self,
        inlet: &Arc<Inlet>,
        frame: EntityFrame<'_>,
        envelope: Result<Envelope<E>, DecodeError>,
        again: bool,
        grant: Grant<'_>,
    ) {
        let Self { region, last, .. } = self;
        let theirs = Epoch(frame.epoch);
        let shard = shard_of(frame.id, region.shards);
        let mut grant = Some(grant);
        match envelope {
            Ok(mut envelope) => {
                if envelope.reply.is_for_active()
                    && region.local.has_none_active(shard, Some(theirs), frame.id)
                {
                    let path = || region.path(frame.id);
                    return envelope.undelivered(&region.runtime, &path, Failure::NotActive);
                }
                if let Some(failure) = region.refusal(inlet, shard, Some(theirs), frame.id) {
                    let path = || region.path(frame.id);
                    return envelope.undelivered(&region.runtime, &path, failure);
                }
                let (id, owned) = (frame.id, || EntityId::new(frame.id));
                let mut closed = None;
                while let Some(cell) =
                    region.cell::<E>(shard, Some(theirs), id, &owned, closed.as_ref())
                {
                    match cell.push_credited(envelope, || grant.take().map(Grant::keep)) {
                        Ok(()) => {
                            drop_orphans(inlet, &cell);
                            last.cell = again.then_some(cell);
                            return;
                        }
                        Err(Refusal::Closed(back)) => (envelope, closed) = (back, Some(cell)),
                        Err(Refusal::Full(envelope)) => {
                            return cell.undeliverable(envelope, Failure::Full);
                        }
                        Err(Refusal::Failing(envelope, failure)) => {
                            return cell.undeliverable(envelope, failure);
                        }
                    }
                }
                // The bounce, or a later answer, tells the asker.
                envelope.reply.forget();
            }
            Err(error) if region.local.epoch(shard) == Some(theirs) => {
                let reply = region.asker_of::<E::Reply>(inlet, &frame);
                return region.undecodable(frame.id, frame.payload, reply, error);
            }
            Err(_) => {}
        }
        region.not_here(inlet, frame, grant);
    }
}

impl<E: Entity> Drop for Incoming<E> {
    /// Messages are still held here only after a panic in a user's code.
    fn drop(&mut self) {
        for Arrived { envelope, .. } in self.held.drain(..) {
            let path = || self.region.path(&self.last.id);
            envelope.undelivered(&self.region.runtime, &path, Failure::Stopped);
        }
    }
}

impl<E: Entity> Inward for Incoming<E> {
    fn handle(
        &mut self,
        inlet: &Arc<Inlet>,
        frame: EntityFrame<'_>,
        chunk: &Bytes,
        at: usize,
        grant: Grant<'_>,
    ) {
        let theirs = Epoch(frame.epoch);
        let again = self.last.is(frame.id, theirs);
        if !again {
            self.flush(inlet, chunk);
            self.last.set(frame.id, theirs);
        }
        // The message is decoded before the shard is locked, since a user's code never runs under a
        // lock. The work is wasted if the shard is not here, which is rare.
        let envelope = E::Message::decode(frame.payload).map(|message| Envelope {
            message,
            reply: self.region.asker_of(inlet, &frame),
        });
        // A message with a chain is not held, since it may be refused alone. Nor are messages whose
        // mailbox may drop an older one.
        let may_hold = E::POLICY.overflow == Overflow::Wait && frame.chain.is_empty();
        match envelope {
            Ok(envelope) if may_hold && self.last.cell.is_some() => {
                let bytes = grant.hold();
                self.held.push(Arrived {
                    envelope,
                    bytes,
                    at,
                });
                if self.held.len() == HELD_MAX {
                    self.flush(inlet, chunk);
                }
            }
            envelope => {
                self.flush(inlet, chunk);
                self.place(inlet, frame, envelope, again, grant);
            }
        }
    }

    fn flush(&mut self, inlet: &Arc<Inlet>, chunk: &Bytes) {
        if self.held.is_empty() {
            return;
        }
        let Some(cell) = self.last.cell.clone() else {
            return;
        };
        let credit = |bytes| Credit::new(inlet.clone(), bytes);
        match cell.push_arrived(&mut self.held, credit) {
            Ok(placed) => {
                drop(Grant::new(inlet, placed));
                drop_orphans(inlet, &cell);
            }
            Err(RefusalReason::Failing(failure)) => {
                for Arrived {
                    envelope, bytes, ..
                } in self.held.drain(..)
                {
                    drop(Grant::new(inlet, bytes));
                    cell.undeliverable(envelope, Failure::clone(&failure));
                }
            }
            // The cell has closed: a fresh one takes its place, or the shard has moved.
            Err(RefusalReason::Closed) => {
                self.last.cell = None;
                for Arrived {
                    envelope,
                    bytes,
                    at,
                } in std::mem::take(&mut self.held)
                {
                    // The same frame was parsed from here before.
                    if let Some(Frame::Entity(frame)) = frame::frames(&chunk[at..]).next() {
                        let grant = Grant::new(inlet, bytes);
                        self.place(inlet, frame, Ok(envelope), true, grant);
                    }
                }
            }
        }
    }
}

/// Drops what a client's connections have left in a mailbox, now and then.
fn drop_orphans<E: Entity>(inlet: &Inlet, cell: &Cell<E>) {
    if inlet.client.is_some() {
        cell.drop_orphans();
    }
}

impl ShardRegion {
    /// Handles a message for a shard that is not here, as far as this node knows.
    #[cold]
    #[inline(never)]
    fn not_here(&self, inlet: &Arc<Inlet>, frame: EntityFrame<'_>, grant: Option<Grant<'_>>) {
        let theirs = Epoch(frame.epoch);
        let shard = shard_of(frame.id, self.shards);
        let mut machine = lock(&self.machine);
        let known = machine.known_epoch(shard);
        let ahead = theirs > known && !machine.is_past(shard, theirs);
        // The shard may have come here since its lock was released.
        let here = machine.home(shard) == Home::Here(theirs);
        if !ahead && !here {
            drop(machine);
            inlet.send(Frame::Bounce {
                epoch: known.0,
                frame,
            });
            return;
        }
        // The sender knows a later home than this node: the message waits for the map. It is
        // copied, for a short one must not keep the whole chunk that it came in.
        let bytes = frame.id.len() + frame.chain.len() + frame.payload.len();
        let bytes = bytes + size_of::<ParkedFrame>();
        let item = Parked::Raw(ParkedFrame {
            id: EntityId::new(frame.id),
            chain: Bytes::copy_from_slice(frame.chain),
            payload: Bytes::copy_from_slice(frame.payload),
            hops: frame.hops,
            origin: Origin::Peer(Peer {
                epoch: theirs,
                correlation: frame.correlation,
                kind: frame.kind,
                inlet: inlet.clone(),
                credit: grant.map(Grant::keep),
            }),
        });
        match machine.handle_ahead(shard, theirs, item, bytes, Instant::now()) {
            Ok(effect) => self.carry_out(&mut machine, effect),
            Err(item) => self.fail(item, Failure::Full),
        }
    }

    /// Why a peer's message must not start this entity.
    fn refusal(
        &self,
        inlet: &Inlet,
        shard: ShardId,
        epoch: Option<Epoch>,
        id: &str,
    ) -> Option<Failure> {
        let client = inlet.client.as_ref()?;
        let would_start = self.local.would_start(shard, epoch, id);
        would_start.then(|| client.take().err()).flatten()
    }

    fn asker_of<R>(&self, inlet: &Arc<Inlet>, frame: &EntityFrame<'_>) -> ReplyTo<R> {
        let epoch = Epoch(frame.epoch);
        received(&self.runtime, inlet, frame.correlation, epoch, frame.chain).into()
    }

    /// Handles a message that another node sent back.
    pub(super) fn handle_bounce(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        if frame.payload == FENCE {
            // The fence comes behind all returned messages. Its drop reports that it has passed.
            return drop(pending);
        }
        if mutants::on("returned_messages_are_forgotten") && frame.correlation == 0 {
            return;
        }
        let id = EntityId::new(frame.id);
        let shard = id.shard(self.shards);
        let item = Parked::Raw(ParkedFrame {
            id,
            chain: buffer.slice_ref(frame.chain),
            payload: buffer.slice_ref(frame.payload),
            hops: frame.hops.saturating_add(1),
            origin: Origin::Own(pending),
        });
        if frame.hops >= HOPS_MAX {
            return self.fail(item, gone(shard));
        }
        let mut machine = lock(&self.machine);
        if let Some(why) = self.abandoned() {
            return self.fail(item, Failure::clone(&why));
        }
        // The shard is not at that node at the epoch of the message, so the next home has a later
        // epoch. The epoch that the peer claims is not trusted beyond that.
        let known = machine.known_epoch(shard);
        tracing::debug!(kind = self.name, %shard, sent = frame.epoch, theirs = %epoch, ours = %known, "sent back");
        if frame.epoch >= known.0 {
            let fence = machine.handle_newer(shard, Epoch(known.0.saturating_add(1)));
            if fence.is_some() {
                self.change_homes(&mut machine, fence, &[]);
            }
        }
        match machine.handle_returned(shard, item, Instant::now()) {
            Ok(effect) => self.carry_out(&mut machine, effect),
            Err(item) => self.fail(item, Failure::Full),
        }
    }

    /// Hands an item to an entity here. The item was accepted before, so a full mailbox takes it as
    /// well.
    pub(super) fn deliver(
        &self,
        machine: &mut Region<Parked>,
        shard: ShardId,
        epoch: Epoch,
        item: Parked,
    ) {
        let decoded = match item {
            Parked::Own { id, envelope } => Decoded {
                id,
                envelope,
                credit: None,
            },
            Parked::Raw(raw) => {
                if let Origin::Peer(peer) = &raw.origin
                    && peer.epoch < epoch
                {
                    // The shard's home has moved on since the peer sent the message.
                    peer.inlet.send(Frame::Bounce {
                        epoch: epoch.0,
                        frame: raw.frame_of(peer),
                    });
                    return;
                }
                if terms::is_for_active(&raw.chain)
                    && self.local.has_none_active(shard, None, raw.id.as_str())
                {
                    return self.fail(Parked::Raw(raw), Failure::NotActive);
                }
                if let Origin::Peer(peer) = &raw.origin
                    && let Some(why) = self.refusal(&peer.inlet, shard, None, raw.id.as_str())
                {
                    return self.fail(Parked::Raw(raw), why);
                }
                match (self.entity_type.decode)(self, raw) {
                    Some(decoded) => decoded,
                    None => return,
                }
            }
        };
        let Decoded {
            id,
            envelope,
            credit,
        } = decoded;
        if let Some(envelope) = envelope.deliver(self, shard, &id, credit) {
            // The shard was given up in this moment: the message waits for the next owner.
            machine.handle_newer(shard, Epoch(epoch.0 + 1));
            let item = Parked::Own { id, envelope };
            match machine.handle_item(shard, item, Instant::now()) {
                Ok(Some(Effect::Resolve { shard })) => self.resolve(shard),
                Ok(Some(other)) => {
                    tracing::error!("an item without a home was routed");
                    if let Effect::Fail { item }
                    | Effect::Send { item, .. }
                    | Effect::Deliver { item, .. } = other
                    {
                        self.fail(item, Failure::Stopped);
                    }
                }
                Ok(None) => {}
                Err(item) => self.fail(item, Failure::Full),
            }
        }
    }

    /// Decodes a message that came encoded. If it cannot be decoded, its asker gets the error.
    pub(super) fn decode<E: Entity>(&self, frame: ParkedFrame) -> Option<Decoded> {
        let ParkedFrame {
            id,
            chain,
            payload,
            origin,
            ..
        } = frame;
        let (reply, credit) = origin.into_reply::<E::Reply>(&self.runtime, &chain);
        let decoded = self.runtime.enter(|| E::Message::decode(&payload));
        match decoded {
            Ok(message) => Some(Decoded {
                id,
                envelope: Box::new(Envelope::<E> { message, reply }),
                credit,
            }),
            Err(error) => {
                self.undecodable(id.as_str(), &payload, reply, error);
                None
            }
        }
    }

    fn undecodable<R: Reply>(
        &self,
        id: &str,
        payload: &[u8],
        reply: ReplyTo<R>,
        DecodeError(reason): DecodeError,
    ) {
        let name = codec::variant_name(payload).unwrap_or("?");
        undecodable(&self.runtime, &|| self.path(id), name, reply, reason);
    }
}
