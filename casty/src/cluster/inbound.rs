//! Connections from peers: their handshake, and the routing of their frames.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    actor::ask::{reply::ReplyTo, terms},
    cluster::{
        contact::Contact,
        limiter::Limiter,
        node::Node,
        peers::{
            access::Rights,
            remote_actors::{WATCH, handle_watch},
            rights::permits,
            wire::{Answer, Call, Request, Response, respond},
        },
        process::Job,
        region::{FENCE, Inward, received},
        requests::handle_request,
    },
    error::{Failure, StoredError},
    event::ActorPath,
    id::{CatalogEntry, Epoch, InvalidId, MemberId, NodeId},
    infra::{cancel::unless, log_limit::LogLimit, mutants, rate::Rate, wall_clock},
    message::{answer::ReplyPath, caller::Caller, codec},
    persistence::replicated::wire,
    protocol::{map::Member, membership::MembershipInput},
    transport::{
        accept::{self, Accepted, HandshakePlace, Handshakes},
        connection::{self, Connection, ConnectionEnd, Inlet, Side},
        frame::{EntityFrame, Frame},
        grant::Grant,
        handshake::{Doorkeeper, HandshakeError, HandshakeRefusal, Hello, Lane, Welcome},
        identity::PeerRole,
        link::LinkOwner as _,
        net::{Incoming, Listener, PeerIdentity},
    },
};

/// The longest control message of a process that is no member: a join with its catalog.
const STRANGER_BYTES_MAX: usize = 1024 * 1024;

/// How often a node logs that it could not accept a connection: the cause lasts for a while.
const FAILED_LINES_EVERY: Duration = Duration::from_secs(1);

/// Takes connections until the node stops.
pub(crate) async fn accept(node: Arc<Node>, listener: Arc<dyn Listener>) {
    let limits = &node.limiter.limits;
    let mut handshakes = Handshakes::new(limits.handshakes_max);
    let mut rate = Rate::new(limits.accepts_per_second_max, Instant::now());
    let mut failures = LogLimit::new(FAILED_LINES_EVERY);
    loop {
        while let Err(pause) = rate.take(Instant::now()) {
            node.limiter.refused.delayed_accepts.add();
            // The limit is one of time: the pause ends when the next connection is due.
            let pausing = tokio::time::sleep(pause);
            if unless(&node.process.cancel, pausing).await.is_none() {
                return;
            }
        }
        match unless(&node.process.cancel, listener.accept()).await {
            None => return,
            Some(Ok(incoming)) => {
                let from = incoming.remote;
                let Some(place) = node.limiter.admit(from.ip()) else {
                    node.peers
                        .tell_of_refused(from, &HandshakeError::TooManyConnections);
                    continue;
                };
                let Ok(handshake) = handshakes.begin(&incoming) else {
                    node.limiter.refused.handshakes.add();
                    continue;
                };
                let serving = serve(node.clone(), incoming, handshake);
                node.process.spawn_connection(async move {
                    serving.await;
                    drop(place);
                });
            }
            Some(Err(error)) => {
                // The cause may be a lack of file descriptors. That passes, and a hot loop would
                // not help.
                if let Some(left_out) = failures.admit(Instant::now()) {
                    tracing::warn!(%error, left_out, "a connection could not be accepted");
                }
                tokio::time::sleep(node.setup.settings.backoff).await;
            }
        }
    }
}

