use casty::prelude::*;

#[derive(Default)]
struct Account;

#[entity(id = u64)]
impl Account {
    #[message]
    fn close(&mut self) {}
}

fn main() {
    let system = ActorSystem::local("ui");
    let _ = system.entity::<Account>(7u64);
    let _ = system.entity::<Account>("order-7");
}
