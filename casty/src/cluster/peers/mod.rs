//! The connections of one process: links to its peers, connections from them, and calls.
//!
//! This is all that a node, a client and an `Admin` have in common. Nothing
//! here knows the cluster map. What arrives on a link and is not the answer to a call goes to
//! [`PeerEvents`].

pub(crate) mod access;
pub(crate) mod calls;
pub(crate) mod overview;
pub(crate) mod reads;
pub(crate) mod remote_actors;
pub(crate) mod rights;
pub(crate) mod wire;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use self::{
    calls::{Answering, CallError, Calls},
    wire::{Answer, Call, MapNews, Response},
};
use crate::{
    cluster::{
        locks::Rank,
        process::{Job, Process},
    },
    event::{ActorPath, DeadLetterReason},
    id::{CatalogEntry, ClusterIdentity, Epoch, MemberId, Seeker, SeekerState, Voter},
    infra::{
        cancel::unless,
        log_limit::LogLimit,
        printable::Printable,
        sync::{Ranked, lock},
        timer_thread::TimerThread,
    },
    message::{
        answer::Pending,
        codec::{self, DecodeError},
    },
    transport::{
        connection::{ConnectionEnd, Inlet, Keepalive},
        dial::dial,
        frame::EntityFrame,
        handshake::{HandshakeError, HandshakeRefusal, Hello, Lane, SharedSettings, Welcome},
        lane_meter::{LANES, LaneMeter},
        link::{Link, LinkOwner, LinkTimes, Peer},
        net::{Net, Target},
        outbox::{LargeReplies, LostMessage, LostTo},
    },
};

/// The events of links, for the owner of the [`Peers`].
pub(crate) trait PeerEvents: Send + Sync {
    /// A connection of a link stands.
    fn connected(&self, link: &Arc<Link>);

    /// The peer does not let this process in.
    fn refused(&self, link: &Arc<Link>, refusal: &HandshakeRefusal);

    /// News of the cluster map.
    fn news(&self, link: &Arc<Link>, news: MapNews);

    /// The peer did not take a message for an entity.
    fn bounced(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    );
}

/// This process as its peers know it: one incarnation.
pub(crate) struct LocalMember {
    pub(crate) member: MemberId,
    /// The address for peers; `None` for a process that hosts nothing.
    address: Option<SocketAddr>,
    identity: Ranked<Option<ClusterIdentity>>,
    keeps_seat: AtomicBool,
    /// What it tells of itself while it may found a cluster.
    seeking: Ranked<Option<SeekerState>>,
}

impl LocalMember {
    pub(crate) fn new(member: MemberId, address: Option<SocketAddr>) -> Self {
        Self {
            member,
            address,
            identity: Rank::Identity.mutex(None),
            keeps_seat: AtomicBool::new(false),
            seeking: Rank::Seeking.mutex(None),
        }
    }

    /// What this process says of itself while it may found a cluster.
    pub(crate) fn seeker(&self) -> Option<Seeker> {
        let SeekerState { known, vote } = self.seeking.lock().clone()?;
        Some(Seeker {
            address: self.address?,
            known,
            vote,
        })
    }

    /// What this process tells as a seeker; `None` once it founds no cluster any more.
    pub(crate) fn set_seeking(&self, told: Option<SeekerState>) {
        *self.seeking.lock() = told;
    }

    /// The cluster that it is in, or is about to join.
    pub(crate) fn identity(&self) -> Option<ClusterIdentity> {
        *self.identity.lock()
    }

    pub(crate) fn set_identity(&self, identity: ClusterIdentity) {
        *self.identity.lock() = Some(identity);
    }

    /// Whether this process keeps the seat of the previous process, with all that was decided and
    /// voted there.
    pub(crate) fn keeps_seat(&self) -> bool {
        self.keeps_seat.load(Ordering::SeqCst)
    }

    pub(crate) fn set_keeps_seat(&self) {
        self.keeps_seat.store(true, Ordering::SeqCst);
    }

    /// Whether it hosts anything.
    pub(crate) const fn is_node(&self) -> bool {
        self.address.is_some()
    }

