//! `#[transient]` fields: made anew, and in no snapshot, move or message.

use std::cell::Cell;

use casty::prelude::*;

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
pub struct Boxed<T>(T, #[transient] Option<T>);

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

    let log = lamp::Log {
        lines: 3,
        cache: Cache(Cell::new(9)),
    };
    let off = lamp::Off {
        times: 4,
        cache: Cache(Cell::new(9)),
    };
    let mut bytes = Vec::new();
    let name = Lamp::from((off, log)).freeze(&mut bytes).unwrap();
    assert!(Lamp::thaw(name, &bytes).is_ok());
    // Lengths and values, and the two names that are written.
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.contains("lines") && text.contains("times") && !text.contains("cache"),
        "{text}"
    );
}
