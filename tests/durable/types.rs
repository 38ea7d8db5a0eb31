//! Entities that are stored.

use casty::prelude::*;

/// A vault, stored as its events.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Vault {
    balance: i64,
}

/// There is not so much.
#[message]
#[derive(Debug, PartialEq)]
pub(crate) struct Short {
    pub(crate) by: i64,
}

#[entity(event_sourced, snapshot_every = 10, shards = 20)]
impl Vault {
    #[message]
    fn deposit(&self, amount: i64) -> Effect<Self, i64> {
        Effect::persist(VaultEvent::Deposited { amount }).reply(|account| account.balance)
    }

    #[message]
    fn withdraw(&self, amount: i64) -> Result<Effect<Self, i64>, Short> {
        let by = amount - self.balance;
        if by > 0 {
            return Err(Short { by });
        }
        let effect = Effect::persist(VaultEvent::Withdrawn { amount });
        Ok(effect.reply(|account| account.balance))
    }

    #[message]
    fn balance(&self) -> i64 {
        self.balance
    }

    #[message]
    fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[event]
    fn deposited(&mut self, amount: i64) {
        self.balance += amount;
    }

    #[event]
    fn withdrawn(&mut self, amount: i64) {
        self.balance -= amount;
    }
}

/// A page, stored as it is.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

#[entity(durable, snapshot_every = 3, retain = "snapshot", shards = 20)]
impl Page {
    #[message]
    fn write(&mut self, text: String) {
        self.text = text;
    }

    #[message]
    fn text(&self) -> String {
        self.text.clone()
    }

    #[message]
    fn spoil(&mut self) {
        self.text.clear();
        panic!("on purpose");
    }

    #[message]
    fn sleep(&self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// A chest. Its records are kept for 90 days.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Chest {
    coins: u64,
}

#[entity(event_sourced, snapshot_every = 3, retain = "90d", shards = 20)]
impl Chest {
    #[message]
    fn fill(&self) -> Effect<Self, u64> {
        Effect::persist(ChestEvent::Filled {}).reply(|chest: &Self| chest.coins)
    }

    #[event]
    fn filled(&mut self) {
        self.coins += 1;
    }
}

/// An order that is paid for once.
#[entity(event_sourced, shards = 20)]
pub(crate) mod order {
    use casty::prelude::*;

    #[state(initial)]
    #[message]
    #[derive(Debug, Default)]
    pub(crate) struct Open {
        items: u32,
    }

    #[state]
    #[message]
    #[derive(Debug)]
    pub(crate) struct Paid {
        items: u32,
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn add(&self) -> Effect<Order> {
            Effect::persist(OrderEvent::Added {})
        }

        #[message]
        fn pay(&self) -> Effect<Order> {
            Effect::persist(OrderEvent::PaidFor {})
        }

        #[event]
        fn added(&mut self) {
            self.items += 1;
        }

        #[event]
        fn paid_for(self) -> Paid {
            Paid { items: self.items }
        }
    }

    #[behavior(otherwise = reject)]
    impl Paid {
        #[message]
        fn items(&self) -> u32 {
            self.items
        }
    }
}

/// A chronicle, which fewer nodes keep than its node says.
#[message]
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    lines: Vec<String>,
}

#[entity(durable, copies = 2, shards = 12)]
impl Chronicle {
    /// Returns how many lines there are.
    #[message]
    fn write(&mut self, line: String) -> usize {
        self.lines.push(line);
        self.lines.len()
    }
}
