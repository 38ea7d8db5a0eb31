//! Who decides about the cluster map: the narrow trait, and its present engine, a single voter.
//!
//! The voter is the cluster's founder. It applies a proposal at once; everybody else proposes over the control lane
//! and watches the map change. When the voter is gone nothing is decided any more: what is known goes on, new
//! decisions fail with a typed error.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{
    map_watch::MapWatch,
    wire::{Denied, Proposal, Request, Response},
};
use crate::{
    message::codec,
    protocol::{
        allocation,
        map::{ClusterMap, Command, Refused},
    },
    sync::lock,
    transport::{connection::Inlet, frame::Frame, link::Link},
};

/// Changes kept for watchers that are a little behind; one that is further behind gets the whole map.
const CHANGES_KEPT: usize = 4096;

/// Why a proposal came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// Decided: no.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The one who decides cannot be reached. The proposal may have been applied all the same; all commands may
    /// be proposed twice.
    #[error("the holder of the cluster map cannot be reached: {0}")]
    Unreachable(String),
}

/// Decides about the cluster map.
pub(crate) trait Authority: Send + Sync {
    /// Has a proposal decided and, if it is accepted, applied.
    fn propose(&self, proposal: Proposal) -> BoxFuture<'static, Result<(), AuthorityError>>;

    /// The map after everything that was decided before the call.
    #[allow(dead_code, reason = "part of the contract of every engine")]
    fn read(&self) -> BoxFuture<'static, Result<Arc<ClusterMap>, AuthorityError>>;

    /// The map as this node knows it, and its changes.
    #[allow(dead_code, reason = "part of the contract of every engine")]
    fn watch(&self) -> &Arc<MapWatch>;
}

/// The engine of the one who decides.
pub(crate) struct SingleVoter {
    decided: Mutex<Decided>,
    watch: Arc<MapWatch>,
}

struct Decided {
    map: ClusterMap,
    changes: VecDeque<(u64, Command)>,
    watchers: Vec<Arc<Inlet>>,
}

impl SingleVoter {
    pub(crate) fn new(map: ClusterMap, watch: Arc<MapWatch>) -> Arc<Self> {
        watch.set(map.clone());
        let decided = Decided {
            map,
            changes: VecDeque::new(),
            watchers: Vec::new(),
        };
        Arc::new(Self {
            decided: Mutex::new(decided),
            watch,
        })
    }

    pub(crate) fn decide(&self, proposal: Proposal) -> Result<(), Refused> {
        // One decision at a time; watchers hear of them in order.
        let mut decided = lock(&self.decided);
        match proposal {
            Proposal::Apply(command) => self.apply(&mut decided, command),
            Proposal::Allocate { kind, shards } => {
                let hosted = decided.map.up().any(|id| {
                    decided
                        .map
                        .member(id)
                        .is_some_and(|m| m.kinds.contains(&kind))
                });
                if !hosted {
                    return Err(Refused::UnknownKind(kind));
                }
                let assignments = allocation::allocate(&decided.map, &kind, &shards);
                if assignments.is_empty() {
                    return Ok(());
                }
                self.apply(&mut decided, Command::Assign { kind, assignments })
            }
        }
    }

    fn apply(&self, decided: &mut Decided, command: Command) -> Result<(), Refused> {
        decided.map.apply(&command)?;
        tracing::debug!(version = decided.map.version, ?command, "decided");
        if decided.changes.len() == CHANGES_KEPT {
            decided.changes.pop_front();
        }
        let change = (decided.map.version, command);
        decided.changes.push_back(change.clone());
        decided
            .watchers
            .retain(|watcher| !watcher.cancel.is_cancelled());
        if !decided.watchers.is_empty() {
            match codec::to_vec(&Response::Changes(vec![change])) {
                Ok(bytes) => {
                    decided
                        .watchers
                        .iter()
                        .for_each(|w| w.send(Frame::Control(&bytes)));
                }
                Err(error) => tracing::error!(%error, "a change cannot be encoded"),
            }
        }
        self.watch.set(decided.map.clone());
        Ok(())
    }