    /// This process as a voter; `None` for a process that hosts nothing.
    pub(crate) fn as_voter(&self) -> Option<Voter> {
        Some(Voter {
            member: self.member.clone(),
            address: self.address?,
        })
    }
}

/// The setup of the connections; fixed at the start.
pub(crate) struct PeersSetup {
    pub(crate) cluster: String,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) times: LinkTimes,
    /// Of a node.
    pub(crate) shared: Option<SharedSettings>,
}

/// Set once, when all of the node is there.
struct Served {
    catalog: Vec<CatalogEntry>,
    events: Weak<dyn PeerEvents>,
}

/// The connections of one process.
pub(crate) struct Peers {
    me: Weak<Self>,
    pub(crate) setup: PeersSetup,
    process: Arc<Process>,
    local: ArcSwap<LocalMember>,
    served: OnceLock<Served>,
    links: Ranked<BTreeMap<(Peer, Lane), Arc<Link>>>,
    /// What is counted of links, by lane.
    lanes: [Arc<LaneMeter>; LANES.len()],
    inlets: Ranked<Vec<Weak<Inlet>>>,
    large_replies: LargeReplies,
    calls: Calls,
    /// Lines of the log about connections that were cut.
    cuts: Mutex<LogLimit>,
    /// And about those that were refused.
    refusals: Mutex<LogLimit>,
    /// And about messages that cannot be read.
    unreadable: Mutex<LogLimit>,
    /// And about other versions of entity types.
    versions: Mutex<LogLimit>,
}

/// How often a process logs that it has cut a connection.
const CUT_LINES_EVERY: Duration = Duration::from_secs(10);

/// How often it logs that it has refused a connection: a stranger can dial as often as it likes.
const REFUSED_LINES_EVERY: Duration = Duration::from_millis(100);