async fn serve(node: Arc<Node>, incoming: Incoming, place: HandshakePlace) {
    let from = incoming.remote;
    let limit = node.setup.settings.connect_timeout;
    let accepting = accept::accept(incoming, |hello, peer| judge(&node, hello, peer), limit);
    let Some(accepted) = unless(&node.process.cancel, accepting).await else {
        return;
    };
    drop(place);
    let Accepted {
        stream,
        hello,
        role,
        name,
        until,
    } = match accepted {
        Ok(accepted) => accepted,
        // The process of this node that a peer knew has restarted. The peer learns of that by just
        // this refusal.
        // A probe connects and closes.
        Err(
            error @ (HandshakeError::Refused(HandshakeRefusal::OtherMember { .. })
            | HandshakeError::Closed),
        ) => {
            tracing::debug!(%from, %error, "a connection was refused");
            return;
        }
        Err(error) => {
            node.limiter.refused.failed_handshakes.add();
            node.peers.tell_of_refused(from, &error);
            return;
        }
    };
    let caller = name.as_ref().map(|name| Arc::new(caller(role, name)));
    let is_node = role == PeerRole::Member && hello.address.is_some();
    let client = (!is_node).then(|| {
        let known_as = caller.as_ref().map(ToString::to_string);
        node.limiter
            .client(known_as.unwrap_or_else(|| from.ip().to_string()))
    });
    let inlet = Inlet::new(
        hello.member.clone(),
        caller,
        client,
        node.process.cancel.child_token(),
    );
    node.peers.add_inlet(&inlet);
    let mut kinds = Kinds::new(&node, &hello);
    let mut dialer = Dialer {
        lane: hello.lane,
        role,
        rights: name.and_then(|name| node.setup.access.rights(role, name.as_str())),
        was_refused: false,
    };
    let connection = Connection {
        stream,
        side: Side::Accepted,
        lane: dialer.lane,
        keepalive: node.peers.keepalive(),
        timer_thread: node.process.runtime.upkeep(),
        lasts: until.map(|until| until.saturating_sub(wall_clock::since_epoch())),
        outbox: &inlet.outbox,
        cancel: &inlet.cancel,
    };
    let end = connection
        .run(
            |chunk| {
                // References in messages are bound to this system, once for all of them.
                let handled = node.process.runtime.enter(|| {
                    let handled = connection::for_each_frame(chunk, |at, frame| {
                        kinds.flush_unless_for(&frame, &inlet, chunk);
                        handle(&node, &inlet, &mut dialer, &mut kinds, chunk, at, frame)
                    });
                    kinds.flush(&inlet, chunk);
                    handled
                });
                inlet.placed();
                handled
            },
            || {
                // After this the peer sends unread messages to other homes, and takes this node for
                // gone. So it is sent only if the node ends, and not if the node cuts off one peer.
                if node.process.cancel.is_cancelled() {
                    inlet.goodbye()
                } else {
                    Bytes::new()
                }
            },
        )
        .await;
    inlet.cancel.cancel();
    if end.is_fault() {
        node.limiter.refused.cut_connections.add();
        node.peers.cut_for(&hello.member, hello.lane, &end);
    } else {
        tracing::debug!(peer = %hello.member, lane = ?hello.lane, %end, "connection ended");
    }
}

