use casty::prelude::*;

#[entity(event_sourced)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    #[message]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) -> Open {
            Open
        }

        #[event]
        fn opened(self) -> Open {
            Open
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {}
}

fn main() {}
