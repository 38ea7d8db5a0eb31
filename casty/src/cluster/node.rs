//! A node: its parts, and what they are to each other.
//!
//! Three lifetimes meet here. [`Peers`], the map, the regions and the tasks live as long as the
//! process. A [`Membership`] lives as long as one incarnation; the next replaces it whole. What
//! runs over all of it stands above: [`start`](super::start), [`inbound`](super::inbound).

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;

use crate::{
    cluster::{
        authority::raft::{Disk, EngineParts, StoredState},
        copies::NodeCopies,
        failure::Failed,
        gossip::{GossipInbox, Inputs},
        homes::Homes,
        kept_shards::KeptShards,
        limiter::Limiter,
        map_watch::MapWatch,
        membership::Membership,
        membership_inputs::MembershipInputs,
        parts::Parts,
        peers::{LocalMember, Peers, access::Access},
        process::Process,
        region::AnyRegion,
        rumors::Said,
    },
    config::{Availability, OnDown, Settings},
    id::{CatalogEntry, MemberId},
    protocol::map::Status,
    tie::Breaker,
};

/// How a node is set up; fixed before it starts.
pub(crate) struct NodeSetup {
    /// The first incarnation.
    pub(crate) member: MemberId,
    /// Where peers reach it.
    pub(crate) address: SocketAddr,
    pub(crate) settings: Settings,
    pub(crate) seeds: Vec<String>,
    pub(crate) bootstrap_expect: Option<u32>,
    /// The roles of this node.
    pub(crate) roles: BTreeSet<String>,
    /// Incarnations are counted from the first, and do not come from the clock.
    pub(crate) given_incarnation: bool,
    pub(crate) on_down: OnDown,
    pub(crate) availability: Availability,
    pub(crate) tie_breaker: Option<Breaker>,
    /// The file in which this node stores decisions.
    pub(crate) disk: Option<Arc<Disk>>,
    /// The store of its entities, if other nodes have copies of it.
    pub(crate) copies: Option<Arc<NodeCopies>>,
    /// What clients and operators may do.
    pub(crate) access: Access,
}

