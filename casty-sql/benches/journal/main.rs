//! Durable commands of entities beside a bare loop: `cargo bench -p casty-sql --bench journal`.
//!
//! Asks keep 1, 64 and 1,024 commands in flight, over 10,000 entities and over one. What reached
//! the store is recorded: which logs and how many records each commit had. The bare loop then
//! writes the same batches to an empty store, as short as the database allows: on SQLite with
//! rusqlite and the same pragmas, on PostgreSQL as `INSERT .. SELECT FROM unnest`, without claims
//! and heads. The two take turns, and the medians are printed, also of the ratio of each turn.
//! `-- sqlite` or `-- postgres` measures one store.
//!
//! No figure is printed if other processes used more than a tenth of the machine, unless `--force`
//! is given.

#[path = "../../tests/support/postgres.rs"]
#[allow(dead_code, reason = "made for tests that kill the server")]
mod postgres;

mod bare;
mod others;
mod recorded;

use std::time::Duration;

use casty::{persistence::Journal, prelude::*};
use casty_sql::{Postgres, Sqlite};
use tokio::time::Instant;

use self::{
    others::Others,
    recorded::{Batches, Recorded, Recording, recorded},
};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
const ENTITIES: u64 = 10_000;
/// How long commands are given in one round.
const ROUND: Duration = Duration::from_millis(1_500);
/// The bytes of an event.
const BYTES: usize = 128;
/// Of all processors, in percent.
const OTHERS_MAX: f64 = 10.0;

#[message]
#[derive(Default)]
struct Meter {
    total: u64,
}

#[entity(event_sourced, shards = 64)]
impl Meter {
    #[event]
    fn read_off(&mut self, value: u64, note: String) {
        self.total += value + note.len() as u64;
    }

    #[message]
    fn take(&self, value: u64) -> Effect<Self> {
        let note = "x".repeat(BYTES);
        Effect::persist(MeterEvent::ReadOff { value, note })
    }
}

/// The two stores of one round.
enum Stores {
    Sqlite(tempfile::TempDir),
    Postgres {
        server: Box<postgres::Server>,
        round: u32,
    },
}

impl Stores {
    fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
        }
    }

    /// An empty store for entities.
    async fn journal(&mut self) -> Result<Box<dyn Journal>, AnyError> {
        Ok(match self {
            Self::Sqlite(folder) => {
                *folder = tempfile::tempdir()?;
                Box::new(Sqlite::open(folder.path().join("casty.db")).await?)
            }
            Self::Postgres { server, round } => {
                *round += 1;
                let options = Postgres::options(server.url()).prefix(format!("round{round}_"));
                Box::new(options.connect().await?)
            }
        })
    }

    /// Writes the same batches in a bare loop. How long it took.
    async fn bare(&self, batches: &Batches) -> Result<Duration, AnyError> {
        match self {
            Self::Sqlite(_) => bare::sqlite(batches),
            Self::Postgres { server, .. } => bare::postgres(&server.url(), batches).await,
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

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wants = |word: &str| arguments.iter().any(|argument| argument == word);
    let all = !wants("sqlite") && !wants("postgres");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        println!(
            "Durable commands a second; in brackets the records of a commit.\n\n\
             | store | in flight | entities | bare loop | casty | ratio |\n|---|---|---|---|---|---|"
        );
        if all || wants("sqlite") {
            let stores = Stores::Sqlite(tempfile::tempdir()?);
            measure(stores, wants("--force")).await?;
        }
        if all || wants("postgres") {
            let server = postgres::Server::start().await;
            let server = Box::new(server.ok_or("PostgreSQL is not installed")?);
            measure(Stores::Postgres { server, round: 0 }, wants("--force")).await?;
        }
        Ok(())
    })
}

async fn measure(mut stores: Stores, is_forced: bool) -> Result<(), AnyError> {
    for (in_flight, entities) in [
        (1, ENTITIES),
        (64, ENTITIES),
        (1_024, ENTITIES),
        (1, 1),
        (64, 1),
        (1_024, 1),
    ] {
        let (mut bare, mut casty, mut size) = (Vec::new(), Vec::new(), Vec::new());
        let mut ratio = Vec::new();
        let others = Others::now()?;
        for _ in 0..ROUNDS {
            let (journal, recording) = recorded(stores.journal().await?);
            let (count, took) = commands(journal, &recording, in_flight, entities).await?;
            let durable = float(count) / took.as_secs_f64();
            casty.push(durable);
            let batches = recording.take();
            size.push(float(batches.records()) / float(batches.commits()));
            let took = stores.bare(&batches).await?;
            let written = float(batches.records()) / took.as_secs_f64();
            bare.push(written);
            ratio.push(durable / written);
            stores.clear().await?;
        }
        let used = others.used()?;
        let remark = match used {
            used if used <= OTHERS_MAX => String::new(),
            used if is_forced => format!(
                " other processes used {used:.0} % of the machine: only the ratio says something"
            ),
            used => {
                println!(
                    "| {} | {in_flight} | {entities} | no figure: other processes used {used:.0} % of the machine; `--force` prints it |",
                    stores.name()
                );
                continue;
            }
        };
        let (bare, casty, size) = (median(bare), median(casty), median(size));
        let ratio = median(ratio);
        println!(
            "| {} | {in_flight} | {entities} | {bare:.0} | {casty:.0} ({size:.1}) | {ratio:.2} |{remark}",
            stores.name()
        );
    }
    Ok(())
}

/// Gives commands for a while, so many at once. How many were durable, and how long it took.
async fn commands(
    journal: Recorded,
    recording: &Recording,
    in_flight: u64,
    entities: u64,
) -> Result<(u64, Duration), AnyError> {
    let system = ActorSystem::builder("meters")
        .journal(journal)
        .start_local()?;
    let meter = |number: u64| system.entity::<Meter>(format!("meter {number}").as_str());
    // Activations are not measured; a commit of each shard is.
    let warm = entities.min(1_000 + in_flight);
    for first in (0..warm).step_by(64) {
        let asked = (first..(first + 64).min(warm)).map(|number| async move {
            let meter: MeterRef = meter(number);
            meter.take(1).await
        });
        futures_util::future::try_join_all(asked).await?;
    }
    let meters: Vec<MeterRef> = (0..warm).map(meter).collect();
    let meters = std::sync::Arc::new(meters);
    let start = Instant::now();
    recording.begin();
    let clients = (0..in_flight).map(|client| {
        let meters = meters.clone();
        let client = async move {
            let mut count = 0;
            while start.elapsed() < ROUND {
                // Spread over all of them, each client its own way.
                let number = (client + count * (2 * client + 1)) % meters.len() as u64;
                let Some(meter) = meters.get(usize::try_from(number)?) else {
                    break;
                };
                meter.take(count).await?;
                count += 1;
            }
            Ok::<u64, AnyError>(count)
        };
        #[expect(clippy::disallowed_methods, reason = "a client is no part of a node")]
        tokio::spawn(client)
    });
    let clients: Vec<_> = clients.collect();
    let mut count = 0;
    for client in clients {
        count += client.await??;
    }
    let took = start.elapsed();
    recording.end();
    system.shutdown().await?;
    Ok((count, took))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
