//! The entities of the tests, and stores that fail.

use std::{num::NonZeroU32, sync::Arc};

use casty::{
    id::{EntityId, Epoch},
    persistence::{
        Append, Appended, Journal, Log, Memory, Record,
        faults::{Faults, Faulty, FaultyStore},
    },
    prelude::*,
    testkit,
};

pub(crate) const SHARDS: u32 = 16;

/// An account, made of events.
#[message]
#[derive(Default)]
pub(crate) struct Account {
    cents: u64,
}

#[entity(
    name = "stored/account",
    shards = 16,
    event_sourced,
    snapshot_every = 4
)]
impl Account {
    /// Adds, and returns the balance.
    #[message]
    pub(crate) fn deposit(&self, cents: u64) -> Effect<Self, u64> {
        Effect::persist_all([
            AccountEvent::Deposited { cents },
            AccountEvent::Noted {
                note: format!("+{cents}"),
            },
        ])
        .reply(|account| account.cents)
    }

    /// The balance.
    #[message]
    pub(crate) fn balance(&self) -> u64 {
        self.cents
    }

    /// The name of its node.
    #[message]
    pub(crate) fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[event(version = 2)]
    fn deposited(&mut self, cents: u64) {
        self.cents += cents;
    }

    #[upcast(from = 1)]
    fn deposited_v1(euros: u64) -> AccountEvent {
        AccountEvent::Deposited { cents: euros * 100 }
    }

    #[event]
    fn noted(&self, _note: String) {}
}

/// A note, stored as it is.
#[message]
#[derive(Default)]
pub(crate) struct Note {
    lines: Vec<String>,
}

#[entity(shards = 4, durable)]
impl Note {
    /// Adds a line, and returns how many there are.
    #[message]
    pub(crate) fn add(&mut self, line: String) -> usize {
        self.lines.push(line);
        self.lines.len()
    }

    /// How many lines there are.
    #[message]
    pub(crate) fn lines(&self) -> usize {
        self.lines.len()
    }
}

/// It lives in memory alone.
#[derive(Default)]
pub(crate) struct Ghost {
    seen: u64,
}

#[entity(shards = 16)]
impl Ghost {
    /// How often.
    #[message]
    pub(crate) fn see(&mut self) -> u64 {
        self.seen += 1;
        self.seen
    }

    /// The name of its node.
    #[message]
    pub(crate) fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// No node has its role.
#[derive(Default)]
pub(crate) struct Homeless {
    times: u64,
}

#[entity(role = "nobody")]
impl Homeless {
    /// Counts.
    #[message]
    pub(crate) fn count(&mut self) -> u64 {
        self.times += 1;
        self.times
    }
}

/// Nodes of one cluster, over one store.
pub(crate) async fn bank(cluster: &str, n: usize, store: &Memory) -> Vec<ActorSystem> {
    casty_tests::log();
    let store = store.clone();
    testkit::cluster_of(n, |i| {
        let builder = ActorSystem::builder(cluster).node_id(format!("node-{i}"));
        builder.journal(store.clone())
    })
    .await
}

/// A system without a network.
pub(crate) fn alone(store: impl Journal) -> ActorSystem {
    casty_tests::log();
    let builder = ActorSystem::builder("alone").journal(store);
    builder.start_local().unwrap()
}

/// The log of the shard of an account, and its id.
fn log_of(id: &str) -> (Log, EntityId) {
    let id = EntityId::new(id);
    let shard = id.shard(NonZeroU32::new(SHARDS).unwrap());
    let log = Log {
        kind: "stored/account".into(),
        shard: shard.0,
    };
    (log, id)
}

/// Appends a record to an account that no system uses.
pub(crate) async fn append(store: &Memory, id: &str, epoch: u64, seq: u64, body: Vec<u8>) {
    let (log, entity) = log_of(id);
    let epoch = Epoch(epoch);
    let head = store.claim(&log, epoch, "a test").await.unwrap();
    let record = Record {
        position: head + 1,
        epoch,
        entity,
        seq,
        at: 1_700_000_000_000,
        body: body.into(),
    };
    let part = Append {
        log,
        epoch,
        records: vec![record],
    };
    assert_eq!(store.append(vec![part]).await, Ok(vec![Appended::Written]));
}

#[derive(serde::Serialize)]
struct Body {
    events: Vec<StoredEvent>,
}

#[derive(serde::Serialize)]
struct StoredEvent {
    name: &'static str,
    version: u32,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

/// The arguments of the first version of `deposited`.
#[derive(serde::Serialize)]
pub(crate) struct Euros {
    pub(crate) euros: u64,
}

/// A record with one event, whose arguments are encoded here or given as bytes.
pub(crate) fn event_body(name: &'static str, version: u32, arguments: impl Arguments) -> Vec<u8> {
    let event = StoredEvent {
        name,
        version,
        bytes: arguments.bytes(),
    };
    named(&Body {
        events: vec![event],
    })
}

fn named<T: serde::Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

pub(crate) trait Arguments {
    fn bytes(&self) -> Vec<u8>;
}

impl Arguments for Euros {
    fn bytes(&self) -> Vec<u8> {
        named(self)
    }
}

impl Arguments for Vec<u8> {
    fn bytes(&self) -> Vec<u8> {
        self.clone()
    }
}

/// A store in memory, and a connection to it that a test can cut.
pub(crate) fn connected() -> (Memory, Faulty) {
    let memory = Memory::new();
    let store = FaultyStore::new(Arc::new(memory.clone()));
    (memory, store.connection(0))
}

/// A store that cannot be reached.
pub(crate) fn away() -> Faults {
    Faults {
        is_away: true,
        ..Faults::default()
    }
}
