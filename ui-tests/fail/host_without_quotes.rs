use casty::prelude::*;

#[derive(Default)]
struct Shelf<T>(Vec<T>);

#[entity]
impl<T: Wire + Default> Shelf<T> {
    #[message]
    fn put(&mut self, thing: T) {
        self.0.push(thing);
    }
}

casty::host!(Shelf<u32> as shelf);

fn main() {}
