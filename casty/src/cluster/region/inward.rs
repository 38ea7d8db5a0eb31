//! Messages that came over a connection, and items that were kept until their shard came here.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    actor::{
        Entity,
        cell::{Arrived, Cell, RefusalReason, policy::Overflow, undecodable},
        envelope::{Envelope, ReplyTo},
    },
    cluster::region::{
        FENCE, HOPS_MAX, ShardRegion, gone,
        local::Refused,
        parked::{Origin, Parked, ParkedFrame, Peer, remote_ask},
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
        connection::{Grant, Inlet},
        frame::{self, EntityFrame, Frame},
    },
};

/// What one connection from another node brings for the entities of a type.
pub(crate) trait Inward: Send {
    /// A message, `at` so many bytes into the chunk. The runtime has been entered. It may be held
    /// until
    /// [`flush`](Self::flush).
    fn handle(
        &mut self,
        inlet: &Arc<Inlet>,
        frame: EntityFrame<'_>,
        chunk: &Bytes,
        at: usize,
        grant: Grant<'_>,
    );

    /// Queues what is held. To be called before anything else of the connection is looked at, and
    /// at the end of the chunk.
    fn flush(&mut self, inlet: &Arc<Inlet>, chunk: &Bytes);
}

/// Messages for one entity that are queued together, at most.
const HELD_MAX: usize = 64;

/// Remembers where the last message went: often the next one is for the same entity.
pub(super) struct Incoming<E: Entity> {
    region: Arc<ShardRegion<E>>,
    last: Last<E>,
    /// For the remembered cell, in order: its mailbox is locked once for all of them.
    held: Vec<Arrived<E>>,
}

/// The entity that a message was for, and its cell if the one before was for it as well.
///
/// Cells close before their shard goes elsewhere, and before it comes back under another epoch: so
/// one that takes a message is the right one.
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
    pub(super) fn new(region: Arc<ShardRegion<E>>) -> Self {
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

    /// Finds the place of a message. Its cell is remembered if this comes `again`.
    fn place(
        &mut self,
        inlet: &Arc<Inlet>,
        frame: EntityFrame<'_>,
        chunk: &Bytes,
        envelope: Result<Envelope<E>, DecodeError>,
        again: bool,
        grant: Grant<'_>,
    ) {
        let Self { region, last, .. } = self;
        let theirs = Epoch(frame.epoch);
        let mut grant = Some(grant);
        match envelope {
            Ok(envelope) => {
                let push = |cell: &Arc<Cell<E>>, envelope| {
                    cell.push_credited(envelope, || grant.take().map(Grant::keep))?;
                    last.cell = again.then(|| cell.clone());
                    Ok(())
                };
                let shard = shard_of(frame.id, region.shards);
                match region.push(frame.id, shard, Some(theirs), envelope, push) {
                    Ok(()) => return,
                    Err(Refused::Full(envelope, cell)) => {
                        return cell.undeliverable(envelope, Failure::Full);
                    }
                    Err(Refused::Failed(envelope, failure)) => {
                        let path = || region.path(frame.id);
                        return envelope.undelivered(&region.runtime, &path, failure);
                    }
                    // Its asker hears of it by the bounce, or later.
                    Err(Refused::NotHere(Envelope { reply, .. })) => reply.forget(),
                }
            }
            Err(error) if region.local.epoch(shard_of(frame.id, region.shards)) == Some(theirs) => {
                let reply = region.asker_of(inlet, &frame);
                return region.undecodable(frame.id, frame.payload, reply, error);
            }
            Err(_) => {}
        }
        region.not_here(inlet, frame, chunk, grant);
    }
}

impl<E: Entity> Drop for Incoming<E> {
    /// Something is held only if a message behind it could not be looked at, by a panic in a user's
    /// code.
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
        // Decoded before the shard is looked at, since a user's code never runs under a lock. In
        // vain if the shard is not here, which is rare.
        let envelope = codec::decode(frame.payload).map(|message| Envelope {
            message,
            reply: self.region.asker_of(inlet, &frame),
        });
        // A chain is looked at one by one, and so is what may cost an older message its place.
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
                self.place(inlet, frame, chunk, envelope, again, grant);
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
            Ok(placed) => drop(Grant::new(inlet, placed)),
            Err(RefusalReason::Failing(failure)) => {
                for Arrived {
                    envelope, bytes, ..
                } in self.held.drain(..)
                {
                    drop(Grant::new(inlet, bytes));
                    cell.undeliverable(envelope, failure.clone());
                }
            }
            // It has ended: another has taken its place, or the shard has gone.
            Err(RefusalReason::Closed) => {
                self.last.cell = None;
                for Arrived {
                    envelope,
                    bytes,
                    at,
                } in std::mem::take(&mut self.held)
                {
                    // It was read from there before.
                    if let Some(Frame::Entity(frame)) = frame::frames(&chunk[at..]).next() {
                        let grant = Grant::new(inlet, bytes);
                        self.place(inlet, frame, chunk, Ok(envelope), true, grant);
                    }
                }
            }
        }
    }
}