    /// Sends a watcher what it lacks, and every change from now on.
    pub(crate) fn add_watcher(&self, watcher: &Arc<Inlet>, version: u64) {
        let mut decided = lock(&self.decided);
        let known = decided
            .changes
            .front()
            .is_some_and(|(first, _)| *first <= version + 1);
        let current = decided.map.version == version;
        let response = if current || (known && version < decided.map.version) {
            let changes = decided
                .changes
                .iter()
                .filter(|(v, _)| *v > version)
                .cloned();
            Response::Changes(changes.collect())
        } else {
            Response::Map(decided.map.clone())
        };
        respond(watcher, &response);
        if !decided
            .watchers
            .iter()
            .any(|present| Arc::ptr_eq(present, watcher))
        {
            decided.watchers.push(watcher.clone());
        }
    }

    /// Answers a proposal that came over a connection.
    pub(crate) fn answer(&self, inlet: &Inlet, id: u64, proposal: Proposal) {
        let result = self.decide(proposal).map_err(Denied::from);
        respond(inlet, &Response::Proposed { id, result });
    }
}

/// Sends a response on the control lane.
pub(crate) fn respond(inlet: &Inlet, response: &Response) {
    match codec::to_vec(response) {
        Ok(bytes) => inlet.send(Frame::Control(&bytes)),
        Err(error) => tracing::error!(%error, "a response cannot be encoded"),
    }
}

impl Authority for SingleVoter {
    fn propose(&self, proposal: Proposal) -> BoxFuture<'static, Result<(), AuthorityError>> {
        let result = self
            .decide(proposal)
            .map_err(|refused| Denied::from(refused).into());
        Box::pin(std::future::ready(result))
    }

    fn read(&self) -> BoxFuture<'static, Result<Arc<ClusterMap>, AuthorityError>> {
        let map = Arc::new(lock(&self.decided).map.clone());
        Box::pin(std::future::ready(Ok(map)))
    }

    fn watch(&self) -> &Arc<MapWatch> {
        &self.watch
    }
}

/// The way to a voter on another node.
pub(crate) struct RemoteVoter {
    link: Arc<Link>,
    watch: Arc<MapWatch>,
    timeout: Duration,
    next: AtomicU64,
    waiting: Waiting,
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<(), AuthorityError>>>>>;

impl RemoteVoter {
    pub(crate) fn new(link: Arc<Link>, watch: Arc<MapWatch>, timeout: Duration) -> Arc<Self> {
        let waiting = Waiting::default();
        let voter = Self {
            link,
            watch,
            timeout,
            next: AtomicU64::new(1),
            waiting,
        };
        voter.start_watch();
        Arc::new(voter)
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Asks for the map and its changes, from where this node is.
    pub(crate) fn start_watch(&self) {
        let version = self.watch.get().map_or(0, |map| map.version);
        self.send(&Request::Watch { version });
    }

    fn send(&self, request: &Request) -> Option<AuthorityError> {
        let bytes = match codec::to_vec(request) {
            Ok(bytes) => bytes,
            Err(error) => return Some(AuthorityError::Unreachable(error.to_string())),
        };
        let sent = self.link.send_control(&bytes);
        sent.err()
            .map(|failure| AuthorityError::Unreachable(failure.to_string()))
    }

    pub(crate) fn handle(&self, response: Response) {
        match response {
            Response::Proposed { id, result } => {
                if let Some(waiting) = lock(&self.waiting).remove(&id) {
                    let _ = waiting.send(result.map_err(AuthorityError::from));
                }
            }
            Response::Map(map) => {
                let known = self.watch.get();
                if known.is_none_or(|known| known.version < map.version) {
                    self.watch.set(map);
                }
            }
            Response::Changes(changes) => {
                let Some(known) = self.watch.get() else {
                    return self.start_watch();
                };
                let mut map = (*known).clone();
                for (version, command) in changes {
                    if version <= map.version {
                        continue;
                    }
                    let applied = map.apply(&command);
                    if applied.is_err() || map.version != version {
                        // A gap, which should not be: start from the whole map.
                        tracing::warn!(
                            version,
                            ?command,
                            "a change does not fit; asking for the map"
                        );
                        self.send(&Request::Watch { version: 0 });
                        return;
                    }
                }
                if map.version > known.version {
                    self.watch.set(map);
                }
            }
        }
    }

    /// The connection is gone: nobody will answer what was proposed on it.
    pub(crate) fn disconnected(&self, reason: &str) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        for waiting in waiting.into_values() {
            let _ = waiting.send(Err(AuthorityError::Unreachable(reason.to_owned())));
        }
    }
}

impl Authority for RemoteVoter {
    fn propose(&self, proposal: Proposal) -> BoxFuture<'static, Result<(), AuthorityError>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let gone = self
            .watch
            .get()
            .is_some_and(|map| map.member(&map.voter).is_none());
        lock(&self.waiting).insert(id, answer);
        let failed = if gone {
            Some(AuthorityError::Unreachable(
                "it has left the cluster".to_owned(),
            ))
        } else {
            self.send(&Request::Propose { id, proposal })
        };
        let (waiting, timeout) = (self.waiting.clone(), self.timeout);
        Box::pin(async move {
            let result = match failed {
                Some(error) => Err(error),
                None => match tokio::time::timeout(timeout, answered).await {
                    Ok(Ok(result)) => result,
                    Ok(Err(_)) => Err(AuthorityError::Unreachable("the node stopped".to_owned())),
                    Err(_) => Err(AuthorityError::Unreachable(format!(
                        "no answer in {timeout:?}"
                    ))),
                },
            };
            lock(&waiting).remove(&id);
            result
        })
    }

