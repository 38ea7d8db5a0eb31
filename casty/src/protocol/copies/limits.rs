//! The bounds of a shard in one store.

use std::time::Duration;

/// The bounds.
#[derive(Clone, Debug)]
pub(crate) struct CopyLimits {
    /// Bytes on the way to one copy, but for one append.
    pub(crate) in_flight_bytes: usize,
    /// Bytes of one append to a copy that catches up.
    pub(crate) page_bytes: usize,
    /// Bytes of the records that are not durable. At the bound nothing is written until copies
    /// have confirmed.
    pub(crate) undurable_bytes: usize,
    /// After this time without a confirmation it is sent again.
    pub(crate) resend_after: Duration,
    /// After this time without a confirmation a copy is proposed to be dropped.
    pub(crate) drop_after: Duration,
    /// What is proposed is proposed again after this time, until the map has decided.
    pub(crate) propose_again: Duration,
    /// What a store has of a shard stays so long after it is no copy any more.
    pub(crate) keep_dropped: Duration,
}
