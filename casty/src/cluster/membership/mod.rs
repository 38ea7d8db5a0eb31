//! Drives the machine of a node's membership: one task that takes inputs, and executes effects.
//!
//! What the machine decides is in [`protocol::membership`](crate::protocol::membership). What takes
//! time is in [`operations`]; a node's way out in [`leave`].

pub(crate) mod leave;
mod operations;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use crate::{
    actor::runtime::Myself,
    cluster::{
        authority::Voter,
        gossip::{Gossip, Input, Inputs},
        node::{Node, Said},
    },
    id::{Incarnation, MemberId},
    infra::sync::lock,
    protocol::{
        map::Status,
        membership::{
            CommandId, Introduction, Membership, MembershipConfig, MembershipEffect,
            MembershipInput, NodeView, Outcome, Session,
        },
        tie::Renewing,
    },
};

pub(crate) use self::operations::lease_times;

/// Inputs that wait at a time. More of them are dropped: what a peer says, it says again.
const INPUTS_MAX: usize = 256;

/// An input, and where its answer goes.
type Told = (MembershipInput, Option<oneshot::Sender<Result<(), String>>>);

/// Where the parts of a node tell its membership what has happened.
pub(crate) struct MembershipInputs {
    sender: mpsc::Sender<Told>,
    /// Until the task has it that drives the machine.
    receiver: Mutex<Option<mpsc::Receiver<Told>>>,
    map_followed: Notify,
}

impl Default for MembershipInputs {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(INPUTS_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            map_followed: Notify::new(),
        }
    }
}

impl MembershipInputs {
    /// Says what has happened.
    pub(crate) fn tell(&self, input: MembershipInput) {
        if let Err(error) = self.sender.try_send((input, None)) {
            tracing::debug!(%error, "the membership is not told");
        }
    }

    /// The regions follow a newer map.
    pub(crate) fn tell_of_map(&self) {
        self.map_followed.notify_one();
    }

    /// Has the node go on without the leader, from what it knows.
    async fn recover(&self, force: bool) -> Result<(), String> {
        let (reply, replied) = oneshot::channel();
        // The machine gets its number when it is told.
        let command = None;
        let input = MembershipInput::Recover { command, force };
        let ended = || "this node is shutting down".to_owned();
        let sent = self.sender.send((input, Some(reply))).await;
        sent.map_err(|_| ended())?;
        replied.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn tell_of_leave(&self) {
        // Without the task nothing is left to be told.
        let _ = self.sender.send((MembershipInput::Leave, None)).await;
    }
}

impl Node {
    /// The leader is lost: this node goes on from what it knows, as the only member of a new
    /// generation.
    pub(crate) async fn recover(&self, force: bool) -> Result<(), String> {
        self.membership().recover(force).await
    }

    /// Whether it is in a cluster, or has kept a seat in one.
    pub(crate) fn has_a_cluster(&self) -> bool {
        self.map().is_some() || self.kept_seat().is_some()
    }

    /// Ends this membership at once: entities act no more, and no renewal is reported. What runs for
    /// it is cancelled. The next one begins when the machine says so.
    pub(crate) fn end_session(&self) {
        self.renewing().handle_end();
        let session = self.lock_session();
        session.cancel();
        self.runtime().close_gate();
    }

    /// Lets entities act until then, unless this membership has ended.
    fn open_gate_until(&self, deadline: Instant) {
        // Under the lock: a membership that has ended must not open the gate again.
        let session = self.lock_session();
        if let Some(gate) = self.runtime().gate().filter(|_| !session.is_cancelled()) {
            gate.open_until(deadline);
        }
    }

    /// Makes this process another member. What belonged to the last incarnation ends.
    fn begin_as(&self, member: MemberId) {
        for region in self.regions() {
            region.sever();
        }
        self.kill_links("this node begins anew");
        self.cut(|_| true);
        self.drop_engine();
        self.set_leader(None);
        self.set_introduced(Vec::new());
        self.follower().reset();
        tracing::info!(%member, "begins anew");
        self.set_member(member.clone());
        if let Some(address) = self.address() {
            self.runtime().set_myself(Myself { member, address });
        }
        // Not before it is another member: a watcher of the map would take it for its own.
        self.watch().clear();
        self.gossip(Input::Renew);
        self.forget_identity();
        *self.renewing() = Renewing::default();
        self.new_session();
    }

    fn meet(&self, cluster: Introduction) {
        self.set_identity(cluster.identity);
        let voters = cluster.voters.into_iter();
        self.set_introduced(
            voters
                .map(|(member, address)| Voter { member, address })
                .collect(),
        );
    }

