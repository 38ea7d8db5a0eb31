#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    pub struct Creak;

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> (Closed, Creak) {
            (Closed, Creak)
        }

        #[message]
        fn pull(self) -> (Closed, Vec<&'static str>) {
            (Closed, Vec::new())
        }
    }
}

fn main() {}
