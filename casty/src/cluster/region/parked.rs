//! Parked messages: what a region keeps while a home is unknown.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::ShardRegion;
use crate::{
    actor::{
        Entity, Envelope, Rejected, Reply,
        ask::{
            remote_reply::{Conveyed, RemoteAsk, RemoteReply},
            reply::ReplyTo,
            terms,
        },
        cell::Refusal,
        runtime::Runtime,
    },
    error::Failure,
    event::ActorPath,
    id::{EntityId, Epoch, ShardId},
    message::answer::{Credit, Pending, ReplyPath},
    transport::{connection::Inlet, frame::EntityFrame, link::Link, outbox::Admission},
};

/// A message without a home: an envelope of this node, or a frame that came encoded.
pub(crate) enum Parked {
    Own {
        id: EntityId,
        envelope: Box<dyn ParkedEnvelope>,
    },
    Raw(ParkedFrame),
}

/// An envelope to an entity of any type. It is boxed only while its message has no home, which is
/// rare.
pub(crate) trait ParkedEnvelope: Send {
    /// Puts the envelope into the mailbox of an entity of this node. The envelope was accepted
    /// before, so a full mailbox takes it as well. Returns the envelope if the shard is not here.
    fn deliver(
        self: Box<Self>,
        region: &ShardRegion,
        shard: ShardId,
        id: &EntityId,
        credit: Option<Credit>,
    ) -> Option<Box<dyn ParkedEnvelope>>;

    /// Sends the envelope to the owner of its shard. A full link takes it as well, since it was
    /// accepted before.
    fn send(self: Box<Self>, region: &ShardRegion, link: &Link, epoch: Epoch, id: &EntityId);

    /// Reports that the message was not handled. See [`Envelope::undelivered`].
    fn undelivered(
        self: Box<Self>,
        runtime: &Runtime,
        to: &dyn Fn() -> ActorPath,
        failure: Failure,
    );

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<E: Entity> ParkedEnvelope for Envelope<E> {
    fn deliver(
        self: Box<Self>,
        region: &ShardRegion,
        shard: ShardId,
        id: &EntityId,
        mut credit: Option<Credit>,
    ) -> Option<Box<dyn ParkedEnvelope>> {
        let (mut envelope, mut closed) = (*self, None);
        loop {
            if envelope.reply.is_for_active()
                && region.local.has_none_active(shard, None, id.as_str())
            {
                let path = || region.path(id);
                envelope.undelivered(&region.runtime, &path, Failure::NotActive);
                return None;
            }
            let cell = region.cell::<E>(shard, None, id.as_str(), &|| id.clone(), closed.as_ref());
            let Some(cell) = cell else {
                return Some(Box::new(envelope));
            };
            match cell.push_credited(envelope, || credit.take()) {
                Ok(()) => return None,
                Err(Refusal::Closed(back)) => (envelope, closed) = (back, Some(cell)),
                Err(Refusal::Full(envelope)) => {
                    cell.undeliverable(envelope, Failure::Full);
                    return None;
                }
                Err(Refusal::Failing(envelope, failure)) => {
                    cell.undeliverable(envelope, failure);
                    return None;
                }
            }
        }
    }

    fn send(self: Box<Self>, region: &ShardRegion, link: &Link, epoch: Epoch, id: &EntityId) {
        if let Err(Rejected { envelope, failure }) =
            region.send_remote(link, epoch, id, *self, Admission::Accepted)
        {
            envelope.undelivered(&region.runtime, &|| region.path(id), failure);
        }
    }

    fn undelivered(
        self: Box<Self>,
        runtime: &Runtime,
        to: &dyn Fn() -> ActorPath,
        failure: Failure,
    ) {
        Self::undelivered(*self, runtime, to, failure);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// A message that came encoded, and has been decoded for an entity here.
pub(crate) struct Decoded {
    pub(crate) id: EntityId,
    pub(crate) envelope: Box<dyn ParkedEnvelope>,
    pub(crate) credit: Option<Credit>,
}

/// A message as it came over a connection.
pub(crate) struct ParkedFrame {
    pub(crate) id: EntityId,
    pub(crate) chain: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) hops: u8,
    pub(crate) origin: Origin,
}

pub(crate) enum Origin {
    /// This node sent the message, and another node sent it back.
    Own(Option<Box<dyn Pending>>),
    /// Another node sent the message, because it takes this node for the owner.
    Peer(Peer),
}

pub(crate) struct Peer {
    pub(crate) epoch: Epoch,
    pub(crate) correlation: u64,
    pub(crate) kind: u16,
    pub(crate) inlet: Arc<Inlet>,
    /// Room in the sender's window, held until the message is in a mailbox.
    pub(crate) credit: Option<Credit>,
}

impl ParkedFrame {
    /// The frame that a peer sent, to be sent back.
    pub(crate) fn frame_of(&self, peer: &Peer) -> EntityFrame<'_> {
        EntityFrame {
            kind: peer.kind,
            hops: self.hops,
            epoch: peer.epoch.0,
            correlation: peer.correlation,
            id: self.id.as_str(),
            chain: &self.chain,
            payload: &self.payload,
        }
    }
}

/// How the message of a frame came, and its asker, if it has one.
pub(crate) fn received(
    runtime: &Runtime,
    inlet: &Arc<Inlet>,
    correlation: u64,
    epoch: Epoch,
    chain: &[u8],
) -> Conveyed {
    if correlation == 0 {
        let terms = (!chain.is_empty()).then(|| terms::split(chain).0);
        return Conveyed::Told(inlet.came_from(), terms.flatten());
    }
    let (terms, chain) = terms::split(chain);
    Conveyed::Asked(RemoteAsk {
        reply: RemoteReply::new(inlet.clone() as Arc<dyn ReplyPath>, correlation, epoch),
        chain: runtime.decode_chain(&chain),
        terms,
    })
}

impl Origin {
    /// The way back for the answer, and the credit that is held.
    pub(crate) fn into_reply<R: Reply>(
        self,
        runtime: &Runtime,
        chain: &[u8],
    ) -> (ReplyTo<R>, Option<Credit>) {
        match self {
            Self::Own(pending) => {
                let (terms, _) = terms::split(chain);
                let reply = pending.map_or(ReplyTo::Nobody, ReplyTo::Relay);
                (reply.on_terms(terms), None)
            }
            Self::Peer(peer) => (
                received(runtime, &peer.inlet, peer.correlation, peer.epoch, chain).into(),
                peer.credit,
            ),
        }
    }
}
