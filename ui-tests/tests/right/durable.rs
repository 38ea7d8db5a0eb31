//! Durable entities: handlers as ever, and the state is stored.

use casty::{
    __private::{Retain, Storage},
    prelude::*,
};

#[message]
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(durable)]
impl Counter {
    #[on_start]
    fn started(&mut self) {
        self.value += 0;
    }

    #[message]
    fn increment(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }

    #[message]
    async fn value(&self) -> i64 {
        self.value
    }
}

#[message]
#[derive(Default)]
pub struct Store<T> {
    values: Vec<T>,
}

#[entity(durable, snapshot_every = 5, retain = "snapshot")]
impl<T: Wire + Default + Sync> Store<T> {
    #[message]
    fn put(&mut self, value: T) {
        self.values.push(value);
    }
}

#[entity(durable, retain = "12h")]
pub mod door {
    use super::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub struct Log {
        uses: u32,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Closed;

    #[state]
    #[message]
    pub struct Open;

    #[behavior]
    impl Closed {
        #[message]
        fn open(self, log: &mut Log) -> Open {
            log.uses += 1;
            Open
        }
    }

    #[behavior]
    impl Open {
        /// After a recovery in this state.
        #[on_start]
        fn recovered(&self) {}

        #[on_enter]
        async fn entered(&mut self, log: &mut Log) {
            log.uses += 1;
        }

        #[message(internal, after = "10s")]
        fn fall_shut(self) -> Closed {
            Closed
        }

        #[message]
        fn open(&mut self) {}
    }
}

#[test]
fn the_state_is_written_and_read() {
    assert_eq!(Counter::STORAGE, Storage::State);
    assert_eq!(Store::<u8>::SNAPSHOT_EVERY, 5);
    assert_eq!(Store::<u8>::RETAIN, Retain::Snapshot);
    let hours = std::time::Duration::from_secs(12 * 60 * 60);
    assert_eq!(Door::RETAIN, Retain::For(hours));
    let mut bytes = Vec::new();
    let name = Counter { value: 7 }.freeze(&mut bytes).unwrap();
    assert_eq!(Counter::thaw(name, &bytes).unwrap().value, 7);
    bytes.clear();
    let name = Door::from((door::Closed, door::Log::default()))
        .freeze(&mut bytes)
        .unwrap();
    assert_eq!(name, "Closed");
    assert_eq!(Door::thaw("Closed", &bytes).unwrap().state_name(), "Closed");
    assert!(!Door::MIGRATES && !Counter::MIGRATES);
}