    fn membership_config(&self) -> MembershipConfig {
        let settings = self.settings();
        MembershipConfig {
            seeds: self.seeds().to_vec(),
            address: self.address(),
            on_down: self.on_down(),
            availability: self.availability(),
            has_tie_breaker: self.tie_breaker().is_some(),
            counts_incarnations: self.has_given_incarnation(),
            lease: lease_times(settings),
            map_within: settings.connect_timeout,
            backoff: settings.backoff,
            backoff_max: settings.backoff_max,
        }
    }
}

/// Starts what runs for as long as the node does.
pub(crate) fn start(node: &Arc<Node>, inputs: Inputs) {
    node.spawn(node.clone().follow_map());
    node.spawn(node.clone().resolve_shards());
    node.spawn(node.clone().tick());
    if let Some(driver) = Driver::new(node) {
        node.spawn(driver.run());
    }
    if let Some(address) = node.address() {
        node.spawn(Gossip::new(node.clone(), address, node.random()).run(inputs));
    }
    let reaper = node.clone();
    node.spawn(async move {
        reaper.cancel().cancelled().await;
        // Messages that still wait fail.
        for region in reaper.regions() {
            region.abandon();
        }
        reaper.runtime().stop();
    });
}

/// The members as this node sees them.
pub(crate) fn members(node: &Node) -> Vec<(MemberId, SocketAddr, Status, Option<Said>)> {
    let Some(map) = node.map() else {
        return Vec::new();
    };
    map.members
        .iter()
        .map(|(id, m)| (id.clone(), m.address, m.status, node.said_by(id)))
        .collect()
}

/// The task that drives a node's membership.
struct Driver {
    node: Arc<Node>,
    machine: Membership,
    rng: StdRng,
    inputs: mpsc::Receiver<Told>,
    operations: FuturesUnordered<BoxFuture<'static, (Session, Outcome)>>,
    /// Operators that wait for an answer. A command that is refused at once is answered at once, so
    /// there are few.
    replies: BTreeMap<u64, oneshot::Sender<Result<(), String>>>,
    last_command: u64,
}

impl Driver {
    /// `None` if the node has one already.
    fn new(node: &Arc<Node>) -> Option<Self> {
        Some(Self {
            machine: Membership::new(node.membership_config(), node.member()),
            rng: StdRng::seed_from_u64(node.random()),
            inputs: lock(&node.membership().receiver).take()?,
            node: node.clone(),
            operations: FuturesUnordered::new(),
            replies: BTreeMap::new(),
            last_command: 0,
        })
    }

    /// Runs until the node stops.
    async fn run(mut self) {
        let node = self.node.clone();
        let first = self.machine.start();
        self.execute(first);
        loop {
            let deadline = self.machine.deadline();
            let input = tokio::select! {
                biased;
                () = node.cancel().cancelled() => return,
                told = self.inputs.recv() => match told {
                    Some(told) => self.numbered(told),
                    None => return,
                },
                () = node.membership().map_followed.notified() => MembershipInput::Map,
                Some((session, outcome)) = self.operations.next() => {
                    MembershipInput::Done(session, outcome)
                }
                () = sleep_until(deadline) => MembershipInput::Tick,
            };
            self.handle(input);
        }
    }

    /// An operator's command has a number under which it is answered.
    fn numbered(&mut self, (input, reply): Told) -> MembershipInput {
        match (input, reply) {
            (MembershipInput::Recover { force, .. }, Some(reply)) => {
                self.last_command += 1;
                self.replies.insert(self.last_command, reply);
                let command = Some(CommandId(self.last_command));
                MembershipInput::Recover { command, force }
            }
            (input, _) => input,
        }
    }

    fn handle(&mut self, input: MembershipInput) {
        let node = self.node.clone();
        let (map, dead): (_, BTreeSet<MemberId>) = (node.map(), node.dead());
        let view = NodeView {
            now: Instant::now(),
            clock: Incarnation::now(),
            jitter: self.rng.random_range(0.0..1.0),
            map: map.as_ref(),
            followed: node.followed(),
            identity: node.identity(),
            keeps_seat: node.kept_seat().is_some(),
            dead: &dead,
            serves: node.runtime().gate().is_some_and(|gate| gate.is_open()),
        };
        let effects = self.machine.handle(input, &view);
        self.execute(effects);
    }

    fn execute(&mut self, effects: Vec<MembershipEffect>) {
        let node = &self.node;
        for effect in effects {
            match effect {
                MembershipEffect::EndSession => {
                    tracing::warn!(member = %node.member(), "this membership has ended");
                    node.end_session();
                    self.operations.clear();
                }
                MembershipEffect::Begin(member) => {
                    self.operations.clear();
                    node.begin_as(member);
                }
                MembershipEffect::Meet(cluster) => node.meet(cluster),
                MembershipEffect::Start(session, operation) => {
                    let outcome = operations::run(node.clone(), operation);
                    let outcome = outcome.map(move |outcome| (session, outcome));
                    self.operations.push(outcome.boxed());
                }
                MembershipEffect::Heard(version) => node.follower().handle_version(version),
                MembershipEffect::OpenGate(deadline) => node.open_gate_until(deadline),
                MembershipEffect::Abandon => {
                    node.regions().iter().for_each(|region| region.abandon());
                }
                MembershipEffect::SayGoodbye => {
                    let leaver = node.clone();
                    node.spawn(async move { leaver.gossip_leave().await });
                }
                MembershipEffect::Fail(error) => node.fail(error),
                MembershipEffect::Reply(CommandId(command), result) => {
                    if let Some(reply) = self.replies.remove(&command) {
                        // The operator may have stopped waiting.
                        let _ = reply.send(result);
                    }
                }
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
