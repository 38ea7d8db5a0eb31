//! What is asked, and the clients that ask.

use std::{sync::Arc, time::Duration};

use casty::prelude::*;

use crate::support::{AnyError, now};

/// The bytes of an event, besides its number and the names of its fields.
const BYTES: usize = 128;

/// A stored entity.
#[message]
#[derive(Default)]
pub(crate) struct Meter {
    total: u64,
}

#[entity(event_sourced, shards = 64)]
impl Meter {
    #[event]
    fn read_off(&mut self, value: u64, note: String) {
        self.total += value + note.len() as u64;
    }

    /// Stores one event.
    #[message]
    pub(crate) fn take(&self, value: u64) -> Effect<Self> {
        let note = "x".repeat(BYTES);
        Effect::persist(MeterEvent::ReadOff { value, note })
    }

    /// The name of its node.
    #[message]
    pub(crate) fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// An entity that is not stored.
#[derive(Default)]
pub(crate) struct Plain;

#[entity(shards = 64)]
impl Plain {
    /// The name of its node.
    #[message]
    pub(crate) fn node(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }
}

/// References to so many entities.
pub(crate) fn meters(system: &ActorSystem, count: u64) -> Vec<MeterRef> {
    let meter = |number| system.entity::<Meter>(format!("meter {number}").as_str());
    (0..count).map(meter).collect()
}

/// What clients, each a task of its own, have got.
pub(crate) async fn all_of<T: Send + 'static>(
    clients: impl Iterator<Item = impl Future<Output = Result<Vec<T>, AnyError>> + Send + 'static>,
) -> Result<Vec<T>, AnyError> {
    #[expect(clippy::disallowed_methods, reason = "a client is no part of a node")]
    let clients: Vec<_> = clients.map(|client| tokio::spawn(client)).collect();
    let mut all = Vec::new();
    for client in clients {
        all.append(&mut client.await??);
    }
    Ok(all)
}

/// So many clients at once, each of which gives one command after the other: the next one to the
/// entity that it is told, until it is told none. Returns how long each command took.
pub(crate) async fn give(
    meters: &Arc<Vec<MeterRef>>,
    clients: u64,
    next: impl Fn(u64, u64) -> Option<u64> + Clone + Send + 'static,
) -> Result<Vec<Duration>, AnyError> {
    let clients = (0..clients).map(|client| {
        let (meters, next) = (meters.clone(), next.clone());
        async move {
            let mut took = Vec::new();
            while let Some(number) = next(client, took.len() as u64) {
                let Some(meter) = meters.get(usize::try_from(number)?) else {
                    break;
                };
                let since = now();
                meter.take(number).await?;
                took.push(since.elapsed());
            }
            Ok(took)
        }
    });
    all_of(clients).await
}

/// One command for each of them, or so many.
pub(crate) async fn give_each(
    meters: &Arc<Vec<MeterRef>>,
    times: u64,
) -> Result<Vec<Duration>, AnyError> {
    const CLIENTS: u64 = 256;
    let count = meters.len() as u64;
    give(meters, CLIENTS.min(count), move |client, given| {
        let number = client + given * CLIENTS.min(count);
        (number < count * times).then_some(number % count)
    })
    .await
}

/// Those that live on this node.
pub(crate) async fn at(meters: &Arc<Vec<MeterRef>>, node: &str) -> Result<Vec<MeterRef>, AnyError> {
    const CLIENTS: usize = 64;
    let asking = (0..CLIENTS).map(|first| {
        let (meters, node) = (meters.clone(), node.to_owned());
        async move {
            let mut there = Vec::new();
            for meter in meters.iter().skip(first).step_by(CLIENTS) {
                if meter.node().await? == node {
                    there.push(meter.clone());
                }
            }
            Ok(there)
        }
    });
    all_of(asking).await
}
