//! The benchmarks of casty. `cargo bench` runs them; see CONTRIBUTING.md.

use casty::prelude::*;

pub mod counting;

/// The counter of casty's rows.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 64)]
impl Counter {
    /// Adds, without an answer.
    #[message]
    pub fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// Adds, and returns the sum.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }
}

/// The same as a local actor.
#[derive(Default)]
pub struct Local {
    value: i64,
}

#[actor]
impl Local {
    /// Adds, without an answer.
    #[message]
    pub fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// Adds, and returns the sum.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }
}
