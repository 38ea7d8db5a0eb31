//! Hooks of every shape.

use std::{fmt, io};

use casty::prelude::*;

#[derive(Default)]
pub struct Plain;

#[entity]
impl Plain {
    #[on_start]
    fn started(&self) {}

    #[on_stop]
    fn stopped(&mut self, _ctx: &mut Context<Self>) -> () {}

    #[on_restart]
    async fn restarted(&mut self) {}

    #[on_terminated]
    fn ended(&mut self, who: Terminated) {
        let _ = who.reason;
    }

    #[message]
    fn value(&self) {}
}

#[derive(Default)]
pub struct Fallible;

#[actor]
impl Fallible {
    #[on_start]
    fn started(&self) -> fmt::Result {
        Ok(())
    }

    #[on_stop]
    async fn stopped(&mut self, _ctx: &mut Context<Self>) -> io::Result<()> {
        Ok(())
    }

    #[on_restart]
    fn restarted(&mut self, ctx: &mut Context<Self>) -> Result<(), String> {
        ctx.stop();
        Ok(())
    }

    #[on_terminated]
    async fn ended(
        &mut self,
        ctx: &mut Context<Self>,
        who: casty::Terminated,
    ) -> Result<(), String> {
        ctx.stop();
        Err(who.who.id)
    }

    #[message]
    fn value(&self) {}
}

#[test]
fn works() {}
