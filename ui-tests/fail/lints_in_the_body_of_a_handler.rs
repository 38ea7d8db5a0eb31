//! What the user's lints say of a handler's body is said.
#![deny(unused_must_use, unused_variables, unused_mut)]

use casty::prelude::*;

#[derive(Default)]
pub struct Counter;

#[entity]
impl Counter {
    #[message]
    fn increment(&mut self, amount: i64) {
        let unused = amount;
        let mut fixed = amount;
        fixed.checked_add(1);
    }
}

fn main() {}
