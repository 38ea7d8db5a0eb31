//! The store in a file.

#[path = "../support/mod.rs"]
mod support;

mod aside;
mod contract;
mod crash;
#[cfg(target_os = "linux")]
mod disk;
mod nodes;
mod refused;
mod restarts;
