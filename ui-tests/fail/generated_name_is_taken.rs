#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use std::string::String as DoorRef;

    pub struct Door;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}
