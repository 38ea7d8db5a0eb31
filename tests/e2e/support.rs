//! Helpers that the tests share.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

pub(crate) use casty::testkit::{STEP_LIMIT, eventually, shutdown, soon};
use casty::{ActorSystem, Event, SystemBuilder, call::Call, event::Events, testkit};
use tracing_subscriber::util::SubscriberInitExt;

pub(crate) fn node(name: &str) -> SystemBuilder {
    casty_tests::log();
    ActorSystem::builder("test").node_id(name)
}

/// See [`testkit::cluster`]. As in production, what stays on a node does not go through the codec.
pub(crate) async fn cluster(n: usize) -> Vec<ActorSystem> {
    casty_tests::log();
    testkit::cluster_of(n, |i| node(&format!("node-{i}")).strict_wire(false)).await
}

/// An entity that lives on the node `home`. `node` asks for the home of an entity.
pub(crate) async fn entity_on<E: casty::shards::Hosted<Key = casty::id::EntityId>>(
    system: &ActorSystem,
    home: &str,
    node: impl Fn(&E::Ref) -> Call<E, String>,
) -> E::Ref {
    for n in 0.. {
        let entity = system.entity::<E>(format!("{home}-{n}"));
        if soon("where it lives", node(&entity)).await.unwrap() == home {
            return entity;
        }
    }
    unreachable!("one of them lives there")
}

/// The first event from now on for which `look` returns a value.
pub(crate) async fn event<T>(
    events: &mut Events,
    what: &str,
    mut look: impl FnMut(&Event) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the system still runs");
            if let Some(found) = look(&event) {
                return found;
            }
        }
    })
    .await
}

/// What casty logs on the thread of a test, from [`Logs::of_this_thread`] on.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<Mutex<Vec<u8>>>);

impl Logs {
    /// Until the guard is dropped.
    pub(crate) fn of_this_thread() -> (Self, impl Drop) {
        let logs = Self::default();
        let writer = logs.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("casty=info")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (logs, subscriber.set_default())
    }

    /// The lines with this text.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        let logged = self.0.lock().unwrap();
        let logged = String::from_utf8_lossy(&logged);
        let lines = logged.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
