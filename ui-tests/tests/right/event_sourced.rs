//! Event-sourced entities: commands decide, events change.

use casty::{
    __private::{EventSourced, Events, Retain, Storage},
    prelude::*,
    reply::{Later, Promise},
};

#[message]
#[derive(Debug, PartialEq)]
pub struct Insufficient {
    balance: u64,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Account {
    balance: u64,
    entries: u64,
}

#[entity(shards = 10, event_sourced, snapshot_every = 50, retain = "90d")]
impl Account {
    /// Takes `amount` out.
    #[message]
    fn withdraw(&self, amount: u64) -> Result<Effect<Self, u64>, Insufficient> {
        let balance = self.balance;
        if balance < amount {
            return Err(Insufficient { balance });
        }
        Ok(Effect::persist(AccountEvent::Withdrawn { amount }).reply(|account| account.balance))
    }

    #[message]
    async fn deposit(&self, amount: u64, ctx: &mut Context<Self>) -> Effect<Self> {
        let _ = ctx;
        Effect::persist_all([
            AccountEvent::Deposited {
                amount,
                reason: None,
            },
            AccountEvent::Noted {},
        ])
    }

    #[message(guard = may_close)]
    fn close(&self) -> Effect<crate::event_sourced::Account, String> {
        Effect::none()
            .reply(|account: &Account| format!("{}", account.entries))
            .then(|account, ctx| {
                let _ = (account.balance, ctx.path());
            })
            .stop()
    }

    fn may_close(&self) -> Result<(), Insufficient> {
        Ok(())
    }

    #[message]
    fn balance(&self) -> u64 {
        self.balance
    }

    #[message(internal)]
    fn tick(&self) -> Effect<Self> {
        Effect::none()
    }

    /// It went out.
    #[event]
    fn withdrawn(&mut self, amount: u64) {
        self.balance -= amount;
        self.entries += 1;
    }

    #[event(name = "paid_in", version = 3)]
    fn deposited(&mut self, amount: u64, #[serde(default)] _reason: Option<String>) {
        self.balance += amount;
    }

    #[event]
    fn noted(&self) {}

    #[upcast(from = 1)]
    fn deposited_v1(euros: u64) -> AccountEvent {
        AccountEvent::Deposited {
            amount: euros * 100,
            reason: None,
        }
    }

    #[upcast(event = deposited, from = 2)]
    fn older(amount: u64) -> Vec<AccountEvent> {
        vec![
            AccountEvent::Deposited {
                amount,
                reason: Some("old".to_owned()),
            },
            AccountEvent::Noted {},
        ]
    }

    #[upcast(removed = "checked", from = 1)]
    fn checked(_by: String) {}
}

/// An entity all of whose arguments serde's derives write.
#[message]
#[derive(Default)]
pub struct Thermometer {
    celsius: i32,
}

#[entity(event_sourced)]
impl Thermometer {
    #[message]
    fn measure(&self, celsius: i32) -> Effect<Self, i32> {
        Effect::persist(ThermometerEvent::Measured { celsius }).reply(|it| it.celsius)
    }

    #[event(version = 2)]
    fn measured(&mut self, #[serde(rename = "c")] celsius: i32) {
        self.celsius = celsius;
    }

    #[upcast(from = 1)]
    fn measured_v1(#[serde(rename = "f")] fahrenheit: i32) -> Option<ThermometerEvent> {
        (fahrenheit > -1000).then(|| ThermometerEvent::Measured {
            celsius: (fahrenheit - 32) * 5 / 9,
        })
    }
}

/// Each instance of a generic entity has events of its own.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Shelf<T> {
    things: Vec<T>,
}

#[entity(event_sourced)]
impl<T: Wire + Default + Clone> Shelf<T> {
    #[message]
    fn put(&self, thing: T) -> Effect<Self, usize> {
        Effect::persist(ShelfEvent::Placed { thing }).reply(|shelf| shelf.things.len())
    }

    /// What it has later.
    #[message]
    fn when(&self) -> Effect<Shelf<T>, Later<usize>> {
        Effect::persist(ShelfEvent::Looked {}).reply(|shelf: &Self| {
            let (promise, later) = Promise::new();
            promise.reply(shelf.things.len());
            later
        })
    }

    #[event(name = "put", version = 2)]
    fn placed(&mut self, thing: T) {
        self.things.push(thing);
    }

    #[event]
    fn looked(&self) {}

    #[upcast(event = placed, from = 1)]
    fn many(things: Vec<T>) -> Vec<ShelfEvent<T>> {
        let put = |thing| ShelfEvent::Placed { thing };
        things.into_iter().map(put).collect()
    }
}

casty::host!(Shelf<String> as "shelf/text");

#[entity(event_sourced, generic(T: Wire + Clone + Sync))]
pub mod rack {
    use super::*;

