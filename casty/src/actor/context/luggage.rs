//! What an activation takes along when its shard moves: timers, as far as their messages can
//! travel.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use crate::{
    actor::{Message, runtime::Runtime},
    message::codec,
};

/// What an activation had begun when it ended for a move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Luggage {
    pub(crate) timers: Vec<PackedTimer>,
    /// How many timers and pieces of work have ended instead.
    pub(crate) ended: usize,
}

impl Luggage {
    /// Empty for an empty one, as most are.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if *self != Self::default()
            && let Err(codec::EncodeError(reason)) = codec::encode(self, &mut out)
        {
            tracing::error!(reason, "the timers of an entity that moves are lost");
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        codec::decode(bytes).unwrap_or_else(|codec::DecodeError(reason)| {
            tracing::error!(reason, "the timers of an entity that moved cannot be read");
            Self::default()
        })
    }
}

/// A timer on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackedTimer {
    /// The time that is left.
    pub(crate) left: Duration,
    /// The period of a repeated message, and whether it is a fixed rate.
    pub(crate) every: Option<(Duration, bool)>,
    pub(crate) message: PackedMessage,
    /// Whether leaving the state cancels it.
    pub(crate) is_of_a_state: bool,
}

/// A message of an actor to itself on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PackedMessage {
    Encoded(ByteBuf),
    /// An internal message without arguments. It has no form on the wire besides its name.
    Named(String),
}

impl PackedMessage {
    /// `None` if the message cannot travel.
    pub(crate) fn of<M: Message>(message: &M) -> Option<Self> {
        let mut out = Vec::new();
        if message.encode(&mut out).is_ok() {
            return Some(Self::Encoded(ByteBuf::from(out)));
        }
        let name = message.name();
        M::named(name).map(|_| Self::Named(name.to_owned()))
    }

    /// `None` if this node does not know the message.
    pub(crate) fn message<M: Message>(&self, runtime: &Arc<Runtime>) -> Option<M> {
        match self {
            Self::Encoded(bytes) => runtime.enter(|| M::decode(bytes)).ok(),
            Self::Named(name) => M::named(name),
        }
    }
}

/// A timer that may go along.
pub(crate) trait Travels: Send + Sync {
    /// Whether it was cancelled, or has nothing more to do.
    fn is_over(&self) -> bool;

    /// Its message is not handled any more, even if it is in the mailbox already.
    fn cancel(&self);

    /// When its next message is due.
    #[cfg(feature = "testkit")]
    fn due(&self) -> Instant;

    /// `None` if its message cannot travel.
    fn pack(&self, now: Instant, runtime: &Arc<Runtime>) -> Option<PackedTimer>;
}
