use casty::prelude::*;

#[entity(durable)]
pub mod door {
    use super::*;

    #[state(common, survives)]
    #[message]
    #[derive(Default)]
    pub struct Log;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&mut self) {}
    }
}

fn main() {}
