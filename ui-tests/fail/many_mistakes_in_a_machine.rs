#![allow(unused)]

use casty::prelude::*;

#[entity(shards = 0)]
pub mod door {
    use casty::Context;

    #[state(initial)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn push(self, name: &str) -> Open {
            Open
        }

        #[message]
        fn pull(self) -> Opn {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message(timout = "1s")]
        fn push(&mut self, name: String, ctx: &mut Context<Self>) {}

        #[message]
        fn count(&self) -> u64 {
            1
        }
    }
}

pub fn count(door: DoorRef) {
    drop(door.count());
}

fn main() {}