    fn read(&self) -> BoxFuture<'static, Result<Arc<ClusterMap>, AuthorityError>> {
        // An allocation of nothing is answered behind every change that was decided before it, on the same
        // connection as the changes: a round trip is a linearizable read.
        let barrier = Proposal::Allocate {
            kind: String::new(),
            shards: Vec::new(),
        };
        let (round, watch) = (self.propose(barrier), self.watch.clone());
        Box::pin(async move {
            match round.await {
                Ok(()) | Err(AuthorityError::Denied(Denied::Refused(_))) => {}
                Err(error) => return Err(error),
            }
            watch
                .get()
                .ok_or_else(|| AuthorityError::Unreachable("no map yet".to_owned()))
        })
    }

    fn watch(&self) -> &Arc<MapWatch> {
        &self.watch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::ShardId,
        protocol::map::tests::{founded, member},
    };

    fn allocate(kind: &str, shard: u32) -> Proposal {
        Proposal::Allocate {
            kind: kind.to_owned(),
            shards: vec![ShardId(shard)],
        }
    }

    #[tokio::test]
    async fn what_was_decided_is_read_and_watched() {
        let voter = SingleVoter::new(founded(4), Arc::default());
        let engine: &dyn Authority = &*voter;
        engine.propose(allocate("Counter", 2)).await.unwrap();
        let map = engine.read().await.unwrap();
        assert!(map.kinds["Counter"][2].owner.is_some());
        assert_eq!(engine.watch().get(), Some(map));
    }

    #[tokio::test]
    async fn a_shard_with_a_home_stays_there_and_an_unknown_type_is_refused() {
        let voter = SingleVoter::new(founded(4), Arc::default());
        voter.propose(allocate("Counter", 2)).await.unwrap();
        let before = voter.read().await.unwrap();
        voter.propose(allocate("Counter", 2)).await.unwrap();
        assert_eq!(voter.read().await.unwrap(), before);
        let refused = Denied::Refused(Refused::UnknownKind("Nobody".to_owned()));
        let nobody = voter.propose(allocate("Nobody", 0)).await;
        assert_eq!(nobody, Err(AuthorityError::Denied(refused)));
    }

    #[tokio::test]
    async fn a_refused_command_changes_nothing() {
        let voter = SingleVoter::new(founded(4), Arc::default());
        let before = voter.read().await.unwrap();
        let stranger = Command::Up {
            member: member("stranger", 1),
        };
        assert!(voter.propose(Proposal::Apply(stranger)).await.is_err());
        assert_eq!(voter.read().await.unwrap(), before);
    }
}
