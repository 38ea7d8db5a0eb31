//! Messages of this node: into a mailbox here, onto a link, or into the machine until a home is
//! known.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    actor::{
        Entity, Envelope, Message as _, Rejected, Route,
        ask::chain,
        cell::{Cell, Refusal},
        reference::Found,
        runtime::Runtime,
    },
    cluster::region::{
        FastHome, HOPS_MAX, ShardRegion, gone,
        parked::{Origin, Parked, ParkedEnvelope},
    },
    error::{Delay, Failure},
    id::{EntityId, Epoch, ShardId},
    infra::sync::lock,
    message::{answer::WayBack, codec},
    protocol::map::Slot,
    transport::{
        frame::{EntityFrame, Frame},
        link::Link,
        outbox::Admission,
    },
};

impl ShardRegion {
    /// Sends an envelope of this node to the owner of its shard.
    pub(super) fn send_remote<E: Entity>(
        &self,
        link: &Link,
        epoch: Epoch,
        id: &EntityId,
        envelope: Envelope<E>,
        admission: Admission,
    ) -> Result<(), Rejected<E>> {
        if !chain::may_act() {
            return Err(Rejected::new(envelope, Failure::NoQuorum));
        }
        let Envelope { message, mut reply } = envelope;
        let chain = reply.encode_chain(&self.runtime);
        let sent = codec::with_scratch(
            |out| message.encode(out),
            |payload| {
                let frame = Frame::Entity(EntityFrame {
                    kind: self.kind,
                    hops: 0,
                    epoch: epoch.0,
                    correlation: 0,
                    id: id.as_str(),
                    chain: &chain,
                    payload,
                });
                let place = link.reserve(&frame, admission)?;
                place.put(reply.take());
                Ok(())
            },
        );
        let failure = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(codec::EncodeError(reason)) => Failure::Unencodable { reason },
        };
        Err(Rejected::new(Envelope { message, reply }, failure))
    }

    /// Puts an envelope into the mailbox of an entity of this node; `found` remembers the entity's
    /// cell. Returns the envelope if the shard is not here any more.
    fn send_here<E: Entity>(
        &self,
        id: &EntityId,
        shard: ShardId,
        mut envelope: Envelope<E>,
        found: &Found<E>,
    ) -> Result<Option<Envelope<E>>, Rejected<E>> {
        let mut closed = None;
        loop {
            if envelope.reply.is_for_active()
                && self.local.has_none_active(shard, None, id.as_str())
            {
                return Err(Rejected::new(envelope, Failure::NotActive));
            }
            let cell = self.cell::<E>(shard, None, id.as_str(), &|| id.clone(), closed.as_ref());
            let Some(cell) = cell else {
                return Ok(Some(envelope));
            };
            match cell.push(envelope) {
                Ok(()) => {
                    found.remember(&cell);
                    return Ok(None);
                }
                Err(Refusal::Closed(back)) => (envelope, closed) = (back, Some(cell)),
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// Routes an envelope whose home was unknown a moment ago.
    fn route<E: Entity>(
        &self,
        id: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> Result<(), Rejected<E>> {
        let Err((envelope, failure)) = self.route_parked(id, shard, Box::new(envelope)) else {
            return Ok(());
        };
        match envelope.into_any().downcast::<Envelope<E>>() {
            Ok(envelope) => Err(Rejected::new(*envelope, failure)),
            // Unreachable: the envelope that was put in comes out.
            Err(_) => Ok(()),
        }
    }

    fn route_parked(
        &self,
        id: &EntityId,
        shard: ShardId,
        envelope: Box<dyn ParkedEnvelope>,
    ) -> Result<(), (Box<dyn ParkedEnvelope>, Failure)> {
        // Effects are carried out under the lock, so that items go out in the order of effects.
        let mut machine = lock(&self.machine);
        if let Some(why) = self.abandoned() {
            return Err((envelope, Failure::clone(&why)));
        }
        let id = id.clone();
        let item = Parked::Own { id, envelope };
        match machine.handle_item(shard, item, Instant::now()) {
            Ok(effect) => {
                self.carry_out(&mut machine, effect);
                Ok(())
            }
            Err(Parked::Own { envelope, .. }) => Err((envelope, Failure::Full)),
            Err(raw @ Parked::Raw(_)) => {
                // Unreachable: the item that was put in comes out.
                self.fail(raw, Failure::Full);
                Ok(())
            }
        }
    }

    /// Sends an item that has found its home elsewhere.
    pub(super) fn send_item(&self, shard: ShardId, to: Slot, epoch: Epoch, item: Parked) {
        let raw = match item {
            Parked::Own { id, envelope } => {
                let Some(link) = self.link(to) else {
                    return self.fail(Parked::Own { id, envelope }, gone(shard));
                };
                envelope.send(self, &link, epoch, &id);
                return;
            }
            Parked::Raw(raw) => raw,
        };
        let mut raw = raw;
        match &mut raw.origin {
            // The peer takes this node for the owner. The bounce corrects that.
            Origin::Peer(peer) => {
                let inlet = peer.inlet.clone();
                if let Origin::Peer(peer) = &raw.origin {
                    inlet.send(Frame::Bounce {
                        epoch: epoch.0,
                        frame: raw.frame_of(peer),
                    });
                }
            }
            Origin::Own(pending) => {
                let pending = pending.take();
                let Some(link) = self.link(to).filter(|_| raw.hops < HOPS_MAX) else {
                    raw.origin = Origin::Own(pending);
                    return self.fail(Parked::Raw(raw), gone(shard));
                };
                let frame = Frame::Entity(EntityFrame {
                    kind: self.kind,
                    hops: raw.hops,
                    epoch: epoch.0,
                    correlation: 0,
                    id: raw.id.as_str(),
                    chain: &raw.chain,
                    payload: &raw.payload,
                });
                let failure = match link.reserve(&frame, Admission::Accepted) {
                    Ok(place) => return place.put(pending),
                    Err(failure) => failure,
                };
                raw.origin = Origin::Own(pending);
                self.fail(Parked::Raw(raw), failure);
            }
        }
    }
}

impl<E: Entity> Route<E> for ShardRegion {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn explain(
        &self,
        to: &EntityId,
        within: Option<Duration>,
    ) -> Option<BoxFuture<'static, Option<Delay>>> {
        self.delay(to, within)
    }

    fn shards(&self) -> NonZeroU32 {
        self.shards
    }

    fn try_send(
        &self,
        id: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
        found: &Found<E>,
    ) -> Result<(), Rejected<E>> {
        let homes = self.homes.load();
        let envelope = match homes.get(shard.index()) {
            Some(FastHome::Here) => match self.send_here(id, shard, envelope, found) {
                Ok(None) => return Ok(()),
                Ok(Some(envelope)) => envelope,
                Err(rejected) => return Err(rejected),
            },
            Some(FastHome::There(link, epoch)) => {
                return self.send_remote(link, *epoch, id, envelope, Admission::New);
            }
            Some(FastHome::Unknown) | None => envelope,
        };
        // `change_homes` holds the machine while it waits for the readers of the old homes.
        drop(homes);
        self.route(id, shard, envelope)
    }

    fn send(
        self: Arc<Self>,
        id: EntityId,
        shard: ShardId,
        mut envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        Box::pin(async move {
            loop {
                let room = self.room.notified();
                let wait = self.wait_for_room(&id, shard);
                if let RoomIn::Mailbox(cell) = &wait {
                    match cell.push_wait(envelope).await {
                        Ok(()) => return Ok(()),
                        Err(Refusal::Failing(back, failure)) => {
                            return Err(Rejected::new(back, failure));
                        }
                        // The cell closed during the wait. The next round finds its successor.
                        Err(Refusal::Closed(back) | Refusal::Full(back)) => envelope = back,
                    }
                }
                match self.try_send(&id, shard, envelope, &Found::new()) {
                    Err(Rejected {
                        envelope: back,
                        failure: Failure::Full,
                    }) => envelope = back,
                    result => return result,
                }
                match wait {
                    RoomIn::Mailbox(_) => {}
                    RoomIn::Link(link) => link.room().await,
                    RoomIn::Region => room.await,
                }
            }
        })
    }
}

/// The place where a sender waits for room.
enum RoomIn<E: Entity> {
    Mailbox(Arc<Cell<E>>),
    Link(Arc<Link>),
    Region,
}

impl ShardRegion {
    fn wait_for_room<E: Entity>(&self, id: &EntityId, shard: ShardId) -> RoomIn<E> {
        match self.homes.load().get(shard.index()) {
            Some(FastHome::There(link, _)) => RoomIn::Link(link.clone()),
            Some(FastHome::Here) => {
                let cell = self.local.present_cell(shard, id);
                let cell = cell.and_then(|cell| cell.into_any().downcast().ok());
                cell.map_or(RoomIn::Region, RoomIn::Mailbox)
            }
            Some(FastHome::Unknown) | None => RoomIn::Region,
        }
    }
}
