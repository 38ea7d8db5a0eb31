use casty::prelude::*;

#[entity]
pub mod door {
    #[state(common)]
    #[derive(Default)]
    pub struct Log {
        uses: u32,
    }

    #[state(initial)]
    #[derive(Default)]
    pub struct Closed;

    #[behavior]
    impl Closed {
        #[message(guard = may_push)]
        fn push(&self) {}

        fn may_push(&self, log: Log) -> Result<(), String> {
            drop(log);
            Ok(())
        }
    }
}

fn main() {}