fn judge(
    node: &Node,
    hello: &Hello,
    peer: Option<&PeerIdentity>,
) -> Result<Welcome, HandshakeRefusal> {
    let map = node.map.get();
    let membership = node.current_membership();
    let (contact, local) = (&membership.contact, &membership.contact.local);
    let doorkeeper = Doorkeeper {
        cluster: &node.peers.setup.cluster,
        identity: local.identity(),
        member: &local.member,
        keeps_seat: local.keeps_seat(),
        catalog: node.peers.catalog(),
        settings: node.peers.setup.shared.as_ref(),
        is_down: &|member| {
            let known = map.as_ref().and_then(|map| map.member(member));
            known.is_some_and(Member::is_gone) && !mutants::on("the_dead_may_renew")
        },
        since_epoch: wall_clock::since_epoch(),
    };
    let judged = doorkeeper.judge(hello, peer);
    if let Err(HandshakeRefusal::Generation { ours, theirs }) = judged
        && ours > theirs
    {
        // By this claim the node is behind: the cluster was reborn without it.
        let inputs = &contact.tenure.inputs;
        inputs.tell(MembershipInput::GenerationClaimed(ours, hello.address));
    }
    judged?;
    if let Some(address) = hello.address.filter(|_| hello.keeps_seat)
        && hello.identity == local.identity()
        && contact.voters.begin_asking(&hello.member)
    {
        let asking = ask_successor(contact.clone(), hello.member.clone(), address);
        let cancel = node.process.cancel.clone();
        node.process.spawn(Job::Calls, async move {
            unless(&cancel, asking).await;
        });
    }
    let voters = map.iter().flat_map(|map| map.voters.iter());
    let voters = voters.map(|(voter, place)| (voter.clone(), place.address));
    // A process that is about to join introduces no cluster: what it has met may be gone, and two
    // of them would send each other there for ever.
    let is_in = map
        .as_ref()
        .is_some_and(|map| map.is_present(&local.member));
    let identity = local.identity();
    let seeker = local.seeker().filter(|_| identity.is_none());
    Ok(Welcome {
        identity: identity.filter(|_| is_in || local.keeps_seat()),
        member: local.member.clone(),
        keeps_seat: local.keeps_seat(),
        voters: voters.collect(),
        seeker,
    })
}

/// Asks the process at an address whether it is this member, in the seat of its node's previous
/// process: a dialer may claim that of any address.
async fn ask_successor(contact: Arc<Contact>, member: MemberId, address: SocketAddr) {
    let limit = contact.peers.setup.times.connect;
    if let Ok(welcome) = contact.peers.greet(address, limit).await
        && welcome.member == member
        && welcome.keeps_seat
        && welcome.identity == contact.local.identity()
    {
        contact.voters.handle_successor(&member, address);
    }
    contact.voters.end_asking(&member);
}

/// A peer of a connection, by its certificate.
fn caller(role: PeerRole, name: &NodeId) -> Caller {
    match role {
        PeerRole::Member => Caller::Member(name.clone()),
        PeerRole::Client => Caller::Client(name.to_string()),
        PeerRole::Operator => Caller::Operator(name.to_string()),
    }
}

/// The dialer of a connection.
struct Dialer {
    lane: Lane,
    role: PeerRole,
    /// `None`: it may do everything.
    rights: Option<Rights>,
    was_refused: bool,
}

impl Dialer {
    /// Whether a message of so many bytes is taken from it. The first refusal of a connection is
    /// logged.
    fn admit(
        &mut self,
        node: &Node,
        inlet: &Inlet,
        message: &Offered<'_>,
        bytes: usize,
    ) -> Result<(), Failure> {
        let admitted = self
            .may_send(node, message)
            .and_then(|()| within_limits(&node.limiter, inlet, message, bytes));
        if let Err(failure) = &admitted
            && !std::mem::replace(&mut self.was_refused, true)
        {
            tracing::warn!(peer = %inlet.peer, kind = message.kind, "{failure}");
        }
        admitted
    }

    fn may_send(&self, node: &Node, message: &Offered<'_>) -> Result<(), Failure> {
        let Some(rights) = &self.rights else {
            return Ok(());
        };
        let Offered {
            kind,
            chain,
            payload,
            ..
        } = *message;
        let message = codec::variant_name(payload).unwrap_or("?");
        let is_allowed = rights.sends(kind, message) || mutants::on("rights_are_not_checked");
        // What is part of a record comes from the owner of a shard.
        if is_allowed && !terms::claims_a_record(chain) {
            return Ok(());
        }
        node.limiter.refused.forbidden.add();
        Err(Failure::Forbidden {
            who: rights.who(),
            message: format!("{kind}/{message}"),
        })
    }
}

/// A message that comes over a connection.
struct Offered<'a> {
    kind: &'a str,
    /// Of an entity.
    id: Option<&'a str>,
    chain: &'a [u8],
    payload: &'a [u8],
    is_ask: bool,
}

