use casty::prelude::*;

#[derive(Default)]
struct Shelf<T> {
    things: Vec<T>,
}

#[entity]
impl<T: Wire + Default> Shelf<T> {
    #[message]
    fn put(&mut self, thing: T) {
        self.things.push(thing);
    }
}

casty::host!(Shelf<u32> as "shelf/numbers");

fn main() {
    let system = ActorSystem::local("ui");
    let _ = system.entity::<Shelf<u32>>("hosted");
    let _ = system.entity::<Shelf<String>>("not hosted");
}
