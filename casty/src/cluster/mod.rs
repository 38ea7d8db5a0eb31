//! Tokio shells that drive `protocol/`: a node with its links, the map's authority, gossip,
//! regions.
//!
//! Three lifetimes: [`peers`] and [`process`] are a process's, whatever it is; [`membership`] is
//! one incarnation's, and replaced whole by the next; [`node`] puts them together, and [`start`]
//! runs them. A [`client`] is made of the same parts, without a membership. The order of locks is
//! that of [`locks::Rank`].

pub(crate) mod authority;
pub(crate) mod client;
mod contact;
pub(crate) mod copies;
pub(crate) mod failure;
pub(crate) mod gossip;
mod handoff;
pub(crate) mod homes;
mod inbound;
mod kept_shards;
pub(crate) mod limiter;
mod locks;
pub(crate) mod map_watch;
pub(crate) mod membership;
mod membership_inputs;
pub(crate) mod node;
pub(crate) mod parts;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod reading;
pub(crate) mod region;
pub(crate) mod registry;
mod requests;
mod rumors;
pub(crate) mod start;
mod tenure;
