#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state(initial)]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(self) -> Closed {
            Closed
        }
    }
}

pub fn push(door: DoorRef) {
    drop(door.push());
}

fn main() {}
