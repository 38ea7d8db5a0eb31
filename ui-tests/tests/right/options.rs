//! Every option, with each of its words.

use casty::prelude::*;

#[derive(Default)]
pub struct A;

#[entity(
    shards = 7,
    name = "a",
    mailbox = 256,
    overflow = wait,
    on_failure = restart,
    max_restarts = 10,
    within = "60s",
    backoff = "100ms",
    backoff_max = "10s",
    children = one_for_one,
    passivate_after = "10m",
    max_active = 10000,
    role = "storage"
)]
impl A {
    #[message]
    fn value(&self) {}
}

#[derive(Default)]
pub struct B;

#[entity(overflow = reject, on_failure = resume, children = all_for_one, max_restarts = 0)]
impl B {
    #[message]
    fn value(&self) {}
}

#[derive(Default)]
pub struct C;

#[entity(overflow = drop_newest, on_failure = stop, backoff = "0s", backoff_max = "0s")]
impl C {
    #[message]
    fn value(&self) {}
}

pub struct D;

#[actor(overflow = drop_oldest, on_failure = escalate)]
impl D {
    #[message]
    fn value(&self) {}
}

#[test]
fn works() {
    assert_eq!(<A as Entity>::ROLE, Some("storage"));
    assert_eq!(<B as Entity>::ROLE, None);
}
