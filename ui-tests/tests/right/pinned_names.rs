use casty::{Message, prelude::*};

#[derive(Default)]
pub struct Counter(i64);

#[entity(name = "bank/counter", mailbox = 8, shards = 65535)]
impl Counter {
    #[message(name = "z-inc", timeout = "1h")]
    fn increment(&mut self, amount: i64, #[serde(default, rename = "why")] reason: Option<String>) {
        let _ = reason;
        self.0 += amount;
    }

    #[message]
    fn r#type(&self, r#in: u8) -> u8 {
        r#in
    }

    #[message]
    fn self_(&self) {}
}

#[actor(name = "g", mailbox = 1)]
impl Greeter {
    #[message]
    fn stop(&self) -> u8 {
        1
    }

    #[message]
    fn clone(&self) {}

    #[message]
    fn handle(&self, mut times: u8) -> u8 {
        times += 1;
        times
    }
}
pub struct Greeter;

/// Messages may have the names of what the proxy would have itself, and of trait methods.
#[entity]
impl Odd {
    #[message]
    fn entity_id(&self) -> u8 {
        1
    }

    #[message]
    fn name(&self) {}

    #[message]
    fn eq(&self, other: u8) -> bool {
        other == 1
    }

    #[message]
    fn fmt(&self) {}

    #[message]
    fn from(&self) {}

    #[message]
    fn init(&self) {}
}
#[derive(Default)]
pub struct Odd;

#[test]
fn works() {
    assert_eq!(Counter::NAME, "bank/counter");
    assert_eq!(Counter::POLICY.mailbox, 8);
    assert_eq!(<Counter as Entity>::SHARDS.get(), 65535);
    assert_eq!(
        Counter::SCHEMA,
        "self_() -> (); type(in: u8) -> u8; \
         z-inc(amount: i64, #[serde(default, rename = \"why\")] reason: Option<String>) -> ()"
    );
    assert_eq!(
        CounterMsg::Increment {
            amount: 1,
            reason: None
        }
        .name(),
        "z-inc"
    );
    assert_eq!(CounterMsg::Type { r#in: 1 }.name(), "type");
    assert_eq!(CounterMsg::Self_ {}.name(), "self_");
    assert_eq!((Greeter::NAME, Greeter::POLICY.mailbox), ("g", 1));
    assert_eq!((Odd::NAME, Odd::POLICY.mailbox), ("Odd", 1024));
    let _: fn(&GreeterRef) -> casty::call::Call<Greeter, u8> = GreeterRef::stop;
    let _: fn(&GreeterRef) -> casty::call::Call<Greeter, ()> = GreeterRef::clone;
    let _: fn(&OddRef) -> casty::call::Call<Odd, u8> = OddRef::entity_id;
}
