//! Watching the map from outside of the engine: one of those who decide sends it, and every change.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cluster::{
        node::Node,
        wire::{Request, Response},
    },
    infra::sync::lock,
    message::codec,
    protocol::map::ClusterMap,
    transport::{handshake::Lane, link::Link},
};

/// A source that is not connected, or behind, for so long is exchanged for another.
const PATIENCE: Duration = Duration::from_millis(400);

/// Where this node watches the map.
#[derive(Default)]
pub(crate) struct MapSource {
    source: Mutex<Option<Source>>,
    /// Which of the voters comes next.
    turn: AtomicU64,
    /// Somebody knows a map of this version.
    needed: AtomicU64,
}

struct Source {
    link: Arc<Link>,
    /// Since when it has been of no use.
    useless: Option<Instant>,
}

impl MapSource {
    /// Somebody knows a map of this version.
    pub(crate) fn handle_version(&self, version: u64) {
        self.needed.fetch_max(version, Ordering::Relaxed);
    }

    /// A new life of this node begins.
    pub(crate) fn reset(&self) {
        *lock(&self.source) = None;
        self.needed.store(0, Ordering::Relaxed);
    }

    fn is_source(&self, link: &Arc<Link>) -> bool {
        let source = lock(&self.source);
        source
            .as_ref()
            .is_some_and(|source| Arc::ptr_eq(&source.link, link))
    }
}

impl Node {
    /// Keeps a source of the map.
    pub(crate) fn look_after_source(&self, now: Instant) {
        let version = self.map().map_or(0, |map| map.version);
        let follower = self.follower();
        let behind = follower.needed.load(Ordering::Relaxed) > version;
        let voters = self.voters();
        let me = self.member();
        if self.engine().is_some() && !behind && voters.iter().any(|v| v.member == me) {
            // The engine here applies what is decided.
            *lock(&follower.source) = None;
            return;
        }
        let mut source = lock(&follower.source);
        if let Some(present) = &mut *source {
            let decides = voters.iter().any(|voter| voter.peer() == present.link.peer);
            if decides && present.link.is_connected() && !behind {
                present.useless = None;
                return;
            }
            let since = *present.useless.get_or_insert(now);
            if decides && now.saturating_duration_since(since) < PATIENCE {
                if !present.link.is_connected() {
                    Self::watch_from(&present.link, version);
                }
                return;
            }
        }
        let others: Vec<_> = voters.iter().filter(|voter| voter.member != me).collect();
        if others.is_empty() {
            *source = None;
            return;
        }
        // Who watches begins somewhere else than the others do, and goes round.
        let turn = match follower.turn.fetch_add(1, Ordering::Relaxed) {
            0 => {
                let first = self.random();
                follower.turn.store(first >> 1, Ordering::Relaxed);
                first >> 1
            }
            turn => turn,
        };
        let at = usize::try_from(turn % others.len() as u64).unwrap_or(0);
        let link = self.link(others[at].peer(), Lane::Control);
        Self::watch_from(&link, version);
        *source = Some(Source {
            link,
            useless: None,
        });
    }

    /// A connection stands, and carries no watch yet.
    pub(crate) fn source_connected(&self, link: &Arc<Link>) {
        if self.follower().is_source(link) {
            let version = self.map().map_or(0, |map| map.version);
            Self::watch_from(link, version);
        }
    }

    /// Tells the one who decides alone that there is a second copy of what it decided. Of versions
    /// that came at once the last is enough.
    pub(crate) fn confirm(&self, map: &ClusterMap) {
        if map.voters.len() != 1 || self.address().is_none() {
            return;
        }
        let source = lock(&self.follower().source);
        let Some(Source { link, .. }) = &*source else {
            return;
        };
        let version = map.version;
        match codec::to_vec(&Request::Has { version }) {
            // Who watches anew says what it has.
            Ok(bytes) => drop(link.send_control(&bytes)),
            Err(error) => tracing::error!(%error, "a request cannot be encoded"),
        }
    }

    fn watch_from(link: &Link, version: u64) {
        match codec::to_vec(&Request::Watch { version }) {
            // A link that is down refuses; it is asked again.
            Ok(bytes) => drop(link.send_control(&bytes)),
            Err(error) => tracing::error!(%error, "a request cannot be encoded"),
        }
    }

    /// News of the map.
    pub(crate) fn handle_news(&self, link: &Arc<Link>, news: Response) {
        match news {
            Response::Answer { id, answer } => self.calls().answered(id, answer),
            Response::Map(map) => drop(self.watch().offer(map)),
            Response::Changes(changes) => {
                let fits = self.watch().update(|map| {
                    for (version, command) in changes {
                        if version <= map.version {
                            continue;
                        }
                        if map.apply(&command).is_err() || map.version != version {
                            tracing::warn!(version, ?command, "a change does not fit");
                            return false;
                        }
                    }
                    true
                });
                if !fits {
                    // A gap, which should not be, or there is no map yet: start from the whole.
                    Self::watch_from(link, 0);
                }
            }
        }
    }
}
