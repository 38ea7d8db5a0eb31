#![no_implicit_prelude]
//! Stored types may not lean on names that happen to be in scope either.

#[allow(dead_code)]
pub struct Option;
#[allow(dead_code)]
pub struct Result;
#[allow(dead_code)]
pub struct Vec;
#[allow(dead_code)]
pub mod core {}
#[allow(dead_code)]
pub mod std {}

#[::casty::message(crate = ::casty)]
#[derive(::std::default::Default)]
pub struct Account {
    balance: u64,
    #[transient]
    cache: u8,
}

#[::casty::entity(event_sourced, retain = "snapshot", crate = ::casty)]
impl Account {
    #[message]
    fn deposit(
        &self,
        amount: u64,
    ) -> ::std::result::Result<::casty::Effect<Self, u64>, ::std::string::String> {
        ::std::result::Result::Ok(
            ::casty::Effect::persist(AccountEvent::Deposited { amount })
                .reply(|account| account.balance),
        )
    }

    #[event(version = 2)]
    fn deposited(&mut self, amount: u64) {
        self.cache = 1;
        self.balance += amount;
    }

    #[upcast(from = 1)]
    fn deposited_v1(amount: u64) -> ::std::vec::Vec<AccountEvent> {
        ::std::vec![AccountEvent::Deposited { amount }]
    }
}

#[::casty::entity(event_sourced, crate = ::casty)]
mod door {
    #[::casty::state(common)]
    #[::casty::message]
    #[derive(::std::default::Default)]
    pub struct Log {
        uses: u32,
    }

    #[::casty::state(initial)]
    #[::casty::message]
    #[derive(::std::default::Default)]
    pub struct Closed;

    #[::casty::state]
    #[::casty::message]
    pub struct Open;

    #[::casty::behavior]
    impl Closed {
        #[message]
        async fn push(&self, _log: &Log) -> ::casty::Effect<Door> {
            ::casty::Effect::persist(DoorEvent::Opened {})
        }

        #[event]
        fn opened(self, log: &mut Log) -> ::casty::behavior::OneOf<Open, Closed> {
            log.uses += 1;
            ::std::convert::From::from(Open)
        }
    }

    #[::casty::behavior]
    impl Open {
        #[on_enter]
        fn entered(&self) {}

        #[message]
        fn push(&self) -> ::casty::Effect<Door> {
            ::casty::Effect::none()
        }
    }
}

#[::casty::entity(durable, crate = ::casty)]
mod lamp {
    #[::casty::state(initial)]
    #[::casty::message]
    #[derive(::std::default::Default)]
    pub struct Off;

    #[::casty::behavior]
    impl Off {
        #[message]
        fn flip(self) -> Off {
            self
        }
    }
}

#[test]
fn works() {
    let _ = DoorEvent::Opened {};
    let _ = AccountRef::deposit;
    let _ = LampRef::flip;
}
