use casty::prelude::*;

#[entity(event_sourced)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[upcast(removed = "kicked", from = 1)]
    #[upcast(removed = "hit", from = 1)]
    fn hit() -> DoorEvent {
        DoorEvent::Pushed {}
    }

    #[behavior]
    impl Closed {
        #[message]
        fn push(&self) -> Effect<Door> {
            Effect::persist(DoorEvent::Pushed {})
        }

        #[event]
        fn pushed(&mut self) {}
    }
}

fn main() {}
