#![allow(unused)]

use casty::prelude::*;

#[entity(migrate)]
pub mod door {
    use super::*;

    #[state(common)]
    #[derive(Default)]
    pub struct Log {
        lines: Vec<String>,
    }

    #[message]
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[message]
    #[state]
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
        fn push(&self) {}
    }
}

fn main() {}
