//! The store of a node as a part of its cluster: what it is told of the map and by other stores,
//! and the way out.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::{
    cluster::{
        contact::Contact,
        map_watch::MapWatch,
        peers::{Peers, wire::Proposal},
        process::{Job, Process},
    },
    id::{CopySettings, Epoch, MemberId, ShardId},
    infra::cancel::unless,
    persistence::{
        JournalError, Log,
        local::Local,
        replicated::{CopyEnvelope, CopyOutlet, HeldCopy, LIMITS, Replicated, wire},
    },
    protocol::{
        copies::{CopiesView, CopyProposal, StopOwning, StoreId},
        map::{ClusterMap, Command},
    },
    transport::{frame::FRAME_BYTES_MAX, handshake::Lane, link::Peer},
};

/// How many bytes wait for one connection to another store. What comes beyond that is dropped: it
/// is sent again.
const WAITING_MAX: usize = 32 << 20;

/// How many bytes one frame has, about, unless one message has more.
const FRAME_BYTES: usize = 256 << 10;

/// How many batches of proposals are under way. What comes beyond that is proposed again later.
const PROPOSALS_MAX: usize = 8;

/// The store of a node. Other nodes have copies of its shards.
pub(crate) struct NodeCopies {
    store: Arc<Replicated>,
    outlet: Arc<NodeOutlet>,
    /// How many copies its types have.
    pub(crate) settings: CopySettings,
}

impl NodeCopies {
    /// Opens the directory of a node.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) async fn open(
        local: Local,
        settings: CopySettings,
    ) -> Result<Arc<Self>, JournalError> {
        let outlet = Arc::new(NodeOutlet::default());
        let store = Replicated::open(Arc::new(local), LIMITS, outlet.clone()).await?;
        Ok(Arc::new(Self {
            store,
            outlet,
            settings,
        }))
    }

    /// The journal of the entities.
    pub(crate) fn journal(&self) -> Arc<Replicated> {
        self.store.clone()
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store.store()
    }

    /// Sets the node that the store belongs to. Before that it sends nothing.
    pub(crate) fn belongs_to(&self, way: WayOut) {
        let is_first = self.outlet.way.set(way).is_ok();
        assert!(is_first, "a store belongs to one node");
    }

    /// Tells the store what a map says. `before`: the map that it was told of last.
    pub(crate) fn handle_map(&self, before: Option<&ClusterMap>, map: &ClusterMap, me: &MemberId) {
        let views = news(before, map, me);
        if !views.is_empty() {
            self.store.see(views);
        }
    }

    /// What the store has of these shards, in sync or not.
    pub(crate) async fn held(
        &self,
        kind: &str,
        shards: Vec<ShardId>,
    ) -> Result<Vec<HeldCopy>, JournalError> {
        self.store.held(kind, shards).await
    }

    /// Messages of another store.
    pub(crate) fn deliver(&self, envelopes: Vec<CopyEnvelope>) {
        self.store.deliver(envelopes);
    }
}

/// What a map says of the shards of which the one before said something else.
fn news(before: Option<&ClusterMap>, map: &ClusterMap, me: &MemberId) -> Vec<(Log, CopiesView)> {
    let mut views = Vec::new();
    let before = before.filter(|before| {
        let slot = |map: &ClusterMap| map.member(me).map(|member| member.slot);
        Arc::ptr_eq(&before.stores, &map.stores) && slot(before) == slot(map)
    });
    for (kind, copies) in &map.copies {
        let Some(homes) = map.kinds.get(kind) else {
            continue;
        };
        let known = before.and_then(|before| {
            let known = before.copies.get(kind)?;
            let is_same = known.min == copies.min;
            is_same.then_some((&known.shards, before.kinds.get(kind)?))
        });
        if known.is_some_and(|(places, before)| {
            Arc::ptr_eq(places, &copies.shards) && Arc::ptr_eq(before, homes)
        }) {
            continue;
        }
        let name: Arc<str> = Arc::from(kind.as_str());
        for (shard, (home, places)) in (0..).zip(homes.iter().zip(copies.shards.iter())) {
            let is_known = known.is_some_and(|(places_before, homes_before)| {
                let at = ShardId(shard).index();
                homes_before.get(at) == Some(home) && places_before.get(at) == Some(places)
            });
            if is_known {
                continue;
            }
            if let Some(view) = map.copies_view(kind, ShardId(shard), me) {
                let kind = name.clone();
                views.push((Log { kind, shard }, view));
            }
        }
    }
    views
}

