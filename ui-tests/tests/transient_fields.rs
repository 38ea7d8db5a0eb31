//! `#[transient]` fields: made anew, and in no snapshot, move or message.

use std::cell::Cell;

use casty::{persistence::Memory, prelude::*};

/// Neither serializable nor `Sync`.
#[derive(Default, Debug)]
pub struct Cache(Cell<u8>);

#[message]
#[derive(Default, Debug)]
pub struct Account {
    balance: u64,
    #[transient]
    cache: Cache,
    /// A handle of something.
    #[transient]
    handle: Option<Box<dyn std::any::Any + Send>>,
}

#[entity(durable)]
impl Account {
    #[message]
    fn deposit(&mut self, amount: u64) {
        self.balance += amount;
        self.cache.0.set(1);
    }
}

#[message]
#[derive(Debug, PartialEq)]
pub enum Shape {
    Round(u8, #[transient] u8),
    Square {
        side: u8,
        #[transient]
        area: u16,
    },
}

#[message]
#[derive(Debug, PartialEq)]
pub struct Boxed<T>(T, #[transient] Option<T>);

/// What a message holds is written as a state is.
#[message]
#[derive(Default)]
pub struct Album {
    shapes: Vec<Shape>,
    boxed: Option<Boxed<u8>>,
}

#[entity(durable)]
impl Album {
    #[message]
    fn paste(&mut self, shape: Shape) {
        self.shapes.push(shape);
    }
}

#[entity(durable)]
pub mod lamp {
    use super::*;

    #[state(common)]
    #[message]
    #[derive(Default)]
    pub struct Log {
        pub lines: u32,
        #[transient]
        pub cache: Cache,
    }

    #[state(initial)]
    #[derive(Default, serde::Serialize, serde::Deserialize)]
    pub struct Off {
        pub times: u8,
        #[transient]
        pub(super) cache: Cache,
    }

    #[behavior]
    impl Off {
        /// Fills the state, the common data, and the caches of both.
        #[message]
        fn fill(&mut self, with: u8, log: &mut Log) {
            self.times = with;
            self.cache.0.set(with);
            log.lines = with.into();
            log.cache.0.set(with);
        }

        #[message]
        fn seen(&self, log: &Log) -> (u8, u8, u32, u8) {
            (self.times, self.cache.0.get(), log.lines, log.cache.0.get())
        }

        #[message]
        fn flip(self) -> Off {
            self
        }
    }
}

/// Nothing is written of it.
#[actor]
pub mod torch {
    #[state(initial)]
    pub struct Dark {
        #[transient]
        pub cache: super::Cache,
    }

    #[behavior]
    impl Dark {
        #[message]
        fn flip(self) -> Dark {
            self
        }
    }
}

#[test]
fn a_transient_field_is_made_anew() {
    let account = Account {
        balance: 7,
        cache: Cache(Cell::new(9)),
        handle: Some(Box::new(1)),
    };
    let mut bytes = Vec::new();
    account.freeze(&mut bytes).unwrap();
    let thawed = Account::thaw("", &bytes).unwrap();
    assert_eq!((thawed.balance, thawed.cache.0.get()), (7, 0));
    assert!(thawed.handle.is_none());
}

#[test]
fn a_transient_field_of_a_value_is_made_anew() {
    let album = Album {
        shapes: vec![Shape::Round(1, 9), Shape::Square { side: 2, area: 9 }],
        boxed: Some(Boxed(3, Some(9))),
    };
    let mut bytes = Vec::new();
    album.freeze(&mut bytes).unwrap();
    let thawed = Album::thaw("", &bytes).unwrap();
    assert_eq!(
        thawed.shapes,
        [Shape::Round(1, 0), Shape::Square { side: 2, area: 0 }]
    );
    assert_eq!(thawed.boxed, Some(Boxed(3, None)));
}

#[tokio::test]
async fn a_transient_field_of_a_state_is_made_anew() {
    let store = Memory::new();
    let begin = || {
        let system = ActorSystem::builder("lamps").journal(store.clone());
        system.start_local().unwrap()
    };
    let system = begin();
    let lamp = system.entity::<Lamp>("desk");
    lamp.fill(7).await.unwrap();
    assert_eq!(lamp.seen().await, Ok((7, 7, 7, 7)));
    system.shutdown().await.unwrap();

    let system = begin();
    let lamp = system.entity::<Lamp>("desk");
    assert_eq!(lamp.seen().await, Ok((7, 0, 7, 0)));
}