/// Whether a message keeps within the limits of this node.
fn within_limits(
    limiter: &Limiter,
    inlet: &Inlet,
    message: &Offered<'_>,
    bytes: usize,
) -> Result<(), Failure> {
    let Limiter {
        limits, refused, ..
    } = limiter;
    if let Some(id) = message.id {
        let max = limits.entity_id_bytes_max;
        if id.is_empty() || id.len() > max {
            refused.ids.add();
            let bytes = id.len();
            let too_long = InvalidId::TooLong { bytes, max };
            let invalid = if bytes == 0 {
                InvalidId::Empty
            } else {
                too_long
            };
            return Err(Failure::InvalidId(invalid));
        }
    }
    if bytes > limits.client_message_bytes_max && inlet.client.is_some() {
        refused.long_messages.add();
        return Err(Failure::TooLarge {
            bytes,
            bytes_max: limits.client_message_bytes_max,
        });
    }
    if message.is_ask {
        has_place_for_ask(limiter, inlet)?;
    }
    Ok(())
}

/// Whether a connection may have one ask more that waits for its answer, or one watch more.
fn has_place_for_ask(limiter: &Limiter, inlet: &Inlet) -> Result<(), Failure> {
    let max = limiter.limits.asks_per_peer_max;
    if inlet.asks() < max {
        return Ok(());
    }
    limiter.refused.asks.add();
    Err(Failure::limited("asks_per_peer_max", max as u64))
}

/// An entity type by a peer's number: its name, and the way to its region where this node has one.
type Kind = (String, Option<Box<dyn Inward>>);

/// The entity types of a peer's catalog.
struct Kinds {
    by_number: Vec<Kind>,
    /// The type of the last message, which may hold that message still.
    last: Option<u16>,
}

impl Kinds {
    fn new(node: &Node, hello: &Hello) -> Self {
        let find = |name: &str| {
            node.regions
                .iter()
                .find(|region| region.name() == name)
                .map(|region| region.clone().inward())
        };
        // Once for each type of this node, however often a catalog names it.
        let is_other = |mine: &&CatalogEntry| {
            let theirs = |entry: &CatalogEntry| {
                entry.name == mine.name && entry.fingerprint != mine.fingerprint
            };
            hello.catalog.iter().any(theirs)
        };
        let others: Vec<_> = node.peers.catalog().iter().filter(is_other).collect();
        if !others.is_empty() {
            node.peers.tell_of_versions(&hello.member, &others);
        }
        let catalog = hello.catalog.iter();
        Self {
            by_number: catalog
                .map(|entry| (entry.name.clone(), find(&entry.name)))
                .collect(),
            last: None,
        }
    }

    /// Flushes the held messages, unless the frame is another message for the same type.
    fn flush_unless_for(&mut self, frame: &Frame<'_>, inlet: &Arc<Inlet>, chunk: &Bytes) {
        let same = match frame {
            Frame::Entity(frame) => self.last == Some(frame.kind) && frame.payload != FENCE,
            _ => false,
        };
        if !same {
            self.flush(inlet, chunk);
        }
    }

    fn flush(&mut self, inlet: &Arc<Inlet>, chunk: &Bytes) {
        if let Some(last) = self.last.take()
            && let Some((_, Some(region))) = self.by_number.get_mut(usize::from(last))
        {
            region.flush(inlet, chunk);
        }
    }
}

