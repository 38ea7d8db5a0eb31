use casty::prelude::*;

#[entity(event_sourced)]
pub mod door {
    use super::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub struct Log {
        uses: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self, log: &mut Log) {
            log.uses += 1;
        }

        #[event]
        fn pushed(&mut self, log: &mut Log) {
            log.uses += 1;
        }
    }
}

fn main() {}
