//! Drives the machine of a process's membership: one task that takes inputs, and executes effects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    cluster::{
        contact::Contact,
        failure::Failed,
        membership_inputs::{MembershipInputs, Told},
        peers::{PeerEvents, wire::MapNews},
        process::Process,
        region::AnyRegion,
    },
    error::Failure,
    event::Event,
    id::{Epoch, Incarnation, MemberId},
    message::answer::Pending,
    protocol::{
        bootstrap::SeedAnswer,
        membership::{
            CommandId, Greeted, Membership as Machine, MembershipConfig, MembershipEffect,
            MembershipInput, NodeView, Operation, Outcome, Session,
        },
    },
    transport::{frame::EntityFrame, handshake::HandshakeRefusal, link::Link},
};

/// A process that has a membership: a node, or a client.
pub(crate) trait Subject: Send + Sync + 'static {
    fn regions(&self) -> &[Arc<dyn AnyRegion>];

    fn failed(&self) -> &Failed;

    /// The contact of the present incarnation.
    fn contact(&self) -> Arc<Contact>;

    /// Members that gossip takes for dead.
    fn dead(&self) -> BTreeSet<MemberId>;

    /// Makes this process another member. What belonged to the last incarnation ends.
    fn begin_as(&self, member: MemberId);

    /// Says goodbye in gossip.
    fn say_goodbye(&self);

    /// Runs an operation that takes time.
    fn operate(self: Arc<Self>, operation: Operation) -> BoxFuture<'static, Outcome>;
}

/// The events of a process's connections, for its present incarnation.
impl<S: Subject> PeerEvents for S {
    fn connected(&self, link: &Arc<Link>) {
        self.contact().source.handle_connected(link);
    }

    fn refused(&self, link: &Arc<Link>, refusal: &HandshakeRefusal) {
        self.contact().handle_refusal(link.peer.address, refusal);
    }

    fn news(&self, link: &Arc<Link>, news: MapNews) {
        self.contact().source.handle_news(link, news);
    }

    fn bounced(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        if let Some(region) = self.regions().get(usize::from(frame.kind)) {
            region.bounced(epoch, frame, buffer, pending);
        }
    }
}

/// The task that drives a membership.
pub(crate) struct Driver {
    subject: Arc<dyn Subject>,
    process: Arc<Process>,
    told: Arc<MembershipInputs>,
    machine: Machine,
    rng: StdRng,
    inputs: mpsc::Receiver<Told>,
    operations: FuturesUnordered<BoxFuture<'static, (Session, Outcome)>>,
    /// Operators that wait for an answer. A command that is refused at once is answered at once, so
    /// there are few.
    replies: BTreeMap<u64, oneshot::Sender<Result<(), String>>>,
    last_command: u64,
}

impl Driver {
    /// `None` if the membership is driven already.
    pub(crate) fn new(subject: Arc<dyn Subject>, config: MembershipConfig) -> Option<Self> {
        let contact = subject.contact();
        let told = contact.tenure.inputs.clone();
        Some(Self {
            machine: Machine::new(config, contact.local.member.clone()),
            rng: StdRng::seed_from_u64(contact.process.random()),
            inputs: told.take_receiver()?,
            process: contact.process.clone(),
            told,
            subject,
            operations: FuturesUnordered::new(),
            replies: BTreeMap::new(),
            last_command: 0,
        })
    }

