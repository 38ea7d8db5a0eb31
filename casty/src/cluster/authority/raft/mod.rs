//! The engine: openraft, over our own links. Its state is in memory, and also on disk where the
//! node has a directory for it.
//!
//! A member's number in the engine is its seat in the map: its own slot, which no other process
//! ever has, or the seat of its node's previous process, if it has kept everything from there. A
//! partitioned leader goes on believing that it leads. So nothing here trusts that belief: only a
//! commit counts, or a round of a quorum.

mod admit;
mod config;
mod disk;
mod elections;
mod network;
mod quiet;
mod runtime;
mod silence;
mod store;
pub(crate) mod types;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use openraft::{
    ChangeMembers, RaftMetrics, ReadPolicy, alias::SnapshotOf, async_runtime::WatchReceiver,
};
use tokio::{sync::oneshot, time::Instant};

pub(crate) use self::disk::{Disk, EngineStart, StoredState};
use self::{
    admit::Lookout,
    elections::Elections,
    network::RaftClients,
    runtime::EngineRuntime,
    store::{Log, MapMachine},
    types::{Decision, RaftAnswer, RaftAsk, RaftCall, Types, seat, text},
};
use super::{Authority, Renewed, voters::Voters};
use crate::{
    cluster::{
        locks::Rank,
        map_watch::MapWatch,
        membership_inputs::MembershipInputs,
        peers::{
            Peers,
            wire::{Proposal, ProposalError},
        },
        process::{Job, Process},
    },
    config::Settings,
    error::JoinError,
    id::{MemberId, ShardId, Voter},
    infra::{
        cancel::unless,
        mutants,
        observe::sighted,
        sync::{Ranked, RankedGuard},
    },
    protocol::{
        admission::{Admission, Holder, admission, holder},
        allocation,
        leader::Electorate,
        lease::{Grants, LeaseTimes},
        map::{ClusterMap, Command, MapError, Seat, Status},
        membership::MembershipInput,
        tie::{Report, Ties},
    },
    tie::{Breaker, Claim, Verdict},
    transport::connection::Inlet,
};

type Raft = openraft::Raft<Types, Arc<MapMachine>>;

/// The entries by which a member may be behind and still become a voter.
const LAG_MAX: u64 = 32;

/// The parts that an engine uses in every incarnation.
pub(crate) struct EngineParts {
    pub(crate) process: Arc<Process>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) map: Arc<MapWatch>,
    pub(crate) settings: Settings,
    /// The file for decisions, if the node has one.
    pub(crate) disk: Option<Arc<Disk>>,
    pub(crate) breaker: Option<Breaker>,
}

/// One node's part in the engine.
pub(crate) struct RaftEngine {
    me: Weak<Self>,
    parts: Arc<EngineParts>,
    voters: Arc<Voters>,
    membership: Arc<MembershipInputs>,
    seat: Seat,
    raft: Raft,
    /// What the code of the engine runs under.
    quiet: Option<tracing::Dispatch>,
    machine: Arc<MapMachine>,
    log: Log,
    grants: Ranked<Grants>,
    /// The state of ties, in a cluster with a tie-breaker.
    ties: Option<Ranked<Ties>>,
    /// Serializes changes of the voters with joins and leaves: each check must see the other's
    /// result.
    going: tokio::sync::Mutex<()>,
    elections: Elections,
    times: LeaseTimes,
    /// The limit of a decision.
    limit: Duration,
    /// Serializes allocations: each must see the result of the one before.
    allocating: tokio::sync::Mutex<()>,
    reads: Ranked<Reads>,
    seed: AtomicU64,
}

/// Quorum rounds. Requests that arrive during a round share the next.
#[derive(Default)]
struct Reads {
    running: bool,
    waiting: Vec<oneshot::Sender<bool>>,
}

