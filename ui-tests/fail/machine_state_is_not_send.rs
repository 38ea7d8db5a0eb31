#![allow(unused)]

use casty::prelude::*;

#[entity]
pub mod door {
    use std::rc::Rc;

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed(Rc<u8>);

    #[state]
    pub struct Open(Rc<u8>);

    #[behavior]
    impl Closed {
        #[message]
        fn push(self) -> Open {
            Open(self.0)
        }
    }

    #[behavior]
    impl Open {
        #[message]
        fn push(&self) {}
    }
}

fn main() {}
