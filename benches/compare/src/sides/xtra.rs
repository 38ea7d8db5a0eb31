//! xtra.

use xtra::{Address, Context, Handler, Mailbox};

use super::CAPACITY;
use crate::{
    AnyError,
    local::{Ask, Local, Tell},
};

#[derive(Default, xtra::Actor)]
pub(crate) struct Counter {
    value: i64,
}

struct Increment(i64);
struct Add(i64);

impl Handler<Increment> for Counter {
    type Return = ();

    async fn handle(&mut self, Increment(amount): Increment, _: &mut Context<Self>) {
        self.value += amount;
    }
}

impl Handler<Add> for Counter {
    type Return = i64;

    async fn handle(&mut self, Add(amount): Add, _: &mut Context<Self>) -> i64 {
        self.value += amount;
        self.value
    }
}

impl Ask for Address<Counter> {
    async fn ask(&self, amount: i64) -> i64 {
        self.send(Add(amount)).await.expect("an answer")
    }
}

impl Tell for Address<Counter> {
    async fn tell(&self, amount: i64) {
        // A detached send resolves once the message has room. Its answer does not matter.
        let _answer = self.send(Increment(amount)).detach().await.expect("room");
    }
}

pub(crate) struct Process;

impl Local for Process {
    type Counter = Address<Counter>;

    async fn start() -> Result<Self, AnyError> {
        Ok(Self)
    }

    async fn counter(&self, _number: usize) -> Address<Counter> {
        xtra::spawn_tokio(Counter::default(), Mailbox::bounded(CAPACITY))
    }
}