impl RaftEngine {
    /// Starts the engine. It decides nothing until it is asked to.
    pub(crate) async fn start(
        parts: Arc<EngineParts>,
        member: MemberId,
        voters: Arc<Voters>,
        membership: Arc<MembershipInputs>,
        beginning: EngineStart,
    ) -> Result<Arc<Self>, String> {
        let seat = beginning.seat();
        let own_thread = parts.process.runtime.upkeep().is_own_thread();
        let keeper = match &parts.disk {
            Some(disk) => Some(beginning.keeper(disk, own_thread).await.map_err(text)?),
            None => None,
        };
        let kept = match beginning {
            EngineStart::StoredState(kept) => Some(*kept),
            _ => None,
        };
        let log = Log::new(kept.as_ref(), keeper.clone());
        let snapshot = kept.and_then(|kept| kept.snapshot);
        let settings = &parts.settings;
        let machine = MapMachine::new(parts.map.clone(), member.clone(), snapshot, keeper);
        let seed = parts.process.random();
        let clients = RaftClients {
            peers: parts.peers.clone(),
            voters: voters.clone(),
            patience: settings.election_timeout,
            silences: Arc::default(),
        };
        let new = Raft::new(
            u64::from(seat.0),
            config::of(settings)?,
            clients,
            log.clone(),
            machine.clone(),
        );
        let quiet = quiet::subscriber();
        let raft = quiet::under(quiet.clone(), EngineRuntime::scope(seed, new))
            .await
            .map_err(|error| error.to_string())?;
        let ties = || Rank::Ties.mutex(Ties::new(member, settings.lease));
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            seat,
            raft,
            quiet,
            machine,
            log,
            grants: Rank::Grants.mutex(Grants::default()),
            ties: parts.breaker.as_ref().map(|_| ties()),
            going: tokio::sync::Mutex::default(),
            elections: Elections::default(),
            times: LeaseTimes::new(settings.lease, settings.clock_drift),
            limit: settings.decide_timeout,
            allocating: tokio::sync::Mutex::default(),
            reads: Rank::Reads.mutex(Reads::default()),
            seed: AtomicU64::new(seed),
            parts: parts.clone(),
            voters,
            membership,
        }))
    }

    /// Founds a cluster: this node is its only voter, and this its map.
    pub(crate) async fn found(&self, founder: Voter, map: ClusterMap) -> Result<(), String> {
        let first = BTreeMap::from([(self.id(), founder)]);
        self.enter(self.raft.initialize(first))
            .await
            .map_err(|error| error.to_string())?;
        let found = Decision::Found(Box::new(map));
        let until = Instant::now() + self.limit;
        loop {
            // The engine elects itself, which may take a moment.
            match self.decide(found.clone()).await {
                Ok(_) => return Ok(()),
                Err(denied) if Instant::now() >= until => return Err(denied.to_string()),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    #[cfg(feature = "sim")]
    pub(crate) fn log_length(&self) -> usize {
        self.log.length()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    pub(crate) fn member(&self) -> MemberId {
        self.machine.member().clone()
    }

    fn id(&self) -> u64 {
        u64::from(self.seat.0)
    }

    pub(crate) fn seat(&self) -> Seat {
        self.seat
    }

    /// The map with all decisions that this node has applied.
    pub(crate) fn map(&self) -> Option<ClusterMap> {
        self.machine.map()
    }

    /// All code of the engine runs on randomness from the node's seed.
    fn enter<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        quiet::under(self.quiet.clone(), EngineRuntime::scope(seed, call))
    }

    fn metrics(&self) -> RaftMetrics<Types> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The engine's failure, if it has failed.
    pub(crate) fn failure(&self) -> Option<JoinError> {
        let fatal = self.metrics().running_state.err()?;
        Some(JoinError::Engine {
            reason: fatal.to_string(),
        })
    }

    /// The term in which this node believes that it leads.
    pub(crate) fn leads_in(&self) -> Option<u64> {
        let metrics = self.metrics();
        metrics.state.is_leader().then_some(metrics.current_term)
    }

    pub(crate) fn grants(&self) -> RankedGuard<'_, Grants> {
        self.grants.lock()
    }

    /// The state of ties: the members that could claim against this node. `None` without a
    /// tie-breaker.
    pub(crate) fn ties(&self) -> Option<RankedGuard<'_, Ties>> {
        self.ties.as_ref().map(Ranked::lock)
    }

    /// While this is held, no member joins or leaves, and no voters change. Without a tie-breaker
    /// nothing is held, and they may.
    async fn alone(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match self.ties {
            Some(_) => Some(self.going.lock().await),
            None => None,
        }
    }

    /// Whether this node decides alone. During a change of voters it must be the only one before
    /// and after.
    fn is_sole(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids();
        voters.collect::<BTreeSet<_>>() == BTreeSet::from([self.id()])
    }

    pub(crate) fn times(&self) -> LeaseTimes {
        self.times
    }

    pub(crate) fn electorate(&self) -> Electorate {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let last = metrics.last_log_index.unwrap_or(0);
        let replication = metrics.replication.unwrap_or_default();
        let caught_up = replication
            .iter()
            .filter(|(_, matched)| {
                matched
                    .as_ref()
                    .is_some_and(|at| at.index + LAG_MAX >= last)
            })
            .map(|(id, _)| seat(*id));
        let mut caught_up: BTreeSet<Seat> = caught_up.collect();
        caught_up.insert(self.seat);
        Electorate {
            voters: membership.voter_ids().map(seat).collect(),
            nodes: membership.nodes().map(|(id, _)| seat(*id)).collect(),
            changing: membership.get_joint_config().len() > 1,
            caught_up,
            undecided: self
                .log
                .behind(metrics.last_applied.map_or(0, |at| at.index)),
        }
    }

    fn not_the_leader(&self) -> ProposalError {
        ProposalError::NotTheLeader {
            leader: self.leader(),
        }
    }

    pub(crate) async fn decide(&self, decision: Decision) -> Result<u64, ProposalError> {
        let writing = self.enter(self.raft.client_write(decision));
        match tokio::time::timeout(self.limit, writing).await {
            Ok(Ok(written)) => written.data.map_err(ProposalError::Refused),
            Ok(Err(error)) if error.forward_to_leader().is_some() => Err(self.not_the_leader()),
            Ok(Err(error)) => Err(ProposalError::Undecided(error.to_string())),
            Err(_) => Err(ProposalError::Undecided(format!(
                "no quorum within {:?}",
                self.limit
            ))),
        }
    }

    /// Like `decide`, for a proposer that gets an answer. If another member listens and
    /// acknowledges in time, a sole voter's decision has a second copy by then.
    pub(crate) async fn decide_and_keep(&self, decision: Decision) -> Result<u64, ProposalError> {
        let version = self.decide(decision).await?;
        self.keep(version).await;
        Ok(version)
    }

    async fn keep(&self, version: u64) {
        if !self.is_sole() {
            return;
        }
        // The proposer waits for half of the limit.
        let limit = (self.times.lease / 2).min(self.limit / 4);
        let copied = self.machine.copied(version);
        if tokio::time::timeout(limit, copied).await.is_err() {
            for member in self.machine.handle_late(version) {
                tracing::warn!(
                    %member,
                    version,
                    "the last decision may have one copy only: this member did not acknowledge it in time"
                );
            }
        }
    }

    /// Another node has the map of this version.
    pub(crate) fn handle_has(&self, member: &MemberId, version: u64) {
        self.machine.handle_has(member, version);
    }

    async fn allocate(&self, kind: String, shards: Vec<ShardId>) -> Result<u64, ProposalError> {
        let version = self.assign(kind, &shards).await?;
        // An earlier request may have had this decided, and its own answer may still wait for the
        // copy.
        self.keep(version).await;
        Ok(version)
    }

    async fn assign(&self, kind: String, shards: &[ShardId]) -> Result<u64, ProposalError> {
        let _one_at_a_time = self.allocating.lock().await;
        if self.leads_in().is_none() {
            return Err(self.not_the_leader());
        }
        let Some(map) = self.machine.map() else {
            return Err(self.not_the_leader());
        };
        if !map.members.keys().any(|id| map.hosts(id, &kind)) {
            return Err(ProposalError::Refused(MapError::UnknownKind(kind)));
        }
        let assignments = allocation::allocate(&map, &kind, shards);
        if assignments.is_empty() {
            return Ok(map.version);
        }
        self.decide(Decision::Change(Command::Assign { assignments }))
            .await
    }

    /// Makes sure that this node led when, or after, this was called.
    async fn confirm(&self) -> bool {
        if mutants::on("grants_without_a_quorum") {
            return true;
        }
        let confirmed = {
            let mut reads = self.reads.lock();
            let (tell, confirmed) = oneshot::channel();
            reads.waiting.push(tell);
            if !std::mem::replace(&mut reads.running, true)
                && let Some(me) = self.me.upgrade()
            {
                self.parts.process.spawn(Job::Engine, me.run_rounds());
            }
            confirmed
        };
        confirmed.await.unwrap_or(false)
    }

    async fn run_rounds(self: Arc<Self>) {
        loop {
            // The round confirms only the requests that arrived before it began.
            let asked = {
                let mut reads = self.reads.lock();
                if reads.waiting.is_empty() {
                    reads.running = false;
                    return;
                }
                std::mem::take(&mut reads.waiting)
            };
            let round = self.enter(self.raft.ensure_linearizable(ReadPolicy::ReadIndex));
            let round = tokio::time::timeout(self.times.lease, round);
            let confirmed = unless(&self.parts.process.cancel, round).await;
            let confirmed = matches!(confirmed, Some(Ok(Ok(_))));
            for tell in asked {
                // An error means that the caller has stopped waiting.
                let _ = tell.send(confirmed);
            }
        }
    }

    async fn grant(&self, member: MemberId) -> Result<u64, ProposalError> {
        if self.leads_in().is_none() || !self.confirm().await {
            return Err(self.not_the_leader());
        }
        let Some(term) = self.leads_in() else {
            return Err(self.not_the_leader());
        };
        let mut grants = self.grants.lock();
        // The status is read under the lock: a member declared Down later has its last grant
        // recorded, and a member declared Down before gets none.
        let Some(map) = self.machine.map() else {
            return Err(self.not_the_leader());
        };
        match map.status(&member) {
            None => return Err(ProposalError::Refused(MapError::UnknownMember(member))),
            Some(Status::Down) if !mutants::on("the_dead_may_renew") => {
                return Err(ProposalError::Refused(MapError::Superseded(member)));
            }
            Some(_) => {}
        }
        let now = Instant::now();
        if let Some(mut ties) = self.ties()
            && self.is_sole()
        {
            ties.handle_map(&map, now);
            if let Some(missing) = ties.missing(&map, &member, now) {
                let reason = format!("`{missing}` is out of reach, and may go on by itself");
                return Err(ProposalError::Undecided(reason));
            }
        }
        if grants.grant(&member, term, now, self.times) {
            sighted!(Granted {
                leader: self.member(),
                to: member.clone(),
                version: map.version,
            });
            Ok(map.version)
        } else {
            // The leader has just been elected, and knows no leases yet.
            Err(ProposalError::Undecided(
                "a new leader is settling".to_owned(),
            ))
        }
    }

    async fn renewed(&self, member: MemberId, report: Option<Report>) -> Renewed {
        if let (Some(mut ties), Some(report)) = (self.ties(), report) {
            ties.handle_renewal(&member, report, Instant::now());
        }
        let result = self.grant(member).await;
        let stamp = match &result {
            Err(ProposalError::NotTheLeader { .. }) => None,
            _ => self.ties().and_then(|ties| ties.stamp(Instant::now())),
        };
        Renewed { stamp, result }
    }

    /// Asks the tie-breaker whether this node may go on without a member.
    pub(crate) async fn claim(&self, other: &MemberId) -> Result<Verdict, String> {
        let (Some(breaker), Some(map)) = (&self.parts.breaker, self.machine.map()) else {
            return Err("there is no tie-breaker, or no map yet".to_owned());
        };
        let claim = Claim::new(map.identity, self.member(), other.clone());
        let claimed = breaker.claim(claim, self.limit).await;
        let verdict = claimed.map_err(|error| error.to_string())?;
        let won = verdict == Verdict::Won;
        let news = self
            .ties()
            .is_some_and(|mut ties| ties.handle_verdict(other, won));
        if news && won {
            tracing::warn!(%other, "the tie-breaker has decided for this node: it goes on without the other");
        } else if news {
            tracing::warn!(%other, "the tie-breaker has decided for the other node: this one stops");
            self.membership.tell(MembershipInput::Outclaimed);
        }
        Ok(verdict)
    }

    /// Declares a member Down, if the tie-breaker lets this node go on without it.
    pub(crate) async fn claim_and_go_on(&self, other: MemberId) -> Result<(), String> {
        match self.claim(&other).await? {
            Verdict::Won => {
                let down = Decision::Change(Command::Down { member: other });
                let decided = self.decide(down).await;
                decided.map(drop).map_err(|denied| denied.to_string())
            }
            Verdict::Lost => Err("the tie-breaker has decided for the other".to_owned()),
        }
    }

    /// Admits a member that the leader reaches, and whose name no other process has. If it replaces
    /// an incarnation that could still go on by itself, that pair is claimed first.
    async fn admit(&self, join: Command) -> Result<u64, ProposalError> {
        if let Command::Join {
            member, address, ..
        } = &join
            && *member != self.member()
        {
            if self.leads_in().is_none() {
                return Err(self.not_the_leader());
            }
            let reaching = self.lookout().check_reach(member, *address);
            let (reached, free) = tokio::join!(reaching, self.check_name(member, *address));
            free.and(reached.map_err(ProposalError::Refused))?;
        }
        (self.elections).handle_join(&join, self.machine.map().as_ref())?;
        for older in self.unclaimed(&join) {
            let now = Instant::now();
            let claims = self
                .ties()
                .is_some_and(|mut ties| ties.claim_now(&older, now));
            let won = claims
                && self.claim(&older).await.map_err(ProposalError::Undecided)? == Verdict::Won;
            if !won {
                let reason = format!("the tie-breaker may have decided for `{older}`");
                return Err(ProposalError::Undecided(reason));
            }
        }
        let version = {
            let _alone = self.alone().await;
            if let Some(older) = self.unclaimed(&join).first() {
                let reason = format!("`{older}` has just joined");
                return Err(ProposalError::Undecided(reason));
            }
            self.decide(Decision::Change(join)).await?
        };
        self.keep(version).await;
        Ok(version)
    }

    /// The members that this node, as sole voter, has to claim before they may be replaced.
    fn unclaimed(&self, join: &Command) -> Vec<MemberId> {
        let Some(ties) = self.ties() else {
            return Vec::new();
        };
        match (join, self.machine.map()) {
            (Command::Join { member, since, .. }, Some(map)) if self.is_sole() => {
                ties.unclaimed(&map, member, *since)
            }
            _ => Vec::new(),
        }
    }

    /// How this node looks for processes that want to join. They wait meanwhile.
    fn lookout(&self) -> Lookout<'_> {
        Lookout {
            me: self.machine.member(),
            peers: &self.parts.peers,
            limit: (self.limit / 4).min(self.settings().connect_timeout),
        }
    }

    /// Checks that no other process has the name.
    async fn check_name(
        &self,
        member: &MemberId,
        address: SocketAddr,
    ) -> Result<(), ProposalError> {
        let Some(map) = self.machine.map() else {
            return Ok(());
        };
        let Some((other, at)) = holder(&map, member, address) else {
            return Ok(());
        };
        let asked = Instant::now();
        let sight = self.lookout().look_at(other, at.address).await;
        let holder = sight.unwrap_or_else(|| {
            let grants = self.grants();
            Holder::Silent {
                renewed: grants.until(other) > Some(asked + self.times.guard),
                over: grants.is_over(other, Instant::now()),
            }
        });
        // It may have begun to leave since.
        let status = self.machine.map().and_then(|map| map.status(other));
        match admission(status.unwrap_or(Status::Down), holder) {
            Admission::Admit => Ok(()),
            Admission::Taken => {
                let (member, by) = (member.clone(), at.address);
                tracing::warn!(
                    name = %member.node, %address, %by,
                    "a second process under the name of a member may not join"
                );
                Err(ProposalError::Refused(MapError::NameTaken { member, by }))
            }
            Admission::Later => {
                let reason = format!("`{other}` may still be running at {}", at.address);
                Err(ProposalError::Undecided(reason))
            }
        }
    }

    /// Removes a member at its own request.
    async fn dismiss_member(&self, command: Command) -> Result<u64, ProposalError> {
        let _alone = self.alone().await;
        self.decide(Decision::Change(command)).await
    }

    /// Whether the voters may change, as far as a tie-breaker is concerned.
    fn may_change_voters(&self) -> bool {
        let Some(mut ties) = self.ties() else {
            return true;
        };
        let Some(map) = self.machine.map().filter(|_| self.is_sole()) else {
            return true;
        };
        ties.handle_map(&map, Instant::now());
        ties.may_change_voters(&map)
    }

    /// A call of another member's engine.
    pub(crate) async fn answer(&self, call: RaftCall) -> Result<RaftAnswer, String> {
        if call.to != self.seat {
            return Err(format!("this engine has seat {}", self.id()));
        }
        let raft = &self.raft;
        match call.ask {
            RaftAsk::Append(request) => {
                let answer = self.enter(raft.append_entries(request)).await;
                answer.map(RaftAnswer::Append).map_err(text)
            }
            RaftAsk::Vote(request) => {
                let asked = request.vote;
                let mut answer = self.enter(raft.vote(request)).await;
                if mutants::on("votes_for_everybody")
                    && let Ok(answer) = &mut answer
                {
                    (answer.vote, answer.vote_granted) = (asked, true);
                }
                answer.map(RaftAnswer::Vote).map_err(text)
            }
            RaftAsk::PreVote(request) => {
                let answer = self.enter(raft.pre_vote(request)).await;
                answer.map(RaftAnswer::Vote).map_err(text)
            }
            RaftAsk::Snapshot { vote, meta, map } => {
                let snapshot = SnapshotOf::<Types, Vec<u8>> {
                    meta,
                    snapshot: map.into_vec(),
                };
                let answer = self.enter(raft.install_full_snapshot(vote, snapshot)).await;
                answer.map(RaftAnswer::Snapshot).map_err(text)
            }
            RaftAsk::Transfer(request) => {
                let answer = self.enter(raft.handle_transfer_leader(request)).await;
                answer.map(RaftAnswer::Transfer).map_err(text)
            }
        }
    }

    /// Replicates to a member that does not vote yet.
    pub(crate) async fn teach(&self, seat: Seat, who: Voter) -> Result<(), String> {
        let teaching = self.raft.add_learner(u64::from(seat.0), who, false);
        self.change(teaching).await
    }

    /// Makes these members, and no others, the voters. Former voters keep receiving the log.
    pub(crate) async fn elect(&self, voters: &BTreeSet<Seat>) -> Result<(), String> {
        let _alone = self.alone().await;
        if !self.may_change_voters() {
            return Err("not every member has reported that it knows all members".to_owned());
        }
        (self.elections).begin(voters, &self.electorate(), &self.machine, 2 * self.limit)?;
        let voters = voters.iter().map(|seat| u64::from(seat.0)).collect();
        let change = ChangeMembers::ReplaceAllVoters(voters);
        let change = self.enter(self.raft.change_membership(change, true));
        // If it takes longer, it may still be decided.
        let changed = tokio::time::timeout(self.limit, change).await;
        let changed = changed.map_err(|_| format!("no quorum within {:?}", self.limit))?;
        self.elections.end();
        changed.map(drop).map_err(|error| error.to_string())
    }

    pub(crate) async fn dismiss(&self, seats: &BTreeSet<Seat>) -> Result<(), String> {
        let seats = seats.iter().map(|seat| u64::from(seat.0)).collect();
        let change = ChangeMembers::RemoveNodes(seats);
        self.change(self.raft.change_membership(change, false))
            .await
    }

    pub(crate) async fn abdicate(&self, heir: Seat) -> Result<(), String> {
        let trigger = self.raft.trigger();
        let transfer = trigger.transfer_leader(u64::from(heir.0));
        self.enter(transfer)
            .await
            .map_err(|error| error.to_string())
    }

    async fn change<T, E: fmt::Display>(
        &self,
        change: impl Future<Output = Result<T, E>>,
    ) -> Result<(), String> {
        match tokio::time::timeout(self.limit, self.enter(change)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no quorum within {:?}", self.limit)),
        }
    }

    pub(crate) async fn shutdown(&self) {
        let _ = self.enter(self.raft.shutdown()).await;
    }
}

