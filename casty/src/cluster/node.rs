//! One node of a cluster: its links, its copy of the map, its way in and out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    authority::{
        Authority as _, Voter,
        follow::Follower,
        raft::RaftEngine,
        respond,
        way::{AuthorityError, CALLS_MAX},
    },
    calls::Calls,
    gossip::Input,
    map_watch::MapWatch,
    region::{AnyRegion, Mesh},
    watches::Watches,
    wire::{Answer, Call, Denied, Inspection, Proposal, Request, Response},
};
use crate::{
    actor::{
        chain,
        gate::Gate,
        runtime::{ActorAddress, Carrier, Runtime},
        watch::{WatchId, Watcher},
    },
    config::{Availability, OnDown, Settings},
    error::{Failure, JoinError},
    event::{ActorPath, DeadLetterReason, Event},
    id::{CatalogEntry, ClusterIdentity, Epoch, MemberId, ShardId},
    message::{answer::Pending, codec},
    mutants,
    observe::sighted,
    protocol::{
        lease::Lease,
        map::{ClusterMap, Refused, Slot, Status},
    },
    sync::lock,
    transport::{
        connection::{Inlet, Keepalive},
        frame::EntityFrame,
        handshake::{Hello, Lane, Refusal, Welcome},
        link::{Link, LinkOwner, LinkTimes, Peer},
        net::Net,
        outbox::{LostMessage, LostTo},
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
    /// The incarnation does not come from the clock.
    pub(crate) given_incarnation: bool,
    pub(crate) on_down: OnDown,
    pub(crate) availability: Availability,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) seed: u64,
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
    identity: Mutex<Option<ClusterIdentity>>,
    former: Mutex<Option<ClusterIdentity>>,
    watch: Arc<MapWatch>,
    /// The version of the map that the regions go by.
    followed: AtomicU64,
    /// This node's part in deciding, if it has one.
    engine: Mutex<Option<Arc<RaftEngine>>>,
    /// One engine at a time is made.
    engine_making: tokio::sync::Mutex<()>,
    leader: Mutex<Option<Voter>>,
    /// Who decided when this node began to join.
    introduced: Mutex<Vec<Voter>>,
    follower: Follower,
    calls: Calls,
    answering: AtomicUsize,
    lease: Mutex<Lease>,
    /// Since when it is the one of two that is left, and does not decide.
    pub(super) alone_since: Mutex<Option<Instant>>,
    /// Members that gossip takes for dead.
    dead: Mutex<BTreeSet<MemberId>>,
    inlets: Mutex<Vec<Weak<Inlet>>>,
    links: Mutex<BTreeMap<(Peer, Lane), Arc<Link>>>,
    /// Where the members of the map are, by slot.
    slots: Mutex<BTreeMap<Slot, Peer>>,
    wanted: Mutex<BTreeSet<(u16, ShardId)>>,
    wanted_work: Notify,
    gossip: mpsc::Sender<Input>,
    loads: Mutex<BTreeMap<MemberId, u64>>,
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
            identity: Mutex::default(),
            former: Mutex::default(),
            member: ArcSwap::from_pointee(setup.member.clone()),
            session: Mutex::new(cancel.child_token()),
            watch: Arc::default(),
            followed: AtomicU64::new(0),
            engine: Mutex::default(),
            engine_making: tokio::sync::Mutex::default(),
            leader: Mutex::default(),
            introduced: Mutex::default(),
            follower: Follower::default(),
            calls: Calls::default(),
            answering: AtomicUsize::new(0),
            lease: Mutex::default(),
            alone_since: Mutex::default(),
            dead: Mutex::default(),
            inlets: Mutex::default(),
            links: Mutex::default(),
            slots: Mutex::default(),
            wanted: Mutex::default(),
            wanted_work: Notify::new(),
            gossip,
            loads: Mutex::default(),
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

    /// Says which entity types this node knows, and, unless it is a client, hosts.
    pub(crate) fn set_regions(&self, regions: Vec<Arc<dyn AnyRegion>>) {
        let catalog = regions
            .iter()
            .map(|region| region.catalog_entry())
            .collect();
        let fresh = self.catalog.set(catalog).is_ok() & self.regions.set(regions).is_ok();
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

    /// Ends what belongs to this membership.
    pub(super) fn cancel_session(&self) {
        self.session().cancel();
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
        match self.setup.address {
            Some(_) => self.catalog(),
            None => &[],
        }
    }

    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
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

    /// Takes this node out of the generation it was in. It may join a later one of the same cluster.
    pub(super) fn forget_identity(&self) {
        if let Some(identity) = lock(&self.identity).take() {
            *lock(&self.former) = Some(identity);
        }
    }

    /// The cluster, and its generation, that this process was a member of before.
    pub(crate) fn former(&self) -> Option<ClusterIdentity> {
        *lock(&self.former)
    }

    pub(crate) fn engine(&self) -> Option<Arc<RaftEngine>> {
        lock(&self.engine).clone()
    }

    /// This node's engine under this number, made if there is none.
    pub(crate) async fn engine_for(&self, number: u64) -> Result<Arc<RaftEngine>, String> {
        let _one_at_a_time = self.engine_making.lock().await;
        let number = u32::try_from(number).map_err(|error| error.to_string())?;
        match self.engine() {
            Some(engine) if engine.slot() == Slot(number) => return Ok(engine),
            // One process has one number for as long as it is one member.
            Some(engine) => return Err(format!("this is member {:?}", engine.slot())),
            None => {}
        }
        let known = self
            .map()
            .and_then(|map| Some(map.member(&self.member())?.slot));
        if known.is_some_and(|slot| slot != Slot(number)) {
            return Err(format!("this is member {known:?}"));
        }
        let (Some(me), session) = (self.me.upgrade(), self.session()) else {
            return Err("this node is shutting down".to_owned());
        };
        let engine = RaftEngine::start(&me, Slot(number)).await?;
        if session.is_cancelled() {
            engine.shutdown().await;
            return Err("this node is no member any more".to_owned());
        }
        sighted!(Numbered {
            member: self.member(),
            uuid: self
                .identity()
                .map_or(0, |identity| identity.uuid.as_u128()),
            generation: self.identity().map_or(0, |identity| identity.generation),
            number,
        });
        *lock(&self.engine) = Some(engine.clone());
        self.tasks.spawn(me.lead(engine.clone()));
        Ok(engine)
    }

    pub(super) fn drop_engine(&self) {
        *lock(&self.engine) = None;
    }

    pub(crate) fn known_leader(&self) -> Option<Voter> {
        lock(&self.leader).clone()
    }

    pub(crate) fn set_leader(&self, leader: Option<Voter>) {
        *lock(&self.leader) = leader;
    }

    /// Those who decide, as far as this node knows.
    pub(crate) fn voters(&self) -> Vec<Voter> {
        match self.map() {
            Some(map) => map.voters.iter().map(Voter::from).collect(),
            None => lock(&self.introduced).clone(),
        }
    }

    /// Whom a seed named as those who decide.
    pub(crate) fn set_introduced(&self, voters: Vec<Voter>) {
        *lock(&self.introduced) = voters;
    }

    pub(crate) fn follower(&self) -> &Follower {
        &self.follower
    }

    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    pub(super) fn lease(&self) -> std::sync::MutexGuard<'_, Lease> {
        lock(&self.lease)
    }

    /// The version of the map that the regions go by.
    pub(super) fn followed(&self) -> u64 {
        self.followed.load(Ordering::Acquire)
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
        self.watch.poke();
    }

    pub(crate) fn failure(&self) -> Option<JoinError> {
        lock(&self.failed).clone()
    }

    /// Entities alive here.
    pub(crate) fn load(&self) -> u64 {
        self.regions().iter().map(|region| region.active()).sum()
    }

    pub(crate) fn set_loads(&self, loads: BTreeMap<MemberId, u64>) {
        *lock(&self.loads) = loads;
    }

    /// What members said about their load.
    pub(crate) fn load_of(&self, member: &MemberId) -> Option<u64> {
        if self.is_me(member) {
            return Some(self.load());
        }
        lock(&self.loads).get(member).copied()
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
            self.tasks.spawn(run);
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

    /// Follows the map: homes, links, events.
    pub(crate) async fn follow_map(self: Arc<Self>) {
        let mut seen: Option<Arc<ClusterMap>> = None;
        loop {
            let version = seen.as_ref().map_or(0, |map| map.version);
            let next = self
                .watch
                .wait(|map| map.filter(|map| map.version > version).cloned());
            let map = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                map = next => map,
            };
            self.handle_map(seen.as_deref(), &map);
            self.followed.store(map.version, Ordering::Release);
            self.look_at_lease();
            seen = Some(map);
        }
    }

    fn handle_map(&self, before: Option<&ClusterMap>, map: &ClusterMap) {
        let peer = |id: &MemberId, address| Peer {
            address,
            member: Some(id.clone()),
        };
        *lock(&self.slots) = map
            .members
            .iter()
            .filter(|(_, m)| m.status != Status::Down)
            .map(|(id, m)| (m.slot, peer(id, m.address)))
            .collect();
        let me = self.member();
        let mine = map.member(&me).filter(|m| m.status != Status::Down);
        let was_member = before.is_some_and(|before| before.member(&me).is_some());
        let is_down = mine.is_none() && (was_member || map.member(&me).is_some());
        if is_down {
            // Before anything else: what is here may be somewhere else already.
            self.runtime.close_gate();
        }
        let slot = mine.map(|member| member.slot);
        for region in self.regions() {
            region.handle_map(map, slot);
        }
        self.drop_links(map);
        self.tell_of_members(before, map);
        if is_down && !self.is_leaving() {
            self.handle_down();
        }
        self.hand_over(map, slot);
    }

    /// Ends the links to processes that are no members any more.
    fn drop_links(&self, map: &ClusterMap) {
        let gone = |member: &MemberId| map.status(member).is_none_or(|s| s == Status::Down);
        let mut dropped = Vec::new();
        lock(&self.links).retain(|(peer, _), link| {
            let keep = peer.member.as_ref().is_none_or(|member| !gone(member));
            if !keep {
                dropped.push(link.clone());
            }
            keep
        });
        // Nor is anything heard from who is Down.
        let is_down = |peer: &MemberId| map.status(peer) == Some(Status::Down);
        self.cut(|peer| is_down(peer) && !mutants::on("the_dead_may_renew"));
        for link in dropped {
            let down = link
                .peer
                .member
                .as_ref()
                .and_then(|member| map.status(member));
            let reason = "it is no member of the cluster any more";
            match down {
                Some(_) => link.kill(reason),
                None => link.retire(reason),
            }
        }
    }

    fn tell_of_members(&self, before: Option<&ClusterMap>, map: &ClusterMap) {
        let was = |id: &MemberId| before.and_then(|before| before.status(id));
        for id in map.up().filter(|id| was(id) != Some(Status::Up)) {
            tracing::info!(member = %id, "up");
            self.runtime.publish(|| Event::MemberUp(id.clone()));
        }
        let present = before.into_iter().flat_map(|before| before.members.iter());
        for (id, member) in present.filter(|(_, member)| member.status != Status::Down) {
            if member.status != Status::Joining
                && map.status(id).is_none_or(|status| status == Status::Down)
            {
                tracing::info!(member = %id, "left");
                self.runtime.publish(|| Event::MemberLeft(id.clone()));
            }
        }
    }

    /// Finds homes for shards that somebody waits for.
    pub(crate) async fn resolve_shards(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                () = self.wanted_work.notified() => {}
            }
            let wanted = std::mem::take(&mut *lock(&self.wanted));
            let mut by_kind = BTreeMap::<u16, Vec<ShardId>>::new();
            for (kind, shard) in wanted {
                by_kind.entry(kind).or_default().push(shard);
            }
            let mut failed = false;
            for (kind, shards) in by_kind {
                let Some(region) = self.regions().get(usize::from(kind)) else {
                    continue;
                };
                let proposal = Proposal::Allocate {
                    kind: region.name().to_owned(),
                    shards: shards.clone(),
                };
                match self.propose(proposal).await {
                    Ok(version) => self.follower.handle_version(version),
                    Err(AuthorityError::Refused(Refused::UnknownKind(name))) => {
                        region.handle_no_home(&shards, &Failure::UnknownEntity { name });
                    }
                    Err(error) => {
                        tracing::debug!(kind = region.name(), %error, "no home yet");
                        failed = true;
                    }
                }
            }
            if failed || self.anybody_waits() {
                // Not decided, or decided and not heard of yet, or still owned by somebody who is leaving. What
                // waits has a deadline of its own; until then it is asked for again.
                tokio::select! {
                    biased;
                    () = self.cancel.cancelled() => return,
                    () = tokio::time::sleep(TICK) => {}
                }
                self.want_again();
            }
        }
    }

    fn anybody_waits(&self) -> bool {
        self.regions()
            .iter()
            .any(|region| !region.waiting().is_empty())
    }

    fn want_again(&self) {
        let mut wanted = lock(&self.wanted);
        for (kind, region) in (0..).zip(self.regions()) {
            wanted.extend(region.waiting().into_iter().map(|shard| (kind, shard)));
        }
        if !wanted.is_empty() {
            self.wanted_work.notify_one();
        }
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
            self.look_whether_alone(now);
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
            // What comes back from another node was accepted before, and is kept even where there is no room.
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
        Inspection {
            member: self.member(),
            leader: if leads {
                Some(self.member())
            } else {
                leader.map(|leader| leader.member)
            },
            map: self.map().map(|map| (*map).clone()),
            entities: lock(&self.loads)
                .iter()
                .map(|(member, load)| (member.clone(), *load))
                .chain([(self.member(), self.load())])
                .collect(),
            dead: self.dead(),
            serves: self.runtime.gate().is_some_and(Gate::is_open),
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
        self.tasks.spawn(async move {
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

impl Mesh for Node {
    fn messages_to(&self, member: Slot) -> Option<Arc<Link>> {
        let peer = lock(&self.slots).get(&member).cloned()?;
        Some(self.link(peer, Lane::Messages))
    }

    fn resolve(&self, kind: u16, shard: ShardId) {
        lock(&self.wanted).insert((kind, shard));
        self.wanted_work.notify_one();
    }
}

impl Carrier for Node {
    fn try_carry(
        &self,
        to: &ActorAddress,
        chain: &[u8],
        payload: &[u8],
        is_ask: bool,
        pending: &mut dyn FnMut() -> Option<Box<dyn Pending>>,
    ) -> Result<(), Failure> {
        self.carry_to(to, chain, payload, is_ask, pending)
    }

    fn room(&self, to: &ActorAddress) -> BoxFuture<'static, ()> {
        let link = self.actor_link(to);
        Box::pin(async move { link.room().await })
    }

    fn watch(&self, who: &Arc<ActorAddress>, watcher: Watcher) {
        if let Some(me) = self.me.upgrade() {
            me.watch_actor(who, watcher);
        }
    }

    fn unwatch(&self, who: &Arc<ActorAddress>, watch: WatchId) {
        self.unwatch_actor(who, watch);
    }
}

impl Node {
    pub(super) fn carry_to(
        &self,
        to: &ActorAddress,
        chain: &[u8],
        payload: &[u8],
        is_ask: bool,
        pending: &mut dyn FnMut() -> Option<Box<dyn Pending>>,
    ) -> Result<(), Failure> {
        if !chain::may_act() {
            return Err(Failure::NoQuorum);
        }
        self.check_peer(&to.member)?;
        self.actor_link(to)
            .send_actor(to.actor, chain, payload, is_ask, pending)
    }

    fn actor_link(&self, to: &ActorAddress) -> Arc<Link> {
        let peer = Peer {
            address: to.address,
            member: Some(to.member.clone()),
        };
        self.link(peer, Lane::Messages)
    }

    /// A process that is no member any more is not dialed: its actors are gone.
    fn check_peer(&self, member: &MemberId) -> Result<(), Failure> {
        if self.is_me(member) {
            return Err(Failure::Stopped);
        }
        match self.map() {
            Some(map) if map.status(member).is_none_or(|s| s == Status::Down) => {
                Err(Failure::Unreachable {
                    node: member.node.to_string(),
                    reason: "it is no member of the cluster any more".to_owned(),
                    maybe_handled: false,
                })
            }
            _ => Ok(()),
        }
    }
}

impl LinkOwner for Node {
    fn hello(&self, lane: Lane, to: Option<&MemberId>) -> Hello {
        Hello {
            cluster: self.setup.cluster.clone(),
            identity: self.identity(),
            member: self.member(),
            address: self.address(),
            lane,
            catalog: self.catalog().to_vec(),
            to: to.cloned(),
        }
    }

    fn connected(&self, link: &Arc<Link>, _: &Welcome) {
        self.source_connected(link);
    }

    fn disconnected(&self, link: &Arc<Link>, reason: &str) {
        self.calls.disconnected(link, reason);
    }

    fn refused(&self, refusal: &Refusal) {
        let over = match refusal {
            Refusal::Down(member) => self.is_me(member),
            // The cluster was reborn without this node.
            Refusal::Generation { ours, theirs } => ours < theirs,
            _ => false,
        };
        if over && self.map().is_some() && !self.is_leaving() {
            self.handle_down();
        }
    }

    fn control(&self, link: &Arc<Link>, payload: &[u8]) -> Result<(), String> {
        let response: Response = codec::decode(payload).map_err(|error| error.to_string())?;
        self.handle_news(link, response);
        Ok(())
    }

    fn bounced(
        &self,
        _: &Arc<Link>,
        epoch: u64,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        if let Some(region) = self.regions().get(usize::from(frame.kind)) {
            region.bounced(Epoch(epoch), frame, buffer, pending);
        }
    }

    fn dead_letter(&self, message: LostMessage, reason: DeadLetterReason) {
        let path = match message.to {
            LostTo::Entity { kind, id } => ActorPath {
                kind: self
                    .catalog()
                    .get(usize::from(kind))
                    .map_or_else(|| "?".to_owned(), |entry| entry.name.clone()),
                id: id.to_string(),
            },
            LostTo::Actor(actor) => ActorPath {
                kind: "actor".to_owned(),
                id: actor.to_string(),
            },
        };
        self.runtime.dead_letter(path, &message.message, reason);
    }
}
