#![allow(unused)]

use casty::{prelude::*, reply::Later};

#[entity]
pub mod door {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        fn may_push(&self) -> Result<(), String> {
            Ok(())
        }

        #[message(guard = may_push)]
        fn push(self, force: u8, ctx: &mut Context<Door>) -> (Open, Later<u8>) {
            todo!()
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self, force: u8) -> Result<u8, String> {
            Ok(1)
        }
    }
}

fn main() {}
