use casty::prelude::*;

#[entity(event_sourced)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed {
        knocks: u32,
    }

    #[behavior]
    impl Closed {
        #[message]
        fn knock(&self) -> Effect<Self, u32> {
            todo!()
        }

        #[event]
        fn knocked(&mut self) {
            self.knocks += 1;
        }
    }
}

fn main() {}