impl Authority for RaftEngine {
    fn propose(&self, proposal: Proposal) -> BoxFuture<'_, Result<u64, ProposalError>> {
        Box::pin(async move {
            match proposal {
                Proposal::Apply(join @ Command::Join { .. }) => self.admit(join).await,
                // A member proposes this for itself when it leaves, and then claims nothing.
                Proposal::Apply(command @ (Command::Down { .. } | Command::Remove { .. })) => {
                    self.dismiss_member(command).await
                }
                Proposal::Apply(
                    command @ (Command::Up { .. }
                    | Command::Leave { .. }
                    | Command::Release { .. }
                    | Command::Keep { .. }
                    | Command::Copies { by: Some(_), .. }
                    | Command::BeginAnew { .. }),
                ) => self.decide_and_keep(Decision::Change(command)).await,
                Proposal::Apply(
                    Command::Assign { .. }
                    | Command::Revoke { .. }
                    | Command::Copies { by: None, .. }
                    | Command::DropStore { .. }
                    | Command::Want { .. }
                    | Command::CopiesMin { .. }
                    | Command::Voters { .. },
                ) => Err(ProposalError::Undecided(
                    "only the leader gives shards, copies and votes".to_owned(),
                )),
                Proposal::Allocate { kind, shards } => self.allocate(kind, shards).await,
            }
        })
    }

    fn renew(&self, member: MemberId, report: Option<Report>) -> BoxFuture<'_, Renewed> {
        Box::pin(self.renewed(member, report))
    }

    fn leader(&self) -> Option<Voter> {
        let metrics = self.metrics();
        let leader = metrics.current_leader?;
        let membership = metrics.membership_config.membership();
        let given_to = membership.get_node(&leader)?;
        Some(self.voters.voter_in(seat(leader), given_to))
    }

    fn add_watcher(&self, watcher: &Arc<Inlet>, version: u64) {
        self.machine.add_watcher(watcher, version);
    }
}

impl fmt::Debug for RaftEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftEngine")
            .field("seat", &self.seat)
            .finish_non_exhaustive()
    }
}
