//! How a store is kept.

use std::time::Duration;

use uuid::Uuid;

/// How a store is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The length of a segment, in bytes. A commit that is longer gets a longer segment of its own.
    /// Default: 16 MiB. At least 8 KiB, and at most 1 GiB.
    pub segment_bytes: u64,
    /// How many segments are made before they are needed. Default: 2. One more that is not needed
    /// any longer is kept to become one of them.
    pub spares: usize,
    /// How many bytes the segments may take for each byte of records and snapshots that are needed,
    /// besides five segments. Beyond that, what is needed in the oldest segment is copied, and the
    /// segment is used again. Default: 2. At least 2.
    pub factor: u64,
    /// How long to wait for a directory that is in use: its process may be about to end. The thread
    /// that opens the store is blocked meanwhile. Default: no time.
    pub lock_wait: Duration,
    /// After a segment could not be made, how long nothing that adds something tries it again.
    /// What makes room does. Default: one second.
    pub full_pause: Duration,
    /// The identity of a store that is made. Default: a new one.
    pub identity: Option<Uuid>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 16 * 1024 * 1024,
            spares: 2,
            factor: 2,
            lock_wait: Duration::ZERO,
            full_pause: Duration::from_secs(1),
            identity: None,
        }
    }
}

impl Options {
    /// The same, with values in range.
    pub(crate) fn checked(self) -> Self {
        Self {
            segment_bytes: self.segment_bytes.clamp(8 * 1024, 1 << 30),
            factor: self.factor.max(2),
            ..self
        }
    }
}
