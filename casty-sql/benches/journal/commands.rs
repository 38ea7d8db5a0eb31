//! Commands that are durable when they are answered, beside a bare loop.

use std::{sync::Arc, time::Duration};

use casty::prelude::*;
use tokio::time::Instant;

use super::{
    AnyError, BYTES, Stores, median,
    others::{Clock, Others, Took, float},
    recorded::{Recorded, Recording, recorded},
    table,
};

const ENTITIES: u64 = 10_000;

/// Commands in flight before the measurement.
const WARMING: u64 = 256;

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

/// What is measured of a store.
pub(crate) struct Loads {
    pub(crate) rounds: usize,
    /// How long commands are given in one round.
    pub(crate) round: Duration,
    /// Over many entities, and over one.
    pub(crate) many: bool,
    pub(crate) hot: bool,
    /// So many commands in flight, if not each number of them.
    pub(crate) in_flight: Option<u64>,
}

impl Loads {
    /// How many commands are in flight, over how many entities.
    fn each(&self) -> impl Iterator<Item = (u64, u64)> {
        let entities = [(self.many, ENTITIES), (self.hot, 1)].into_iter();
        entities
            .filter(|(chosen, _)| *chosen)
            .flat_map(|(_, entities)| {
                let in_flight = [1, 64, 1_024].into_iter();
                let in_flight =
                    in_flight.filter(|number| self.in_flight.is_none_or(|only| only == *number));
                in_flight.map(move |in_flight| (in_flight, entities))
            })
    }
}

pub(crate) async fn measure(
    mut stores: Stores,
    loads: &Loads,
    is_forced: bool,
) -> Result<(), AnyError> {
    let Loads { rounds, round, .. } = *loads;
    for (in_flight, entities) in loads.each() {
        let (mut bare, mut casty, mut size) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ratio, mut processors) = (Vec::new(), (Vec::new(), Vec::new()));
        let others = Others::now()?;
        for _ in 0..rounds {
            let (journal, recording) = recorded(stores.journal().await?);
            let load = (in_flight, entities, round);
            let (count, took) = commands(journal, &recording, load).await?;
            let durable = took.rate(count);
            casty.push(durable);
            processors.1.push(took.of_processors(count));
            let batches = recording.take();
            size.push(float(batches.records()) / float(batches.measured().len() as u64));
            let took = stores.bare(&batches).await?;
            let written = took.rate(batches.records());
            processors.0.push(took.of_processors(batches.records()));
            bare.push(written);
            ratio.push(durable / written);
            stores.clear().await?;
        }
        let key = [
            stores.name().to_owned(),
            in_flight.to_string(),
            entities.to_string(),
        ];
        let figures = [
            format!("{:.0}", median(bare)),
            format!("{:.0} ({:.1})", median(casty), median(size)),
            format!("{:.2}", median(ratio)),
            format!("{:.1}, {:.1}", median(processors.0), median(processors.1)),
        ];
        table::row(&key, &figures, others.used()?, is_forced);
    }
    Ok(())
}

/// Gives commands for a while, so many at once. How many were durable, and how long it took.
async fn commands(
    journal: Recorded,
    recording: &Recording,
    (in_flight, entities, round): (u64, u64, Duration),
) -> Result<(u64, Took), AnyError> {
    let system = ActorSystem::builder("meters")
        .journal(journal)
        .start_local()?;
    let meter = |number: u64| system.entity::<Meter>(format!("meter {number}").as_str());
    let meters: Arc<Vec<MeterRef>> = Arc::new((0..entities).map(meter).collect());
    // Neither activations nor claims are measured.
    give(&meters, WARMING.min(entities), move |client, count| {
        let number = client + count * WARMING;
        (number < entities).then_some(number)
    })
    .await?;
    recording.begin();
    let (start, clock) = (Instant::now(), Clock::start()?);
    let count = give(&meters, in_flight, move |client, count| {
        // Spread over all of them, each client its own way.
        (start.elapsed() < round).then_some((client + count * (2 * client + 1)) % entities)
    })
    .await?;
    let took = clock.stop()?;
    system.shutdown().await?;
    Ok((count, took))
}

/// So many clients at once, each of which gives one command after the other: the next one to the
/// entity that it is told, until it is told none. How many commands they gave.
async fn give(
    meters: &Arc<Vec<MeterRef>>,
    clients: u64,
    next: impl Fn(u64, u64) -> Option<u64> + Clone + Send + 'static,
) -> Result<u64, AnyError> {
    let clients = (0..clients).map(|client| {
        let (meters, next) = (meters.clone(), next.clone());
        let client = async move {
            let mut count = 0;
            while let Some(number) = next(client, count) {
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
    Ok(count)
}