/// One node of a cluster.
pub(crate) struct Node {
    pub(crate) setup: NodeSetup,
    pub(crate) process: Arc<Process>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) map: Arc<MapWatch>,
    pub(crate) homes: Arc<Homes>,
    /// All entity types that this binary knows.
    pub(crate) regions: Arc<[Arc<dyn AnyRegion>]>,
    /// The entity types that this node offers to host.
    pub(crate) hosted: Vec<CatalogEntry>,
    pub(crate) engine_parts: Arc<EngineParts>,
    membership: ArcSwap<Membership>,
    pub(crate) gossip: GossipInbox,
    pub(crate) kept_shards: KeptShards,
    pub(crate) failed: Failed,
    pub(crate) limiter: Arc<Limiter>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("member", &self.peers.local().member)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Puts a node together. It hosts the entity types that name no role, or one it has. `stored`:
    /// what a process before this one has kept.
    ///
    /// Returns also what its gossip will be fed with.
    pub(crate) fn new(
        setup: NodeSetup,
        parts: Parts,
        local: Arc<LocalMember>,
        stored: Option<StoredState>,
    ) -> (Arc<Self>, Inputs) {
        let (gossip, inputs) = GossipInbox::new();
        let Parts {
            process,
            peers,
            map,
            homes,
            regions,
        } = parts;
        let is_for_me = |region: &&Arc<dyn AnyRegion>| {
            let role = region.role();
            role.is_none_or(|role| setup.roles.contains(role))
        };
        let hosts = || regions.iter().filter(is_for_me);
        tracing::info!(
            roles = ?setup.roles,
            hosts = ?hosts().map(|region| region.name()).collect::<Vec<_>>(),
            "the roles of this node, and the entity types that it hosts"
        );
        let engine_parts = Arc::new(EngineParts {
            process: process.clone(),
            peers: peers.clone(),
            map: map.clone(),
            settings: setup.settings.clone(),
            disk: setup.disk.clone(),
            breaker: setup.tie_breaker.clone(),
        });
        let first = Membership::new(
            &engine_parts,
            local,
            Arc::<MembershipInputs>::default(),
            Arc::default(),
            stored,
        );
        let copies = setup.copies.as_ref().map(|copies| copies.settings);
        let node = Arc::new(Self {
            hosted: hosts()
                .map(|region| CatalogEntry {
                    copies: copies
                        .filter(|_| region.is_stored())
                        .map(|copies| copies.with(region.copies())),
                    ..region.catalog_entry()
                })
                .collect(),
            failed: Failed::new(map.clone(), process.ending.clone()),
            limiter: Limiter::new(setup.settings.limits.clone()),
            setup,
            process,
            peers,
            map,
            homes,
            regions,
            engine_parts,
            membership: ArcSwap::from_pointee(first),
            gossip,
            kept_shards: KeptShards::default(),
        });
        let catalog = node.regions.iter().map(|region| region.catalog_entry());
        let me: Weak<Self> = Arc::downgrade(&node);
        node.peers.serve(catalog.collect(), me);
        (node, inputs)
    }

    /// The present incarnation.
    pub(crate) fn current_membership(&self) -> Arc<Membership> {
        self.membership.load_full()
    }

    /// Replaces the incarnation. Connections of the one before have ended when this returns.
    pub(crate) fn begin(&self, next: Membership) {
        self.peers.begin_as(next.contact.local.clone());
        self.membership.store(Arc::new(next));
    }

    /// Whether this process is Up and its entities may act. The gate opens only once the regions
    /// follow the map that the lease was granted by.
    pub(crate) fn is_ready(&self) -> bool {
        let is_ending = self.process.ending.is_cancelled() || self.process.cancel.is_cancelled();
        let membership = self.current_membership();
        let contact = &membership.contact;
        let status = self
            .map
            .get()
            .and_then(|map| map.status(&contact.local.member));
        !is_ending && status == Some(Status::Up) && contact.tenure.may_act()
    }

    /// Whether the map has this process, and not as Down.
    pub(crate) fn has_member(&self, process: &MemberId) -> bool {
        self.map.get().is_some_and(|map| map.is_present(process))
    }

    /// Entities alive here.
    pub(crate) fn load(&self) -> u64 {
        self.regions.iter().map(|region| region.active()).sum()
    }

    /// The facts that this node reports about itself.
    pub(crate) fn says(&self) -> Said {
        Said {
            load: self.load(),
            roles: self.setup.roles.clone(),
        }
    }

    /// The members as this node sees them, with what they said about themselves.
    pub(crate) fn members(&self) -> Vec<(MemberId, SocketAddr, Status, Option<Said>)> {
        let Some(map) = self.map.get() else {
            return Vec::new();
        };
        let mut said = self.current_membership().rumors.said();
        said.insert(self.peers.local().member.clone(), self.says());
        map.members
            .iter()
            .map(|(id, m)| (id.clone(), m.address, m.status, said.remove(id)))
            .collect()
    }

    /// The buffers of this node: name, content and bound of each.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> Vec<(&'static str, usize, usize)> {
        use crate::cluster::peers::calls::CALLS_MAX;

        let members = self.map.get().map_or(0, |map| map.members.len());
        // Members that have just gone are forgotten with the next map.
        let peers = (members + self.setup.seeds.len() + 8) * 4;
        let [links, connections, calls, answering] = self.peers.held();
        let mut held = vec![
            ("links", links, peers),
            ("connections", connections, peers * 2),
            ("calls", calls, 64 + members * 8),
            ("calls of others", answering, CALLS_MAX),
        ];
        for region in self.regions.iter() {
            let (kept, kept_max) = region.kept();
            // A message that comes back from another node was accepted before, so it is kept even
            // where there is no room.
            held.push(("messages without a home", kept, kept_max * 2));
        }
        if let Some(engine) = self.current_membership().voter.engine() {
            held.push(("log", engine.log_length(), 4096));
        }
        held
    }
}
