#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use super::*;

    #[state(common)]
    #[derive(Default)]
    pub struct Log {
        lines: Vec<String>,
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

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

    #[behavior]
    impl Log {
        #[message]
        fn lines(&self) -> u64 {
            1
        }
    }
}

fn main() {}
