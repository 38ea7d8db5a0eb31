//! The store in a file.

#[path = "../support/mod.rs"]
mod support;

mod contract;
mod crash;
mod disk;
mod nodes;
mod refused;
