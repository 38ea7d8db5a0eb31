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
        fn may_push(&self, log: &mut Log) -> Result<(), String> {
            Ok(())
        }

        #[message(guard = may_push)]
        fn push(self, force: u8) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self, force: u8) -> Result<(), String> {
            Ok(())
        }
    }
}

fn main() {}
