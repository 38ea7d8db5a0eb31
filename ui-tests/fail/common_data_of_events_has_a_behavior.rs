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
        fn push(&self) -> Effect<Door> {
            Effect::persist(DoorEvent::Pushed {})
        }

        #[event]
        fn pushed(&mut self, log: &mut Log) {
            log.uses += 1;
        }
    }

    #[behavior]
    impl Log {
        #[message]
        fn uses(&self) -> u32 {
            self.uses
        }
    }
}

fn main() {}