impl Peers {
    pub(crate) fn new(
        setup: PeersSetup,
        process: Arc<Process>,
        local: Arc<LocalMember>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            setup,
            process,
            local: ArcSwap::new(local),
            served: OnceLock::new(),
            links: Rank::Links.mutex(BTreeMap::new()),
            lanes: std::array::from_fn(|_| Arc::default()),
            inlets: Rank::Inlets.mutex(Vec::new()),
            large_replies: LargeReplies::default(),
            calls: Calls::default(),
            cuts: Mutex::new(LogLimit::new(CUT_LINES_EVERY)),
            refusals: Mutex::new(LogLimit::new(REFUSED_LINES_EVERY)),
            unreadable: Mutex::new(LogLimit::new(REFUSED_LINES_EVERY)),
            versions: Mutex::new(LogLimit::new(REFUSED_LINES_EVERY)),
        })
    }

    /// Sets the entity types that this process knows, and the receiver of events. An `Admin` does
    /// not call this: it knows no types, and drops frames that it did not ask for.
    pub(crate) fn serve(&self, catalog: Vec<CatalogEntry>, events: Weak<dyn PeerEvents>) {
        let fresh = self.served.set(Served { catalog, events }).is_ok();
        assert!(fresh, "peers are served once, at start");
    }

    /// The entity types that this process knows; their order numbers them in frames.
    pub(crate) fn catalog(&self) -> &[CatalogEntry] {
        self.served.get().map_or(&[], |served| &served.catalog)
    }

    fn events(&self) -> Option<Arc<dyn PeerEvents>> {
        self.served.get()?.events.upgrade()
    }

    /// This process as it presents itself.
    pub(crate) fn local(&self) -> Arc<LocalMember> {
        self.local.load_full()
    }

    pub(crate) fn is_me(&self, member: &MemberId) -> bool {
        self.local.load().member == *member
    }

    /// Ends all connections, which belonged to another incarnation. New connections belong to this
    /// one.
    pub(crate) fn begin_as(&self, local: Arc<LocalMember>) {
        let links = std::mem::take(&mut *self.links.lock());
        for link in links.into_values() {
            link.kill("this node begins anew");
        }
        self.cut(|_| true);
        self.local.store(local);
    }

    /// The addresses of a name.
    pub(crate) async fn resolve(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        self.setup.net.resolve(name).await
    }

    /// Asks the process at an address for its cluster, and whether it lets this process in.
    pub(crate) async fn greet(
        &self,
        address: SocketAddr,
        limit: Duration,
    ) -> Result<Welcome, HandshakeError> {
        let hello = || self.hello(Lane::Control, None);
        let target = Target {
            address,
            // Any node may listen there.
            expected: None,
        };
        let dialed = dial(&*self.setup.net, &target, hello, limit).await?;
        Ok(dialed.welcome)
    }

    /// The link to a peer, made on first use.
    pub(crate) fn link(&self, peer: Peer, lane: Lane) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&(peer.clone(), lane)) {
            return link.clone();
        }
        let meter = self.lanes[lane as usize].clone();
        let cancel = self.process.cancel.child_token();
        let link = Link::new(peer.clone(), lane, meter, cancel);
        if let Some(me) = self.me.upgrade() {
            let (net, times) = (self.setup.net.clone(), self.setup.times);
            let run = link.clone().run(net, me, times, self.process.random());
            self.process.spawn_connection(run);
        }
        links.insert((peer, lane), link.clone());
        link
    }

    /// Forgets the links to some processes, and returns them.
    pub(crate) fn take_links(&self, to: impl Fn(&MemberId) -> bool) -> Vec<Arc<Link>> {
        let mut links = self.links.lock();
        let taken = links.extract_if(.., |(peer, _), _| peer.member.as_ref().is_some_and(&to));
        taken.map(|(_, link)| link).collect()
    }

    /// Remembers an accepted connection, so that it can be cut.
    pub(crate) fn add_inlet(&self, inlet: &Arc<Inlet>) {
        let mut inlets = self.inlets.lock();
        inlets.retain(|inlet| inlet.strong_count() > 0);
        inlets.push(Arc::downgrade(inlet));
        inlet.outbox.count_in(self.large_replies.clone());
    }

    /// Cuts the accepted connections of some peers.
    pub(crate) fn cut(&self, whose: impl Fn(&MemberId) -> bool) {
        let inlets: Vec<_> = {
            let inlets = self.inlets.lock();
            inlets.iter().filter_map(Weak::upgrade).collect()
        };
        for inlet in inlets.iter().filter(|inlet| whose(&inlet.peer)) {
            inlet.cancel.cancel();
        }
    }

    /// Asks a peer something.
    ///
    /// # Cancel safety
    /// Dropped, the question may have been asked all the same.
    pub(crate) async fn call(
        &self,
        peer: &Peer,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        self.call_on(Lane::Control, peer, call, limit).await
    }

    /// The same, on another lane: the control lane never waits behind anything large.
    pub(crate) async fn call_on(
        &self,
        lane: Lane,
        peer: &Peer,
        call: Call,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let link = self.link(peer.clone(), lane);
        self.calls.ask(link, call, limit).await
    }

    /// Begins to work on a peer's call. `None` if there are too many already.
    pub(crate) fn begin_answer(&self, inlet: &Inlet) -> Option<Answering> {
        self.calls.begin_answer(&inlet.calls)
    }

    pub(crate) fn keepalive(&self) -> Keepalive {
        self.setup.times.keepalive
    }

    /// Logs that a connection to this process was refused.
    pub(crate) fn tell_of_refused(&self, from: SocketAddr, error: &HandshakeError) {
        let admitted = lock(&self.refusals).admit(Instant::now());
        if let Some(left_out) = admitted {
            tracing::warn!(%from, %error, left_out, "a connection was refused");
        }
    }

    /// Logs that a peer sent what cannot be decoded. The reason may repeat bytes of the peer.
    pub(crate) fn tell_of_unreadable(&self, peer: &MemberId, lane: Lane, error: &dyn fmt::Display) {
        let admitted = lock(&self.unreadable).admit(Instant::now());
        if let Some(left_out) = admitted {
            let error = error.to_string();
            let error = Printable(&error);
            tracing::warn!(%peer, ?lane, %error, left_out, "a message of a peer cannot be read");
        }
    }

    /// Logs that a peer has other versions of these entity types.
    pub(crate) fn tell_of_versions(&self, peer: &MemberId, kinds: &[&CatalogEntry]) {
        let admitted = lock(&self.versions).admit(Instant::now());
        if let Some(left_out) = admitted {
            let kinds: Vec<_> = kinds.iter().map(|kind| &*kind.name).collect();
            let kinds = kinds.join(", ");
            tracing::info!(%peer, kinds, left_out, "the peer runs other versions of entity types");
        }
    }

    /// Reads certificates again every now and then, for as long as the process runs.
    pub(crate) fn begin_upkeep(&self) {
        if let Some(upkeep) = self.setup.net.upkeep() {
            let cancel = self.process.cancel.clone();
            self.process.spawn(Job::Upkeep, async move {
                unless(&cancel, upkeep).await;
            });
        }
    }

    /// Reads certificates again now.
    pub(crate) fn read_certificates_again(&self) {
        self.setup.net.read_again();
    }

    /// When the certificate of this process ends, since the Unix epoch.
    pub(crate) fn certificate_until(&self) -> Option<Duration> {
        self.setup.net.certificate_until()
    }

    /// What is counted of the links of each lane: their name, the bytes that were written, the
    /// connections that were made, and those that have ended.
    #[cfg(feature = "metrics")]
    pub(crate) fn lanes(&self) -> impl Iterator<Item = (&'static str, [u64; 3])> {
        let lanes = LANES.iter().zip(&self.lanes);
        lanes.map(|((_, name), meter)| (*name, meter.read()))
    }

    /// How many links, accepted connections, calls, and calls of peers there are.
    #[cfg(feature = "sim")]
    pub(crate) fn held(&self) -> [usize; 4] {
        let links = self.links.lock().len();
        let inlets = self.inlets.lock();
        let inlets = inlets.iter().filter(|inlet| inlet.strong_count() > 0);
        [
            links,
            inlets.count(),
            self.calls.waiting(),
            self.calls.answering(),
        ]
    }
}

