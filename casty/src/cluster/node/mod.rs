//! One node of a cluster: its links, its copy of the map, its way in and out.
//!
//! [`homes`] follows the map and finds homes, [`seams`] is what a node is to those below and beside
//! it, [`deciders`] are those who decide, and this node's part in that.

mod homes;
mod seams;
mod voters;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actor::runtime::Runtime,
    cluster::{
        authority::{
            Authority as _, Voter,
            leader_client::CALLS_MAX,
            map_source::MapSource,
            raft::{Disk, RaftEngine, StoredState},
            respond,
        },
        calls::Calls,
        gossip::Input,
        map_watch::MapWatch,
        membership::MembershipInputs,
        region::AnyRegion,
        watches::Watches,
        wire::{Answer, Call, Denied, Inspection, Request, Response},
    },
    config::{Availability, OnDown, Settings},
    error::JoinError,
    id::{CatalogEntry, ClusterIdentity, Incarnation, MemberId, NodeId, ShardId},
    infra::sync::lock,
    protocol::{
        map::{ClusterMap, Seat, Slot, Status},
        tie::Renewing,
    },
    tie::Breaker,
    transport::{
        connection::{Inlet, Keepalive},
        handshake::Lane,
        link::{Link, LinkTimes, Peer},
        net::Net,
    },
};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Who a node is; fixed before it starts.
pub(crate) struct NodeSetup {
    pub(crate) cluster: String,
    pub(crate) member: MemberId,
    /// Where peers reach it; `None` for a client, which hosts nothing.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) settings: Settings,
    pub(crate) seeds: Vec<String>,
    /// What this node is for, beyond what every node is.
    pub(crate) roles: BTreeSet<String>,
    /// The incarnation does not come from the clock.
    pub(crate) given_incarnation: bool,
    pub(crate) on_down: OnDown,
    pub(crate) availability: Availability,
    pub(crate) tie_breaker: Option<Breaker>,
    /// Where it keeps what it decides.
    pub(crate) disk: Option<Arc<Disk>>,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) seed: u64,
}

/// What a member says about itself, as far as it is known here.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Entities alive on it.
    pub(crate) load: u64,
    pub(crate) roles: BTreeSet<String>,
}

pub(crate) struct Node {
    me: Weak<Self>,
    setup: NodeSetup,
    /// This process as a member: another one after it was declared Down and joined anew.
    member: ArcSwap<MemberId>,
    /// Ends what belongs to one membership.
    session: Mutex<CancellationToken>,
    runtime: Arc<Runtime>,
    regions: OnceLock<Vec<Arc<dyn AnyRegion>>>,
    catalog: OnceLock<Vec<CatalogEntry>>,
    hosted: OnceLock<Vec<CatalogEntry>>,
    identity: Mutex<Option<ClusterIdentity>>,
    watch: Arc<MapWatch>,
    /// Generation and version of the map that the regions go by.
    followed: Mutex<(u32, u64)>,
    /// This node's part in deciding, if it has one.
    engine: Mutex<Option<Arc<RaftEngine>>>,
    /// Where this process sits as the one before it did, if it has kept all that counts of it.
    kept: Mutex<Option<Seat>>,
    /// What that is, until it is used.
    kept_state: Mutex<Option<StoredState>>,
    /// One engine at a time is made.
    engine_making: tokio::sync::Mutex<()>,
    leader: Mutex<Option<Voter>>,
    /// Who decided when this node began to join.
    introduced: Mutex<Vec<Voter>>,
    /// Processes that follow others of their nodes, which the map does not know yet: since when,
    /// and where they are.
    successors: Mutex<BTreeMap<NodeId, (Incarnation, SocketAddr)>>,
    follower: MapSource,
    calls: Calls,
    answering: AtomicUsize,
    membership: MembershipInputs,
    renewing: Mutex<Renewing>,
    /// Members that gossip takes for dead.
    dead: Mutex<BTreeSet<MemberId>>,
    inlets: Mutex<Vec<Weak<Inlet>>>,
    links: Mutex<BTreeMap<(Peer, Lane), Arc<Link>>>,
    /// Where the members of the map are, by slot.
    slots: Mutex<BTreeMap<Slot, Peer>>,
    wanted: Mutex<BTreeSet<(u16, ShardId)>>,
    wanted_work: Notify,
    gossip: mpsc::Sender<Input>,
    said: Mutex<BTreeMap<MemberId, Said>>,
    watches: Watches,
    failed: Mutex<Option<JoinError>>,
    leaving: std::sync::atomic::AtomicBool,
    rng: Mutex<StdRng>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("member", &self.member())
            .finish_non_exhaustive()
    }
}

