//! Entities that the end-to-end tests share with the node program they start.

pub mod namespaces;
pub mod population;
pub mod process;
pub mod source;
pub mod store;

use std::{collections::BTreeMap, time::Duration};

use casty::{AskError, prelude::*};

/// Counts.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 16)]
impl Counter {
    /// Adds, and says nothing.
    #[message]
    pub fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// Adds, and says what came of it.
    #[message]
    pub fn add(&mut self, amount: i64) -> i64 {
        self.value += amount;
        self.value
    }

    /// The current value.
    #[message]
    pub async fn value(&self) -> i64 {
        self.value
    }

    /// The node it lives on.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    /// Answers after so many milliseconds.
    #[message]
    pub async fn nap(&mut self, millis: u64) -> i64 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.value
    }

    /// Fails in the worst way.
    #[message]
    pub fn explode(&mut self, why: String) {
        panic!("{why}");
    }

    /// Ends this activation.
    #[message]
    pub fn retire(&mut self, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

/// Why a withdrawal was refused.
#[message]
#[derive(Debug, PartialEq)]
pub struct InsufficientFunds {
    /// What there is.
    pub balance: u64,
}

impl std::fmt::Display for InsufficientFunds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "only {} there", self.balance)
    }
}

impl std::error::Error for InsufficientFunds {}

/// Has money.
#[derive(Default)]
pub struct Account {
    balance: u64,
}

#[entity(shards = 16)]
impl Account {
    /// Puts money in.
    #[message]
    pub fn deposit(&mut self, amount: u64) -> u64 {
        self.balance += amount;
        self.balance
    }

    /// Takes money out, if it is there.
    #[message]
    pub fn withdraw(&mut self, amount: u64) -> Result<u64, InsufficientFunds> {
        let balance = self.balance;
        self.balance = balance
            .checked_sub(amount)
            .ok_or(InsufficientFunds { balance })?;
        Ok(self.balance)
    }

    /// Moves money to another account, wherever that lives.
    #[message]
    pub async fn transfer(
        &mut self,
        amount: u64,
        to: AccountRef,
    ) -> Result<u64, InsufficientFunds> {
        let left = self.withdraw(amount)?;
        if to.deposit(amount).await.is_err() {
            self.balance += amount;
            return Err(InsufficientFunds {
                balance: self.balance,
            });
        }
        Ok(left)
    }
}

/// Notes what arrives, by sender.
#[derive(Default)]
pub struct Ledger {
    next: BTreeMap<u32, u64>,
    out_of_order: u64,
}

/// What a ledger has seen.
#[message]
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// Messages, over all senders.
    pub messages: u64,
    /// Messages that did not have the number that was due.
    pub out_of_order: u64,
}

#[entity(shards = 64)]
impl Ledger {
    /// The `number`th message of `sender`, from zero.
    #[message]
    pub fn note(&mut self, sender: u32, number: u64) {
        let next = self.next.entry(sender).or_default();
        if *next == number {
            *next += 1;
        } else {
            self.out_of_order += 1;
        }
    }

    /// What has arrived.
    #[message]
    pub fn seen(&self) -> Seen {
        let messages = self.next.values().sum::<u64>() + self.out_of_order;
        Seen {
            messages,
            out_of_order: self.out_of_order,
        }
    }
}

/// Tells others what it is asked to.
#[derive(Default)]
pub struct Herald {
    heard: Vec<String>,
}

#[entity(shards = 16)]
impl Herald {
    /// Passes a text on to an actor, which may be on another node.
    #[message]
    pub async fn announce(&mut self, text: String, to: ListenerRef) -> Result<u64, String> {
        to.hear(text)
            .await
            .map_err(|error: AskError| error.to_string())
    }

    /// Asks a counter that somebody knows.
    #[message]
    pub async fn ask(&mut self, counter: CounterRef) -> Result<i64, String> {
        counter
            .value()
            .await
            .map_err(|error: AskError| error.to_string())
    }

    /// A reference to itself, for others.
    #[message]
    pub fn who(&self, ctx: &mut Context<Self>) -> HeraldRef {
        ctx.myself()
    }

    /// Starts a listener on its own node.
    #[message]
    pub fn hire(&mut self, ctx: &mut Context<Self>) -> ListenerRef {
        ctx.spawn(Listener::default())
    }

    /// The node it lives on.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    /// Remembers.
    #[message]
    pub fn remember(&mut self, text: String) -> u64 {
        self.heard.push(text);
        self.heard.len() as u64
    }
}

/// A local actor that hears.
#[derive(Default)]
pub struct Listener {
    heard: Vec<String>,
}

#[actor]
impl Listener {
    /// Hears, and says how much it has heard by now.
    #[message]
    pub fn hear(&mut self, text: String) -> u64 {
        self.heard.push(text);
        self.heard.len() as u64
    }

    /// All it heard.
    #[message]
    pub fn heard(&self) -> Vec<String> {
        self.heard.clone()
    }
}

/// Shows what its tracing says when `CASTY_LOG` is set, as in `CASTY_LOG=casty=debug`.
pub fn log() {
    let filter = std::env::var("CASTY_LOG").unwrap_or_else(|_| "off".to_owned());
    // A second call finds the first one's subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
