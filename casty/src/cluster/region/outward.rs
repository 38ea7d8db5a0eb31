//! Messages of this node's: to an entity here, onto a link, or to wait for a home.

use std::{num::NonZeroU32, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    actor::{
        Entity, Rejected, Route,
        ask::chain,
        cell::{Cell, Refusal},
        envelope::Envelope,
        reference::Found,
        runtime::Runtime,
    },
    cluster::region::{
        FastHome, HOPS_MAX, ShardRegion, gone,
        local::Refused,
        parked::{Origin, Parked},
    },
    error::Failure,
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

impl<E: Entity> ShardRegion<E> {
    /// Sends an envelope of this node's to the owner.
    fn send_remote(
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
        let chain = chain::encoded(reply.chain(), &self.runtime);
        let sent = codec::with_encoded(&message, |payload| {
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
        });
        let failure = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(codec::EncodeError(reason)) => Failure::Unencodable { reason },
        };
        Err(Rejected::new(Envelope { message, reply }, failure))
    }

    /// The way for a message whose home is unknown, or was a moment ago.
    fn route(
        &self,
        id: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> Result<(), Rejected<E>> {
        // Effects are carried out under the lock: the order of items is the order of effects.
        let mut machine = lock(&self.machine);
        if self.is_abandoned() {
            return Err(Rejected::new(envelope, Failure::Stopped));
        }
        let item = Parked::Own {
            id: id.clone(),
            envelope,
        };
        match machine.handle_item(shard, item, Instant::now()) {
            Ok(effect) => {
                self.carry_out(&mut machine, effect);
                Ok(())
            }
            Err(Parked::Own { envelope, .. }) => Err(Rejected::new(envelope, Failure::Full)),
            Err(raw @ Parked::Raw(_)) => {
                // Cannot be: what was put in comes out.
                self.fail(raw, Failure::Full);
                Ok(())
            }
        }
    }

    /// Sends an item that has found its home elsewhere.
    pub(super) fn send_item(&self, shard: ShardId, to: Slot, epoch: Epoch, item: Parked<E>) {
        let raw = match item {
            Parked::Own { id, envelope } => {
                let Some(link) = self.link(to) else {
                    return self.fail(Parked::Own { id, envelope }, gone(shard));
                };
                if let Err(Rejected { envelope, failure }) =
                    self.send_remote(&link, epoch, &id, envelope, Admission::Accepted)
                {
                    envelope.undelivered(&self.runtime, &|| self.path(&id), failure);
                }
                return;
            }
            Parked::Raw(raw) => raw,
        };
        let mut raw = raw;
        match &mut raw.origin {
            // Whoever believed it to be here has to learn better.
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

impl<E: Entity> Route<E> for ShardRegion<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn name(&self) -> &str {
        &self.name
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
            Some(FastHome::Here) => {
                let push = |cell: &Arc<Cell<E>>, envelope| {
                    cell.push(envelope)?;
                    found.remember(cell);
                    Ok(())
                };
                match self.push(id, shard, None, envelope, push) {
                    Ok(()) => return Ok(()),
                    Err(Refused::Full(envelope, _)) => {
                        return Err(Rejected::new(envelope, Failure::Full));
                    }
                    Err(Refused::Failed(envelope, failure)) => {
                        return Err(Rejected::new(envelope, failure));
                    }
                    Err(Refused::NotHere(envelope)) => envelope,
                }
            }
            Some(FastHome::There(link, epoch)) => {
                return self.send_remote(link, *epoch, id, envelope, Admission::New);
            }
            Some(FastHome::Unknown) | None => envelope,
        };
        // Whoever changes the homes waits, with the machine, for those who look at the old ones.
        drop(homes);
        self.route(id, shard, envelope)
    }

    fn send(
        self: Arc<Self>,
        id: EntityId,
        shard: ShardId,
        mut envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        enum Wait<E: Entity> {
            Cell(Arc<Cell<E>>),
            Link(Arc<Link>),
            Region,
        }
        Box::pin(async move {
            loop {
                let room = self.room.notified();
                let wait = match self.homes.load().get(shard.index()) {
                    Some(FastHome::There(link, _)) => Wait::Link(link.clone()),
                    Some(FastHome::Here) => {
                        let cell = self.local.cell(shard, &id);
                        cell.map_or(Wait::Region, Wait::Cell)
                    }
                    Some(FastHome::Unknown) | None => Wait::Region,
                };
                if let Wait::Cell(cell) = &wait {
                    match cell.push_wait(envelope).await {
                        Ok(()) => return Ok(()),
                        Err(Refusal::Failing(back, failure)) => {
                            return Err(Rejected::new(back, failure));
                        }
                        // Ended while this waited; the next round finds its successor.
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
                    Wait::Cell(_) => {}
                    Wait::Link(link) => link.room().await,
                    Wait::Region => room.await,
                }
            }
        })
    }
}
