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
    lost: AtomicU64,
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

    /// A connection was lost.
    pub(super) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// The bytes that were written, the connections that were made, and those that were lost.
    #[cfg(feature = "metrics")]
    pub(crate) fn read(&self) -> [u64; 3] {
        [&self.written, &self.connections, &self.lost].map(|count| count.load(Ordering::Relaxed))
    }
}
