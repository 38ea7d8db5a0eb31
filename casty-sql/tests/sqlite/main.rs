//! The store in a file.

#[path = "../support/mod.rs"]
mod support;

mod contract;
