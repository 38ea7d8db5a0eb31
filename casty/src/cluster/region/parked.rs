//! The items that a region routes while their home is unknown.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    actor::{
        Entity, Reply,
        ask::chain,
        envelope::{Envelope, RemoteAsk, RemoteReply, ReplyTo},
        runtime::Runtime,
    },
    id::{EntityId, Epoch},
    message::answer::{Credit, Pending, ReplyPath},
    transport::{connection::Inlet, frame::EntityFrame},
};

/// A message of this node, or an encoded message from another.
pub(crate) enum Parked<E: Entity> {
    Own { id: EntityId, envelope: Envelope<E> },
    Raw(ParkedFrame),
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
    /// Sent by this node before, and sent back.
    Own(Option<Box<dyn Pending>>),
    /// From another node, which believes that the entity is here.
    Peer(Peer),
}

pub(crate) struct Peer {
    pub(crate) epoch: Epoch,
    pub(crate) correlation: u64,
    pub(crate) kind: u16,
    pub(crate) inlet: Arc<Inlet>,
    /// Held until the message has found its place.
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

/// The asker of a frame, if it has one.
pub(crate) fn remote_ask(
    runtime: &Runtime,
    inlet: &Arc<Inlet>,
    correlation: u64,
    epoch: Epoch,
    chain: &[u8],
) -> Option<RemoteAsk> {
    (correlation != 0).then(|| RemoteAsk {
        reply: RemoteReply::new(inlet.clone() as Arc<dyn ReplyPath>, correlation, epoch),
        chain: chain::decoded(chain, runtime),
    })
}

impl Origin {
    /// The way back of the answer, and the credit that is held.
    pub(crate) fn into_reply<R: Reply>(
        self,
        runtime: &Runtime,
        chain: &[u8],
    ) -> (ReplyTo<R>, Option<Credit>) {
        match self {
            Self::Own(pending) => (pending.map_or(ReplyTo::Nobody, ReplyTo::Relay), None),
            Self::Peer(peer) => (
                remote_ask(runtime, &peer.inlet, peer.correlation, peer.epoch, chain).into(),
                peer.credit,
            ),
        }
    }
}
