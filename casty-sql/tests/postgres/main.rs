//! The store in a database of PostgreSQL, which the tests start themselves.

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod faults;
mod nodes;
mod proxy;
mod restarts;