impl<E: Entity> ShardRegion<E> {
    /// A message for a shard that is not here, as far as is known.
    fn not_here(
        &self,
        inlet: &Arc<Inlet>,
        frame: EntityFrame<'_>,
        chunk: &Bytes,
        grant: Option<Grant<'_>>,
    ) {
        let theirs = Epoch(frame.epoch);
        let shard = shard_of(frame.id, self.shards);
        let mut machine = lock(&self.machine);
        let known = machine.known_epoch(shard);
        let ahead = theirs > known && !machine.is_past(shard, theirs);
        // The map may have made it ours between the look at the shard and the lock of the machine.
        let here = machine.home(shard) == Home::Here(theirs);
        if !ahead && !here {
            drop(machine);
            inlet.send(Frame::Bounce {
                epoch: known.0,
                frame,
            });
            return;
        }
        // The sender knows more than this node has heard: the message waits for the news.
        let item = Parked::Raw(ParkedFrame {
            id: EntityId::new(frame.id),
            chain: chunk.slice_ref(frame.chain),
            payload: chunk.slice_ref(frame.payload),
            hops: frame.hops,
            origin: Origin::Peer(Peer {
                epoch: theirs,
                correlation: frame.correlation,
                kind: frame.kind,
                inlet: inlet.clone(),
                credit: grant.map(Grant::keep),
            }),
        });
        match machine.handle_ahead(shard, theirs, item, Instant::now()) {
            Ok(effect) => self.carry_out(&mut machine, effect),
            Err(item) => self.fail(item, Failure::Full),
        }
    }

    fn asker_of(&self, inlet: &Arc<Inlet>, frame: &EntityFrame<'_>) -> ReplyTo<E::Reply> {
        let epoch = Epoch(frame.epoch);
        remote_ask(&self.runtime, inlet, frame.correlation, epoch, frame.chain).into()
    }

    /// A message that another node did not take.
    pub(super) fn handle_bounce(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        if frame.payload == FENCE {
            // Behind everything else that comes back; dropped, it says so.
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
        if self.is_abandoned() {
            return self.fail(item, Failure::Stopped);
        }
        // Not there at the epoch it was sent with: whatever comes next has a later one. What the
        // peer says it knows is not believed beyond that.
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

    /// Hands an item to an entity here. It has been accepted before, so it is taken even where a
    /// mailbox is full.
    pub(super) fn deliver(
        &self,
        machine: &mut Region<Parked<E>>,
        shard: ShardId,
        epoch: Epoch,
        item: Parked<E>,
    ) {
        let (id, envelope, mut credit) = match item {
            Parked::Own { id, envelope } => (id, envelope, None),
            Parked::Raw(raw) => {
                if let Origin::Peer(peer) = &raw.origin
                    && peer.epoch < epoch
                {
                    // It waited here for a home that meanwhile moved on.
                    peer.inlet.send(Frame::Bounce {
                        epoch: epoch.0,
                        frame: raw.frame_of(peer),
                    });
                    return;
                }
                let ParkedFrame {
                    id,
                    chain,
                    payload,
                    origin,
                    ..
                } = raw;
                let (reply, credit) = origin.into_reply(&self.runtime, &chain);
                match self.decode(&payload) {
                    Ok(message) => (id, Envelope { message, reply }, credit),
                    Err(error) => return self.undecodable(id.as_str(), &payload, reply, error),
                }
            }
        };
        let pushed = self.push(&id, shard, None, envelope, |cell, envelope| {
            cell.push_credited(envelope, || credit.take())
        });
        match pushed {
            Ok(()) => {}
            Err(Refused::NotHere(envelope)) => {
                // Given up in this moment: it waits for the next owner.
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
            Err(Refused::Full(envelope, cell)) => cell.undeliverable(envelope, Failure::Full),
            Err(Refused::Failed(envelope, failure)) => {
                envelope.undelivered(&self.runtime, &|| self.path(&id), failure);
            }
        }
    }

    fn decode(&self, payload: &[u8]) -> Result<E::Message, DecodeError> {
        self.runtime.enter(|| codec::decode(payload))
    }

    fn undecodable(
        &self,
        id: &str,
        payload: &[u8],
        reply: ReplyTo<E::Reply>,
        DecodeError(reason): DecodeError,
    ) {
        let name = codec::variant_name(payload).unwrap_or("?");
        undecodable(&self.runtime, &|| self.path(id), name, reply, reason);
    }
}
