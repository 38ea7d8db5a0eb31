use casty::prelude::*;

#[derive(Default)]
struct Counter;

#[entity]
impl Counter {
    #[message]
    fn count(&mut self) {}
}

fn main() {
    let system = ActorSystem::local("app");
    system.spawn(Counter);
    system.spawn_with(Counter::default);
}
