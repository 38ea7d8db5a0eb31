//! Answers that cross a connection.

use bytes::Bytes;

use crate::error::Failure;

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

/// A connection on which replies go back.
pub(crate) trait ReplyPath: Send + Sync {
    fn reply(&self, correlation: u64, payload: &[u8]);
    fn fail(&self, correlation: u64, failure: &Failure);
}
