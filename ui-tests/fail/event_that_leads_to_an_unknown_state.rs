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
        fn push(&self) -> Effect<Door> {
            Effect::persist(DoorEvent::Opened { by: 1 })
        }

        #[event]
        fn opened(self, by: u8) -> Opn {
            Open
        }

        #[event]
        fn forced(self) -> OneOf<Opn, Closed> {
            OneOf::First(Open)
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {}
}

fn main() {}
