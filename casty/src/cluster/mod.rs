//! Tokio shells that drive `protocol/`: a node with its links, the map's authority, gossip,
//! regions.

pub(crate) mod authority;
mod calls;
pub(crate) mod gossip;
mod handoff;
pub(crate) mod inbound;
pub(crate) mod map_watch;
pub(crate) mod membership;
pub(crate) mod node;
pub(crate) mod region;
pub(crate) mod registry;
mod watches;
pub(crate) mod wire;
