//! Bytes between nodes: the network seam, frames, handshake, links with lanes.
//!
//! A *link* sends this node's messages to one peer on one lane. It dials on demand, and again after
//! its connection is lost. Requests go from the dialer to the accepting side, and answers come back
//! on the same connection. So two nodes that talk to each other hold a connection in each
//! direction, no rule has to choose between two connections, and an ask that is lost with its
//! connection fails at once.

pub(crate) mod accept;
pub(crate) mod check;
pub(crate) mod client_rate;
pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod frame;
pub(crate) mod grant;
pub(crate) mod handshake;
pub(crate) mod identity;
pub(crate) mod lane_meter;
pub(crate) mod link;
pub(crate) mod net;
pub(crate) mod outbox;
pub(crate) mod renewal;
#[cfg(feature = "tls")]
pub(crate) mod tls;
