use casty::prelude::*;

#[entity(generic(B: Send + 'static))]
mod breaker {
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed<B>(Vec<B>);

    #[state]
    pub struct Open<D>(D);

    #[behavior]
    impl<B: Send + 'static> Closed<B> {
        #[message]
        fn call(self) -> Open<B> {
            Open(self.0.into_iter().next().unwrap())
        }
    }

    #[behavior(otherwise = reject)]
    impl<D> Open<D> {}
}

fn main() {}
