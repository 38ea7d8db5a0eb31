//! Bytes between nodes: the network seam, frames, handshake, links with lanes.
//!
//! A *link* is what this node uses to send to one peer on one lane. It dials on demand, and again
//! after a loss; requests go from the one who dialed to the one who accepted, answers come back on
//! the same connection. So two nodes that talk to each other hold a connection in each direction,
//! nobody has to win a tie, and an ask that is lost with its connection is known to be lost at
//! once.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod link;
pub(crate) mod net;
pub(crate) mod outbox;
