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
        #[on_stop]
        fn stopped(&self, log: Log) {
            drop(log);
        }

        #[on_enter]
        fn entered(&self, log: &mut Log) {
            log.uses += 1;
        }

        #[message]
        fn push(&self) -> Effect<Door> {
            Effect::persist(DoorEvent::Pushed {})
        }

        #[event]
        fn pushed(&mut self, log: &mut Log) {
            log.uses += 1;
        }
    }
}

fn main() {}
