//! Recorded entities: an impl block, states with data that they share, and an internal message.

use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(record = 256)]
impl Counter {
    #[message]
    fn add(&mut self, amount: i64, ctx: &mut Context<Self>) {
        self.value += amount;
        ctx.raise(CounterMsg::Tick {});
    }

    #[message(internal)]
    fn tick(&mut self) {}
}

#[entity(record = 1)]
pub mod door {
    use casty::prelude::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub struct Log {
        lines: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    #[message]
    pub struct Open {
        visitors: u32,
    }

    #[behavior(otherwise = reject)]
    impl Closed {
        #[message]
        fn push(self, log: &mut Log) -> Open {
            log.lines += 1;
            Open { visitors: 0 }
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn enter(&mut self) -> u32 {
            self.visitors += 1;
            self.visitors
        }
    }
}

#[test]
fn works() {
    let mut out = Vec::new();
    let counter = Counter { value: 7 };
    let name = Entity::freeze(&counter, &mut out).unwrap();
    let thawed = <Counter as Entity>::thaw(name, &out).unwrap();
    assert_eq!(thawed.value, 7);
}
