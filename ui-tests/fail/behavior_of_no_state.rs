#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    pub struct Hinge;

    pub struct Close;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) {}
    }

    #[behavior]
    impl Close {
        #[message]
        fn push(&self) {}
    }

    #[behavior]
    impl Hinge {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}
