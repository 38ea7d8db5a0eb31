use casty::prelude::*;

#[derive(Default)]
pub struct Counter {
    value: u64,
}

#[entity]
impl Counter {
    #[message]
    fn add(&mut self, amount: u64) -> u64 {
        self.value += amount;
        self.value
    }
}

async fn add(counter: CounterRef) {
    let _ = counter.add(1).key("order-17").await;
    let _ = counter.add(1).with_position().await;
    let retried = counter.add(1).retry_for(std::time::Duration::from_secs(1));
    let _ = retried.key("order-18").await;
}

fn main() {}
