//! Entities that are read after a restart, beside a bare scan.

use std::{collections::HashMap, time::Duration};

use casty::{
    persistence::{Journal, Log, Memory, Page},
    prelude::*,
};
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_bytes::ByteBuf;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::time::Instant;

use super::{
    AnyError, BYTES, Stores, median,
    others::{Others, float},
    recorded::unrecorded,
    table,
};

/// Commands in flight while the store is filled.
const FILLING: u64 = 1_024;

/// What is read.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) events: u64,
    pub(crate) entities: u64,
    pub(crate) rounds: usize,
}

#[message]
#[derive(Default)]
struct Ledger {
    entries: u64,
    total: u64,
}

// Without snapshots.
#[entity(event_sourced, shards = 64, snapshot_every = 4_000_000_000)]
impl Ledger {
    #[event]
    fn entered(&mut self, value: u64, note: String) {
        self.entries += 1;
        self.total += value + note.len() as u64;
    }

    #[message]
    fn enter(&self, value: u64) -> Effect<Self> {
        let note = "x".repeat(BYTES);
        Effect::persist(LedgerEvent::Entered { value, note })
    }

    #[message]
    fn read(&self) -> (u64, u64) {
        (self.entries, self.total)
    }
}

/// The body of a record, as MessagePack.
#[derive(Deserialize)]
struct Body {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    name: String,
    version: u32,
    bytes: ByteBuf,
}

/// The arguments of the event.
#[derive(Deserialize)]
struct Entered {
    value: u64,
    note: String,
}

/// The states of all entities.
#[derive(Default)]
struct Ledgers(HashMap<String, Ledger>);

impl Ledgers {
    /// Decodes a record, and applies what it says.
    fn read(&mut self, entity: &str, body: &[u8]) -> Result<(), AnyError> {
        let body: Body = rmp_serde::from_slice(body)?;
        for Event {
            name,
            version,
            bytes,
        } in body.events
        {
            if (&*name, version) != ("entered", 1) {
                return Err(format!("event `{name}` of version {version}").into());
            }
            let Entered { value, note } = rmp_serde::from_slice(&bytes)?;
            let ledger = match self.0.get_mut(entity) {
                Some(ledger) => ledger,
                None => self.0.entry(entity.to_owned()).or_default(),
            };
            ledger.entries += 1;
            ledger.total += value + note.len() as u64;
        }
        Ok(())
    }

    fn sum(&self) -> (u64, u64) {
        let ledgers = self.0.values();
        ledgers.fold((0, 0), |(entries, total), ledger| {
            (entries + ledger.entries, total + ledger.total)
        })
    }
}

pub(crate) async fn measure(
    mut stores: Stores,
    sizes: Sizes,
    is_forced: bool,
) -> Result<(), AnyError> {
    let Sizes {
        events,
        entities,
        rounds,
    } = sizes;
    let filled = fill(stores.journal().await?, sizes).await?;
    let (mut scans, mut orders, mut casty) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ratio, mut ratio_of_order) = (Vec::new(), Vec::new());
    let others = Others::now()?;
    for _ in 0..rounds {
        let (read, took) = recover(stores.reopened().await?, sizes).await?;
        let (scanned, scan) = stores.scan("kind, shard, position").await?;
        let (ordered, order) = stores.scan("kind, shard, entity, seq").await?;
        if [read, scanned, ordered] != [filled; 3] {
            return Err(format!("{filled:?}: {read:?}, {scanned:?}, {ordered:?}").into());
        }
        let rate = |took: Duration| float(events) / took.as_secs_f64();
        scans.push(rate(scan));
        orders.push(rate(order));
        casty.push(rate(took));
        ratio.push(rate(took) / rate(scan));
        ratio_of_order.push(rate(took) / rate(order));
    }
    let figures = [
        format!("{:.0}", median(scans)),
        format!("{:.0}", median(orders)),
        format!("{:.0}", median(casty)),
        format!("{:.2}", median(ratio)),
        format!("{:.2}", median(ratio_of_order)),
    ];
    let key = [
        stores.name().to_owned(),
        events.to_string(),
        entities.to_string(),
    ];
    table::row(&key, &figures, others.used()?, is_forced);
    stores.clear().await
}

