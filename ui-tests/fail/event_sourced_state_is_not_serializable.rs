use casty::prelude::*;

#[entity(event_sourced)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) -> Effect<Door> {
            Effect::persist(DoorEvent::Opened {})
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
