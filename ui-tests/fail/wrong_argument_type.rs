use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity]
impl Counter {
    #[message]
    fn increment(&mut self, amount: i64) {
        self.value += amount;
    }
}

fn call(counter: CounterRef) {
    let _ = counter.increment("one");
    let _ = counter.increment();
    let _ = counter.incremen(1);
}

fn main() {}
