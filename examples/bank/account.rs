//! Accounts, whose events are stored before anything of them is seen.

use std::fmt;

use casty::prelude::*;

/// What an account does not have.
#[message]
#[derive(Debug, PartialEq)]
pub struct InsufficientFunds {
    /// What it has.
    pub balance: u64,
}

impl fmt::Display for InsufficientFunds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the balance is only {}", self.balance)
    }
}

impl std::error::Error for InsufficientFunds {}

/// Why nothing can be paid in.
#[message]
#[derive(Debug, PartialEq)]
pub struct Closed;

/// What an account has.
#[message]
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Statement {
    /// What can be spent.
    pub balance: u64,
    /// What is set aside for transfers that are not settled.
    pub reserved: u64,
    /// How often something was paid in or out.
    pub entries: u64,
}

/// The state of an account, as its events have made it.
#[message]
#[derive(Default)]
pub struct Account {
    statement: Statement,
    closed: bool,
}

// Commands decide and change nothing: events do.
#[entity(shards = 16, event_sourced, snapshot_every = 100)]
impl Account {
    /// Pays in `amount`, and replies with the balance.
    #[message]
    fn deposit(&self, amount: u64) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::PaidIn { amount }).reply(|it| it.statement.balance)
    }

    /// Pays out `amount`, if there is as much.
    #[message]
    fn withdraw(&self, amount: u64) -> Result<Effect<Self, u64>, InsufficientFunds> {
        self.check(amount)?;
        Ok(Effect::persist(AccountEvent::PaidOut { amount }).reply(|it| it.statement.balance))
    }

    /// Sets `amount` aside for a transfer, if there is as much.
    #[message]
    pub fn reserve(&self, amount: u64) -> Result<Effect<Self>, InsufficientFunds> {
        self.check(amount)?;
        Ok(Effect::persist(AccountEvent::Reserved { amount }))
    }

    /// Pays in what another account has set aside.
    #[message]
    pub fn credit(&self, amount: u64) -> Result<Effect<Self>, Closed> {
        if self.closed {
            return Err(Closed);
        }
        Ok(Effect::persist(AccountEvent::PaidIn { amount }))
    }

    /// What was set aside is paid.
    #[message]
    pub fn settle(&self, amount: u64) -> Effect<Self> {
        Effect::persist(AccountEvent::Settled { amount })
    }

    /// What was set aside is not needed.
    #[message]
    pub fn give_back(&self, amount: u64) -> Effect<Self> {
        Effect::persist(AccountEvent::GivenBack { amount })
    }

    /// From now on nothing is credited.
    #[message]
    pub fn close(&self) -> Effect<Self> {
        Effect::persist(AccountEvent::Shut {})
    }

    /// What it has.
    #[message]
    pub fn statement(&self) -> Statement {
        self.statement
    }

    #[event]
    fn paid_in(&mut self, amount: u64) {
        self.statement.balance += amount;
        self.statement.entries += 1;
    }

    #[event]
    fn paid_out(&mut self, amount: u64) {
        self.statement.balance -= amount;
        self.statement.entries += 1;
    }

    #[event]
    fn reserved(&mut self, amount: u64) {
        self.statement.balance -= amount;
        self.statement.reserved += amount;
    }

    #[event]
    fn settled(&mut self, amount: u64) {
        self.statement.reserved -= amount;
        self.statement.entries += 1;
    }

    #[event]
    fn given_back(&mut self, amount: u64) {
        self.statement.reserved -= amount;
        self.statement.balance += amount;
    }

    #[event]
    fn shut(&mut self) {
        self.closed = true;
    }
}

impl Account {
    fn check(&self, amount: u64) -> Result<(), InsufficientFunds> {
        let balance = self.statement.balance;
        if balance < amount {
            return Err(InsufficientFunds { balance });
        }
        Ok(())
    }
}
