//! An entity type of two messages: a tell and an ask.

use casty::prelude::*;

/// Counts.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    /// Adds.
    #[message]
    pub fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// The current value.
    #[message]
    pub fn value(&self) -> i64 {
        self.value
    }
}
