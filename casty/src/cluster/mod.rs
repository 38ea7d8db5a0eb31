//! Tokio shells that drive `protocol/`: a node with its links, the map's authority, gossip, regions.

pub(crate) mod authority;
pub(crate) mod gossip;
pub(crate) mod inbound;
pub(crate) mod join;
pub(crate) mod map_watch;
pub(crate) mod node;
pub(crate) mod region;
pub(crate) mod registry;
mod watches;
pub(crate) mod wire;
