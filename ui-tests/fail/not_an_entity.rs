use casty::prelude::*;

pub struct Greeter;

#[actor]
impl Greeter {
    #[message]
    fn greet(&self) {}
}

pub struct Plain;

fn call(ctx: &Context<Greeter>) {
    ctx.entity::<Greeter>("alice");
    ctx.entity::<Plain>("bob");
    ctx.spawn(Plain);
}

fn main() {}
