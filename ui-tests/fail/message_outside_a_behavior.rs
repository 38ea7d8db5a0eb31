#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }

    impl Closed {
        #[message]
        fn pull(&self, #[serde(default)] hard: bool) {}

        #[on_stop]
        fn stopped(&self) {}
    }
}

fn main() {}
