//! Durable entities beside bare loops: `cargo bench -p casty-sql --bench journal`.
//!
//! **Commands.** Asks keep 1, 64 and 1,024 commands in flight, over 10,000 entities and over one.
//! What reaches the store is recorded, commit by commit. The bare loop then writes the same
//! batches, with the same entities and bytes, as short as the database allows: on SQLite with
//! rusqlite and the same pragmas, on PostgreSQL as `INSERT .. SELECT FROM unnest`, without claims
//! and heads. The two take turns, and the medians are printed, also of the ratio of each turn.
//!
//! **Recovery.** 1,000 entities with 1,000,000 events are read after a restart. The bare scan reads
//! the table of records by one connection, and decodes each: in the order of the logs, and in that
//! of the entities.
//!
//! Arguments after `--` choose what is measured: `sqlite`, `postgres`, `commands`, `recovery`. With
//! `memory` a store in memory shows what a command costs without a disk. `many` and `hot` choose
//! the entities of the commands, and `--in-flight` how many commands. Sizes are `--rounds`,
//! `--milliseconds` of commands a round, `--events` and `--entities` that are recovered, each with
//! a number after it.
//!
//! No figure is printed if other processes used more than a tenth of the machine, unless `--force`
//! is given.

#[path = "../../tests/support/postgres.rs"]
#[allow(dead_code, reason = "made for tests that kill the server")]
mod postgres;

mod bare;
mod commands;
mod others;
mod recorded;
mod recovery;
mod table;

use std::time::Duration;

use casty::persistence::{Journal, Memory};
use casty_sql::{Postgres, Sqlite};

use self::{commands::Loads, others::Took, recorded::Batches, recovery::Sizes};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of an event.
const BYTES: usize = 128;

/// The two stores of one round.
enum Stores {
    Memory(Memory),
    Sqlite(tempfile::TempDir),
    Postgres {
        server: Box<postgres::Server>,
        round: u32,
    },
}

impl Stores {
    async fn of(name: &str) -> Result<Self, AnyError> {
        match name {
            "memory" => return Ok(Self::Memory(Memory::new())),
            "sqlite" => return Ok(Self::Sqlite(tempfile::tempdir()?)),
            _ => {}
        }
        let server = postgres::Server::start().await;
        let server = Box::new(server.ok_or("PostgreSQL is not installed")?);
        Ok(Self::Postgres { server, round: 0 })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Sqlite(_) => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
        }
    }

    /// An empty store for entities.
    async fn journal(&mut self) -> Result<Box<dyn Journal>, AnyError> {
        match self {
            Self::Memory(memory) => *memory = Memory::new(),
            Self::Sqlite(folder) => *folder = tempfile::tempdir()?,
            Self::Postgres { round, .. } => *round += 1,
        }
        self.reopened().await
    }

    /// The same store again.
    async fn reopened(&self) -> Result<Box<dyn Journal>, AnyError> {
        Ok(match self {
            Self::Memory(memory) => Box::new(memory.clone()),
            Self::Sqlite(folder) => Box::new(Sqlite::open(folder.path().join(FILE)).await?),
            Self::Postgres { server, round } => {
                let options = Postgres::options(server.url()).prefix(format!("round{round}_"));
                Box::new(options.connect().await?)
            }
        })
    }

    /// Writes the same batches in a bare loop. How long it took.
    async fn bare(&self, batches: &Batches) -> Result<Took, AnyError> {
        match self {
            Self::Memory(_) => bare::memory(batches).await,
            Self::Sqlite(_) => bare::sqlite(batches),
            Self::Postgres { server, .. } => bare::postgres(&server.url(), batches).await,
        }
    }

    /// Reads what the store has in a bare loop: the number of events, their sum, and how long it
    /// took.
    async fn scan(&self, order: &str) -> Result<((u64, u64), Duration), AnyError> {
        match self {
            Self::Memory(memory) => recovery::scan_memory(memory).await,
            Self::Sqlite(folder) => recovery::scan_sqlite(&folder.path().join(FILE), order),
            Self::Postgres { server, round } => {
                let table = format!("round{round}_record");
                recovery::scan_postgres(&server.url(), &table, order).await
            }
        }
    }

    /// Removes what the round has stored, so that the next one finds an empty store.
    async fn clear(&self) -> Result<(), AnyError> {
        if let Self::Postgres { server, round } = self {
            bare::drop_tables(&server.url(), &format!("round{round}_")).await?;
        }
        Ok(())
    }
}

const FILE: &str = "casty.db";

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let chosen = |word: &str, other: &str| has(word) || !has(other);
    let number = |flag: &str, default: u64| {
        let mut after = arguments.iter().skip_while(|argument| *argument != flag);
        let number = after.nth(1).map(|number| number.parse::<u64>());
        number.unwrap_or(Ok(default))
    };
    let rounds = number("--rounds", 5)?;
    let round = Duration::from_millis(number("--milliseconds", 1_500)?);
    let sizes = Sizes {
        events: number("--events", 1_000_000)?,
        entities: number("--entities", 1_000)?,
        rounds: usize::try_from(rounds)?,
    };
    let in_flight = number("--in-flight", 0)?;
    let loads = Loads {
        rounds: sizes.rounds,
        round,
        many: chosen("many", "hot"),
        hot: chosen("hot", "many"),
        in_flight: (in_flight > 0).then_some(in_flight),
    };
    let chosen_stores = ["memory", "sqlite", "postgres"]
        .into_iter()
        .filter(|store| has(store));
    let mut stores: Vec<_> = chosen_stores.collect();
    if stores.is_empty() {
        stores = vec!["sqlite", "postgres"];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let is_forced = has("--force");
        if chosen("commands", "recovery") {
            println!(
                "Durable commands a second; in brackets the records of a commit. The last column has \
                 the time of processors for each, in microseconds: of the bare loop, and of casty.\n\n\
                 | store | in flight | entities | bare loop | casty | ratio | processors |\n\
                 |---|---|---|---|---|---|---|"
            );
            for name in &stores {
                let stores = Stores::of(name).await?;
                commands::measure(stores, &loads, is_forced).await?;
            }
        }
        if chosen("recovery", "commands") {
            println!(
                "\nEvents that are read a second.\n\n\
                 | store | events | entities | bare scan | bare, by entity | casty | ratio | by entity |\n\
                 |---|---|---|---|---|---|---|---|"
            );
            for name in &stores {
                recovery::measure(Stores::of(name).await?, sizes, is_forced).await?;
            }
        }
        Ok(())
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