/// Has the entities store their events. What they have then.
async fn fill(journal: Box<dyn Journal>, sizes: Sizes) -> Result<(u64, u64), AnyError> {
    let system = ActorSystem::builder("ledgers")
        .journal(unrecorded(journal))
        .start_local()?;
    let system = &system;
    let clients = (0..FILLING).map(|client| async move {
        for number in (client..sizes.events).step_by(1_024) {
            let ledger = system.entity::<Ledger>(name(number % sizes.entities).as_str());
            ledger.enter(number).await?;
        }
        Ok::<(), AnyError>(())
    });
    futures_util::future::try_join_all(clients).await?;
    system.shutdown().await?;
    let values = (0..sizes.events).sum::<u64>();
    Ok((sizes.events, values + sizes.events * BYTES as u64))
}

fn name(number: u64) -> String {
    format!("ledger {number}")
}

/// Reads all entities, which are asked at once: from the start of a node that has none of them to
/// the last answer.
async fn recover(
    journal: Box<dyn Journal>,
    sizes: Sizes,
) -> Result<((u64, u64), Duration), AnyError> {
    let system = ActorSystem::builder("ledgers")
        .journal(unrecorded(journal))
        .start_local()?;
    let start = Instant::now();
    let asks = (0..sizes.entities).map(|number| {
        let ledger = system.entity::<Ledger>(name(number).as_str());
        async move { ledger.read().await }
    });
    let answers =
        futures_util::stream::iter(asks).buffer_unordered(usize::try_from(sizes.entities)?);
    let sum = answers.try_fold((0, 0), |(entries, total), (more, value)| async move {
        Ok((entries + more, total + value))
    });
    let sum = sum.await?;
    let took = start.elapsed();
    system.shutdown().await?;
    Ok((sum, took))
}

/// Reads all logs, and decodes each record.
pub(crate) async fn scan_memory(memory: &Memory) -> Result<((u64, u64), Duration), AnyError> {
    let start = Instant::now();
    let mut ledgers = Ledgers::default();
    for shard in 0..64 {
        let log = Log {
            kind: Ledger::NAME.into(),
            shard,
        };
        let mut after = 0;
        loop {
            let page = memory.read_log(&log, after, Page::default()).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            for record in page {
                ledgers.read(record.entity.as_str(), &record.body)?;
            }
        }
    }
    Ok((ledgers.sum(), start.elapsed()))
}

/// Reads the table of records in this order, by one connection, and decodes each.
pub(crate) fn scan_sqlite(
    path: &std::path::Path,
    order: &str,
) -> Result<((u64, u64), Duration), AnyError> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch("PRAGMA temp_store = memory; PRAGMA cache_size = -65536")?;
    let by = if order.contains("seq") {
        "INDEXED BY casty_record_entity"
    } else {
        ""
    };
    let start = Instant::now();
    let text = format!("SELECT entity, body FROM casty_record {by} ORDER BY {order}");
    let mut statement = connection.prepare(&text)?;
    let (mut rows, mut ledgers) = (statement.query([])?, Ledgers::default());
    while let Some(row) = rows.next()? {
        ledgers.read(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_blob()?)?;
    }
    Ok((ledgers.sum(), start.elapsed()))
}

/// The same on PostgreSQL.
pub(crate) async fn scan_postgres(
    url: &str,
    table: &str,
    order: &str,
) -> Result<((u64, u64), Duration), AnyError> {
    let mut connection = PgConnection::connect(url).await?;
    let start = Instant::now();
    let text = format!("SELECT entity, body FROM {table} ORDER BY {order}");
    let mut rows = sqlx::query(AssertSqlSafe(text)).fetch(&mut connection);
    let mut ledgers = Ledgers::default();
    while let Some(row) = rows.try_next().await? {
        ledgers.read(row.try_get(0)?, row.try_get(1)?)?;
    }
    Ok((ledgers.sum(), start.elapsed()))
}
