//! The traffic back to a sender: answers, and credit to send more.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{error::Failure, id::Epoch, message::caller::CameFrom};

/// The outcome of an ask over a connection.
pub(crate) enum RawAnswer {
    /// The encoded reply. Only the asker knows its type.
    Encoded(Bytes),
    Failed(Failure),
}

/// An asker whose answer comes over a connection.
pub(crate) trait Pending: Send {
    fn complete(self: Box<Self>, answer: RawAnswer);

    /// Whether the asker waits no more.
    fn is_given_up(&self) -> bool {
        false
    }
}

/// The way back for an answer, held by a sender whose message may still be turned away.
pub(crate) trait WayBack {
    /// Takes the asker, if any. Called once the message is certain to go out.
    fn take(&mut self) -> Option<Box<dyn Pending>>;
}

/// A connection on which replies go back.
pub(crate) trait ReplyPath: Send + Sync {
    /// `epoch`: the epoch of the activation that answers; zero for an actor, which no shard owns.
    fn reply(&self, correlation: u64, epoch: Epoch, payload: &[u8]);
    fn fail(&self, correlation: u64, failure: &Failure);

    /// Whether the peer has said that the asker waits no more.
    fn is_given_up(&self, correlation: u64) -> bool;

    /// Whether the connection has ended, so that no answer goes back any more.
    fn has_ended(&self) -> bool;

    /// One more ask of this connection is without an answer.
    fn begin(&self);

    /// One less is.
    fn end(&self);

    /// The process at its other end.
    fn came_from(&self) -> CameFrom;
}

/// The receiving end of a window that bounds what a peer may send.
pub(crate) trait Window: Send + Sync {
    /// Messages of `bytes` have found their place: the peer may send as many bytes again.
    fn grant(&self, bytes: usize);
}

/// The room of one message in a window. Dropping this gives the room back.
pub(crate) struct Credit {
    window: Arc<dyn Window>,
    bytes: usize,
}

impl Credit {
    pub(crate) fn new(window: Arc<dyn Window>, bytes: usize) -> Self {
        Self { window, bytes }
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.window.grant(self.bytes);
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
