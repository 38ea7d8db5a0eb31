//! Watching the map from outside of the engine: one of those who decide sends it, and every change.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::{
    cluster::{
        authority::Voter,
        node::Node,
        wire::{Request, Response},
    },
    infra::sync::lock,
    message::codec,
    protocol::{
        map::ClusterMap,
        map_source::{SourceChoice, SourceEffect, SourceView},
    },
    transport::{handshake::Lane, link::Link},
};

/// Where this node watches the map.
#[derive(Default)]
pub(crate) struct MapSource(Mutex<Source>);

#[derive(Default)]
struct Source {
    choice: SourceChoice<Voter>,
    /// To the voter that is watched.
    link: Option<Arc<Link>>,
}

impl MapSource {
    /// A map of this version exists.
    pub(crate) fn handle_version(&self, version: u64) {
        lock(&self.0).choice.handle_version(version);
    }

    /// The next incarnation of this node begins.
    pub(crate) fn reset(&self) {
        let mut source = lock(&self.0);
        source.choice.reset();
        source.link = None;
    }

    fn is_source(&self, link: &Arc<Link>) -> bool {
        let source = lock(&self.0);
        source
            .link
            .as_ref()
            .is_some_and(|watched| Arc::ptr_eq(watched, link))
    }
}

impl Node {
    /// Keeps a source of the map.
    pub(crate) fn look_after_source(&self, now: Instant) {
        let version = self.map().map_or(0, |map| map.version);
        let me = self.member();
        let (mine, others): (Vec<_>, Vec<_>) = self
            .voters()
            .into_iter()
            .partition(|voter| voter.member == me);
        let random = self.random();
        let mut source = lock(&self.follower().0);
        let view = SourceView {
            version,
            // The engine here applies what is decided.
            votes: self.engine().is_some() && !mine.is_empty(),
            voters: &others,
            is_connected: source.link.as_ref().is_some_and(|link| link.is_connected()),
            random,
        };
        match source.choice.handle_tick(&view, now) {
            None => {}
            Some(SourceEffect::Stop) => source.link = None,
            Some(SourceEffect::Watch(voter)) => {
                source.link = Some(self.link(voter.peer(), Lane::Control));
                Self::watch_source(&source, version);
            }
            Some(SourceEffect::WatchAgain) => Self::watch_source(&source, version),
        }
    }

    fn watch_source(source: &Source, version: u64) {
        if let Some(link) = &source.link {
            Self::watch_from(link, version);
        }
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
        let source = lock(&self.follower().0);
        let Some(link) = &source.link else {
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