fn handle(
    node: &Arc<Node>,
    inlet: &Arc<Inlet>,
    dialer: &mut Dialer,
    kinds: &mut Kinds,
    chunk: &Bytes,
    at: usize,
    frame: Frame<'_>,
) -> Result<(), ConnectionEnd> {
    let (lane, role) = (dialer.lane, dialer.role);
    let bytes = frame.wire_bytes();
    if frame.is_credited() {
        inlet.received(bytes)?;
    }
    match (lane, frame) {
        (_, Frame::GiveUp { correlation }) => {
            inlet.give_up(correlation);
        }
        (_, Frame::Ping) => {
            inlet.send(Frame::Pong);
            if lane != Lane::Control {
                inlet.report();
            }
        }
        (Lane::Control | Lane::Bulk, Frame::Control(payload)) => {
            if !node.has_member(&inlet.peer) && !is_worth_decoding(role, payload)? {
                return Ok(());
            }
            match codec::decode::<Request>(payload) {
                Ok(request)
                    if !permits(role, &request) && !mutants::on("roles_are_not_checked") =>
                {
                    return Err(ConnectionEnd::Forbidden(role));
                }
                Ok(request) => {
                    if let Some(refused) = refused(node, dialer.rights.as_ref(), &request) {
                        respond(inlet, &refused);
                        return Ok(());
                    }
                    handle_request(node, inlet, request, payload.len());
                }
                // A newer peer may send a message that this version does not know. Nothing else is
                // wrong.
                Err(error) => node.peers.tell_of_unreadable(&inlet.peer, lane, &error),
            }
        }
        (Lane::Copies, Frame::Control(_)) if role != PeerRole::Member => {
            return Err(ConnectionEnd::Forbidden(role));
        }
        (Lane::Copies, Frame::Control(payload)) => {
            handle_copies(node, inlet, chunk.slice_ref(payload));
        }
        (Lane::Messages | Lane::Bulk, Frame::Entity(frame)) => {
            let grant = Grant::new(inlet, bytes);
            if frame.payload == FENCE && frame.correlation != 0 {
                // Answered behind what came before it, and was sent back.
                inlet.reply(frame.correlation, Epoch(frame.epoch), &[]);
                return Ok(());
            }
            match kinds.by_number.get_mut(usize::from(frame.kind)) {
                Some((name, Some(region))) => {
                    let message = Offered {
                        kind: name,
                        id: Some(frame.id),
                        chain: frame.chain,
                        payload: frame.payload,
                        is_ask: frame.correlation != 0,
                    };
                    if let Err(refused) = dialer.admit(node, inlet, &message, bytes) {
                        not_taken(node, inlet, name, frame, refused);
                        return Ok(());
                    }
                    region.handle(inlet, frame, chunk, at, grant);
                    kinds.last = Some(frame.kind);
                }
                Some((name, _)) => unknown_entity(node, inlet, name, frame),
                None => return Err(ConnectionEnd::Unexpected),
            }
        }
        (
            Lane::Messages | Lane::Bulk,
            Frame::Actor {
                actor,
                correlation,
                chain,
                payload,
            },
        ) => {
            let grant = Grant::new(inlet, bytes);
            let to = (actor, correlation);
            handle_to_actor(node, inlet, dialer, to, (chain, payload), grant, bytes);
        }
        _ => return Err(ConnectionEnd::Unexpected),
    }
    Ok(())
}

/// Whether a request of a process that is no member is decoded. Such a process could say anything
/// in gossip, and of anybody: it is not heard, and what it says is long.
fn is_worth_decoding(role: PeerRole, payload: &[u8]) -> Result<bool, ConnectionEnd> {
    if payload.len() > STRANGER_BYTES_MAX {
        return Err(ConnectionEnd::Unexpected);
    }
    // A client that says this loses the connection.
    Ok(role != PeerRole::Member || !Request::is_gossip(payload))
}