/// What a store needs of its node. It must not keep the node: a store is closed once the last
/// handle of its node is dropped.
pub(crate) struct WayOut {
    pub(crate) process: Weak<Process>,
    pub(crate) peers: Weak<Peers>,
    pub(crate) map: Arc<MapWatch>,
    /// The present incarnation.
    pub(crate) contact: Box<dyn Fn() -> Option<Arc<Contact>> + Send + Sync>,
    pub(crate) give_up: GiveUp,
}

/// Gives up a shard that this node cannot serve under this epoch.
pub(crate) type GiveUp = Box<dyn Fn(&str, ShardId, Epoch) + Send + Sync>;

#[derive(Default)]
struct NodeOutlet {
    way: OnceLock<WayOut>,
    /// Batches of proposals under way.
    proposing: Arc<AtomicUsize>,
    /// Something was too large to be sent, and the log says so.
    has_warned: AtomicBool,
}

impl CopyOutlet for NodeOutlet {
    fn send(&self, to: StoreId, envelopes: Vec<CopyEnvelope>) {
        let Some(way) = self.way.get() else { return };
        let Some(map) = way.map.get() else { return };
        let Some(member) = map.process_of(to) else {
            return;
        };
        let Some(place) = map.member(member) else {
            return;
        };
        let peer = Peer {
            address: place.address,
            member: Some(member.clone()),
        };
        let Some(peers) = way.peers.upgrade() else {
            return;
        };
        let link = peers.link(peer, Lane::Copies);
        let mut left = &envelopes[..];
        while let Some(first) = left.first() {
            if link.control_bytes() > WAITING_MAX {
                return;
            }
            let weight = left.iter().map(CopyEnvelope::weight).sum::<usize>();
            let mut payload = Vec::with_capacity(weight.min(FRAME_BYTES));
            let count = match wire::encode(left, FRAME_BYTES, &mut payload) {
                Ok(count) => count,
                Err(error) => {
                    tracing::error!(%error, "a message to another store cannot be encoded");
                    left = left.get(1..).unwrap_or_default();
                    continue;
                }
            };
            let bytes = payload.len();
            if let Err(error) = link.send_control(&payload)
                && bytes > FRAME_BYTES_MAX / 2
                && !self.has_warned.swap(true, Ordering::Relaxed)
            {
                let log = first.log();
                tracing::error!(%log, bytes, %error, "records of a shard cannot be sent to its copies");
            }
            left = left.get(count..).unwrap_or_default();
        }
    }

    fn propose(&self, proposals: Vec<(Log, CopyProposal)>) {
        let way = self.way.get();
        let found = way.and_then(|way| Some((way.process.upgrade()?, (way.contact)()?)));
        let Some((process, contact)) = found else {
            return;
        };
        if self.proposing.fetch_add(1, Ordering::AcqRel) >= PROPOSALS_MAX {
            self.proposing.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let me = contact.local.member.clone();
        let proposals = proposals
            .into_iter()
            .map(|(log, proposal)| (log.kind.as_ref().to_owned(), ShardId(log.shard), proposal));
        let commands = Command::of_proposals(&me, proposals);
        let proposing = self.proposing.clone();
        process.spawn(Job::Moves, async move {
            for command in commands {
                let proposal = contact.leader.propose(Proposal::Apply(command));
                match unless(&contact.tenure.session, proposal).await {
                    Some(Ok(version)) => contact.source.handle_version(version),
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a change of copies was not decided");
                    }
                    None => break,
                }
            }
            proposing.fetch_sub(1, Ordering::AcqRel);
        });
    }

    fn stopped(&self, log: &Log, epoch: Epoch, why: StopOwning) {
        let gives_up = matches!(
            why,
            StopOwning::StoreFailed | StopOwning::Promised(_) | StopOwning::CopyDamaged
        );
        if !gives_up {
            // The map has said, or is about to say, where the shard is.
            return;
        }
        let Some(way) = self.way.get() else { return };
        tracing::warn!(%log, %epoch, %why, "a shard is given up by this node");
        (way.give_up)(&log.kind, ShardId(log.shard), epoch);
    }

    fn node_of(&self, store: StoreId) -> String {
        let map = self.way.get().and_then(|way| way.map.get());
        let place = map.and_then(|map| map.holder_of(store).cloned());
        place.map_or_else(
            || format!("store {store}"),
            |holder| holder.node.to_string(),
        )
    }
}
