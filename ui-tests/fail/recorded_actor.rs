//! The flight recorder finds what it has recorded by the id of an entity.

use casty::prelude::*;

struct Clerk;

#[actor(record = 256)]
impl Clerk {
    #[message]
    fn work(&self) {}
}

fn main() {}
