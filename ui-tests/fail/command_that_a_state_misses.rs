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
        fn push(&self, by: String) -> Effect<Door, String> {
            let by = by.clone();
            Effect::persist(DoorEvent::Opened {}).reply(move |_| by)
        }

        #[event]
        fn opened(self) -> Open {
            Open
        }
    }

    #[behavior]
    impl Open {}
}

fn main() {}
