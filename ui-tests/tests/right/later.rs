//! Replies that come later: plain, fallible, async, generic.

use casty::{
    prelude::*,
    reply::{Later, Promise},
};

#[derive(Default)]
pub struct Gate {
    waiting: Vec<Promise<u32>>,
}

#[entity]
impl Gate {
    #[message]
    fn pass(&mut self) -> Later<u32> {
        let (promise, later) = Promise::new();
        self.waiting.push(promise);
        later
    }

    #[message]
    async fn try_pass(&mut self, name: String) -> casty::reply::Later<Result<u32, String>> {
        let (promise, later) = Promise::new();
        promise.reply(Err(name));
        later
    }

    #[message]
    fn wait(&self, ctx: &mut Context<Self>) -> Later<()> {
        let _ = ctx.myself();
        Promise::new().1
    }
}

pub struct Of<T>(Option<Promise<T>>);

#[actor]
impl<T: Wire> Of<T> {
    #[message]
    fn get(&mut self) -> Later<T> {
        let (promise, later) = Promise::new();
        self.0 = Some(promise);
        later
    }

    #[message]
    fn put(&mut self, value: T) {
        if let Some(promise) = self.0.take() {
            promise.reply(value);
        }
    }
}

pub async fn answers(gate: GateRef) -> Result<u32, AskError> {
    gate.wait().await?;
    gate.pass().await
}

pub async fn fails(gate: GateRef) -> Result<u32, AskError<String>> {
    gate.try_pass("me".to_owned()).await
}

#[test]
fn works() {}
