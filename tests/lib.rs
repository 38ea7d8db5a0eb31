//! Entities that the end-to-end tests share with the node program that they start.

pub mod namespaces;
pub mod population;
pub mod process;
pub mod raw;
pub mod source;
pub mod store;

use std::{collections::BTreeMap, time::Duration};

use casty::{AskError, prelude::*};

/// A counter.
#[derive(Default)]
pub struct Counter {
    value: i64,
}

#[entity(shards = 16)]
impl Counter {
    /// Adds `amount` without an answer.
    #[message]
    pub fn increment(&mut self, amount: i64) {
        self.value += amount;
    }

    /// Adds `amount` and returns the sum.
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

    /// The node that the counter lives on.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    /// Answers after `millis` milliseconds.
    #[message]
    pub async fn nap(&mut self, millis: u64) -> i64 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.value
    }

    /// Panics in the handler.
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
    /// The present balance.
    pub balance: u64,
}

impl std::fmt::Display for InsufficientFunds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "only {} there", self.balance)
    }
}

impl std::error::Error for InsufficientFunds {}

/// An account with a balance.
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

    /// Takes money out, if the balance is high enough.
    #[message]
    pub fn withdraw(&mut self, amount: u64) -> Result<u64, InsufficientFunds> {
        let balance = self.balance;
        self.balance = balance
            .checked_sub(amount)
            .ok_or(InsufficientFunds { balance })?;
        Ok(self.balance)
    }

    /// Moves money to another account, on whichever node that lives.
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

/// Records what arrives, by sender.
#[derive(Default)]
pub struct Ledger {
    next: BTreeMap<u32, u64>,
    out_of_order: u64,
}

/// What a ledger has recorded.
#[message]
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// Messages, over all senders.
    pub messages: u64,
    /// Messages whose number was not the next of their sender.
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

    /// What has arrived so far.
    #[message]
    pub fn seen(&self) -> Seen {
        let messages = self.next.values().sum::<u64>() + self.out_of_order;
        Seen {
            messages,
            out_of_order: self.out_of_order,
        }
    }
}

/// Sends messages on request.
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

    /// Asks a counter by its reference.
    #[message]
    pub async fn ask(&mut self, counter: CounterRef) -> Result<i64, String> {
        counter
            .value()
            .await
            .map_err(|error: AskError| error.to_string())
    }

    /// A reference to this entity, for other actors.
    #[message]
    pub fn who(&self, ctx: &mut Context<Self>) -> HeraldRef {
        ctx.myself()
    }

    /// Starts a listener on its own node.
    #[message]
    pub fn hire(&mut self, ctx: &mut Context<Self>) -> ListenerRef {
        ctx.spawn(Listener::default())
    }

    /// The node that this entity lives on.
    #[message]
    pub fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    /// Records a text.
    #[message]
    pub fn remember(&mut self, text: String) -> u64 {
        self.heard.push(text);
        self.heard.len() as u64
    }
}

/// A local actor that records what it hears.
#[derive(Default)]
pub struct Listener {
    heard: Vec<String>,
}

#[actor]
impl Listener {
    /// Records a text and returns how many it has heard so far.
    #[message]
    pub fn hear(&mut self, text: String) -> u64 {
        self.heard.push(text);
        self.heard.len() as u64
    }

    /// All texts so far.
    #[message]
    pub fn heard(&self) -> Vec<String> {
        self.heard.clone()
    }
}

/// How many seeds are run of so many. Without optimization one takes ten times as long, and the
/// invariants run many more. With `CASTY_MEASURE` set, all of them are.
pub fn seeds(optimized: u64) -> u64 {
    let measures = std::env::var_os("CASTY_MEASURE").is_some();
    if cfg!(debug_assertions) && !measures {
        optimized.div_ceil(4)
    } else {
        optimized
    }
}

/// Prints the logs if `CASTY_LOG` is set, as in `CASTY_LOG=casty=debug`.
pub fn log() {
    let filter = std::env::var("CASTY_LOG").unwrap_or_else(|_| "off".to_owned());
    // The subscriber of an earlier call stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// The figures of a text of metrics, each under its name with its labels in braces.
pub fn figures(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let figure = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(figure).collect()
}

/// The families of a text of metrics, each with its kind. All of them have to be in the list of
/// `docs/metrics.md`.
pub fn documented(text: &str) -> Vec<(&str, &str)> {
    let listed = format!("{}/../docs/metrics.md", env!("CARGO_MANIFEST_DIR"));
    let listed = std::fs::read_to_string(listed).expect("the list of metrics");
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: Vec<_> = kinds.filter_map(|line| line.split_once(' ')).collect();
    for (name, kind) in &families {
        let ending = if *kind == "counter" { "_total" } else { "" };
        let row = format!("| `{name}{ending}` | {kind} |");
        assert!(listed.contains(&row), "docs/metrics.md lacks {row}");
    }
    families
}
