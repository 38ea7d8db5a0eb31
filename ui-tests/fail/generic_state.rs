#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed<T>(T);

    #[state]
    pub struct Open;

    #[behavior]
    impl<T> Closed<T> {
        #[message]
        fn push(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self) {}
    }
}

pub fn push(door: DoorRef) {
    drop(door.push());
}

fn main() {}
