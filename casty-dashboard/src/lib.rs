//! Shows what a [casty](casty) cluster does.
//!
//! - [`health`]: the probes `/startup`, `/ready` and `/live`.
//! - [`router`]: all of it, for a server of one's own: a page, `/metrics` for Prometheus, the
//!   probes.
//! - [`serve`]: the same on an address of this host alone.
//!
//! The page needs no build and loads nothing from elsewhere. It shows the nodes, the entity types,
//! the busiest entities, one entity with what it waits for and its last records, the homes of the
//! shards, and what is not as it should be, each with its cause and a cure
//! ([`Overview::findings`](casty::admin::Overview::findings)). It only looks: nothing can be
//! changed by it.
#![expect(
    clippy::disallowed_methods,
    reason = "nothing here is simulated, and its tasks are those of a server"
)]

mod health;
mod routes;
mod sample;
mod sampler;
mod server;

pub use self::{
    health::health,
    routes::router,
    server::{Dashboard, ServeError, serve},
};
