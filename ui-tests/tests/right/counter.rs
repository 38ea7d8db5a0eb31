use casty::prelude::*;

/// A counter. One lives per entity id, on whichever node owns its shard.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 10)]
impl Counter {
    /// Adds `amount` and says so.
    #[message]
    fn increment(&mut self, amount: i64, ctx: &mut Context<Self>) {
        let id = ctx.entity_id();
        println!(
            "  [{id}] {} + {amount} = {}",
            self.value,
            self.value + amount
        );
        self.value += amount;
    }

    /// The current value.
    #[message]
    async fn value(&self) -> i64 {
        self.value
    }
}

async fn talk(counter: CounterRef) -> i64 {
    counter.increment(10).tell().await.unwrap();
    counter.increment(10).try_tell().unwrap();
    let _: &CounterMsg = &CounterMsg::Increment { amount: 1 };
    counter
        .value()
        .timeout(Duration::from_secs(5))
        .await
        .unwrap()
}

#[test]
fn works() {
    let _ = talk;
    assert_eq!(
        format!("{:?}", CounterMsg::Increment { amount: 7 }),
        "increment"
    );
    assert_eq!(<Counter as casty::Entity>::SHARDS.get(), 10);
    assert_eq!(
        <Counter as Actor>::SCHEMA,
        "increment(amount: i64) -> (); value() -> i64"
    );
}
