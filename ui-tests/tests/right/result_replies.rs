use std::{fmt, io};

use casty::prelude::*;

#[message]
#[derive(Debug, PartialEq)]
pub struct InsufficientFunds {
    balance: u64,
}

#[derive(Default)]
pub struct Account {
    balance: u64,
}

type Short<T> = Result<T, InsufficientFunds>;

mod aliased {
    pub type Result<T> = std::result::Result<T, super::InsufficientFunds>;
}

#[derive(Debug)]
pub struct OpenError;

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed on Sundays")
    }
}

#[entity]
impl Account {
    #[init]
    async fn open(ctx: &mut Context<Self>) -> Result<Account, OpenError> {
        let _ = ctx.entity_id();
        Ok(Self::default())
    }

    #[message]
    fn withdraw(&mut self, amount: u64) -> Result<u64, InsufficientFunds> {
        if self.balance < amount {
            return Err(InsufficientFunds {
                balance: self.balance,
            });
        }
        self.balance -= amount;
        Ok(self.balance)
    }

    #[message]
    async fn by_alias(&self) -> aliased::Result<()> {
        Ok(())
    }

    /// Not recognisable as a `Result`: it is a plain value then, which travels as well.
    #[message]
    fn renamed(&self) -> Short<u8> {
        Ok(1)
    }
}

pub struct Disk;

#[entity]
impl Disk {
    #[init]
    fn open() -> io::Result<Self> {
        Ok(Disk)
    }

    #[message]
    fn ping(&self) {}
}

#[test]
fn works() {
    let _: fn(&AccountRef, u64) -> casty::call::Call<Account, u64, InsufficientFunds> =
        AccountRef::withdraw;
    let _: fn(&AccountRef) -> casty::call::Call<Account, (), InsufficientFunds> =
        AccountRef::by_alias;
    let _: fn(&AccountRef) -> casty::call::Call<Account, Short<u8>> = AccountRef::renamed;
}
