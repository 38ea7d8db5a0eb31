use casty::prelude::*;

#[entity(generic(B: Default + Send + 'static))]
mod counter {
    #[state(initial)]
    #[derive(Default)]
    pub struct Idle;

    #[state(common)]
    #[derive(Default)]
    pub struct Kept<B> {
        seen: Vec<B>,
    }

    #[behavior]
    impl Idle {
        #[message]
        fn count(&self) -> usize {
            0
        }
    }
}

fn main() {}
