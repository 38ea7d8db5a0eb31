//! What is counted of the links of one lane, to all peers together.

use std::sync::atomic::{AtomicU64, Ordering};

use super::handshake::Lane;

/// Each lane, with its name.
pub(crate) const LANES: [(Lane, &str); 4] = [
    (Lane::Control, "control"),
    (Lane::Messages, "messages"),
    (Lane::Bulk, "bulk"),
    (Lane::Copies, "copies"),
];

/// What is counted of the links of one lane.
#[derive(Debug, Default)]
pub(crate) struct LaneMeter {
    written: AtomicU64,
    connections: AtomicU64,
    ended: AtomicU64,
}

impl LaneMeter {
    /// So many bytes are about to be written.
    pub(super) fn writes(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A connection stands.
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended, or was replaced.
    pub(super) fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// The bytes that were written, the connections that were made, and those that have ended.
    #[cfg(feature = "metrics")]
    pub(crate) fn read(&self) -> [u64; 3] {
        [&self.written, &self.connections, &self.ended].map(|count| count.load(Ordering::Relaxed))
    }
}