impl LinkOwner for Peers {
    fn timer_thread(&self) -> &TimerThread {
        self.process.runtime.upkeep()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.process.spawn_connection(task);
    }

    fn hello(&self, lane: Lane, to: Option<&MemberId>) -> Hello {
        let local = self.local.load();
        Hello {
            cluster: self.setup.cluster.clone(),
            identity: local.identity(),
            member: local.member.clone(),
            address: local.address,
            lane,
            keeps_seat: local.keeps_seat(),
            catalog: self.catalog().to_vec(),
            to: to.cloned(),
            settings: self.setup.shared.clone(),
        }
    }

    fn connected(&self, link: &Arc<Link>, _: &Welcome) {
        if let Some(events) = self.events() {
            events.connected(link);
        }
    }

    fn disconnected(&self, link: &Arc<Link>, reason: &str) {
        self.calls.disconnected(link, reason);
    }

    fn cut_for(&self, peer: &dyn fmt::Display, lane: Lane, end: &ConnectionEnd) {
        // Bound first: the lock is not held while a line is written.
        let admitted = lock(&self.cuts).admit(Instant::now());
        if let Some(left_out) = admitted {
            tracing::warn!(%peer, ?lane, %end, left_out, "connection cut; the node at its other end dials again");
        }
    }

    fn refused(&self, link: &Arc<Link>, refusal: &HandshakeRefusal) {
        if let Some(events) = self.events() {
            events.refused(link, refusal);
        }
    }

    fn control(&self, link: &Arc<Link>, payload: &[u8]) -> Result<(), String> {
        let response: Result<Response, DecodeError> = codec::decode(payload);
        let news = match response.map_err(|error| error.to_string())? {
            Response::Answer { id, answer } => {
                self.calls.answered(id, answer);
                return Ok(());
            }
            Response::Map(map) => MapNews::Map(map),
            Response::Changes(changes) => MapNews::Changes(changes),
        };
        if let Some(events) = self.events() {
            events.news(link, news);
        }
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
        if let Some(events) = self.events() {
            events.bounced(Epoch(epoch), frame, buffer, pending);
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
        let runtime = &self.process.runtime;
        runtime.dead_letter(path, &message.message, reason);
    }
}