    #[state(initial)]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Full<T> {
        things: Vec<T>,
    }

    #[state]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Sold;

    #[behavior]
    impl<T: Wire + Clone + Sync> Full<T> {
        #[init]
        fn made() -> Self {
            Self { things: Vec::new() }
        }

        #[message]
        fn put(&self, thing: T) -> Effect<Rack<T>> {
            Effect::persist_all([RackEvent::Placed { thing }, RackEvent::Sold {}])
        }

        #[event]
        fn placed(&mut self, thing: T) {
            self.things.push(thing);
        }

        #[event]
        fn sold(self) -> Sold {
            Sold
        }
    }

    #[behavior(otherwise = reject)]
    impl Sold {}
}

mod hidden {
    use casty::prelude::*;

    #[message]
    #[derive(Default)]
    pub(super) struct Private(u8);

    #[entity(event_sourced)]
    impl Private {
        #[message]
        fn set(&self, to: u8) -> Effect<Self> {
            Effect::persist(PrivateEvent::SetTo { to })
        }

        #[event]
        fn set_(&mut self) {
            self.0 = 0;
        }

        #[event(name = "was_set")]
        fn set_to(&mut self, to: u8) {
            self.0 = to;
        }
    }
}

fn written(event: &impl Events) -> (&'static str, u32, Vec<u8>) {
    let mut bytes = Vec::new();
    let (name, version) = event.write(&mut bytes).unwrap();
    (name, version, bytes)
}

/// A map with one entry, in MessagePack.
fn map_of(name: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81, 0xa0 | u8::try_from(name.len()).unwrap()];
    bytes.extend(name.as_bytes());
    bytes.extend(value);
    bytes
}

#[test]
fn an_event_is_stored_as_a_map_of_its_arguments() {
    let withdrawn = written(&AccountEvent::Withdrawn { amount: 5 });
    assert_eq!(withdrawn, ("withdrawn", 1, map_of("amount", &[5])));
    let measured = written(&ThermometerEvent::Measured { celsius: 7 });
    assert_eq!(measured, ("measured", 2, map_of("c", &[7])));
    assert_eq!(written(&AccountEvent::Noted {}), ("noted", 1, vec![0x80]));
}

#[test]
fn what_is_stored_is_applied_again() {
    let mut account = Account::default();
    let deposited = AccountEvent::Deposited {
        amount: 12,
        reason: Some("gift".to_owned()),
    };
    for (name, version, bytes) in [
        written(&deposited),
        written(&AccountEvent::Withdrawn { amount: 5 }),
        // With a field that this version does not know, and without one that has a default.
        ("paid_in", 3, map_of("amount", &[1])),
        (
            "withdrawn",
            1,
            [
                vec![0x82],
                map_of("amount", &[2])[1..].to_vec(),
                map_of("by", &[3])[1..].to_vec(),
            ]
            .concat(),
        ),
    ] {
        account.replay(name, version, &bytes).unwrap();
    }
    assert_eq!((account.balance, account.entries), (6, 2));
}

#[test]
fn an_old_event_becomes_one_of_today_several_or_none() {
    let mut account = Account::default();
    account
        .replay("paid_in", 1, &map_of("euros", &[3]))
        .unwrap();
    assert_eq!(account.balance, 300);
    let read = AccountEvent::read("paid_in", 2, &map_of("amount", &[4])).unwrap();
    assert!(matches!(
        &read[..],
        [
            AccountEvent::Deposited {
                amount: 4,
                reason: Some(_)
            },
            AccountEvent::Noted {}
        ]
    ));
    assert!(
        AccountEvent::read("checked", 1, &map_of("by", &[0xa1, b'x']))
            .unwrap()
            .is_empty()
    );

    let mut thermometer = Thermometer::default();
    thermometer
        .replay("measured", 1, &map_of("f", &[50]))
        .unwrap();
    assert_eq!(thermometer.celsius, 10);
}

#[test]
fn what_cannot_be_read_says_why() {
    let reason = |name, version| {
        let error = AccountEvent::read(name, version, &[0x80]).unwrap_err();
        error.to_string()
    };
    assert!(
        reason("paid_in", 4).contains("a newer version of the program"),
        "{}",
        reason("paid_in", 4)
    );
    assert!(reason("gone", 2).contains("#[upcast(removed = \"gone\", from = 2)]"));
    assert!(reason("withdrawn", 1).contains("amount"));
}

#[test]
fn the_state_and_the_options_are_those_of_a_stored_type() {
    assert_eq!(Account::STORAGE, Storage::Events);
    assert_eq!(Account::SNAPSHOT_EVERY, 50);
    let days = std::time::Duration::from_secs(90 * 24 * 60 * 60);
    assert_eq!(Account::RETAIN, Retain::For(days));
    assert!(!Account::MIGRATES);
    let mut account = Account::default();
    account
        .apply(AccountEvent::Deposited {
            amount: 3,
            reason: None,
        })
        .unwrap();
    let mut frozen = Vec::new();
    account.freeze(&mut frozen).unwrap();
    assert_eq!(Account::thaw("", &frozen).unwrap().balance, 3);
}
