//! What goes back on a connection: answers, and leave to send more.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{error::Failure, id::Epoch};

/// What a pending ask on a connection ends with.
pub(crate) enum RawAnswer {
    /// The reply, encoded: only the asker knows its type.
    Encoded(Bytes),
    Failed(Failure),
}

/// An ask whose answer comes over a connection.
pub(crate) trait Pending: Send {
    fn complete(self: Box<Self>, answer: RawAnswer);
}

/// The way back for a message's answer, as long as the message may still be turned away.
pub(crate) trait WayBack {
    /// Takes the asker, where one waits for the answer: from then on the message is certain to go
    /// out.
    fn take(&mut self) -> Option<Box<dyn Pending>>;
}

/// A connection on which replies go back.
pub(crate) trait ReplyPath: Send + Sync {
    /// `epoch`: the ownership under which it is answered; zero for what nobody owns.
    fn reply(&self, correlation: u64, epoch: Epoch, payload: &[u8]);
    fn fail(&self, correlation: u64, failure: &Failure);
}

/// The receiving end of a window that bounds what a peer may send.
pub(crate) trait Window: Send + Sync {
    /// So many bytes found their place; the peer may send as many again.
    fn grant(&self, bytes: usize);
}

/// Room that a message takes in a window, given back when this is dropped.
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
