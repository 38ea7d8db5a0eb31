//! The view of a cluster from outside, and its operation: `casty members` and the other commands,
//! as functions.
//!
//! An [`Admin`] is no member and hosts nothing. It asks nodes directly for what they know, so it
//! also works when the cluster has no leader, and then it is needed most. A member decides each
//! change that it asks for: the leader decides a drain, and the node that is to go on decides a
//! recovery.
//!
//! ```
//! use casty::{admin::Admin, prelude::*};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = ActorSystem::builder("shop").node_id("node-1").start().await?;
//! node.wait_for(1).await?;
//!
//! let admin = Admin::connect("shop", [node.address()]).await?;
//! let members = admin.members().await?;
//! assert_eq!(members.members[0].id.node.as_str(), "node-1");
//! assert!(members.members[0].votes);
//! # node.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod backup;
mod directory;
mod error;
mod lost;
mod outbox;
mod overview;
mod recorder;
mod records;
mod reminders;
mod report;
pub(crate) mod view;
mod why;

use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use self::view::{Answered, View};
pub use self::{
    backup::{BackupError, BackupProgress, BackupSummary, restore},
    directory::adopt_directory,
    error::{AdminError, Unreached},
    lost::{BeginFrom, BegunAnew, BegunShard, GoneNode, LostKind, LostShard, LostShards, OldCopy},
    outbox::{GivenUp, GivenUpReport, OutboxReport, ReceiverReport},
    recorder::RecorderReport,
    records::{EventReport, RecordPages, RecordReport, StateReport},
    reminders::{ReminderReport, RemindersReport},
    report::{
        CopiesReport, DrainProgress, Drained, HomeReport, KindReport, MapVersion, MemberReport,
        Members, Outsider, Recovered, ShardCopiesReport, ShardHomes, ShardTotals, StayingShard,
    },
};
#[cfg(feature = "tls")]
use crate::transport::{
    identity::PeerRole,
    tls::{Below, Tls, TlsNet},
};
pub use crate::{
    actor::cell::report::Activity,
    cluster::{
        peers::overview::{BusyEntity, DurationRange, NodeOverview, TypeCounts, TypeOverview},
        reading::{
            findings::{Finding, Severity},
            overview::{Overview, SilentNode, TypeSummary},
            why::{Why, WhyAsk, WhyEnd, WhyFailure, WhyHandling, WhyMove, WhyStep},
        },
    },
};
use crate::{
    actor::runtime::Runtime,
    cluster::{
        authority::{
            leader_client::{LeaderClient, SearchTimes},
            voters::{Trust, Voters},
        },
        peers::{
            LocalMember, Peers, PeersSetup,
            calls::CallError,
            wire::{Answer, Call, Inspection, Proposal},
        },
        process::Process,
    },
    config::Settings,
    id::{Incarnation, MemberId, NodeId, Voter},
    infra::{
        boxed::{Boxed, boxed},
        sync::lock,
    },
    protocol::{
        leader_client::LeaderError,
        map::{Command, MapError, Status},
    },
    system::fresh_seed,
    transport::{
        connection::Keepalive,
        handshake::{HandshakeError, HandshakeRefusal},
        link::{LinkTimes, Peer},
        net::{Net, Tcp},
    },
};

/// The limit of one round of questions, unless the caller sets another.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The limit of a round while a call waits for a change: otherwise a silent node would hold up the
/// news of the others.
const ROUND: Duration = Duration::from_secs(1);

/// How long a promotion or a recovery waits for a further node once one has answered: a frozen node
/// would hold it up, and is named instead.
const SILENCE: Duration = Duration::from_secs(2);

/// The pause between two such rounds.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a drain may take to be decided, however short its wait.
const DECIDE_MIN: Duration = Duration::from_secs(2);

/// The longest wait, short enough to be added to any time.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// The limit of a recovery. The node first looks for a leader, for its `decide_timeout`, and then
/// waits until every lease is over; with [`Settings::patient`] that is twenty seconds, and forty
/// with a tie-breaker.
const RECOVER_LIMIT: Duration = Duration::from_mins(1);

