//! The answer to an ask that came over a connection.

use std::sync::Arc;

use crate::{
    actor::{
        ask::{chain::Chain, terms::Terms},
        message::Reply,
    },
    error::Failure,
    id::Epoch,
    message::{
        answer::{Pending, RawAnswer, ReplyPath},
        codec,
    },
};

/// An ask that came over a connection: the way back, and the actors that wait for the answer.
pub(crate) struct RemoteAsk {
    pub(crate) reply: RemoteReply,
    pub(crate) chain: Option<Arc<Chain>>,
    pub(crate) terms: Option<Terms>,
}

/// The duty to answer an ask that came over a connection. Dropped unanswered, it says that the
/// target stopped.
pub(crate) struct RemoteReply {
    path: Option<Arc<dyn ReplyPath>>,
    correlation: u64,
    /// The epoch under which the message was taken, which is that of the activation that answers.
    epoch: Epoch,
}

impl RemoteReply {
    pub(crate) fn new(path: Arc<dyn ReplyPath>, correlation: u64, epoch: Epoch) -> Self {
        Self {
            path: Some(path),
            correlation,
            epoch,
        }
    }

    /// Whether the asker waits no more, as its node has said.
    pub(super) fn is_given_up(&self) -> bool {
        let path = self.path.as_ref();
        path.is_none_or(|path| path.is_given_up(self.correlation))
    }

    /// Drops the duty to answer: the asker hears of the message in another way.
    pub(crate) fn forget(mut self) {
        self.path = None;
    }

    /// Without a buffer of its own for the answer.
    pub(super) fn answer<R: Reply>(mut self, reply: R) {
        let Some(path) = self.path.take() else {
            return;
        };
        let (correlation, epoch) = (self.correlation, self.epoch);
        let encode = |out: &mut Vec<u8>| reply.encode(out);
        let sent = codec::with_scratch(encode, |payload| path.reply(correlation, epoch, payload));
        if let Err(codec::EncodeError(reason)) = sent {
            path.fail(correlation, &Failure::Reply { reason });
        }
    }

    pub(super) fn complete(mut self, answer: RawAnswer) {
        if let Some(path) = self.path.take() {
            match answer {
                RawAnswer::Encoded(payload) => path.reply(self.correlation, self.epoch, &payload),
                RawAnswer::Failed(failure) => path.fail(self.correlation, &failure),
            }
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
        if let Some(path) = self.path.take() {
            path.fail(self.correlation, &Failure::Stopped);
        }
    }
}
