use casty::prelude::*;

#[derive(Default)]
struct Shelf<T>(Vec<T>);

#[entity(generic(T: Wire + Default))]
impl<T: Wire + Default> Shelf<T> {
    #[message]
    fn put(&mut self, thing: T) {
        self.0.push(thing);
    }
}

fn main() {}