/// An operator's connection to a cluster. See the [module](self).
///
/// The names of the nodes are resolved once: make another `Admin` after the nodes have moved.
/// Dropped, it closes its connections.
pub struct Admin {
    peers: Arc<Peers>,
    timeout: Duration,
    /// The addresses that the operator gave.
    given: BTreeSet<SocketAddr>,
    known: Mutex<Known>,
    _stop: DropGuard,
}

/// Why a node was asked in vain.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Late(CallError),
    #[error(transparent)]
    Unreachable(CallError),
    #[error("it has too much to do")]
    Busy,
}

/// The knowledge from earlier rounds.
#[derive(Default)]
struct Known {
    cluster: Option<Uuid>,
    /// The addresses of the members of the last map.
    addresses: BTreeSet<SocketAddr>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("cluster", &self.peers.setup.cluster)
            .field("nodes", &self.given)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Connects to the cluster `cluster` through some of its nodes, each `host:port`. One node that
    /// answers is enough: it knows the others. A round of questions takes five seconds at most.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`], [`AdminError::OtherCluster`], [`AdminError::NoNodes`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect(
        cluster: impl Into<String>,
        nodes: impl IntoIterator<Item = impl ToString>,
    ) -> Result<Self, AdminError> {
        Self::connect_within(TIMEOUT, cluster, nodes).await
    }

    /// The same, with another limit for a round of questions: this one, and those of every later
    /// operation.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connect_within(
        timeout: Duration,
        cluster: impl Into<String>,
        nodes: impl IntoIterator<Item = impl ToString>,
    ) -> Result<Self, AdminError> {
        let nodes = nodes.into_iter().map(|node| node.to_string()).collect();
        Self::connecting(Arc::new(Tcp), timeout.min(LONGEST), cluster.into(), nodes).await
    }

    /// The same, with the certificate of this operator, `casty://CLUSTER/operator/NAME`. See
    /// [`tls`](crate::tls).
    ///
    /// # Errors
    /// As for [`connect`](Self::connect); and [`AdminError::Tls`] for files that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Safe.
    #[cfg(feature = "tls")]
    pub async fn connect_tls_within(
        timeout: Duration,
        cluster: impl Into<String>,
        nodes: impl IntoIterator<Item = impl ToString>,
        tls: Tls,
    ) -> Result<Self, AdminError> {
        let cluster = cluster.into();
        let nodes = nodes.into_iter().map(|node| node.to_string()).collect();
        let below = Below {
            net: Arc::new(Tcp),
            is_simulated: false,
        };
        let net = TlsNet::new(below, tls, &cluster, PeerRole::Operator).map_err(|error| {
            AdminError::Tls {
                reason: error.to_string(),
            }
        })?;
        Self::connecting(Arc::new(net), timeout.min(LONGEST), cluster, nodes).await
    }

    fn connecting(
        net: Arc<dyn Net>,
        timeout: Duration,
        cluster: String,
        nodes: Vec<String>,
    ) -> Boxed<'static, Result<Self, AdminError>> {
        boxed(async move {
            Self::assemble(net, fresh_seed(), timeout, cluster)
                .reach(nodes)
                .await
        })
    }

    /// [`connect`](Self::connect), over another network than TCP. All randomness comes from `seed`.
    #[cfg(feature = "sim")]
    pub(crate) async fn connect_over(
        net: Arc<dyn Net>,
        seed: u64,
        cluster: String,
        nodes: Vec<String>,
    ) -> Result<Self, AdminError> {
        Self::assemble(net, seed, TIMEOUT, cluster)
            .reach(nodes)
            .await
    }

    async fn reach(self, nodes: Vec<String>) -> Result<Self, AdminError> {
        if nodes.is_empty() {
            return Err(AdminError::NoNodes);
        }
        let timeout = self.timeout;
        let mut admin = self;
        let until = Instant::now() + timeout;
        // A name server that is silent must leave time to ask the nodes whose addresses are known.
        let half = until - timeout / 2;
        let resolving = nodes.iter().map(|name| admin.resolve(name, half));
        let mut tried = Vec::new();
        for resolved in join_all(resolving).await {
            match resolved {
                Ok(addresses) => admin.given.extend(addresses),
                Err(unreached) => tried.push(unreached),
            }
        }
        let greeting = admin
            .given
            .iter()
            .map(|address| admin.greet(*address, until));
        let mut greeting: FuturesUnordered<_> = greeting.collect();
        let mut other = None;
        while let Some(greeted) = greeting.next().await {
            match greeted {
                // The others need not be waited for.
                Ok(()) => {
                    drop(greeting);
                    return Ok(admin);
                }
                Err((
                    node,
                    HandshakeError::Refused(HandshakeRefusal::ClusterName { theirs, .. }),
                )) => {
                    other = other.or(Some((node, theirs)));
                }
                Err((node, error)) => tried.push(Unreached {
                    node: node.to_string(),
                    reason: error.to_string(),
                }),
            }
        }
        if let Some((node, theirs)) = other {
            let asked = admin.peers.setup.cluster.clone();
            return Err(AdminError::OtherCluster {
                node,
                asked,
                theirs,
            });
        }
        tried.sort_by(|a, b| a.node.cmp(&b.node));
        Err(AdminError::Unreachable { tried })
    }

    /// Peers without an entity type, that join nothing: they can only ask.
    fn assemble(net: Arc<dyn Net>, seed: u64, timeout: Duration, cluster: String) -> Self {
        let member = MemberId {
            node: NodeId::new(format!("admin-{seed:016x}")),
            incarnation: Incarnation::now(),
        };
        let local = Arc::new(LocalMember::new(member, None));
        let (peers, stop) = peers_outside(net, seed, timeout, cluster, local);
        Self {
            peers,
            timeout,
            given: BTreeSet::new(),
            known: Mutex::default(),
            _stop: stop,
        }
    }

    async fn resolve(&self, name: &str, until: Instant) -> Result<Vec<SocketAddr>, Unreached> {
        let resolving = tokio::time::timeout_at(until, self.peers.resolve(name)).await;
        let reason = match resolving {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => "the name has no address".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the name was not resolved in time".to_owned(),
        };
        Err(Unreached {
            node: name.to_owned(),
            reason,
        })
    }

    /// Whether a node lets this process in. Calls would tell so only in words.
    async fn greet(
        &self,
        address: SocketAddr,
        until: Instant,
    ) -> Result<(), (SocketAddr, HandshakeError)> {
        let limit = until.saturating_duration_since(Instant::now());
        let greeted = self.peers.greet(address, limit).await;
        greeted.map(drop).map_err(|error| (address, error))
    }

    /// Asks the given nodes and the members that they name, and waits for the last answer, for
    /// `limit` at most.
    fn look(&self, limit: Duration) -> Boxed<'_, Result<View, AdminError>> {
        boxed(self.look_around(limit, limit))
    }

    /// The same. A node that does not answer within `silence` of the last answer is not waited for.
    fn glance(&self, limit: Duration, silence: Duration) -> Boxed<'_, Result<View, AdminError>> {
        boxed(self.look_around(limit, silence))
    }

    async fn look_around(&self, limit: Duration, silence: Duration) -> Result<View, AdminError> {
        let until = Instant::now() + limit;
        let mut next = self.given.clone();
        next.extend(&lock(&self.known).addresses);
        let mut asked = BTreeSet::new();
        let mut asking = FuturesUnordered::new();
        let (mut answers, mut tried) = (Vec::<Answered>::new(), Vec::new());
        let mut silent = BTreeSet::new();
        loop {
            for address in std::mem::take(&mut next) {
                if asked.insert(address) {
                    silent.insert(address);
                    asking.push(self.inspect(address, until));
                }
            }
            let next_answer = tokio::time::timeout(silence, asking.next());
            let (address, answer) = match next_answer.await {
                Ok(Some(answer)) => answer,
                Err(_) if answers.is_empty() => continue,
                Ok(None) | Err(_) => break,
            };
            match answer {
                Ok(answer) => {
                    silent.remove(&address);
                    let map = answer.inspection.map.iter();
                    let members = map.flat_map(|map| map.members.values());
                    let present = members.filter(|member| member.status != Status::Down);
                    next.extend(present.map(|member| member.address));
                    answers.push(answer);
                }
                Err(error) => {
                    if !matches!(error, Unanswered::Late(_)) {
                        silent.remove(&address);
                    }
                    tried.push(Unreached {
                        node: address.to_string(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        if answers.is_empty() {
            tried.sort_by(|a: &Unreached, b| a.node.cmp(&b.node));
            return Err(AdminError::Unreachable { tried });
        }
        let cluster = lock(&self.known).cluster;
        let view = View::new(answers, &self.given, cluster)?.with_silent(silent);
        let members = view.map().members.values();
        *lock(&self.known) = Known {
            cluster: Some(view.cluster()),
            addresses: members.map(|member| member.address).collect(),
        };
        Ok(view)
    }

    async fn inspect(
        &self,
        address: SocketAddr,
        until: Instant,
    ) -> (SocketAddr, Result<Answered, Unanswered>) {
        let peer = Peer {
            address,
            member: None,
        };
        let limit = until.saturating_duration_since(Instant::now());
        let answer = match self.peers.call(&peer, Call::Inspect, limit).await {
            Ok(Answer::Inspected(inspection)) => {
                let inspection: Inspection = *inspection;
                Ok(Answered {
                    address,
                    inspection,
                })
            }
            Ok(_) => Err(Unanswered::Busy),
            Err(late @ CallError::Timeout(_)) => Err(Unanswered::Late(late)),
            Err(error) => Err(Unanswered::Unreachable(error)),
        };
        (address, answer)
    }

    /// The members, by the most advanced map that a node showed, and what each said itself.
    ///
    /// Where the network is split, what is to be seen is what can be reached from here.
    ///
    /// # Errors
    /// [`AdminError::Unreachable`], [`AdminError::NoMap`], [`AdminError::TwoClusters`].
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn members(&self) -> Result<Members, AdminError> {
        Ok(self.look(self.timeout).await?.members())
    }

    /// The homes of all shards, by the most advanced map that a node showed.
    ///
    /// # Errors
    /// As for [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn shards(&self) -> Result<ShardHomes, AdminError> {
        Ok(self.look(self.timeout).await?.shards())
    }

    /// Drains a member: it hands its shards to the others and gives its vote back. Waits until that
    /// is done, for `wait` at most. In this time the drain has to be decided, too; that alone may
    /// take two seconds. `progress` hears of every step. Afterwards its process may be
    /// stopped; nothing waits for it.
    ///
    /// `node` is a name, a name with its incarnation (`node-1#1700000000000`) or an address. There
    /// is no way back: the process gets no shards until it has been started anew. Draining twice is
    /// draining once.
    ///
    /// # Errors
    /// [`AdminError::UnknownMember`], [`AdminError::LastMember`], [`AdminError::NoLeader`],
    /// [`AdminError::DrainUnfinished`], [`AdminError::WentDown`], and those of
    /// [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Dropped, the member may leave all the same. Drain it again to wait on.
    pub async fn drain(
        &self,
        node: impl AsRef<str>,
        wait: Duration,
        mut progress: impl FnMut(DrainProgress),
    ) -> Result<Drained, AdminError> {
        let until = Instant::now() + wait.min(LONGEST);
        let to_decide = |until: Instant| {
            let left = until.saturating_duration_since(Instant::now());
            left.clamp(DECIDE_MIN.min(self.timeout), self.timeout)
        };
        let view = self.look(to_decide(until)).await?;
        let member = view.find(node.as_ref())?;
        let mut last = view.drain_progress(&member);
        if view.map().status(&member) != Some(Status::Leaving) {
            if !view.map().up().any(|id| *id != member) {
                return Err(AdminError::LastMember { node: member });
            }
            self.have_leave(&view, &member, to_decide(until)).await?;
        }
        last.map(&mut progress);
        let (mut seen, mut stays) = (view.version(), Vec::new());
        loop {
            let round = until.saturating_duration_since(Instant::now());
            let looked = self.look(round.clamp(PAUSE, ROUND.min(self.timeout))).await;
            let failure = match looked {
                // The node that knew more may not have answered this time.
                Ok(view) if view.version() < seen => None,
                Ok(view) => {
                    seen = view.version();
                    stays = view.staying_on(&member);
                    let now = view.drain_progress(&member);
                    if let Some(now) = now.filter(|now| last != Some(*now)) {
                        progress(now);
                        last = Some(now);
                    }
                    let left = match view.map().status(&member) {
                        None => Some(true),
                        Some(Status::Down) => return Err(AdminError::WentDown { node: member }),
                        Some(Status::Leaving) => {
                            let alone = view.map().up().next().is_none();
                            let done = now.is_some_and(|p| {
                                p.shards_left + p.copies_left == 0 && (!p.votes || alone)
                            });
                            done.then_some(false)
                        }
                        // The leave is decided, but no node that answered has heard of it yet.
                        Some(Status::Joining | Status::Up) => None,
                    };
                    if let Some(left) = left {
                        return Ok(Drained {
                            id: member,
                            shards_kept: now.map_or(0, |now| now.shards_kept),
                            left,
                        });
                    }
                    None
                }
                Err(error) => Some(error),
            };
            if Instant::now() >= until {
                return Err(failure.unwrap_or(AdminError::DrainUnfinished {
                    node: member,
                    progress: last,
                    stays,
                    after: wait,
                }));
            }
            tokio::time::sleep_until(until.min(Instant::now() + PAUSE)).await;
        }
    }

    /// Proposes that a member leaves.
    fn have_leave<'a>(
        &'a self,
        view: &'a View,
        member: &'a MemberId,
        limit: Duration,
    ) -> Boxed<'a, Result<(), AdminError>> {
        boxed(self.propose_leave(view, member, limit))
    }

    async fn propose_leave(
        &self,
        view: &View,
        member: &MemberId,
        limit: Duration,
    ) -> Result<(), AdminError> {
        let leave = Command::Leave {
            member: member.clone(),
        };
        match self.propose(view, leave, limit).await {
            // The leave was decided before, or the first answer was lost. If the member is Down by
            // now, the caller's wait will notice.
            Ok(_)
            | Err(LeaderError::Refused(MapError::WrongStatus(_) | MapError::UnknownMember(_))) => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Proposes a change of the map. The version that has it.
    async fn propose(
        &self,
        view: &View,
        command: Command,
        limit: Duration,
    ) -> Result<u64, LeaderError> {
        let voters = || view.map().voters.iter().map(Voter::from);
        let mut askable: Vec<Voter> = voters()
            .filter(|voter| view.answer_of(&voter.member).is_some())
            .collect();
        if askable.is_empty() {
            askable = voters().collect();
        }
        let leader = view.leader().and_then(|leader| {
            let address = view.map().member(leader)?.address;
            Some(Voter {
                member: leader.clone(),
                address,
            })
        });
        // From here on the leader is found as a client finds it.
        let local = self.peers.local();
        let voters = Voters::new(local, Arc::default(), Trust::Always, Arc::default());
        voters.set_introduced(askable);
        voters.set_leader(leader);
        let client = LeaderClient {
            peers: self.peers.clone(),
            voters: Arc::new(voters),
            times: SearchTimes {
                limit,
                backoff: Settings::default().backoff,
            },
            hosting: None,
        };
        client.propose(Proposal::Apply(command)).await
    }

    /// Lets the survivor of two members go on alone, after the sole voter has died. Resolves once
    /// the node serves again, in a new generation of the cluster. A node that is silent for two
    /// seconds is not waited for: [`Recovered::silent`] names it.
    ///
    /// The other member's process must be gone for good: nothing it does counts any more. If it is
    /// started again, it joins as a new member.
    ///
    /// # Errors
    /// [`AdminError::HasLeader`], [`AdminError::TooManyMembers`], [`AdminError::NotMostAdvanced`],
    /// [`AdminError::NoAnswer`], [`AdminError::Refused`] by the node itself, for which the other
    /// may still seem alive, [`AdminError::RecoverUnfinished`], and those of
    /// [`members`](Self::members).
    ///
    /// # Cancel safety
    /// If the future is dropped, the node may still go on alone.
    pub async fn promote(&self, node: impl AsRef<str>) -> Result<Recovered, AdminError> {
        let view = self.glance(self.timeout, SILENCE).await?;
        let member = view.find_process(node.as_ref())?;
        let present = view.present();
        if present.len() > 2 {
            return Err(AdminError::TooManyMembers { members: present });
        }
        self.go_on_alone(&view, member, false).await
    }

    /// Lets one node begin a new generation of the cluster from its copy of the map, after a
    /// majority of the voters was lost for good. Other surviving members join it as new members;
    /// their entities start afresh. Resolves once the node serves again. A node that is silent for
    /// two seconds is not waited for: [`Recovered::silent`] names it.
    ///
    /// The last decisions are lost if `keep` does not know them. So `keep` must know the most of
    /// the nodes that answer, and no other member may seem alive to it; `force` goes on without
    /// these two conditions. A surviving member that `keep` cannot reach stops its entities when
    /// its lease ends, and joins once it hears of the new generation.
    ///
    /// # Errors
    /// [`AdminError::HasLeader`], [`AdminError::NotMostAdvanced`], [`AdminError::NoAnswer`],
    /// [`AdminError::Refused`] by the node itself, [`AdminError::RecoverUnfinished`], and those of
    /// [`members`](Self::members).
    ///
    /// # Cancel safety
    /// If the future is dropped, the node may still begin a new generation.
    pub async fn recover(
        &self,
        keep: impl AsRef<str>,
        force: bool,
    ) -> Result<Recovered, AdminError> {
        let view = self.glance(self.timeout, SILENCE).await?;
        let member = view.find_process(keep.as_ref())?;
        self.go_on_alone(&view, member, force).await
    }

    fn go_on_alone<'a>(
        &'a self,
        view: &'a View,
        member: MemberId,
        force: bool,
    ) -> Boxed<'a, Result<Recovered, AdminError>> {
        boxed(self.begin_alone(view, member, force))
    }

    async fn begin_alone(
        &self,
        view: &View,
        member: MemberId,
        force: bool,
    ) -> Result<Recovered, AdminError> {
        if let Some(leader) = view.leader_that_answered().cloned() {
            return Err(AdminError::HasLeader { leader });
        }
        // The process of this node may be on its way back into the cluster: the map does not have
        // it yet, or has its previous incarnation.
        let Some(answer) = view.newest_of(&member) else {
            return Err(AdminError::NoAnswer { node: member });
        };
        let member = answer.inspection.member.clone();
        if let Some(better) = view.more_advanced_than(&member).filter(|_| !force) {
            return Err(AdminError::NotMostAdvanced {
                better: better.clone(),
                node: member,
            });
        }
        // This very process: a process that was started meanwhile knows nothing of it.
        let peer = Peer {
            address: answer.address,
            member: Some(member.clone()),
        };
        let until = Instant::now() + RECOVER_LIMIT;
        let (generation, silent) = (view.version().generation, view.silent());
        let mut asked = false;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            if !asked {
                match self.peers.call(&peer, Call::Recover { force }, left).await {
                    Ok(Answer::Recovered(Ok(()))) => asked = true,
                    Ok(Answer::Recovered(Err(reason))) => {
                        return Err(AdminError::Refused { reason });
                    }
                    // The node cuts every connection when it begins the new generation, and its
                    // answer may be lost with this one. Its incarnation shows whether it has begun.
                    _ => {}
                }
            }
            if let Ok(view) = self.glance(ROUND.min(self.timeout), PAUSE).await
                && let Some(now) = view.newest_of(&member)
            {
                let map = view.version();
                let begun = now.inspection.member != member;
                asked |= begun;
                if begun && now.inspection.serves && map.generation > generation {
                    return Ok(Recovered {
                        id: now.inspection.member.clone(),
                        map,
                        silent,
                    });
                }
            }
            tokio::time::sleep_until(until.min(Instant::now() + PAUSE)).await;
        }
        Err(AdminError::RecoverUnfinished {
            node: member,
            after: RECOVER_LIMIT,
        })
    }
}

/// The connections of a process that is no node, until the guard is dropped.
pub(crate) fn peers_outside(
    net: Arc<dyn Net>,
    seed: u64,
    timeout: Duration,
    cluster: String,
    local: Arc<LocalMember>,
) -> (Arc<Peers>, DropGuard) {
    let settings = Settings::default();
    let runtime = Runtime::new(local.member.node.clone(), &settings, seed);
    let cancel = CancellationToken::new();
    let process = Process::new(runtime, cancel.clone(), seed);
    let setup = PeersSetup {
        cluster,
        net,
        times: LinkTimes {
            connect: timeout,
            keepalive: Keepalive {
                interval: settings.keepalive_interval,
                timeout: settings.keepalive_timeout,
            },
            backoff: settings.backoff,
            // A node that comes back is seen soon.
            backoff_max: PAUSE,
        },
        shared: None,
    };
    (Peers::new(setup, process, local), cancel.drop_guard())
}
