//! Room in the window of a connection.

use std::sync::Arc;

use super::connection::Inlet;
use crate::message::answer::Credit;

/// Room in the window that a message takes while the reader looks for its place. Dropping this
/// gives the room back, which is cheaper than a [`Credit`].
pub(crate) struct Grant<'a> {
    inlet: &'a Arc<Inlet>,
    bytes: usize,
}

impl<'a> Grant<'a> {
    pub(crate) fn new(inlet: &'a Arc<Inlet>, bytes: usize) -> Self {
        Self { inlet, bytes }
    }

    /// Returns the bytes of a message that finds its place a little later, to be granted then.
    pub(crate) fn hold(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// The credit of a message that has to wait.
    pub(crate) fn keep(mut self) -> Credit {
        let bytes = std::mem::take(&mut self.bytes);
        Credit::new(self.inlet.clone(), bytes)
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        // Only the connection's reader has a `Grant`. It calls `Inlet::placed` after each chunk:
        // one atomic addition for many messages.
        if self.bytes > 0 {
            self.inlet.has_placed(self.bytes);
        }
    }
}
