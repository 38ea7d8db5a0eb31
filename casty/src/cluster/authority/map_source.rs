//! The source of the map for a process without an engine: a voter sends the map, and every change.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    cluster::{
        authority::voters::Voters,
        locks::Rank,
        map_watch::MapWatch,
        peers::{
            Peers,
            wire::{MapNews, Request},
        },
        process::Process,
    },
    id::Voter,
    infra::sync::Ranked,
    message::codec,
    protocol::{
        map::ClusterMap,
        map_source::{SourceChoice, SourceEffect, SourceView},
    },
    transport::{
        handshake::Lane,
        link::{Link, Peer},
    },
};

#[derive(Default)]
struct Source {
    choice: SourceChoice<Voter>,
    /// The link to the watched voter.
    link: Option<Arc<Link>>,
}

/// One incarnation's watch of the map.
pub(crate) struct MapSource {
    process: Arc<Process>,
    peers: Arc<Peers>,
    map: Arc<MapWatch>,
    voters: Arc<Voters>,
    source: Ranked<Source>,
}

impl MapSource {
    pub(crate) fn new(
        process: Arc<Process>,
        peers: Arc<Peers>,
        map: Arc<MapWatch>,
        voters: Arc<Voters>,
    ) -> Self {
        Self {
            process,
            peers,
            map,
            voters,
            source: Rank::Source.mutex(Source::default()),
        }
    }

    /// A map of this version is known to exist.
    pub(crate) fn handle_version(&self, version: u64) {
        self.source.lock().choice.handle_version(version);
    }

    /// Keeps a source of the map. `decides`: this process has an engine, which applies decisions
    /// itself if it votes.
    pub(crate) fn handle_tick(&self, decides: bool, now: Instant) {
        let version = self.version();
        let (mine, others): (Vec<_>, Vec<_>) = self
            .voters
            .all()
            .into_iter()
            .partition(|voter| self.peers.is_me(&voter.member));
        let random = self.process.random();
        let mut source = self.source.lock();
        let view = SourceView {
            version,
            votes: decides && !mine.is_empty(),
            voters: &others,
            is_connected: source.link.as_ref().is_some_and(|link| link.is_connected()),
            is_told: !self.voters.is_in_no_map(),
            random,
        };
        match source.choice.handle_tick(&view, now) {
            None => return,
            Some(SourceEffect::Stop) => source.link = None,
            Some(SourceEffect::Watch(voter)) => {
                let link = self.peers.link(Peer::from(&voter), Lane::Control);
                source.link = Some(link);
            }
            Some(SourceEffect::WatchAgain) => {}
        }
        if let Some(link) = &source.link {
            watch_from(link, version);
        }
    }

    fn version(&self) -> u64 {
        self.map.get().map_or(0, |map| map.version)
    }

    /// A connection stands, and carries no watch yet.
    pub(crate) fn handle_connected(&self, link: &Arc<Link>) {
        let is_source = {
            let source = self.source.lock();
            let watched = source.link.as_ref();
            watched.is_some_and(|watched| Arc::ptr_eq(watched, link))
        };
        if is_source {
            watch_from(link, self.version());
        }
    }

    /// Tells a sole voter that there is a second copy of what it decided. If several versions come
    /// at once, only the last is confirmed.
    pub(crate) fn confirm(&self, map: &ClusterMap) {
        if map.voters.len() != 1 {
            return;
        }
        let source = self.source.lock();
        let Some(link) = &source.link else {
            return;
        };
        // A new watch names the version as well.
        request(
            link,
            &Request::Has {
                version: map.version,
            },
        );
    }

    /// News of the map.
    pub(crate) fn handle_news(&self, link: &Link, news: MapNews) {
        self.source.lock().choice.handle_news(Instant::now());
        match news {
            MapNews::Map(map) => drop(self.map.offer(map)),
            MapNews::Changes(changes) => {
                let fits = self.map.update(|map| {
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
                    // There is a gap, which should not happen, or no map yet: request the whole
                    // map.
                    watch_from(link, 0);
                }
            }
        }
    }
}

/// A link that is down refuses the request. The next tick repeats it.
fn watch_from(link: &Link, version: u64) {
    request(link, &Request::Watch { version });
}

fn request(link: &Link, request: &Request) {
    match codec::to_vec(request) {
        Ok(bytes) => drop(link.send_control(&bytes)),
        Err(error) => tracing::error!(%error, "a request cannot be encoded"),
    }
}