/// A message to an actor, or a watch over it.
fn handle_to_actor(
    node: &Arc<Node>,
    inlet: &Arc<Inlet>,
    dialer: &mut Dialer,
    (actor, correlation): (u64, u64),
    (chain, payload): (&[u8], &[u8]),
    grant: Grant<'_>,
    bytes: usize,
) {
    if payload == WATCH && correlation != 0 {
        if let Err(too_many) = has_place_for_ask(&node.limiter, inlet) {
            inlet.fail(correlation, &too_many);
            return;
        }
        let rights = dialer.rights.as_ref();
        if rights.is_some_and(|rights| !rights.watches(&actor_path(node, actor).kind)) {
            // As if there were no such actor.
            inlet.fail(correlation, &Failure::Stopped);
            return;
        }
        handle_watch(&node.process.runtime, inlet, actor, correlation);
        return;
    }
    let runtime = &node.process.runtime;
    let received = received(runtime, inlet, correlation, Epoch::ZERO, chain);
    let is_node = dialer.rights.is_none() && inlet.client.is_none();
    let path = (!is_node).then(|| actor_path(node, actor));
    let message = Offered {
        kind: path.as_ref().map_or("", |path| &path.kind),
        id: None,
        chain,
        payload,
        is_ask: correlation != 0,
    };
    if let Err(refused) = dialer.admit(node, inlet, &message, bytes) {
        let name = codec::variant_name(payload).unwrap_or("?");
        let path = || path.clone().unwrap_or_else(|| actor_path(node, actor));
        ReplyTo::<()>::from(received).undelivered(runtime, &path, name, refused);
        return;
    }
    let Some(cell) = runtime.actor(actor) else {
        let path = || actor_path(node, actor);
        let message = codec::variant_name(payload).unwrap_or("?");
        ReplyTo::<()>::from(received).undelivered(runtime, &path, message, Failure::Stopped);
        return;
    };
    let mut grant = Some(grant);
    let credit = &mut || grant.take().map(Grant::keep);
    cell.clone().deliver(payload, received, credit);
    if inlet.client.is_some() {
        cell.drop_orphans();
    }
}

/// The answer to a call for which a client lacks the right.
fn refused(node: &Node, rights: Option<&Rights>, request: &Request) -> Option<Response> {
    let (Some(rights), Request::Call { id, call }) = (rights, request) else {
        return None;
    };
    let Call::Read(read) = call else { return None };
    if rights.reads(read) || mutants::on("rights_are_not_checked") {
        return None;
    }
    node.limiter.refused.forbidden.add();
    let who = rights.who();
    Some(Response::Answer {
        id: *id,
        answer: Answer::Read(Err(StoredError::Forbidden { who })),
    })
}

/// A message of another store. A stranger has none.
fn handle_copies(node: &Node, inlet: &Inlet, payload: Bytes) {
    let Some(copies) = node.setup.copies.as_ref() else {
        return;
    };
    if !node.has_member(&inlet.peer) {
        return;
    }
    match wire::decode(payload) {
        Ok(envelopes) => copies.deliver(envelopes),
        Err(error) => {
            node.peers
                .tell_of_unreadable(&inlet.peer, Lane::Copies, &error);
        }
    }
}

fn unknown_entity(node: &Node, inlet: &Arc<Inlet>, name: &str, frame: EntityFrame<'_>) {
    let failure = Failure::UnknownEntity {
        name: name.to_owned(),
        role: None,
    };
    not_taken(node, inlet, name, frame, failure);
}

/// A message that no entity is told.
#[cold]
fn not_taken(
    node: &Node,
    inlet: &Arc<Inlet>,
    name: &str,
    frame: EntityFrame<'_>,
    failure: Failure,
) {
    let path = || ActorPath {
        kind: name.to_owned(),
        id: frame.id.to_owned(),
    };
    let message = codec::variant_name(frame.payload).unwrap_or("?");
    let runtime = &node.process.runtime;
    let received = received(runtime, inlet, frame.correlation, Epoch::ZERO, &[]);
    ReplyTo::<()>::from(received).undelivered(runtime, &path, message, failure);
}

/// An actor of this node, by its number.
fn actor_path(node: &Node, actor: u64) -> ActorPath {
    let cell = node.process.runtime.actor(actor);
    cell.map_or_else(
        || ActorPath {
            kind: "actor".to_owned(),
            id: actor.to_string(),
        },
        |cell| cell.path(),
    )
}