    /// Runs until the process stops.
    pub(crate) async fn run(mut self) {
        let (process, told) = (self.process.clone(), self.told.clone());
        let first = self.machine.start();
        self.execute(first);
        loop {
            let deadline = self.machine.deadline();
            let input = tokio::select! {
                biased;
                () = process.cancel.cancelled() => return,
                input = self.inputs.recv() => match input {
                    Some(input) => self.numbered(input),
                    None => return,
                },
                () = told.map_followed.notified() => MembershipInput::Map,
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
        let contact = self.subject.contact();
        let (map, dead) = (contact.map.get(), self.subject.dead());
        let identity = contact.local.identity();
        if let (MembershipInput::Generation(theirs, _), Some(ours)) = (&input, identity)
            && ours.generation < *theirs
        {
            let ours = ours.generation;
            tracing::warn!(%ours, %theirs, "the cluster goes on in a later generation; joins it");
        }
        let view = NodeView {
            now: Instant::now(),
            clock: Incarnation::now(),
            jitter: self.rng.random_range(0.0..1.0),
            map: map.as_ref(),
            followed: contact
                .tenure
                .followed_in(identity.map(|identity| identity.generation)),
            identity,
            keeps_seat: contact.local.keeps_seat(),
            dead: &dead,
            serves: contact.tenure.may_act(),
        };
        let effects = self.machine.handle(input, &view);
        self.execute(effects);
    }

    fn abandon(&self, why: &Failure) {
        for region in self.subject.regions() {
            region.abandon(why);
        }
    }

    fn execute(&mut self, effects: Vec<MembershipEffect>) {
        let subject = &self.subject;
        for effect in effects {
            match effect {
                MembershipEffect::EndSession => {
                    let contact = subject.contact();
                    tracing::warn!(member = %contact.local.member, "this membership has ended");
                    contact.tenure.end();
                    self.operations.clear();
                }
                MembershipEffect::Begin(member) => {
                    self.operations.clear();
                    subject.begin_as(member);
                }
                MembershipEffect::TellSeekers(told) => {
                    subject.contact().local.set_seeking(told);
                }
                MembershipEffect::Wait(places) => tell_of_wait(&places),
                MembershipEffect::Meet(cluster) => subject.contact().meet(cluster),
                MembershipEffect::ClusterReplaced => {
                    tracing::warn!(
                        "its cluster is gone; it is about to follow another of its name"
                    );
                    subject
                        .regions()
                        .iter()
                        .for_each(|region| region.forget_epochs());
                    self.process.runtime.publish(|| Event::ClusterReplaced);
                }
                MembershipEffect::Announce(identity) => {
                    subject.contact().local.set_identity(identity);
                }
                MembershipEffect::Start(session, operation) => {
                    let outcome = subject.clone().operate(operation);
                    let outcome = outcome.map(move |outcome| (session, outcome));
                    self.operations.push(outcome.boxed());
                }
                MembershipEffect::Heard(version) => {
                    subject.contact().source.handle_version(version);
                }
                MembershipEffect::OpenGate(deadline) => {
                    subject.contact().tenure.open_gate_until(deadline);
                }
                MembershipEffect::Abandon => {
                    self.abandon(&Failure::Stopped);
                }
                MembershipEffect::SayGoodbye => subject.say_goodbye(),
                MembershipEffect::Fail(error) => {
                    subject.failed().set(error.clone());
                    self.abandon(&Failure::NotMember {
                        reason: Box::new(error),
                    });
                }
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

/// Names the places that keep this process out of a cluster.
fn tell_of_wait(places: &[Greeted]) {
    let named = |greeted: &Greeted| match greeted.at {
        Some(address) => format!("{} ({address})", greeted.place),
        None => greeted.place.clone(),
    };
    let places = places.iter().map(|place| (named(place), &place.answer));
    let answers = places.map(|(place, answer)| match answer {
        SeedAnswer::Unreachable => format!("`{place}` does not answer"),
        SeedAnswer::Unresolved(error) => format!("`{place}` has no address: {error}"),
        SeedAnswer::Seeker(_) | SeedAnswer::NoCluster => format!("`{place}` is in no cluster yet"),
        SeedAnswer::Cluster => format!("`{place}` is in a cluster"),
        SeedAnswer::Refused(reason) => format!("`{place}` refused: {reason}"),
        SeedAnswer::Myself | SeedAnswer::Kept => format!("`{place}` is this node"),
    });
    let waits_for = answers.collect::<Vec<_>>().join("; ");
    tracing::warn!(waits_for, "this node is in no cluster yet");
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
