use casty::prelude::*;

#[entity(generic(B: Send + 'static, C: Send + 'static))]
mod breaker {
    #[state(initial)]
    pub struct Closed<B>(Vec<B>);

    impl<B> Default for Closed<B> {
        fn default() -> Self {
            Self(Vec::new())
        }
    }

    #[behavior]
    impl<B: Send + 'static> Closed<B> {
        #[message]
        fn call(&mut self) {}
    }
}

fn main() {}
