use casty::prelude::*;

#[entity(event_sourced)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) -> Effect<Door> {
            Effect::persist(DoorEvent::Opened { by: vec![1u8] })
        }

        #[event]
        fn opened<T>(&mut self, by: Vec<T>) {
            drop(by);
        }
    }
}

fn main() {}
