//! Internal messages stay in the process: their arguments need no wire form, and the proxy has no method for them.

use std::{error::Error, time::Instant};

use casty::prelude::*;

#[derive(Default)]
pub struct Poller {
    seen: u64,
}

#[entity]
impl Poller {
    #[message(internal)]
    fn tick(&mut self, at: Instant, label: &'static str) {
        let _ = (at, label);
        self.seen += 1;
    }

    #[message(internal)]
    async fn done(
        &mut self,
        result: Result<Vec<u8>, Box<dyn Error + Send>>,
        ctx: &mut Context<Self>,
    ) {
        let _ = result;
        ctx.stop();
    }

    #[message]
    fn seen(&self) -> u64 {
        self.seen
    }
}

struct Clock;

#[actor]
impl Clock {
    #[message(internal)]
    fn tick(&mut self) {}
}

// The inherent name is free for this trait to show that the proxy has no such method.
trait Tick {
    fn tick(&self) {}
}
impl Tick for PollerRef {}

#[test]
fn works() {
    let _: fn(&PollerRef) = PollerRef::tick;
    let _ = PollerMsg::Tick {
        at: Instant::now(),
        label: "fast",
    };
    let _ = PollerMsg::Done {
        result: Ok(Vec::new()),
    };
    let _ = (Clock, ClockMsg::Tick {});
    assert_eq!(<Poller as Actor>::SCHEMA, "seen() -> u64");
}