impl Node {
    /// The node, and what its gossip task will be fed.
    pub(crate) fn new(
        setup: NodeSetup,
        runtime: Arc<Runtime>,
        cancel: CancellationToken,
    ) -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (gossip, inputs) = mpsc::channel(1024);
        let rng = StdRng::seed_from_u64(setup.seed);
        let node = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime,
            regions: OnceLock::new(),
            catalog: OnceLock::new(),
            hosted: OnceLock::new(),
            identity: Mutex::default(),
            member: ArcSwap::from_pointee(setup.member.clone()),
            session: Mutex::new(cancel.child_token()),
            watch: Arc::default(),
            followed: Mutex::default(),
            engine: Mutex::default(),
            kept: Mutex::default(),
            kept_state: Mutex::default(),
            engine_making: tokio::sync::Mutex::default(),
            leader: Mutex::default(),
            introduced: Mutex::default(),
            successors: Mutex::default(),
            follower: MapSource::default(),
            calls: Calls::default(),
            answering: AtomicUsize::new(0),
            membership: MembershipInputs::default(),
            renewing: Mutex::default(),
            dead: Mutex::default(),
            inlets: Mutex::default(),
            links: Mutex::default(),
            slots: Mutex::default(),
            wanted: Mutex::default(),
            wanted_work: Notify::new(),
            gossip,
            said: Mutex::default(),
            watches: Watches::default(),
            failed: Mutex::default(),
            leaving: false.into(),
            rng: Mutex::new(rng),
            cancel,
            tasks: TaskTracker::new(),
            setup,
        });
        (node, inputs)
    }

    /// Says which entity types this node knows. Unless it is a client, it hosts those that name no
    /// role, or one it has.
    pub(crate) fn set_regions(&self, regions: Vec<Arc<dyn AnyRegion>>) {
        let entries = |regions: &[&Arc<dyn AnyRegion>]| -> Vec<CatalogEntry> {
            regions
                .iter()
                .map(|region| region.catalog_entry())
                .collect()
        };
        let known: Vec<_> = regions.iter().collect();
        let is_for_me = |region: &&Arc<dyn AnyRegion>| {
            let role = region.role();
            self.setup.address.is_some() && role.is_none_or(|role| self.setup.roles.contains(role))
        };
        let hosted: Vec<_> = regions.iter().filter(is_for_me).collect();
        tracing::info!(
            roles = ?self.setup.roles,
            hosts = ?hosted.iter().map(|region| region.name()).collect::<Vec<_>>(),
            "what this node is for"
        );
        let fresh = self.catalog.set(entries(&known)).is_ok()
            & self.hosted.set(entries(&hosted)).is_ok()
            & self.regions.set(regions).is_ok();
        assert!(fresh, "regions are set once, at start");
    }

    pub(crate) fn member(&self) -> MemberId {
        (**self.member.load()).clone()
    }

    pub(crate) fn is_me(&self, member: &MemberId) -> bool {
        **self.member.load() == *member
    }

    /// This process is another member from now on.
    pub(super) fn set_member(&self, member: MemberId) {
        self.member.store(Arc::new(member));
    }

    pub(super) fn availability(&self) -> Availability {
        self.setup.availability
    }

    pub(crate) fn tie_breaker(&self) -> Option<&Breaker> {
        self.setup.tie_breaker.as_ref()
    }

    /// The first incarnation that this process has been.
    pub(super) fn since(&self) -> Incarnation {
        self.setup.member.incarnation
    }

    /// Where the membership of this node is told what has happened.
    pub(crate) fn membership(&self) -> &MembershipInputs {
        &self.membership
    }

    /// What this node says when it renews, if there is a tie-breaker.
    pub(crate) fn renewing(&self) -> std::sync::MutexGuard<'_, Renewing> {
        lock(&self.renewing)
    }

    pub(super) fn on_down(&self) -> OnDown {
        self.setup.on_down
    }

    pub(crate) fn seeds(&self) -> &[String] {
        &self.setup.seeds
    }

    /// What ends when this membership does.
    pub(crate) fn session(&self) -> CancellationToken {
        lock(&self.session).clone()
    }

    /// Where a member is that the map knows by this slot.
    pub(super) fn peer_at(&self, slot: Slot) -> Option<Peer> {
        lock(&self.slots).get(&slot).cloned()
    }

    pub(super) fn upgrade(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    pub(super) fn has_given_incarnation(&self) -> bool {
        self.setup.given_incarnation
    }

    /// Held while the session ends, or the gate is opened: the one must not come between the other.
    pub(super) fn lock_session(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        lock(&self.session)
    }

    /// Ends all links, to whomever: they were another member's.
    pub(super) fn kill_links(&self, reason: &str) {
        for link in std::mem::take(&mut *lock(&self.links)).into_values() {
            link.kill(reason);
        }
    }

    pub(super) fn new_session(&self) {
        *lock(&self.session) = self.cancel.child_token();
    }

    pub(crate) fn cluster(&self) -> &str {
        &self.setup.cluster
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.setup.address
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.setup.settings
    }

    pub(crate) fn net(&self) -> &Arc<dyn Net> {
        &self.setup.net
    }

    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    pub(crate) fn regions(&self) -> &[Arc<dyn AnyRegion>] {
        self.regions.get().map_or(&[], |regions| regions)
    }

    /// The entity types this binary knows; their order numbers them in frames.
    pub(crate) fn catalog(&self) -> &[CatalogEntry] {
        self.catalog.get().map_or(&[], |catalog| catalog)
    }

    /// The entity types this node offers to host.
    pub(crate) fn hosted(&self) -> &[CatalogEntry] {
        self.hosted.get().map_or(&[], |hosted| hosted)
    }

    pub(crate) fn roles(&self) -> &BTreeSet<String> {
        &self.setup.roles
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Does something for the cluster, for as long as this node is there.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let upkeep = self.runtime.upkeep().handle();
        self.tasks.spawn_on(task, upkeep);
    }

    /// Serves connections where handlers run, for whom most of what arrives is.
    pub(crate) fn spawn_connection(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(task, self.runtime.handle());
    }

    pub(crate) fn map(&self) -> Option<Arc<ClusterMap>> {
        self.watch.get()
    }

    pub(crate) fn watch(&self) -> &Arc<MapWatch> {
        &self.watch
    }

    pub(super) fn watches(&self) -> &Watches {
        &self.watches
    }

    pub(crate) fn identity(&self) -> Option<ClusterIdentity> {
        *lock(&self.identity)
    }

    pub(crate) fn set_identity(&self, identity: ClusterIdentity) {
        *lock(&self.identity) = Some(identity);
    }

    /// Takes this node out of the generation it was in. It may join a later one of the same
    /// cluster.
    pub(super) fn forget_identity(&self) {
        *lock(&self.identity) = None;
    }

    pub(crate) fn follower(&self) -> &MapSource {
        &self.follower
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The version of the map that the regions go by, in the generation that this node is in.
    pub(super) fn followed(&self) -> u64 {
        let (generation, version) = *lock(&self.followed);
        let present = self.identity().map(|identity| identity.generation);
        if present == Some(generation) {
            version
        } else {
            0
        }
    }

    pub(crate) fn dead(&self) -> BTreeSet<MemberId> {
        lock(&self.dead).clone()
    }

    pub(crate) fn set_dead(&self, dead: BTreeSet<MemberId>) {
        *lock(&self.dead) = dead;
    }

    /// Remembers an accepted connection, so that it can be cut.
    pub(crate) fn add_inlet(&self, inlet: &Arc<Inlet>) {
        let mut inlets = lock(&self.inlets);
        inlets.retain(|inlet| inlet.strong_count() > 0);
        inlets.push(Arc::downgrade(inlet));
    }

    /// Cuts the connections of those peers.
    pub(super) fn cut(&self, whose: impl Fn(&MemberId) -> bool) {
        let inlets: Vec<_> = lock(&self.inlets)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for inlet in inlets.iter().filter(|inlet| whose(&inlet.peer)) {
            inlet.cancel.cancel();
        }
    }

    pub(crate) fn is_member(&self, member: &MemberId) -> bool {
        self.map()
            .is_some_and(|map| map.status(member).is_some_and(|s| s != Status::Down))
    }

    /// A number for whatever needs randomness, from the node's one seed.
    pub(crate) fn random(&self) -> u64 {
        lock(&self.rng).random()
    }

    pub(crate) fn fail(&self, error: JoinError) {
        tracing::error!(%error, "not a member of the cluster");
        lock(&self.failed).get_or_insert(error);
        self.watch.notify();
    }

    pub(crate) fn failure(&self) -> Option<JoinError> {
        lock(&self.failed).clone()
    }

    /// Entities alive here.
    pub(crate) fn load(&self) -> u64 {
        self.regions().iter().map(|region| region.active()).sum()
    }

    pub(crate) fn set_said(&self, said: BTreeMap<MemberId, Said>) {
        *lock(&self.said) = said;
    }

    /// What a member said about itself; `None` if it has said nothing yet.
    pub(crate) fn said_by(&self, member: &MemberId) -> Option<Said> {
        if self.is_me(member) {
            return Some(Said {
                load: self.load(),
                roles: self.roles().clone(),
            });
        }
        lock(&self.said).get(member).cloned()
    }

    pub(crate) fn gossip(&self, input: Input) {
        // Gossip is sent again; what finds no room is not missed.
        let _ = self.gossip.try_send(input);
    }

    pub(crate) async fn gossip_leave(&self) {
        let _ = self.gossip.send(Input::Leave).await;
    }

    /// The link to a peer, made on first use.
    pub(crate) fn link(&self, peer: Peer, lane: Lane) -> Arc<Link> {
        let mut links = lock(&self.links);
        if let Some(link) = links.get(&(peer.clone(), lane)) {
            return link.clone();
        }
        let link = Link::new(peer.clone(), lane, self.cancel.child_token());
        if let Some(me) = self.me.upgrade() {
            let settings = self.settings();
            let times = LinkTimes {
                connect: settings.connect_timeout,
                keepalive: self.keepalive(),
                backoff: settings.backoff,
                backoff_max: settings.backoff_max,
            };
            let run = link
                .clone()
                .run(self.net().clone(), me, times, self.random());
            self.spawn_connection(run);
        }
        links.insert((peer, lane), link.clone());
        link
    }

    pub(crate) fn keepalive(&self) -> Keepalive {
        let settings = self.settings();
        Keepalive {
            interval: settings.keepalive_interval,
            timeout: settings.keepalive_timeout,
        }
    }

    pub(crate) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Looks at deadlines, and keeps a source of the map.
    pub(crate) async fn tick(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            for region in self.regions() {
                region.handle_deadline(now);
            }
            self.look_after_source(now);
        }
    }

    /// A request on the control lane of a connection from a peer.
    pub(crate) fn handle_request(&self, inlet: &Arc<Inlet>, request: Request) {
        match request {
            Request::Gossip(bytes) => self.gossip(Input::Datagram(bytes)),
            Request::Digest { from, digest } => self.gossip(Input::Digest { from, digest }),
            Request::Facts(records) => self.gossip(Input::Facts(records)),
            Request::Watch { version } => {
                // Who does not decide does not answer, and the watcher looks for another.
                if let Some(engine) = self.engine() {
                    engine.add_watcher(inlet, version);
                }
            }
            Request::Has { version } => {
                if let Some(engine) = self.engine() {
                    engine.handle_has(&inlet.peer, version);
                }
            }
            Request::Call { id, call } => self.handle_call(inlet, id, call),
        }
    }

    /// What is held in buffers: a name, how much it is, and its bound.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> Vec<(&'static str, usize, usize)> {
        let members = self.map().map_or(0, |map| map.members.len());
        // Those that have just gone are forgotten with the next map.
        let peers = (members + self.seeds().len() + 8) * 3;
        let mut held = vec![
            ("links", lock(&self.links).len(), peers),
            (
                "connections",
                lock(&self.inlets)
                    .iter()
                    .filter(|inlet| inlet.strong_count() > 0)
                    .count(),
                peers * 2,
            ),
            ("calls", self.calls.waiting(), 64 + members * 8),
            (
                "calls of others",
                self.answering.load(Ordering::Relaxed),
                CALLS_MAX,
            ),
        ];
        for region in self.regions() {
            let (kept, kept_max) = region.kept();
            // What comes back from another node was accepted before, and is kept even where there
            // is no room.
            held.push(("messages without a home", kept, kept_max * 2));
        }
        if let Some(engine) = self.engine() {
            held.push(("log", engine.log_length(), 4096));
        }
        held
    }

    /// What this node knows, for whoever operates the cluster.
    pub(crate) fn inspect(&self) -> Inspection {
        let leads = self
            .engine()
            .is_some_and(|engine| engine.leads_in().is_some());
        let leader = self.engine().and_then(|engine| engine.leader());
        let leader = leader.or_else(|| self.known_leader());
        let mut said = lock(&self.said).clone();
        said.extend(
            self.said_by(&self.member())
                .map(|said| (self.member(), said)),
        );
        Inspection {
            member: self.member(),
            leader: if leads {
                Some(self.member())
            } else {
                leader.map(|leader| leader.member)
            },
            map: self.map().map(|map| (*map).clone()),
            entities: said
                .iter()
                .map(|(id, said)| (id.clone(), said.load))
                .collect(),
            roles: said
                .into_iter()
                .map(|(id, said)| (id, said.roles))
                .collect(),
            dead: self.dead(),
            serves: self.runtime.gate().is_some_and(|gate| gate.is_open()),
        }
    }

    fn handle_call(&self, inlet: &Arc<Inlet>, id: u64, call: Call) {
        let Some(me) = self.me.upgrade() else { return };
        if self.answering.fetch_add(1, Ordering::Relaxed) >= CALLS_MAX {
            self.answering.fetch_sub(1, Ordering::Relaxed);
            let reason = "too many calls at a time".to_owned();
            let answer = match call {
                Call::Raft(_) => Answer::Raft(Err(reason)),
                _ => Answer::Decided(Err(Denied::Undecided(reason))),
            };
            return respond(inlet, &Response::Answer { id, answer });
        }
        let inlet = inlet.clone();
        self.spawn(async move {
            let answer = tokio::select! {
                biased;
                () = inlet.cancel.cancelled() => None,
                answer = me.answer(call) => Some(answer),
            };
            me.answering.fetch_sub(1, Ordering::Relaxed);
            if let Some(answer) = answer {
                respond(&inlet, &Response::Answer { id, answer });
            }
        });
    }
}
