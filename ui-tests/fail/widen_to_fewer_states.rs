#![allow(unused)]

use casty::prelude::*;

#[actor]
mod lift {
    use casty::prelude::*;

    #[state(initial)]
    pub struct Idle;

    #[state]
    pub struct Moving;

    #[state]
    pub struct Broken;

    fn next(floor: u8) -> OneOf<Idle, Moving, Broken> {
        if floor == 0 { Idle.into() } else { Moving.into() }
    }

    #[behavior(of(all))]
    impl _ {
        #[message]
        fn call(self, floor: u8) -> OneOf<Idle, Moving> {
            next(floor).widen()
        }

        #[message]
        fn smash(self) -> Broken {
            Broken
        }
    }
}

fn main() {}
