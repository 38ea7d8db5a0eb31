//! Accounts, whose events are stored before anything of them is seen.

use std::{collections::BTreeMap, fmt};

use casty::prelude::*;
use serde::{Deserialize, Serialize};

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

/// A teller's order. A teller gives one order after the other, so an account needs to remember only
/// the last order of each teller: an earlier one that arrives once more has been carried out.
#[message]
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The teller.
    pub teller: u64,
    /// The teller's orders count from 1.
    pub number: u64,
    /// How much is to be paid.
    pub amount: u64,
}

/// The state of an account, as its events have made it.
#[derive(Default, Serialize, Deserialize)]
pub struct Account {
    balance: u64,
    entries: u64,
    /// The last order of each teller, and whether it was carried out.
    orders: BTreeMap<u64, (u64, bool)>,
}

impl Account {
    /// What became of an order that has arrived before.
    fn known(&self, order: &Order) -> Option<bool> {
        let (last, done) = self.orders.get(&order.teller)?;
        (order.number <= *last).then_some(*done)
    }

    fn note(&mut self, order: Order, done: bool) {
        self.orders.insert(order.teller, (order.number, done));
        self.entries += u64::from(done);
    }
}

// Commands decide and change nothing: events do.
#[entity(shards = 16, event_sourced, snapshot_every = 100)]
impl Account {
    /// Pays in `amount`, and replies with the balance.
    #[message]
    fn deposit(&self, amount: u64) -> Effect<Self, u64> {
        Effect::persist(AccountEvent::Deposited { amount }).reply(|account| account.balance)
    }

    /// Pays out `amount`, if there is as much.
    #[message]
    fn withdraw(&self, amount: u64) -> Result<Effect<Self, u64>, InsufficientFunds> {
        let balance = self.balance;
        if balance < amount {
            return Err(InsufficientFunds { balance });
        }
        Ok(Effect::persist(AccountEvent::Withdrawn { amount }).reply(|account| account.balance))
    }

    /// The balance, and the number of entries that made it.
    #[message]
    pub fn statement(&self) -> (u64, u64) {
        (self.balance, self.entries)
    }

    /// Pays out for a transfer. Replies whether there was enough: also if the order arrives again.
    #[message]
    pub fn pay_out(&self, order: Order) -> Effect<Self, bool> {
        if let Some(done) = self.known(&order) {
            return Effect::none().reply(move |_| done);
        }
        let done = self.balance >= order.amount;
        let event = if done {
            AccountEvent::PaidOut { order }
        } else {
            // Noted as well: the teller goes by this answer, so it must not change.
            AccountEvent::Refused { order }
        };
        Effect::persist(event).reply(move |_| done)
    }

    /// Pays in for a transfer: once, however often the order arrives.
    #[message]
    pub fn pay_in(&self, order: Order) -> Effect<Self> {
        if self.known(&order).is_some() {
            return Effect::none();
        }
        Effect::persist(AccountEvent::PaidIn { order })
    }

    #[event]
    fn deposited(&mut self, amount: u64) {
        self.balance += amount;
        self.entries += 1;
    }

    #[event]
    fn withdrawn(&mut self, amount: u64) {
        self.balance -= amount;
        self.entries += 1;
    }

    #[event]
    fn paid_out(&mut self, order: Order) {
        self.balance -= order.amount;
        self.note(order, true);
    }

    #[event]
    fn paid_in(&mut self, order: Order) {
        self.balance += order.amount;
        self.note(order, true);
    }

    #[event]
    fn refused(&mut self, order: Order) {
        self.note(order, false);
    }
}
