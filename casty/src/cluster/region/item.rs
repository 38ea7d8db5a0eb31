//! What a region routes while it does not know where to.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    actor::{
        Entity, Reply, chain,
        envelope::{Envelope, RemoteAsk, RemoteReply, ReplyTo},
        runtime::Runtime,
    },
    id::{EntityId, Epoch},
    message::answer::{Credit, Pending, ReplyPath},
    transport::{connection::Inlet, frame::EntityFrame},
};

/// A message of this node's, or one that came encoded.
pub(super) enum Item<E: Entity> {
    Own { id: EntityId, envelope: Envelope<E> },
    Raw(RawItem),
}

/// A message as it came over a connection.
pub(super) struct RawItem {
    pub(super) id: EntityId,
    pub(super) chain: Bytes,
    pub(super) payload: Bytes,
    pub(super) hops: u8,
    pub(super) origin: Origin,
}

pub(super) enum Origin {
    /// Sent by this node before, and sent back.
    Own(Option<Box<dyn Pending>>),
    /// From another node, which believes that the entity is here.
    Peer(Peer),
}

pub(super) struct Peer {
    pub(super) epoch: Epoch,
    pub(super) correlation: u64,
    pub(super) kind: u16,
    pub(super) inlet: Arc<Inlet>,
    /// Held until the message has found its place.
    pub(super) credit: Option<Credit>,
}

impl RawItem {
    /// The frame that a peer sent, to be sent back.
    pub(super) fn frame_of(&self, peer: &Peer) -> EntityFrame<'_> {
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

/// What a frame says of its asker, if it has one.
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
    pub(super) fn into_reply<R: Reply>(
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
