//! Views that are made of events, and streams of events.
//!
//! A *projection* handles the events of all entities of a type, in order within a shard, and keeps
//! a view: a table to search, a sum, a mail that was sent. [`macro@projection`] makes one of an
//! `impl` block, and [`ActorSystem::project`](crate::ActorSystem::project) runs it. Each node runs
//! it for the shards that it owns, for as long as it owns them; so it moves with its shards, and
//! goes on where it was if a node dies. Give it to each node that hosts the type.
//!
//! A projection cannot skip an event: the positions of a shard are dense, and a position that is
//! missing stops the shard with an error. It handles each event *exactly once* if its
//! [store](ProjectionStore) has transactions, and *at least once* otherwise.
//!
//! A program that keeps no view reads
//! [`ActorSystem::events_of`](crate::ActorSystem::events_of).
//!
//! ```standalone_crate
//! use std::collections::BTreeMap;
//!
//! use casty::{
//!     id::EntityId,
//!     persistence::Memory,
//!     prelude::*,
//!     projection::{MemoryTransaction, MemoryView, projection},
//! };
//!
//! #[message]
//! #[derive(Default)]
//! struct Account {
//!     cents: u64,
//! }
//!
//! #[entity(event_sourced, name = "docs/projected-account")]
//! impl Account {
//!     #[message]
//!     fn deposit(&self, cents: u64) -> Effect<Self, u64> {
//!         Effect::persist(AccountEvent::Deposited { cents }).reply(|account| account.cents)
//!     }
//!
//!     #[event]
//!     fn deposited(&mut self, cents: u64) {
//!         self.cents += cents;
//!     }
//! }
//!
//! type Table = BTreeMap<EntityId, u64>;
//!
//! #[derive(Clone)]
//! struct Balances {
//!     view: MemoryView<Table>,
//! }
//!
//! #[projection(of = Account)]
//! impl Balances {
//!     #[store]
//!     fn view(&self) -> &MemoryView<Table> {
//!         &self.view
//!     }
//!
//!     #[on]
//!     fn deposited(&mut self, of: &EntityId, cents: u64, table: &mut MemoryTransaction<Table>) {
//!         *table.entry(of.clone()).or_default() += cents;
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bank = ActorSystem::builder("bank").journal(Memory::new()).start_local()?;
//! let view = MemoryView::default();
//! let balances = bank.project(Balances { view: view.clone() }).await?;
//!
//! let (cents, position) = bank.entity::<Account>("ann").deposit(5).with_position().await?;
//! balances.wait_for(position).await?;
//! let seen = view.look(|table| table[&EntityId::new("ann")]).await;
//! assert_eq!(seen, cents);
//! # bank.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod contract;
mod follow;
mod memory;
mod runner;
mod running;
mod start;
mod store;
mod stream;
mod supervisor;
mod typed;

pub use casty_macros::projection;

#[doc(hidden)]
pub use self::contract::EventOutcome;
pub use self::{
    contract::{EventsOf, HandlerError, Occurrence, Poisoned, Projection, TransactionOf},
    memory::{MemoryTransaction, MemoryView},
    running::{Lag, ProjectionWaitError, RunningProjection, ShardLag},
    start::ProjectError,
    store::{ParkedEvent, ProjectedShard, ProjectionStore, ViewError},
    stream::{Cursor, EventStream, EventStreamError, Since, StreamedEvent},
};
pub(crate) use self::{
    start::{Place, Projections, start},
    stream::Opening,
};
pub use crate::actor::effect::EventSourced;
