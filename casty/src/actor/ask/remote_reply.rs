//! Messages that came over a connection, and the answer to an ask that did.

use std::sync::Arc;

use crate::{
    actor::{
        ask::{chain::Chain, terms::Terms},
        message::{Reply, discard},
    },
    error::Failure,
    id::Epoch,
    message::{
        answer::{Pending, RawAnswer, ReplyPath},
        caller::CameFrom,
        codec,
    },
};

/// How a message came over a connection.
pub(crate) enum Conveyed {
    Asked(RemoteAsk),
    /// No asker waits for an answer.
    Told(CameFrom, Option<Terms>),
}

/// An ask that came over a connection: the way back, and the actors that wait for the answer.
pub(crate) struct RemoteAsk {
    pub(crate) reply: RemoteReply,
    pub(crate) chain: Option<Arc<Chain>>,
    pub(crate) terms: Option<Terms>,
}

/// The duty to answer an ask that came over a connection. Dropped unanswered, it says that the
/// target stopped.
pub(crate) struct RemoteReply {
    path: Arc<dyn ReplyPath>,
    /// Whether there is nothing left to say.
    is_over: bool,
    correlation: u64,
    /// The epoch under which the message was taken, which is that of the activation that answers.
    epoch: Epoch,
}

impl RemoteReply {
    pub(crate) fn new(path: Arc<dyn ReplyPath>, correlation: u64, epoch: Epoch) -> Self {
        path.begin();
        Self {
            path,
            is_over: false,
            correlation,
            epoch,
        }
    }

    /// Whether the asker waits no more, as its node has said.
    pub(super) fn is_given_up(&self) -> bool {
        self.is_over || self.path.is_given_up(self.correlation)
    }

    /// Whether the connection of the asker has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.path.has_ended()
    }

    /// The process of the asker.
    pub(super) fn came_from(&self) -> CameFrom {
        self.path.came_from()
    }

    /// Drops the duty to answer: the asker hears of the message in another way.
    pub(crate) fn forget(mut self) {
        self.is_over = true;
    }

    /// Without a buffer of its own for the answer.
    pub(super) fn answer<R: Reply>(mut self, reply: R) {
        self.is_over = true;
        let (path, correlation, epoch) = (&self.path, self.correlation, self.epoch);
        let encode = |out: &mut Vec<u8>| reply.encode(out);
        let sent = codec::with_scratch(encode, |payload| path.reply(correlation, epoch, payload));
        discard(reply);
        if let Err(codec::EncodeError(reason)) = sent {
            path.fail(correlation, &Failure::Reply { reason });
        }
    }

    pub(super) fn complete(mut self, answer: RawAnswer) {
        self.is_over = true;
        match answer {
            RawAnswer::Encoded(payload) => self.path.reply(self.correlation, self.epoch, &payload),
            RawAnswer::Failed(failure) => self.path.fail(self.correlation, &failure),
        }
    }
}

impl Pending for RemoteReply {
    fn complete(self: Box<Self>, answer: RawAnswer) {
        (*self).complete(answer);
    }

    fn is_given_up(&self) -> bool {
        Self::is_given_up(self)
    }
}

impl Drop for RemoteReply {
    fn drop(&mut self) {
        if !self.is_over {
            self.path.fail(self.correlation, &Failure::Stopped);
        }
        self.path.end();
    }
}
