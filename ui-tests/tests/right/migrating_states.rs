//! States that move with their shard: of one type, generic, and of a machine.

use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 4, migrate)]
impl Counter {
    #[message]
    fn value(&self) -> i64 {
        self.value
    }
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Store<T> {
    values: Vec<T>,
}

#[entity(migrate)]
impl<T: Wire + Default + Sync> Store<T> {
    #[message]
    fn count(&self) -> u64 {
        self.values.len() as u64
    }
}

#[entity(migrate)]
pub mod door {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    #[message]
    pub struct Open {
        knocks: u32,
    }

    #[behavior(otherwise = ignore)]
    impl Closed {
        #[message]
        fn open(self) -> Open {
            Open { knocks: 0 }
        }
    }

    #[behavior(otherwise = ignore)]
    impl Open {
        /// After a move in this state.
        #[on_start]
        fn moved(&mut self, ctx: &mut Context<Door>) {
            let _ = ctx.ended_by_move();
        }

        #[message(internal)]
        fn creak(&mut self) {
            self.knocks += 1;
        }

        #[message]
        fn close(self) -> (Closed, u32) {
            (Closed, self.knocks)
        }
    }
}

#[test]
fn works() {}
